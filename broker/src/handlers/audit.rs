//! Who moved which offset: 60013.

use skylark_protocol::command::audit::{AuditOffsets, OffsetTrail, OffsetsMoved, QueueMoved};

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};
use crate::folds::audit::{QueueMove, Step};
use crate::handlers::caught_up;

/// Steps in an answer, at most, and moves of queues beyond which no step is added.
const STEPS_MAX: usize = 1000;
const MOVES_MAX: usize = 10_000;

/// 60013: what operators have moved, oldest first.
pub fn offsets(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = AuditOffsets::decode(request.header)?;
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let limit = usize::try_from(asked.limit).unwrap_or(0).clamp(1, STEPS_MAX);
    let is_meant = |only: Option<&str>, name: &str| only.is_none_or(|only| only.is_empty() || only == name);
    let forgotten_before = broker.clock.wall_ms().saturating_sub(broker.audit.keep.age_ms);
    let mut answer = OffsetTrail::default();
    let mut moves = 0;
    {
        let trail = broker.audit.trail.lock();
        for step in trail.from(asked.from) {
            if answer.moves.len() == limit || moves >= MOVES_MAX {
                answer.next = Some(step.number);
                break;
            }
            let is_asked_for =
                is_meant(asked.group, &step.moves.group) && is_meant(asked.topic, &step.moves.topic);
            // Records alone make the fold forget; nobody may have moved anything for long.
            if is_asked_for && step.at_ms >= forgotten_before {
                moves += step.moves.queues.len();
                answer.moves.push(shown(step));
            }
        }
    }
    answers.body(request.reply, answer.encode())
}

fn shown(step: &Step) -> OffsetsMoved {
    let Step { number, at_ms, by, moves } = step;
    let queue = |&QueueMove { queue, from, to }: &QueueMove| QueueMoved { queue_id: queue, from, to };
    OffsetsMoved {
        number: *number,
        timestamp: i64::try_from(*at_ms).unwrap_or(i64::MAX),
        code: by.code,
        address: by.address.clone(),
        client_id: by.client_id.clone(),
        group: moves.group.clone(),
        topic: moves.topic.clone(),
        queues: moves.queues.iter().map(queue).collect(),
    }
}
