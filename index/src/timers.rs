//! Messages by the time at which they are due.

use std::collections::BinaryHeap;
use std::ops::Range;

use skylark_storage::PhysicalOffset;

use crate::active::ActiveSegment;
use crate::due::Due;
use crate::index::Index;

/// The order in which timers fire: by due time, then by position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey {
    /// When it is due, in milliseconds since 1970.
    pub due: u64,
    /// Where its record starts in the log.
    pub at: PhysicalOffset,
}

/// A message that is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// When it is due, and where it lies.
    pub key: TimerKey,
    /// Length of the whole record, header included.
    pub record_bytes: u32,
}

/// A timer, as a segment in memory keeps it.
#[derive(Clone, Copy)]
pub(crate) struct TimerSlot {
    pub(crate) due: u64,
    /// Where the record starts, from the segment's first byte.
    pub(crate) record_at: u32,
    pub(crate) record_bytes: u32,
}

impl Index {
    /// The first `limit` timers behind `after` that are due at `until_due` or earlier, ascending; of those segments
    /// only whose index is in memory. [`sealed`](Self::sealed) answers for the older ones.
    pub fn timers(&self, after: TimerKey, until_due: u64, limit: usize) -> Vec<Timer> {
        let mut first = First::new(limit);
        if after.due > until_due {
            return Vec::new();
        }
        for segment in self.memory() {
            // Of those that are due with `after`, the ones behind it.
            let passed =
                segment.timers.partition_point(|slot| slot.resolve(segment.base()).key.at <= after.at);
            let from = Due { ms: after.due, position: u32::try_from(passed).unwrap_or(u32::MAX) };
            let behind = segment.due.first(from, limit).take_while(|due| due.ms <= until_due);
            for due in behind {
                if !first.offer(segment.timer(due.position)) {
                    break;
                }
            }
        }
        first.into_sorted()
    }

    /// The timer with this key, if there is one; of those segments only whose index is in memory.
    pub fn timer(&self, key: TimerKey) -> Option<Timer> {
        let segment = self.memory().rfind(|segment| segment.base() <= key.at)?;
        let place = segment.timers_before(key.at);
        let timer =
            (place < segment.timers.len()).then(|| segment.timer(u32::try_from(place).unwrap_or(u32::MAX)));
        timer.filter(|timer| timer.key == key)
    }

    /// The first `limit` timers of records within `places` whose keys are at or below `until`, in the order of their
    /// records; of those segments only whose index is in memory.
    pub fn late_timers(&self, places: Range<PhysicalOffset>, until: TimerKey, limit: usize) -> Vec<Timer> {
        let behind = self.memory().flat_map(|segment| {
            let start = segment.timers_before(places.start);
            (start..segment.timers.len()).map(|n| segment.timer(u32::try_from(n).unwrap_or(u32::MAX)))
        });
        let within = behind.take_while(|timer| timer.key.at < places.end);
        within.filter(|timer| timer.key <= until).take(limit).collect()
    }
}

impl ActiveSegment {
    fn timer(&self, position: u32) -> Timer {
        self.timers.at(position).resolve(self.base())
    }

    /// How many timers lie before `from`.
    fn timers_before(&self, from: PhysicalOffset) -> usize {
        self.timers.partition_point(|slot| self.base().advance(u64::from(slot.record_at)) < from)
    }
}

impl TimerSlot {
    /// The timer, of a segment at `base`.
    pub(crate) fn resolve(self, base: PhysicalOffset) -> Timer {
        let at = base.advance(u64::from(self.record_at));
        Timer { key: TimerKey { due: self.due, at }, record_bytes: self.record_bytes }
    }
}

/// The lowest timers of several ascending sequences.
pub(crate) struct First {
    limit: usize,
    /// The highest one on top.
    heap: BinaryHeap<Timer>,
}

impl First {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::new() }
    }

    /// Takes a timer if it is among the lowest so far. If not, none behind it in its sequence is.
    pub(crate) fn offer(&mut self, timer: Timer) -> bool {
        if self.heap.len() >= self.limit {
            if self.heap.peek().is_none_or(|highest| *highest <= timer) {
                return false;
            }
            self.heap.pop();
        }
        self.heap.push(timer);
        true
    }

    /// Those that were taken, ascending.
    pub(crate) fn into_sorted(self) -> Vec<Timer> {
        self.heap.into_sorted_vec()
    }
}
