//! Walking along a queue.

use crate::directory::RunRef;
use crate::index::{Entry, Index};
use crate::queue::QueueId;

/// A reader's place in a queue. Going on from it follows one link per message, across segments one look-up.
///
/// It borrows nothing, so a consumer can keep it between requests; whatever happens to the index meanwhile, it stays
/// correct, and at worst costs a look-up again.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    queue: QueueId,
    queue_offset: u64,
    /// Where the entry before `queue_offset` was read.
    behind: Option<Place>,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// In this segment, in this run.
    pub(crate) run: RunRef,
    /// At this position of the segment's column.
    pub(crate) position: u32,
}

/// Consecutive messages of a queue; see [`Index::entries`].
#[derive(Clone)]
pub struct Entries<'a> {
    index: &'a Index,
    cursor: Cursor,
    left: usize,
}

impl Cursor {
    /// A place before the message with this offset, which need not exist yet.
    pub const fn new(queue: QueueId, queue_offset: u64) -> Self {
        Self { queue, queue_offset, behind: None }
    }

    /// The queue it walks along.
    pub const fn queue(&self) -> QueueId {
        self.queue
    }

    /// Offset of the message that comes next.
    pub const fn queue_offset(&self) -> u64 {
        self.queue_offset
    }
}

impl Index {
    /// The message at the cursor, which then moves behind it. None, without a move, outside the queue's
    /// [`range`](Self::range): at its end until more is pushed, below its minimum for good.
    pub fn advance(&self, cursor: &mut Cursor) -> Option<Entry> {
        let place = self.next_place(cursor)?;
        let entry = self.segment(place.run)?.entry(place.position, cursor.queue_offset);
        cursor.queue_offset += 1;
        cursor.behind = Some(place);
        Some(entry)
    }

    /// Up to `limit` messages from the cursor on.
    pub fn resume(&self, cursor: Cursor, limit: usize) -> Entries<'_> {
        Entries { index: self, cursor, left: limit }
    }

    fn next_place(&self, cursor: &Cursor) -> Option<Place> {
        if !self.range(cursor.queue).contains(&cursor.queue_offset) {
            return None;
        }
        if let Some(Place { run, position }) = cursor.behind
            && let Some(position) = self.segment(run).and_then(|segment| segment.next(position))
        {
            return Some(Place { run, position });
        }
        self.locate(cursor.queue, cursor.queue_offset)
    }
}

impl Entries<'_> {
    /// The place behind the last message taken, to go on from later.
    pub const fn cursor(&self) -> Cursor {
        self.cursor
    }
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        self.index.advance(&mut self.cursor)
    }
}
