//! The newest bytes of the log, in the memory in which they were staged. No reader of older ones can evict them.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::offset::PhysicalOffset;
use crate::sync::Mutex;

/// The newest bytes of the log, kept in memory: the chunks they were staged in.
pub(crate) struct HotTail {
    bytes_min: u64,
    parts: Mutex<VecDeque<Part>>,
}

/// The finished front of a chunk.
struct Part {
    base: PhysicalOffset,
    bytes: Bytes,
}

impl HotTail {
    pub(crate) fn new(bytes_min: u64) -> Self {
        Self { bytes_min, parts: Mutex::new(VecDeque::new()) }
    }

    /// Takes the finished front of the newest chunk, in place of a shorter one, and lets go of what is too old.
    pub(crate) fn extend(&self, base: PhysicalOffset, bytes: Bytes) {
        let end = base.advance(bytes.len() as u64);
        let mut parts = self.parts.lock();
        match parts.back_mut().filter(|part| part.base == base) {
            Some(part) => part.bytes = bytes,
            None => parts.push_back(Part { base, bytes }),
        }
        while parts.front().is_some_and(|part| part.end().advance(self.bytes_min) < end) {
            parts.pop_front();
        }
    }

    /// Lets go of what lies below `beginning`, where a segment begins, as a chunk does.
    pub(crate) fn trim(&self, beginning: PhysicalOffset) {
        self.parts.lock().retain(|part| part.base >= beginning);
    }

    pub(super) fn get(&self, at: PhysicalOffset, bytes: u64) -> Option<Bytes> {
        let parts = self.parts.lock();
        // Most readers are close to the end.
        let part = parts.iter().rev().find(|part| part.base <= at)?;
        let from = usize::try_from(at.since(part.base)).ok()?;
        let to = from.checked_add(usize::try_from(bytes).ok()?)?;
        (to <= part.bytes.len()).then(|| part.bytes.slice(from..to))
    }
}

impl Part {
    fn end(&self) -> PhysicalOffset {
        self.base.advance(self.bytes.len() as u64)
    }
}
