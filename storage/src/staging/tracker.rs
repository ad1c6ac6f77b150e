//! Tells loom who touches which bytes of a chunk, so that it finds two accesses that nothing orders.

use loom::cell::UnsafeCell;

/// Slots begin and end at multiples of this.
const GRAIN: usize = 8;

pub(super) struct Tracker(Vec<UnsafeCell<()>>);

impl Tracker {
    pub(super) fn new(bytes: usize) -> Self {
        Self((0..bytes.div_ceil(GRAIN)).map(|_| UnsafeCell::new(())).collect())
    }

    /// Somebody begins to write these bytes.
    pub(super) fn write(&self, from: usize, bytes: usize) {
        self.0[from / GRAIN..(from + bytes).div_ceil(GRAIN)].iter().for_each(|cell| cell.with_mut(|_| ()));
    }

    /// Somebody reads everything below `end`.
    pub(super) fn read(&self, end: usize) {
        self.0[..end.div_ceil(GRAIN)].iter().for_each(|cell| cell.with(|_| ()));
    }
}
