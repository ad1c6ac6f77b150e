//! The bytes of a group: what one flush makes durable, all of it or nothing.

use std::mem::size_of;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::log_id::Seed;
use crate::offset::PhysicalOffset;

/// What opens a group, in front of its first record; integers are little-endian.
///
/// | at | bytes | field             | meaning                                                                   |
/// |---:|------:|-------------------|---------------------------------------------------------------------------|
/// |  0 |     4 | `group_bytes`     | the group's length, these 16 bytes included                               |
/// |  4 |     4 | `undurable_bytes` | everything below the group's start less this *was* durable when it was taken |
/// |  8 |     4 | `chain`           | the [`Chain`] at the group's start: proves which group came before        |
/// | 12 |     4 | `crc`             | CRC32C of the log's id, the group's position (eight bytes) and these fields |
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct GroupHeader {
    group_bytes: U32,
    undurable_bytes: U32,
    chain: U32,
    crc: U32,
}

/// Length of [`GroupHeader`].
pub const GROUP_HEADER_BYTES: usize = 16;
/// No group is longer.
pub const GROUP_BYTES_MAX: u32 = 8 << 20;
/// No append unit is longer, headers included: 4 MiB of content and what surrounds it.
pub const UNIT_BYTES_MAX: u32 = (4 << 20) + (64 << 10);

const _: () = assert!(size_of::<GroupHeader>() == GROUP_HEADER_BYTES);

/// Links each group to everything before it: CRC32C over the header checksums of the previous group's records,
/// in order, then that group's 16 bytes. It crosses segments; a log begins with [`Chain::START`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain(pub(crate) u32);

impl Chain {
    /// In front of the first group of a log.
    pub const START: Self = Self(0);

    /// The link with this value.
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The link's value, as stored.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Computes the [`Chain`] behind a group, record by record.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChainBuilder(u32);

impl ChainBuilder {
    /// Folds in the next record of the group.
    pub fn record(&mut self, header_crc: u32) {
        self.0 = crc32c::crc32c_append(self.0, &header_crc.to_le_bytes());
    }

    /// The chain behind the group that opens with `header`.
    pub fn finish(self, header: &GroupHeader) -> Chain {
        Chain(crc32c::crc32c_append(self.0, header.as_bytes()))
    }
}

/// Why bytes do not open a group at the place where they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// Fewer than 16 bytes are left.
    #[error("{have} bytes are too few for a group header")]
    Truncated {
        /// Bytes at hand.
        have: usize,
    },
    /// The checksum does not match.
    #[error("group checksum is {found:#010x}, the bytes give {computed:#010x}")]
    Crc {
        /// As stored.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A sound checksum over a length no writer produces.
    #[error("a group of {group_bytes} bytes")]
    Length {
        /// As stored.
        group_bytes: u32,
    },
}

impl GroupHeader {
    /// The header of a group of `group_bytes` that stands `at` this place behind everything `chain` stands for.
    pub fn new(seed: Seed, at: PhysicalOffset, group_bytes: u32, undurable_bytes: u32, chain: Chain) -> Self {
        let mut header = Self {
            group_bytes: group_bytes.into(),
            undurable_bytes: undurable_bytes.into(),
            chain: chain.0.into(),
            crc: 0.into(),
        };
        header.crc = header.sum(seed, at).into();
        header
    }

    /// Reads and checks the header of the group that stands `at` the start of `bytes`.
    ///
    /// # Errors
    /// When no group was written there. The chain is not compared: that needs the group before.
    pub fn parse(seed: Seed, at: PhysicalOffset, bytes: &[u8]) -> Result<Self, GroupError> {
        let Ok((header, _)) = Self::read_from_prefix(bytes) else {
            return Err(GroupError::Truncated { have: bytes.len() });
        };
        let (found, computed) = (header.crc.get(), header.sum(seed, at));
        if found != computed {
            return Err(GroupError::Crc { found, computed });
        }
        let group_bytes = header.group_bytes.get();
        if group_bytes as usize <= GROUP_HEADER_BYTES || group_bytes > GROUP_BYTES_MAX {
            return Err(GroupError::Length { group_bytes });
        }
        Ok(header)
    }

    /// The group's length, header included.
    pub fn group_bytes(&self) -> u32 {
        self.group_bytes.get()
    }

    /// How far durability lagged behind the group's start when it was taken.
    pub fn undurable_bytes(&self) -> u32 {
        self.undurable_bytes.get()
    }

    /// The chain at the group's start.
    pub fn chain(&self) -> Chain {
        Chain(self.chain.get())
    }

    fn sum(&self, seed: Seed, at: PhysicalOffset) -> u32 {
        let crc = crc32c::crc32c_append(seed.0, &at.get().to_le_bytes());
        crc32c::crc32c_append(crc, &self.as_bytes()[..GROUP_HEADER_BYTES - 4])
    }
}

#[cfg(test)]
mod tests;
