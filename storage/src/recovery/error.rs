//! Why a log was not opened, and what corruption looks like.

use std::fmt;
use std::io;

use crate::log_id::LogId;
use crate::offset::PhysicalOffset;
use crate::segment::{FORMAT_VERSION, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SegmentError};

/// Damage to bytes that had been durable, so that no power cut explains it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// The segment's header is not what was written, below the checkpoint's durable end.
    SegmentHeader(SegmentError),
    /// The header is sound, and belongs to another segment.
    SegmentMisplaced {
        /// The base that it states.
        claims: PhysicalOffset,
        /// The nominal length that it states.
        segment_bytes: u64,
    },
    /// The file ends below the checkpoint's durable end.
    SegmentShort {
        /// The file's length.
        file_bytes: u64,
    },
    /// An epoch record that the history leads to is not there.
    EpochHistory,
    /// What stands there is not what was written: whoever opens the log has been told, and gives it up.
    Damaged,
    /// The disk refuses to read what the log cannot go on without: the header of the segment that takes the next group,
    /// the place where a group would stand that nobody else vouches for, or, behind one that is damaged, a block in which
    /// another may vouch for it.
    Unreadable,
    /// There are segments with content and no checkpoint.
    CheckpointMissing,
    /// Neither slot of the checkpoint is sound.
    CheckpointDamaged,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Witness { witness, attested_end } => {
                write!(
                    f,
                    "the group at log offset {witness} proves that everything below {attested_end} was durable"
                )
            }
            Self::SegmentMissing => f.write_str("the checkpoint names this segment, but the file is missing"),
            Self::SegmentHeader(error) => write!(f, "the segment header is damaged: {error}"),
            Self::SegmentMisplaced { claims, segment_bytes } => {
                write!(f, "the header is that of a segment at {claims} of {segment_bytes} bytes")
            }
            Self::SegmentShort { file_bytes } => {
                write!(f, "the file ends after {file_bytes} bytes, below what was durable")
            }
            Self::EpochHistory => f.write_str("no epoch record stands where the history of epochs leads"),
            Self::Damaged => f.write_str("what stands here is not what was written"),
            Self::Unreadable => f.write_str(
                "the disk refuses to read this block, in which the log may go on; copy the data directory to another \
                 disk, which may get over it, and try again",
            ),
            Self::CheckpointMissing => f.write_str("the file is missing, but there are segments with data"),
            Self::CheckpointDamaged => f.write_str("neither slot holds a sound checkpoint"),
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, position, at, evidence } = self;
        write!(f, "{file}, byte {position} (log offset {at}): {evidence}")
    }
}

/// Why a log was not opened. What it held is still there.
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
        "the log is corrupt: {0}; restore the file from a backup or a replica, or open with repair, \
         which keeps what is sound below the damage and gives up the rest"
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
    #[error("{file} belongs to log {found}, not to this one, which is {expected}; move the file away")]
    ForeignLog {
        /// The file.
        file: String,
        /// As stored in it.
        found: LogId,
        /// The log that the other files belong to.
        expected: LogId,
    },
    /// A segment with content that no checkpoint names.
    #[error("{file} holds data, but is no segment that the checkpoint names; move the file away")]
    Unexpected {
        /// The file.
        file: String,
    },
    /// A repair was told of damage where there is none.
    #[error("what stands at log offset {at} is as it was written, and is not given up")]
    NotDamaged {
        /// Where it was told of.
        at: PhysicalOffset,
    },
    /// Four billion openings.
    #[error("the log has no epoch left to be opened in")]
    EpochsExhausted,
    /// The length of a new log's segments is impossible.
    #[error(
        "segments of {segment_bytes} bytes: the length must be a multiple of 4096, from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
    )]
    SegmentBytes {
        /// As asked for.
        segment_bytes: u64,
    },
}
