//! Epochs: which opening or leadership wrote what, kept as records of the log itself.
//!
//! The first record of every epoch is an epoch record, and each names the one before, so the history is a list
//! that can be walked backwards from any of them, past what has been trimmed.

use std::mem::{offset_of, size_of};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::offset::{Epoch, PhysicalOffset};

/// Where an epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// Which epoch.
    pub epoch: Epoch,
    /// The first byte of its epoch record's header.
    pub start: PhysicalOffset,
}

/// Why an epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The log was opened for appends.
    Opened,
    /// A node became the leader.
    Leadership,
}

/// The payload of a record of kind [`crate::record::Kind::EPOCH`], all of it head; integers are little-endian.
///
/// | at | bytes | field            | meaning                                                       |
/// |---:|------:|------------------|---------------------------------------------------------------|
/// |  0 |     8 | `start`          | the physical offset of this record                            |
/// |  8 |     8 | `previous_start` | where `previous` began; zero when it is zero                  |
/// | 16 |     4 | `epoch`          | the epoch that begins, as in the record's header              |
/// | 20 |     4 | `previous`       | the epoch of the record before; zero at the log's beginning   |
/// | 24 |     1 | `cause`          | 1 opened, 2 leadership                                        |
/// | 25 |     7 | `zero`           | checked to be zero                                            |
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Payload {
    start: U64,
    previous_start: U64,
    epoch: U32,
    previous: U32,
    cause: u8,
    zero: [u8; 7],
}

/// Length of an epoch record's payload.
pub const EPOCH_PAYLOAD_BYTES: usize = 32;

const _: () = {
    assert!(size_of::<Payload>() == EPOCH_PAYLOAD_BYTES);
    assert!(offset_of!(Payload, epoch) == 16);
    assert!(offset_of!(Payload, cause) == 24);
};

/// What an epoch record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRecord {
    /// The epoch that begins.
    pub epoch: Epoch,
    /// The physical offset of the record.
    pub start: PhysicalOffset,
    /// The epoch before, and where it began; `None` at the log's beginning.
    pub previous: Option<EpochStart>,
    /// Why it begins.
    pub cause: Cause,
}

/// Why a payload is not an epoch record's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EpochError {
    /// Not 32 bytes.
    #[error("an epoch record of {have} bytes, they have {EPOCH_PAYLOAD_BYTES}")]
    Length {
        /// Bytes at hand.
        have: usize,
    },
    /// A cause that this release does not know.
    #[error("an epoch record of cause {found}")]
    Cause {
        /// As stored.
        found: u8,
    },
    /// The epoch, or where it begins, does not lie behind the previous one.
    #[error("epoch {epoch} at {start} does not follow epoch {previous} at {previous_start}")]
    Order {
        /// As stored.
        epoch: Epoch,
        /// As stored.
        start: PhysicalOffset,
        /// As stored.
        previous: Epoch,
        /// As stored.
        previous_start: PhysicalOffset,
    },
    /// A reserved byte is set.
    #[error("reserved bytes are not zero")]
    NotZero,
}

impl EpochRecord {
    /// The payload; the whole of it is the record's head, because `start` is known only under the append lock.
    pub fn to_bytes(&self) -> [u8; EPOCH_PAYLOAD_BYTES] {
        let previous = self.previous.unwrap_or(NOTHING);
        let payload = Payload {
            start: self.start.get().into(),
            previous_start: previous.start.get().into(),
            epoch: self.epoch.get().into(),
            previous: previous.epoch.get().into(),
            cause: match self.cause {
                Cause::Opened => 1,
                Cause::Leadership => 2,
            },
            zero: [0; 7],
        };
        zerocopy::transmute!(payload)
    }

    /// Reads and checks a payload.
    ///
    /// # Errors
    /// When no epoch record has this payload.
    pub fn parse(bytes: &[u8]) -> Result<Self, EpochError> {
        let payload =
            Payload::read_from_bytes(bytes).map_err(|_| EpochError::Length { have: bytes.len() })?;
        if payload.zero != [0; 7] {
            return Err(EpochError::NotZero);
        }
        let cause = match payload.cause {
            1 => Cause::Opened,
            2 => Cause::Leadership,
            found => return Err(EpochError::Cause { found }),
        };
        let epoch = Epoch::new(payload.epoch.get());
        let start = PhysicalOffset::new(payload.start.get());
        let previous = EpochStart {
            epoch: Epoch::new(payload.previous.get()),
            start: PhysicalOffset::new(payload.previous_start.get()),
        };
        let first = previous == NOTHING;
        if previous.epoch >= epoch || previous.start >= start || (previous.epoch == Epoch::ZERO && !first) {
            let EpochStart { epoch: previous, start: previous_start } = previous;
            return Err(EpochError::Order { epoch, start, previous, previous_start });
        }
        Ok(Self { epoch, start, previous: (!first).then_some(previous), cause })
    }
}

/// How the absence of a previous epoch is stored.
const NOTHING: EpochStart = EpochStart { epoch: Epoch::ZERO, start: PhysicalOffset::ZERO };

#[cfg(test)]
mod tests;
