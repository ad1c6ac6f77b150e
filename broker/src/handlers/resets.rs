//! Operators move consumers: 222, and 314 for a group that goes on where another is.

use std::collections::BTreeMap;

use skylark_index::{Answer, Index, QueueId};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::locks::MessageQueue;
use skylark_protocol::command::reset::{CloneOffsets, ResetOffset, ResetOffsets, ResetTarget};
use skylark_protocol::header::FieldError;
use tracing::info;

use crate::audit::mover;
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::context::{Answers, Handled, Refusal, Request, refused};
use crate::folds::offsets::OffsetsReset;
use crate::handlers::caught_up;

/// 222: moves a group in a topic, to an offset or a time, whether it has consumers or not. Answered once the move
/// would survive anything; the next pull of each queue is sent to where the group goes on.
pub fn reset(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let asked = ResetOffset::decode(request.header)?;
    let (group, topic) = (asked.group, asked.topic);
    let queues = {
        let catalog = broker.catalog.read();
        check_group(&catalog, group)?;
        of_topic(&catalog, topic, asked.queue())?
    };
    // As with RocketMQ, an offset is one of a queue; for all of them only a time makes sense.
    let target = match asked.target() {
        ResetTarget::Offset(_) if asked.queue().is_none() => {
            u64::try_from(asked.timestamp).map_or(ResetTarget::End, ResetTarget::Time)
        }
        target => target,
    };
    let by = mover(broker, request);
    let mut offsets = Vec::with_capacity(queues.len());
    let mut on_disk = Vec::new();
    {
        let index = broker.index.read();
        for (number, queue) in queues {
            match place(&index, queue, target)? {
                Answer::Known(offset) => offsets.push((number, offset)),
                Answer::Sealed(sealed) => on_disk.push((number, sealed)),
            }
        }
    }
    let (group, topic) = (group.to_owned(), topic.to_owned());
    let reply = request.reply;
    let finish = move |broker: &Broker, answers: &mut Answers<'_>, reset: &OffsetsReset| {
        let OffsetsReset { group, topic, offsets } = reset;
        match broker.reset_offsets(vec![reset.clone()], &by) {
            Ok(end) => {
                info!(target: "audit", peer = by.address, group, topic, ?offsets, "offsets reset");
                let end = end.unwrap_or_else(|| broker.applied.get());
                answers.body_when_applied(end, reply, &table(broker, topic, offsets).encode())
            }
            Err(error) => refused(&error),
        }
    };
    if on_disk.is_empty() {
        return finish(broker, answers, &OffsetsReset { group, topic, offsets });
    }
    broker.readers.prepare(request.connection, reply, 0, move |broker| {
        for (number, sealed) in on_disk {
            // Only a time leads into what is sealed.
            let ResetTarget::Time(time) = target else { continue };
            let found = sealed.first_at_or_after(time);
            offsets.push((number, found.map_err(|error| broker.unreadable(&error))?));
        }
        offsets.sort_unstable();
        let reset = OffsetsReset { group, topic, offsets };
        Ok(move |broker: &Broker, answers: &mut Answers<'_>| finish(broker, answers, &reset))
    })
}

/// 314: a group goes on where another one is.
pub fn clone(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let asked = CloneOffsets::decode(request.header)?;
    let topics: Vec<(String, u32)> = {
        let catalog = broker.catalog.read();
        check_group(&catalog, asked.target_group)?;
        let topics = match asked.topic.filter(|topic| !topic.is_empty()) {
            Some(topic) => vec![topic.to_owned()],
            None => broker.offsets.lock().topics_of(asked.source_group).into_iter().collect(),
        };
        let queues =
            |topic: String| Some((catalog.topics.queues(&topic), topic)).filter(|(count, _)| *count > 0);
        // As with RocketMQ, what the source's members do not read any more is passed over.
        let is_read = |topic: &String| {
            let subscription = broker.membership.subscription(asked.source_group, topic);
            asked.offline || subscription.map_or(true, |found| found.is_some())
        };
        let topics = topics.into_iter().filter(is_read);
        topics.filter_map(queues).map(|(count, topic)| (topic, count)).collect()
    };
    let by = mover(broker, request);
    let resets: Vec<OffsetsReset> = {
        let progress = broker.offsets.lock();
        let reset = |(topic, queues): (String, u32)| {
            let of = |queue| Some((queue, progress.get(asked.source_group, &topic, queue)?));
            let offsets: Vec<_> = (0..queues).filter_map(of).collect();
            OffsetsReset { group: asked.target_group.to_owned(), topic, offsets }
        };
        topics.into_iter().map(reset).filter(|reset| !reset.offsets.is_empty()).collect()
    };
    for OffsetsReset { group, topic, offsets } in &resets {
        info!(target: "audit", peer = by.address, group, from = asked.source_group, topic, ?offsets, "offsets cloned");
    }
    let reply = request.reply;
    match broker.reset_offsets(resets, &by) {
        Ok(Some(end)) => answers.when_applied(end, reply, |out| reply.success(out, &[])),
        Ok(None) => answers.success(reply, &[]),
        Err(error) => refused(&error),
    }
}

fn check_group(catalog: &Catalog, group: &str) -> Result<(), Refusal> {
    if catalog.groups.get(group).is_some() {
        return Ok(());
    }
    Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, format!("Group {group} does not exist")))
}

/// The queues of a topic that can be read, or the one that was asked for.
fn of_topic(catalog: &Catalog, topic: &str, only: Option<u32>) -> Result<Vec<(u32, QueueId)>, Refusal> {
    let Some((config, queues)) = catalog.topic(topic) else {
        let remark = format!("Topic {topic} does not exist");
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    };
    let numbered = (0..config.read_queues).zip(queues.iter().copied());
    let found: Vec<_> = numbered.filter(|(number, _)| only.is_none_or(|only| only == *number)).collect();
    if found.is_empty() {
        let number = only.unwrap_or(0).to_string();
        return Err(FieldError::invalid("queueId", "one of the topic's queues", &number).into());
    }
    Ok(found)
}

/// Where `target` is in a queue.
fn place(index: &Index, queue: QueueId, target: ResetTarget) -> Result<Answer<u64>, Refusal> {
    let range = index.range(queue);
    Ok(match target {
        ResetTarget::End => Answer::Known(range.end),
        ResetTarget::Time(time) => index.first_at_or_after(queue, time),
        ResetTarget::Offset(offset) if (range.start..=range.end + 1).contains(&offset) => {
            Answer::Known(offset)
        }
        ResetTarget::Offset(offset) => {
            let remark =
                format!("Target offset {offset} not in consume queue range [{}-{}]", range.start, range.end);
            return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
        }
    })
}

fn table(broker: &Broker, topic: &str, offsets: &[(u32, u64)]) -> ResetOffsets {
    let entry = |&(queue, offset): &(u32, u64)| {
        let queue = MessageQueue {
            broker_name: broker.identity.broker.clone(),
            queue_id: i32::try_from(queue).unwrap_or(i32::MAX),
            topic: topic.to_owned(),
        };
        (queue, i64::try_from(offset).unwrap_or(i64::MAX))
    };
    ResetOffsets { offset_table: offsets.iter().map(entry).collect::<BTreeMap<_, _>>() }
}
