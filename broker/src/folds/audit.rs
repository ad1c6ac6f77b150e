//! Who moved which offset: the trail that operators leave.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use skylark_storage::Kind;

use super::dead_letters::DeadLettersSettled;
use super::fold::{Event, Fold, FoldError};
use super::kinds::{self, Change};
use super::payload::Payload;

/// Whose request something was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mover {
    /// Where it came from: address and port.
    pub address: String,
    /// What the client calls itself, if it had said so.
    pub client_id: Option<String>,
    /// The request's code.
    pub code: i32,
}

/// How much of the trail is kept, as of a record of it. It is part of the record because folds know no configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// So many moves of queues at most, the newest ones.
    pub moves_max: u32,
    /// None that are older, in milliseconds.
    pub age_ms: u64,
}

/// A move of a group in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicMoves {
    /// Who goes on elsewhere.
    pub group: String,
    /// In which topic.
    pub topic: String,
    /// In which queues.
    pub queues: Vec<QueueMove>,
}

/// A move in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueMove {
    /// Its number.
    pub queue: u32,
    /// The offset before, if there was one.
    pub from: Option<u64>,
    /// The offset from then on, if there is one.
    pub to: Option<u64>,
}

/// An operator has moved groups. Lies in one unit with the records that move them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetsMoved {
    /// Who did it.
    pub by: Mover,
    /// What.
    pub moves: Vec<TopicMoves>,
    /// How much of the trail is kept from then on.
    pub keep: Keep,
}

impl Payload for OffsetsMoved {
    const KIND: Kind = kinds::OFFSETS_MOVED;
    const VERSION: u8 = 1;
}

/// A part of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Steps are numbered from 0 on, without gaps.
    pub number: u64,
    /// When it was stored, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who did it.
    pub by: Mover,
    /// What.
    pub moves: TopicMoves,
}

/// What operators have moved, oldest first, as far back as is kept.
///
/// The records of it go with the log's beginning; the trail goes on in the snapshots.
///
/// Memory: 24 bytes for each move of a queue, and names, address and about 150 bytes for each step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    steps: VecDeque<Step>,
    /// The number of the next step.
    next: u64,
    /// How many moves of queues the steps hold.
    moves: u64,
}

impl Trail {
    /// The steps from a number on, oldest first.
    pub fn from(&self, number: u64) -> impl Iterator<Item = &Step> {
        let first = self.steps.front().map_or(self.next, |step| step.number);
        let passed = usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX);
        self.steps.iter().skip(passed)
    }

    /// How many moves of queues are kept.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    fn add(&mut self, at_ms: u64, by: &Mover, moves: TopicMoves) {
        self.moves += moves.queues.len() as u64;
        self.steps.push_back(Step { number: self.next, at_ms, by: by.clone(), moves });
        self.next += 1;
    }

    /// Forgets what is too much. The newest step stays, however many queues it moved: it is what was just done.
    fn forget(&mut self, now_ms: u64, keep: Keep) {
        while let Some(oldest) = self.steps.front()
            && self.steps.len() > 1
            && (self.moves > keep.moves_max.into() || now_ms.saturating_sub(oldest.at_ms) > keep.age_ms)
        {
            self.moves -= oldest.moves.queues.len() as u64;
            self.steps.pop_front();
        }
    }
}

impl Fold for Trail {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        match &event.change {
            Change::OffsetsMoved(OffsetsMoved { by, moves, keep }) => {
                moves.iter().for_each(|moves| self.add(event.stored_at, by, moves.clone()));
                self.forget(event.stored_at, *keep);
            }
            Change::DeadLettersSettled(DeadLettersSettled {
                by,
                group,
                topic,
                queue,
                stretches,
                keep,
                ..
            }) => {
                let queues = stretches.iter();
                let queues = queues.map(|(start, end)| QueueMove {
                    queue: *queue,
                    from: Some(*start),
                    to: Some(*end),
                });
                let moves =
                    TopicMoves { group: group.clone(), topic: topic.clone(), queues: queues.collect() };
                self.add(event.stored_at, by, moves);
                self.forget(event.stored_at, *keep);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use skylark_storage::PhysicalOffset;

    use super::*;

    fn moved(queues: u32, keep: Keep) -> OffsetsMoved {
        let queues = (0..queues).map(|queue| QueueMove { queue, from: None, to: Some(7) }).collect();
        let moves = vec![TopicMoves { group: "g".to_owned(), topic: "t".to_owned(), queues }];
        OffsetsMoved {
            by: Mover { address: "a:1".to_owned(), client_id: Some("c".to_owned()), code: 222 },
            moves,
            keep,
        }
    }

    fn numbers(trail: &Trail, from: u64) -> Vec<u64> {
        trail.from(from).map(|step| step.number).collect()
    }

    #[test]
    fn the_newest_moves_are_kept_by_number_and_age() {
        let mut trail = Trail::default();
        let keep = Keep { moves_max: 5, age_ms: 100 };
        let apply = |trail: &mut Trail, stored_at, queues| {
            let change = Change::OffsetsMoved(moved(queues, keep));
            trail.apply(&Event { at: PhysicalOffset::ZERO, stored_at, change }).unwrap();
        };
        for stored_at in [0, 10, 20] {
            apply(&mut trail, stored_at, 2);
        }
        assert_eq!((numbers(&trail, 0), trail.moves()), (vec![1, 2], 4));
        assert_eq!((numbers(&trail, 2), numbers(&trail, 3)), (vec![2], vec![]));
        apply(&mut trail, 115, 1);
        assert_eq!(numbers(&trail, 0), [2, 3], "one is older than a hundred milliseconds");
        apply(&mut trail, 116, 9);
        assert_eq!((numbers(&trail, 0), trail.moves()), (vec![4], 9), "what was just done stays");
        assert_eq!(Trail::restore(&trail.snapshot()).unwrap(), trail);
    }

    #[test]
    fn golden_bytes() {
        let record = moved(1, Keep { moves_max: 5, age_ms: 300 });
        let bytes =
            [1, 3, b'a', b':', b'1', 1, 1, b'c', 188, 3, 1, 1, b'g', 1, b't', 1, 0, 0, 1, 7, 5, 172, 2];
        assert_eq!(record.encode(), bytes);
        assert_eq!(Change::decode(kinds::OFFSETS_MOVED, &bytes).unwrap(), Change::OffsetsMoved(record));
    }
}
