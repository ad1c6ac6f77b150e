//! What a group that consumes in order has popped last of a queue.

use serde::{Deserialize, Serialize};

use super::{Again, BATCH_MAX, BatchKey, Offsets, Settled};

/// The last batch of a queue that is popped in order. While one of its messages is neither acknowledged nor visible
/// again, nothing else of the queue is given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    attempt: String,
    popped_at: u64,
    offsets: Offsets,
    acked: u32,
    /// By bit, when it is visible again, in milliseconds since 1970.
    visible_at: Box<[u64]>,
    /// By bit, how often it was popped before.
    counts: Box<[u32]>,
}

impl Order {
    /// A batch that was popped behind `earlier`, if anything was.
    pub(super) fn new(
        attempt: &str,
        key: BatchKey,
        visible_at: u64,
        offsets: Offsets,
        earlier: Option<&Self>,
    ) -> Self {
        // The same attempt again is the same delivery: its answer was lost.
        let is_same = |earlier: &Self| !attempt.is_empty() && earlier.attempt == attempt;
        let count = |offset| {
            let earlier = earlier?;
            let count = earlier.count(offset)?;
            Some(if is_same(earlier) { count } else { count.saturating_add(1) })
        };
        let counts = offsets.iter().map(|offset| count(offset).unwrap_or(0)).collect();
        let visible_at = vec![visible_at; offsets.count()].into();
        Self { attempt: attempt.to_owned(), popped_at: key.popped_at, offsets, acked: 0, visible_at, counts }
    }

    /// Its name.
    pub fn key(&self) -> BatchKey {
        BatchKey { start: self.offsets.start(), popped_at: self.popped_at }
    }

    /// What was popped.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// How often the message was popped before this batch; none if it is not part of it.
    pub fn count(&self, offset: u64) -> Option<u32> {
        self.counts.get(self.offsets.bit(offset)?).copied()
    }

    /// Until when nothing else is given out, in milliseconds since 1970; none if everything was acknowledged.
    pub fn blocked_until(&self) -> Option<u64> {
        let unacked = (0..self.offsets.count()).filter(|bit| self.unacked() >> bit & 1 == 1);
        unacked.filter_map(|bit| self.visible_at.get(bit).copied()).max()
    }

    /// Whether this attempt has to wait at this time, in milliseconds since 1970.
    pub fn blocks(&self, attempt: &str, now_ms: u64) -> bool {
        let is_same = !attempt.is_empty() && self.attempt == attempt;
        !is_same && self.blocked_until().is_some_and(|until| now_ms < until)
    }

    /// Where the next batch begins: at the first message that is not acknowledged.
    pub fn next(&self) -> u64 {
        let first = (0..self.offsets.count()).find(|bit| self.acked >> bit & 1 == 0);
        first.map_or_else(|| self.offsets.at(self.offsets.count() - 1) + 1, |bit| self.offsets.at(bit))
    }

    /// A mask with a bit for each message that was not acknowledged.
    pub fn unacked(&self) -> u32 {
        self.offsets.mask() & !self.acked
    }

    pub(super) fn settle(&mut self, settled: &Settled) {
        match settled.again {
            None => self.acked |= settled.mask & self.offsets.mask(),
            Some(Again { visible_at, .. }) => {
                for (bit, own) in self.visible_at.iter_mut().enumerate().take(BATCH_MAX) {
                    if settled.mask >> bit & 1 == 1 {
                        *own = visible_at;
                    }
                }
            }
        }
    }
}
