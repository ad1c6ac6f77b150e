//! What topics and groups there are, and which queues.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use skylark_index::{Index, QueueId};

use crate::folds::topics::TopicConfig;
use crate::folds::{Groups, Kv, LockOwners, Topics};

/// Topics and groups, with what is derived from a topic's queues.
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
    queues: HashMap<Box<str>, Box<[QueueId]>, RandomState>,
}

impl Catalog {
    /// A catalog with the queues of all topics.
    pub fn new(topics: Topics, groups: Groups, lock_owners: LockOwners, kv: Kv, index: &mut Index) -> Self {
        let names: Vec<String> = topics.iter().map(|(topic, _)| topic.to_owned()).collect();
        let mut catalog = Self { topics, groups, lock_owners, kv, queues: HashMap::default() };
        names.iter().for_each(|topic| catalog.resolve(topic, index));
        catalog
    }

    /// The queues of a topic, by number.
    pub fn queues(&self, topic: &str) -> Option<&[QueueId]> {
        self.queues.get(topic).map(|queues| &**queues)
    }

    /// A topic's configuration and queues.
    pub fn topic(&self, topic: &str) -> Option<(&TopicConfig, &[QueueId])> {
        Some((self.topics.get(topic)?, self.queues(topic)?))
    }

    /// Derives the queues of a topic anew, after its configuration changed.
    pub fn resolve(&mut self, topic: &str, index: &mut Index) {
        if self.topics.get(topic).is_none() {
            self.queues.remove(topic);
            return;
        }
        let queues = (0..self.topics.queues(topic)).map(|number| index.register(topic, number));
        let queues = queues.collect();
        self.queues.insert(topic.into(), queues);
    }
}
