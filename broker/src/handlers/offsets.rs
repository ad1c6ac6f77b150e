//! Where queues begin and end, and where consumers are.

use std::ops::Range;

use skylark_index::{Answer, Entry, Index, QueueId, SealedError, SealedQueue};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::offsets::{
    Boundary, QueryConsumerOffset, QueueRequest, SearchOffset, UpdateConsumerOffset,
};
use skylark_protocol::header::FieldError;
use skylark_protocol::outgoing::Value;
use tracing::{debug, info};

use crate::audit;
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::context::{Answers, Connection, Handled, Refusal, Request, refused};
use crate::handlers::caught_up;
use crate::progress::Commit;

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
pub(super) fn starts_young(broker: &Broker, topic: &str, queue: u32) -> bool {
    let Some(id) = find(&broker.catalog.read(), topic, queue) else { return false };
    let index = broker.index.read();
    if index.range(id).start > 0 {
        return false;
    }
    // What has left memory is not young.
    let Answer::Known(Some(first)) = index.entry(id, 0) else { return false };
    let distance = broker.log.visible().get().since(first.physical_offset);
    distance <= broker.policy.memory_bytes / 10 * 4
}

/// 15: a consumer says where it will go on. Lower offsets than before are taken too: clients correct themselves so.
pub fn update(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = UpdateConsumerOffset::decode(request.header)?;
    let (group, topic) = (asked.consumer_group, asked.topic);
    let queue = queue_number(asked.queue_id)?;
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
    // Clients that have consumed nothing say -1 every few seconds; that is no offset.
    let Ok(offset) = u64::try_from(asked.commit_offset) else {
        return answers.success(request.reply, &[]);
    };
    let before = broker.offsets.lock().get(group, topic, queue);
    if !audit::is_operators(broker, request, group, (before, offset)) {
        commit(broker, request.connection, group, topic, queue, offset);
        return answers.success(request.reply, &[]);
    }
    let reply = request.reply;
    let (by, is_certain) = (audit::mover(broker, request), !reply.oneway);
    match broker.commit_for((group, topic, queue), offset, &by, is_certain) {
        Ok(Some(end)) => {
            let by = request.connection.peer.address;
            info!(target: "audit", peer = %by, group, topic, queue, from = before, to = offset, "offset set");
            answers.when_applied(end, reply, |out| reply.success(out, &[]))
        }
        // A reset is pending: it holds.
        Ok(None) => answers.success(reply, &[]),
        Err(error) => refused(&error),
    }
}

/// Takes a consumer's commit. One that goes back is left in the log for people: it makes messages come again.
pub fn commit(broker: &Broker, connection: &Connection, group: &str, topic: &str, queue: u32, offset: u64) {
    let committed = broker.offsets.lock().commit(group, topic, queue, offset);
    let by = connection.peer.address;
    match committed {
        Commit::Taken { back_from: None } => {}
        Commit::Taken { back_from: Some(from) } => {
            info!(target: "audit", peer = %by, group, topic, queue, from, to = offset, "offset committed backwards");
        }
        Commit::Ignored => {
            debug!(peer = %by, group, topic, queue, offset, "commit ignored, a reset is pending")
        }
    }
}

/// 29: where a queue was at a time.
pub fn search(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let SearchOffset { topic, queue_id, timestamp, boundary } = SearchOffset::decode(request.header)?;
    // A time before 1970 is before everything.
    let time = u64::try_from(timestamp).unwrap_or(0);
    let ask = |index: &Index, id| match boundary {
        Boundary::Lower => index.first_at_or_after(id, time),
        Boundary::Upper => index.last_at_or_before(id, time).map(|found| found.unwrap_or(0)),
    };
    let ask_files = move |sealed: &SealedQueue, _| match boundary {
        Boundary::Lower => sealed.first_at_or_after(time),
        Boundary::Upper => Ok(sealed.last_at_or_before(time)?.unwrap_or(0)),
    };
    of_queue(broker, request, answers, QueueRequest { topic, queue_id }, "offset", 0, ask, ask_files)
}

/// 30: the offset that the queue's next message gets.
pub fn max(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    end_of_queue(broker, request, answers, |range| range.end)
}

/// 31: the lowest offset that can be read.
pub fn min(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    end_of_queue(broker, request, answers, |range| range.start)
}

/// 32: when the queue's first message was stored, −1 if there is none.
pub fn earliest(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let queue = QueueRequest::decode(request.header)?;
    let stored_at = |entry: Option<Entry>| match entry {
        Some(entry) => i64::try_from(entry.stored_at).unwrap_or(i64::MAX),
        None => -1,
    };
    let ask = |index: &Index, id| index.entry(id, index.range(id).start).map(stored_at);
    let ask_files = move |sealed: &SealedQueue, min| Ok(stored_at(sealed.entry(min)?));
    of_queue(broker, request, answers, queue, "timestamp", -1, ask, ask_files)
}

fn end_of_queue(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    which: impl FnOnce(Range<u64>) -> u64,
) -> Handled {
    let queue = QueueRequest::decode(request.header)?;
    let ask = |index: &Index, id| Answer::Known(which(index.range(id)));
    of_queue(broker, request, answers, queue, "offset", 0, ask, |_, _| Ok(0_u64))
}

/// Answers a question about a queue: from memory, or from files on a thread that may wait for them. Of a queue that
/// does not exist, RocketMQ says `without`. Files are asked with the queue's minimum at hand.
#[expect(clippy::too_many_arguments, reason = "a request, its answer's name, and the question in two forms")]
fn of_queue<T: Into<Value<'static>> + Send + 'static>(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    queue: QueueRequest<'_>,
    name: &'static str,
    without: T,
    ask: impl FnOnce(&Index, QueueId) -> Answer<T>,
    ask_files: impl FnOnce(&SealedQueue, u64) -> Result<T, SealedError> + Send + 'static,
) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let found = find(&broker.catalog.read(), queue.topic, queue_number(queue.queue_id)?);
    let (answer, min) = match found {
        Some(id) => {
            let index = broker.index.read();
            (ask(&index, id), index.range(id).start)
        }
        None => (Answer::Known(without), 0),
    };
    let reply = request.reply;
    match answer {
        Answer::Known(value) => answers.success(reply, &[(name, value.into())]),
        Answer::Sealed(sealed) => broker.readers.submit(request.connection, reply, 0, move |broker, out| {
            let value = ask_files(&sealed, min).map_err(|error| broker.unreadable(&error))?;
            reply.success(out.buffer(), &[(name, value.into())]);
            Ok(())
        }),
    }
}

fn find(catalog: &Catalog, topic: &str, queue: u32) -> Option<QueueId> {
    catalog.queues(topic)?.get(queue as usize).copied()
}

fn queue_number(queue_id: i32) -> Result<u32, FieldError> {
    u32::try_from(queue_id)
        .map_err(|_| FieldError::invalid("queueId", "a number from 0 on", &queue_id.to_string()))
}
