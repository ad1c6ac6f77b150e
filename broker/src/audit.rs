//! The audit trail: who moved which offset, from where to where, and when.
//!
//! A move by an operator is a unit of the log: the records that move, and one that says who did it. So the trail holds
//! what has happened and nothing else, whatever becomes of the process in between. It goes on in the snapshots when the
//! log's beginning is trimmed, and is bounded by number and age.
//!
//! | by                 | request      | in the trail                                                   |
//! |--------------------|--------------|----------------------------------------------------------------|
//! | a reset            | 222          | every queue that it moves                                      |
//! | a clone            | 314          | every queue that it moves                                      |
//! | a commit           | 15           | where [`is_operators`] says so                                 |
//! | a group's deletion | 207          | every offset that goes with it                                 |
//! | a topic's deletion | 215          | every offset that goes with it                                 |
//! | dead letters       | 60011, 60012 | stretches of their queue that were sent again, or given up     |

use parking_lot::Mutex;

use crate::broker::Broker;
use crate::changes::ControlRecord;
use crate::context::{Connection, Request};
use crate::folds::Trail;
use crate::folds::audit::{Keep, Mover, OffsetsMoved, QueueMove, TopicMoves};
use crate::progress::Progress;

/// The trail, and how much is kept of it.
pub struct Audit {
    /// The fold.
    pub trail: Mutex<Trail>,
    /// What new records say of how much is kept.
    pub keep: Keep,
}

impl Audit {
    /// An audit that goes on with this trail.
    pub fn new(trail: Trail, keep: Keep) -> Self {
        Self { trail: Mutex::new(trail), keep }
    }

    /// The record that says of these moves who made them; none if nothing moved.
    pub fn record(&self, by: &Mover, moves: Vec<TopicMoves>) -> Option<ControlRecord> {
        let moves: Vec<_> = moves.into_iter().filter(|moves| !moves.queues.is_empty()).collect();
        let keep = self.keep;
        (!moves.is_empty()).then(|| ControlRecord::of(&OffsetsMoved { by: by.clone(), moves, keep }))
    }
}

/// Whose request this is.
pub fn mover(broker: &Broker, request: &Request<'_, '_>) -> Mover {
    let Connection { id, peer, .. } = request.connection;
    Mover {
        address: peer.address.to_string(),
        client_id: broker.membership.client_id(*id).map(|id| id.as_ref().to_owned()),
        code: request.header.code,
    }
}

/// Whether a commit is an operator's, rather than a consumer's: it comes from somebody who is no member of the group, and
/// who waits for the answer, as the tools do and consumers do not; or it takes the group back.
///
/// A consumer whose connection was lost may commit over the next one before it has said who it is; that goes on, and is
/// one-way.
pub fn is_operators(
    broker: &Broker,
    request: &Request<'_, '_>,
    group: &str,
    (from, to): (Option<u64>, u64),
) -> bool {
    let goes_back = from.is_some_and(|from| from > to);
    from != Some(to)
        && (!request.reply.oneway || goes_back)
        && !broker.membership.is_member(group, request.connection.id)
}

/// What a move of a group to these offsets of a topic's queues changes.
pub fn moves_to(progress: &Progress, group: &str, topic: &str, offsets: &[(u32, u64)]) -> TopicMoves {
    let moved = |&(queue, to): &(u32, u64)| QueueMove {
        queue,
        from: progress.get(group, topic, queue),
        to: Some(to),
    };
    TopicMoves {
        group: group.to_owned(),
        topic: topic.to_owned(),
        queues: offsets.iter().map(moved).collect(),
    }
}

/// Moves that a deletion leaves in the trail, at most: its record has to fit into the log however many there were.
const DELETED_MAX: usize = 10_000;

/// What is lost when these offsets of a group's, or of a topic's, are deleted: the first ten thousand.
pub fn deleted(progress: &Progress, is_deleted: impl Fn(&str, &str) -> bool) -> Vec<TopicMoves> {
    let mut moves: Vec<TopicMoves> = Vec::new();
    let offsets = progress.all();
    let lost = offsets.iter().filter(|((group, topic, _), _)| is_deleted(group, topic));
    for (&(group, topic, queue), &offset) in lost.take(DELETED_MAX) {
        let deleted = QueueMove { queue, from: Some(offset), to: None };
        match moves.last_mut().filter(|last| last.group == group && last.topic == topic) {
            Some(last) => last.queues.push(deleted),
            None => moves.push(TopicMoves {
                group: group.to_owned(),
                topic: topic.to_owned(),
                queues: vec![deleted],
            }),
        }
    }
    moves
}
