//! The ground under the writer: segment files that exist, filled with zeros, before groups go there.
//!
//! A flush that also has to allocate blocks or to change a file's length costs twice one that does not, so files are
//! filled by real writes ahead of the writer, in steps, and synced; `fallocate` would leave extents unwritten. While
//! one segment is in use the next is prepared as `log/spare`; rolling renames it.
//!
//! A segment's file may therefore be shorter than its nominal length; what is missing counts as zeros.

use std::io;
use std::sync::Arc;

use crate::device::{File, Files};
use crate::offset::PhysicalOffset;
use crate::segment::{BLOCK_BYTES, segment_name};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Where the next segment is prepared.
const SPARE: &str = "log/spare";
/// The directory of the segments.
const DIRECTORY: &str = "log";
/// How much is filled at a time; less in small segments.
const STEP_BYTES_MAX: u64 = 4 << 20;
/// How far the housekeeper keeps ahead of the writer; less in small segments.
const AHEAD_BYTES_MAX: u64 = 32 << 20;

/// The files of the segment in use and of the next.
pub(crate) struct Ground {
    files: Arc<dyn Files>,
    segment_bytes: u64,
    step_bytes: u64,
    ahead_bytes: u64,
    /// The log's position up to which the segment in use is filled.
    filled_end: AtomicU64,
    /// Held through a step of filling: of the same zeros, written twice, the later ones would erase groups.
    stages: Mutex<Stages>,
}

struct Stages {
    /// Base of the segment in use.
    base: PhysicalOffset,
    active: Stage,
    spare: Spare,
}

enum Spare {
    None,
    Filling(Stage),
    /// Could not be made. The next roll tries again.
    GivenUp,
}

/// A file and how far it is filled.
struct Stage {
    file: Arc<dyn File>,
    filled_bytes: u64,
}

impl Ground {
    /// The ground of a log whose newest segment begins at `base` and is in use up to `end`.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        segment_bytes: u64,
        base: PhysicalOffset,
        end: PhysicalOffset,
    ) -> io::Result<Self> {
        let mut active = Stage::open(&*files, &segment_name(base))?;
        // Never below the end, where groups are.
        let used_bytes = end.align_up(BLOCK_BYTES).get().saturating_sub(base.get());
        active.filled_bytes = active.filled_bytes.max(used_bytes);
        let spare = if files.list(DIRECTORY)?.iter().any(|name| SPARE.strip_prefix("log/") == Some(name)) {
            Spare::Filling(Stage::open(&*files, SPARE)?)
        } else {
            Spare::None
        };
        Ok(Self {
            files,
            segment_bytes,
            step_bytes: (segment_bytes / 8).next_multiple_of(BLOCK_BYTES).min(STEP_BYTES_MAX),
            ahead_bytes: (segment_bytes / 4).min(AHEAD_BYTES_MAX),
            filled_end: AtomicU64::new(base.get() + active.filled_bytes),
            stages: Mutex::new(Stages { base, active, spare }),
        })
    }

    /// Sees to it that the segment in use is filled up to `end`.
    ///
    /// # Errors
    /// When the disk refuses. What is known of the segment's pages is in doubt then.
    pub(crate) fn reach(&self, end: PhysicalOffset) -> io::Result<()> {
        // Acquire: pairs with the store that follows the sync.
        if self.filled_end.load(Ordering::Acquire) >= end.get() {
            return Ok(());
        }
        let stages = &mut *self.stages.lock();
        // Once more under the lock: the housekeeper may have filled what was missing.
        while stages.filled_end() < end {
            self.fill_active(stages)?;
        }
        Ok(())
    }

    /// Makes the segment at `base` the one in use, under its own name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn advance(&self, base: PhysicalOffset) -> io::Result<()> {
        let mut stages = self.stages.lock();
        if stages.base == base {
            return Ok(());
        }
        let name = segment_name(base);
        let next = match std::mem::replace(&mut stages.spare, Spare::None) {
            Spare::Filling(stage) => {
                stage.file.sync()?;
                self.files.rename(SPARE, &name)?;
                stage
            }
            Spare::None | Spare::GivenUp => match self.files.create(&name) {
                // Recovery keeps a segment that an earlier roll named and nothing of which was durable.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Stage::open(&*self.files, &name)?
                }
                created => Stage { file: created?, filled_bytes: 0 },
            },
        };
        // Until the name is durable too, a power cut could lose the segment with all that was flushed into it.
        self.files.sync_directory(DIRECTORY)?;
        self.filled_end.store(base.get() + next.filled_bytes, Ordering::Release);
        stages.base = base;
        stages.active = next;
        Ok(())
    }

    /// Cuts a sealed segment's file behind its padding record.
    ///
    /// # Errors
    /// When the disk refuses. Nothing is lost: the file only takes more space than it needs.
    pub(crate) fn cut(&self, base: PhysicalOffset, bytes: u64) -> io::Result<()> {
        let file = self.files.open(&segment_name(base))?;
        if file.len()? > bytes {
            file.set_len(bytes)?;
            file.sync()?;
        }
        Ok(())
    }

    /// Whether the writer, which has got to `end`, comes close to what is filled, so that preparing is urgent.
    pub(crate) fn is_urgent(&self, end: PhysicalOffset) -> bool {
        let filled_end = self.filled_end.load(Ordering::Relaxed);
        !filled_end.is_multiple_of(self.segment_bytes) && filled_end < end.get() + self.ahead_bytes / 2
    }

    /// Prepares a step of what the writer, which has got to `end`, will need; whether there was one to prepare.
    ///
    /// # Errors
    /// When the segment in use could not be filled. What is known of its pages is in doubt then.
    pub(crate) fn prepare(&self, end: PhysicalOffset) -> io::Result<bool> {
        let stages = &mut *self.stages.lock();
        let segment_end = stages.base.advance(self.segment_bytes);
        let wanted_end = segment_end.min(end.advance(self.ahead_bytes));
        if end < segment_end && stages.filled_end() < wanted_end {
            self.fill_active(stages)?;
            return Ok(true);
        }
        // Not before the segment is put to use: an idle log stays small on the disk too.
        if end < stages.base.advance(self.segment_bytes / 4) {
            return Ok(false);
        }
        match self.prepare_spare(&mut stages.spare) {
            Ok(worked) => Ok(worked),
            Err(error) => {
                tracing::warn!(%error, "no spare segment could be prepared; the next roll will be slower");
                stages.spare = Spare::GivenUp;
                Ok(true)
            }
        }
    }

    fn fill_active(&self, stages: &mut Stages) -> io::Result<()> {
        let left = self.segment_bytes.saturating_sub(stages.active.filled_bytes);
        if left == 0 {
            return Err(io::Error::other("a group does not fit into its segment"));
        }
        stages.active.fill(self.step_bytes.min(left))?;
        // Release: whoever sees this knows the step to be synced.
        self.filled_end.store(stages.filled_end().get(), Ordering::Release);
        Ok(())
    }

    fn prepare_spare(&self, spare: &mut Spare) -> io::Result<bool> {
        match spare {
            Spare::GivenUp => Ok(false),
            Spare::None => {
                *spare = Spare::Filling(Stage { file: self.files.create(SPARE)?, filled_bytes: 0 });
                Ok(true)
            }
            Spare::Filling(stage) => {
                let left = self.segment_bytes.saturating_sub(stage.filled_bytes);
                if left > 0 {
                    stage.fill(self.step_bytes.min(left))?;
                }
                Ok(left > 0)
            }
        }
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

    fn fill(&mut self, bytes: u64) -> io::Result<()> {
        self.file.write_zeros(self.filled_bytes, bytes)?;
        self.file.sync()?;
        self.filled_bytes += bytes;
        Ok(())
    }
}
