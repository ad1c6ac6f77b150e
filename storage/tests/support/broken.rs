//! Disks and openings that break one rule each, to show that its being broken is noticed.
//!
//! They stand between the log and the simulated disk. The log itself has no switch that breaks it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skylark_storage::checkpoint::{CHECKPOINT_NAME, Checkpoint, SLOT_BYTES};
use skylark_storage::device::simulated::Disk;
use skylark_storage::device::{Operation, Space, Ticket};
use skylark_storage::group::{GROUP_HEADER_BYTES, GroupHeader};
use skylark_storage::segment::{BLOCK_BYTES, segment_name};
use skylark_storage::{Device, File, Files, Record};
use smallvec::SmallVec;
use zerocopy::IntoBytes;

use super::layer::{FileLayer, Layer, Layered, LayeredFile};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Flushes of files do nothing, and say that they succeeded.
    FlushesDoNothing,
    /// A flush that fails is taken for one that succeeded.
    FailedFlushesAreBelieved,
    /// What recovery writes again is left out, because it can be read already.
    NothingIsWrittenAgain,
    /// Flushes of segments do nothing but the device's, which may cover more than it has written.
    SegmentsAreLeftToTheDevice,
    /// Flushes of directories do nothing.
    NamesAreNotFlushed,
    /// What recovery zeroes is not flushed.
    CutsAreNotFlushed,
    /// No checkpoint names the epoch of the opening that is to write in it.
    EpochsAreNotRaised,
    /// Checkpoints are read as if no epoch but that of the last durable record had ever been: bytes of an earlier
    /// life get a say.
    EarlierLivesTestify,
    /// The disk is taken for full, so that retention respects no pin.
    SpaceIsMisread,
    /// Of a group that was torn, the sound records in front are kept.
    HalfAGroupIsKept,
}

/// The disk with a rule broken.
pub fn on(disk: &Disk, rule: Rule) -> Arc<dyn Files> {
    if rule == Rule::HalfAGroupIsKept {
        // Where that fails there is nothing to be kept.
        drop(keep_half_a_group(disk));
    }
    Arc::new(Layered(Broken { disk: disk.clone(), rule }))
}

struct Broken {
    disk: Disk,
    rule: Rule,
}

impl Layer for Broken {
    fn below(&self) -> &dyn Files {
        &self.disk
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.open(name).map(|file| self.break_file(file, name))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.disk.create(name).map(|file| self.break_file(file, name))
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        if self.rule == Rule::NamesAreNotFlushed { Ok(()) } else { self.disk.sync_directory(directory) }
    }

    fn space(&self) -> io::Result<Space> {
        let space = self.disk.space()?;
        Ok(if self.rule == Rule::SpaceIsMisread { Space { available_bytes: 0, ..space } } else { space })
    }

    fn device(&self) -> Box<dyn Device> {
        Box::new(BrokenDevice { device: self.disk.device(), rule: self.rule, is_flush_due: false })
    }
}

impl Broken {
    fn break_file(&self, file: Arc<dyn File>, name: &str) -> Arc<dyn File> {
        let (rule, is_checkpoint) = (self.rule, name.starts_with(CHECKPOINT_NAME));
        Arc::new(LayeredFile(BrokenFile { file, rule, is_checkpoint, has_cut: AtomicBool::new(false) }))
    }
}

struct BrokenFile {
    file: Arc<dyn File>,
    rule: Rule,
    is_checkpoint: bool,
    /// Zeros were written over something.
    has_cut: AtomicBool,
}

impl BrokenFile {
    fn holds(&self, at: u64, bytes: &[u8]) -> io::Result<bool> {
        let mut held = vec![0; bytes.len()];
        Ok(self.file.read_at(at, &mut held)? == bytes.len() && held == bytes)
    }
}

impl FileLayer for BrokenFile {
    fn below(&self) -> &dyn File {
        &*self.file
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(at, buffer)?;
        if self.rule == Rule::EarlierLivesTestify && self.is_checkpoint {
            forget_epochs(buffer);
        }
        Ok(read)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes.to_vec();
        match self.rule {
            Rule::NothingIsWrittenAgain if !self.is_checkpoint && self.holds(at, &bytes)? => return Ok(()),
            Rule::CutsAreNotFlushed if bytes.iter().all(|&byte| byte == 0) && at < self.file.len()? => {
                self.has_cut.store(true, Ordering::Relaxed);
            }
            Rule::EpochsAreNotRaised if self.is_checkpoint => forget_epochs(&mut bytes),
            _ => {}
        }
        self.file.write_at(at, &bytes)
    }

    fn sync(&self) -> io::Result<()> {
        match self.rule {
            Rule::FlushesDoNothing => Ok(()),
            Rule::SegmentsAreLeftToTheDevice if !self.is_checkpoint => Ok(()),
            Rule::FailedFlushesAreBelieved => self.file.sync().or(Ok(())),
            Rule::CutsAreNotFlushed if self.has_cut.swap(false, Ordering::Relaxed) => Ok(()),
            _ => self.file.sync(),
        }
    }
}

/// Lowers the highest epoch that checkpoints name to that of the last durable record.
fn forget_epochs(slots: &mut [u8]) {
    for slot in slots.chunks_exact_mut(SLOT_BYTES) {
        let slot: &mut [u8; SLOT_BYTES] = slot.try_into().expect("a slot is as long as slots are");
        if let Ok(mut checkpoint) = Checkpoint::from_slot(slot) {
            checkpoint.highest_epoch = checkpoint.epoch;
            *slot = checkpoint.to_slot();
        }
    }
}

struct BrokenDevice {
    device: Box<dyn Device>,
    rule: Rule,
    is_flush_due: bool,
}

impl Device for BrokenDevice {
    fn attach(&mut self, segment: &str) -> io::Result<()> {
        self.device.attach(segment)
    }

    fn submit(&mut self, mut operation: Operation) -> Ticket {
        let is_broken = matches!(self.rule, Rule::FlushesDoNothing | Rule::FailedFlushesAreBelieved);
        self.is_flush_due = operation.flush && self.rule == Rule::FailedFlushesAreBelieved;
        operation.flush &= !is_broken;
        self.device.submit(operation)
    }

    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)> {
        let (ticket, outcome) = self.device.complete()?;
        if outcome.is_ok() && self.is_flush_due {
            self.device.submit(Operation { at: 0, pieces: SmallVec::new(), flush: true });
            // Whatever comes of it.
            self.device.complete();
        }
        Some((ticket, outcome))
    }
}

/// Shortens the first torn group behind the checkpoint's durable end to the sound records it begins with.
fn keep_half_a_group(disk: &Disk) -> io::Result<()> {
    let mut slots = [0; 2 * SLOT_BYTES];
    disk.open(CHECKPOINT_NAME)?.read_at(0, &mut slots)?;
    let slots =
        slots.chunks_exact(SLOT_BYTES).filter_map(|slot| Checkpoint::from_slot(slot.try_into().ok()?).ok());
    let Some(checkpoint) = slots.max_by_key(|checkpoint| checkpoint.generation) else { return Ok(()) };
    let seed = checkpoint.log_id.seed();
    let mut at = checkpoint.durable_end;
    loop {
        let base = at.align_down(checkpoint.segment_bytes);
        if at == base {
            at = at.advance(BLOCK_BYTES);
        }
        let file = disk.open(&segment_name(base))?;
        let mut bytes = vec![0; usize::try_from(checkpoint.segment_bytes - at.since(base)).unwrap_or(0)];
        let read = file.read_at(at.since(base), &mut bytes)?;
        bytes.truncate(read);
        let Ok(header) = GroupHeader::parse(seed, at, &bytes) else {
            let block = at.align_up(BLOCK_BYTES);
            if block == at {
                return Ok(());
            }
            at = block;
            continue;
        };
        let mut sound = GROUP_HEADER_BYTES;
        let group_bytes = header.group_bytes() as usize;
        while sound < group_bytes
            && let Some(left) = bytes.get(sound..)
            && let Ok(record) = Record::parse(seed, at.advance(sound as u64), left)
        {
            sound += usize::try_from(record.header.stored_bytes()).unwrap_or(usize::MAX);
        }
        if sound == group_bytes {
            at = at.advance(sound as u64);
            continue;
        }
        if sound == GROUP_HEADER_BYTES {
            return Ok(());
        }
        let shorter_bytes = u32::try_from(sound).unwrap_or(u32::MAX);
        let shorter = GroupHeader::new(seed, at, shorter_bytes, header.undurable_bytes(), header.chain());
        file.write_at(at.since(base), shorter.as_bytes())?;
        file.write_at(at.since(base) + sound as u64, &vec![0; group_bytes.min(read) - sound])?;
        return file.sync();
    }
}
