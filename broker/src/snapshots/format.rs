//! What stands in front of a snapshot's sections, to and from bytes.

use std::mem::{offset_of, size_of};

use skylark_storage::{Chain, Epoch, EpochStart, LogId, PhysicalOffset};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Snapshot, SnapshotHead};

const MAGIC: [u8; 8] = *b"SKYLKSNP";
const FORMAT_VERSION: u32 = 1;
/// As many as there are ids.
const SECTIONS_MAX: u32 = 256;

/// The first bytes of the file; see the module above for the meaning of each field.
///
/// | at | bytes | field            |
/// |---:|------:|------------------|
/// |  0 |     8 | `magic`          |
/// |  8 |     4 | `format_version` |
/// | 12 |     4 | `epoch`          |
/// | 16 |    16 | `log_id`         |
/// | 32 |     8 | `position`       |
/// | 40 |     8 | `oldest_segment` |
/// | 48 |     4 | `chain`          |
/// | 52 |     4 | `epochs`         |
/// | 56 |     4 | `sections`       |
/// | 60 |     4 | `lists_crc`      |
/// | 64 |     4 | `crc`            |
/// | 68 |     4 | `zero`           |
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    magic: [u8; 8],
    format_version: U32,
    epoch: U32,
    log_id: [u8; 16],
    position: U64,
    oldest_segment: U64,
    chain: U32,
    epochs: U32,
    sections: U32,
    lists_crc: U32,
    crc: U32,
    zero: U32,
}

/// An entry of the epoch list.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EpochEntry {
    start: U64,
    epoch: U32,
    zero: U32,
}

/// An entry of the table of sections.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SectionEntry {
    id: u8,
    zero: [u8; 3],
    crc: U32,
    bytes: U64,
}

/// Length of [`Header`].
pub(super) const HEADER_BYTES: u64 = 72;

const _: () = {
    assert!(size_of::<Header>() as u64 == HEADER_BYTES);
    assert!(offset_of!(Header, position) == 32);
    assert!(offset_of!(Header, lists_crc) == 60);
    assert!(offset_of!(Header, crc) == 64);
    assert!(size_of::<EpochEntry>() == 16);
    assert!(size_of::<SectionEntry>() == 16);
};

/// Why a file is not a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// Not a snapshot at all.
    #[error("the file does not begin with the magic of a Skylark snapshot")]
    Magic,
    /// Written by another release.
    #[error("format version {found} is not {FORMAT_VERSION}, the only one this release reads")]
    FormatVersion {
        /// As stored.
        found: u32,
    },
    /// A checksum does not match.
    #[error("the checksum of {part} is {found:#010x}, the bytes give {computed:#010x}")]
    Crc {
        /// Of what.
        part: Part,
        /// As stored.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The file is not as long as its parts.
    #[error("the file has {file_bytes} bytes, its parts have {expected}")]
    Length {
        /// The file's.
        file_bytes: u64,
        /// The sum of the parts.
        expected: u64,
    },
    /// The checksums are sound, a reserved byte is set.
    #[error("reserved bytes are not zero")]
    NotZero,
    /// The checksums are sound, a list is too long or out of order.
    #[error("{0} is out of order")]
    Order(Part),
    /// The file bears another snapshot's name.
    #[error("the file holds the snapshot of position {found}")]
    Misplaced {
        /// As stored.
        found: PhysicalOffset,
    },
}

/// A part of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its first bytes.
    Header,
    /// Epochs and sections.
    Lists,
    /// The section with this id.
    Section(u8),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header => f.write_str("the header"),
            Self::Lists => f.write_str("the lists"),
            Self::Section(id) => write!(f, "section {id}"),
        }
    }
}

/// A section, as the table has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) id: u8,
    crc: u32,
    pub(super) bytes: u64,
}

impl Section {
    /// Compares the section with its checksum.
    pub(super) fn check(self, log_id: LogId, bytes: &[u8]) -> Result<(), Damage> {
        check(Part::Section(self.id), self.crc, sum(log_id, bytes))
    }
}

/// The bytes in front of the sections.
///
/// # Errors
/// When the epochs are too many to be counted.
pub(super) fn front(snapshot: &Snapshot) -> std::io::Result<Vec<u8>> {
    let Snapshot { head, sections } = snapshot;
    let mut lists = Vec::with_capacity(16 * (head.epochs.len() + sections.len()));
    for EpochStart { epoch, start } in &head.epochs {
        let entry = EpochEntry { start: start.get().into(), epoch: epoch.get().into(), zero: 0.into() };
        lists.extend_from_slice(entry.as_bytes());
    }
    for (id, bytes) in sections {
        let entry = SectionEntry {
            id: *id,
            zero: [0; 3],
            crc: sum(head.log_id, bytes).into(),
            bytes: (bytes.len() as u64).into(),
        };
        lists.extend_from_slice(entry.as_bytes());
    }
    let count = |length: usize| u32::try_from(length).map_err(std::io::Error::other);
    let mut header = Header {
        magic: MAGIC,
        format_version: FORMAT_VERSION.into(),
        epoch: head.epoch.get().into(),
        log_id: head.log_id.to_bytes(),
        position: head.position.get().into(),
        oldest_segment: head.oldest_segment.get().into(),
        chain: head.chain.get().into(),
        epochs: count(head.epochs.len())?.into(),
        sections: count(sections.len())?.into(),
        lists_crc: sum(head.log_id, &lists).into(),
        crc: 0.into(),
        zero: 0.into(),
    };
    header.crc = header.sum().into();
    let mut bytes = header.as_bytes().to_vec();
    bytes.append(&mut lists);
    Ok(bytes)
}

impl Header {
    /// Reads and checks the header.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let length = Damage::Length { file_bytes: bytes.len() as u64, expected: HEADER_BYTES };
        let header = Self::read_from_bytes(bytes).map_err(|_| length)?;
        if header.magic != MAGIC {
            return Err(Damage::Magic);
        }
        // In this order, because every version keeps its checksum here: a flipped bit is not another release.
        check(Part::Header, header.crc.get(), header.sum())?;
        if header.format_version.get() != FORMAT_VERSION {
            return Err(Damage::FormatVersion { found: header.format_version.get() });
        }
        if header.zero.get() != 0 {
            return Err(Damage::NotZero);
        }
        if header.sections.get() > SECTIONS_MAX {
            return Err(Damage::Order(Part::Lists));
        }
        Ok(header)
    }

    /// Length of what stands between the header and the sections.
    pub(super) fn lists_bytes(&self) -> u64 {
        16 * (u64::from(self.epochs.get()) + u64::from(self.sections.get()))
    }

    /// Reads and checks the lists; what the header says, and the sections.
    pub(super) fn parse_lists(&self, lists: &[u8]) -> Result<(SnapshotHead, Vec<Section>), Damage> {
        let log_id = LogId::from_bytes(self.log_id);
        check(Part::Lists, self.lists_crc.get(), sum(log_id, lists))?;
        let entries = self.epochs.get() as usize;
        let (epochs, table) = <[EpochEntry]>::ref_from_prefix_with_elems(lists, entries)
            .map_err(|_| Damage::Order(Part::Lists))?;
        let table = <[SectionEntry]>::ref_from_bytes(table).map_err(|_| Damage::Order(Part::Lists))?;
        if epochs.iter().any(|entry| entry.zero.get() != 0) || table.iter().any(|entry| entry.zero != [0; 3])
        {
            return Err(Damage::NotZero);
        }
        let in_order = epochs
            .is_sorted_by(|a, b| a.epoch.get() < b.epoch.get() && a.start.get() < b.start.get())
            && table.is_sorted_by(|a, b| a.id < b.id);
        if !in_order {
            return Err(Damage::Order(Part::Lists));
        }
        let head = SnapshotHead {
            log_id,
            position: PhysicalOffset::new(self.position.get()),
            epoch: Epoch::new(self.epoch.get()),
            chain: Chain::new(self.chain.get()),
            oldest_segment: PhysicalOffset::new(self.oldest_segment.get()),
            epochs: epochs
                .iter()
                .map(|entry| EpochStart {
                    epoch: Epoch::new(entry.epoch.get()),
                    start: PhysicalOffset::new(entry.start.get()),
                })
                .collect(),
        };
        let section =
            |entry: &SectionEntry| Section { id: entry.id, crc: entry.crc.get(), bytes: entry.bytes.get() };
        Ok((head, table.iter().map(section).collect()))
    }

    fn sum(&self) -> u32 {
        sum(LogId::from_bytes(self.log_id), &self.as_bytes()[..offset_of!(Self, crc)])
    }
}

/// CRC32C that starts from the log's seed.
fn sum(log_id: LogId, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&log_id.to_bytes()), bytes)
}

fn check(part: Part, found: u32, computed: u32) -> Result<(), Damage> {
    if found == computed { Ok(()) } else { Err(Damage::Crc { part, found, computed }) }
}
