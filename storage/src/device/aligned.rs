//! Memory that a device may transfer directly, for those who have none from the staging area.

use bytes::Bytes;
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
