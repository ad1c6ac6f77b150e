//! What topics there are.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};
use skylark_storage::Kind;

use super::fold::{Event, Fold, FoldError};
use super::kinds::{self, Change};
use super::payload::Payload;
use super::version::DataVersion;

/// What a topic is, besides its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicConfig {
    /// Queues that can be consumed from: numbers below this.
    pub read_queues: u32,
    /// Queues that producers pick from: numbers below this.
    pub write_queues: u32,
    /// What may be done with the topic.
    pub perm: Perm,
    /// How tags are matched; kept for the tools.
    pub filter: FilterType,
    /// Bits for the tools: 1 unit, 2 unit subscription.
    pub sys_flag: i32,
    /// Whether the tools call it ordered.
    pub order: bool,
    /// Attributes by name, without the signs they are changed with.
    pub attributes: BTreeMap<String, String>,
}

/// What may be done with a topic, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Perm(pub u8);

/// How tags are matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterType {
    /// A message has at most one tag.
    #[default]
    SingleTag,
    /// A message has several.
    MultiTag,
}

impl Perm {
    /// New topics may be made after this one.
    pub const INHERIT: Self = Self(1);
    /// Producers may send.
    pub const WRITE: Self = Self(2);
    /// Consumers may pull.
    pub const READ: Self = Self(4);
    /// Producers and consumers may do their work.
    pub const READ_WRITE: Self = Self(6);

    /// Whether all bits of `other` are set.
    pub const fn allows(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These bits and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits but for those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl TopicConfig {
    /// A topic with so many queues that may be written and read.
    pub const fn with_queues(queues: u32) -> Self {
        Self {
            read_queues: queues,
            write_queues: queues,
            perm: Perm::READ_WRITE,
            filter: FilterType::SingleTag,
            sys_flag: 0,
            order: false,
            attributes: BTreeMap::new(),
        }
    }
}

/// A topic was created or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPut {
    /// Its name.
    pub topic: String,
    /// What it is from now on.
    pub config: TopicConfig,
}

/// A topic was deleted, with the offsets of every group in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDeleted {
    /// Its name.
    pub topic: String,
}

impl Payload for TopicPut {
    const KIND: Kind = kinds::TOPIC_PUT;
    const VERSION: u8 = 1;
}

impl Payload for TopicDeleted {
    const KIND: Kind = kinds::TOPIC_DELETED;
    const VERSION: u8 = 1;
}

/// The topics, by name.
///
/// Memory: name, attributes and about 100 bytes for each topic that exists; nothing for deleted ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topics {
    topics: BTreeMap<String, Known>,
    version: DataVersion,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    config: TopicConfig,
    /// As many as it had at its widest, since it was created.
    queues: u32,
}

impl Topics {
    /// What this topic is, if it exists.
    pub fn get(&self, topic: &str) -> Option<&TopicConfig> {
        self.topics.get(topic).map(|known| &known.config)
    }

    /// How many queues the topic has had at its widest since it was created: what lies in them stays readable by
    /// offset when it is given fewer, and goes with it when it is deleted.
    pub fn queues(&self, topic: &str) -> u32 {
        self.topics.get(topic).map_or(0, |known| known.queues)
    }

    /// All topics, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &TopicConfig)> {
        self.topics.iter().map(|(topic, known)| (topic.as_str(), &known.config))
    }

    /// The names that begin with this, sorted.
    pub fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let names = self.topics.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        names.map(|(topic, _)| topic.as_str()).take_while(move |topic| topic.starts_with(prefix))
    }

    /// How often topics have changed. Putting what is there already, or deleting what is not, is no change.
    pub fn version(&self) -> DataVersion {
        self.version
    }
}

impl Fold for Topics {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        let changed = match &event.change {
            Change::TopicPut(TopicPut { topic, config }) => {
                let queues = config.read_queues.max(config.write_queues).max(self.queues(topic));
                let known = Known { config: config.clone(), queues };
                let before = self.topics.insert(topic.clone(), known);
                before.is_none_or(|before| before.config != *config)
            }
            Change::TopicDeleted(TopicDeleted { topic }) => self.topics.remove(topic).is_some(),
            _ => false,
        };
        if changed {
            self.version.bump(event.stored_at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
