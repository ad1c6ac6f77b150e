//! Light queues, RocketMQ's LMQ: a message that is stored once and lies in many queues.
//!
//! ```text
//!  send to `chat`, INNER_MULTI_DISPATCH=%LMQ%ann,%LMQ%bob
//!     │
//!     ▼                                ┌──► chat, queue 2, offset 70
//!  one record of the kind light ── dispatch ──► %LMQ%ann, queue 0, offset 3      INNER_MULTI_QUEUE_OFFSET=3,17
//!                                      └──► %LMQ%bob, queue 0, offset 17
//! ```
//!
//! A light queue is a topic of one queue, made by the first message for it or the first consumer that asks for it, which
//! nameservers are not told and lists of topics do not show: there may be many. It has offsets, minima, retention and
//! deletion like others, because index and folds know no difference. What is in it is written through other topics only.
//!
//! The offsets are part of the stored message, so they have to be known before its bytes are: a message for light queues
//! is appended under [`LightQueues`], beside which nothing appends to them.
//!
//! A record of a light kind was written here, so that what other records say in these properties means nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bytes::Bytes;
use parking_lot::Mutex;
use skylark_index::QueueId;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::message::properties::{
    self, INNER_MULTI_DISPATCH, INNER_MULTI_QUEUE_OFFSET, Properties,
};
use skylark_protocol::message::record::{PLACE_BYTES, renumber};
use skylark_protocol::message::{MessageError, MessageParts, StoredMessage};
use skylark_storage::{AppendError, Kind, NewRecord};

use crate::append::{Stamped, Stored, stamp};
use crate::broker::Broker;
use crate::changes::ControlRecord;
use crate::context::{Done, Handled, Refusal, unchanged};
use crate::folds::kinds;
use crate::folds::topics::{TopicConfig, TopicPut};
use crate::names;
use crate::system;

/// Light queues of one message, at most: each is an entry of the index.
pub const QUEUES_PER_MESSAGE_MAX: usize = 1024;
/// How many there may be, unless configured otherwise. RocketMQ's own default.
pub const QUEUES_MAX: u32 = 20_000;
/// Stands between names, and between offsets.
const SEPARATOR: char = ',';
/// Digits of the largest offset.
const OFFSET_DIGITS: usize = 20;

/// Held while a message for light queues gets its offsets there and is appended. It comes after fingerprints' locks and
/// before the log's append lock.
#[derive(Debug, Default)]
pub struct LightQueues(Mutex<()>);

/// What a look for light queues came to.
pub enum Sought {
    /// There they are, in the message's order.
    Found(Vec<QueueId>),
    /// Some are missing, and are being made.
    Made(Handled),
}

/// Whether messages of this topic can lie in light queues as well: not what comes again, or waits.
pub fn may_hold(topic: &str) -> bool {
    !topic.starts_with(names::RETRY_PREFIX)
        && !topic.starts_with(names::DLQ_PREFIX)
        && system::may_send_to(topic)
}

/// The queues that a message names, which are made where they are missing.
///
/// # Errors
/// When the names are none, or there may not be that many queues.
pub fn seek(broker: &Broker, named: &str) -> Result<Sought, Refusal> {
    let illegal = |remark: String| Err(Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark));
    if broker.policy.light_queues_max == 0 {
        return illegal(format!(
            "this broker has no light queues, which {INNER_MULTI_DISPATCH} asks for: start it with --light-queues"
        ));
    }
    let names: Vec<&str> = named.split(SEPARATOR).collect();
    if names.len() > QUEUES_PER_MESSAGE_MAX {
        return illegal(format!(
            "{} light queues of one message, the limit is {QUEUES_PER_MESSAGE_MAX}",
            names.len()
        ));
    }
    if let Some(wrong) = names.iter().find(|name| !names::is_light(name)) {
        return illegal(format!("{wrong} is no name of a light queue ({INNER_MULTI_DISPATCH})"));
    }
    if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
        return illegal(format!("{named} names a light queue twice ({INNER_MULTI_DISPATCH})"));
    }
    let catalog = broker.catalog.read();
    let queues: Option<Vec<QueueId>> =
        names.iter().map(|name| catalog.queues(name)?.first().copied()).collect();
    drop(catalog);
    Ok(match queues {
        Some(queues) => Sought::Found(queues),
        None => Sought::Made(make(broker, &names)),
    })
}

/// Makes the light queue that a consumer asks for, if it is one and is missing: it waits there for the first message.
pub fn make_for_reading(broker: &Broker, topic: &str) -> Option<Handled> {
    let is_missing = broker.policy.light_queues_max > 0
        && names::is_light(topic)
        && broker.catalog.read().topics.get(topic).is_none();
    is_missing.then(|| make(broker, &[topic]))
}

/// Makes those that are missing; what needs them is looked at again once the folds know them.
fn make(broker: &Broker, names: &[&str]) -> Handled {
    let max = broker.policy.light_queues_max as usize;
    let mut full = false;
    let changed = broker.change(|catalog| {
        let missing: Vec<_> = names.iter().filter(|name| catalog.topics.get(name).is_none()).collect();
        full = !missing.is_empty()
            && catalog.topics.with_prefix(names::LIGHT_PREFIX).count() + missing.len() > max;
        if full {
            return Vec::new();
        }
        let put = |name: &&&str| {
            ControlRecord::of(&TopicPut { topic: (**name).to_owned(), config: TopicConfig::with_queues(1) })
        };
        missing.iter().map(put).collect()
    });
    match changed {
        // RocketMQ's code and its word for it.
        Ok(_) if full => Err(Refusal::new(
            ResponseCode::SYSTEM_ERROR,
            format!("[LMQ_CONSUME_QUEUE_NUM_EXCEEDED] there may be {max} light queues (--light-queues-max)"),
        )),
        Ok(end) => Ok(Done::After(end.unwrap_or(broker.applied.get()))),
        Err(error) => unchanged(&error),
    }
}

/// The property of a message's offsets where each is as long as it can be: what a message must have room for.
pub fn longest(queues: &[QueueId]) -> Vec<u8> {
    property(&vec![u64::MAX; queues.len()])
}

/// Appends a message to its queue and to light queues, in a record of the kind that corresponds to `kind`. `parts` has
/// [`longest`] behind `added`, the other properties that are added.
///
/// # Errors
/// When the log does not take it.
pub fn append(
    broker: &Broker,
    kind: Kind,
    (queue, topic): (QueueId, &str),
    light: &[QueueId],
    parts: &MessageParts<'_>,
    added: &[u8],
) -> Result<Stored, AppendError> {
    let kind = if kinds::is_unique(kind) { kinds::UNIQUE_LIGHT_MESSAGE } else { kinds::LIGHT_MESSAGE };
    let _alone = broker.light.0.lock();
    let offsets: Vec<u64> =
        broker.log.with_state(|state| light.iter().map(|queue| state.next(*queue)).collect());
    let added = [added, &property(&offsets)].concat();
    let parts = parts.with_added(&added);
    let rest = parts.rest();
    let unit = [NewRecord { kind, head: parts.head(), rest: &rest }];
    let mut stamped = Stamped::default();
    let appended = broker.log.append(&unit, |state, place, head| {
        stamped = stamp(state, queue, &place, head);
        for (queue, said) in light.iter().zip(&offsets) {
            let given = state.assign(*queue);
            debug_assert_eq!(given, *said, "nothing else appends to light queues");
        }
    })?;
    broker.statistics.put(topic, 1, parts.len() as u64);
    Ok(Stored { stamped, end: appended.end })
}

/// The light queues of a stored message, each with its offset there.
///
/// # Errors
/// When its properties do not say both.
pub fn places<'a>(properties: Properties<'a>) -> Result<Vec<(&'a str, u64)>, MessageError> {
    let get = |name| properties.get(name).ok_or(MessageError::Property { name });
    let names: Vec<&str> = get(INNER_MULTI_DISPATCH)?.split(SEPARATOR).collect();
    let name = INNER_MULTI_QUEUE_OFFSET;
    let offsets: Option<Vec<u64>> = get(name)?.split(SEPARATOR).map(|text| text.parse().ok()).collect();
    let offsets = offsets.filter(|offsets| offsets.len() == names.len());
    Ok(names.into_iter().zip(offsets.ok_or(MessageError::Property { name })?).collect())
}

/// Messages as they lie in a light queue, in pieces: consumers order and commit by the queue and offset in a message, which
/// otherwise would be those in the topic it was sent to.
pub fn renumbered(queue: &str, messages: Vec<Bytes>) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(2 * messages.len());
    for message in messages {
        let offset = StoredMessage::parse(&message).ok().and_then(|(stored, _)| {
            places(stored.properties()).ok()?.into_iter().find(|(name, _)| *name == queue)
        });
        let Some((_, offset)) = offset else {
            pieces.push(message);
            continue;
        };
        let mut head = message[..PLACE_BYTES].to_vec();
        renumber(&mut head, 0, offset);
        pieces.extend([Bytes::from(head), message.slice(PLACE_BYTES..)]);
    }
    pieces
}

fn property(offsets: &[u64]) -> Vec<u8> {
    let mut text = String::with_capacity(offsets.len() * (OFFSET_DIGITS + 1));
    for (number, offset) in offsets.iter().enumerate() {
        let separator = if number > 0 { "," } else { "" };
        write!(text, "{separator}{offset}").expect("writing to memory does not fail");
    }
    let mut property = Vec::new();
    properties::write(INNER_MULTI_QUEUE_OFFSET, &text, &mut property);
    property
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let mut written = Vec::new();
        properties::write(INNER_MULTI_DISPATCH, "%LMQ%a,%LMQ%b", &mut written);
        let dispatch_only = written.clone();
        written.extend(property(&[3, u64::MAX]));
        assert_eq!(places(Properties::new(&written)), Ok(vec![("%LMQ%a", 3), ("%LMQ%b", u64::MAX)]));
        let wrong = |name| Err(MessageError::Property { name });
        assert_eq!(places(Properties::new(b"")), wrong(INNER_MULTI_DISPATCH));
        assert_eq!(places(Properties::new(&dispatch_only)), wrong(INNER_MULTI_QUEUE_OFFSET));
        let mut fewer = dispatch_only;
        fewer.extend(property(&[3]));
        assert_eq!(places(Properties::new(&fewer)), wrong(INNER_MULTI_QUEUE_OFFSET));
    }

    #[test]
    fn names_of_light_queues() {
        for good in ["%LMQ%a", "%LMQ%home%kitchen%+", "%LMQ%a.b#"] {
            assert!(names::is_light(good), "{good}");
        }
        for bad in [
            "%LMQ%",
            "LMQ",
            "a",
            "%LMQ%a b",
            "%LMQ%a/b",
            "%LMQ%a@b",
            "%lmq%a",
            &format!("%LMQ%{}", "x".repeat(123)),
        ] {
            assert!(!names::is_light(bad), "{bad}");
        }
        assert!(may_hold("orders") && !may_hold("%RETRY%g") && !may_hold("SCHEDULE_TOPIC_XXXX"));
    }
}
