//! The index against one plain vector per queue.

use proptest::prelude::*;
use skylark_storage::PhysicalOffset;

use super::known;
use crate::{Entry, Extras, Index, QueueId};

/// What can happen to an index.
#[derive(Clone, Debug)]
enum Step {
    /// So many messages, to queues taken in turn from a start by a stride, each `wait` ms after the one before.
    Push { start: usize, stride: usize, messages: usize, wait: u64 },
    /// The log goes on to its next segment.
    Roll,
    /// A queue goes on `ahead` of its next offset.
    Head { queue: usize, ahead: u64 },
}

const QUEUES: usize = 5;
const SEGMENT_BYTES: u64 = 1 << 20;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..QUEUES, 0..3_usize, 1..700_usize, 0..3_u64)
            .prop_map(|(start, stride, messages, wait)| Step::Push { start, stride, messages, wait }),
        4 => Just(Step::Roll),
        1 => (0..QUEUES, prop_oneof![Just(0), 1..600_u64]).prop_map(|(queue, ahead)| Step::Head { queue, ahead }),
    ]
}

/// A queue that does everything by looking at everything.
#[derive(Default)]
struct Model {
    min: u64,
    next: u64,
    entries: Vec<Entry>,
}

impl Model {
    fn visible(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.queue_offset >= self.min)
    }
}

struct World {
    index: Index,
    ids: Vec<QueueId>,
    models: Vec<Model>,
    bases: Vec<u64>,
    at: u64,
    now: u64,
}

impl World {
    fn new() -> Self {
        let mut index = Index::new();
        let ids: Vec<QueueId> =
            (0..QUEUES).map(|n| index.register(["a", "b"][n % 2], u32::try_from(n).unwrap())).collect();
        let models = (0..QUEUES).map(|_| Model::default()).collect();
        let mut world = Self { index, ids, models, bases: Vec::new(), at: 0, now: 1000 };
        world.roll();
        world
    }

    fn roll(&mut self) {
        let base = self.bases.last().map_or(0, |base| base + SEGMENT_BYTES);
        self.index.begin_segment(PhysicalOffset::new(base), self.now).unwrap();
        self.bases.push(base);
        self.at = base + 64;
    }

    fn push(&mut self, queue: usize) {
        if self.at + 128 > self.bases.last().unwrap() + SEGMENT_BYTES {
            self.roll();
        }
        let model = &mut self.models[queue];
        let entry = Entry {
            queue_offset: model.next,
            physical_offset: PhysicalOffset::new(self.at),
            record_bytes: 40 + u32::try_from(self.at % 80).unwrap(),
            tag_hash: i32::try_from(self.at % 7).unwrap() - 3,
            stored_at: self.now,
        };
        self.index.push(self.ids[queue], entry, Extras::default()).unwrap();
        model.entries.push(entry);
        model.next += 1;
        self.at += 128;
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Push { start, stride, messages, wait } => {
                for n in 0..messages {
                    self.push((start + n * stride) % QUEUES);
                    self.now += wait;
                }
            }
            Step::Roll => self.roll(),
            Step::Head { queue, ahead } => {
                let model = &mut self.models[queue];
                model.next += ahead;
                model.min = model.next;
                self.index.set_head(self.ids[queue], model.next).unwrap();
            }
        }
    }

    fn check(&self) {
        for (model, &id) in self.models.iter().zip(&self.ids) {
            assert_eq!(self.index.range(id), model.min..model.next);
            let visible: Vec<Entry> = model.visible().copied().collect();
            assert_eq!(known(self.index.entries(id, model.min, usize::MAX)).collect::<Vec<_>>(), visible);
            assert_eq!(visible.len() as u64, model.next - model.min);
            for entry in visible.iter().step_by(13).chain(visible.last()) {
                assert_eq!(known(self.index.entry(id, entry.queue_offset)), Some(*entry));
            }
            assert_eq!(known(self.index.entry(id, model.next)), None);
            assert_eq!(model.min.checked_sub(1).and_then(|below| known(self.index.entry(id, below))), None);

            for time in (990..self.now + 2).step_by(1 + usize::try_from(self.now - 990).unwrap() / 97) {
                let first = visible.iter().find(|entry| entry.stored_at >= time);
                let first = first.map_or(model.next, |entry| entry.queue_offset);
                assert_eq!(known(self.index.first_at_or_after(id, time)), first, "first at or after {time}");
                let last =
                    visible.iter().rfind(|entry| entry.stored_at <= time).map(|entry| entry.queue_offset);
                assert_eq!(known(self.index.last_at_or_before(id, time)), last, "last at or before {time}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_is_a_vector_per_queue(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.check();
    }
}
