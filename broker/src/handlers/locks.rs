//! Queue locks: 41 and 42.

use skylark_protocol::command::locks::{LockRequest, LockedQueues, MessageQueue};

use crate::broker::Broker;
use crate::context::{Answers, Handled, Request};
use crate::locks::LockedQueue;

/// 41: takes or renews locks, and says which were granted.
pub fn lock(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = LockRequest::decode(request.body)?;
    let queues: Vec<LockedQueue> = asked.queues.iter().map(own).collect();
    let now = broker.clock.monotonic();
    let granted = broker.locks.lock(now, &asked.consumer_group, &asked.client_id, &queues);
    // Clients look up what they asked for, so the answer repeats it to the letter.
    let repeated = asked.queues.into_iter().filter(|queue| granted.contains(&own(queue)));
    answers.body(request.reply, LockedQueues { queues: repeated.collect() }.encode())
}

/// 42: gives locks up.
pub fn unlock(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = LockRequest::decode(request.body)?;
    let queues: Vec<LockedQueue> = asked.queues.iter().map(own).collect();
    broker.locks.unlock(&asked.consumer_group, &asked.client_id, &queues);
    answers.success(request.reply, &[])
}

fn own(queue: &MessageQueue) -> LockedQueue {
    LockedQueue { topic: queue.topic.clone(), queue: queue.queue_id }
}
