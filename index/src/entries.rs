//! Walking along a queue, in memory.

use crate::directory::RunRef;
use crate::index::{Answer, Entry, Index};
use crate::queue::QueueId;

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// In this segment, in this run.
    pub(crate) run: RunRef,
    /// At this position of the segment's column.
    pub(crate) position: u32,
}

/// Consecutive messages of a queue; see [`Index::entries`]. Follows one link per message, across segments one
/// look-up.
#[derive(Clone)]
pub struct Entries<'a> {
    index: &'a Index,
    queue: QueueId,
    queue_offset: u64,
    /// Where the entry with this offset is, if there is one.
    place: Option<Place>,
    left: usize,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(
        index: &'a Index,
        queue: QueueId,
        queue_offset: u64,
        place: Option<Place>,
        left: usize,
    ) -> Self {
        Self { index, queue, queue_offset, place, left }
    }

    /// Where the entry behind the one at `place` is.
    fn behind(&self, place: Place) -> Option<Place> {
        if let Some(position) = self.index.segment(place.run)?.next(place.position) {
            return Some(Place { run: place.run, position });
        }
        match self.index.locate(self.queue, self.queue_offset) {
            Answer::Known(place) => place,
            Answer::Sealed(_) => None,
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        let place = self.place?;
        let entry = self.index.segment(place.run)?.entry(place.position, self.queue_offset);
        self.queue_offset += 1;
        // Not looked up before it is asked for.
        self.place = if self.left == 0 { None } else { self.behind(place) };
        Some(entry)
    }
}
