//! What is left to write of an operation, while the kernel takes it bit by bit.

use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::Operation;
use crate::segment::BLOCK;

/// Bytes to write, and where.
#[derive(Debug)]
pub(super) struct Rest {
    at: u64,
    /// None of them is empty.
    pieces: SmallVec<[Bytes; 3]>,
    /// What is written counts in multiples of this.
    unit: usize,
    /// Attempts in a row that came to nothing.
    stalls: u32,
}

/// More attempts in a row than this are not made.
const STALLS_MAX: u32 = 8;

impl Rest {
    /// All of an operation, for a device that writes through the page cache.
    pub(super) fn cached(operation: Operation) -> Self {
        let Operation { at, mut pieces, flush: _ } = operation;
        pieces.retain(|piece| !piece.is_empty());
        Self { at, pieces, unit: 1, stalls: 0 }
    }

    /// All of an operation, for a device that transfers blocks past the page cache.
    ///
    /// # Panics
    /// When the operation does not consist of whole blocks of memory that begin at one.
    pub(super) fn direct(operation: Operation) -> Self {
        let rest = Self { unit: BLOCK, ..Self::cached(operation) };
        let aligned =
            |piece: &Bytes| piece.len().is_multiple_of(BLOCK) && piece.as_ptr().addr().is_multiple_of(BLOCK);
        assert!(rest.pieces.iter().all(aligned), "an operation consists of whole blocks");
        rest
    }

    /// Where it goes.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// What is left, if it is one piece.
    #[cfg(feature = "uring")]
    pub(super) fn single(&self) -> Option<&Bytes> {
        if let [piece] = &self.pieces[..] { Some(piece) } else { None }
    }

    pub(super) fn slices(&self) -> SmallVec<[IoSlice<'_>; 3]> {
        self.pieces.iter().map(|piece| IoSlice::new(piece)).collect()
    }

    /// Takes note of how many bytes an attempt to write all this came to.
    ///
    /// A direct write may end inside a block when it is cut short; what is left then begins with that block, because
    /// the next attempt has to begin at one.
    ///
    /// # Errors
    /// When trying again is no help.
    pub(super) fn note(&mut self, outcome: io::Result<usize>) -> io::Result<()> {
        let written = match outcome {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        };
        let whole = written / self.unit * self.unit;
        if whole == 0 {
            self.stalls += 1;
            return if self.stalls > STALLS_MAX { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) };
        }
        self.stalls = 0;
        self.advance(whole);
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        self.at += bytes as u64;
        let mut left = bytes;
        for piece in &mut self.pieces {
            let taken = left.min(piece.len());
            piece.advance(taken);
            left -= taken;
        }
        self.pieces.retain(|piece| !piece.is_empty());
    }

    /// Tries until all is written.
    pub(super) fn write_all(
        mut self,
        mut attempt: impl FnMut(&[IoSlice<'_>], u64) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !self.is_empty() {
            let outcome = attempt(&self.slices(), self.at());
            self.note(outcome)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
