//! What is filled in under the append lock.

use skylark_index::QueueId;

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
    /// Starts from a log that was folded up to its end, before anything is appended: `next` is what follows the last
    /// message of each queue of the index, in the order of their ids.
    pub fn restore(&mut self, next: impl IntoIterator<Item = u64>) {
        self.next.clear();
        self.next.extend(next);
    }

    /// Makes room for so many queues; new ones start at zero. Do so when a queue is registered, so that no append
    /// has to allocate.
    pub fn grow(&mut self, queues: usize) {
        if queues > self.next.len() {
            self.next.resize(queues, 0);
        }
    }

    /// Lets the queue go on at `next`, unless it is further already: its head was set.
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
        self.grow(at + 1);
        &mut self.next[at]
    }
}

#[cfg(test)]
mod tests {
    use skylark_index::Index;

    use super::*;

    #[test]
    fn offsets_go_on_where_the_log_ends() {
        let mut index = Index::new();
        let [a, b, c] = ["a", "b", "c"].map(|topic| index.register(topic, 0));
        let mut table = Tentative::default();
        index.set_head(b, 500).unwrap();
        table.restore([a, b].map(|queue| index.range(queue).end));
        assert_eq!([table.assign(a), table.assign(b), table.assign(b)], [0, 500, 501]);
        table.grow(3);
        assert_eq!([a, b, c].map(|queue| table.next(queue)), [1, 502, 0], "room changes nothing");
        table.raise(b, 501);
        table.raise(c, 7);
        assert_eq!(
            [table.assign(b), table.assign(c)],
            [502, 7],
            "a head that was overtaken takes nothing back"
        );
        let late = index.register("late", 0);
        assert_eq!([table.next(late), table.assign(late), table.assign(late)], [0, 0, 1]);
    }
}
