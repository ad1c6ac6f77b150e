//! The queues of an index: their names, and what holds for each of them across segments.

use std::hash::BuildHasher;
use std::mem::size_of;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::active::{ActiveSegment, NewEntry};
use crate::directory::{Run, RunRef};
use crate::spine::Spine;

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
/// reachable from the newest, and one may begin below `min` and end above it: a head that was set lies between.
pub(crate) struct QueueState {
    /// The lowest offset that can be read.
    pub(crate) min: u64,
    /// The offset that the next message gets.
    pub(crate) next: u64,
    /// The run with the highest offsets, and what the links of the next one are made of.
    pub(crate) spine: Spine,
    /// Position of the queue's last entry in the column of its newest run's segment.
    last_entry: u32,
    topic: u32,
    number: u32,
}

impl QueueState {
    /// Topic, by its place among [`Queues::topics`], and number.
    pub(crate) fn name(&self) -> (u32, u32) {
        (self.topic, self.number)
    }

    /// Adds a message to the queue's run in this segment; opens one where there is none, or where the offset is not
    /// its end.
    pub(crate) fn append(&mut self, queue: QueueId, segment: &mut ActiveSegment, entry: &NewEntry<'_>) {
        let RunRef { segment: number, slot } = self.spine.newest();
        let goes_on = number == segment.number() && segment.run(slot).end() == entry.queue_offset;
        let slot = if goes_on {
            slot
        } else {
            let slot = segment.open_run(Run::new(queue, entry.queue_offset, self.spine.next()));
            self.spine.push(RunRef { segment: segment.number(), slot });
            slot
        };
        self.last_entry = segment.push(slot, self.last_entry, entry);
        self.next = entry.queue_offset + 1;
    }
}

/// All queues, by id and by name, and for each the spine as of the oldest segment's beginning. Names are kept once per topic; ids and names live as long as the index.
pub(crate) struct Queues {
    states: Vec<QueueState>,
    /// By id; as many as there were when something was trimmed last.
    origins: Vec<Spine>,
    by_name: HashTable<QueueId>,
    // Shared, so that a segment on its way to a file takes its names along.
    topics: Vec<Arc<str>>,
    by_topic: HashTable<u32>,
    // Names come from clients: a random seed denies them the choice of collisions. Nothing iterates over the tables,
    // so the seed shows in no answer.
    hashes: RandomState,
}

impl Queues {
    pub(crate) fn new() -> Self {
        Self {
            states: Vec::new(),
            origins: Vec::new(),
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
            spine: Spine::default(),
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

    /// The queue's spine as of the beginning of the oldest segment: what its first runs there are linked to.
    pub(crate) fn origin(&self, queue: QueueId) -> Option<&Spine> {
        self.origins.get(queue.0 as usize).filter(|spine| spine.depth() > 0)
    }

    /// The same, to go on behind what is trimmed.
    pub(crate) fn origin_mut(&mut self, queue: QueueId) -> &mut Spine {
        let place = queue.0 as usize;
        if self.origins.len() <= place {
            self.origins.resize_with(place + 1, Spine::default);
        }
        &mut self.origins[place]
    }

    /// The topics' names.
    pub(crate) fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    /// Bytes allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        let names: usize = self.topics.iter().map(|topic| topic.len() + ARC_BYTES).sum();
        let newest = self.states.iter().map(|state| &state.spine);
        let spines: usize = newest.chain(&self.origins).map(Spine::memory_bytes).sum();
        self.states.capacity() * size_of::<QueueState>()
            + self.origins.capacity() * size_of::<Spine>()
            + self.by_name.allocation_size()
            + self.topics.capacity() * size_of::<Arc<str>>()
            + names
            + spines
            + self.by_topic.allocation_size()
    }

    /// The topic's place among [`topics`](Self::topics).
    pub(crate) fn intern(&mut self, topic: &str) -> u32 {
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

/// What sharing a name costs besides the name.
const ARC_BYTES: usize = 2 * size_of::<usize>();

const _: () = assert!(size_of::<QueueState>() == 64);

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
