//! Memory that a device may transfer directly.

use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

/// The unit of every write: what a device with direct transfers asks for, and what the log writes.
pub const BLOCK_BYTES: usize = 4096;
/// What the kernel calls a huge page.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// Bytes that begin at a block boundary in memory; whole blocks, zeros at first. In large pages, as the log's groups are,
/// which a device transfers faster.
pub struct Aligned {
    map: MmapMut,
    skipped: usize,
    bytes: usize,
}

impl Aligned {
    /// At least so many bytes.
    ///
    /// # Panics
    /// When there is no memory for them.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let large_bytes = bytes.next_multiple_of(LARGE_PAGE_BYTES);
        let map = MmapMut::map_anon(large_bytes + LARGE_PAGE_BYTES).expect("there is memory for a group");
        let skipped = map.as_ptr().align_offset(LARGE_PAGE_BYTES);
        // Small pages do as well where there are no large ones.
        drop(map.advise_range(Advice::HugePage, skipped, large_bytes));
        Self { map, skipped, bytes }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[self.skipped..][..self.bytes]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.skipped..][..self.bytes]
    }
}
