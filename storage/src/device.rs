//! The disk under the log, as the operating system really offers it.
//!
//! Two traits, because the log asks two different things of a disk. [`Files`] names, creates, lists and reads
//! files and is used by everybody who keeps something in the data directory. A [`Device`] does one thing:
//! it takes the log's groups, in order, from the one thread that owns it.
//!
//! What an implementation *may do to you*, and the simulated one does, from one seed:
//! - until a later flush of the same file completes, a write may be lost, torn at any 512-byte sector, or
//!   reach the disk before an earlier one;
//! - a name created, renamed or removed may be the old one again until [`Files::sync_directory`] returned;
//! - after a failed flush nothing is known about the bytes it was to cover, and a later success proves nothing.
//!
//! A real file system is a [`Directory`]. Its devices differ in how they get there ([`DeviceKind`]); which is the
//! fastest depends on the disk, so a directory measures them ([`Directory::calibrate`]) unless it is told.
//!
//! | to change…                               | open                                    |
//! |------------------------------------------|-----------------------------------------|
//! | what the log asks of a disk              | here                                    |
//! | files by name                            | `directory`, `open_file`                |
//! | how groups get to a segment              | `buffered`, `direct`, `uring`           |
//! | what a short write leaves                | `rest`                                  |
//! | which device a log uses                  | `kind`, `auto`                          |
//! | how devices are measured, what is kept   | `probe`, `calibration`                  |
//! | what a disk may do to a log              | [`simulated`]                           |

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;
use smallvec::SmallVec;

use crate::staging::TailMemory;

pub(crate) mod aligned;
mod auto;
mod buffered;
mod calibration;
mod direct;
mod directory;
mod kind;
pub mod map;
mod open_file;
mod probe;
pub mod read_only;
mod rest;
pub mod simulated;
#[cfg(feature = "uring")]
mod uring;

pub use calibration::{Calibration, Machine};
pub use directory::Directory;
pub use kind::{DeviceChoice, DeviceKind, DeviceNameError};
pub use probe::{GROUP_BYTES, Measured, probe};

/// The files of one data directory. Names are relative to it and use `/`.
pub trait Files: Send + Sync {
    /// Names in `directory` (`log`, `snapshots`, or `""` for the top), without it, in no order. Empty if absent.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
    /// Opens a file that exists, for reading and writing. Each call is an open description of its own, because
    /// Linux reports a write-back error once per description.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such file; others when the disk refuses.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Creates an empty file, and the directories above it, whose own names are durable when this returns; a file
    /// that exists is an error.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when there is one; others when the disk refuses, perhaps after the file came
    /// into being.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, replacing what bore it.
    ///
    /// # Errors
    /// When there is no such file, or the disk refuses. Both names are what they were.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such file; others when the disk refuses.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable: until then a power cut can lose a file whose contents were flushed.
    ///
    /// # Errors
    /// When the disk refuses: it is in doubt which names survive, and a later success does not change that.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;
    /// Takes the exclusive lock on a file, created if absent, until the returned guard drops.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while another process, or another opening in this one, holds it.
    fn lock(&self, name: &str) -> io::Result<Box<dyn Send + Sync>>;
    /// A device that takes the log's writes; called once per opening of a log.
    fn device(&self) -> Box<dyn Device>;
    /// How much room the file system has.
    ///
    /// # Errors
    /// When the system does not tell.
    fn space(&self) -> io::Result<Space>;
    /// Where the directory is, for messages to a person.
    fn describe(&self) -> String;
}

/// Room of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What files take, and what can still be written; not what is set aside for others, as ext4 does for root. A disk is
    /// so full as `df` shows it.
    pub total_bytes: u64,
    /// What can still be written.
    pub available_bytes: u64,
}

impl Space {
    /// How much of it is used, in percent.
    #[expect(clippy::cast_precision_loss, reason = "a ratio, compared with whole percents")]
    pub fn used_percent(self) -> f64 {
        if self.total_bytes == 0 {
            return 0.0;
        }
        100.0 - self.available_bytes as f64 * 100.0 / self.total_bytes as f64
    }
}

/// One open description of a file, read and written by position.
#[expect(clippy::len_without_is_empty, reason = "a file's length is asked of the system, and can fail")]
pub trait File: Send + Sync {
    /// Fills `buffer` from byte `at`, or as much of it as the file has; returns how much that was.
    ///
    /// # Errors
    /// When the disk cannot read them; what `buffer` holds then is of no use. Where that is for the medium's sake, and
    /// other bytes may be read, the error is the system's `EIO`, `EBADMSG`, `ENODATA` or `EILSEQ`.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at byte `at`, extending the file where needed.
    ///
    /// # Errors
    /// When the disk refuses; some of the bytes may be written.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes zeros from byte `at` on, extending the file where needed. Both numbers are multiples of the block.
    ///
    /// Past the page cache where that is possible: nobody reads these zeros, and caching them would cost each
    /// segment a second pass through memory.
    ///
    /// # Errors
    /// When the disk refuses; some of the zeros may be written.
    fn write_zeros(&self, at: u64, bytes: u64) -> io::Result<()> {
        for_each_zeros(bytes, |from, zeros| self.write_at(at + from, zeros))
    }
    /// Sets bytes aside from byte `at` on, which read as zeros until they are written, extending the file where
    /// needed. Takes hardly any time where the file system can; the flush of what is written there later takes more.
    ///
    /// # Errors
    /// When the disk refuses. What was there before is still there.
    fn reserve(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.write_zeros(at, bytes)
    }
    /// The file's contents in memory, where they can be had without copying and nobody is to change them.
    fn map(&self) -> Option<map::Map> {
        None
    }
    /// The same file read past the page cache, where most of it is not in there and the system can: for whoever reads all
    /// of it once, which is then faster and leaves the page cache to others. Positions, lengths and memory of its reads
    /// are to be multiples of the block; other reads may fail.
    fn uncached(&self) -> Option<Arc<dyn File>> {
        None
    }
    /// The file's length in bytes.
    ///
    /// # Errors
    /// When the system does not tell.
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file, or extends it by zeros.
    ///
    /// # Errors
    /// When the disk refuses. The length is what it was.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Makes contents and length durable.
    ///
    /// # Errors
    /// When the disk refuses: nothing is known about what was written since the last flush, and a later success does
    /// not change that.
    fn sync(&self) -> io::Result<()>;
    /// Tells the system how a range will be read; `bytes` of 0 is up to the end. It may not care.
    fn advise(&self, _at: u64, _bytes: u64, _advice: Advice) {}
}

/// How a range of a file will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// From front to back: reading ahead pays.
    Sequential,
    /// Not from memory: what the system holds of it is in doubt.
    DontNeed,
}

/// Aligned, so that a device may transfer them directly.
#[repr(align(4096))]
struct Zeros([u8; ZEROS_BYTES]);

/// What is written at once: a writer that shares the disk waits for no more than this.
const ZEROS_BYTES: usize = 256 << 10;

static ZEROS: Zeros = Zeros([0; ZEROS_BYTES]);

/// Hands out zeros piece by piece, each with how many came before it.
fn for_each_zeros(bytes: u64, mut write: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut done = 0;
    while done < bytes {
        let length = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(ZEROS.0.len());
        write(done, &ZEROS.0[..length])?;
        done += length as u64;
    }
    Ok(())
}

/// What the writer asks of a [`Device`].
#[derive(Debug)]
pub struct Operation {
    /// Where the bytes go, from the start of the segment; a multiple of [`crate::segment::BLOCK_BYTES`].
    pub at: u64,
    /// What to write, in order. The sum is a multiple of the block, and so is every piece but the last; each
    /// begins at a block boundary in memory, so that a device may transfer it directly.
    pub pieces: SmallVec<[Bytes; 3]>,
    /// Whether everything that this device has written to the segment so far, this included, is to be durable on
    /// completion. What others have written there is theirs to flush.
    pub flush: bool,
}

/// Says of the error that it wraps: the disk had no space for a write, and **no flush has failed**. So whoever has the
/// bytes may write them again to the same place. What stands there meanwhile is undefined.
///
/// A disk can say this of a range that was written before: where it copies on write, or promises more than it has.
/// A device wraps such an error only if it can tell that the write failed and not the flush behind it: with
/// `RWF_DSYNC`, where the kernel answers for both at once, it cannot.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WriteRefused(io::Error);

impl WriteRefused {
    /// Wraps an error of a write if it is about space; others stay what they are.
    pub fn mark(error: io::Error) -> io::Error {
        if is_full(&error) { io::Error::new(error.kind(), Self(error)) } else { error }
    }

    /// Whether it is in there.
    pub fn is_in(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// Whether nothing is wrong but the lack of space.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether a read failed because the medium does not give the bytes back, which says nothing about others: not for
/// another reason, such as a lack of memory or of permission, or a disk that is gone.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    // Of the file system, of its checksums, and of the device where it is read directly: the medium, and its tags.
    let refuses = |errno| matches!(errno, Errno::IO | Errno::BADMSG | Errno::NODATA | Errno::ILSEQ);
    let said = Errno::from_io_error(error);
    // Whoever names the file keeps what the kernel said as the source.
    let mut source = error.source();
    let mut told = std::iter::from_fn(|| {
        let next = source?;
        source = next.source();
        Some(next)
    });
    said.or_else(|| told.find_map(|source| Errno::from_io_error(source.downcast_ref()?))).is_some_and(refuses)
}

/// Names an [`Operation`] under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Takes the log's writes from one thread at a time.
///
/// A device holds the bytes of an operation until it has completed, so a caller who gives up cannot free memory
/// that the kernel still reads. It may complete operations in any order.
pub trait Device: Send {
    /// Directs what follows at the segment of this name, over an open description of its own, which is locked:
    /// a successor waits until a killed predecessor's last writes have landed. Nothing may be under way.
    ///
    /// # Errors
    /// When the file cannot be opened, or somebody keeps its lock.
    fn attach(&mut self, segment: &str) -> io::Result<()>;
    /// Tells where the pieces of operations lie in memory, before the first of them. A device that gains nothing from
    /// that forgets it.
    fn lend(&mut self, memory: TailMemory) {
        drop(memory);
    }
    /// Begins an operation.
    fn submit(&mut self, operation: Operation) -> Ticket;
    /// Waits for the next completion; `None` when nothing is under way. An operation that failed for lack of space
    /// alone, before its flush, says so by [`WriteRefused`], and may be submitted again; after any other failure
    /// nothing is.
    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)>;
    /// Whether one thread may submit after another as cheaply as one alone. Where not, a device that meets another
    /// thread than the last one sets itself up anew. [`Device::attach`] may change it.
    fn any_thread(&self) -> bool {
        true
    }
}
