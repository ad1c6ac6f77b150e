//! From times to queue offsets.

use crate::directory::RunRef;
use crate::index::{Answer, Index};
use crate::queue::QueueId;
use crate::way::Way;

impl Index {
    /// The first message stored at `time` or later. If all are earlier, the queue's next offset; so for an empty
    /// queue too. If all are later, the queue's minimum.
    pub fn first_at_or_after(&self, queue: QueueId, time: u64) -> Answer<u64> {
        self.partition(queue, |stored_at| stored_at < time)
    }

    /// The last message stored at `time` or earlier, if there is one.
    pub fn last_at_or_before(&self, queue: QueueId, time: u64) -> Answer<Option<u64>> {
        let after = self.partition(queue, |stored_at| stored_at <= time);
        after.map(|after| (after > self.range(queue).start).then(|| after - 1))
    }

    /// The first offset whose time is not `before`, or the next one's. Times do not decrease along a queue: finds
    /// the newest run whose first message is `before`, by the longest jumps that stay behind it, then searches it.
    fn partition(&self, queue: QueueId, before: impl Fn(u64) -> bool) -> Answer<u64> {
        let state = &self.queues[queue];
        let min = state.min;
        // What lies below the minimum is hidden, and at the minimum the way ends.
        let passed = |at: RunRef| {
            let segment = self.segment(at)?;
            let run = segment.run(at.slot);
            let passed = run.first >= min && !before(segment.stored_at(run.first_entry));
            passed.then_some(run)
        };
        let mut way = Way::from_newest(state);
        while way.end > min {
            match passed(way.jump).or_else(|| passed(way.at)) {
                Some(run) => way = way.pass(run),
                None => break,
            }
        }
        let known = match self.segment(way.at) {
            Some(segment) if segment.run(way.at.slot).end() > min => segment.partition(way.at.slot, before),
            Some(_) => way.end,
            None => match self.view(state, way) {
                Some(view) => return Answer::Sealed(view),
                None => way.end,
            },
        };
        Answer::Known(known.max(min))
    }
}
