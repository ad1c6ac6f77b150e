//! Dead letters: what groups gave up, and what operators do about it.
//!
//! ```text
//!  given up ──► message of %DLQ%group ──┬── 60011: [dead letters settled | message for its first topic] ──► log
//!                                       └── 60012: [dead letters settled] ──► log
//! ```
//!
//! Promises, and why they hold:
//!
//! - **Once.** A dead letter is sent again by one record, in one unit with the message. Decisions are made one at a time, on
//!   a fold that has applied all before: what one has settled the next passes over, over crashes and lost answers too.
//! - **Nothing in passing.** What cannot be sent again stays a dead letter, and whoever asked is told why.
//!
//! A dead letter that was settled lies in its topic until it is trimmed, for whoever consumes that; the tools' lists of
//! dead letters pass over it.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;
use skylark_index::{Answer, QueueId, SealedError};
use skylark_protocol::message::record::BODY_BYTES_MAX;
use skylark_protocol::message::{NewMessage, StoredMessage, properties};
use skylark_storage::PhysicalOffset;

use crate::append::once_more;
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::folds::DeadLetters;
use crate::folds::topics::Perm;
use crate::names;
use crate::system;

/// What a message carries of its first life, and would mislead whoever gets it in its second one.
const OF_THE_FIRST_LIFE: [&str; 19] = [
    properties::DELAY,
    properties::REAL_TOPIC,
    properties::REAL_QID,
    properties::WAIT,
    properties::RECONSUME_TIME,
    properties::MAX_RECONSUME_TIMES,
    properties::MIN_OFFSET,
    properties::MAX_OFFSET,
    properties::CONSUME_START_TIME,
    properties::POP_CK,
    properties::FIRST_POP_TIME,
    properties::TIMER_DELAY_SEC,
    properties::TIMER_DELAY_MS,
    properties::TIMER_DELIVER_MS,
    properties::TIMER_OUT_MS,
    properties::TIMER_ENQUEUE_MS,
    properties::TIMER_DEQUEUE_MS,
    properties::TIMER_DELAY_LEVEL,
    properties::TIMER_ROLL_TIMES,
];

/// What is settled, and whose turn it is to settle more.
pub struct DeadLetterDesk {
    /// The fold.
    pub folded: Mutex<DeadLetters>,
    /// Behind the newest record, held while another one is decided.
    pub latest: Mutex<PhysicalOffset>,
}

impl DeadLetterDesk {
    /// A desk that goes on with these, at a log that was folded so far.
    pub fn new(folded: DeadLetters, folded_end: PhysicalOffset) -> Self {
        Self { folded: Mutex::new(folded), latest: Mutex::new(folded_end) }
    }

    /// What is not settled of a queue within `range`, ascending.
    pub fn waiting(&self, topic: &str, queue: u32, range: Range<u64>) -> Vec<Range<u64>> {
        let folded = self.folded.lock();
        match folded.settled(topic, queue) {
            Some(settled) => settled.gaps(range).collect(),
            None if range.is_empty() => Vec::new(),
            None => vec![range],
        }
    }
}

/// A dead letter as it was read.
pub struct Letter {
    /// Its offset in its queue.
    pub queue_offset: u64,
    /// What is stored of it, or why that cannot be read.
    pub read: Result<Bytes, String>,
}

/// Where the message of a dead letter goes, and with which properties.
pub struct Resent {
    queue: QueueId,
    queue_id: u32,
    /// The topic.
    pub topic: String,
    properties: Vec<u8>,
}

/// The place of a message by its offset. May wait for the disk.
///
/// # Errors
/// When an index file cannot be read.
pub fn place(
    broker: &Broker,
    queue: QueueId,
    offset: u64,
) -> Result<Option<skylark_index::Entry>, SealedError> {
    let answer = broker.index.read().entry(queue, offset);
    match answer {
        Answer::Known(entry) => Ok(entry),
        Answer::Sealed(view) => view.entry(offset),
    }
}

/// What becomes of a dead letter that is sent again: to its first topic, or to the retry topic of the group that gave it
/// up. As if it had never been consumed, but for the id of the dead letter.
///
/// # Errors
/// Why it cannot be: for a person.
pub fn resent(
    broker: &Broker,
    catalog: &Catalog,
    letter: &StoredMessage<'_>,
    to_group: Option<&str>,
) -> Result<Resent, String> {
    let known = letter.properties();
    let first = known.get(properties::RETRY_TOPIC);
    let topic: Cow<'_, str> = match to_group {
        Some(group) => names::retry_topic(group).into(),
        None => first.ok_or("it does not say which topic it was sent to")?.into(),
    };
    if !system::may_send_to(&topic) {
        return Err(format!("topic {topic} is the broker's own"));
    }
    // What is in one takes its places there together with one in a topic.
    if names::is_light(&topic) {
        return Err(format!(
            "{topic} is a light queue, which takes nothing by itself; send it to the group instead"
        ));
    }
    let (config, queues) = catalog.topic(&topic).ok_or_else(|| format!("topic {topic} does not exist"))?;
    if !config.perm.allows(Perm::WRITE) {
        return Err(format!("topic {topic} takes no messages"));
    }
    let queue_id = broker.any() % config.write_queues.max(1);
    let queue = *queues.get(queue_id as usize).ok_or_else(|| format!("topic {topic} has no queues"))?;
    let mut remove = OF_THE_FIRST_LIFE.to_vec();
    if to_group.is_none() {
        remove.extend([properties::RETRY_TOPIC, properties::ORIGIN_MESSAGE_ID]);
    }
    let id = letter.offset_message_id().text();
    let put = [(properties::RESENT_DEAD_LETTER, id.as_str())];
    let properties = properties::rewrite(letter.properties, &remove, &put);
    Ok(Resent { queue, queue_id, topic: topic.into_owned(), properties })
}

impl Resent {
    /// The queue it goes to.
    pub fn queue(&self) -> QueueId {
        self.queue
    }

    /// The message.
    ///
    /// # Errors
    /// When it breaks a limit.
    pub fn encode<'a>(
        &'a self,
        broker: &Broker,
        letter: &StoredMessage<'a>,
    ) -> Result<skylark_protocol::message::MessageParts<'a>, String> {
        let message = NewMessage {
            topic: &self.topic,
            queue_id: self.queue_id,
            properties: &self.properties,
            reconsume_times: 0,
            ..once_more(broker, letter)
        };
        // It was taken with this body, whatever the limit has become since.
        message.parts(BODY_BYTES_MAX).map_err(|error| error.to_string())
    }
}
