//! Everything that a broker computed from its log, in a form to compare.

use std::ops::Range;

use skylark_broker::broker::Running;
use skylark_broker::folds::Fold;

/// Hashes of the folds, and where each queue begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    pub topics: u64,
    pub groups: u64,
    pub offsets: u64,
    pub heads: u64,
    pub lock_owners: u64,
    pub timers: u64,
    pub pops: u64,
    pub queues: Vec<(String, u32, Range<u64>)>,
}

impl Digest {
    pub fn of(running: &Running) -> Self {
        let broker = &running.broker;
        let catalog = broker.catalog.read();
        let index = broker.index.read();
        let queues = index.queues().map(|queue| {
            let (topic, number) = index.name(queue);
            (topic.to_owned(), number, index.range(queue))
        });
        // A queue that never held anything may be known or not.
        let mut queues: Vec<_> = queues.filter(|(_, _, range)| range.end > 0).collect();
        queues.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        Self {
            topics: catalog.topics.hash(),
            groups: catalog.groups.hash(),
            offsets: broker.offsets.lock().folded.hash(),
            heads: running.dispatcher.heads().hash(),
            lock_owners: catalog.lock_owners.hash(),
            timers: broker.timers.folded.lock().hash(),
            pops: broker.pops.folded.lock().hash(),
            queues,
        }
    }

    /// The same, wherever queues begin.
    pub fn without_minima(mut self) -> Self {
        self.queues.iter_mut().for_each(|(_, _, range)| range.start = 0);
        self
    }
}
