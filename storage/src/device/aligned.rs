//! Memory that a device may transfer directly, for those who have none from the staging area.

use std::io;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use memmap2::{Advice, MmapMut};
use zerocopy::{Immutable, IntoBytes};

use crate::segment::BLOCK;

/// A block of memory that begins where blocks do.
#[derive(Clone, Debug, IntoBytes, Immutable)]
#[repr(C, align(4096))]
pub(crate) struct Block(pub(crate) [u8; BLOCK]);

const _: () = assert!(align_of::<Block>() == BLOCK);

struct Blocks(Vec<Block>);

impl AsRef<[u8]> for Blocks {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Blocks with these contents, one behind the other.
pub(super) fn blocks(contents: impl IntoIterator<Item = [u8; BLOCK]>) -> Bytes {
    Bytes::from_owner(Blocks(contents.into_iter().map(Block).collect()))
}

/// Memory to read into directly, zeros at first. It begins where blocks do, and large pages where there are any: what a
/// device transfers is then one long piece, and not one for each page of 4 KiB, which more than doubles what some disks
/// deliver.
#[derive(Debug)]
pub(crate) struct Buffer {
    map: MmapMut,
    skipped: usize,
    bytes: usize,
}

impl Buffer {
    /// So many bytes.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let large_bytes = bytes.next_multiple_of(LARGE_PAGE_BYTES);
        let map = MmapMut::map_anon(large_bytes + LARGE_PAGE_BYTES)?;
        let skipped = map.as_ptr().align_offset(LARGE_PAGE_BYTES);
        if bytes >= LARGE_PAGE_BYTES {
            // A kernel without large pages refuses, and small ones do.
            map.advise_range(Advice::HugePage, skipped, large_bytes).ok();
        }
        Ok(Self { map, skipped, bytes })
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.map[self.skipped..][..self.bytes]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.skipped..][..self.bytes]
    }
}

/// What a kernel calls a huge page, on most machines.
const LARGE_PAGE_BYTES: usize = 2 << 20;
