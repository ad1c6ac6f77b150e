//! Reading back: the newest bytes from memory, older ones from the files. Nothing beyond the visible end.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::group::{Chain, GROUP_HEADER_BYTES, GroupError, GroupHeader};
use crate::log::shared::{DurablePoint, Shared};
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, RECORD_HEADER_BYTES, Record, RecordError, RecordFields, RecordHeader};
use crate::segment::{BLOCK_BYTES, CLOSING_BYTES, segment_name};

use cold::Request;

pub(crate) use cold::Cold;
pub(crate) use hot::HotTail;
pub use scan::Scan;

mod budget;
mod cold;
mod hot;
mod open_files;
mod pieces;
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
    /// The disk refused. What stands elsewhere may be readable, and is worth asking for.
    #[error("offset {at} could not be read, from byte {position} of {file} on: {error}")]
    Io {
        /// What was asked for.
        at: PhysicalOffset,
        /// The segment's file.
        file: String,
        /// Where in the file that is.
        position: u64,
        /// What the disk said.
        error: Arc<io::Error>,
    },
}

impl ReadError {
    /// The offset that could not be read, or that is not what it should be.
    pub fn at(&self) -> PhysicalOffset {
        match self {
            Self::NotVisible { at, .. }
            | Self::Trimmed { at, .. }
            | Self::Missing { at, .. }
            | Self::NotARecord { at, .. }
            | Self::Internal { at, .. }
            | Self::Damaged { at, .. }
            | Self::NotAGroup { at, .. }
            | Self::Unchained { at, .. }
            | Self::Io { at, .. } => *at,
        }
    }
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

impl Shared {
    pub(crate) fn read_hot(&self, at: PhysicalOffset, bytes: u32) -> Option<Bytes> {
        self.check_kept(at).ok()?;
        self.check_visible(at, u64::from(bytes)).ok()?;
        self.hot.get(at, u64::from(bytes))
    }

    pub(crate) fn read_cold(&self, at: PhysicalOffset, bytes: u32) -> Result<Bytes, ReadError> {
        self.check_kept(at)?;
        self.check_visible(at, u64::from(bytes))?;
        let read = self.cold.read(self.request(at, bytes.into()));
        let read = read.map_err(|error| self.io_error(at, error))?;
        if read.len() < bytes as usize {
            return Err(self.short(at, bytes.into()));
        }
        Ok(read)
    }

    pub(crate) fn record_at(&self, at: PhysicalOffset) -> Result<OwnedRecord, ReadError> {
        self.check_kept(at)?;
        self.check_visible(at, RECORD_HEADER_BYTES as u64)?;
        match self.record(at, Cold::find) {
            // Memory may hold what the file held before it was written: past the page cache, by another path.
            Err(ReadError::NotARecord { .. } | ReadError::Damaged { .. }) => {
                self.cold.forget(at, LOOK_UP_BYTES);
                self.record(at, Cold::look_up).map_err(|error| self.check_kept(at).err().unwrap_or(error))
            }
            outcome => outcome,
        }
    }

    fn record(&self, at: PhysicalOffset, read: ReadFile) -> Result<OwnedRecord, ReadError> {
        let visible_bytes = self.visible().get().since(at);
        let front = match self.hot.look(at, visible_bytes.min(HEADER_AND_HEAD_BYTES_MAX)) {
            Some(front) => front,
            // Most records are short, and come whole with their front.
            None => match self.read_file(at, visible_bytes.min(LOOK_UP_BYTES), read) {
                // Something behind the record may be what cannot be read.
                Err(ReadError::Io { .. }) => self.front(at, read)?,
                front => front?,
            },
        };
        let header = RecordHeader::parse(self.seed, at, &front)
            .map_err(|error| ReadError::NotARecord { at, error })?;
        let fields = header.fields();
        if fields.kind.is_internal() {
            return Err(ReadError::Internal { at, kind: fields.kind });
        }
        let stored_bytes = header.stored_bytes();
        self.check_visible(at, stored_bytes)?;
        let bytes = match usize::try_from(stored_bytes) {
            // Without what lies around it, which may be much.
            Ok(stored) if stored <= front.len() => Bytes::copy_from_slice(&front[..stored]),
            _ => match self.hot.get(at, stored_bytes) {
                Some(bytes) => bytes,
                None => self.read_file(at, stored_bytes, read)?,
            },
        };
        match Record::parse(self.seed, at, &bytes) {
            Ok(_) => Ok(OwnedRecord { fields, bytes }),
            Err(error) => Err(ReadError::Damaged { at, error }),
        }
    }

    /// A record's header and head, and nothing behind them.
    fn front(&self, at: PhysicalOffset, read: ReadFile) -> Result<Bytes, ReadError> {
        let header = self.read_file(at, RECORD_HEADER_BYTES as u64, read)?;
        let head_bytes = header.get(HEAD_BYTES_AT).copied().unwrap_or_default();
        self.read_file(at, RECORD_HEADER_BYTES as u64 + u64::from(head_bytes), read)
    }

    /// Up to `bytes` that have been found visible, from a file; fewer where the segment ends.
    fn read_file(&self, at: PhysicalOffset, bytes: u64, read: ReadFile) -> Result<Bytes, ReadError> {
        read(&self.cold, self.request(at, bytes)).map_err(|error| self.io_error(at, error))
    }

    fn request(&self, at: PhysicalOffset, bytes: u64) -> Request<'_> {
        let left = at.align_down(self.segment_bytes).advance(self.segment_bytes).since(at);
        let visible_end = self.visible().get();
        Request { at, bytes: bytes.min(left), visible_end, written: &self.written }
    }

    fn io_error(&self, at: PhysicalOffset, error: io::Error) -> ReadError {
        let base = at.align_down(self.segment_bytes);
        // It may have been trimmed since that was looked at.
        self.check_kept(at).err().unwrap_or_else(|| ReadError::Io {
            at,
            file: segment_name(base),
            position: at.since(base),
            error: Arc::new(error),
        })
    }

    /// Why there is less than was asked for.
    fn short(&self, at: PhysicalOffset, bytes: u64) -> ReadError {
        // A file that is about to be removed is cut first.
        self.check_kept(at).err().unwrap_or(ReadError::Missing { at, bytes })
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
        let front = match self.hot.look(first, GROUP_HEADER_BYTES as u64) {
            Some(front) => front,
            None => self.read_file(first, GROUP_HEADER_BYTES as u64, Cold::look_up)?,
        };
        let header = GroupHeader::parse(self.seed, first, &front)
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

/// A way to read from a segment's file.
type ReadFile = fn(&Cold, Request<'_>) -> io::Result<Bytes>;

/// What is read to find a record of unknown length.
const LOOK_UP_BYTES: u64 = BLOCK_BYTES;
/// Where a record's header says how long its head is. Not to be believed before the checksum is.
const HEAD_BYTES_AT: usize = 5;
/// As much as a header's checksum covers at most.
const HEADER_AND_HEAD_BYTES_MAX: u64 = RECORD_HEADER_BYTES as u64 + u8::MAX as u64;
