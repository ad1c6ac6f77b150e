//! Where queues go on.

use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use skylark_storage::Kind;

use super::fold::{Event, Fold, FoldError};
use super::kinds::{self, Change};
use super::payload::Payload;

/// The place that a message took in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePlace<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Number of its queue.
    pub queue: u32,
    /// Its number in the queue.
    pub queue_offset: u64,
}

/// A queue goes on at a higher offset, and what it held lies below its minimum: for queues that start above zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadSet {
    /// The queue's topic.
    pub topic: String,
    /// Its number.
    pub queue: u32,
    /// Offset of its next message; not below what would have been that.
    pub next: u64,
}

impl Payload for HeadSet {
    const KIND: Kind = kinds::HEAD_SET;
    const VERSION: u8 = 1;
}

/// The offset that a queue's next message gets, by topic and queue.
///
/// A topic's deletion changes nothing here, because offsets never restart: a consumer that still holds one of the
/// old topic must not mistake a message of the new topic for one it has seen.
///
/// Memory: about 16 bytes for each queue that ever held a message, and the topic's name once, deleted topics too.
#[derive(Clone, Debug, Default)]
pub struct Heads {
    // Found once for each message that is folded, so by hash; sorted only where order shows.
    topics: HashMap<String, BTreeMap<u32, u64>, RandomState>,
}

impl Heads {
    /// Offset of the queue's next message; zero for a queue that never held one.
    pub fn next(&self, topic: &str, queue: u32) -> u64 {
        self.topics.get(topic).and_then(|queues| queues.get(&queue)).copied().unwrap_or(0)
    }

    /// All queues that ever held a message, sorted: topic, number, next offset.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32, u64)> {
        let topics = self.sorted().into_iter();
        topics.flat_map(|(topic, queues)| queues.iter().map(move |(&queue, &next)| (topic, queue, next)))
    }

    fn sorted(&self) -> BTreeMap<&str, &BTreeMap<u32, u64>> {
        self.topics.iter().map(|(topic, queues)| (topic.as_str(), queues)).collect()
    }

    fn next_mut(&mut self, topic: &str, queue: u32) -> &mut u64 {
        self.topics.entry_ref(topic).or_default().entry(queue).or_default()
    }
}

impl Fold for Heads {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        let at = event.at;
        match event.change {
            Change::Message(MessagePlace { topic, queue, queue_offset: found, .. }) => {
                let next = self.next_mut(topic, queue);
                if found != *next {
                    return Err(FoldError::QueueOffset {
                        at,
                        topic: topic.to_owned(),
                        queue,
                        expected: *next,
                        found,
                    });
                }
                *next += 1;
            }
            Change::HeadSet(HeadSet { ref topic, queue, next: found }) => {
                let next = self.next_mut(topic, queue);
                if found < *next {
                    return Err(FoldError::HeadSetBack {
                        at,
                        topic: topic.clone(),
                        queue,
                        next: *next,
                        found,
                    });
                }
                *next = found;
            }
            _ => {}
        }
        Ok(())
    }
}

// Sorted, so that equal values have equal bytes.
impl Serialize for Heads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.sorted().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Heads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let topics: BTreeMap<String, BTreeMap<u32, u64>> = Deserialize::deserialize(deserializer)?;
        Ok(Self { topics: topics.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests;
