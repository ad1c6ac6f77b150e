//! A bounded cache of older bytes, in pieces that all readers share.
//!
//! What a replay reads once must not evict what others come back to. So a piece is *once* until a read begins below
//! the place to which reads of it have got: whoever reads through it in small steps, however many, uses it once.
//! Pieces read once go first, oldest first, as long as they hold more than a quarter of the room; then the others,
//! least recently used first.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;

use crate::offset::PhysicalOffset;
use crate::sync::{Condvar, Mutex};

/// Pieces by where they start.
pub(super) struct Pieces {
    bytes_max: u64,
    shelf: Mutex<Shelf>,
    /// A piece has arrived, or will not.
    arrived: Condvar,
}

#[derive(Default)]
struct Shelf {
    slots: BTreeMap<PhysicalOffset, Slot>,
    held_bytes: u64,
    once_bytes: u64,
    /// Counts uses.
    uses: u64,
    /// Nothing below is kept.
    beginning: PhysicalOffset,
}

enum Slot {
    /// Somebody reads it, and others wait for that.
    Arriving {
        /// What is read may be older than it should be, and is not kept.
        is_stale: bool,
    },
    Held(Piece),
}

struct Piece {
    bytes: Bytes,
    /// How far into it reads have got.
    read_to: usize,
    used_at: u64,
    is_once: bool,
}

impl Pieces {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, shelf: Mutex::new(Shelf::default()), arrived: Condvar::default() }
    }

    /// Whether a piece of so many bytes may ever be kept.
    pub(super) fn may_hold(&self, bytes: u64) -> bool {
        bytes <= self.bytes_max
    }

    /// The piece that starts at `start`, of which bytes `from` to `to` will be used, if it is there.
    pub(super) fn get(&self, start: PhysicalOffset, from: usize, to: usize) -> Option<Bytes> {
        self.shelf.lock().touch(start, from, to)
    }

    /// The same, read by `read` if it is not there. Of several who ask at once, one reads it.
    pub(super) fn get_or_read(
        &self,
        start: PhysicalOffset,
        from: usize,
        to: usize,
        read: impl FnOnce() -> io::Result<Bytes>,
    ) -> io::Result<Bytes> {
        {
            let mut shelf = self.shelf.lock();
            while matches!(shelf.slots.get(&start), Some(Slot::Arriving { .. })) {
                shelf = self.arrived.wait(shelf);
            }
            if let Some(bytes) = shelf.touch(start, from, to) {
                return Ok(bytes);
            }
            shelf.slots.insert(start, Slot::Arriving { is_stale: false });
        }
        let mut arrival = Arrival { pieces: self, start, bytes: None, read_to: to };
        let bytes = read()?;
        arrival.bytes = Some(bytes.clone());
        Ok(bytes)
    }

    /// Drops what lies between `from` and `to`, which is to be read from the file again. What is arriving there goes to
    /// those who have asked for it, and no further.
    pub(super) fn forget(&self, from: PhysicalOffset, to: PhysicalOffset) {
        let mut shelf = self.shelf.lock();
        // How far these reach is not known yet.
        for (_, slot) in shelf.slots.range_mut(..to) {
            if let Slot::Arriving { is_stale } = slot {
                *is_stale = true;
            }
        }
        shelf.drop_where(|start, bytes| start < to && start.advance(bytes) > from);
    }

    /// Lets go of what lies below `beginning`, for good.
    pub(super) fn trim(&self, beginning: PhysicalOffset) {
        let mut shelf = self.shelf.lock();
        shelf.beginning = beginning;
        shelf.drop_where(|start, _| start < beginning);
    }
}

/// Ends the wait for a piece, however its reading ends.
struct Arrival<'a> {
    pieces: &'a Pieces,
    start: PhysicalOffset,
    bytes: Option<Bytes>,
    read_to: usize,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut shelf = self.pieces.shelf.lock();
        let arrived = shelf.slots.remove(&self.start);
        let is_stale =
            matches!(arrived, Some(Slot::Arriving { is_stale: true })) || self.start < shelf.beginning;
        if let Some(bytes) = self.bytes.take().filter(|_| !is_stale) {
            shelf.put(self.start, bytes, self.read_to, self.pieces.bytes_max);
        }
        drop(shelf);
        self.pieces.arrived.notify_all();
    }
}

impl Shelf {
    fn touch(&mut self, start: PhysicalOffset, from: usize, to: usize) -> Option<Bytes> {
        let Some(Slot::Held(piece)) = self.slots.get_mut(&start) else {
            return None;
        };
        self.uses += 1;
        piece.used_at = self.uses;
        if piece.is_once && from < piece.read_to {
            piece.is_once = false;
            self.once_bytes -= piece.bytes.len() as u64;
        }
        piece.read_to = piece.read_to.max(to);
        Some(piece.bytes.clone())
    }

    fn put(&mut self, start: PhysicalOffset, bytes: Bytes, read_to: usize, bytes_max: u64) {
        let added = bytes.len() as u64;
        while self.held_bytes + added > bytes_max && self.evict(bytes_max) {}
        if self.held_bytes + added > bytes_max {
            return;
        }
        self.uses += 1;
        self.held_bytes += added;
        self.once_bytes += added;
        let piece = Piece { bytes, read_to, used_at: self.uses, is_once: true };
        self.slots.insert(start, Slot::Held(piece));
    }

    /// Makes room; whether there was anything to evict.
    fn evict(&mut self, bytes_max: u64) -> bool {
        let once_goes = self.once_bytes > bytes_max / 4 || self.once_bytes == self.held_bytes;
        let held = self.slots.iter().filter_map(|(start, slot)| match slot {
            Slot::Held(piece) if piece.is_once == once_goes => Some((piece.used_at, *start)),
            _ => None,
        });
        let Some((_, oldest)) = held.min() else {
            return false;
        };
        self.drop_where(|start, _| start == oldest);
        true
    }

    fn drop_where(&mut self, goes: impl Fn(PhysicalOffset, u64) -> bool) {
        let Self { slots, held_bytes, once_bytes, .. } = self;
        slots.retain(|start, slot| match slot {
            Slot::Held(piece) if goes(*start, piece.bytes.len() as u64) => {
                *held_bytes -= piece.bytes.len() as u64;
                *once_bytes -= if piece.is_once { piece.bytes.len() as u64 } else { 0 };
                false
            }
            _ => true,
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_model;
