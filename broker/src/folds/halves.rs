//! Which transactions are open.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use skylark_storage::{Kind, PhysicalOffset};

use super::fold::{Event, Fold, FoldError};
use super::kinds::{self, Change};
use super::payload::Payload;

/// The place that a half message took, and what is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfPlace<'a> {
    /// Its number in the queue of half messages.
    pub queue_offset: u64,
    /// Length of its record.
    pub record_bytes: u32,
    /// The group of its producer.
    pub group: &'a str,
    /// How long after it was stored its producer may be asked at the earliest, in seconds; 0 leaves it to the broker.
    pub immunity_s: u32,
}

/// Transactions ended. Behind this record, in one unit with it, comes what consumers get of those that were committed,
/// and what is kept of those that were given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalvesEnded {
    /// Which.
    pub ended: Vec<HalfEnded>,
}

/// A transaction that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfEnded {
    /// Where the half message lay.
    pub at: u64,
    /// How.
    pub outcome: Outcome,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Consumers get the message.
    Committed,
    /// Nobody gets it.
    RolledBack,
    /// Nobody said how, so an operator has to look at it.
    GivenUp,
}

/// The log's beginning is to be trimmed: the messages behind this record, in one unit with it, are those half messages
/// that would go with it, again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalvesCarried {
    /// Where they lay, in the order of their copies.
    pub halves: Vec<u64>,
}

/// Producers are asked how transactions ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalvesChecked {
    /// Where the half messages lie, and how often their producers have been asked, this time included.
    pub checked: Vec<(u64, u32)>,
}

impl Payload for HalvesEnded {
    const KIND: Kind = kinds::HALVES_ENDED;
    const VERSION: u8 = 1;
}

impl Payload for HalvesCarried {
    const KIND: Kind = kinds::HALVES_CARRIED;
    const VERSION: u8 = 1;
}

impl Payload for HalvesChecked {
    const KIND: Kind = kinds::HALVES_CHECKED;
    const VERSION: u8 = 1;
}

/// The half messages of open transactions, by where they lie.
///
/// A half message that was carried forward keeps the name its producer knows, which is where it lay first; it is found
/// by both.
///
/// Invariant: each is opened by its message and ended by one record, so that what a commit brings comes once.
///
/// Memory: 40 bytes for each open transaction, and what a B-tree leaves free, which makes it 80 at most; about 100 more
/// for one that was carried. Nothing of a message's body, nothing for a transaction that has ended; the name of each
/// group with open ones once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halves {
    open: BTreeMap<u64, Half>,
    /// Of those that were carried: what they were called first.
    moved: BTreeMap<u64, Moved>,
    /// The same the other way round.
    origins: BTreeMap<u64, u64>,
    /// Those whose copies follow.
    awaited: VecDeque<u64>,
    groups: Groups,
}

/// What is kept of a half message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Half {
    /// The number it took in its queue at first.
    pub queue_offset: u64,
    /// When it was stored, or its producer was last asked, in milliseconds since 1970.
    pub since_ms: u64,
    /// As in [`HalfPlace`].
    pub immunity_s: u32,
    /// Length of its record.
    pub record_bytes: u32,
    /// How often its producer was asked.
    pub checks: u32,
    group: u32,
}

const _: () = assert!(size_of::<Half>() == 32);

/// What a half message that was carried is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Moved {
    /// Where it lay first.
    origin: u64,
    /// The number its newest copy took.
    queue_offset: u64,
}

/// An open transaction, and where its half message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenHalf {
    /// Where the half message lies.
    pub at: PhysicalOffset,
    /// Where it lay first: so its producer calls it.
    pub origin: PhysicalOffset,
    /// Its number in its queue, where it lies.
    pub queue_offset_here: u64,
    /// What is kept of it.
    pub half: Half,
}

impl OpenHalf {
    /// Whether the half message, called by a place in the log, has this number: at the place it lay first as at the one
    /// where it lies.
    pub fn is_called(&self, place: PhysicalOffset, queue_offset: u64) -> bool {
        (place == self.origin && queue_offset == self.half.queue_offset)
            || (place == self.at && queue_offset == self.queue_offset_here)
    }
}

impl Halves {
    /// How many transactions are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The open transaction whose half message lies at this place, or lay there first.
    pub fn find(&self, place: PhysicalOffset) -> Option<OpenHalf> {
        self.at(place).or_else(|| self.at(PhysicalOffset::new(*self.origins.get(&place.get())?)))
    }

    /// The open transaction whose half message lies here.
    pub fn at(&self, at: PhysicalOffset) -> Option<OpenHalf> {
        let half = *self.open.get(&at.get())?;
        Some(self.named(at.get(), half))
    }

    /// All whose half messages lie at this place or behind it, in order.
    pub fn from(&self, at: PhysicalOffset) -> impl Iterator<Item = OpenHalf> {
        self.open.range(at.get()..).map(|(at, half)| self.named(*at, *half))
    }

    /// The group of a half message's producer.
    pub fn group(&self, half: &Half) -> &str {
        self.groups.name(half.group)
    }

    /// The half message whose copy is the next to come.
    pub fn awaited(&self) -> Option<PhysicalOffset> {
        self.awaited.front().copied().map(PhysicalOffset::new)
    }

    fn named(&self, at: u64, half: Half) -> OpenHalf {
        let moved = self.moved.get(&at).copied();
        let Moved { origin, queue_offset } =
            moved.unwrap_or(Moved { origin: at, queue_offset: half.queue_offset });
        OpenHalf {
            at: PhysicalOffset::new(at),
            origin: PhysicalOffset::new(origin),
            queue_offset_here: queue_offset,
            half,
        }
    }

    fn stored(&mut self, at: u64, stored_at: u64, place: HalfPlace<'_>) {
        let HalfPlace { queue_offset, record_bytes, group, immunity_s } = place;
        let awaited = self.awaited.pop_front();
        let known = awaited.and_then(|from| Some((from, self.open.remove(&from)?)));
        let half = match known {
            Some((from, half)) => {
                let origin = self.moved.remove(&from).map_or(from, |moved| moved.origin);
                self.moved.insert(at, Moved { origin, queue_offset });
                self.origins.insert(origin, at);
                Half { record_bytes, ..half }
            }
            None => {
                let group = self.groups.enter(group);
                Half { queue_offset, since_ms: stored_at, immunity_s, record_bytes, checks: 0, group }
            }
        };
        self.open.insert(at, half);
    }

    fn end(&mut self, at: u64) -> Option<()> {
        let half = self.open.remove(&at)?;
        self.groups.leave(half.group);
        if let Some(moved) = self.moved.remove(&at) {
            self.origins.remove(&moved.origin);
        }
        Some(())
    }
}

impl Fold for Halves {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        let not_open = |half: u64| FoldError::NotOpen { at: event.at, half: PhysicalOffset::new(half) };
        match &event.change {
            Change::Half(place) => self.stored(event.at.get(), event.stored_at, *place),
            Change::HalvesEnded(HalvesEnded { ended }) => {
                for HalfEnded { at, .. } in ended {
                    self.end(*at).ok_or_else(|| not_open(*at))?;
                }
            }
            Change::HalvesCarried(HalvesCarried { halves }) => {
                if let Some(at) = halves.iter().find(|at| !self.open.contains_key(at)) {
                    return Err(not_open(*at));
                }
                self.awaited = halves.iter().copied().collect();
            }
            Change::HalvesChecked(HalvesChecked { checked }) => {
                for (at, checks) in checked {
                    // One that ended while the check was on its way is not asked about.
                    if let Some(half) = self.open.get_mut(at) {
                        (half.checks, half.since_ms) = (*checks, event.stored_at);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The names of groups with open transactions, each under a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Groups {
    known: Vec<Group>,
    numbers: BTreeMap<String, u32>,
    free: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    name: String,
    /// How many transactions it has open; nobody's number at 0.
    open: u64,
}

impl Groups {
    fn enter(&mut self, name: &str) -> u32 {
        let number = match self.numbers.get(name) {
            Some(number) => *number,
            None => {
                let number = self.free.pop().unwrap_or_else(|| {
                    self.known.push(Group::default());
                    u32::try_from(self.known.len() - 1)
                        .expect("there are fewer groups than open transactions")
                });
                self.known[number as usize].name = name.to_owned();
                self.numbers.insert(name.to_owned(), number);
                number
            }
        };
        self.known[number as usize].open += 1;
        number
    }

    fn leave(&mut self, number: u32) {
        let group = &mut self.known[number as usize];
        group.open -= 1;
        if group.open == 0 {
            self.numbers.remove(&group.name);
            group.name = String::new();
            self.free.push(number);
        }
    }

    fn name(&self, number: u32) -> &str {
        &self.known[number as usize].name
    }
}

#[cfg(test)]
mod tests;
