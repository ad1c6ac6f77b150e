//! What timers become: a control record and messages, appended as one unit.

use std::borrow::Cow;
use std::net::SocketAddr;

use bytes::Bytes;
use skylark_index::{QueueId, Timer};
use skylark_protocol::message::record::BODY_BYTES_MAX;
use skylark_protocol::message::{MessageParts, NewMessage, StoredMessage, properties};
use skylark_storage::{AppendError, NewRecord, PhysicalOffset, ReadError};
use tracing::error;

use crate::append::stamp;
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::changes::ControlRecord;
use crate::folds::kinds;
use crate::folds::timers::FiredTimer;
use crate::system;

/// Messages in a unit.
pub(super) const MESSAGES_MAX: usize = 256;
/// Bytes of a unit with more than one message: a flush, and a stage for senders, is not to be long.
const BYTES_MAX: u64 = 1 << 20;
/// What a message may take beyond the record that its timer names: another topic's name, its share of the control
/// record, and the filling.
const BESIDE_BYTES_MAX: u64 = 192;
/// What the control record may take beside those shares.
const CONTROL_BYTES_MAX: u64 = 128;

/// A delayed message, as it was read.
pub(super) struct Waiting {
    pub(super) timer: Timer,
    /// Absent if it cannot be read, and never will.
    payload: Option<Bytes>,
}

/// A delayed message, taken apart.
pub(super) struct Parsed<'a> {
    timer: Timer,
    message: Option<StoredMessage<'a>>,
}

/// A message that is to be appended.
pub(super) struct Draft<'a> {
    queue: QueueId,
    queue_id: u32,
    topic: &'a str,
    properties: Cow<'a, [u8]>,
    message: StoredMessage<'a>,
}

/// How many of `timers` go into one unit: one at least, if there is one.
pub(super) fn how_many(timers: &[Timer], unit_bytes_max: u64) -> usize {
    let mut left = BYTES_MAX.min(unit_bytes_max.saturating_sub(CONTROL_BYTES_MAX));
    let fits = |timer: &&Timer| {
        let next = left.checked_sub(u64::from(timer.record_bytes) + BESIDE_BYTES_MAX);
        left = next.unwrap_or(0);
        next.is_some()
    };
    timers.iter().take(MESSAGES_MAX).take_while(fits).count().max(1).min(timers.len())
}

/// Reads what the timers stand for. Blocks.
///
/// # Errors
/// When the disk refuses, which may pass. What is damaged never comes back: it is reported, and passed over.
pub(super) fn read(broker: &Broker, timers: &[Timer]) -> Result<Vec<Waiting>, ReadError> {
    let read = |timer: &Timer| match broker.log.record_at(timer.key.at) {
        Ok(record) => Ok(Waiting { timer: *timer, payload: Some(record.payload()) }),
        Err(error @ (ReadError::Io { .. } | ReadError::NotVisible { .. })) => Err(error),
        Err(error) => {
            error!(at = timer.key.at.get(), %error, "a delayed message cannot be read; nobody will get it");
            Ok(Waiting { timer: *timer, payload: None })
        }
    };
    timers.iter().map(read).collect()
}

impl Waiting {
    pub(super) fn parse(&self) -> Parsed<'_> {
        let parsed = self.payload.as_ref().map(|payload| StoredMessage::parse(payload));
        let message = match parsed {
            Some(Ok((message, _))) => Some(message),
            Some(Err(error)) => {
                error!(at = self.timer.key.at.get(), %error, "a delayed message cannot be understood");
                None
            }
            None => None,
        };
        Parsed { timer: self.timer, message }
    }
}

impl<'a> Parsed<'a> {
    /// What the record says that the timer has fired.
    pub(super) fn fired(&self) -> FiredTimer {
        let place = self.message.map(|message| (message.queue_id, message.queue_offset));
        let (queue, queue_offset) = place.unwrap_or_default();
        FiredTimer { at: self.timer.key.at.get(), queue, queue_offset }
    }

    /// The message as its consumers get it; none if its topic is gone.
    pub(super) fn due(&self, catalog: &Catalog) -> Option<Draft<'a>> {
        let message = self.message?;
        let known = message.properties();
        let topic = known.get(properties::REAL_TOPIC)?;
        let (config, queues) = catalog.topic(topic)?;
        let asked: u32 = known.get(properties::REAL_QID)?.parse().ok()?;
        // Its queue may be gone with an earlier topic of this name.
        let queue_id =
            if (asked as usize) < queues.len() { asked } else { asked % config.write_queues.max(1) };
        let queue = *queues.get(queue_id as usize)?;
        let properties = properties::rewrite(message.properties, &[properties::TIMER_OUT_MS], &[]).into();
        Some(Draft { queue, queue_id, topic, properties, message })
    }

    /// The delayed message once more, to wait as before.
    pub(super) fn again(&self, catalog: &Catalog) -> Option<Draft<'a>> {
        let message = self.message?;
        let queue = *catalog.queues(system::SCHEDULE_TOPIC)?.get(message.queue_id as usize)?;
        let (queue_id, topic, properties) = (message.queue_id, message.topic, message.properties.into());
        Some(Draft { queue, queue_id, topic, properties, message })
    }
}

impl Draft<'_> {
    fn encode(&self, broker: &Broker) -> Option<MessageParts<'_>> {
        let Self { ref message, queue_id, topic, ref properties, .. } = *self;
        let message = NewMessage {
            topic,
            queue_id,
            flag: message.flag,
            sys_flag: message.sys_flag,
            born_timestamp: message.born_timestamp,
            born_host: message.born_host,
            store_host: SocketAddr::V4(broker.identity.store_host),
            reconsume_times: message.reconsume_times,
            prepared_transaction_offset: message.prepared_transaction_offset,
            body: message.body,
            properties,
            added_properties: &[],
        };
        // It was taken with this body, whatever the limit has become since.
        let parts = message.parts(BODY_BYTES_MAX);
        parts.inspect_err(|error| error!(%error, "a delayed message breaks a limit; nobody will get it")).ok()
    }
}

/// What was appended.
pub(super) struct Appended {
    pub(super) end: PhysicalOffset,
    /// So many of the messages.
    pub(super) messages: usize,
}

/// Appends the record and the messages behind it as one unit.
///
/// # Errors
/// When the log does not take it.
pub(super) fn append(
    broker: &Broker,
    record: &ControlRecord,
    drafts: &[Draft<'_>],
) -> Result<Appended, AppendError> {
    let messages: Vec<(&Draft<'_>, MessageParts<'_>)> =
        drafts.iter().filter_map(|draft| Some((draft, draft.encode(broker)?))).collect();
    let rests: Vec<_> = messages.iter().map(|(_, parts)| parts.rest()).collect();
    let payload = [&*record.payload];
    let mut unit = vec![NewRecord { kind: record.kind, head: &[], rest: &payload }];
    unit.extend(messages.iter().zip(&rests).map(|((_, parts), rest)| NewRecord {
        kind: kinds::MESSAGE,
        head: parts.head(),
        rest,
    }));
    let appended = broker.log.append(&unit, |state, place, head| {
        if let Some((draft, _)) = place.index.checked_sub(1).and_then(|index| messages.get(index)) {
            stamp(state, draft.queue, &place, head);
        }
    })?;
    for (draft, parts) in &messages {
        broker.statistics.put(draft.topic, 1, parts.len() as u64);
    }
    Ok(Appended { end: appended.end, messages: messages.len() })
}
