//! Memory that a device may transfer directly, for those who have none from the staging area.

use bytes::Bytes;
use zerocopy::{Immutable, IntoBytes};

use crate::segment::BLOCK;

/// A block of memory that begins where blocks do.
#[derive(Clone, IntoBytes, Immutable)]
#[repr(C, align(4096))]
pub(super) struct Block(pub(super) [u8; BLOCK]);

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
