//! The ground under the writer: segment files that exist, filled with zeros, before groups go there.
//!
//! A flush that also has to allocate blocks or to change a file's length costs twice one that does not, so files are
//! filled by real writes ahead of the writer, in steps, and synced; `fallocate` would leave extents unwritten. While
//! one segment is in use the next is prepared as `log/spare`. Once it is full it gets its own name and a checkpoint
//! names it, so that rolling finds everything done; a roll that comes earlier takes what there is.
//!
//! Where groups are not flushed one by one that does not pay: every byte would cross to the disk twice. There the bytes
//! are only reserved, and so they are where the writer outruns the zeros.
//!
//! A segment's file may therefore be shorter than its nominal length; what is missing counts as zeros.
//!
//! A disk that refuses to be filled harms nobody as long as groups find what is filled already: see [`Unready`].

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::device::{File, Files, is_full};
use crate::offset::PhysicalOffset;
use crate::poison::Cause;
use crate::segment::{BLOCK_BYTES, segment_name};
use crate::sync::{self, AtomicU64, Mutex, Ordering};

/// Where the next segment is prepared.
const SPARE: &str = "log/spare";
/// The directory of the segments.
const DIRECTORY: &str = "log";
/// How much is filled at a time; less in small segments.
const STEP_BYTES_MAX: u64 = 4 << 20;
/// The writer is about to outrun the housekeeper with no more than this in front of it; less in small segments.
const URGENT_BYTES_MAX: u64 = 16 << 20;

/// The files of the segment in use and of the next.
pub(crate) struct Ground {
    files: Arc<dyn Files>,
    filling: Filling,
    segment_bytes: u64,
    step_bytes: u64,
    ahead_bytes: u64,
    urgent_bytes: u64,
    /// The log's position up to which the segment in use is filled.
    filled_end: AtomicU64,
    /// Base of the newest segment that a checkpoint is known to name.
    named: AtomicU64,
    /// Held through a step of filling: of the same zeros, written twice, the later ones would erase groups.
    stages: Mutex<Stages>,
    /// Sealed segments that may take more space than they need, each with how many bytes are used.
    sealed: Mutex<VecDeque<(PhysicalOffset, u64)>>,
}

/// How ground is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// By zeros, so that a flush finds nothing to do but its bytes.
    Zeros,
    /// By the promise of room.
    Reserved,
}

struct Stages {
    /// Base of the segment in use.
    base: PhysicalOffset,
    active: Stage,
    spare: Spare,
}

/// The next segment.
enum Spare {
    None,
    /// As `log/spare`.
    Filling(Stage),
    /// Under its own name, which is durable.
    Placed(Stage),
}

/// Why ground could not be prepared.
#[derive(Debug)]
pub(crate) enum Unready {
    /// The disk did not take a name, or zeros where no group is: nothing that anybody relies on has changed, so
    /// the same may be tried again.
    Refused(io::Error),
    /// A flush failed. It covered the groups of that file too, or the name of one, and is not to be tried again.
    InDoubt(io::Error),
}

/// A file and how far it is filled.
struct Stage {
    file: Arc<dyn File>,
    filled_bytes: u64,
}

impl Ground {
    /// The ground of a log that ends at `end`, with the segment at `base` in use: the one that takes the next group,
    /// or the one before if that is still to be made. `newest` is the last one that the checkpoint names, behind
    /// which recovery has left none.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        filling: Filling,
        segment_bytes: u64,
        ahead_bytes: u64,
        base: PhysicalOffset,
        newest: PhysicalOffset,
        end: PhysicalOffset,
    ) -> io::Result<Self> {
        let mut active = Stage::open(&*files, &segment_name(base))?;
        // Never below the end, where groups are.
        let used_bytes = end.align_up(BLOCK_BYTES).get().saturating_sub(base.get());
        active.filled_bytes = active.filled_bytes.max(used_bytes);
        let spare = if newest > base {
            Spare::Placed(Stage::open(&*files, &segment_name(base.advance(segment_bytes)))?)
        } else if files.list(DIRECTORY)?.iter().any(|name| SPARE.strip_prefix("log/") == Some(name)) {
            // One that cannot be used is made anew.
            Stage::open_spare(&*files).map_or(Spare::None, Spare::Filling)
        } else {
            Spare::None
        };
        Ok(Self {
            files,
            filling,
            segment_bytes,
            step_bytes: (segment_bytes / 8).next_multiple_of(BLOCK_BYTES).min(STEP_BYTES_MAX),
            ahead_bytes: ahead_bytes.min(segment_bytes),
            urgent_bytes: (segment_bytes / 8).min(ahead_bytes / 2).min(URGENT_BYTES_MAX),
            filled_end: AtomicU64::new(base.get() + active.filled_bytes),
            named: AtomicU64::new(newest.get()),
            stages: Mutex::new(Stages { base, active, spare }),
            sealed: Mutex::new(VecDeque::new()),
        })
    }

    /// Sees to it that the segment in use is filled up to `end`.
    ///
    /// # Errors
    /// When the disk refuses even what is missing, or a flush failed.
    pub(crate) fn reach(&self, end: PhysicalOffset) -> Result<(), Unready> {
        if self.is_reached(end) {
            return Ok(());
        }
        let stages = &mut *self.stages.lock();
        // Once more under the lock: the housekeeper may have filled what was missing.
        while stages.filled_end() < end {
            let outcome = match self.fill_active(stages, Filling::Reserved, self.step_bytes) {
                // The last bytes of a disk may hold this group, though they do not hold a step.
                Err(error) if error.is_full() => {
                    self.fill_active(stages, Filling::Reserved, end.since(stages.filled_end()))
                }
                outcome => outcome,
            };
            match outcome {
                // What is set aside for the next segment serves this one first.
                Err(error) if error.is_full() && self.draw_on_spare(stages)? => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Whether the segment in use is filled up to `end`.
    pub(crate) fn is_reached(&self, end: PhysicalOffset) -> bool {
        // Acquire: pairs with the store that follows the sync.
        self.filled_end.load(Ordering::Acquire) >= end.get()
    }

    /// The log's position up to which the segment in use is filled.
    pub(crate) fn filled_end(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.filled_end.load(Ordering::Relaxed))
    }

    /// What is missing up to `end`, for a group of the segment at `base`.
    pub(crate) fn missing_bytes(&self, base: PhysicalOffset, end: PhysicalOffset) -> u64 {
        let stages = self.stages.lock();
        let filled_end = if stages.base == base { stages.filled_end() } else { base };
        end.get().saturating_sub(filled_end.get())
    }

    /// Makes the segment at `base` the one in use, under its own name. Asks nothing of the disk if that was prepared.
    ///
    /// # Errors
    /// When the disk refuses, or a flush failed.
    pub(crate) fn advance(&self, base: PhysicalOffset) -> Result<(), Unready> {
        let mut stages = self.stages.lock();
        if stages.base == base {
            return Ok(());
        }
        match &stages.spare {
            Spare::Placed(_) => {}
            Spare::Filling(_) => self.place(&mut stages, base)?,
            Spare::None => {
                let stage = self.create(base)?;
                self.sync_names()?;
                stages.spare = Spare::Placed(stage);
            }
        }
        if let Spare::Placed(next) = std::mem::replace(&mut stages.spare, Spare::None) {
            self.filled_end.store(base.get() + next.filled_bytes, Ordering::Release);
            stages.base = base;
            stages.active = next;
        }
        Ok(())
    }

    /// Whether a checkpoint is known to name the segment at `base`.
    pub(crate) fn is_named(&self, base: PhysicalOffset) -> bool {
        // Acquire: pairs with the store behind the checkpoint, which is durable for whoever sees this.
        self.named.load(Ordering::Acquire) >= base.get()
    }

    /// Notes that a durable checkpoint names the segment at `base`.
    pub(crate) fn note_named(&self, base: PhysicalOffset) {
        self.named.fetch_max(base.get(), Ordering::AcqRel);
    }

    /// The next segment, if it has its name and no checkpoint names it yet.
    pub(crate) fn unnamed(&self) -> Option<PhysicalOffset> {
        let stages = self.stages.lock();
        let next = stages.base.advance(self.segment_bytes);
        (matches!(stages.spare, Spare::Placed(_)) && !self.is_named(next)).then_some(next)
    }

    /// Leaves a sealed segment, of which so many bytes are used, to be cut.
    pub(crate) fn note_sealed(&self, base: PhysicalOffset, bytes: u64) {
        self.sealed.lock().push_back((base, bytes));
    }

    /// A sealed segment that is to be cut, and to how many bytes.
    pub(crate) fn take_sealed(&self) -> Option<(PhysicalOffset, u64)> {
        self.sealed.lock().pop_front()
    }

    /// Cuts a sealed segment's file behind the block of its padding record, which ends after so many bytes; how long
    /// the file is then. A cut within that block would have it written again, with the records in it.
    ///
    /// # Errors
    /// When the disk refuses. Nothing is lost: the file only takes more space than it needs.
    pub(crate) fn cut(&self, base: PhysicalOffset, bytes: u64) -> io::Result<u64> {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let file = self.files.open(&segment_name(base))?;
        let file_bytes = file.len()?;
        if file_bytes > bytes {
            file.set_len(bytes)?;
            file.sync()?;
        }
        Ok(file_bytes.min(bytes))
    }

    /// Whether the writer, which has got to `end`, comes close to what is filled, so that preparing is urgent.
    pub(crate) fn is_urgent(&self, end: PhysicalOffset) -> bool {
        let filled_end = self.filled_end.load(Ordering::Relaxed);
        !filled_end.is_multiple_of(self.segment_bytes) && filled_end < end.get() + self.urgent_bytes
    }

    /// Fills a step of the segment in use ahead of the writer, which has got to `end`; whether there was one to fill.
    ///
    /// # Errors
    /// When the disk refuses, or a flush failed.
    pub(crate) fn prepare_active(&self, end: PhysicalOffset) -> Result<bool, Unready> {
        self.fairly(|stages| self.step_active(stages, end))
    }

    /// A step of the housekeeper, which comes back for the next one at once: the writer goes first if it waits.
    fn fairly<R>(&self, step: impl FnOnce(&mut Stages) -> R) -> R {
        let mut stages = self.stages.lock();
        let outcome = step(&mut stages);
        sync::unlock_fair(stages);
        outcome
    }

    fn step_active(&self, stages: &mut Stages, end: PhysicalOffset) -> Result<bool, Unready> {
        let segment_end = stages.base.advance(self.segment_bytes);
        let wanted_end = segment_end.min(end.advance(self.ahead_bytes));
        if end >= segment_end || stages.filled_end() >= wanted_end {
            return Ok(false);
        }
        let filling = self.in_time(stages.filled_end() >= end.advance(self.urgent_bytes));
        self.fill_active(stages, filling, self.step_bytes)?;
        Ok(true)
    }

    /// Prepares a step of the next segment for the writer, which has got to `end`; whether there was one to prepare.
    ///
    /// # Errors
    /// When the disk refuses, which leaves the next roll what there is, or a flush of the names failed.
    pub(crate) fn prepare_next(&self, end: PhysicalOffset) -> Result<bool, Unready> {
        self.fairly(|stages| self.step_next(stages, end))
    }

    fn step_next(&self, stages: &mut Stages, end: PhysicalOffset) -> Result<bool, Unready> {
        // Not before the segment is put to use: an idle log stays small on the disk too.
        if end < stages.base.advance(self.segment_bytes / 4) {
            return Ok(false);
        }
        let filling = self.in_time(end < stages.base.advance(self.segment_bytes / 2));
        match &mut stages.spare {
            Spare::None => stages.spare = Spare::Filling(self.create_spare().map_err(Unready::Refused)?),
            Spare::Filling(stage) if stage.filled_bytes < self.segment_bytes => {
                match stage.fill(filling, self.step_bytes.min(self.segment_bytes - stage.filled_bytes)) {
                    Err(Unready::InDoubt(error)) => {
                        // No group has got there, so another file does as well.
                        stages.spare = Spare::None;
                        return Err(Unready::Refused(error));
                    }
                    filled => filled?,
                }
            }
            Spare::Filling(_) => {
                let next = stages.base.advance(self.segment_bytes);
                self.place(stages, next)?;
            }
            // One whose room was given up, or that an earlier roll made.
            Spare::Placed(stage) if stage.filled_bytes < self.segment_bytes => {
                stage.fill(filling, self.step_bytes.min(self.segment_bytes - stage.filled_bytes))?;
            }
            Spare::Placed(_) => return Ok(false),
        }
        Ok(true)
    }

    /// How ground is prepared when there is time, or when there is none: zeros would share the disk with the very groups
    /// that outrun them.
    fn in_time(&self, there_is: bool) -> Filling {
        if there_is { self.filling } else { Filling::Reserved }
    }

    /// Gives the spare, which has been filled as far as it is, the name of the segment at `base`.
    fn place(&self, stages: &mut Stages, base: PhysicalOffset) -> Result<(), Unready> {
        if let Spare::Filling(stage) = &stages.spare {
            stage.file.sync().map_err(Unready::InDoubt)?;
            self.files.rename(SPARE, &segment_name(base)).map_err(Unready::Refused)?;
        }
        if let Spare::Filling(stage) = std::mem::replace(&mut stages.spare, Spare::None) {
            self.sync_names()?;
            stages.spare = Spare::Placed(stage);
        }
        Ok(())
    }

    /// The segment at `base`, with nothing filled.
    fn create(&self, base: PhysicalOffset) -> Result<Stage, Unready> {
        let name = segment_name(base);
        match self.files.create(&name) {
            // Recovery keeps a segment that an earlier roll named and nothing of which was durable.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Stage::open(&*self.files, &name).map_err(Unready::Refused)
            }
            created => Ok(Stage { file: created.map_err(Unready::Refused)?, filled_bytes: 0 }),
        }
    }

    /// Until a name is durable too, a power cut could lose the segment with all that was flushed into it.
    fn sync_names(&self) -> Result<(), Unready> {
        self.files.sync_directory(DIRECTORY).map_err(Unready::InDoubt)
    }

    /// Gives a step of the next segment's room back to the disk; whether it had any. No more at a time: until it is taken
    /// for the segment in use anybody can have it, and the rest stays this log's.
    fn draw_on_spare(&self, stages: &mut Stages) -> Result<bool, Unready> {
        let (Spare::Filling(stage) | Spare::Placed(stage)) = &mut stages.spare else { return Ok(false) };
        // A step that was refused may have left a part of itself behind what is filled.
        let held_bytes = stage.file.len().map_err(Unready::Refused)?;
        if held_bytes == 0 {
            return Ok(false);
        }
        let left_bytes = stage.filled_bytes.min(held_bytes.saturating_sub(self.step_bytes));
        let left_bytes = left_bytes / BLOCK_BYTES * BLOCK_BYTES;
        stage.file.set_len(left_bytes).map_err(Unready::Refused)?;
        stage.filled_bytes = left_bytes;
        // Until then a power cut may bring it back, so that its room is not free.
        stage.file.sync().map_err(Unready::InDoubt)?;
        Ok(true)
    }

    fn create_spare(&self) -> io::Result<Stage> {
        let file = match self.files.create(SPARE) {
            // One that was given up.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.files.remove(SPARE)?;
                self.files.create(SPARE)?
            }
            created => created?,
        };
        Ok(Stage { file, filled_bytes: 0 })
    }

    /// Fills so much more of the segment in use, or what is left of it.
    fn fill_active(&self, stages: &mut Stages, filling: Filling, bytes: u64) -> Result<(), Unready> {
        let left = self.segment_bytes.saturating_sub(stages.active.filled_bytes);
        if left == 0 {
            return Err(Unready::Refused(io::Error::other("a group does not fit into its segment")));
        }
        stages.active.fill(filling, bytes.min(left))?;
        // Release: whoever sees this knows the step to be synced.
        self.filled_end.store(stages.filled_end().get(), Ordering::Release);
        Ok(())
    }
}

impl Unready {
    /// Whether nothing is wrong but the lack of space, so that waiting for some is safe and may help.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Refused(error) => is_full(error),
            Self::InDoubt(_) => false,
        }
    }
}

impl From<Unready> for Cause {
    fn from(unready: Unready) -> Self {
        let (Unready::Refused(error) | Unready::InDoubt(error)) = unready;
        Self::Segment(Arc::new(error))
    }
}

impl Stages {
    /// The log's position up to which the segment in use is filled.
    fn filled_end(&self) -> PhysicalOffset {
        self.base.advance(self.active.filled_bytes)
    }
}

impl Stage {
    fn open(files: &dyn Files, name: &str) -> io::Result<Self> {
        let file = files.open(name)?;
        let filled_bytes = file.len()? / BLOCK_BYTES * BLOCK_BYTES;
        Ok(Self { file, filled_bytes })
    }

    /// The spare that an earlier opening has left. What it holds is not known to be zeros: the power may have gone while it
    /// was filled, and what stands in a segment's first block before a checkpoint names it is taken for somebody's data.
    fn open_spare(files: &dyn Files) -> io::Result<Self> {
        let stage = Self::open(files, SPARE)?;
        stage.file.write_zeros(0, BLOCK_BYTES.min(stage.filled_bytes))?;
        stage.file.sync()?;
        Ok(stage)
    }

    fn fill(&mut self, filling: Filling, bytes: u64) -> Result<(), Unready> {
        let prepared = match filling {
            Filling::Zeros => self.file.write_zeros(self.filled_bytes, bytes),
            Filling::Reserved => self.file.reserve(self.filled_bytes, bytes),
        };
        prepared.map_err(Unready::Refused)?;
        self.file.sync().map_err(Unready::InDoubt)?;
        self.filled_bytes += bytes;
        Ok(())
    }
}
