//! The timers of a segment in memory, by when they are due.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::mem::size_of;
use std::slice;
use std::vec;

/// A timer's place in the order: when it is due, in milliseconds since 1970, then its number among the segment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due {
    pub(crate) ms: u64,
    pub(crate) position: u32,
}

/// A segment's timers in the order in which they are due, though they come in the log's.
///
/// The newest are kept as they came. So many of them as fill a run are sorted together and put aside, and whoever asks
/// merges the runs: a push costs its share of sorting what fits into the processor's cache, where a tree of all would
/// cost a way down through memory, under the lock that readers wait for. A segment has some hundred runs at most.
pub(crate) struct DueOrder {
    /// Each ascending and not empty.
    runs: Vec<Box<[Due]>>,
    newest: Vec<Due>,
}

impl DueOrder {
    pub(crate) const fn new() -> Self {
        Self { runs: Vec::new(), newest: Vec::new() }
    }

    /// Adds a timer, whose position is higher than those before.
    pub(crate) fn push(&mut self, due: Due) {
        if self.newest.capacity() == 0 && !self.runs.is_empty() {
            self.newest.reserve_exact(RUN);
        }
        self.newest.push(due);
        if self.newest.len() == RUN {
            self.put_aside();
        }
    }

    /// Nothing more will be pushed. Gives unused memory back.
    pub(crate) fn finish(&mut self) {
        if !self.newest.is_empty() {
            self.put_aside();
        }
        self.runs.shrink_to_fit();
    }

    fn put_aside(&mut self) {
        let mut run = std::mem::take(&mut self.newest).into_boxed_slice();
        run.sort_unstable();
        self.runs.push(run);
    }

    /// When the first one is due, and the last.
    pub(crate) fn bounds(&self) -> Option<(u64, u64)> {
        let runs = self.runs.iter().filter_map(|run| Some((run.first()?.ms, run.last()?.ms)));
        let newest = self.newest.iter().map(|due| (due.ms, due.ms));
        runs.chain(newest).reduce(|(low, high), (first, last)| (low.min(first), high.max(last)))
    }

    /// The first `limit` timers that are not before `from`, ascending.
    pub(crate) fn first(&self, from: Due, limit: usize) -> impl Iterator<Item = Due> {
        let mut newest: Vec<Due> = self.newest.iter().filter(|due| **due >= from).copied().collect();
        if limit < newest.len() {
            newest.select_nth_unstable(limit);
            newest.truncate(limit);
        }
        newest.sort_unstable();
        let rests = self.runs.iter().map(|run| run[run.partition_point(|due| *due < from)..].iter());
        let heads = rests.filter_map(|mut rest| Some(Reverse(Head { next: *rest.next()?, rest }))).collect();
        Merged { heads, newest: newest.into_iter() }.take(limit)
    }

    /// Bytes allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        let runs: usize = self.runs.iter().map(|run| run.len()).sum();
        (runs + self.newest.capacity()) * size_of::<Due>() + self.runs.capacity() * size_of::<Box<[Due]>>()
    }
}

/// What is left of a run.
struct Head<'a> {
    next: Due,
    rest: slice::Iter<'a, Due>,
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.next == other.next
    }
}

impl Eq for Head<'_> {}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.next.cmp(&other.next)
    }
}

/// Ascending sequences as one.
struct Merged<'a> {
    heads: BinaryHeap<Reverse<Head<'a>>>,
    newest: vec::IntoIter<Due>,
}

impl Iterator for Merged<'_> {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        let Some(mut lowest) = self.heads.peek_mut() else { return self.newest.next() };
        if self.newest.as_slice().first().is_some_and(|newest| *newest < lowest.0.next) {
            return self.newest.next();
        }
        let found = lowest.0.next;
        match lowest.0.rest.next() {
            Some(next) => lowest.0.next = *next,
            None => drop(PeekMut::pop(lowest)),
        }
        Some(found)
    }
}

/// Timers of a run: 64 KiB, which are sorted in less time than a group is flushed.
const RUN: usize = 4096;

const _: () = assert!(size_of::<Due>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    /// Due times in no order, many of them equal.
    fn filled(count: u32) -> (DueOrder, Vec<Due>) {
        let mut order = DueOrder::new();
        let due = |position: u32| Due { ms: u64::from(position.wrapping_mul(0x9e37_79b9) >> 20), position };
        let mut all: Vec<Due> = (0..count).map(due).collect();
        all.iter().for_each(|due| order.push(*due));
        all.sort_unstable();
        (order, all)
    }

    fn first(order: &DueOrder, from: Due, limit: usize) -> Vec<Due> {
        order.first(from, limit).collect()
    }

    #[test]
    fn timers_come_in_their_order_from_anywhere() {
        let run = u32::try_from(RUN).unwrap();
        for count in [0, 1, 7, run - 1, run, run + 1, 3 * run, 3 * run + 500] {
            let (mut order, all) = filled(count);
            for finished in [false, true] {
                assert_eq!(first(&order, Due { ms: 0, position: 0 }, usize::MAX), all);
                for from in all.iter().step_by(997) {
                    let at = all.binary_search(from).unwrap();
                    for limit in [0, 1, 100, RUN] {
                        let expected = &all[at..all.len().min(at + limit)];
                        assert_eq!(first(&order, *from, limit), expected, "{count} {finished} {from:?}");
                    }
                }
                let bounds = all.first().and_then(|first| Some((first.ms, all.last()?.ms)));
                assert_eq!(order.bounds(), bounds);
                order.finish();
            }
        }
    }

    #[test]
    fn little_memory_is_unused() {
        let (mut order, all) = filled(10 * u32::try_from(RUN).unwrap() + 1);
        assert!(order.memory_bytes() < (all.len() + RUN) * 16 + 512);
        order.finish();
        assert!(order.memory_bytes() < all.len() * 16 + 512);
    }
}
