//! Older bytes, from the files.
//!
//! ```text
//!  lookup ─────────────────────────► the bytes that are asked for, no more
//!  who goes on where it left off ──► pieces, kept for the others who come by
//!  scan ───────────────────────────► its own window; keeps nothing
//! ```
//!
//! The kernel reads ahead of whoever reads on, and its page cache lies below all three. What is kept here saves
//! those who come in small steps the way to the kernel, and serves several from one copy. Mapped files would save
//! the copy too, and block whoever touches them first for as long as the disk takes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::budget::Budget;
use super::open_files::OpenFiles;
use super::pieces::Pieces;
use crate::clock::Clock;
use crate::device::{Advice, File, Files};
use crate::frontier::Frontier;
use crate::offset::PhysicalOffset;
use crate::sync::Mutex;

/// The way to the segment files that all readers of a log share.
pub(crate) struct Cold {
    segment_bytes: u64,
    files: OpenFiles,
    pieces: Pieces,
    streams: Streams,
    budget: Budget,
    clock: Arc<dyn Clock>,
}

/// A read, and what is known about the log around it.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) at: PhysicalOffset,
    /// Below the end of the segment.
    pub(super) bytes: u64,
    /// What is read must lie below, or not be kept: behind it bytes change.
    pub(super) visible_end: PhysicalOffset,
    /// Tells whether groups are being written.
    pub(super) written: &'a Frontier,
}

/// A read of the disk, and what is kept of one. More at once is hardly faster, and in the way of the writer for
/// longer.
pub(super) const PIECE_BYTES: u64 = 128 << 10;
/// Less of a piece is copied: whoever holds on to it would hold all of the piece.
const SHARED_BYTES_MIN: usize = 16 << 10;

impl Cold {
    pub(crate) fn new(
        files: Arc<dyn Files>,
        clock: Arc<dyn Clock>,
        segment_bytes: u64,
        cache_bytes: u64,
        bytes_per_second: u64,
        written_end: PhysicalOffset,
    ) -> Self {
        Self {
            segment_bytes,
            files: OpenFiles::new(files),
            pieces: Pieces::new(cache_bytes),
            streams: Streams::default(),
            budget: Budget::new(bytes_per_second, written_end),
            clock,
        }
    }

    /// What a request asks for, or as much of it as the segment's file has: from what is kept, else from the file. For
    /// who asks once; nothing more is kept for it.
    pub(super) fn find(&self, request: Request<'_>) -> io::Result<Bytes> {
        let end = request.at.advance(request.bytes);
        let kept = if end <= self.piece_start(request.at).advance(PIECE_BYTES) {
            self.part(request, false)?
        } else {
            None
        };
        kept.map_or_else(|| self.look_up(request), |part| Ok(unshared(part)))
    }

    /// The same, from the file.
    pub(super) fn look_up(&self, request: Request<'_>) -> io::Result<Bytes> {
        let mut buffer = vec![0; length(request.bytes)?];
        let read = self.fill(request, &mut buffer, request.bytes)?;
        buffer.truncate(read);
        Ok(buffer.into())
    }

    /// The same, for a reader who may go on behind it, or others at the same place.
    pub(super) fn read(&self, request: Request<'_>) -> io::Result<Bytes> {
        let Request { at, bytes, .. } = request;
        let end = at.advance(bytes);
        let goes_on = self.streams.note(at, end);
        let first = self.piece_start(at);
        if end <= first.advance(PIECE_BYTES) {
            let part = self.part(request, goes_on)?;
            return part.map_or_else(|| self.look_up(request), |part| Ok(unshared(part)));
        }
        let mut buffer = vec![0; length(bytes)?];
        let mut filled = 0;
        while filled < buffer.len() {
            let from = at.advance(filled as u64);
            let to = end.min(self.piece_start(from).advance(PIECE_BYTES));
            let wanted = length(to.since(from))?;
            let target = &mut buffer[filled..filled + wanted];
            let request = Request { at: from, bytes: to.since(from), ..request };
            let read = match self.part(request, goes_on)? {
                Some(part) => {
                    target[..part.len()].copy_from_slice(&part);
                    part.len()
                }
                None => self.fill(request, target, request.bytes)?,
            };
            filled += read;
            if read < wanted {
                break;
            }
        }
        buffer.truncate(filled);
        Ok(buffer.into())
    }

    /// What lies in one piece, if that is kept, or worth keeping.
    fn part(&self, request: Request<'_>, goes_on: bool) -> io::Result<Option<Bytes>> {
        let start = self.piece_start(request.at);
        let (from, bytes) = (length(request.at.since(start))?, length(request.bytes)?);
        let cut = |piece: Bytes| {
            let to = (from + bytes).min(piece.len());
            piece.slice(from.min(to)..to)
        };
        let piece_end = start.advance(PIECE_BYTES).min(self.segment_base(start).advance(self.segment_bytes));
        // Of a piece that is read whole nothing is left for a next step.
        let is_whole = request.at == start && request.bytes == piece_end.since(start);
        let is_settled = piece_end <= request.visible_end;
        if !goes_on || is_whole || !is_settled || !self.pieces.may_hold(PIECE_BYTES) {
            return Ok(self.pieces.get(start, from, from + bytes).map(cut));
        }
        let read = self.pieces.get_or_read(start, from, from + bytes, || {
            self.look_up(Request { at: start, bytes: piece_end.since(start), ..request })
        });
        // Something else in the piece may be what cannot be read.
        Ok(read.ok().map(cut))
    }

    /// Fills `buffer` from where a request begins, as far as the file goes. Behind the first `needed` bytes it also
    /// ends in front of what cannot be read.
    pub(super) fn fill(&self, request: Request<'_>, buffer: &mut [u8], needed: u64) -> io::Result<usize> {
        let file = self.file(request.at)?;
        let needed = usize::try_from(needed).unwrap_or(usize::MAX).min(buffer.len());
        let from = request.at.since(self.segment_base(request.at));
        let mut filled = 0;
        while filled < buffer.len() {
            let step = (buffer.len() - filled).min(length(PIECE_BYTES)?);
            self.wait(step as u64, request.written);
            let at = from + filled as u64;
            let read = match file.read_at(at, &mut buffer[filled..filled + step]) {
                Err(_) if filled >= needed => break,
                // What is not needed may be what cannot be read.
                Err(_) if filled + step > needed => file.read_at(at, &mut buffer[filled..needed])?,
                read => read?,
            };
            filled += read;
            if read < step {
                break;
            }
        }
        Ok(filled)
    }

    fn wait(&self, bytes: u64, written: &Frontier) {
        let turn = self.budget.spend(bytes, written.get(), self.clock.monotonic());
        if turn.pause > Duration::ZERO {
            thread::sleep(turn.pause);
            self.budget.waited(turn);
        }
    }

    /// Forgets what has been read of a range, here and in the system, because it cannot be what was written.
    pub(super) fn forget(&self, at: PhysicalOffset, bytes: u64) {
        // The system first: whoever reads between the two lines might otherwise keep here what it still holds.
        if let Ok(file) = self.file(at) {
            file.advise(at.since(self.segment_base(at)), bytes, Advice::DontNeed);
        }
        self.pieces.forget(at, at.advance(bytes));
    }

    /// Closes the files of the segments below `beginning`, and lets go of what was read of them, for good.
    pub(crate) fn trim(&self, beginning: PhysicalOffset) {
        self.files.trim(beginning);
        self.pieces.trim(beginning);
    }

    fn file(&self, at: PhysicalOffset) -> io::Result<Arc<dyn File>> {
        self.files.get(self.segment_base(at))
    }

    fn segment_base(&self, at: PhysicalOffset) -> PhysicalOffset {
        at.align_down(self.segment_bytes)
    }

    /// Pieces are cut from where their segment begins.
    fn piece_start(&self, at: PhysicalOffset) -> PhysicalOffset {
        let base = self.segment_base(at);
        base.advance(at.since(base) / PIECE_BYTES * PIECE_BYTES)
    }
}

/// The same bytes, without holding on to much more.
fn unshared(part: Bytes) -> Bytes {
    if part.len() < SHARED_BYTES_MIN { Bytes::copy_from_slice(&part) } else { part }
}

fn length(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(io::Error::other)
}

/// Where readers left off: one who begins there again goes on.
#[derive(Default)]
struct Streams(Mutex<VecDeque<PhysicalOffset>>);

/// How many readers are told apart.
const STREAMS_MAX: usize = 64;
/// A reader who leaves out less than this still goes on.
const GAP_BYTES_MAX: u64 = 64 << 10;

impl Streams {
    /// Notes a read; whether it goes on where one has left off.
    fn note(&self, at: PhysicalOffset, end: PhysicalOffset) -> bool {
        let mut ends = self.0.lock();
        let before = ends.iter().rposition(|&left| at >= left && at.since(left) <= GAP_BYTES_MAX);
        if let Some(index) = before {
            ends.remove(index);
        } else if ends.len() == STREAMS_MAX {
            ends.pop_front();
        }
        ends.push_back(end);
        before.is_some()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
