//! A segment's file, seen through a window that moves forward.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::device::aligned::Buffer;
use crate::device::map::Map;
use crate::device::{File, is_refusal};
use crate::segment::{BLOCK, BLOCK_BYTES};

/// Copied at once, or as much as a longer record needs: small enough to be summed while it is in a core's own cache.
const COPIED_BYTES: usize = 512 << 10;
/// Read past the page cache at once: long enough that a disk does not notice the pauses between two reads, and one large
/// page of memory.
const DIRECT_BYTES: usize = 2 << 20;
/// Brought into memory at once, where the file is mapped.
const POPULATED_BYTES: usize = 16 << 20;

/// Reads a file by position. What the file does not have counts as zeros, and so does what the disk refuses.
pub(super) struct Window {
    file: Arc<dyn File>,
    source: Source,
    /// How far a mapped file is known to be in memory; nothing of others is.
    populated: usize,
    bytes: Buffer,
    at: u64,
    /// Blocks that the disk refused to read.
    unreadable: BTreeSet<u64>,
}

/// Where the bytes come from.
enum Source {
    /// The page cache: they are looked at where they lie.
    Mapped(Map),
    /// The disk, past the page cache, by this description of the file.
    Direct(Arc<dyn File>),
    /// The page cache, by copies; after a failure of one of the others too, since this one tells what cannot be read.
    Copied,
}

impl Window {
    /// A window on `file`, for one walk from front to back.
    ///
    /// What may change while it is looked at must not be mapped. It may be read past the page cache: what is below a
    /// log's durable end is on the disk, in a block that is written again too, and of what lies above it the kernel
    /// writes what is dirty before it reads.
    pub(super) fn new(file: Arc<dyn File>, may_change: bool) -> io::Result<Self> {
        let source = match file.uncached() {
            Some(disk) => Source::Direct(disk),
            None if may_change => Source::Copied,
            None => file.map().map_or(Source::Copied, Source::Mapped),
        };
        let bytes = Buffer::new(0)?;
        Ok(Self { file, source, populated: 0, bytes, at: 0, unreadable: BTreeSet::new() })
    }

    /// `bytes` bytes from `at`.
    #[inline]
    pub(super) fn get(&mut self, at: u64, bytes: usize) -> io::Result<&[u8]> {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let end = start.saturating_add(bytes);
        if end > self.populated {
            let from = at.wrapping_sub(self.at);
            let held = self.bytes.len() as u64;
            // A position in front of the window wraps to one far behind it.
            if from > held || bytes as u64 > held - from {
                self.bring(at, bytes)?;
            }
        }
        if end <= self.populated {
            // Nothing is populated without a map, nor beyond one.
            let held = if let Source::Mapped(map) = &self.source { map.bytes() } else { &[] };
            return Ok(&held[start..end]);
        }
        let from = usize::try_from(at - self.at).unwrap_or(usize::MAX);
        Ok(&self.bytes[from..from + bytes])
    }

    /// Moves on: `bytes` bytes from `at` are in memory then, by the map or in the window.
    #[cold]
    fn bring(&mut self, at: u64, bytes: usize) -> io::Result<()> {
        let end = usize::try_from(at).unwrap_or(usize::MAX).saturating_add(bytes);
        if self.populate(end) { Ok(()) } else { self.fill(at, bytes) }
    }

    /// Brings the mapped file into memory up to `end`, or further. Whether that could be done.
    fn populate(&mut self, end: usize) -> bool {
        let Source::Mapped(map) = &self.source else { return false };
        if end > map.bytes().len() {
            return false;
        }
        let to = end.next_multiple_of(POPULATED_BYTES).min(map.bytes().len());
        if map.populate(self.populated, to - self.populated) {
            self.populated = to;
            return true;
        }
        // Something in there cannot be read, or the kernel cannot say. Copying tells what.
        self.source = Source::Copied;
        self.populated = 0;
        false
    }

    fn fill(&mut self, at: u64, bytes: usize) -> io::Result<()> {
        // Whole blocks, as the kernel keeps them and disks transfer them.
        self.at = at - at % BLOCK_BYTES;
        let need = bytes + usize::try_from(at - self.at).unwrap_or(BLOCK);
        if let Source::Direct(disk) = &self.source {
            resize(&mut self.bytes, need.max(DIRECT_BYTES))?;
            if let Ok(read) = disk.read_at(self.at, &mut self.bytes) {
                self.bytes[read..].fill(0);
                return Ok(());
            }
            // A block cannot be read, or none can in this way.
            self.source = Source::Copied;
        }
        resize(&mut self.bytes, need.max(COPIED_BYTES))?;
        let read = match self.file.read_at(self.at, &mut self.bytes) {
            Ok(read) => read,
            Err(error) if is_refusal(&error) => self.fill_by_blocks()?,
            Err(error) => return Err(error),
        };
        self.bytes[read..].fill(0);
        Ok(())
    }

    /// Reads what can be read of a window in which something cannot.
    fn fill_by_blocks(&mut self) -> io::Result<usize> {
        let length = self.file.len()?;
        for (index, block) in self.bytes.chunks_mut(BLOCK).enumerate() {
            let at = self.at + (index * BLOCK) as u64;
            if at >= length {
                return Ok(index * BLOCK);
            }
            match self.file.read_at(at, block) {
                Ok(read) => block[read..].fill(0),
                Err(error) if !is_refusal(&error) => return Err(error),
                Err(_) => {
                    block.fill(0);
                    self.unreadable.insert(at);
                }
            }
        }
        Ok(self.bytes.len())
    }

    /// The blocks that the disk has refused so far, lowest first.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = u64> + '_ {
        self.unreadable.iter().copied()
    }
}

/// Gives the buffer whole blocks, at least `bytes` of them; what it held is of no use any more.
fn resize(buffer: &mut Buffer, bytes: usize) -> io::Result<()> {
    let bytes = bytes.next_multiple_of(BLOCK);
    if buffer.len() != bytes {
        *buffer = Buffer::new(bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
