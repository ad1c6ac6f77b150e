//! How a message gets into the log: its place is decided under the append lock.

use skylark_index::QueueId;
use skylark_protocol::message::{MessageParts, fill_head};
use skylark_storage::record::RECORD_HEADER_BYTES;
use skylark_storage::{AppendError, NewRecord, PhysicalOffset, Place};

use crate::broker::Broker;
use crate::folds::kinds;
use crate::stamp::Tentative;
use crate::system;

/// What the append lock decided about a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamped {
    /// Its number in its queue.
    pub queue_offset: u64,
    /// Where its record starts.
    pub physical_offset: u64,
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
    Stamped { queue_offset, physical_offset }
}

/// Appends a message to a queue of this topic.
///
/// # Errors
/// When the log does not take it.
pub fn append(
    broker: &Broker,
    queue: QueueId,
    topic: &str,
    parts: &MessageParts<'_>,
) -> Result<Stored, AppendError> {
    let rest = parts.rest();
    let unit = [NewRecord { kind: kinds::MESSAGE, head: parts.head(), rest: &rest }];
    let mut stamped = Stamped::default();
    let appended =
        broker.log.append(&unit, |state, place, head| stamped = stamp(state, queue, &place, head))?;
    broker.statistics.put(topic, 1, parts.len() as u64);
    Ok(Stored { stamped, end: appended.end })
}

/// Appends a message that waits for its time to the queue of its level.
///
/// # Errors
/// When the log does not take it, or would not take it once it is due: then it comes in one unit with a record that
/// says so, and under its own topic's name, which may be longer.
pub fn append_delayed(
    broker: &Broker,
    queue: QueueId,
    parts: &MessageParts<'_>,
) -> Result<Stored, AppendError> {
    let unit_bytes = (parts.len() + RECORD_HEADER_BYTES) as u64 + BESIDE_DUE_BYTES_MAX;
    let max_bytes = broker.log.unit_bytes_max();
    if unit_bytes > max_bytes {
        return Err(AppendError::TooLarge { unit_bytes, max_bytes });
    }
    append(broker, queue, system::SCHEDULE_TOPIC, parts)
}

/// What a due message may take more than the delayed one, with the record beside it and the filling of both.
const BESIDE_DUE_BYTES_MAX: u64 = 512;
