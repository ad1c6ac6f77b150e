//! All queues over all segments.

use std::collections::VecDeque;
use std::ops::Range;

use skylark_storage::PhysicalOffset;

use crate::active::ActiveSegment;
use crate::cursor::{Cursor, Entries, Place};
use crate::directory::{FIRST_SEGMENT, Run, RunRef, jump_depth};
use crate::queue::{QueueId, Queues};

/// What the index knows about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The message's number in its queue.
    pub queue_offset: u64,
    /// Where its record starts in the log, header included.
    pub physical_offset: PhysicalOffset,
    /// Length of the whole record, header included.
    pub record_bytes: u32,
    /// Hash of its tag; filters may collide, clients check again.
    pub tag_hash: i32,
    /// When the message was stored, in milliseconds since 1970.
    pub stored_at: u64,
}

/// Every consume queue of a log, from the oldest segment that was not trimmed to the newest record pushed.
///
/// The owner feeds it in the log's order: [`begin_segment`](Self::begin_segment) for each segment, then
/// [`push`](Self::push) for each message of it. Readers take it by shared reference.
pub struct Index {
    pub(crate) queues: Queues,
    segments: VecDeque<ActiveSegment>,
    /// Number of the front segment; [`RunRef`]s to lower ones are dead.
    oldest_segment: u32,
    /// Time of the newest message; later ones are not earlier.
    stored_at: u64,
}

/// Why a message was not taken. The index is unchanged in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The queue's offsets are dense, and this one is not the next.
    #[error("the queue's next offset is {expected}, the message has {found}")]
    QueueOffset {
        /// Offset behind the queue's last message.
        expected: u64,
        /// The message's.
        found: u64,
    },
    /// The message lies before the newest one, before its segment, or 4 GiB behind its start.
    #[error("a record at {found} cannot follow in the segment at {base}, whose last is at {last}")]
    PhysicalOffset {
        /// First byte of the newest segment.
        base: PhysicalOffset,
        /// Start of its newest record.
        last: PhysicalOffset,
        /// The message's.
        found: PhysicalOffset,
    },
    /// The message was stored before an earlier one or before its segment existed, or 49 days after that.
    #[error(
        "a message stored at {found} ms cannot follow one of {last} ms in a segment created at {created_at} ms"
    )]
    StoredAt {
        /// Creation of the newest segment.
        created_at: u64,
        /// Time of the newest message.
        last: u64,
        /// The message's.
        found: u64,
    },
    /// No segment was begun.
    #[error("no segment was begun")]
    NoSegment,
}

/// Why a segment was not begun. The index is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a segment at {found} cannot follow a record at {last}")]
pub struct SegmentError {
    /// Start of the newest record, or of the newest segment if it is empty.
    pub last: PhysicalOffset,
    /// Where the new segment would start.
    pub found: PhysicalOffset,
}

/// Why a queue's head was not moved. The queue is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue's next offset is {next}; it cannot go back to {found}")]
pub struct HeadError {
    /// Offset behind the queue's last message.
    pub next: u64,
    /// The head that was asked for.
    pub found: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    /// An index without queues or segments.
    pub fn new() -> Self {
        Self { queues: Queues::new(), segments: VecDeque::new(), oldest_segment: FIRST_SEGMENT, stored_at: 0 }
    }

    /// The queue of this name. A new one is empty and starts at offset zero; it stays for the life of the index, so
    /// register what exists, not what a client merely asks for.
    pub fn register(&mut self, topic: &str, queue: u32) -> QueueId {
        self.queues.register(topic, queue)
    }

    /// The queue of this name, if it was registered.
    pub fn lookup(&self, topic: &str, queue: u32) -> Option<QueueId> {
        self.queues.lookup(topic, queue)
    }

    /// Topic and number under which the queue was registered.
    ///
    /// # Panics
    /// Like every method that takes a [`QueueId`]: when it is of another index.
    pub fn name(&self, queue: QueueId) -> (&str, u32) {
        self.queues.name(queue)
    }

    /// All queues, in the order of registration.
    pub fn queues(&self) -> impl ExactSizeIterator<Item = QueueId> + use<> {
        self.queues.ids()
    }

    /// Goes on to the segment whose first byte is `base`. `created_at`, in milliseconds since 1970, is a time at or
    /// before that of its first message, less than 49 days before that of its last.
    ///
    /// # Errors
    /// When the segment does not lie behind the newest record.
    pub fn begin_segment(&mut self, base: PhysicalOffset, created_at: u64) -> Result<(), SegmentError> {
        if let Some(newest) = self.segments.back_mut() {
            if base <= newest.last_record() {
                return Err(SegmentError { last: newest.last_record(), found: base });
            }
            newest.finish();
        }
        self.segments.push_back(ActiveSegment::new(base, created_at));
        Ok(())
    }

    /// First byte of the newest segment.
    pub fn newest_segment(&self) -> Option<PhysicalOffset> {
        self.segments.back().map(ActiveSegment::base)
    }

    /// Adds a message of the newest segment to its queue. Several queues may name the same record.
    ///
    /// # Errors
    /// When the message is not the next one, in its queue or in the log.
    pub fn push(&mut self, queue: QueueId, entry: Entry) -> Result<(), PushError> {
        let newest = self.newest_ordinal();
        let segment = self.segments.back_mut().ok_or(PushError::NoSegment)?;
        let state = &mut self.queues[queue];
        if entry.queue_offset != state.next {
            return Err(PushError::QueueOffset { expected: state.next, found: entry.queue_offset });
        }
        let (base, last) = (segment.base(), segment.last_record());
        let at = entry.physical_offset;
        let record_at = if at < last { None } else { u32::try_from(at.since(base)).ok() };
        let Some(record_at) = record_at else {
            return Err(PushError::PhysicalOffset { base, last, found: at });
        };
        let (created_at, found) = (segment.created_at(), entry.stored_at);
        let delta = if found < self.stored_at { None } else { found.checked_sub(created_at) };
        let Some(stored_at_delta) = delta.and_then(|delta| u32::try_from(delta).ok()) else {
            return Err(PushError::StoredAt { created_at, last: self.stored_at, found });
        };

        if state.newest.segment != newest {
            let (first, previous) = (state.next, state.newest);
            let (depth, jump) = self.behind(previous);
            let run = Run { first, count: 0, first_entry: 0, queue, depth, previous, jump };
            let slot = self.newest_mut().open_run(run);
            self.queues[queue].newest = RunRef { segment: newest, slot };
        }
        let RunRef { slot, .. } = self.queues[queue].newest;
        let last_entry = self.queues[queue].last_entry;
        let position = self.newest_mut().push(slot, last_entry, record_at, stored_at_delta, &entry);
        let state = &mut self.queues[queue];
        (state.last_entry, state.next) = (position, state.next + 1);
        self.stored_at = entry.stored_at;
        Ok(())
    }

    /// The offsets that can be read: from the minimum up to, but not including, the next message's.
    pub fn range(&self, queue: QueueId) -> Range<u64> {
        let state = &self.queues[queue];
        state.min..state.next
    }

    /// The message with this offset; none outside [`range`](Self::range).
    pub fn entry(&self, queue: QueueId, queue_offset: u64) -> Option<Entry> {
        let Place { run, position } = self.locate(queue, queue_offset)?;
        Some(self.segment(run)?.entry(position, queue_offset))
    }

    /// Up to `limit` messages from offset `from` on; none if it lies outside [`range`](Self::range).
    pub fn entries(&self, queue: QueueId, from: u64, limit: usize) -> Entries<'_> {
        self.resume(Cursor::new(queue, from), limit)
    }

    /// Makes the queue go on at offset `next`, and hides what it held before: minimum and next are then both `next`.
    /// For a queue that starts above zero, and, with its present next offset, for a topic that was deleted.
    ///
    /// # Errors
    /// When `next` is below the queue's next offset: offsets are never given twice.
    pub fn set_head(&mut self, queue: QueueId, next: u64) -> Result<(), HeadError> {
        let newest = self.newest_ordinal();
        let state = &mut self.queues[queue];
        if next < state.next {
            return Err(HeadError { next: state.next, found: next });
        }
        (state.min, state.next) = (next, next);
        let RunRef { segment, slot } = state.newest;
        if segment == newest
            && let Some(active) = self.segments.back_mut()
        {
            active.restart_run(slot, next);
        }
        Ok(())
    }

    /// Drops the segments that start before `base`, the newest excepted. Minima rise to the first message that is
    /// left; a queue whose last message goes keeps its next offset, and its minimum becomes the same.
    pub fn trim(&mut self, base: PhysicalOffset) {
        while self.segments.len() > 1
            && let Some(segment) = self.segments.pop_front_if(|segment| segment.base() < base)
        {
            self.oldest_segment += 1;
            for run in segment.runs() {
                let state = &mut self.queues[run.queue];
                state.min = state.min.max(run.end());
            }
        }
    }

    /// When the oldest message was stored, in milliseconds since 1970.
    pub fn earliest(&self) -> Option<u64> {
        self.segments.iter().find(|segment| segment.len() > 0).map(|segment| segment.stored_at(0))
    }

    /// How many messages of all queues there are, hidden ones included.
    pub fn entry_count(&self) -> usize {
        self.segments.iter().map(ActiveSegment::len).sum()
    }

    /// Bytes allocated, but for the allocator's own.
    pub fn memory_bytes(&self) -> usize {
        let segments: usize = self.segments.iter().map(ActiveSegment::memory_bytes).sum();
        segments + self.segments.capacity() * size_of::<ActiveSegment>() + self.queues.memory_bytes()
    }

    /// Where the entry with this offset is.
    pub(crate) fn locate(&self, queue: QueueId, queue_offset: u64) -> Option<Place> {
        let state = &self.queues[queue];
        if !(state.min..state.next).contains(&queue_offset) {
            return None;
        }
        // The newest run that begins at or below the offset, by the longest jumps that stay above it.
        let mut at = state.newest;
        loop {
            let run = self.run(at)?;
            if run.first <= queue_offset {
                let position = self.segment(at)?.seek(at.slot, queue_offset);
                return Some(Place { run: at, position });
            }
            let far = self.run(run.jump).is_some_and(|jump| jump.first > queue_offset);
            at = if far { run.jump } else { run.previous };
        }
    }

    /// The segment a run is in, unless it was trimmed.
    pub(crate) fn segment(&self, run: RunRef) -> Option<&ActiveSegment> {
        self.segments.get(run.segment.checked_sub(self.oldest_segment)? as usize)
    }

    /// The run itself, unless it was trimmed.
    pub(crate) fn run(&self, run: RunRef) -> Option<&Run> {
        Some(self.segment(run)?.run(run.slot))
    }

    /// Depth and jump of a run that follows `previous`.
    fn behind(&self, previous: RunRef) -> (u32, RunRef) {
        let Some(run) = self.run(previous) else {
            // Nothing older can be reached, so the list may as well begin here.
            return (1, RunRef::NONE);
        };
        let depth = run.depth + 1;
        if jump_depth(depth) == run.depth {
            return (depth, previous);
        }
        // A jump into trimmed segments leads nowhere, as does every jump from there.
        (depth, self.run(run.jump).map_or(RunRef::NONE, |jump| jump.jump))
    }

    /// Number of the newest segment; one below the oldest if there is none.
    fn newest_ordinal(&self) -> u32 {
        let segments = u32::try_from(self.segments.len()).expect("there are fewer than 2^32 segments");
        self.oldest_segment + segments - 1
    }

    fn newest_mut(&mut self) -> &mut ActiveSegment {
        self.segments.back_mut().expect("a segment was begun before anything was pushed")
    }
}

#[cfg(test)]
mod tests;
