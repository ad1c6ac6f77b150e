//! How a message gets into the log: its place is decided under the append lock.

use std::net::SocketAddr;

use skylark_index::QueueId;
use skylark_protocol::message::{MessageParts, NewMessage, StoredMessage, fill_head};
use skylark_storage::record::RECORD_HEADER_BYTES;
use skylark_storage::{AppendError, Kind, NewRecord, PhysicalOffset, Place};

use crate::broker::Broker;
use crate::changes::ControlRecord;
use crate::folds::kinds;
use crate::folds::timers::TURNS_BYTES_MAX;
use crate::stamp::Tentative;

/// What the append lock decided about a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamped {
    /// Its number in its queue.
    pub queue_offset: u64,
    /// Where its record starts.
    pub physical_offset: u64,
    /// When it was stored, in milliseconds since 1970.
    pub stored_at: u64,
}

/// A message that was appended, and is not durable yet.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Its place.
    pub stamped: Stamped,
    /// Behind its record.
    pub end: PhysicalOffset,
}

/// Runs under the append lock: gives the message its place in the queue and fills in what follows from it.
pub fn stamp(state: &mut Tentative, queue: QueueId, place: &Place, head: &mut [u8]) -> Stamped {
    let queue_offset = state.assign(queue);
    let physical_offset = place.physical_offset.get();
    fill_head(head, queue_offset, physical_offset, place.stored_at);
    Stamped { queue_offset, physical_offset, stored_at: place.stored_at }
}

/// Appends a message to a queue of this topic, in a record of this kind.
///
/// # Errors
/// When the log does not take it.
pub fn append(
    broker: &Broker,
    kind: Kind,
    queue: QueueId,
    topic: &str,
    parts: &MessageParts<'_>,
) -> Result<Stored, AppendError> {
    let rest = parts.rest();
    let unit = [NewRecord { kind, head: parts.head(), rest: &rest }];
    let mut stamped = Stamped::default();
    let appended =
        broker.log.append(&unit, |state, place, head| stamped = stamp(state, queue, &place, head))?;
    broker.statistics.put(topic, 1, parts.len() as u64);
    Ok(Stored { stamped, end: appended.end })
}

/// Appends a message that waits for its time to a queue of `topic`, one of those that hold such messages, in a record of
/// this kind.
///
/// # Errors
/// When the log does not take it, or would not take it once it is due: then it comes in one unit with a record that
/// says so, and under its own topic's name, which may be longer.
pub fn append_delayed(
    broker: &Broker,
    kind: Kind,
    topic: &str,
    queue: QueueId,
    parts: &MessageParts<'_>,
) -> Result<Stored, AppendError> {
    let unit_bytes = (parts.len() + RECORD_HEADER_BYTES) as u64 + BESIDE_DUE_BYTES_MAX;
    let max_bytes = broker.log.unit_bytes_max();
    if unit_bytes > max_bytes {
        return Err(AppendError::TooLarge { unit_bytes, max_bytes });
    }
    let stored = append(broker, kind, queue, topic, parts)?;
    broker.statistics.delayed.add(1, 0);
    Ok(stored)
}

/// Appends a record of the broker's own state and, behind it in the same unit, messages: each with its queue and that
/// queue's topic. Says where they end.
///
/// # Errors
/// When the log does not take them.
pub fn append_behind(
    broker: &Broker,
    record: &ControlRecord,
    messages: &[(QueueId, &str, MessageParts<'_>)],
) -> Result<PhysicalOffset, AppendError> {
    let rests: Vec<_> = messages.iter().map(|(_, _, parts)| parts.rest()).collect();
    let payload = [&*record.payload];
    let mut unit = vec![NewRecord { kind: record.kind, head: &[], rest: &payload }];
    unit.extend(messages.iter().zip(&rests).map(|((_, _, parts), rest)| NewRecord {
        kind: kinds::MESSAGE,
        head: parts.head(),
        rest,
    }));
    let appended = broker.log.append(&unit, |state, place, head| {
        if let Some((queue, _, _)) = place.index.checked_sub(1).and_then(|index| messages.get(index)) {
            stamp(state, *queue, &place, head);
        }
    })?;
    for (_, topic, parts) in messages {
        broker.statistics.put(topic, 1, parts.len() as u64);
    }
    Ok(appended.end)
}

/// A message as it is stored once more, with everything that its producer gave it: whoever stores it says what differs.
pub fn once_more<'a>(broker: &Broker, message: &StoredMessage<'a>) -> NewMessage<'a> {
    NewMessage {
        topic: message.topic,
        queue_id: message.queue_id,
        flag: message.flag,
        sys_flag: message.sys_flag,
        born_timestamp: message.born_timestamp,
        born_host: message.born_host,
        store_host: SocketAddr::V4(broker.identity.store_host),
        reconsume_times: message.reconsume_times,
        prepared_transaction_offset: 0,
        body: message.body,
        properties: message.properties,
        added_properties: &[],
    }
}

/// What a due message may take more than the delayed one, with the record beside it and the filling of both.
const BESIDE_DUE_BYTES_MAX: u64 = 512 + TURNS_BYTES_MAX;
