//! What comes back after its time: a control record, and messages of retry topics, appended as one unit.

use bytes::Bytes;
use skylark_index::{Answer, QueueId, SealedError};
use skylark_protocol::message::record::{BODY_BYTES_MAX, PROPERTIES_BYTES_MAX};
use skylark_protocol::message::{MessageParts, NewMessage, StoredMessage, properties};
use skylark_storage::{AppendError, PhysicalOffset, ReadError};
use tracing::error;

use crate::append::{append_behind, once_more};
use crate::broker::Broker;
use crate::changes::ControlRecord;

/// What a message is read from, and what it is now.
pub(super) enum Original {
    /// Its record's payload.
    Found(Bytes),
    /// It can never be read: it was trimmed, its topic is gone, or it is damaged.
    Gone,
}

/// Why a message could not be read just now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("{0}")]
    Index(#[from] SealedError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("where a queue begins is being looked up")]
    Unsettled,
}

/// Reads a message of a queue by its offset. Blocks.
///
/// # Errors
/// When it cannot be read just now.
pub(super) fn read(broker: &Broker, topic: &str, queue: u32, offset: u64) -> Result<Original, Unread> {
    let catalog = broker.catalog.read();
    let Some(id) = catalog.queues(topic).and_then(|queues| queues.get(queue as usize).copied()) else {
        return Ok(Original::Gone);
    };
    drop(catalog);
    let index = broker.index.read();
    if !index.range(id).contains(&offset) {
        return Ok(Original::Gone);
    }
    let answer = index.entry(id, offset);
    drop(index);
    let entry = match answer {
        Answer::Known(entry) => entry,
        Answer::Sealed(sealed) => sealed.entry(offset)?,
    };
    let entry = entry.ok_or(Unread::Unsettled)?;
    match broker.log.record_at(entry.physical_offset) {
        Ok(record) => Ok(Original::Found(record.payload())),
        Err(error @ (ReadError::Io { .. } | ReadError::NotVisible { .. })) => Err(error.into()),
        Err(error) => {
            error!(topic, queue, offset, %error, "a popped message cannot be read; nobody will get it again");
            Ok(Original::Gone)
        }
    }
}

/// A message on its way to a retry topic.
pub(super) struct Draft<'a> {
    pub(super) topic: &'a str,
    pub(super) queue: QueueId,
    pub(super) original: StoredMessage<'a>,
    properties: Vec<u8>,
}

impl<'a> Draft<'a> {
    /// The message as it comes back, popped for the first time at `popped_at` unless it says otherwise.
    pub(super) fn new(topic: &'a str, queue: QueueId, original: StoredMessage<'a>, popped_at: u64) -> Self {
        let known = original.properties().get(properties::FIRST_POP_TIME);
        let first = known.filter(|_| original.reconsume_times > 0);
        let popped_at = first.map_or_else(|| popped_at.to_string(), str::to_owned);
        let put = [(properties::FIRST_POP_TIME, &*popped_at)];
        let mut written = properties::rewrite(original.properties, &[], &put);
        if written.len() > PROPERTIES_BYTES_MAX {
            // To be delivered matters more than to say since when it was tried.
            written = original.properties.to_vec();
        }
        Self { topic, queue, original, properties: written }
    }

    fn encode(&self, broker: &Broker) -> Option<MessageParts<'_>> {
        let Self { topic, original, properties, .. } = self;
        let reconsume_times = original.reconsume_times.saturating_add(1);
        let message =
            NewMessage { topic, queue_id: 0, properties, reconsume_times, ..once_more(broker, original) };
        // It was taken with this body, whatever the limit has become since.
        let parts = message.parts(BODY_BYTES_MAX);
        parts
            .inspect_err(|error| error!(%error, "a popped message breaks a limit; nobody will get it again"))
            .ok()
    }
}

/// Appends the record and the messages behind it as one unit; says where it ends and how many messages it has.
///
/// # Errors
/// When the log does not take it.
pub(super) fn append(
    broker: &Broker,
    record: &ControlRecord,
    drafts: &[Draft<'_>],
) -> Result<(PhysicalOffset, usize), AppendError> {
    let encoded = drafts.iter().filter_map(|draft| Some((draft.queue, draft.topic, draft.encode(broker)?)));
    let messages: Vec<_> = encoded.collect();
    Ok((append_behind(broker, record, &messages)?, messages.len()))
}
