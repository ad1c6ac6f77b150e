//! The checkpoint: a lower bound for recovery, and what the files alone cannot say.
//!
//! Two slots in one file take turns, so a torn write leaves the other one. A checkpoint is never a source of truth
//! above the log: a durable end that is too low costs time, nothing else.

use std::io;
use std::mem::{offset_of, size_of};
use std::sync::Arc;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::device::{File, Files, WriteRefused, is_refusal};
use crate::group::Chain;
use crate::log_id::LogId;
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::RECORD_ALIGNMENT;
use crate::segment::{BLOCK_BYTES, FORMAT_VERSION, is_segment_length};

/// The file's name in the data directory.
pub const CHECKPOINT_NAME: &str = "CHECKPOINT";
/// What the file is called until its first slot is durable.
pub(crate) const CHECKPOINT_NEW_NAME: &str = "CHECKPOINT.tmp";
/// Length of a slot, of which the file has two.
pub const SLOT_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"SKYLKCKP";
const CLEAN: u32 = 1;

/// The first bytes of a slot, the rest of which is zero; integers are little-endian.
///
/// Generation `g` stands in slot `g % 2`, that is at byte `g % 2 × 4096` of the file.
///
/// |  at | bytes | field            | meaning                                                               |
/// |----:|------:|------------------|-----------------------------------------------------------------------|
/// |   0 |     8 | `magic`          | `SKYLKCKP`                                                            |
/// |   8 |     4 | `format_version` | see [`FORMAT_VERSION`]                                                |
/// |  12 |     4 | `flags`          | bit 0: the log was closed, nothing lies behind `durable_end`; others zero |
/// |  16 |    16 | `log_id`         | which log                                                             |
/// |  32 |     8 | `generation`     | one more than the checkpoint before                                   |
/// |  40 |     8 | `segment_bytes`  | nominal length of every segment of the log                            |
/// |  48 |     8 | `durable_end`    | end of a group; all below was durable                                 |
/// |  56 |     8 | `oldest_segment` | base of the first segment that is named                               |
/// |  64 |     8 | `newest_segment` | base of the last one; all between are named too                       |
/// |  72 |     8 | `led_from`       | lowest offset this node led without interruption                      |
/// |  80 |     8 | `epoch_start`    | where `epoch` began; zero when it is zero                             |
/// |  88 |     8 | `stored_at`      | store time of the last record below `durable_end`, ms since 1970      |
/// |  96 |     4 | `epoch`          | of the last record below `durable_end`; zero when there is none       |
/// | 100 |     4 | `highest_epoch`  | no record of a higher epoch has been written                          |
/// | 104 |     4 | `chain`          | what the group behind `durable_end` carries                           |
/// | 108 |     4 | `crc`            | CRC32C of the 108 bytes before                                        |
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Slot {
    magic: [u8; 8],
    format_version: U32,
    flags: U32,
    log_id: [u8; 16],
    generation: U64,
    segment_bytes: U64,
    durable_end: U64,
    oldest_segment: U64,
    newest_segment: U64,
    led_from: U64,
    epoch_start: U64,
    stored_at: U64,
    epoch: U32,
    highest_epoch: U32,
    chain: U32,
    crc: U32,
}

const _: () = {
    assert!(size_of::<Slot>() == 112);
    assert!(offset_of!(Slot, log_id) == 16);
    assert!(offset_of!(Slot, durable_end) == 48);
    assert!(offset_of!(Slot, epoch_start) == 80);
    assert!(offset_of!(Slot, epoch) == 96);
    assert!(offset_of!(Slot, crc) == 108);
};

/// What a checkpoint says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// One more than the checkpoint before; [`CheckpointFile::store`] counts.
    pub generation: u64,
    /// Which log.
    pub log_id: LogId,
    /// Nominal length of every segment, chosen when the log was created.
    pub segment_bytes: u64,
    /// End of a group: everything below was durable. Behind a padding record it is the next segment's base.
    pub durable_end: PhysicalOffset,
    /// What the group behind `durable_end` carries.
    pub chain: Chain,
    /// Of the last record below `durable_end`; [`Epoch::ZERO`] when there is none.
    pub epoch: Epoch,
    /// Where `epoch` began: its epoch record.
    pub epoch_start: PhysicalOffset,
    /// No record of a higher epoch has been written: a new epoch is named here before its first append.
    pub highest_epoch: Epoch,
    /// Base of the first named segment.
    pub oldest_segment: PhysicalOffset,
    /// Base of the last named segment. One is named before its first append, and exists by then.
    pub newest_segment: PhysicalOffset,
    /// The lowest offset this node led without interruption; attestation counts from here.
    pub led_from: PhysicalOffset,
    /// Store time of the last record below `durable_end`, in milliseconds since 1970.
    pub stored_at: u64,
    /// The log was closed: nothing lies behind `durable_end`.
    pub clean: bool,
}

/// Why a slot holds no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// Never written.
    #[error("the slot is empty")]
    Empty,
    /// Not a checkpoint at all.
    #[error("the slot does not begin with the magic of a Skylark checkpoint")]
    Magic,
    /// Written by another release.
    #[error("format version {found} is not {FORMAT_VERSION}, the only one this release reads")]
    FormatVersion {
        /// As stored.
        found: u32,
    },
    /// The checksum does not match.
    #[error("checkpoint checksum is {found:#010x}, the bytes give {computed:#010x}")]
    Crc {
        /// As stored.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A reserved bit or byte is set.
    #[error("reserved bytes are not zero")]
    NotZero,
    /// The checksum is sound, the fields contradict one another.
    #[error("the fields contradict one another")]
    Contradiction,
    /// The disk refuses to read it. The next checkpoint that goes there is written, and can be read.
    #[error("the disk refuses to read the slot")]
    Unreadable,
}

impl Checkpoint {
    /// The one that a log is created with.
    pub fn first(log_id: LogId, segment_bytes: u64) -> Self {
        Self {
            generation: FIRST_GENERATION,
            log_id,
            segment_bytes,
            durable_end: PhysicalOffset::ZERO,
            chain: Chain::START,
            epoch: Epoch::ZERO,
            epoch_start: PhysicalOffset::ZERO,
            highest_epoch: Epoch::ZERO,
            oldest_segment: PhysicalOffset::ZERO,
            newest_segment: PhysicalOffset::ZERO,
            led_from: PhysicalOffset::ZERO,
            stored_at: 0,
            clean: false,
        }
    }

    /// The slot that holds this checkpoint.
    pub fn to_slot(&self) -> [u8; SLOT_BYTES] {
        let mut slot = Slot {
            magic: MAGIC,
            format_version: FORMAT_VERSION.into(),
            flags: if self.clean { CLEAN } else { 0 }.into(),
            log_id: self.log_id.to_bytes(),
            generation: self.generation.into(),
            segment_bytes: self.segment_bytes.into(),
            durable_end: self.durable_end.get().into(),
            oldest_segment: self.oldest_segment.get().into(),
            newest_segment: self.newest_segment.get().into(),
            led_from: self.led_from.get().into(),
            epoch_start: self.epoch_start.get().into(),
            stored_at: self.stored_at.into(),
            epoch: self.epoch.get().into(),
            highest_epoch: self.highest_epoch.get().into(),
            chain: self.chain.get().into(),
            crc: 0.into(),
        };
        slot.crc = slot.sum().into();
        let mut bytes = [0; SLOT_BYTES];
        bytes[..size_of::<Slot>()].copy_from_slice(slot.as_bytes());
        bytes
    }

    /// Reads and checks a slot.
    ///
    /// # Errors
    /// When it holds no checkpoint of this format, or one that contradicts itself.
    pub fn from_slot(bytes: &[u8; SLOT_BYTES]) -> Result<Self, SlotError> {
        let (head, rest) = bytes.split_at(size_of::<Slot>());
        let slot = Slot::read_from_bytes(head).map_err(|_| SlotError::Magic)?;
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(SlotError::Empty);
        }
        if slot.magic != MAGIC {
            return Err(SlotError::Magic);
        }
        let (found, computed) = (slot.crc.get(), slot.sum());
        // In this order, because every version keeps its checksum here: a flipped bit is not another release.
        if found != computed {
            return Err(SlotError::Crc { found, computed });
        }
        if slot.format_version.get() != FORMAT_VERSION {
            return Err(SlotError::FormatVersion { found: slot.format_version.get() });
        }
        if slot.flags.get() & !CLEAN != 0 || rest.iter().any(|&byte| byte != 0) {
            return Err(SlotError::NotZero);
        }
        let checkpoint = Self {
            generation: slot.generation.get(),
            log_id: LogId::from_bytes(slot.log_id),
            segment_bytes: slot.segment_bytes.get(),
            durable_end: PhysicalOffset::new(slot.durable_end.get()),
            chain: Chain::new(slot.chain.get()),
            epoch: Epoch::new(slot.epoch.get()),
            epoch_start: PhysicalOffset::new(slot.epoch_start.get()),
            highest_epoch: Epoch::new(slot.highest_epoch.get()),
            oldest_segment: PhysicalOffset::new(slot.oldest_segment.get()),
            newest_segment: PhysicalOffset::new(slot.newest_segment.get()),
            led_from: PhysicalOffset::new(slot.led_from.get()),
            stored_at: slot.stored_at.get(),
            clean: slot.flags.get() & CLEAN != 0,
        };
        if checkpoint.is_consistent() { Ok(checkpoint) } else { Err(SlotError::Contradiction) }
    }

    /// What every reader of a checkpoint relies on.
    pub(crate) fn is_consistent(&self) -> bool {
        let bytes = self.segment_bytes;
        is_segment_length(bytes)
            // Far from where sums of offsets and lengths overflow.
            && self.newest_segment.get() < 1 << 62
            && self.oldest_segment.get().is_multiple_of(bytes)
            && self.newest_segment.get().is_multiple_of(bytes)
            && self.oldest_segment <= self.newest_segment
            && self.oldest_segment <= self.durable_end
            && self.durable_end <= self.newest_segment.advance(bytes)
            && self.durable_end.get().is_multiple_of(RECORD_ALIGNMENT as u64)
            && ends_outside_of_headers(self.durable_end, bytes)
            // Inside a segment a group ends there, and every record is of an epoch. What the writer puts next may be
            // padding, which is of the same one.
            && (self.epoch > Epoch::ZERO || self.durable_end.get().is_multiple_of(bytes))
            && self.epoch <= self.highest_epoch
            && self.highest_epoch < EPOCH_LIMIT
            && self.epoch_start <= self.durable_end
    }
}

/// No group ends in a segment's header block: what is cut behind such an end would be the header.
fn ends_outside_of_headers(end: PhysicalOffset, segment_bytes: u64) -> bool {
    let within = end.since(end.align_down(segment_bytes));
    within == 0 || within > BLOCK_BYTES
}

impl Slot {
    fn sum(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[..offset_of!(Self, crc)])
    }
}

/// The checkpoint file, open, and the newest checkpoint in it.
pub struct CheckpointFile {
    file: Arc<dyn File>,
    current: Checkpoint,
}

/// What [`CheckpointFile::load`] found.
pub struct Loaded {
    /// The newest sound checkpoint, or why there is none in either slot.
    pub file: Result<CheckpointFile, [SlotError; 2]>,
    /// What is wrong with the slot whose turn was last but one: it may have held a newer checkpoint.
    pub damaged: Option<SlotError>,
}

impl CheckpointFile {
    /// Creates the file with `first` in it. Until this returns a power cut may leave none.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn create(files: &dyn Files, first: Checkpoint) -> io::Result<Self> {
        if files.list("")?.iter().any(|name| name == CHECKPOINT_NEW_NAME) {
            files.remove(CHECKPOINT_NEW_NAME)?;
        }
        let file = files.create(CHECKPOINT_NEW_NAME)?;
        let mut slots = [0; 2 * SLOT_BYTES];
        let at = slot_index(first.generation) * SLOT_BYTES;
        slots[at..at + SLOT_BYTES].copy_from_slice(&first.to_slot());
        file.write_at(0, &slots)?;
        file.sync()?;
        files.rename(CHECKPOINT_NEW_NAME, CHECKPOINT_NAME)?;
        files.sync_directory("")?;
        Ok(Self { file, current: first })
    }

    /// Opens the file; `None` when there is none.
    ///
    /// # Errors
    /// When the file cannot be opened, or read for another reason than its medium. Damage to the slots, which may not even
    /// be readable, is part of the answer, not an error.
    pub fn load(files: &dyn Files) -> io::Result<Option<Loaded>> {
        if !files.list("")?.iter().any(|name| name == CHECKPOINT_NAME) {
            return Ok(None);
        }
        let file = files.open(CHECKPOINT_NAME)?;
        let (current, damaged) = leading(read_slots(&*file)?);
        Ok(Some(Loaded { file: current.map(|current| Self { file, current }), damaged }))
    }

    /// Replaces the older of the two checkpoints by `next`, whose generation is set here, and makes it durable.
    ///
    /// # Errors
    /// When the disk refuses: either checkpoint may be the one that a restart finds. The log must be poisoned, unless
    /// the error holds a [`WriteRefused`]: then the older one may be damaged, and the same can be tried again.
    pub fn store(&mut self, next: Checkpoint) -> io::Result<()> {
        let next = Checkpoint { generation: self.current.generation.saturating_add(1), ..next };
        debug_assert!(next.is_consistent(), "a checkpoint is checked on both sides of the disk: {next:?}");
        let at = (slot_index(next.generation) * SLOT_BYTES) as u64;
        self.file.write_at(at, &next.to_slot()).map_err(WriteRefused::mark)?;
        self.file.sync()?;
        self.current = next;
        Ok(())
    }

    /// Writes the newest checkpoint once more, where it stands, and makes it durable: one that a killed process left
    /// can be read, and may be gone after a power cut. Files are removed on its word.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn store_again(&self) -> io::Result<()> {
        self.file
            .write_at((slot_index(self.current.generation) * SLOT_BYTES) as u64, &self.current.to_slot())?;
        self.file.sync()
    }

    /// The newest checkpoint.
    pub fn current(&self) -> &Checkpoint {
        &self.current
    }

    /// Where in the file the other one stands, or stood.
    pub(crate) fn other_slot_at(&self) -> u64 {
        (slot_index(self.current.generation.saturating_add(1)) * SLOT_BYTES) as u64
    }
}

/// No epoch reaches this.
pub(crate) const EPOCH_LIMIT: Epoch = Epoch::new(u32::MAX - 2);
/// Of the checkpoint that a log is created with.
pub const FIRST_GENERATION: u64 = 1;

/// What the two slots hold. A checkpoint in the other one's place is none, and so is one that cannot be read: there are
/// two, each in a block of its own, so that one sector is never all.
pub(crate) fn read_slots(file: &dyn File) -> io::Result<[Result<Checkpoint, SlotError>; 2]> {
    let read = |index: usize| -> io::Result<_> {
        let mut slot = [0; SLOT_BYTES];
        match file.read_at((index * SLOT_BYTES) as u64, &mut slot) {
            Err(error) if is_refusal(&error) => return Ok(Err(SlotError::Unreadable)),
            read => read?,
        };
        let in_place = |sound: &Checkpoint| slot_index(sound.generation) == index;
        let checkpoint = Checkpoint::from_slot(&slot);
        Ok(checkpoint.and_then(|sound| in_place(&sound).then_some(sound).ok_or(SlotError::Contradiction)))
    };
    Ok([read(0)?, read(1)?])
}

/// The newest of the sound checkpoints, and what is wrong with the slot whose turn was last but one.
pub(crate) fn leading(
    slots: [Result<Checkpoint, SlotError>; 2],
) -> (Result<Checkpoint, [SlotError; 2]>, Option<SlotError>) {
    match slots.into() {
        (Ok(a), Ok(b)) => (Ok(if a.generation > b.generation { a } else { b }), None),
        (Ok(sound), Err(error)) | (Err(error), Ok(sound)) => {
            // Before the second checkpoint of a log the other slot is empty.
            let expected = error == SlotError::Empty && sound.generation == FIRST_GENERATION;
            (Ok(sound), (!expected).then_some(error))
        }
        (Err(a), Err(b)) => (Err([a, b]), None),
    }
}

fn slot_index(generation: u64) -> usize {
    usize::from(generation % 2 == 1)
}

#[cfg(test)]
mod tests;
