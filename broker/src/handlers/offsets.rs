//! Where queues begin and end, and where consumers are.

use skylark_index::{Answer, Index, QueueId};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::offsets::{
    Boundary, QueryConsumerOffset, QueueRequest, SearchOffset, UpdateConsumerOffset,
};
use skylark_protocol::header::FieldError;
use skylark_protocol::outgoing::Value;

use crate::broker::{Broker, Catalog};
use crate::context::{Answers, Handled, Refusal, Request};
use crate::handlers::caught_up;

/// 14: where a group goes on in a queue.
pub fn query(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let asked = QueryConsumerOffset::decode(request.header)?;
    let (topic, queue) = (asked.topic, queue_number(asked.queue_id)?);
    let committed = broker.offsets.lock().get(asked.consumer_group, topic, queue);
    let may_be_zero = asked.zero_if_not_found.unwrap_or(true);
    let offset = committed.or_else(|| (may_be_zero && starts_young(broker, topic, queue)).then_some(0));
    match offset {
        Some(offset) => answers.success(request.reply, &[("offset", offset.into())]),
        None => Err(Refusal::new(
            ResponseCode::QUERY_NOT_FOUND,
            "Not found, the group has committed no offset for this queue; it may be new",
        )),
    }
}

/// Whether a group without an offset starts at zero: the queue still begins there, and its first message lies within
/// 40 % of the machine's memory of the log's end. RocketMQ decides by what is cached; the distance does not depend
/// on who read what.
fn starts_young(broker: &Broker, topic: &str, queue: u32) -> bool {
    let Some(id) = find(&broker.catalog.read(), topic, queue) else { return false };
    let index = broker.index.read();
    if index.range(id).start > 0 {
        return false;
    }
    let Answer::Known(Some(first)) = index.entry(id, 0) else { return false };
    let distance = broker.log.visible().get().since(first.physical_offset);
    distance <= broker.policy.memory_bytes / 10 * 4
}

/// 15: a consumer says where it will go on. Lower offsets than before are taken too: clients correct themselves so.
pub fn update(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = UpdateConsumerOffset::decode(request.header)?;
    let (group, topic) = (asked.consumer_group, asked.topic);
    let queue = queue_number(asked.queue_id)?;
    let offset = u64::try_from(asked.commit_offset).map_err(|_| {
        FieldError::invalid("commitOffset", "an offset from 0 on", &asked.commit_offset.to_string())
    })?;
    {
        let catalog = broker.catalog.read();
        if catalog.groups.get(group).is_none() {
            let remark = format!("Group[{group}] does not exist, and groups are not created by commits");
            return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        }
        if catalog.topics.get(topic).is_none() {
            return Err(Refusal::new(
                ResponseCode::TOPIC_NOT_EXIST,
                format!("topic[{topic}] does not exist"),
            ));
        }
    }
    // A log that takes no appends would lose it, however often it is tried.
    if let Some(stopped) = broker.log.stopped() {
        return Err(Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, stopped.to_string()));
    }
    broker.offsets.lock().commit(group, topic, queue, offset);
    answers.success(request.reply, &[])
}

/// 29: where a queue was at a time.
pub fn search(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let SearchOffset { topic, queue_id, timestamp, boundary } = SearchOffset::decode(request.header)?;
    // A time before 1970 is before everything.
    let time = u64::try_from(timestamp).unwrap_or(0);
    of_queue(broker, request, answers, QueueRequest { topic, queue_id }, |index, id| match boundary {
        Boundary::Lower => known(index.first_at_or_after(id, time)),
        Boundary::Upper => Ok(known(index.last_at_or_before(id, time))?.unwrap_or(0)),
    })
}

/// 30: the offset that the queue's next message gets.
pub fn max(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let queue = QueueRequest::decode(request.header)?;
    of_queue(broker, request, answers, queue, |index, id| Ok(index.range(id).end))
}

/// 31: the lowest offset that can be read.
pub fn min(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let queue = QueueRequest::decode(request.header)?;
    of_queue(broker, request, answers, queue, |index, id| Ok(index.range(id).start))
}

/// 32: when the queue's first message was stored, −1 if there is none.
pub fn earliest(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let QueueRequest { topic, queue_id } = QueueRequest::decode(request.header)?;
    let found = find(&broker.catalog.read(), topic, queue_number(queue_id)?);
    let index = broker.index.read();
    let first = found.map(|id| known(index.entry(id, index.range(id).start))).transpose()?.flatten();
    let timestamp = first.map_or(-1, |entry| i64::try_from(entry.stored_at).unwrap_or(i64::MAX));
    answers.success(request.reply, &[("timestamp", Value::Number(timestamp))])
}

/// Answers a question about a queue. Of a queue that does not exist, everything is 0, as RocketMQ says.
fn of_queue(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    queue: QueueRequest<'_>,
    ask: impl FnOnce(&Index, QueueId) -> Result<u64, Refusal>,
) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let found = find(&broker.catalog.read(), queue.topic, queue_number(queue.queue_id)?);
    let answer = found.map_or(Ok(0), |id| ask(&broker.index.read(), id))?;
    answers.success(request.reply, &[("offset", answer.into())])
}

/// An answer from memory; nothing waits for files here.
fn known<T>(answer: Answer<T>) -> Result<T, Refusal> {
    match answer {
        Answer::Known(value) => Ok(value),
        Answer::Sealed(_) => {
            Err(Refusal::new(ResponseCode::SYSTEM_BUSY, "the messages asked for have left memory"))
        }
    }
}

fn find(catalog: &Catalog, topic: &str, queue: u32) -> Option<QueueId> {
    catalog.queues(topic)?.get(queue as usize).copied()
}

fn queue_number(queue_id: i32) -> Result<u32, FieldError> {
    u32::try_from(queue_id)
        .map_err(|_| FieldError::invalid("queueId", "a number from 0 on", &queue_id.to_string()))
}
