//! What a message's record says to the index.

use skylark_index::{Entry, key_hash};
use skylark_protocol::java;
use skylark_protocol::message::{MessageError, StoredMessage, properties};
use skylark_storage::record::RECORD_HEADER_BYTES;
use skylark_storage::{PhysicalOffset, Record};

use crate::delay;
use crate::folds::halves::HalfPlace;
use crate::folds::kinds;
use crate::light;
use crate::system;
use crate::transactions;

/// A message taken apart.
#[derive(Clone, Debug)]
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
    /// What is kept of it, if it is a half message.
    pub half: Option<HalfPlace<'a>>,
    /// What its client calls it.
    pub unique_key: Option<&'a str>,
    /// The light queues that hold it as well, each with its offset there.
    pub light: Vec<(&'a str, u64)>,
    /// The message itself.
    pub message: StoredMessage<'a>,
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
    let names = [properties::UNIQ_KEY, properties::KEYS, properties::TAGS, properties::TIMER_OUT_MS];
    // In one go, since this is done for each message.
    let [unique, business, tags, due] = message.properties().pick(names);
    keys.extend(properties::index_keys(unique, business).map(|key| key_hash(message.topic, key)));
    let record_bytes = record.payload.len() + RECORD_HEADER_BYTES;
    let entry = Entry {
        queue_offset: message.queue_offset,
        physical_offset: at,
        record_bytes: u32::try_from(record_bytes).expect("a record is below 8 MiB"),
        tag_hash: java::tag_hash(tags),
        stored_at: message.store_timestamp,
    };
    let is_delayed = system::holds_timers(message.topic);
    let due = due.filter(|_| is_delayed).and_then(delay::due_ms);
    let is_half = message.topic == system::HALF_TOPIC;
    let half = is_half.then(|| transactions::message::place(&message, entry.record_bytes));
    let is_light = kinds::is_light(record.header.fields().kind);
    let light = if is_light { light::places(message.properties())? } else { Vec::new() };
    let (topic, queue, keys) = (message.topic, message.queue_id, keys.len() - before);
    Ok(Indexed { topic, queue, entry, keys, due, half, unique_key: unique, light, message })
}
