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

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

pub mod buffered;
pub mod map;
pub mod read_only;
pub mod simulated;

/// The files of one data directory. Names are relative to it and use `/`.
pub trait Files: Send + Sync {
    /// Names in `directory` (`log`, `snapshots`, or `""` for the top), without it, in no order. Empty if absent.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
    /// Opens a file that exists, for reading and writing. Each call is an open description of its own, because
    /// Linux reports a write-back error once per description.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Creates an empty file, and the directories above it, whose own names are durable when this returns; a file
    /// that exists is an error.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, replacing what bore it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable: until then a power cut can lose a file whose contents were flushed.
    fn sync_directory(&self, directory: &str) -> io::Result<()>;
    /// Takes the exclusive lock on a file, created if absent, until the returned guard drops.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while another process, or another opening in this one, holds it.
    fn lock(&self, name: &str) -> io::Result<Box<dyn Send + Sync>>;
    /// A device that takes the log's writes; called once per opening of a log.
    fn device(&self) -> Box<dyn Device>;
    /// How much room the file system has.
    fn space(&self) -> io::Result<Space>;
    /// Where the directory is, for messages to a person.
    fn describe(&self) -> String;
}

/// Room of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total_bytes: u64,
    /// What can still be written.
    pub available_bytes: u64,
}

/// One open description of a file, read and written by position.
#[expect(clippy::len_without_is_empty, reason = "a file's length is asked of the system, and can fail")]
pub trait File: Send + Sync {
    /// Fills `buffer` from byte `at`, or as much of it as the file has; returns how much that was.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at byte `at`, extending the file where needed.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes zeros from byte `at` on, extending the file where needed. Both numbers are multiples of the block.
    ///
    /// Past the page cache where that is possible: nobody reads these zeros, and caching them would cost each
    /// segment a second pass through memory.
    fn write_zeros(&self, at: u64, bytes: u64) -> io::Result<()> {
        for_each_zeros(bytes, |from, zeros| self.write_at(at + from, zeros))
    }
    /// The file's contents in memory, where they can be had without copying and nobody is to change them.
    fn map(&self) -> Option<map::Map> {
        None
    }
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file, or extends it by zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Makes contents and length durable.
    fn sync(&self) -> io::Result<()>;
}

/// Aligned, so that a device may transfer them directly.
#[repr(align(4096))]
struct Zeros([u8; 1 << 20]);

static ZEROS: Zeros = Zeros([0; 1 << 20]);

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
    /// Whether everything written to the segment so far, this included, is to be durable on completion.
    pub flush: bool,
}

/// Names an [`Operation`] under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Takes the log's writes from the one thread that owns it.
///
/// A device holds the bytes of an operation until it has completed, so a caller who gives up cannot free memory
/// that the kernel still reads. It may complete operations in any order.
pub trait Device: Send {
    /// Directs what follows at the segment of this name, over an open description of its own, which is locked:
    /// a successor waits until a killed predecessor's last writes have landed. Nothing may be under way.
    fn attach(&mut self, segment: &str) -> io::Result<()>;
    /// Begins an operation.
    fn submit(&mut self, operation: Operation) -> Ticket;
    /// Waits for the next completion; `None` when nothing is under way.
    fn complete(&mut self) -> Option<(Ticket, io::Result<()>)>;
}
