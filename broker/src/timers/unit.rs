//! What timers become: a control record and messages, appended as one unit.

use std::borrow::Cow;

use bytes::Bytes;
use skylark_index::{QueueId, Timer};
use skylark_protocol::message::record::{BODY_BYTES_MAX, PROPERTIES_BYTES_MAX};
use skylark_protocol::message::{MessageParts, NewMessage, StoredMessage, properties};
use skylark_storage::{AppendError, PhysicalOffset, ReadError};
use tracing::error;

use crate::append::{append_behind, once_more};
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::changes::ControlRecord;
use crate::folds::timers::{FiredTimer, TURNS_BYTES_MAX};
use crate::system;

/// Messages in a unit.
pub(super) const MESSAGES_MAX: usize = 256;
/// Bytes of a unit with more than one message: a flush, and a stage for senders, is not to be long.
const BYTES_MAX: u64 = 1 << 20;
/// What a message may take beyond the record that its timer names: another topic's name, the times of its waiting, its
/// share of the control record, and the filling.
const BESIDE_BYTES_MAX: u64 = 256;
/// What the control record may take beside those shares.
const CONTROL_BYTES_MAX: u64 = 128 + TURNS_BYTES_MAX;

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
        let level = |message: &StoredMessage<'_>| match message.topic {
            system::SCHEDULE_TOPIC => message.queue_id.saturating_add(1),
            _ => 0,
        };
        let place = self.message.map(|message| (level(&message), message.queue_offset));
        let (level, queue_offset) = place.unwrap_or_default();
        FiredTimer { at: self.timer.key.at.get(), level, queue_offset }
    }

    /// The message as its consumers get it at this time; none if its topic is gone.
    pub(super) fn due(&self, catalog: &Catalog, now_ms: u64) -> Option<Draft<'a>> {
        let message = self.message?;
        let known = message.properties();
        let topic = known.get(properties::REAL_TOPIC)?;
        let (config, queues) = catalog.topic(topic)?;
        let asked: u32 = known.get(properties::REAL_QID)?.parse().ok()?;
        // Its queue may be gone with an earlier topic of this name.
        let queue_id =
            if (asked as usize) < queues.len() { asked } else { asked % config.write_queues.max(1) };
        let queue = *queues.get(queue_id as usize)?;
        let properties = delivered(&message, now_ms).into();
        Some(Draft { queue, queue_id, topic, properties, message })
    }

    /// The delayed message once more, to wait as before.
    pub(super) fn again(&self, catalog: &Catalog) -> Option<Draft<'a>> {
        let message = self.message?;
        let queue = *catalog.queues(message.topic)?.get(message.queue_id as usize)?;
        let (queue_id, topic, properties) = (message.queue_id, message.topic, message.properties.into());
        Some(Draft { queue, queue_id, topic, properties, message })
    }
}

/// The properties of a message that is delivered at this time, as RocketMQ leaves them: from one with a level nothing is
/// missing but the due time; one that asked for a time keeps everything, and gets the times of its waiting, unless
/// they have no room.
fn delivered(message: &StoredMessage<'_>, now_ms: u64) -> Vec<u8> {
    if message.topic == system::SCHEDULE_TOPIC {
        return properties::rewrite(message.properties, &[properties::TIMER_OUT_MS], &[]);
    }
    let (since, until) = (message.store_timestamp.to_string(), now_ms.to_string());
    let times = [(properties::TIMER_ENQUEUE_MS, &*since), (properties::TIMER_DEQUEUE_MS, &*until)];
    let properties = properties::rewrite(message.properties, &[], &times);
    if properties.len() > PROPERTIES_BYTES_MAX { message.properties.to_vec() } else { properties }
}

impl Draft<'_> {
    fn encode(&self, broker: &Broker) -> Option<MessageParts<'_>> {
        let Self { ref message, queue_id, topic, ref properties, .. } = *self;
        let prepared_transaction_offset = message.prepared_transaction_offset;
        let message = NewMessage {
            topic,
            queue_id,
            properties,
            prepared_transaction_offset,
            ..once_more(broker, message)
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
    let encoded = drafts.iter().filter_map(|draft| Some((draft.queue, draft.topic, draft.encode(broker)?)));
    let messages: Vec<_> = encoded.collect();
    let end = append_behind(broker, record, &messages)?;
    Ok(Appended { end, messages: messages.len() })
}
