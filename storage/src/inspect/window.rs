//! A segment's file, seen through a window that moves forward.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::device::File;
use crate::device::map::Map;
use crate::segment::{BLOCK, BLOCK_BYTES};

/// Read at once, or as much as a longer record needs: small enough to be summed while it is in a core's own cache.
const WINDOW_BYTES: usize = 512 << 10;
/// Brought into memory at once, where the file is mapped.
const POPULATED_BYTES: usize = 4 << 20;
/// Asked for so far ahead of what is brought into memory.
const PREFETCHED_BYTES: usize = 16 << 20;

/// Reads a file by position. What the file does not have counts as zeros, and so does what the disk refuses.
pub(super) struct Window {
    file: Arc<dyn File>,
    /// The whole file, and how far it is known to be in memory. Without it, or behind that, bytes are copied.
    map: Option<Map>,
    populated: usize,
    bytes: Vec<u8>,
    at: u64,
    /// Blocks that the disk refused to read.
    unreadable: BTreeSet<u64>,
}

impl Window {
    /// A window on `file`. What may change while it is looked at must not be mapped.
    pub(super) fn new(file: Arc<dyn File>, may_change: bool) -> Self {
        let map = if may_change { None } else { file.map() };
        Self { file, map, populated: 0, bytes: Vec::new(), at: 0, unreadable: BTreeSet::new() }
    }

    /// `bytes` bytes from `at`.
    #[inline]
    pub(super) fn get(&mut self, at: u64, bytes: usize) -> io::Result<&[u8]> {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let end = start.saturating_add(bytes);
        if end <= self.populated || self.populate(end) {
            // Nothing is populated without a map, nor beyond one.
            let held = self.map.as_ref().map_or(&[][..], Map::bytes);
            return Ok(&held[start..end]);
        }
        let from = at.wrapping_sub(self.at);
        let held = self.bytes.len() as u64;
        // A position in front of the window wraps to one far behind it.
        if from > held || bytes as u64 > held - from {
            self.fill(at, bytes)?;
        }
        let from = usize::try_from(at - self.at).unwrap_or(usize::MAX);
        Ok(&self.bytes[from..from + bytes])
    }

    /// Brings the mapped file into memory up to `end`, or further. Whether that could be done.
    #[cold]
    fn populate(&mut self, end: usize) -> bool {
        let Some(map) = &self.map else { return false };
        if end > map.bytes().len() {
            return false;
        }
        let to = end.next_multiple_of(POPULATED_BYTES).min(map.bytes().len());
        // Disks want to be asked for much at a time, more than the kernel does by itself.
        let asked = if self.populated == 0 { 0 } else { self.populated + PREFETCHED_BYTES };
        map.prefetch(asked, to + PREFETCHED_BYTES - asked.min(to + PREFETCHED_BYTES));
        if map.populate(self.populated, to - self.populated) {
            self.populated = to;
            return true;
        }
        // Something in there cannot be read, or the kernel cannot say. Copying tells what.
        self.map = None;
        self.populated = 0;
        false
    }

    #[cold]
    fn fill(&mut self, at: u64, bytes: usize) -> io::Result<()> {
        // Whole blocks, as the kernel keeps them.
        self.at = at - at % BLOCK_BYTES;
        let need = bytes + usize::try_from(at - self.at).unwrap_or(BLOCK);
        self.bytes.resize(need.max(WINDOW_BYTES), 0);
        let read = match self.file.read_at(self.at, &mut self.bytes) {
            Ok(read) => read,
            Err(_) => self.fill_by_blocks()?,
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
