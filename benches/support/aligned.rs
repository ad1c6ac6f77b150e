//! Memory that a device may transfer directly.

use std::ops::{Deref, DerefMut};

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The unit of every write: what a device with direct transfers asks for, and what the log writes.
pub const BLOCK_BYTES: usize = 4096;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES]);

/// Bytes that begin at a block boundary in memory; whole blocks, zeros at first.
#[derive(Clone)]
pub struct Aligned(Vec<Block>);

impl Aligned {
    /// At least so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(vec![Block::new_zeroed(); bytes.div_ceil(BLOCK_BYTES)])
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}
