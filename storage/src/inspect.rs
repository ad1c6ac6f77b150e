//! Looking at a data directory without changing it: what stands where, and whether it is as it was written.
//!
//! | to change…                                  | open                |
//! |---------------------------------------------|---------------------|
//! | what a listing consists of, and its names   | `inspect::item`     |
//! | how a line is written                       | `inspect::text`     |
//! | the order of a listing, the directory       | `inspect::listing`  |
//! | how a segment is walked, past damage too    | `inspect::walk`     |
//! | how a file is read: cached, or past it      | `inspect::window`   |
//! | verifying on several threads                | `inspect::verify`   |
//! | what is counted                             | `inspect::tally`    |
//!
//! What is below the checkpoint's durable end is walked from the oldest segment on, and every difference is damage.
//! From there on recovery's own scan and search say where the log ends and what lies behind, so that a verdict here is
//! the one that an opening would come to. A segment that is mostly in the page cache is mapped, another one is read past
//! the page cache where the file system can, which leaves that to others. `FORMAT.md` describes the listing for readers
//! in other languages.
//!
//! ```no_run
//! use skylark_storage::device::read_only::ReadOnlyDirectory;
//! use skylark_storage::inspect::{Format, Inspection};
//!
//! let files = ReadOnlyDirectory::open("data")?;
//! let inspection = Inspection::open(&files, false)?;
//! let mut out = std::io::stdout().lock();
//! inspection.list(.., |item| Format::default().write(item, &mut out))?;
//! let report = inspection.verify(2, &|_checked_bytes| ())?;
//! println!("{} damages", report.damages);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;

use crate::checkpoint::{CHECKPOINT_NAME, Checkpoint, SlotError, leading, read_slots};
use crate::device::Files;
use crate::offset::PhysicalOffset;
use crate::recovery::directory::{self, Directory, SegmentFile};
use crate::recovery::segments::HeaderBlock;
use crate::segment::FORMAT_VERSION;

mod item;
mod listing;
mod tally;
mod text;
mod verify;
mod walk;
mod window;

pub use item::{Damage, Item, RecordItem, Verdict, What};
pub use tally::{KindTally, Tally};
pub use text::Format;
pub use verify::Report;

/// Why a directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The log is open.
    #[error("{directory} is in use by another process; stop that one first, or look at the log in use")]
    InUse {
        /// The data directory.
        directory: String,
    },
    /// There is nothing to look at.
    #[error("there is no log in {directory}")]
    NoLog {
        /// The data directory.
        directory: String,
    },
    /// Written by another release.
    #[error("{CHECKPOINT_NAME} has format version {found}, this release reads {FORMAT_VERSION} only")]
    FormatVersion {
        /// As stored.
        found: u32,
    },
    /// The disk refused.
    #[error("the data directory cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A data directory that is looked at.
///
/// While it lives nobody can open the log, unless somebody had it open before: then [`Self::is_moving`], what lies
/// behind the last checkpoint is not judged, and a segment that is trimmed meanwhile is no damage.
pub struct Inspection<'f> {
    files: &'f dyn Files,
    /// `None` when there is no checkpoint file.
    slots: Option<[Result<Checkpoint, SlotError>; 2]>,
    /// The checkpoint that leads, or what the segments' headers suggest.
    checkpoint: Checkpoint,
    /// Nothing vouches for [`Self::checkpoint`].
    is_rebuilt: bool,
    slot_damaged: bool,
    directory: Directory,
    lock: Option<Box<dyn Send + Sync>>,
}

impl<'f> Inspection<'f> {
    /// Looks at the checkpoint and at the segments' headers. With `in_use` a log that somebody has open is looked at
    /// all the same, and so is one whose lock cannot be taken.
    ///
    /// # Errors
    /// When the log is open and `in_use` is not set, when there is none, or none of this format, or when the disk
    /// refuses.
    pub fn open(files: &'f dyn Files, in_use: bool) -> Result<Self, InspectError> {
        let lock = match files.lock("LOCK") {
            Ok(lock) => Some(lock),
            Err(_) if in_use => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(InspectError::InUse { directory: files.describe() });
            }
            Err(error) => return Err(error.into()),
        };
        let slots = slots(files)?;
        let directory = Directory::read(files)?;
        let (led, damaged) = slots.map_or((None, None), |slots| {
            let (led, damaged) = leading(slots);
            (Some(led), damaged)
        });
        let mut errors = damaged.into_iter().chain(led.and_then(Result::err).into_iter().flatten());
        if let Some(found) = errors.find_map(|error| match error {
            SlotError::FormatVersion { found } => Some(found),
            _ => None,
        }) {
            return Err(InspectError::FormatVersion { found });
        }
        let (mut checkpoint, is_rebuilt) = match led {
            Some(Ok(led)) => (led, false),
            _ => {
                let rebuilt = directory::rebuild(&directory.segments);
                let rebuilt = rebuilt.ok_or_else(|| InspectError::NoLog { directory: files.describe() })?;
                // What lies below the newest segment was finished: any difference there is damage.
                (Checkpoint { durable_end: rebuilt.newest_segment, ..rebuilt }, true)
            }
        };
        if damaged.is_some() {
            // The lost slot may have named more.
            for SegmentFile { base, header, .. } in &directory.segments {
                let next = checkpoint.newest_segment.advance(checkpoint.segment_bytes);
                if *base == next && *header != HeaderBlock::Blank {
                    checkpoint.newest_segment = next;
                }
            }
        }
        Ok(Self { files, slots, checkpoint, is_rebuilt, slot_damaged: damaged.is_some(), directory, lock })
    }

    /// Whether somebody has the log open, or its lock could not be taken: what lies behind the last checkpoint is
    /// moving.
    pub fn is_moving(&self) -> bool {
        self.lock.is_none()
    }

    /// The checkpoint that leads; without a sound one, what the segments' own headers suggest.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What each slot of the checkpoint holds; `None` when the file is missing.
    pub fn slots(&self) -> Option<[Result<Checkpoint, SlotError>; 2]> {
        self.slots
    }

    /// The log's first byte.
    pub fn start(&self) -> PhysicalOffset {
        self.checkpoint.oldest_segment
    }
}

/// The slots as they stand. Read until they stand still: somebody may be writing one of them.
fn slots(files: &dyn Files) -> io::Result<Option<[Result<Checkpoint, SlotError>; 2]>> {
    if !files.list("")?.iter().any(|name| name == CHECKPOINT_NAME) {
        return Ok(None);
    }
    let file = files.open(CHECKPOINT_NAME)?;
    let mut slots = read_slots(&*file)?;
    for _ in 0..READINGS_MAX {
        let before = std::mem::replace(&mut slots, read_slots(&*file)?);
        if before == slots {
            break;
        }
    }
    Ok(Some(slots))
}

const READINGS_MAX: u32 = 10;
