//! What is filled in under the append lock.

use skylark_index::{Index, QueueId};

use crate::folds::Heads;

/// The offset that the next message of each queue gets, at the log's appended end.
///
/// The folds follow what is durable and visible; an append cannot wait for that to number its message. This table
/// runs ahead of them: the append lock owns it, nothing else writes it, and it is lost with the process, because it
/// follows from the log.
///
/// Invariant: for each queue, every lower offset was given to a message or passed over by a head, and none twice.
///
/// Memory: 8 bytes for each queue of the index.
#[derive(Debug, Default)]
pub struct Tentative {
    next: Vec<u64>,
}

impl Tentative {
    /// The table for a log that was folded up to its end, before anything is appended. Registers the queues that
    /// have a head but no message left.
    pub fn rebuild(heads: &Heads, index: &mut Index) -> Self {
        let mut table = Self::default();
        for (topic, queue, next) in heads.iter() {
            table.raise(index.register(topic, queue), next);
        }
        table
    }

    /// Makes room for the queue, and lets it go on at `next` unless it is further already. Do so when a queue is
    /// registered and when its head is set, so that no append has to allocate.
    pub fn raise(&mut self, queue: QueueId, next: u64) {
        let slot = self.slot(queue);
        *slot = next.max(*slot);
    }

    /// Gives the queue's next offset away, to a message that is certain to be appended.
    pub fn assign(&mut self, queue: QueueId) -> u64 {
        let slot = self.slot(queue);
        let offset = *slot;
        *slot += 1;
        offset
    }

    /// The offset that [`assign`](Self::assign) will give.
    pub fn next(&self, queue: QueueId) -> u64 {
        self.next.get(queue.get() as usize).copied().unwrap_or(0)
    }

    fn slot(&mut self, queue: QueueId) -> &mut u64 {
        let at = queue.get() as usize;
        if at >= self.next.len() {
            self.next.resize(at + 1, 0);
        }
        &mut self.next[at]
    }
}

#[cfg(test)]
mod tests {
    use skylark_storage::PhysicalOffset;

    use super::*;
    use crate::folds::heads::{HeadSet, MessagePlace};
    use crate::folds::{Change, Event, Fold};

    #[test]
    fn offsets_go_on_where_the_log_ends() {
        let mut heads = Heads::default();
        let message = |queue_offset| Change::Message(MessagePlace { topic: "t", queue: 1, queue_offset });
        let head = HeadSet { topic: "mirror".to_owned(), queue: 0, next: 500 };
        for change in [message(0), message(1), Change::HeadSet(head)] {
            heads.apply(&Event { at: PhysicalOffset::ZERO, stored_at: 0, change }).unwrap();
        }
        let mut index = Index::new();
        let other = index.register("other", 0);
        let mut table = Tentative::rebuild(&heads, &mut index);
        let mirror = index.lookup("mirror", 0).unwrap();
        let queue = index.lookup("t", 1).unwrap();
        assert_eq!([other, mirror, queue].map(|queue| table.next(queue)), [0, 500, 2]);
        assert_eq!([table.assign(queue), table.assign(queue), table.assign(mirror)], [2, 3, 500]);
        table.raise(queue, 3);
        assert_eq!(table.next(queue), 4, "a head that was overtaken takes nothing back");
        let new = index.register("new", 0);
        assert_eq!((table.next(new), table.assign(new), table.assign(new)), (0, 0, 1));
    }
}
