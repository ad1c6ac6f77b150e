//! What is appended together: measured and summed before the append lock is taken.

use smallvec::SmallVec;

use crate::log_id::Seed;
use crate::offset::PhysicalOffset;
use crate::record::{Kind, RECORD_HEADER_BYTES, payload_crc, record_bytes};

/// A record to append. Its payload is the head followed by the rest.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// What it is; at least [`Kind::FIRST_FREE`].
    pub kind: Kind,
    /// The payload's first bytes, at most 255: copied, and then finished in place by the append's callback.
    pub head: &'a [u8],
    /// What follows, in pieces that are stored without a gap.
    pub rest: &'a [&'a [u8]],
}

/// Where a record goes, told to the append's callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The record's index in its unit.
    pub index: usize,
    /// The position of the record's first byte, its 32-byte header included.
    pub physical_offset: PhysicalOffset,
    /// Its store time in milliseconds since 1970. Never decreases along the log.
    pub stored_at: u64,
}

/// Records that go into one group, one behind the other.
pub(crate) struct Unit<'a> {
    records: &'a [NewRecord<'a>],
    measured: SmallVec<[Measured; 4]>,
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Measured {
    at: usize,
    payload_bytes: u32,
    head_bytes: u8,
    payload_crc: u32,
}

/// A record of a unit, ready to be placed.
pub(super) struct Ready<'a> {
    /// From the start of the unit.
    pub(super) at: usize,
    pub(super) kind: Kind,
    pub(super) head: &'a [u8],
    pub(super) head_bytes: u8,
    pub(super) payload_bytes: u32,
    pub(super) payload_crc: u32,
}

/// The unit is longer than any group may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    pub(crate) unit_bytes: u64,
}

impl<'a> Unit<'a> {
    /// Measures and sums the records.
    ///
    /// # Errors
    /// When they take more than `bytes_max` together.
    ///
    /// # Panics
    /// When there is no record, or a head of more than 255 bytes.
    pub(crate) fn new(seed: Seed, records: &'a [NewRecord<'a>], bytes_max: u64) -> Result<Self, TooLong> {
        assert!(!records.is_empty(), "a unit holds at least one record");
        // Before anything is summed, so that a unit without bounds costs nothing.
        let unit_bytes = records.iter().fold(0_u64, |sum, record| {
            let payload_bytes = u32::try_from(record.payload_bytes()).unwrap_or(u32::MAX);
            sum.saturating_add(record_bytes(payload_bytes))
        });
        if unit_bytes > bytes_max {
            return Err(TooLong { unit_bytes });
        }
        let mut bytes = 0;
        let measured = records.iter().map(|record| {
            let payload_bytes = u32::try_from(record.payload_bytes()).expect("a unit is shorter than 4 GiB");
            let measured = Measured {
                at: bytes,
                payload_bytes,
                head_bytes: u8::try_from(record.head.len()).expect("a head has at most 255 bytes"),
                payload_crc: payload_crc(seed, record.rest),
            };
            bytes += usize::try_from(record_bytes(payload_bytes)).expect("a unit fits into memory");
            measured
        });
        let measured = measured.collect();
        Ok(Self { records, measured, bytes })
    }

    /// What the unit takes in the log.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Ready<'a>> {
        self.records.iter().zip(&self.measured).map(|(record, measured)| Ready {
            at: measured.at,
            kind: record.kind,
            head: record.head,
            head_bytes: measured.head_bytes,
            payload_bytes: measured.payload_bytes,
            payload_crc: measured.payload_crc,
        })
    }

    /// Copies what stands behind the heads to its place in the unit's bytes, and the zeros behind each record.
    pub(super) fn copy_rests(&self, bytes: &mut [u8]) {
        for (index, (record, measured)) in self.records.iter().zip(&self.measured).enumerate() {
            let end = self.measured.get(index + 1).map_or(self.bytes, |next| next.at);
            let mut left = &mut bytes[measured.at + RECORD_HEADER_BYTES + record.head.len()..end];
            for part in record.rest {
                let (into, behind) = left.split_at_mut(part.len());
                into.copy_from_slice(part);
                left = behind;
            }
            left.fill(0);
        }
    }
}

impl NewRecord<'_> {
    fn payload_bytes(&self) -> usize {
        self.head.len() + self.rest.iter().map(|part| part.len()).sum::<usize>()
    }
}
