//! The queues of an index: their names, and what holds for each of them across segments.

use std::hash::BuildHasher;
use std::mem::size_of;
use std::ops::{Index, IndexMut};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::directory::RunRef;

/// A queue's place in the slab of the index that registered it. Small, dense, never reused, and of no meaning
/// outside that index: another replica may number the same queues differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(u32);

impl QueueId {
    /// The queue's position among those of its index, counted from zero in the order of registration. Fit to index
    /// a table of one's own.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// What holds for a queue across segments.
///
/// Invariant: `min ≤ next`, and for each offset between them there is an entry. Runs below `min` may still be
/// reachable from `newest`; they end at or below `min`, or a head that was set lies between.
pub(crate) struct QueueState {
    /// The lowest offset that can be read.
    pub(crate) min: u64,
    /// The offset that the next message gets.
    pub(crate) next: u64,
    /// The run with the highest offsets.
    pub(crate) newest: RunRef,
    /// Position of the queue's last entry in the column of `newest`'s segment.
    pub(crate) last_entry: u32,
    topic: u32,
    number: u32,
}

/// All queues, by id and by name. Names are kept once per topic; ids and names live as long as the index.
pub(crate) struct Queues {
    states: Vec<QueueState>,
    by_name: HashTable<QueueId>,
    topics: Vec<Box<str>>,
    by_topic: HashTable<u32>,
    // Names come from clients: a random seed denies them the choice of collisions. Nothing iterates over the tables,
    // so the seed shows in no answer.
    hashes: RandomState,
}

impl Queues {
    pub(crate) fn new() -> Self {
        Self {
            states: Vec::new(),
            by_name: HashTable::new(),
            topics: Vec::new(),
            by_topic: HashTable::new(),
            hashes: RandomState::default(),
        }
    }

    /// The queue of this name, if it was registered.
    pub(crate) fn lookup(&self, topic: &str, number: u32) -> Option<QueueId> {
        let hash = self.hashes.hash_one((topic, number));
        self.by_name.find(hash, |&queue| self.name(queue) == (topic, number)).copied()
    }

    /// The queue of this name, new and empty if there was none.
    pub(crate) fn register(&mut self, topic: &str, number: u32) -> QueueId {
        if let Some(queue) = self.lookup(topic, number) {
            return queue;
        }
        let queue = QueueId(u32::try_from(self.states.len()).expect("there are fewer than 2^32 queues"));
        let topic_id = self.intern(topic);
        self.states.push(QueueState {
            min: 0,
            next: 0,
            newest: RunRef::NONE,
            last_entry: 0,
            topic: topic_id,
            number,
        });
        let Self { states, by_name, topics, hashes, .. } = self;
        by_name.insert_unique(hashes.hash_one((topic, number)), queue, |&QueueId(id)| {
            let state = &states[id as usize];
            hashes.hash_one((&*topics[state.topic as usize], state.number))
        });
        queue
    }

    /// Topic and number under which the queue was registered.
    pub(crate) fn name(&self, queue: QueueId) -> (&str, u32) {
        let state = &self[queue];
        (&self.topics[state.topic as usize], state.number)
    }

    /// All ids, in the order of registration.
    pub(crate) fn ids(&self) -> impl ExactSizeIterator<Item = QueueId> + use<> {
        let end = u32::try_from(self.states.len()).expect("there are fewer than 2^32 queues");
        (0..end).map(QueueId)
    }

    /// Bytes allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        let names: usize = self.topics.iter().map(|topic| topic.len()).sum();
        self.states.capacity() * size_of::<QueueState>()
            + self.by_name.allocation_size()
            + self.topics.capacity() * size_of::<Box<str>>()
            + names
            + self.by_topic.allocation_size()
    }

    fn intern(&mut self, topic: &str) -> u32 {
        let Self { topics, by_topic, hashes, .. } = self;
        let hash = hashes.hash_one(topic);
        if let Some(&id) = by_topic.find(hash, |&id| &*topics[id as usize] == topic) {
            return id;
        }
        let id = u32::try_from(topics.len()).expect("there are fewer than 2^32 topics");
        topics.push(topic.into());
        by_topic.insert_unique(hash, id, |&id| hashes.hash_one(&*topics[id as usize]));
        id
    }
}

/// # Panics
/// When `queue` is of another index.
impl Index<QueueId> for Queues {
    type Output = QueueState;

    fn index(&self, queue: QueueId) -> &QueueState {
        &self.states[queue.0 as usize]
    }
}

/// # Panics
/// When `queue` is of another index.
impl IndexMut<QueueId> for Queues {
    fn index_mut(&mut self, queue: QueueId) -> &mut QueueState {
        &mut self.states[queue.0 as usize]
    }
}

const _: () = assert!(size_of::<QueueState>() == 40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_id() {
        let mut queues = Queues::new();
        let names = [("a", 0), ("a", 1), ("b", 0), ("", 7)];
        for (place, (topic, number)) in names.into_iter().enumerate() {
            assert_eq!(queues.lookup(topic, number), None);
            let id = queues.register(topic, number);
            assert_eq!(id.get() as usize, place);
            assert_eq!((queues.register(topic, number), queues.name(id)), (id, (topic, number)));
        }
        assert_eq!(queues.ids().len(), 4);
        assert_eq!(queues.topics.len(), 3, "a topic's name is kept once");
        assert_eq!(queues.lookup("b", 1), None);
    }
}
