//! Two consumers that each want every queue for itself.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::locks::{LockRequest, LockedQueues, MessageQueue};

use super::{Client, STEADY, Scene};
use crate::simulation::line::Line;

pub const GROUP: &str = "OG";
/// A client waits so long for the answer to a request for locks.
const PATIENCE: Duration = Duration::from_secs(1);
/// And believes so long in a lock that it was granted.
const BELIEF: Duration = Duration::from_secs(30);

pub struct Orderly {
    pub line: Line,
    name: String,
    /// Until when it takes a queue for its own.
    pub believes: BTreeMap<i32, Duration>,
    /// The request that it waits for, and when it asked for locks; none for a release.
    open: Option<(i32, Option<Duration>)>,
}

impl Orderly {
    pub fn new(name: &str) -> Self {
        Self { line: Line::default(), name: name.to_owned(), believes: BTreeMap::new(), open: None }
    }

    /// Whether no queue is believed in by both.
    pub fn check(one: &Self, other: &Self, now: Duration) {
        for (queue, until) in &one.believes {
            let both = *until > now && other.believes.get(queue).is_some_and(|until| *until > now);
            assert!(!both, "queue {queue} is locked for {} and {}", one.name, other.name);
        }
    }
}

impl Client for Orderly {
    fn line(&self) -> &Line {
        &self.line
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        let waits = |(_, asked_at): (i32, Option<Duration>)| {
            asked_at.is_none_or(|asked_at| scene.now - asked_at <= PATIENCE)
        };
        if self.open.is_some_and(waits) {
            return;
        }
        let gives_up = scene.random.random_ratio(1, 5);
        let queues: Vec<i32> = if gives_up {
            let gone: Vec<i32> = self.believes.keys().copied().filter(|_| scene.random.random()).collect();
            self.believes.retain(|queue, _| !gone.contains(queue));
            gone
        } else {
            (0..i32::try_from(STEADY.1).unwrap()).filter(|_| scene.random.random()).collect()
        };
        let queue = |queue_id| MessageQueue {
            broker_name: "broker-a".to_owned(),
            queue_id,
            topic: STEADY.0.to_owned(),
        };
        let request = LockRequest {
            client_id: self.name.clone(),
            consumer_group: GROUP.to_owned(),
            queues: queues.into_iter().map(queue).collect(),
            only_this_broker: false,
        };
        let code = if gives_up { RequestCode::UNLOCK_BATCH_MQ } else { RequestCode::LOCK_BATCH_MQ };
        let opaque = self.line.call(code, &[], &request.encode());
        self.open = Some((opaque, (!gives_up).then_some(scene.now)));
    }

    fn hear(&mut self, scene: &mut Scene<'_>) {
        for answer in self.line.hear() {
            // Whoever has lost patience takes no notice of an answer.
            let Some((_, asked_at)) = self.open.take_if(|(opaque, _)| *opaque == answer.opaque) else {
                continue;
            };
            let is_timely = asked_at.is_some_and(|asked_at| scene.now - asked_at <= PATIENCE);
            if answer.code != 0 || !is_timely {
                continue;
            }
            for queue in LockedQueues::decode(&answer.body).expect("a sound answer").queues {
                self.believes.insert(queue.queue_id, scene.now + BELIEF);
            }
        }
    }

    fn lost(&mut self, _scene: &mut Scene<'_>) {
        self.open = None;
    }
}
