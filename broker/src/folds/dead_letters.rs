//! Which dead letters operators have dealt with.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use skylark_storage::Kind;

use super::audit::{Keep, Mover};
use super::fold::{Event, Fold, FoldError};
use super::kinds::{self, Change};
use super::payload::Payload;
use super::topics::TopicDeleted;

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settlement {
    /// It was sent again: the message lies in the same unit.
    Resent,
    /// Nobody wants it any more.
    Purged,
}

/// Dead letters were sent again, or given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLettersSettled {
    /// Who did it.
    pub by: Mover,
    /// Whose dead letters.
    pub group: String,
    /// Their topic.
    pub topic: String,
    /// The number of their queue.
    pub queue: u32,
    /// Which, by offset: the first, and the one behind the last. Ascending, and apart from each other.
    pub stretches: Vec<(u64, u64)>,
    /// What became of them.
    pub settlement: Settlement,
    /// The lowest offset of the queue: what lay below it is gone.
    pub min: u64,
    /// How much of the trail is kept from then on.
    pub keep: Keep,
}

impl Payload for DeadLettersSettled {
    const KIND: Kind = kinds::DEAD_LETTERS_SETTLED;
    const VERSION: u8 = 1;
}

/// Offsets of a queue that are settled, as stretches: first offset, and the one behind the last.
///
/// Invariant: no stretch is empty, and none touches another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretches(BTreeMap<u64, u64>);

impl Stretches {
    /// Whether an offset is settled.
    pub fn contains(&self, offset: u64) -> bool {
        self.0.range(..=offset).next_back().is_some_and(|(_, end)| *end > offset)
    }

    /// What is not settled within `range`, ascending.
    pub fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let before = self.0.range(..range.start).next_back().map_or(0, |(_, end)| *end);
        let mut from = range.start.max(before);
        // A stretch that began before the range may reach beyond it.
        let mut settled = self.0.range(from..range.end.max(from)).map(|(start, end)| (*start, *end)).fuse();
        std::iter::from_fn(move || {
            while from < range.end {
                let (start, end) = settled.next().unwrap_or((range.end, range.end));
                let gap = from..start;
                from = end;
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }

    fn add(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut from, mut to) = (start, end);
        // Whatever begins within it, or at its end, becomes part of it; and so does one that reaches up to it.
        while let Some((&known, &known_end)) = self.0.range(..=to).next_back()
            && known_end >= from
        {
            self.0.remove(&known);
            (from, to) = (from.min(known), to.max(known_end));
        }
        self.0.insert(from, to);
    }
}

/// The dead letters that are settled, by their topic and queue.
///
/// Memory: about 40 bytes for each stretch; those below a queue's beginning become one with the next record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    topics: BTreeMap<String, BTreeMap<u32, Stretches>>,
}

impl DeadLetters {
    /// What is settled in a queue, if anything.
    pub fn settled(&self, topic: &str, queue: u32) -> Option<&Stretches> {
        self.topics.get(topic)?.get(&queue)
    }
}

impl Fold for DeadLetters {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        match &event.change {
            Change::DeadLettersSettled(DeadLettersSettled { topic, queue, stretches, min, .. }) => {
                let settled = self.topics.entry(topic.clone()).or_default().entry(*queue).or_default();
                settled.add(0, *min);
                stretches.iter().for_each(|(start, end)| settled.add(*start, *end));
            }
            // Should it be made anew, its queues go on where they were.
            Change::TopicDeleted(TopicDeleted { topic }) => drop(self.topics.remove(topic)),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use skylark_storage::PhysicalOffset;

    use super::*;

    fn settled(stretches: Vec<(u64, u64)>, min: u64) -> DeadLettersSettled {
        DeadLettersSettled {
            by: Mover { address: "a".to_owned(), client_id: None, code: 1 },
            group: "g".to_owned(),
            topic: "t".to_owned(),
            queue: 2,
            stretches,
            settlement: Settlement::Purged,
            min,
            keep: Keep { moves_max: 5, age_ms: 6 },
        }
    }

    #[test]
    fn what_was_trimmed_or_deleted_takes_no_memory() {
        let mut letters = DeadLetters::default();
        let apply = |letters: &mut DeadLetters, change| {
            letters.apply(&Event { at: PhysicalOffset::ZERO, stored_at: 0, change }).unwrap();
        };
        apply(&mut letters, Change::DeadLettersSettled(settled(vec![(3, 4), (8, 9)], 0)));
        assert_eq!(letters.settled("t", 2).unwrap().0, [(3, 4), (8, 9)].into());
        apply(&mut letters, Change::DeadLettersSettled(settled(vec![(6, 7)], 5)));
        assert_eq!(letters.settled("t", 2).unwrap().0, [(0, 5), (6, 7), (8, 9)].into());
        assert_eq!(DeadLetters::restore(&letters.snapshot()).unwrap(), letters);
        apply(&mut letters, Change::TopicDeleted(TopicDeleted { topic: "t".to_owned() }));
        assert_eq!(letters, DeadLetters::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The stretches say of every offset what a set of offsets says.
        #[test]
        fn stretches_are_a_set(
            added in prop::collection::vec((0..40_u64, 0..8_u64), 0..20),
            range in (0..40_u64, 0..40_u64),
        ) {
            let (mut stretches, mut set) = (Stretches::default(), BTreeSet::new());
            for (start, length) in added {
                stretches.add(start, start + length);
                set.extend(start..start + length);
            }
            for offset in 0..50 {
                prop_assert_eq!(stretches.contains(offset), set.contains(&offset), "{} of {:?}", offset, stretches);
            }
            let ends: Vec<_> = stretches.0.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", stretches);
            let open: Vec<u64> = stretches.gaps(range.0..range.1).flatten().collect();
            let expected: Vec<u64> = (range.0..range.1).filter(|offset| !set.contains(offset)).collect();
            prop_assert_eq!(open, expected);
        }
    }

    #[test]
    fn golden_bytes() {
        let record = settled(vec![(3, 4)], 1);
        let bytes = [1, 1, b'a', 0, 2, 1, b'g', 1, b't', 2, 1, 3, 4, 1, 1, 5, 6];
        assert_eq!(record.encode(), bytes);
        let change = Change::decode(kinds::DEAD_LETTERS_SETTLED, &bytes).unwrap();
        assert_eq!(change, Change::DeadLettersSettled(record));
    }
}
