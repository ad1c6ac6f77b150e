//! Queue locks: 41 and 42.

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::locks::{LockRequest, LockedQueues, MessageQueue};

use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::context::{Answers, Handled, Refusal, Request, refused};
use crate::locks::LockedQueue;

/// 41: takes or renews locks, and says which were granted, once a restart would not give them to another.
pub fn lock(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = LockRequest::decode(request.body)?;
    let catalog = broker.catalog.read();
    if catalog.groups.get(&asked.consumer_group).is_none() {
        let remark = format!("subscription group not exist, {}", asked.consumer_group);
        return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
    }
    // A lock on what does not exist would be kept for nobody.
    let queues: Vec<LockedQueue> = asked.queues.iter().filter_map(|queue| own(&catalog, queue)).collect();
    drop(catalog);
    let now = broker.clock.monotonic();
    let (group, client) = (&asked.consumer_group, &asked.client_id);
    let granted = broker.locks.lock(now, group, client, &queues, |change| broker.append_one(change));
    let granted = match granted {
        Ok(granted) => granted,
        Err(error) => return refused(&error),
    };
    // Clients look up what they asked for, so the answer repeats it to the letter.
    let repeated =
        asked.queues.into_iter().filter(|queue| granted.queues.iter().any(|own| is_same(own, queue)));
    let body = LockedQueues { queues: repeated.collect() }.encode();
    answers.body_when_durable(granted.durable, request.reply, &body)
}

/// 42: gives locks up.
pub fn unlock(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = LockRequest::decode(request.body)?;
    let queues = asked.queues.iter().filter_map(|queue| {
        Some(LockedQueue { topic: queue.topic.clone(), queue: u32::try_from(queue.queue_id).ok()? })
    });
    let queues: Vec<LockedQueue> = queues.collect();
    let (group, client) = (&asked.consumer_group, &asked.client_id);
    match broker.locks.unlock(group, client, &queues, |change| broker.append_one(change)) {
        // Until it is durable, a restart would keep the queues for this client.
        Ok(end) => answers.when_durable(end, request.reply, |out| request.reply.success(out, &[])),
        Err(error) => refused(&error),
    }
}

fn own(catalog: &Catalog, queue: &MessageQueue) -> Option<LockedQueue> {
    let number = u32::try_from(queue.queue_id).ok()?;
    let exists = catalog.queues(&queue.topic).is_some_and(|queues| (number as usize) < queues.len());
    exists.then(|| LockedQueue { topic: queue.topic.clone(), queue: number })
}

fn is_same(own: &LockedQueue, asked: &MessageQueue) -> bool {
    own.topic == asked.topic && u32::try_from(asked.queue_id) == Ok(own.queue)
}
