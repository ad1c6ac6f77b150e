//! Segments whose indexes are in files.
//!
//! | to change…                                | open               |
//! |-------------------------------------------|--------------------|
//! | the bytes of a file                       | `layout`           |
//! | how a file is written                     | `write`            |
//! | how a file is read and verified           | `file`             |
//! | what of it stays in memory                | `pages`            |
//! | which files there are, keys and timers    | `segments`         |
//! | the way of one queue through them         | `queue`            |

use std::io;
use std::sync::Arc;

use skylark_storage::{Files, LogId, PhysicalOffset};

use crate::active::ActiveSegment;
use crate::index::Index;
use crate::rebuild::Basis;

pub(crate) mod file;
pub(crate) mod layout;
mod pages;
mod queue;
pub(crate) mod segments;
pub(crate) mod write;

pub use self::queue::SealedQueue;
pub use self::segments::SealedSegments;

use self::file::SealedFile;
use self::segments::SegmentSpan;
use self::write::Names;

/// Why a question to files was not answered. What the index answers from memory is not concerned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedError {
    /// There is no file: it has to be built from the log; see [`Index::rebuild`].
    #[error("the segment at {base} has no index file")]
    Missing {
        /// First byte of the segment.
        base: PhysicalOffset,
    },
    /// A page of the file is not what was written: see [`Index::discard`].
    #[error("page {page} of the index file {file} is damaged")]
    Damaged {
        /// First byte of the segment.
        base: PhysicalOffset,
        /// The file's name.
        file: String,
        /// The page's number, counted from 0; pages have 4096 bytes.
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

impl SealedError {
    /// First byte of the segment whose file is at fault.
    pub fn base(&self) -> PhysicalOffset {
        match *self {
            Self::Missing { base } | Self::Damaged { base, .. } | Self::Io { base, .. } => base,
        }
    }
}

/// A finished segment whose index is still in memory; see [`Index::unsealed`].
pub struct Unsealed {
    segment: Arc<ActiveSegment>,
    names: Names,
}

/// A segment's index in a file, durable, to be given to [`Index::attach`].
pub struct SealedSegment {
    pub(crate) file: Arc<SealedFile>,
    /// Of a file that was built anew: what the next one can be built on.
    pub(crate) basis: Option<Basis>,
}

impl SealedSegment {
    /// First byte of the segment.
    pub fn base(&self) -> PhysicalOffset {
        self.file.base()
    }
}

impl Unsealed {
    /// First byte of the segment.
    pub fn base(&self) -> PhysicalOffset {
        self.segment.base()
    }

    /// Writes the segment's index to its file, and makes it durable under its name. Takes, while it lasts, 4 bytes
    /// of memory for each message and 8 for each key.
    ///
    /// # Errors
    /// When the disk refuses. The index is as before, and it can be tried again.
    pub fn write(&self, files: &Arc<dyn Files>, log: LogId) -> io::Result<SealedSegment> {
        let file = write::write(files, log, &self.segment, &self.names)?;
        Ok(SealedSegment { file: Arc::new(file), basis: None })
    }
}

impl Index {
    /// The segments whose indexes are in files, to ask them for keys and timers.
    pub fn sealed(&self) -> SealedSegments {
        self.sealed.clone()
    }

    /// The oldest finished segment whose index is still in memory, to be written to a file without the index's lock.
    /// Takes as long as it takes to look at the segment's queues.
    pub fn unsealed(&self) -> Option<Unsealed> {
        let segment = Arc::clone(self.finished.front()?);
        let names = Names::of(&segment, &self.queues);
        Some(Unsealed { segment, names })
    }

    /// Takes a segment's file: in place of what memory holds of it, which must be the oldest there, or in place of a
    /// file that is missing or was discarded. Says whether it was of use: not if the segment was trimmed meanwhile.
    pub fn attach(&mut self, segment: SealedSegment) -> bool {
        let SealedSegment { file, basis } = segment;
        if self.finished.front().is_some_and(|oldest| oldest.base() == file.base()) {
            self.finished.pop_front();
            self.sealed.push(file);
            return true;
        }
        let taken = self.sealed.replace(file);
        self.basis = basis.filter(|_| taken && !self.missing().is_empty());
        taken
    }

    /// How many finished segments still have their index in memory, because no file was written yet.
    pub fn unsealed_count(&self) -> usize {
        self.finished.len()
    }

    /// Forgets what memory holds of the oldest segment, if it has no file and ends at or before `to`: it counts as a
    /// sealed one whose file is missing from here on, and can be trimmed like one. For a segment whose file could not
    /// be written, and that is to be trimmed at once; says whether there was such a segment.
    pub fn abandon_unsealed(&mut self, to: PhysicalOffset) -> bool {
        if self.sealed.oldest().is_some() {
            return false;
        }
        let Some(oldest) = self.finished.pop_front_if(|oldest| oldest.end() <= to) else { return false };
        let (base, end, created_at) = (oldest.base(), oldest.end(), oldest.created_at());
        self.sealed.push_missing(SegmentSpan { base, end, created_at });
        true
    }

    /// First bytes of the sealed segments that have no file, oldest first; to be built in this order.
    pub fn missing(&self) -> Vec<PhysicalOffset> {
        self.sealed.missing().collect()
    }

    /// Gives up the file of a segment, because it was found damaged; [`missing`](Self::missing) lists it from here
    /// on. The file stays where it is until another takes its place.
    pub fn discard(&mut self, base: PhysicalOffset) {
        self.sealed.discard(base);
    }
}

#[cfg(test)]
mod tests;
