//! What is in flight as of the log's appended end.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::hash_map::Entry;
use hashbrown::{Equivalent, HashMap};
use skylark_storage::PhysicalOffset;

use crate::broker::Broker;
use crate::folds::pops::{BatchKey, MessagesPopped, PopQueue, PopsSettled};
use crate::folds::{Change, Event, Fold, Pops};

/// The fold's twin, which runs ahead of it: it has what was appended, the fold what is visible. Volatile; a restart begins
/// with the fold's value at the log's end.
///
/// Invariant: once the folds have applied everything before [`end`](Self::end), both hold the same.
///
/// Memory: as the fold, about 50 bytes more for each batch, and 100 for each queue that a group pops from.
#[derive(Default)]
pub struct Live {
    pops: Pops,
    /// Batches by when they are visible again.
    due: Dues,
    /// The queues that groups pop from, and below which offset nothing is wanted by those who looked.
    places: HashMap<Arc<Place>, u64, RandomState>,
    end: PhysicalOffset,
}

/// A queue that a group pops from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// Who.
    pub group: Box<str>,
    /// The topic, which may be one of retries.
    pub topic: Box<str>,
    /// Number of the queue.
    pub queue: u32,
}

/// A [`Place`] to look up. Both hash the same fields in the same order.
#[derive(Hash)]
struct PlaceRef<'a> {
    group: &'a str,
    topic: &'a str,
    queue: u32,
}

impl Equivalent<Arc<Place>> for PlaceRef<'_> {
    fn equivalent(&self, place: &Arc<Place>) -> bool {
        *self.group == *place.group && *self.topic == *place.topic && self.queue == place.queue
    }
}

/// A batch, and when it is visible again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub(super) visible_at: u64,
    pub(super) key: BatchKey,
    pub(super) place: Arc<Place>,
}

/// Batches by when they are visible again. One that is gone otherwise than by a receipt stays until then.
#[derive(Default)]
struct Dues {
    by_time: BTreeSet<Due>,
    /// How many of them are whose. Nobody has none.
    by_group: HashMap<Box<str>, usize, RandomState>,
}

impl Dues {
    fn insert(&mut self, due: Due) {
        let place = Arc::clone(&due.place);
        if !self.by_time.insert(due) {
            return;
        }
        match self.by_group.get_mut(&place.group) {
            Some(batches) => *batches += 1,
            None => {
                self.by_group.insert(place.group.clone(), 1);
            }
        }
    }

    fn remove(&mut self, due: &Due) {
        if !self.by_time.remove(due) {
            return;
        }
        if let Entry::Occupied(mut batches) = self.by_group.entry(due.place.group.clone()) {
            *batches.get_mut() -= 1;
            if *batches.get() == 0 {
                batches.remove();
            }
        }
    }
}

impl Live {
    /// The state at the log's end, from which on it is changed here first.
    pub(super) fn new(pops: Pops, end: PhysicalOffset) -> Self {
        let mut live = Self { pops: Pops::default(), due: Dues::default(), places: HashMap::default(), end };
        for (group, topic, queue, state) in pops.iter() {
            let place = live.place(group, topic, queue);
            let due = state.due().map(|(visible_at, key)| Due { visible_at, key, place: Arc::clone(&place) });
            due.for_each(|due| live.due.insert(due));
        }
        live.pops = pops;
        live
    }

    /// Behind the last record about what is in flight.
    pub fn end(&self) -> PhysicalOffset {
        self.end
    }

    /// A number to compare with the fold's hash by.
    pub fn hash(&self) -> u64 {
        self.pops.hash()
    }

    /// A queue that a group pops from.
    pub fn queue(&self, group: &str, topic: &str, queue: u32) -> Option<&PopQueue> {
        self.pops.queue(group, topic, queue)
    }

    /// Batches in flight; some of them may be gone already.
    pub fn batches(&self) -> usize {
        self.due.by_time.len()
    }

    /// Those of one group.
    pub fn batches_of(&self, group: &str) -> usize {
        self.due.by_group.get(group).copied().unwrap_or(0)
    }

    /// Where the group's next pop goes on in a queue, if it ever popped there.
    pub fn position(&self, group: &str, topic: &str, queue: u32) -> Option<u64> {
        let popped = self.queue(group, topic, queue).map(PopQueue::next);
        let passed = self.places.get(&PlaceRef { group, topic, queue }).copied();
        popped.max(passed.filter(|passed| *passed > 0))
    }

    /// Those who looked want nothing below this offset. That is not worth a record: it is found out again.
    pub fn pass(&mut self, group: &str, topic: &str, queue: u32, to: u64) {
        let place = self.place(group, topic, queue);
        let passed = self.places.entry(place).or_insert(0);
        *passed = to.max(*passed);
    }

    /// Tells the group's progress how far everything in these queues is done with.
    pub fn commit<'a>(&self, broker: &Broker, group: &str, queues: impl IntoIterator<Item = (&'a str, u32)>) {
        for (topic, queue) in queues {
            let first = self.queue(group, topic, queue).and_then(PopQueue::first_in_flight);
            if let Some(offset) = first.or_else(|| self.position(group, topic, queue)) {
                broker.offsets.lock().commit(group, topic, queue, offset);
            }
        }
    }

    /// Messages were popped, says a record that ends here.
    pub fn popped(&mut self, popped: MessagesPopped, end: PhysicalOffset) {
        for batch in &popped.batches {
            let key = BatchKey { start: batch.offsets.start(), popped_at: popped.popped_at };
            let place = self.place(&popped.group, &batch.topic, batch.queue);
            self.due.insert(Due { visible_at: popped.visible_at, key, place });
        }
        self.apply(Change::MessagesPopped(popped), end);
    }

    /// Messages are done with, or stay invisible for longer, says a record that ends here.
    pub fn settled(&mut self, settled: &PopsSettled, end: PhysicalOffset) {
        let mut concerned = Vec::new();
        for queue in &settled.queues {
            let place = self.place(&settled.group, &queue.topic, queue.queue);
            let Some(state) = self.queue(&settled.group, &queue.topic, queue.queue) else { continue };
            for settled in &queue.settled {
                let Some((offsets, pending)) = state.pending(settled.key) else { continue };
                if let Some(visible_at) = state.visible_at(settled.key) {
                    let due = Due { visible_at, key: settled.key, place: Arc::clone(&place) };
                    concerned.push((due, offsets.clone(), pending & settled.mask, settled.again));
                }
            }
        }
        self.apply(Change::PopsSettled(settled.clone()), end);
        for (due, offsets, taken, again) in concerned {
            let visible_at = |live: &Self, key| {
                live.queue(&due.place.group, &due.place.topic, due.place.queue)?.visible_at(key)
            };
            self.due.remove(&due);
            // What is left of it, and what was taken out of it.
            let taken = (0..offsets.count()).filter(|bit| taken >> bit & 1 == 1);
            let moved = again.map(|again| again.popped_at).into_iter().flat_map(|popped_at| {
                let key = move |start| BatchKey { start, popped_at };
                taken.clone().map(|bit| offsets.at(bit)).map(key)
            });
            for key in std::iter::once(due.key).chain(moved) {
                if let Some(visible_at) = visible_at(self, key) {
                    self.due.insert(Due { visible_at, key, place: Arc::clone(&due.place) });
                }
            }
        }
    }

    /// Groups were moved, or topics or groups deleted, says a record that ends here.
    pub fn changed(&mut self, change: Change<'_>, end: PhysicalOffset) {
        self.apply(change, end);
        let pops = &self.pops;
        self.places.retain(|place, _| pops.queue(&place.group, &place.topic, place.queue).is_some());
    }

    /// The first batch to be visible again.
    pub(super) fn first_due(&self) -> Option<&Due> {
        self.due.by_time.first()
    }

    /// The batches that are visible at this time, in the order in which they became so.
    pub(super) fn due(&self, now_ms: u64) -> impl Iterator<Item = &Due> {
        self.due.by_time.iter().take_while(move |due| due.visible_at <= now_ms)
    }

    /// A batch was found to be gone, or nobody has to do anything about it.
    pub(super) fn forget(&mut self, due: &Due) {
        self.due.remove(due);
    }

    fn apply(&mut self, change: Change<'_>, end: PhysicalOffset) {
        let event = Event { at: end, stored_at: 0, change };
        self.pops.apply(&event).expect("the fold of pops contradicts nothing");
        self.end = end;
    }

    fn place(&mut self, group: &str, topic: &str, queue: u32) -> Arc<Place> {
        if let Some((place, _)) = self.places.get_key_value(&PlaceRef { group, topic, queue }) {
            return Arc::clone(place);
        }
        let place = Arc::new(Place { group: group.into(), topic: topic.into(), queue });
        self.places.insert(Arc::clone(&place), 0);
        place
    }
}
