//! The newest bytes of the log, in the memory in which they were staged. No reader of older ones can evict them.
//!
//! Readers share that memory, so each holds on to a whole chunk for as long as it keeps what it has read, and a slow one
//! for long after the tail has let go of it. So small parts are copied; and once readers hold on to as much that
//! has left the tail as the tail has itself, everything is, until they have let go.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::offset::PhysicalOffset;
use crate::staging::chunk::ChunkWatch;
use crate::sync::Mutex;

/// The newest bytes of the log, kept in memory: the chunks they were staged in.
pub(crate) struct HotTail {
    bytes_min: u64,
    /// So many chunks may be held that have left the tail.
    left_max: usize,
    chunks: Mutex<Chunks>,
}

#[derive(Default)]
struct Chunks {
    parts: VecDeque<Part>,
    /// Those that have left the tail and may still be held by somebody.
    left: Vec<ChunkWatch>,
}

/// The finished front of a chunk.
struct Part {
    base: PhysicalOffset,
    bytes: Bytes,
    watch: ChunkWatch,
}

/// Less is copied for whoever holds on to it.
const SHARED_BYTES_MIN: usize = 512;

impl HotTail {
    pub(crate) fn new(bytes_min: u64, chunk_bytes: usize) -> Self {
        let left_max = usize::try_from(bytes_min / chunk_bytes as u64).unwrap_or(usize::MAX).max(1);
        Self { bytes_min, left_max, chunks: Mutex::new(Chunks::default()) }
    }

    /// Takes the finished front of the newest chunk, in place of a shorter one, and lets go of what is too old.
    pub(crate) fn extend(&self, base: PhysicalOffset, bytes: Bytes, watch: ChunkWatch) {
        let end = base.advance(bytes.len() as u64);
        let mut chunks = self.chunks.lock();
        match chunks.parts.back_mut().filter(|part| part.base == base) {
            Some(part) => part.bytes = bytes,
            None => chunks.parts.push_back(Part { base, bytes, watch }),
        }
        let is_old = |part: &Part| part.end().advance(self.bytes_min) < end;
        while let Some(part) = chunks.parts.pop_front_if(|part| is_old(part)) {
            chunks.leave(part);
        }
    }

    /// Lets go of what lies below `beginning`, where a segment begins, as a chunk does.
    pub(crate) fn trim(&self, beginning: PhysicalOffset) {
        let mut chunks = self.chunks.lock();
        while let Some(part) = chunks.parts.pop_front_if(|part| part.base < beginning) {
            chunks.leave(part);
        }
    }

    /// `bytes` from `at` on, if they are all there, for whoever may keep them for as long as it likes.
    pub(super) fn get(&self, at: PhysicalOffset, bytes: u64) -> Option<Bytes> {
        let (found, is_shared) = {
            let mut chunks = self.chunks.lock();
            let found = chunks.find(at, bytes)?;
            let is_shared = found.len() >= SHARED_BYTES_MIN && chunks.held() < self.left_max;
            (found, is_shared)
        };
        Some(if is_shared { found } else { Bytes::copy_from_slice(&found) })
    }

    /// The same, for whoever is done with them before it returns.
    pub(super) fn look(&self, at: PhysicalOffset, bytes: u64) -> Option<Bytes> {
        self.chunks.lock().find(at, bytes)
    }
}

impl Chunks {
    fn find(&self, at: PhysicalOffset, bytes: u64) -> Option<Bytes> {
        // Most readers are close to the end.
        let part = self.parts.iter().rev().find(|part| part.base <= at)?;
        let from = usize::try_from(at.since(part.base)).ok()?;
        let to = from.checked_add(usize::try_from(bytes).ok()?)?;
        (to <= part.bytes.len()).then(|| part.bytes.slice(from..to))
    }

    fn leave(&mut self, part: Part) {
        let Part { bytes, watch, .. } = part;
        drop(bytes);
        self.held();
        self.left.extend(Some(watch).filter(ChunkWatch::is_in_use));
    }

    /// How many chunks are held that have left the tail.
    fn held(&mut self) -> usize {
        self.left.retain(ChunkWatch::is_in_use);
        self.left.len()
    }
}

impl Part {
    fn end(&self) -> PhysicalOffset {
        self.base.advance(self.bytes.len() as u64)
    }
}
