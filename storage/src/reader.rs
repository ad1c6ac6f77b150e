//! Reading back: the newest bytes from memory, older ones from the files. Nothing beyond the visible end.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::device::{File, Files};
use crate::group::{Chain, GROUP_HEADER_BYTES, GroupError, GroupHeader};
use crate::log::shared::{DurablePoint, Shared};
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, RECORD_HEADER_BYTES, Record, RecordError, RecordFields, RecordHeader};
use crate::segment::{BLOCK_BYTES, CLOSING_BYTES, SegmentError, segment_name};
use crate::sync::Mutex;

pub use scan::Scan;

mod scan;

/// Why something could not be read. Nothing else about the log is in doubt but what the variant says.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It may exist, but not everybody may see it yet.
    #[error("offset {at} lies beyond what is visible, which ends at {visible_end}")]
    NotVisible {
        /// What was asked for.
        at: PhysicalOffset,
        /// The visible end.
        visible_end: PhysicalOffset,
    },
    /// It has been given up.
    #[error("offset {at} lies below {trimmed}, where the log begins")]
    Trimmed {
        /// What was asked for.
        at: PhysicalOffset,
        /// The log's first byte.
        trimmed: PhysicalOffset,
    },
    /// The segment has no such bytes: the range is not one that was appended.
    #[error("no segment holds {bytes} bytes at offset {at}")]
    Missing {
        /// What was asked for.
        at: PhysicalOffset,
        /// How much was asked for.
        bytes: u64,
    },
    /// No record begins there.
    #[error("no record begins at offset {at}: {error}")]
    NotARecord {
        /// What was asked for.
        at: PhysicalOffset,
        /// How it shows.
        error: RecordError,
    },
    /// A record begins there, but it is storage's own.
    #[error("the record at offset {at} is of kind {}, which belongs to storage", kind.get())]
    Internal {
        /// What was asked for.
        at: PhysicalOffset,
        /// What is there.
        kind: Kind,
    },
    /// A record that was durable has changed.
    #[error("the record at offset {at} is damaged: {error}")]
    Damaged {
        /// Where it stands.
        at: PhysicalOffset,
        /// How it shows.
        error: RecordError,
    },
    /// The segment that holds it does not begin with a segment's header.
    #[error("no segment begins at offset {at}: {error}")]
    NotASegment {
        /// Where it was expected.
        at: PhysicalOffset,
        /// How it shows.
        error: SegmentError,
    },
    /// No group starts there.
    #[error("no group starts at offset {at}: {error}")]
    NotAGroup {
        /// Where it was expected.
        at: PhysicalOffset,
        /// How it shows.
        error: GroupError,
    },
    /// A group stands where another one was written.
    #[error("the group at offset {at} carries chain {found:?}, the ones before it give {expected:?}")]
    Unchained {
        /// Where it stands.
        at: PhysicalOffset,
        /// What it should carry.
        expected: Chain,
        /// What it carries.
        found: Chain,
    },
    /// The disk refused.
    #[error("offset {at} could not be read: {error}")]
    Io {
        /// What was asked for.
        at: PhysicalOffset,
        /// What the disk said.
        error: Arc<io::Error>,
    },
}

/// A record of the log's user, whole and sound.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OwnedRecord {
    /// What its header says.
    pub fields: RecordFields,
    /// The record as it is stored, its 32-byte header included.
    pub bytes: Bytes,
}

impl OwnedRecord {
    /// Its payload: head and rest.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + self.fields.payload_bytes as usize)
    }
}

/// What came before a place in the log: two logs that agree on it have one history up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainPoint {
    /// What the first group behind the place carries, or will.
    pub chain: Chain,
    /// Of the last record in front of it; zero at the log's beginning.
    pub epoch: Epoch,
}

/// The newest bytes of the log, kept in memory: the chunks they were staged in.
pub(crate) struct HotTail {
    bytes_min: u64,
    parts: Mutex<VecDeque<Part>>,
}

/// The finished front of a chunk.
struct Part {
    base: PhysicalOffset,
    bytes: Bytes,
}

impl HotTail {
    pub(crate) fn new(bytes_min: u64) -> Self {
        Self { bytes_min, parts: Mutex::new(VecDeque::new()) }
    }

    /// Takes the finished front of the newest chunk, in place of a shorter one, and lets go of what is too old.
    pub(crate) fn extend(&self, base: PhysicalOffset, bytes: Bytes) {
        let end = base.advance(bytes.len() as u64);
        let mut parts = self.parts.lock();
        match parts.back_mut().filter(|part| part.base == base) {
            Some(part) => part.bytes = bytes,
            None => parts.push_back(Part { base, bytes }),
        }
        while parts.front().is_some_and(|part| part.end().advance(self.bytes_min) < end) {
            parts.pop_front();
        }
    }

    /// Lets go of what lies below `beginning`, where a segment begins, as a chunk does.
    pub(crate) fn trim(&self, beginning: PhysicalOffset) {
        self.parts.lock().retain(|part| part.base >= beginning);
    }

    fn get(&self, at: PhysicalOffset, bytes: u64) -> Option<Bytes> {
        let parts = self.parts.lock();
        // Most readers are close to the end.
        let part = parts.iter().rev().find(|part| part.base <= at)?;
        let from = usize::try_from(at.since(part.base)).ok()?;
        let to = from.checked_add(usize::try_from(bytes).ok()?)?;
        (to <= part.bytes.len()).then(|| part.bytes.slice(from..to))
    }
}

impl Part {
    fn end(&self) -> PhysicalOffset {
        self.base.advance(self.bytes.len() as u64)
    }
}

/// The segment files that were read last, open.
pub(crate) struct ColdFiles {
    files: Arc<dyn Files>,
    open: Mutex<OpenFiles>,
}

#[derive(Default)]
struct OpenFiles {
    /// Newest use last.
    segments: Vec<(PhysicalOffset, Arc<dyn File>)>,
    /// No segment below this is kept open: its file would take space for as long.
    beginning: PhysicalOffset,
}

/// How many files stay open for readers.
const OPEN_FILES_MAX: usize = 16;

impl ColdFiles {
    pub(crate) fn new(files: Arc<dyn Files>) -> Self {
        Self { files, open: Mutex::default() }
    }

    /// Up to `bytes` of the segment that begins at `base`, from `at` on; fewer where its file ends.
    fn read(&self, base: PhysicalOffset, at: PhysicalOffset, bytes: u64) -> io::Result<Bytes> {
        let length = usize::try_from(bytes).map_err(io::Error::other)?;
        let mut buffer = vec![0; length];
        let read = self.file(base)?.read_at(at.since(base), &mut buffer)?;
        buffer.truncate(read);
        Ok(buffer.into())
    }

    fn file(&self, base: PhysicalOffset) -> io::Result<Arc<dyn File>> {
        {
            let OpenFiles { segments, .. } = &mut *self.open.lock();
            if let Some(index) = segments.iter().position(|(of, _)| *of == base) {
                let entry = segments.remove(index);
                let file = Arc::clone(&entry.1);
                segments.push(entry);
                return Ok(file);
            }
        }
        // Not under the lock, which others need for files that are open.
        let file = self.files.open(&segment_name(base))?;
        let OpenFiles { segments, beginning } = &mut *self.open.lock();
        if base >= *beginning {
            if segments.len() == OPEN_FILES_MAX {
                segments.remove(0);
            }
            segments.push((base, Arc::clone(&file)));
        }
        Ok(file)
    }

    /// Closes the files of the segments below `beginning`, for good.
    pub(crate) fn trim(&self, beginning: PhysicalOffset) {
        let mut open = self.open.lock();
        open.segments.retain(|(base, _)| *base >= beginning);
        open.beginning = beginning;
    }
}

impl Shared {
    pub(crate) fn read_hot(&self, at: PhysicalOffset, bytes: u32) -> Option<Bytes> {
        self.check_kept(at).ok()?;
        self.check_visible(at, u64::from(bytes)).ok()?;
        self.hot.get(at, u64::from(bytes))
    }

    pub(crate) fn read_cold(&self, at: PhysicalOffset, bytes: u32) -> Result<Bytes, ReadError> {
        self.check_kept(at)?;
        self.check_visible(at, u64::from(bytes))?;
        let read = self.read_file(at, u64::from(bytes))?;
        if read.len() < bytes as usize {
            return Err(ReadError::Missing { at, bytes: bytes.into() });
        }
        Ok(read)
    }

    pub(crate) fn record_at(&self, at: PhysicalOffset) -> Result<OwnedRecord, ReadError> {
        self.check_kept(at)?;
        self.check_visible(at, RECORD_HEADER_BYTES as u64)?;
        let visible_bytes = self.visible().get().since(at);
        let front = self.read(at, visible_bytes.min(HEADER_AND_HEAD_BYTES_MAX))?;
        let header = RecordHeader::parse(self.seed, at, &front)
            .map_err(|error| ReadError::NotARecord { at, error })?;
        let fields = header.fields();
        if fields.kind.is_internal() {
            return Err(ReadError::Internal { at, kind: fields.kind });
        }
        let stored_bytes = header.stored_bytes();
        self.check_visible(at, stored_bytes)?;
        let bytes = self.read(at, stored_bytes)?;
        match Record::parse(self.seed, at, &bytes) {
            Ok(_) => Ok(OwnedRecord { fields, bytes }),
            Err(error) => Err(ReadError::Damaged { at, error }),
        }
    }

    /// Up to `bytes` that have been found visible, from wherever they are; fewer where the segment ends.
    fn read(&self, at: PhysicalOffset, bytes: u64) -> Result<Bytes, ReadError> {
        match self.hot.get(at, bytes) {
            Some(bytes) => Ok(bytes),
            None => self.read_file(at, bytes),
        }
    }

    fn read_file(&self, at: PhysicalOffset, bytes: u64) -> Result<Bytes, ReadError> {
        let base = at.align_down(self.segment_bytes);
        let left = base.advance(self.segment_bytes).since(at);
        self.cold.read(base, at, bytes.min(left)).map_err(|error| {
            // It may have been trimmed since that was looked at.
            self.check_kept(at).err().unwrap_or_else(|| ReadError::Io { at, error: Arc::new(error) })
        })
    }

    /// See [`crate::CommitLog::chain_at`].
    pub(crate) fn chain_at(&self, base: PhysicalOffset) -> Result<Option<ChainPoint>, ReadError> {
        let DurablePoint { end, chain, .. } = *self.durable_point.lock();
        if !base.get().is_multiple_of(self.segment_bytes) || base < self.trimmed() {
            return Ok(None);
        }
        let epoch = self.epochs.iter().rev().find(|begun| begun.start < base);
        let epoch = epoch.map_or(Epoch::ZERO, |begun| begun.epoch);
        // A segment with so little room in front of its end has ended there.
        if base >= end && base.since(end) < CLOSING_BYTES {
            return Ok(Some(ChainPoint { chain, epoch }));
        }
        if base > end {
            return Ok(None);
        }
        let first = base.advance(BLOCK_BYTES);
        let header = GroupHeader::parse(self.seed, first, &self.read(first, GROUP_HEADER_BYTES as u64)?)
            .map_err(|error| ReadError::NotAGroup { at: first, error })?;
        Ok(Some(ChainPoint { chain: header.chain(), epoch }))
    }

    fn check_kept(&self, at: PhysicalOffset) -> Result<(), ReadError> {
        let trimmed = self.trimmed();
        if at < trimmed { Err(ReadError::Trimmed { at, trimmed }) } else { Ok(()) }
    }

    /// `at` may come from outside, so nothing about it is taken for granted.
    fn check_visible(&self, at: PhysicalOffset, bytes: u64) -> Result<(), ReadError> {
        let visible_end = self.visible().get();
        match at.get().checked_add(bytes) {
            Some(end) if end <= visible_end.get() => Ok(()),
            _ => Err(ReadError::NotVisible { at, visible_end }),
        }
    }
}

/// As much as a header's checksum covers at most.
const HEADER_AND_HEAD_BYTES_MAX: u64 = RECORD_HEADER_BYTES as u64 + u8::MAX as u64;
