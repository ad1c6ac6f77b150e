//! What topics and groups there are, and which queues.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use skylark_index::{Index, QueueId};

use crate::folds::topics::TopicConfig;
use crate::folds::{Groups, Kv, LockOwners, RequestModes, Topics};
use crate::message_type::MessageType;
use crate::names;
use crate::quotas::Limits;
use crate::suppression;

/// Topics and groups, with what is derived from a topic's configuration.
#[derive(Default)]
pub struct Catalog {
    /// The fold of topics.
    pub topics: Topics,
    /// The fold of groups.
    pub groups: Groups,
    /// The fold of the owners of queue locks.
    pub lock_owners: LockOwners,
    /// The fold of what the nameserver inside was told.
    pub kv: Kv,
    /// The fold of the requests by which groups get their messages.
    pub request_modes: RequestModes,
    derived: HashMap<Box<str>, Derived, RandomState>,
}

/// What follows from a topic's configuration. Each send needs it, and none is to look through attributes for it.
#[derive(Debug, Default)]
pub struct Derived {
    /// The topic's queues, by number.
    pub queues: Box<[QueueId]>,
    /// Whether a message that was sent to it before is not stored again.
    pub unique: bool,
    /// Of which type its messages are to be, if it says so.
    pub takes: Option<MessageType>,
    /// How much may be sent to it and read from it.
    pub limits: Limits,
}

impl Catalog {
    /// A catalog with the queues of all topics.
    pub fn new(topics: Topics, groups: Groups, lock_owners: LockOwners, kv: Kv, index: &mut Index) -> Self {
        let names: Vec<String> = topics.iter().map(|(topic, _)| topic.to_owned()).collect();
        let mut catalog = Self { topics, groups, lock_owners, kv, ..Self::default() };
        names.iter().for_each(|topic| catalog.resolve(topic, index));
        catalog
    }

    /// The queues of a topic, by number.
    pub fn queues(&self, topic: &str) -> Option<&[QueueId]> {
        self.derived.get(topic).map(|derived| &*derived.queues)
    }

    /// What follows from a topic's configuration.
    pub fn derived(&self, topic: &str) -> Option<&Derived> {
        self.derived.get(topic)
    }

    /// A topic's configuration and queues.
    pub fn topic(&self, topic: &str) -> Option<(&TopicConfig, &[QueueId])> {
        Some((self.topics.get(topic)?, self.queues(topic)?))
    }

    /// The topic to which what a group popped of `topic` and did not acknowledge goes, if it was ever made. Names run
    /// together: what is the retry topic of a group that exists is that group's, and nobody else's.
    pub fn pop_retry_topic(&self, group: &str, topic: &str) -> Option<String> {
        let retries = names::pop_retry_topic(group, topic);
        let owner = retries.strip_prefix(names::RETRY_PREFIX)?;
        (self.groups.get(owner).is_none() && self.topics.get(&retries).is_some()).then_some(retries)
    }

    /// Derives anew what follows from a topic's configuration, after that changed.
    pub fn resolve(&mut self, topic: &str, index: &mut Index) {
        let Some(config) = self.topics.get(topic) else {
            self.derived.remove(topic);
            return;
        };
        let derived = Derived {
            queues: (0..self.topics.queues(topic)).map(|number| index.register(topic, number)).collect(),
            unique: suppression::is_asked_for(&config.attributes),
            takes: MessageType::stated(&config.attributes),
            limits: Limits::of(&config.attributes),
        };
        self.derived.insert(topic.into(), derived);
    }
}
