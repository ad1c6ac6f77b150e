//! What a restart keeps.

use std::fmt;
use std::io;

use crate::checkpoint::CheckpointFile;
use crate::epoch::EpochStart;
use crate::group::Chain;
use crate::log_id::LogId;
use crate::offset::{Epoch, PhysicalOffset};
use crate::segment::{FORMAT_VERSION, SegmentFields};

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryOptions {
    /// Nominal length of the segments of a log that this opening creates; an existing log keeps its own.
    pub segment_bytes: u64,
    /// The identity of a log that this opening creates; random when `None`.
    pub log_id: Option<LogId>,
    /// Cut at corruption, and report it, instead of refusing.
    pub repair: bool,
}

/// A log that is ready for its next append, which must be the epoch record of [`Recovered::epoch`].
pub struct Recovered {
    /// The checkpoint, which names `epoch` and the segment that takes the next group already.
    pub checkpoint: CheckpointFile,
    /// The epoch of this opening.
    pub epoch: Epoch,
    /// Earlier epochs, oldest first: as far back as the log's epoch records lead.
    pub epochs: Vec<EpochStart>,
    /// End of the last group. Behind a padding record it is the next segment's base.
    pub end: PhysicalOffset,
    /// What the next group carries.
    pub chain: Chain,
    /// Store time of the last record, in milliseconds since 1970; zero when there is none.
    pub stored_at: u64,
    /// Where the next group goes.
    pub next: NextGroup,
    /// What was found and done.
    pub report: RecoveryReport,
}

/// Where the group behind a log's end goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextGroup {
    /// Into the segment that holds the end: right there, or in the next block if one is left.
    Continues {
        /// What the segment's header says.
        segment: SegmentFields,
        /// The content of the block that the end lies in, from its beginning to the end; empty at a block's start.
        tail: Vec<u8>,
    },
    /// Into the second block of the segment with this base, whose header is written with it. The file exists.
    Begins {
        /// The segment's base.
        base: PhysicalOffset,
    },
}

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// There was no log: this opening created it.
    pub created: bool,
    /// The log had been closed.
    pub clean: bool,
    /// Segments that are kept.
    pub segments: u64,
    /// The log's first byte.
    pub start: PhysicalOffset,
    /// The log's end.
    pub end: PhysicalOffset,
    /// Bytes read and checked from the checkpoint to the end.
    pub scanned_bytes: u64,
    /// Groups in them.
    pub scanned_groups: u64,
    /// Bytes searched for witnesses behind the end.
    pub searched_bytes: u64,
    /// Bytes that could be read but were not known to be durable, and were written again.
    pub rewritten_bytes: u64,
    /// Bytes behind the end that were not zero, and are now.
    pub cut_bytes: u64,
    /// A group behind the end vouches for bytes that are missing, but a leader wrote it, not this node. What was
    /// acknowledged may be missing here: leave the in-sync set and fetch again.
    pub doubt: bool,
    /// One of the checkpoint's slots was damaged; the other one was used.
    pub slot_damaged: bool,
    /// Files that belonged to no named segment, and were removed.
    pub removed: Vec<String>,
    /// The corruption that was cut at the operator's request.
    pub repaired: Option<Corruption>,
}

/// Damage to bytes that had been durable, so that no power cut explains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The file, in the data directory.
    pub file: String,
    /// Where in the file.
    pub position: u64,
    /// Where in the log.
    pub at: PhysicalOffset,
    /// How it shows.
    pub evidence: Evidence,
}

/// How corruption shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// A sound group further on says that what is damaged was durable.
    Witness {
        /// Where that group starts.
        witness: PhysicalOffset,
        /// Everything below this was durable, it says.
        attested_end: PhysicalOffset,
    },
    /// The checkpoint names the segment, and the file is not there.
    SegmentMissing,
    /// The segment's header, or the whole file, is not what was written.
    SegmentHeader(String),
    /// The file ends below the checkpoint's durable end.
    SegmentShort {
        /// The file's length.
        file_bytes: u64,
    },
    /// An epoch record that the history leads to is not there.
    EpochHistory,
    /// Neither slot of the checkpoint is sound, or there is no checkpoint.
    Checkpoint(String),
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Witness { witness, attested_end } => {
                write!(f, "the group at offset {witness} proves that everything below {attested_end} was durable")
            }
            Self::SegmentMissing => f.write_str("the checkpoint names this segment, but the file is missing"),
            Self::SegmentHeader(error) => write!(f, "the segment's header is damaged: {error}"),
            Self::SegmentShort { file_bytes } => {
                write!(f, "the file ends after {file_bytes} bytes, below what was durable")
            }
            Self::EpochHistory => f.write_str("no epoch record stands where the history of epochs leads"),
            Self::Checkpoint(error) => f.write_str(error),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, position, at, evidence } = self;
        write!(f, "{file}, byte {position} (log offset {at}): {evidence}")
    }
}

/// Why a log was not opened. Nothing of it was changed that recovery would not change again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the directory open.
    #[error("{directory} is in use by another process; stop that one first, or choose another directory")]
    Locked {
        /// The data directory.
        directory: String,
    },
    /// The disk refused.
    #[error("the data directory cannot be used: {0}")]
    Io(#[from] io::Error),
    /// Bytes that were durable are gone.
    #[error(
        "corrupt: {0}. Restore {file} from a backup or a replica; or open with repair, which keeps everything \
         below offset {at} and gives up the rest",
        file = .0.file, at = .0.at
    )]
    Corrupt(Corruption),
    /// Written by another release.
    #[error(
        "{file} has format version {found}, this release reads {FORMAT_VERSION} only; \
         use the release that wrote it, or another directory"
    )]
    FormatVersion {
        /// Which file says so.
        file: String,
        /// As stored.
        found: u32,
    },
    /// A file of another log lies among this log's.
    #[error("{file} belongs to log {found}, the checkpoint to {expected}; move the file away")]
    ForeignLog {
        /// The file.
        file: String,
        /// As stored in it.
        found: LogId,
        /// As stored in the checkpoint.
        expected: LogId,
    },
    /// A segment with content that no checkpoint names.
    #[error("{file} holds data, but is not a segment that the checkpoint names; move the file away")]
    Unexpected {
        /// The file.
        file: String,
    },
    /// The length of a new log's segments is not a multiple of the block, or too small.
    #[error("segments of {segment_bytes} bytes: the length must be a multiple of 4096, and at least 65536")]
    SegmentBytes {
        /// As asked for.
        segment_bytes: u64,
    },
}
