//! What becomes of a transaction's message: half, carried forward, asked about, committed, given up.

use std::borrow::Cow;

use skylark_index::QueueId;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::message::properties::{self, Properties};
use skylark_protocol::message::record::{BODY_BYTES_MAX, PROPERTIES_BYTES_MAX};
use skylark_protocol::message::{
    MessageParts, MessageRefused, NewMessage, OffsetMessageId, StoredMessage, sys_flag,
};
use skylark_storage::record::RECORD_HEADER_BYTES;
use skylark_storage::{AppendError, Kind, PhysicalOffset};

use crate::append::{Stored, append, append_behind, once_more};
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::changes::ControlRecord;
use crate::context::Refusal;
use crate::delay::{self, Asked, Delayed};
use crate::folds::halves::{HalfEnded, HalfPlace, HalvesEnded, OpenHalf, Outcome};
use crate::folds::kinds;
use crate::system;

/// What a half message's record may take more once it is committed or given up: another topic's name, the record
/// beside it, and the filling of both.
const BESIDE_BYTES_MAX: u64 = 512;
/// What its properties may take more: when it is due, or how often its producer was asked.
const ADDED_PROPERTIES_BYTES_MAX: usize = 128;

/// A half message, before it is stored.
pub struct Prepared {
    /// Where half messages lie.
    pub queue: QueueId,
    /// Its properties, with what a commit needs.
    pub properties: Vec<u8>,
}

/// What becomes of a message for queue `queue_id` of `topic` that is part of a transaction of this producer group.
///
/// # Errors
/// When this broker takes none, or no more.
pub fn prepare(
    broker: &Broker,
    (topic, queue_id): (&str, u32),
    unique_key: &str,
    group: &str,
    properties: &[u8],
) -> Result<Prepared, Refusal> {
    let policy = &broker.policy.transactions;
    if !policy.allowed {
        let remark = format!(
            "the broker[{}] sending transaction message is forbidden",
            broker.identity.store_host.ip()
        );
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    let open = broker.transactions.count();
    if open >= policy.open_max {
        let remark = format!("{open} transactions are open, and {} may be: end some first", policy.open_max);
        return Err(Refusal::new(ResponseCode::SYSTEM_BUSY, remark));
    }
    let queue = half_queue(&broker.catalog.read()).ok_or_else(|| {
        Refusal::new(ResponseCode::SYSTEM_ERROR, "the queue of half messages is not made yet; try again")
    })?;
    let queue_text = queue_id.to_string();
    let known = Properties::new(properties);
    let put = [
        (properties::TRANSACTION_ID, unique_key),
        (properties::REAL_TOPIC, topic),
        (properties::REAL_QID, &*queue_text),
        // Without it nobody could be asked.
        (properties::PGROUP, known.get(properties::PGROUP).unwrap_or(group)),
    ];
    // Checks are counted here.
    let remove = [properties::TRANSACTION_CHECK_TIMES];
    Ok(Prepared { queue, properties: properties::rewrite(properties, &remove, &put) })
}

/// Appends a half message, in a record of this kind.
///
/// # Errors
/// When the log does not take it, or would not take what becomes of it.
pub fn append_half(
    broker: &Broker,
    kind: Kind,
    queue: QueueId,
    parts: &MessageParts<'_>,
) -> Result<Stored, AppendError> {
    let unit_bytes = (parts.len() + RECORD_HEADER_BYTES) as u64 + BESIDE_BYTES_MAX;
    let max_bytes = broker.log.unit_bytes_max();
    if unit_bytes > max_bytes {
        return Err(AppendError::TooLarge { unit_bytes, max_bytes });
    }
    append(broker, kind, queue, system::HALF_TOPIC, parts)
}

/// Whether a half message's properties leave room for what is added to them later.
///
/// # Errors
/// When they do not.
pub fn check_properties(properties_bytes: usize) -> Result<(), MessageRefused> {
    let properties_bytes = properties_bytes + ADDED_PROPERTIES_BYTES_MAX;
    let fits = properties_bytes <= PROPERTIES_BYTES_MAX;
    fits.then_some(()).ok_or(MessageRefused::PropertiesTooLong { properties_bytes })
}

/// What the folds keep of a half message.
pub fn place<'a>(message: &StoredMessage<'a>, record_bytes: u32) -> HalfPlace<'a> {
    let known = message.properties();
    let immunity = known.get(properties::CHECK_IMMUNITY_TIME).and_then(|text| text.parse().ok());
    HalfPlace {
        queue_offset: message.queue_offset,
        record_bytes,
        group: known.get(properties::PGROUP).unwrap_or_default(),
        immunity_s: immunity.unwrap_or(0),
    }
}

/// Why a commit was not appended. The transaction is open as before, or somebody else ends it.
pub enum NotCommitted {
    /// As the log says.
    Append(AppendError),
    /// As whoever asked for it is told.
    Refused(Refusal),
    /// Somebody else ends it, or has.
    Gone,
}

impl From<Refusal> for NotCommitted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Ends a transaction with the message that consumers get, or that waits for its time; says where both end. `payload`
/// is the half message.
///
/// # Errors
/// See [`NotCommitted`].
pub fn commit(broker: &Broker, half: &OpenHalf, payload: &[u8]) -> Result<PhysicalOffset, NotCommitted> {
    let (message, _) = StoredMessage::parse(payload).map_err(|error| damaged(half, &error))?;
    let known = message.properties();
    let (Some(topic), Some(asked)) =
        (known.get(properties::REAL_TOPIC), known.get(properties::REAL_QID).and_then(|id| id.parse().ok()))
    else {
        return Err(damaged(half, &"it does not say where it belongs").into());
    };
    let (queue, queue_id) = target(&broker.catalog.read(), topic, asked).ok_or_else(|| {
        let remark =
            format!("topic[{topic}] not exist: the transaction stays open until it does, or is given up");
        Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark)
    })?;
    // RocketMQ too lets it wait from now on.
    let delayed = delay::delay(broker, (topic, queue_id), &Asked::of(known), message.properties, &[])?;
    let committed = NewMessage {
        sys_flag: message.sys_flag & !sys_flag::TRANSACTION | sys_flag::TRANSACTION_COMMIT,
        prepared_transaction_offset: i64::try_from(half.origin.get()).unwrap_or(i64::MAX),
        ..once_more(broker, &message)
    };
    let (queue, message) = match &delayed {
        None => (queue, NewMessage { topic, queue_id, ..committed }),
        Some(delayed) => {
            let Delayed { topic, queue, queue_id, ref properties, ref added_properties, .. } = *delayed;
            (queue, NewMessage { topic, queue_id, properties, added_properties, ..committed })
        }
    };
    let parts = message.parts(BODY_BYTES_MAX).map_err(|error| damaged(half, &error))?;
    let claim = broker.transactions.claim(half.at).ok_or(NotCommitted::Gone)?;
    let record = ended(half.at, Outcome::Committed);
    let end =
        append_behind(broker, &record, &[(queue, message.topic, parts)]).map_err(NotCommitted::Append)?;
    claim.keep();
    if delayed.is_some() {
        broker.statistics.delayed.add(1, 0);
    }
    Ok(end)
}

/// Ends a transaction of which nobody gets to see anything; says where the record ends, or that somebody else ends it.
///
/// # Errors
/// When the log does not take it. The transaction is open as before.
pub fn roll_back(broker: &Broker, at: PhysicalOffset) -> Result<Option<PhysicalOffset>, AppendError> {
    let Some(claim) = broker.transactions.claim(at) else { return Ok(None) };
    let end = append_behind(broker, &ended(at, Outcome::RolledBack), &[])?;
    claim.keep_withdrawn();
    Ok(Some(end))
}

/// A message that is no half message any more, as an operator finds it: another half message with the same content is
/// made of it.
///
/// # Errors
/// When it is none, or the log does not take it.
pub fn reopen(broker: &Broker, payload: &[u8]) -> Result<Result<Stored, AppendError>, Refusal> {
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(ResponseCode::SYSTEM_ERROR, why.to_string());
    let (message, _) = StoredMessage::parse(payload).map_err(|error| refuse(&error))?;
    if message.topic != system::HALF_EXPIRED_TOPIC {
        return Err(refuse(&"the message is no open half message, and none that was given up"));
    }
    let queue = half_queue(&broker.catalog.read())
        .ok_or_else(|| refuse(&"the queue of half messages is not made yet; try again"))?;
    let properties = properties::rewrite(message.properties, &[properties::TRANSACTION_CHECK_TIMES], &[]);
    let half = NewMessage {
        topic: system::HALF_TOPIC,
        queue_id: 0,
        properties: &properties,
        ..once_more(broker, &message)
    };
    let parts = half.parts(BODY_BYTES_MAX).map_err(|error| refuse(&error))?;
    Ok(append_half(broker, kinds::MESSAGE, queue, &parts))
}

/// The record of a transaction's end.
pub(super) fn ended(at: PhysicalOffset, outcome: Outcome) -> ControlRecord {
    ControlRecord::of(&HalvesEnded { ended: vec![HalfEnded { at: at.get(), outcome }] })
}

/// A half message on its way to somewhere else.
pub(super) struct Draft<'a> {
    topic: &'static str,
    properties: Cow<'a, [u8]>,
    message: StoredMessage<'a>,
}

/// The half message once more.
pub(super) fn carried<'a>(message: StoredMessage<'a>) -> Draft<'a> {
    Draft { topic: system::HALF_TOPIC, properties: message.properties.into(), message }
}

/// What an operator gets of a half message that was given up.
pub(super) fn given_up<'a>(message: StoredMessage<'a>, checks: u32) -> Draft<'a> {
    let properties = with_checks(message.properties, checks).into();
    Draft { topic: system::HALF_EXPIRED_TOPIC, properties, message }
}

impl Draft<'_> {
    pub(super) fn topic(&self) -> &'static str {
        self.topic
    }

    pub(super) fn encode(&self, broker: &Broker) -> Result<MessageParts<'_>, MessageRefused> {
        let properties = &self.properties;
        let message =
            NewMessage { topic: self.topic, queue_id: 0, properties, ..once_more(broker, &self.message) };
        // It was taken with this body, whatever the limit has become since.
        message.parts(BODY_BYTES_MAX)
    }
}

/// What a producer is asked with: its name for the message, the offset message id of the half message, and the message
/// as if it lay in its own topic.
pub(super) struct Question {
    pub(super) unique_key: String,
    pub(super) offset_message_id: String,
    pub(super) body: Vec<u8>,
}

/// The question about a half message; nothing if it cannot be understood.
pub(super) fn question(broker: &Broker, half: &OpenHalf, payload: &[u8]) -> Option<Question> {
    let (message, _) = StoredMessage::parse(payload).ok()?;
    let known = message.properties();
    let properties = with_checks(message.properties, half.half.checks);
    let asked = NewMessage {
        topic: known.get(properties::REAL_TOPIC)?,
        queue_id: known.get(properties::REAL_QID)?.parse().ok()?,
        properties: &properties,
        ..once_more(broker, &message)
    };
    let parts = asked.parts(BODY_BYTES_MAX).ok()?;
    let origin = half.origin.get();
    let id = OffsetMessageId { store_host: asked.store_host, physical_offset: origin };
    Some(Question {
        unique_key: known.get(properties::UNIQ_KEY).unwrap_or_default().to_owned(),
        offset_message_id: id.to_string(),
        body: parts.to_vec(half.half.queue_offset, origin, message.store_timestamp),
    })
}

/// The queue of half messages, which is there once the broker has made its topics.
pub(super) fn half_queue(catalog: &Catalog) -> Option<QueueId> {
    catalog.queues(system::HALF_TOPIC)?.first().copied()
}

/// Where a committed message belongs; its queue may be gone with an earlier topic of this name.
fn target(catalog: &Catalog, topic: &str, asked: u32) -> Option<(QueueId, u32)> {
    let (config, queues) = catalog.topic(topic)?;
    let queue_id = if (asked as usize) < queues.len() { asked } else { asked % config.write_queues.max(1) };
    Some((*queues.get(queue_id as usize)?, queue_id))
}

fn with_checks(properties: &[u8], checks: u32) -> Vec<u8> {
    let checks = checks.to_string();
    properties::rewrite(properties, &[], &[(properties::TRANSACTION_CHECK_TIMES, &*checks)])
}

fn damaged(half: &OpenHalf, why: &dyn std::fmt::Display) -> Refusal {
    let remark = format!("the half message at {} cannot be committed: {why}", half.at);
    Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
}
