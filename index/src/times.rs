//! From times to queue offsets.

use crate::index::Index;
use crate::queue::QueueId;

impl Index {
    /// The first message stored at `time` or later. If all are earlier, the queue's next offset; so for an empty
    /// queue too. If all are later, the queue's minimum.
    pub fn first_at_or_after(&self, queue: QueueId, time: u64) -> u64 {
        self.partition(queue, |stored_at| stored_at < time)
    }

    /// The last message stored at `time` or earlier, if there is one.
    pub fn last_at_or_before(&self, queue: QueueId, time: u64) -> Option<u64> {
        let after = self.partition(queue, |stored_at| stored_at <= time);
        (after > self.range(queue).start).then(|| after - 1)
    }

    /// The first offset whose time is not `before`, or the next one's. Times do not decrease along a queue: finds
    /// the newest run whose first message is `before`, by the longest jumps that stay behind it, then searches it.
    fn partition(&self, queue: QueueId, before: impl Fn(u64) -> bool) -> u64 {
        let range = self.range(queue);
        if range.is_empty() {
            return range.end;
        }
        // What lies below the minimum is hidden, an empty run too: it was emptied by setting a head.
        let starts_after = |run| {
            let segment = self.segment(run)?;
            let found = segment.run(run.slot);
            let visible = found.count > 0 && found.first >= range.start;
            visible.then(|| !before(segment.stored_at(found.first_entry)))
        };
        let mut at = self.queues[queue].newest;
        while let Some(run) = self.run(at)
            && starts_after(at) == Some(true)
        {
            at = match (starts_after(run.jump), starts_after(run.previous)) {
                (Some(true), _) => run.jump,
                (_, Some(_)) => run.previous,
                (_, None) => return run.first,
            };
        }
        self.segment(at).map_or(range.end, |segment| segment.partition(at.slot, before))
    }
}
