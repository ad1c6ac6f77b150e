//! The bytes of a record: a 32-byte header that proves where the record belongs, then its payload.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::log_id::Seed;
use crate::offset::{Epoch, PhysicalOffset};

/// What a record is. Storage owns 0 to 15 and looks into those only; the rest belong to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u8);

impl Kind {
    /// Ends a segment before its nominal end: the payload reaches there, but only the header is stored.
    pub const PADDING: Self = Self(0);
    /// Opens an epoch; see [`crate::epoch`].
    pub const EPOCH: Self = Self(1);
    /// The lowest kind that belongs to the user of the crate.
    pub const FIRST_FREE: Self = Self(16);

    /// The kind with this number.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The kind's number, as stored.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Whether storage alone reads and writes records of this kind.
    pub const fn is_internal(self) -> bool {
        self.0 < Self::FIRST_FREE.0
    }
}

/// The header in front of every record; integers are little-endian.
///
/// | at | bytes | field             | meaning                                                                |
/// |---:|------:|-------------------|------------------------------------------------------------------------|
/// |  0 |     4 | `payload_bytes`   | head and rest together; not believed before `header_crc` checks out    |
/// |  4 |     1 | `kind`            | see [`Kind`]                                                           |
/// |  5 |     1 | `head_bytes`      | so many first bytes of the payload are the *head*                      |
/// |  6 |     2 | `zero`            | checked to be zero                                                     |
/// |  8 |     8 | `physical_offset` | of this record's first byte, header included                           |
/// | 16 |     4 | `epoch`           | of the opening or leadership that wrote it; never decreasing           |
/// | 20 |     4 | `stored_at_delta` | milliseconds since the segment's creation; never decreasing            |
/// | 24 |     4 | `header_crc`      | CRC32C of this header (these four bytes excepted), then the head       |
/// | 28 |     4 | `payload_crc`     | CRC32C of the payload behind the head                                  |
///
/// Both checksums start from the log's [`Seed`]. The head is what becomes known only under the append lock;
/// the rest is summed before, outside of it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RecordHeader {
    payload_bytes: U32,
    kind: u8,
    head_bytes: u8,
    zero: [u8; 2],
    physical_offset: U64,
    epoch: U32,
    stored_at_delta: U32,
    header_crc: U32,
    payload_crc: U32,
}

/// Length of [`RecordHeader`].
pub const RECORD_HEADER_BYTES: usize = 32;
/// Records start at multiples of this; the gap up to the next one is zero and checked to be.
pub const RECORD_ALIGNMENT: usize = 8;

const _: () = {
    assert!(size_of::<RecordHeader>() == RECORD_HEADER_BYTES);
    assert!(offset_of!(RecordHeader, kind) == 4);
    assert!(offset_of!(RecordHeader, head_bytes) == 5);
    assert!(offset_of!(RecordHeader, physical_offset) == 8);
    assert!(offset_of!(RecordHeader, epoch) == 16);
    assert!(offset_of!(RecordHeader, stored_at_delta) == 20);
    assert!(offset_of!(RecordHeader, header_crc) == 24);
    assert!(offset_of!(RecordHeader, payload_crc) == 28);
};

/// Everything a header says besides its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFields {
    /// Head and rest together.
    pub payload_bytes: u32,
    /// What the record is.
    pub kind: Kind,
    /// How many first bytes of the payload `header_crc` covers.
    pub head_bytes: u8,
    /// Of the record's first byte.
    pub physical_offset: PhysicalOffset,
    /// Who wrote it.
    pub epoch: Epoch,
    /// Milliseconds since the segment's creation.
    pub stored_at_delta: u32,
    /// CRC32C of the payload behind the head, from [`payload_crc`].
    pub payload_crc: u32,
}

/// Why bytes are not a record that belongs at the place where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes end before the record does.
    #[error("{have} bytes are left of a record of {need}")]
    Truncated {
        /// Bytes at hand.
        have: usize,
        /// Bytes the record claims, or its header needs.
        need: usize,
    },
    /// `header_crc` does not match.
    #[error("header checksum is {found:#010x}, the bytes give {computed:#010x}")]
    HeaderCrc {
        /// What the header says.
        found: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A sound header of a record that belongs elsewhere: a misdirected write.
    #[error("the record at {at} says that it belongs at {claims}")]
    Misplaced {
        /// Where it was read.
        at: PhysicalOffset,
        /// What it says.
        claims: PhysicalOffset,
    },
    /// `payload_crc` does not match.
    #[error("payload checksum is {found:#010x}, the bytes give {computed:#010x}")]
    PayloadCrc {
        /// What the header says.
        found: u32,
        /// What the payload gives.
        computed: u32,
    },
    /// A reserved or filling byte is set.
    #[error("reserved bytes are not zero")]
    NotZero,
    /// The head is longer than the payload.
    #[error("a head of {head_bytes} bytes in a payload of {payload_bytes}")]
    Head {
        /// As stored.
        head_bytes: u8,
        /// As stored.
        payload_bytes: u32,
    },
}

/// CRC32C of a payload behind its head, given in pieces.
pub fn payload_crc(seed: Seed, parts: &[&[u8]]) -> u32 {
    parts.iter().fold(seed.0, |crc, part| crc32c::crc32c_append(crc, part))
}

/// Bytes a record takes in the log: header, payload, and zeros up to the next multiple of eight.
pub const fn record_bytes(payload_bytes: u32) -> u64 {
    (RECORD_HEADER_BYTES as u64 + payload_bytes as u64).next_multiple_of(RECORD_ALIGNMENT as u64)
}

impl RecordHeader {
    /// The header for `fields`, with the checksum over it and `head`.
    ///
    /// # Panics
    /// When `head` is not `fields.head_bytes` long.
    pub fn new(seed: Seed, fields: &RecordFields, head: &[u8]) -> Self {
        assert_eq!(head.len(), usize::from(fields.head_bytes), "the head is as long as the header says");
        let mut header = Self {
            payload_bytes: fields.payload_bytes.into(),
            kind: fields.kind.0,
            head_bytes: fields.head_bytes,
            zero: [0; 2],
            physical_offset: fields.physical_offset.get().into(),
            epoch: fields.epoch.get().into(),
            stored_at_delta: fields.stored_at_delta.into(),
            header_crc: 0.into(),
            payload_crc: fields.payload_crc.into(),
        };
        header.header_crc = header.sum(seed, head).into();
        header
    }

    /// Reads and checks the header, and the head behind it, of the record that stands `at` this place.
    ///
    /// # Errors
    /// When `bytes` do not start with a header that belongs there. The payload behind the head is not looked at.
    pub fn parse(seed: Seed, at: PhysicalOffset, bytes: &[u8]) -> Result<Self, RecordError> {
        let Ok((header, rest)) = Self::read_from_prefix(bytes) else {
            return Err(RecordError::Truncated { have: bytes.len(), need: RECORD_HEADER_BYTES });
        };
        let head_bytes = usize::from(header.head_bytes);
        let Some(head) = rest.get(..head_bytes) else {
            return Err(RecordError::Truncated { have: bytes.len(), need: RECORD_HEADER_BYTES + head_bytes });
        };
        let (found, computed) = (header.header_crc.get(), header.sum(seed, head));
        if found != computed {
            return Err(RecordError::HeaderCrc { found, computed });
        }
        let fields = header.fields();
        if fields.physical_offset != at {
            return Err(RecordError::Misplaced { at, claims: fields.physical_offset });
        }
        if header.zero != [0; 2] {
            return Err(RecordError::NotZero);
        }
        if u32::from(fields.head_bytes) > fields.payload_bytes {
            let RecordFields { head_bytes, payload_bytes, .. } = fields;
            return Err(RecordError::Head { head_bytes, payload_bytes });
        }
        Ok(header)
    }

    /// What the header says.
    pub fn fields(&self) -> RecordFields {
        RecordFields {
            payload_bytes: self.payload_bytes.get(),
            kind: Kind(self.kind),
            head_bytes: self.head_bytes,
            physical_offset: PhysicalOffset::new(self.physical_offset.get()),
            epoch: Epoch::new(self.epoch.get()),
            stored_at_delta: self.stored_at_delta.get(),
            payload_crc: self.payload_crc.get(),
        }
    }

    /// The checksum the group's chain folds in.
    pub fn header_crc(&self) -> u32 {
        self.header_crc.get()
    }

    /// Bytes of the log the record takes; of a padding record only its header is stored.
    pub fn stored_bytes(&self) -> u64 {
        if self.kind == Kind::PADDING.0 {
            RECORD_HEADER_BYTES as u64
        } else {
            record_bytes(self.payload_bytes.get())
        }
    }

    fn sum(&self, seed: Seed, head: &[u8]) -> u32 {
        let bytes = self.as_bytes();
        let crc = crc32c::crc32c_append(seed.0, &bytes[..offset_of!(Self, header_crc)]);
        let crc = crc32c::crc32c_append(crc, &bytes[offset_of!(Self, payload_crc)..]);
        crc32c::crc32c_append(crc, head)
    }
}

/// A record read back and checked, borrowed from the log's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its header.
    pub header: RecordHeader,
    /// Head and rest; empty for padding.
    pub payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// What the record is.
    pub fn kind(&self) -> Kind {
        Kind(self.header.kind)
    }

    /// The first bytes of its payload, which the append's callback finished.
    pub fn head(&self) -> &'a [u8] {
        self.payload.get(..usize::from(self.header.head_bytes)).unwrap_or_default()
    }

    /// What follows the head.
    pub fn rest(&self) -> &'a [u8] {
        self.payload.get(usize::from(self.header.head_bytes)..).unwrap_or_default()
    }

    /// Reads and checks the whole record that stands `at` the start of `bytes`, checksums and filling included.
    ///
    /// # Errors
    /// When the bytes are not a sound record that belongs there.
    pub fn parse(seed: Seed, at: PhysicalOffset, bytes: &'a [u8]) -> Result<Self, RecordError> {
        let header = RecordHeader::parse(seed, at, bytes)?;
        let fields = header.fields();
        if fields.kind == Kind::PADDING {
            return Ok(Self { header, payload: &[] });
        }
        let need = usize::try_from(header.stored_bytes()).unwrap_or(usize::MAX);
        let Some(stored) = bytes.get(RECORD_HEADER_BYTES..need) else {
            return Err(RecordError::Truncated { have: bytes.len(), need });
        };
        let (payload, filling) = stored.split_at(fields.payload_bytes as usize);
        let computed = payload_crc(seed, &[&payload[usize::from(fields.head_bytes)..]]);
        if computed != fields.payload_crc {
            return Err(RecordError::PayloadCrc { found: fields.payload_crc, computed });
        }
        if filling.iter().any(|&byte| byte != 0) {
            return Err(RecordError::NotZero);
        }
        Ok(Self { header, payload })
    }
}

#[cfg(test)]
mod tests;
