//! What a message's record says to the index.

use skylark_index::{Entry, key_hash};
use skylark_protocol::message::{MessageError, StoredMessage};
use skylark_storage::record::RECORD_HEADER_BYTES;
use skylark_storage::{PhysicalOffset, Record};

use crate::delay;
use crate::system;

/// A message taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Indexed<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its queue.
    pub queue: u32,
    /// What the queue keeps of it.
    pub entry: Entry,
    /// How many keys it has.
    pub keys: usize,
    /// When it is due, in milliseconds since 1970, if it is a timer.
    pub due: Option<u64>,
}

/// Takes the message in a record apart. The hashes of its keys go behind what `keys` holds.
///
/// # Errors
/// When the record holds none.
pub fn indexed<'a>(
    at: PhysicalOffset,
    record: &Record<'a>,
    keys: &mut Vec<u32>,
) -> Result<Indexed<'a>, MessageError> {
    let (message, _) = StoredMessage::parse(record.payload)?;
    let before = keys.len();
    keys.extend(message.properties().index_keys().map(|key| key_hash(message.topic, key)));
    let record_bytes = record.payload.len() + RECORD_HEADER_BYTES;
    let entry = Entry {
        queue_offset: message.queue_offset,
        physical_offset: at,
        record_bytes: u32::try_from(record_bytes).expect("a record is below 8 MiB"),
        tag_hash: message.tag_hash(),
        stored_at: message.store_timestamp,
    };
    let is_delayed = message.topic == system::SCHEDULE_TOPIC;
    let due = if is_delayed { delay::due_ms(message.properties()) } else { None };
    Ok(Indexed { topic: message.topic, queue: message.queue_id, entry, keys: keys.len() - before, due })
}
