//! Segment files: their names, and the header block each begins with.

use std::mem::size_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::log_id::LogId;
use crate::offset::{Epoch, PhysicalOffset};

/// Unit of writes to a segment, and the length of its header block, which lies inside the offset space.
pub const BLOCK_BYTES: u64 = BLOCK as u64;
/// The same, as the length of a buffer.
pub(crate) const BLOCK: usize = 4096;
/// Raised by every change of any format of the log; other versions are refused by name.
pub const FORMAT_VERSION: u32 = 1;
/// A segment holds at least four groups of the greatest length, save in tests of rolling.
pub const SEGMENT_BYTES_DEFAULT: u64 = 256 << 20;
/// No segment is shorter, tests included.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// No segment is longer: a padding record must be able to reach to its end, with a length of 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;
/// What a group of one padding record takes: where fewer bytes remain, a segment ends without one.
pub const CLOSING_BYTES: u64 = 48;

const MAGIC: [u8; 8] = *b"SKYLKSEG";

/// The first bytes of a segment's header block, the rest of which is zero; integers are little-endian.
///
/// | at | bytes | field            | meaning                                                    |
/// |---:|------:|------------------|------------------------------------------------------------|
/// |  0 |     8 | `magic`          | `SKYLKSEG`                                                 |
/// |  8 |     4 | `format_version` | see [`FORMAT_VERSION`]                                     |
/// | 12 |     4 | `epoch`          | of the segment's first record                              |
/// | 16 |    16 | `log_id`         | which log the segment belongs to                           |
/// | 32 |     8 | `base`           | physical offset of the segment's first byte                |
/// | 40 |     8 | `segment_bytes`  | nominal length: the next segment starts at `base` plus this |
/// | 48 |     8 | `created_at`     | milliseconds since 1970: what `stored_at_delta` counts from |
/// | 56 |     8 | `epoch_start`    | where that epoch began                                     |
/// | 64 |     4 | `zero`           | checked to be zero                                         |
/// | 68 |     4 | `crc`            | CRC32C of the 68 bytes before                              |
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SegmentHeader {
    magic: [u8; 8],
    format_version: U32,
    epoch: U32,
    log_id: [u8; 16],
    base: U64,
    segment_bytes: U64,
    created_at: U64,
    epoch_start: U64,
    zero: U32,
    crc: U32,
}

/// Length of [`SegmentHeader`].
pub const SEGMENT_HEADER_BYTES: usize = 72;

const _: () = assert!(size_of::<SegmentHeader>() == SEGMENT_HEADER_BYTES);

/// What a segment header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFields {
    /// Which log the segment belongs to.
    pub log_id: LogId,
    /// Physical offset of its first byte.
    pub base: PhysicalOffset,
    /// Nominal length.
    pub segment_bytes: u64,
    /// Milliseconds since 1970.
    pub created_at: u64,
    /// Of its first record.
    pub epoch: Epoch,
    /// Where that epoch began.
    pub epoch_start: PhysicalOffset,
}

/// Why a block is not the header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// Fewer bytes than a header has.
    #[error("{have} bytes are too few for a segment header")]
    Truncated {
        /// Bytes at hand.
        have: usize,
    },
    /// Not a segment at all.
    #[error("the file does not begin with the magic of a Skylark segment")]
    Magic,
    /// Written by another release.
    #[error("format version {found} is not {FORMAT_VERSION}, the only one this release reads")]
    FormatVersion {
        /// As stored.
        found: u32,
    },
    /// The checksum does not match.
    #[error("segment header checksum is {found:#010x}, the bytes give {computed:#010x}")]
    Crc {
        /// As stored.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A reserved byte is set.
    #[error("reserved bytes are not zero")]
    NotZero,
}

impl SegmentHeader {
    /// The header that says `fields`.
    pub fn new(fields: &SegmentFields) -> Self {
        let mut header = Self {
            magic: MAGIC,
            format_version: FORMAT_VERSION.into(),
            epoch: fields.epoch.get().into(),
            log_id: fields.log_id.to_bytes(),
            base: fields.base.get().into(),
            segment_bytes: fields.segment_bytes.into(),
            created_at: fields.created_at.into(),
            epoch_start: fields.epoch_start.get().into(),
            zero: 0.into(),
            crc: 0.into(),
        };
        header.crc = header.sum().into();
        header
    }

    /// Reads and checks the header at the start of `bytes`.
    ///
    /// # Errors
    /// When they do not start with one of this format.
    pub fn parse(bytes: &[u8]) -> Result<Self, SegmentError> {
        let Ok((header, _)) = Self::read_from_prefix(bytes) else {
            return Err(SegmentError::Truncated { have: bytes.len() });
        };
        if header.magic != MAGIC {
            return Err(SegmentError::Magic);
        }
        // In this order, because every version keeps its checksum here: a flipped bit is not another release.
        let (found, computed) = (header.crc.get(), header.sum());
        if found != computed {
            return Err(SegmentError::Crc { found, computed });
        }
        if header.format_version.get() != FORMAT_VERSION {
            return Err(SegmentError::FormatVersion { found: header.format_version.get() });
        }
        if header.zero.get() != 0 {
            return Err(SegmentError::NotZero);
        }
        Ok(header)
    }

    /// What the header says.
    pub fn fields(&self) -> SegmentFields {
        SegmentFields {
            log_id: LogId::from_bytes(self.log_id),
            base: PhysicalOffset::new(self.base.get()),
            segment_bytes: self.segment_bytes.get(),
            created_at: self.created_at.get(),
            epoch: Epoch::new(self.epoch.get()),
            epoch_start: PhysicalOffset::new(self.epoch_start.get()),
        }
    }

    fn sum(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[..SEGMENT_HEADER_BYTES - 4])
    }
}

/// Whether a log's segments may have this nominal length.
pub const fn is_segment_length(segment_bytes: u64) -> bool {
    segment_bytes >= SEGMENT_BYTES_MIN
        && segment_bytes <= SEGMENT_BYTES_MAX
        && segment_bytes.is_multiple_of(BLOCK_BYTES)
}

/// `log/` and the 20-digit offset of the segment's first byte.
pub fn segment_name(base: PhysicalOffset) -> String {
    format!("log/{:020}.seg", base.get())
}

/// The base that a file name in `log/` stands for, if it is a segment's.
pub fn segment_base(name: &str) -> Option<PhysicalOffset> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 20)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok().map(PhysicalOffset::new))?
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// Compared with, because comparing runs of bytes is what processors and libraries do fastest.
static ZEROS: [u8; BLOCK] = [0; BLOCK];

#[cfg(test)]
mod tests;
