//! Which messages were popped, and by when they have to be acknowledged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skylark_storage::Kind;

use super::fold::{Event, Fold, FoldError};
use super::groups::GroupDeleted;
use super::kinds::{self, Change};
use super::offsets::OffsetsReset;
use super::payload::Payload;
use super::topics::TopicDeleted;

use order::Order;

mod order;

/// Messages of a queue in one batch, at most: as many as a pop may ask for, and bits of a mask.
pub const BATCH_MAX: usize = 32;

/// A group popped messages: it alone has to do with them until they are acknowledged, or visible again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagesPopped {
    /// Who.
    pub group: String,
    /// By which attempt, if the group consumes in order.
    pub attempt: Option<String>,
    /// When, in milliseconds since 1970.
    pub popped_at: u64,
    /// When they are visible again, in milliseconds since 1970.
    pub visible_at: u64,
    /// What, by queue.
    pub batches: Vec<PoppedBatch>,
}

/// What was popped of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoppedBatch {
    /// The topic, which may be one of retries.
    pub topic: String,
    /// Number of the queue.
    pub queue: u32,
    /// Which messages.
    pub offsets: Offsets,
    /// Where the next pop goes on.
    pub next: u64,
}

/// Up to [`BATCH_MAX`] offsets of a queue, ascending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    start: u64,
    count: u8,
    /// Of each but the first, how far it lies behind the first. Empty if they follow each other without a gap.
    behind: Box<[u32]>,
}

impl Offsets {
    /// These offsets, of which there is one at least.
    ///
    /// # Panics
    /// When there is none, there are too many, or one does not follow the one before it by at most 2³² - 1 from the
    /// first.
    pub fn new(offsets: &[u64]) -> Self {
        assert!((1..=BATCH_MAX).contains(&offsets.len()), "a batch has 1 to {BATCH_MAX} messages");
        assert!(offsets.is_sorted_by(|a, b| a < b), "offsets ascend");
        let start = offsets[0];
        let count = offsets.len() as u64;
        let is_dense = offsets[offsets.len() - 1] - start == count - 1;
        let behind = if is_dense { &[] } else { &offsets[1..] };
        let behind =
            behind.iter().map(|offset| u32::try_from(offset - start).expect("a batch lies close together"));
        Self { start, behind: behind.collect(), count: u8::try_from(count).expect("32 fit") }
    }

    /// The first.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The offset of a bit of a mask.
    pub fn at(&self, bit: usize) -> u64 {
        match bit.checked_sub(1) {
            None => self.start,
            Some(_) if self.behind.is_empty() => self.start + bit as u64,
            Some(further) => self.start + u64::from(self.behind.get(further).copied().unwrap_or(u32::MAX)),
        }
    }

    /// The bit of an offset, if it is one of them.
    pub fn bit(&self, offset: u64) -> Option<usize> {
        (0..self.count()).find(|&bit| self.at(bit) == offset)
    }

    /// All of them, by bit.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.count()).map(|bit| self.at(bit))
    }

    /// A mask with a bit for each.
    pub fn mask(&self) -> u32 {
        u32::MAX >> (BATCH_MAX - self.count())
    }

    /// Whether what came from outside holds together.
    fn is_sound(&self) -> bool {
        (1..=BATCH_MAX).contains(&self.count())
            && (self.behind.is_empty() || self.behind.len() + 1 == self.count())
            && self.start.checked_add(u64::from(u32::MAX)).is_some()
    }
}

/// Popped messages were acknowledged, are to stay invisible for longer, or were given up; in one unit with messages of
/// a retry topic, those are what was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PopsSettled {
    /// Whose.
    pub group: String,
    /// What, by queue.
    pub queues: Vec<SettledQueue>,
}

/// What became of messages of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledQueue {
    /// The topic, which may be one of retries.
    pub topic: String,
    /// Number of the queue.
    pub queue: u32,
    /// By batch.
    pub settled: Vec<Settled>,
}

/// What became of messages of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The batch.
    pub key: BatchKey,
    /// Which of its messages.
    pub mask: u32,
    /// They stay in flight, under these times. Absent if they are done with.
    pub again: Option<Again>,
}

/// The times of messages that stay invisible for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// As if popped then, in milliseconds since 1970.
    pub popped_at: u64,
    /// Visible then, in milliseconds since 1970.
    pub visible_at: u64,
}

impl Payload for MessagesPopped {
    const KIND: Kind = kinds::MESSAGES_POPPED;
    const VERSION: u8 = 1;
}

impl Payload for PopsSettled {
    const KIND: Kind = kinds::POPS_SETTLED;
    const VERSION: u8 = 1;
}

/// Names a batch within its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchKey {
    /// Offset of its first message.
    pub start: u64,
    /// When it was popped, in milliseconds since 1970.
    pub popped_at: u64,
}

/// Messages popped together that nobody has acknowledged yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// When they are visible again, in milliseconds since 1970.
    pub visible_at: u64,
    /// What was popped.
    pub offsets: Offsets,
    /// Those that are still in flight.
    pub pending: u32,
}

impl Batch {
    fn first_pending(&self) -> u64 {
        self.offsets.at(self.pending.trailing_zeros() as usize)
    }
}

/// A queue that a group pops from.
///
/// Invariant: no offset is in flight twice, and a batch without pending messages is gone. All of them lie below `next`, but
/// for those of a group that consumes in order: there `next` is where the last batch is not acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PopQueue {
    next: u64,
    batches: BTreeMap<BatchKey, Batch>,
    in_flight: u64,
    order: Option<Box<Order>>,
}

impl PopQueue {
    /// The first offset that was never popped, nor passed over for what was.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Messages in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// A batch, while messages of it are in flight.
    pub fn batch(&self, key: BatchKey) -> Option<&Batch> {
        self.batches.get(&key)
    }

    /// What was popped in a batch, and the mask of what is not acknowledged; none if all of it is, or there is no such batch.
    pub fn pending(&self, key: BatchKey) -> Option<(&Offsets, u32)> {
        let order = self.order().filter(|order| order.key() == key && order.unacked() != 0);
        let ordered = order.map(|order| (order.offsets(), order.unacked()));
        ordered.or_else(|| self.batch(key).map(|batch| (&batch.offsets, batch.pending)))
    }

    /// When a batch is visible again, while something of it is not acknowledged.
    pub fn visible_at(&self, key: BatchKey) -> Option<u64> {
        let order = self.order().filter(|order| order.key() == key);
        order.map_or_else(|| self.batch(key).map(|batch| batch.visible_at), Order::blocked_until)
    }

    /// All batches with when they are visible again.
    pub fn due(&self) -> impl Iterator<Item = (u64, BatchKey)> {
        let ordered = self.order().and_then(|order| Some((order.blocked_until()?, order.key())));
        let batches = self.batches.iter().map(|(key, batch)| (batch.visible_at, *key));
        ordered.into_iter().chain(batches)
    }

    /// What a group that consumes in order has popped last.
    pub fn order(&self) -> Option<&Order> {
        self.order.as_deref()
    }

    /// The lowest offset that is in flight: everything below is done with, unless it was never popped.
    pub fn first_in_flight(&self) -> Option<u64> {
        let mut first: Option<u64> = None;
        // Batches come by their start, and one may lie among another's offsets.
        for (key, batch) in &self.batches {
            if first.is_some_and(|first| first <= key.start) {
                break;
            }
            let own = batch.first_pending();
            first = Some(first.map_or(own, |first| first.min(own)));
        }
        first
    }

    fn pop(&mut self, key: BatchKey, batch: Batch, next: u64) {
        self.next = self.next.max(next);
        self.in_flight += u64::from(batch.pending.count_ones());
        self.batches.insert(key, batch);
    }

    fn settle(&mut self, settled: &Settled) {
        let Settled { key, mask, again } = *settled;
        if let Some(order) = self.order.as_mut().filter(|order| order.key() == key) {
            order.settle(settled);
            self.next = order.next();
            return;
        }
        let Some(batch) = self.batches.get_mut(&key) else { return };
        let taken = batch.pending & mask;
        batch.pending &= !mask;
        self.in_flight -= u64::from(taken.count_ones());
        let moved: Vec<u64> = match again {
            Some(_) => {
                (0..BATCH_MAX).filter(|bit| taken >> bit & 1 == 1).map(|bit| batch.offsets.at(bit)).collect()
            }
            None => Vec::new(),
        };
        if batch.pending == 0 {
            self.batches.remove(&key);
        }
        if let Some(Again { popped_at, visible_at }) = again {
            for offset in moved {
                let offsets = Offsets::new(&[offset]);
                let batch = Batch { visible_at, pending: offsets.mask(), offsets };
                self.pop(BatchKey { start: offset, popped_at }, batch, 0);
            }
        }
    }
}

/// The messages in flight, by group, topic and queue.
///
/// Memory: for each batch about 100 bytes, and 4 for each message of one with gaps; so 3 to 7 bytes for a message in
/// batches of 32, and 100 for one that was popped alone or whose time was changed. Beside that 90 bytes for each
/// queue that a group has popped from, and the names of group and topic once for each pair. Deleting a topic or a
/// group gives it back. How many batches there may be is decided where messages are popped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pops {
    groups: BTreeMap<String, BTreeMap<String, BTreeMap<u32, PopQueue>>>,
}

impl Pops {
    /// A queue that the group pops from.
    pub fn queue(&self, group: &str, topic: &str, queue: u32) -> Option<&PopQueue> {
        self.groups.get(group)?.get(topic)?.get(&queue)
    }

    /// All queues, sorted: group, topic, number and state.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u32, &PopQueue)> {
        self.groups.iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, queues)| {
                queues.iter().map(move |(&queue, state)| (group.as_str(), topic.as_str(), queue, state))
            })
        })
    }

    fn pop(&mut self, popped: &MessagesPopped) {
        let MessagesPopped { group, attempt, popped_at, visible_at, batches } = popped;
        let topics = entry(&mut self.groups, group);
        for PoppedBatch { topic, queue, offsets, next } in batches {
            if !offsets.is_sound() {
                continue;
            }
            let state = entry(topics, topic).entry(*queue).or_default();
            let key = BatchKey { start: offsets.start(), popped_at: *popped_at };
            if let Some(attempt) = attempt {
                let earlier = state.order.take();
                let order = Order::new(attempt, key, *visible_at, offsets.clone(), earlier.as_deref());
                state.next = order.next();
                state.order = Some(Box::new(order));
                continue;
            }
            // Who pops without order after all does not wait for what was popped in order.
            state.order = None;
            let pending = offsets.mask();
            state.pop(key, Batch { visible_at: *visible_at, offsets: offsets.clone(), pending }, *next);
        }
    }

    fn settle(&mut self, settled: &PopsSettled) {
        let Some(topics) = self.groups.get_mut(&settled.group) else { return };
        for SettledQueue { topic, queue, settled } in &settled.queues {
            let Some(state) = topics.get_mut(topic).and_then(|queues| queues.get_mut(queue)) else {
                continue;
            };
            settled.iter().for_each(|settled| state.settle(settled));
        }
    }
}

impl Fold for Pops {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        match &event.change {
            Change::MessagesPopped(popped) => self.pop(popped),
            Change::PopsSettled(settled) => self.settle(settled),
            // The group goes on there, and has nothing to do with what it had popped.
            Change::OffsetsReset(OffsetsReset { group, topic, offsets }) => {
                let queues = self.groups.get_mut(group).and_then(|topics| topics.get_mut(topic));
                if let Some(queues) = queues {
                    offsets.iter().for_each(|(queue, _)| drop(queues.remove(queue)));
                }
                self.tidy(group);
            }
            Change::TopicDeleted(TopicDeleted { topic }) => {
                self.groups.retain(|_, topics| {
                    topics.remove(topic);
                    !topics.is_empty()
                });
            }
            Change::GroupDeleted(GroupDeleted { group, .. }) => drop(self.groups.remove(group)),
            _ => {}
        }
        Ok(())
    }
}

impl Pops {
    /// Keeps no empty tables of a group.
    fn tidy(&mut self, group: &str) {
        let Some(topics) = self.groups.get_mut(group) else { return };
        topics.retain(|_, queues| !queues.is_empty());
        if topics.is_empty() {
            self.groups.remove(group);
        }
    }
}

fn entry<'a, V: Default>(map: &'a mut BTreeMap<String, V>, key: &str) -> &'a mut V {
    if !map.contains_key(key) {
        map.insert(key.to_owned(), V::default());
    }
    map.get_mut(key).expect("the key was inserted above")
}

#[cfg(test)]
mod tests;
