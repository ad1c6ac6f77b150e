//! Bytes on their way to the peer.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// What a session has to say, in order: small answers run together into one buffer, slices of the log are kept
/// as they are, and the transport hands both to one vectored write.
#[derive(Debug, Default)]
pub struct Outbox {
    closed: VecDeque<Bytes>,
    open: BytesMut,
    closed_bytes: usize,
}

impl Outbox {
    /// Pieces below this are copied: a slice of its own costs more than moving them.
    pub const COPY_BYTES_MAX: usize = 512;

    /// Where small answers are written. What is put here comes behind everything pushed before.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Appends bytes without copying them, unless they are few.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() < Self::COPY_BYTES_MAX {
            self.open.extend_from_slice(&bytes);
            return;
        }
        self.seal();
        self.closed_bytes += bytes.len();
        self.closed.push_back(bytes);
    }

    /// Moves what another outbox holds behind what this one does.
    pub fn append(&mut self, mut other: Self) {
        other.seal();
        other.closed.into_iter().for_each(|piece| self.push(piece));
    }

    /// Bytes not yet written.
    pub fn len(&self) -> usize {
        self.closed_bytes + self.open.len()
    }

    /// Whether everything was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `slices` with what to write next and returns how many it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let open = (!self.open.is_empty()).then_some(&self.open[..]);
        let pieces = self.closed.iter().map(|piece| &piece[..]).chain(open);
        let filled = slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece));
        filled.count()
    }

    /// Drops the first `written` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.closed.front_mut() {
            let step = written.min(front.len());
            front.advance(step);
            written -= step;
            self.closed_bytes -= step;
            if !front.is_empty() {
                return;
            }
            self.closed.pop_front();
        }
        self.open.advance(written);
        if self.open.is_empty() {
            // The buffer's memory is used again instead of creeping forward.
            self.open.clear();
        }
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            let piece = self.open.split().freeze();
            self.closed_bytes += piece.len();
            self.closed.push_back(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_they_came() {
        let mut outbox = Outbox::default();
        outbox.buffer().extend_from_slice(b"one ");
        outbox.push(Bytes::from_static(b"two "));
        outbox.push(Bytes::from(vec![b'.'; Outbox::COPY_BYTES_MAX]));
        let mut behind = Outbox::default();
        behind.buffer().extend_from_slice(b" three");
        outbox.append(behind);
        let mut sent = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let filled = outbox.slices(&mut slices);
            let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
            let step = bytes.len().min(5);
            sent.extend_from_slice(&bytes[..step]);
            outbox.advance(step);
        }
        let expected = [&b"one two "[..], &vec![b'.'; Outbox::COPY_BYTES_MAX], b" three"].concat();
        assert_eq!(sent, expected);
    }
}
