//! All queues over all segments.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use skylark_storage::PhysicalOffset;

use crate::active::ActiveSegment;
use crate::directory::{FIRST_SEGMENT, Run, RunRef};
use crate::entries::{Entries, Place};
use crate::queue::{QueueId, QueueState, Queues};
use crate::rebuild::Basis;
use crate::sealed::{SealedQueue, SealedSegments};
use crate::way::Way;

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

/// By what else a message is to be found. Nothing, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras<'a> {
    /// Hashes of its keys; see [`key_hash`](crate::key_hash).
    pub keys: &'a [u32],
    /// When it is due, in milliseconds since 1970, if it is a timer. Of a record that several queues name, give it
    /// with one of them.
    pub due: Option<u64>,
}

/// What a question about a queue leads to.
pub enum Answer<T> {
    /// The answer, from memory.
    Known(T),
    /// The answer is in files: ask the same question of this view, on a thread that may wait for the disk.
    Sealed(SealedQueue),
}

/// Every consume queue of a log, from the oldest segment that was not trimmed to the newest record pushed.
///
/// The owner feeds it in the log's order: [`begin_segment`](Self::begin_segment) for each segment, those without
/// messages too, then [`push`](Self::push) for each message of it. What is finished goes to files in the background:
/// [`unsealed`](Self::unsealed), then [`attach`](Self::attach). Readers take the index by shared reference, and no
/// method that does so waits for the disk.
pub struct Index {
    pub(crate) queues: Queues,
    /// The oldest segments, whose indexes are in files, or should be.
    pub(crate) sealed: SealedSegments,
    /// Those that follow and still wait to be written.
    pub(crate) finished: VecDeque<Arc<ActiveSegment>>,
    /// The newest.
    pub(crate) active: Option<ActiveSegment>,
    /// Time of the newest message; later ones are not earlier.
    pub(crate) stored_at: u64,
    /// What minima and origins are as of.
    pub(crate) origin: Origin,
    /// What the next file that is built anew can be built on.
    pub(crate) basis: Option<Basis>,
}

/// The segment at whose beginning each queue's minimum and origin are what they are told to be.
///
/// It is the oldest segment, save after a restart that found neither the trimmed segments' files nor a way to do
/// without: then minima are too low until [`Index::trim_plan`] has made up for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) number: u32,
    pub(crate) base: PhysicalOffset,
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
    /// The message lies before the newest one, before its segment, behind its end, or 4 GiB behind its start.
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
    /// An index without queues or segments, for a log from its beginning.
    pub fn new() -> Self {
        Self {
            queues: Queues::new(),
            sealed: SealedSegments::new(FIRST_SEGMENT, PhysicalOffset::ZERO),
            finished: VecDeque::new(),
            active: None,
            stored_at: 0,
            origin: Origin { number: FIRST_SEGMENT, base: PhysicalOffset::ZERO },
            basis: None,
        }
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

    /// Goes on to the segment whose first byte is `base`, which is where the one before ends. `created_at`, in
    /// milliseconds since 1970, is a time at or before that of its first message, less than 49 days before that of
    /// its last.
    ///
    /// # Errors
    /// When the segment does not lie behind the newest record.
    pub fn begin_segment(&mut self, base: PhysicalOffset, created_at: u64) -> Result<(), SegmentError> {
        let number = self.next_number();
        match self.active.take() {
            Some(newest) if base <= newest.last_record() => {
                let last = newest.last_record();
                self.active = Some(newest);
                return Err(SegmentError { last, found: base });
            }
            Some(mut newest) => {
                newest.finish(base);
                self.finished.push_back(Arc::new(newest));
            }
            None if base < self.sealed.end() => {
                return Err(SegmentError { last: self.sealed.end(), found: base });
            }
            None => {}
        }
        self.active = Some(ActiveSegment::new(number, base, created_at));
        Ok(())
    }

    /// First byte of the newest segment that was begun.
    pub fn newest_segment(&self) -> Option<PhysicalOffset> {
        self.active.as_ref().map(ActiveSegment::base)
    }

    /// Adds a message of the newest segment to its queue. Several queues may name the same record.
    ///
    /// # Errors
    /// When the message is not the next one, in its queue or in the log.
    pub fn push(&mut self, queue: QueueId, entry: Entry, extras: Extras<'_>) -> Result<(), PushError> {
        let segment = self.active.as_mut().ok_or(PushError::NoSegment)?;
        let state = &mut self.queues[queue];
        if entry.queue_offset != state.next {
            return Err(PushError::QueueOffset { expected: state.next, found: entry.queue_offset });
        }
        let checked = segment.check(self.stored_at, &entry, extras)?;
        state.append(queue, segment, &checked);
        self.stored_at = entry.stored_at;
        Ok(())
    }

    /// The offsets that can be read: from the minimum up to, but not including, the next message's.
    pub fn range(&self, queue: QueueId) -> Range<u64> {
        let state = &self.queues[queue];
        state.min..state.next
    }

    /// The message with this offset; none outside [`range`](Self::range).
    pub fn entry(&self, queue: QueueId, queue_offset: u64) -> Answer<Option<Entry>> {
        self.locate(queue, queue_offset).map(|place| {
            let Place { run, position } = place?;
            Some(self.segment(run)?.entry(position, queue_offset))
        })
    }

    /// Up to `limit` messages from offset `from` on; none if it lies outside [`range`](Self::range).
    pub fn entries(&self, queue: QueueId, from: u64, limit: usize) -> Answer<Entries<'_>> {
        self.locate(queue, from).map(|place| Entries::new(self, queue, from, place, limit))
    }

    /// Makes the queue go on at offset `next`, and hides what it held before: minimum and next are then both `next`.
    /// For a queue that starts above zero, and, with its present next offset, for a topic that was deleted.
    ///
    /// # Errors
    /// When `next` is below the queue's next offset: offsets are never given twice.
    pub fn set_head(&mut self, queue: QueueId, next: u64) -> Result<(), HeadError> {
        let state = &mut self.queues[queue];
        if next < state.next {
            return Err(HeadError { next: state.next, found: next });
        }
        (state.min, state.next) = (next, next);
        Ok(())
    }

    /// When the oldest message was stored, in milliseconds since 1970.
    pub fn earliest(&self) -> Option<u64> {
        let in_memory =
            || self.memory().find(|segment| segment.len() > 0).map(|segment| segment.stored_at(0));
        self.sealed.earliest().or_else(in_memory)
    }

    /// How many messages of all queues there are, hidden ones included, but for those of missing files.
    pub fn entry_count(&self) -> usize {
        self.sealed.entry_count() + self.memory().map(ActiveSegment::len).sum::<usize>()
    }

    /// Bytes allocated, but for the allocator's own and the cache of pages.
    pub fn memory_bytes(&self) -> usize {
        let segments: usize =
            self.memory().map(|segment| segment.memory_bytes() + size_of::<ActiveSegment>()).sum();
        segments + self.sealed.memory_bytes() + self.queues.memory_bytes()
    }

    /// Where the entry with this offset is.
    pub(crate) fn locate(&self, queue: QueueId, queue_offset: u64) -> Answer<Option<Place>> {
        let state = &self.queues[queue];
        if !(state.min..state.next).contains(&queue_offset) {
            return Answer::Known(None);
        }
        // The newest run that begins at or below the offset, by the longest jumps that stay above it.
        let mut way = Way::from_newest(state);
        while let Some(run) = self.run(way.at) {
            if run.first <= queue_offset {
                let place = |segment: &ActiveSegment| {
                    let position = segment.seek(way.at.slot, queue_offset);
                    Place { run: way.at, position }
                };
                let inside = queue_offset < run.end();
                return Answer::Known(self.segment(way.at).filter(|_| inside).map(place));
            }
            way = match self.run(run.links.jump) {
                Some(jump) if jump.first > queue_offset => way.pass(jump),
                _ => way.pass(run),
            };
        }
        self.view(state, way).map_or(Answer::Known(None), Answer::Sealed)
    }

    /// The rest of the way, through files, unless it ends here.
    pub(crate) fn view(&self, state: &QueueState, way: Way) -> Option<SealedQueue> {
        let goes_on = way.end > state.min && self.sealed.contains(way.at);
        goes_on.then(|| SealedQueue { segments: self.sealed.clone(), min: state.min, way })
    }

    /// The segments in memory, oldest first.
    pub(crate) fn memory(&self) -> impl DoubleEndedIterator<Item = &ActiveSegment> {
        self.finished.iter().map(|finished| &**finished).chain(&self.active)
    }

    /// The segment a run is in, if it is in memory.
    pub(crate) fn segment(&self, run: RunRef) -> Option<&ActiveSegment> {
        let place = run.segment.checked_sub(self.sealed.end_number())? as usize;
        match self.finished.get(place) {
            Some(finished) => Some(finished),
            None => self.active.as_ref().filter(|_| place == self.finished.len()),
        }
    }

    /// The run itself, if it is in memory.
    pub(crate) fn run(&self, run: RunRef) -> Option<&Run> {
        Some(self.segment(run)?.run(run.slot))
    }

    /// The number of the segment that is begun next.
    pub(crate) fn next_number(&self) -> u32 {
        let in_memory = self.finished.len() + usize::from(self.active.is_some());
        self.sealed.end_number() + u32::try_from(in_memory).expect("there are fewer than 2^32 segments")
    }
}

impl<T> Answer<T> {
    /// The same question, with what is made of a known answer.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Known(value) => Answer::Known(f(value)),
            Self::Sealed(view) => Answer::Sealed(view),
        }
    }
}

#[cfg(test)]
mod tests;
