//! What a segment knows about each queue it holds, and how that leads to older segments.

use serde::{Deserialize, Serialize};

use crate::queue::QueueId;

/// The messages that one queue has in one segment: a dense range of its offsets. A queue whose head is moved ahead
/// has a further run in the same segment, so that what a segment's index holds depends on its messages only.
///
/// A queue's runs form a list from the newest segment to the oldest. Besides its predecessor each run knows a
/// *jump* further back, laid out as a skew-binary number of its depth: from any run, any older one is reached in
/// O(log depth) steps, although every run is written once and never updated when others follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Offset of the first message.
    pub(crate) first: u64,
    /// How many there are; at least one.
    pub(crate) count: u32,
    /// Position of the first message's entry among the segment's.
    pub(crate) first_entry: u32,
    /// Whose messages they are.
    pub(crate) queue: QueueId,
    /// Where it stands among the queue's runs.
    pub(crate) links: Links,
}

/// Where a run stands among those of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Links {
    /// How many runs of the queue there were before, this one included, those of trimmed segments too.
    pub(crate) depth: u32,
    /// The run before, which is mostly in an older segment.
    pub(crate) previous: RunRef,
    /// The run at depth [`jump_depth`]`(depth)`.
    pub(crate) jump: RunRef,
}

impl Run {
    /// A run that begins at offset `first`, still without a message.
    pub(crate) fn new(queue: QueueId, first: u64, links: Links) -> Self {
        Self { first, count: 0, first_entry: 0, queue, links }
    }

    /// Offset behind the last message.
    pub(crate) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }
}

/// Names a run. Stays valid as a name when its segment is trimmed, but then leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRef {
    /// Number of the segment, counted from the log's first.
    pub(crate) segment: u32,
    /// Position in the segment's directory.
    pub(crate) slot: u32,
}

impl RunRef {
    /// No run: the number of a segment that was trimmed before it existed.
    pub(crate) const NONE: Self = Self { segment: 0, slot: 0 };
}

/// The first segment's number, so that [`RunRef::NONE`] always lies before the oldest segment.
pub(crate) const FIRST_SEGMENT: u32 = 1;

/// The depth to which a run at `depth` jumps; zero is before the first.
///
/// Write `depth` as a sum of numbers 2ᵏ − 1, always taking the largest that fits: the jump passes over the last of
/// them. Being a function of the depth alone, it keeps its shape when old segments are trimmed.
pub(crate) fn jump_depth(depth: u32) -> u32 {
    let mut left = depth;
    while left > 0 {
        // The largest 2ᵏ − 1 up to `left`.
        let step = (u32::MAX >> left.saturating_add(1).leading_zeros()) >> 1;
        if step == left {
            return depth - step;
        }
        left -= step;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_follow_skew_binary_numbers() {
        let jumps: Vec<u32> = (1..=16).map(jump_depth).collect();
        assert_eq!(jumps, [0, 1, 0, 3, 4, 3, 0, 7, 8, 7, 10, 11, 10, 7, 0, 15]);
        assert_eq!(jump_depth(0), 0);
    }

    #[test]
    fn a_jump_is_the_predecessor_or_two_jumps_from_it() {
        // The rule by which a new run finds its jump from its predecessor's, without walking.
        for depth in 2..5000 {
            let jump = jump_depth(depth);
            assert!(jump == depth - 1 || jump == jump_depth(jump_depth(depth - 1)), "depth {depth}");
        }
    }

    #[test]
    fn every_depth_is_reached_in_logarithmic_steps() {
        for target in [1, 2, 777, 40_000, 99_999] {
            let (mut at, mut steps) = (100_000, 0);
            while at != target {
                at = if jump_depth(at) >= target { jump_depth(at) } else { at - 1 };
                steps += 1;
            }
            assert!(steps <= 3 * 17, "{steps} steps to depth {target}");
        }
    }
}
