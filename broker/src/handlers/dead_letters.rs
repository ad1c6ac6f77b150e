//! Dead letters: 60010 lists them, 60011 sends them again, 60012 gives them up for good.
//!
//! ```text
//!  60011 ──► reader thread reads what waits ──► session: settled meanwhile? ──► one unit ──► answer, once applied
//! ```

use std::ops::Range;

use bytes::Bytes;
use skylark_index::{QueueId, SealedError};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::dead_letters::{
    DeadLetterQueue, DeadLetters, FailedDeadLetter, ListDeadLetters, SettleDeadLetters, SettledDeadLetter,
    SettledDeadLetters,
};
use skylark_protocol::header::FieldError;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::message::record::BODY_BYTES_MAX;
use skylark_protocol::outgoing::ReplyTo;
use tracing::info;

use crate::append::append_behind;
use crate::audit::mover;
use crate::broker::Broker;
use crate::changes::ControlRecord;
use crate::context::{Answers, Done, Handled, Refusal, Request, refused};
use crate::dead_letters::{Letter, Resent, place, resent};
use crate::folds::audit::Mover;
use crate::folds::dead_letters::{DeadLettersSettled, Settlement};
use crate::handlers::caught_up;
use crate::names;

/// Stretches of a queue that are listed, at most.
const STRETCHES_MAX: usize = 1000;
/// Dead letters that one request sends again, at most, and how many bytes of them, unless it is one alone.
const RESENT_MAX: u64 = 256;
const RESENT_BYTES_MAX: u64 = 1 << 20;
/// What reading them may take: nobody knows how large one is that is alone.
const READ_BYTES_MAX: u64 = RESENT_BYTES_MAX + BODY_BYTES_MAX as u64;
/// What a message of that unit may take more than the dead letter: another topic's name, its share of the record, and
/// the filling.
const BESIDE_BYTES_MAX: u64 = 512;
/// Dead letters that one request gives up, at most: they are one record.
const PURGED_MAX: u64 = 10_000;

/// 60010: which dead letters wait for an operator.
pub fn list(broker: &Broker, request: &Request<'_, '_>) -> Handled {
    let asked = ListDeadLetters::decode(request.header)?;
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let only = asked.group.filter(|group| !group.is_empty()).map(names::dlq_topic);
    let topics: Vec<(String, Vec<QueueId>)> = {
        let catalog = broker.catalog.read();
        let topics = catalog.topics.iter().map(|(topic, _)| topic);
        let topics = topics.filter(|topic| {
            topic.starts_with(names::DLQ_PREFIX) && only.as_ref().is_none_or(|only| only == topic)
        });
        let queues = |topic: &str| catalog.queues(topic).unwrap_or_default().to_vec();
        topics.map(|topic| (topic.to_owned(), queues(topic))).collect()
    };
    let reply = request.reply;
    broker.readers.submit(request.connection, reply, 0, move |broker, out| {
        let mut answer = DeadLetters::default();
        for (topic, queues) in topics {
            for (number, queue) in (0..).zip(queues) {
                let listed = listed(broker, &topic, number, queue);
                answer.queues.push(listed.map_err(|error| broker.unreadable(&error))?);
            }
        }
        reply.respond(out, ResponseCode::SUCCESS, None, &[], answer.encode().into());
        Ok(())
    })
}

/// What waits in a queue. Blocks.
fn listed(broker: &Broker, topic: &str, number: u32, queue: QueueId) -> Result<DeadLetterQueue, SealedError> {
    let range = broker.index.read().range(queue);
    let waiting = broker.dead_letters.waiting(topic, number, range.clone());
    let stored_at = |offset: Option<u64>| -> Result<Option<i64>, SealedError> {
        let Some(offset) = offset else { return Ok(None) };
        let entry = place(broker, queue, offset)?;
        Ok(entry.map(|entry| i64::try_from(entry.stored_at).unwrap_or(i64::MAX)))
    };
    Ok(DeadLetterQueue {
        group: topic.strip_prefix(names::DLQ_PREFIX).unwrap_or_default().to_owned(),
        topic: topic.to_owned(),
        queue_id: number,
        min_offset: range.start,
        max_offset: range.end,
        waiting: waiting.iter().map(|stretch| stretch.end - stretch.start).sum(),
        oldest: stored_at(waiting.first().map(|stretch| stretch.start))?,
        newest: stored_at(waiting.last().map(|stretch| stretch.end - 1))?,
        stretches: waiting.iter().take(STRETCHES_MAX).map(|stretch| (stretch.start, stretch.end)).collect(),
    })
}

/// What a request is about.
struct Asked {
    reply: ReplyTo,
    by: Mover,
    group: String,
    topic: String,
    number: u32,
    queue: QueueId,
    /// Offsets, as far as there are any.
    range: Range<u64>,
    limit: u64,
    to_group: bool,
}

fn asked(broker: &Broker, request: &Request<'_, '_>) -> Result<Asked, Refusal> {
    let SettleDeadLetters { group, queue_id, begin, end, limit, to_group } =
        SettleDeadLetters::decode(request.header)?;
    let topic = names::dlq_topic(group);
    let no_queue = || FieldError::invalid("queueId", "a queue of the topic", &queue_id.to_string());
    let number = u32::try_from(queue_id).map_err(|_| no_queue())?;
    let queue = {
        let catalog = broker.catalog.read();
        let Some(queues) = catalog.queues(&topic) else {
            let remark = format!("group {group} has no dead letters: there is no topic {topic}");
            return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
        };
        *queues.get(number as usize).ok_or_else(no_queue)?
    };
    if begin > end {
        return Err(FieldError::invalid("endOffset", "not below beginOffset", &end.to_string()).into());
    }
    let there = broker.index.read().range(queue);
    let range = begin.clamp(there.start, there.end)..end.clamp(there.start, there.end);
    let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0);
    let limit =
        limit.ok_or_else(|| FieldError::invalid("limit", "a number from 1 on", &limit_text(request)))?;
    let by = mover(broker, request);
    let group = group.to_owned();
    Ok(Asked { reply: request.reply, by, group, topic, number, queue, range, limit, to_group })
}

fn limit_text(request: &Request<'_, '_>) -> String {
    request.header.fields.get("limit").unwrap_or_default().to_owned()
}

impl Asked {
    /// The record that settles these offsets, which ascend.
    fn record(&self, broker: &Broker, stretches: Vec<(u64, u64)>, settlement: Settlement) -> ControlRecord {
        ControlRecord::of(&DeadLettersSettled {
            by: self.by.clone(),
            group: self.group.clone(),
            topic: self.topic.clone(),
            queue: self.number,
            stretches,
            settlement,
            min: broker.index.read().range(self.queue).start,
            keep: broker.audit.keep,
        })
    }
}

/// 60012: dead letters are given up for good.
pub fn purge(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let asked = asked(broker, request)?;
    let mut latest = broker.dead_letters.latest.lock();
    if broker.applied.get() < *latest {
        return Ok(Done::After(*latest));
    }
    let mut answer = SettledDeadLetters::default();
    let mut stretches = Vec::new();
    let mut left = asked.limit.min(PURGED_MAX);
    for gap in broker.dead_letters.waiting(&asked.topic, asked.number, asked.range.clone()) {
        if left == 0 {
            answer.next = Some(gap.start);
            break;
        }
        let end = gap.end.min(gap.start.saturating_add(left));
        left -= end - gap.start;
        stretches.push((gap.start, end));
        let purged = (gap.start..end)
            .map(|queue_offset| SettledDeadLetter { queue_offset, ..SettledDeadLetter::default() });
        answer.settled.extend(purged);
        if end < gap.end {
            answer.next = Some(end);
            break;
        }
    }
    if stretches.is_empty() {
        return answers.body(asked.reply, answer.encode());
    }
    let count = answer.settled.len();
    let record = asked.record(broker, stretches, Settlement::Purged);
    match append_behind(broker, &record, &[]) {
        Ok(end) => {
            *latest = end;
            info!(target: "audit", peer = asked.by.address, group = asked.group, count, "dead letters purged");
            answers.body_when_applied(end, asked.reply, &answer.encode())
        }
        Err(error) => refused(&error),
    }
}

/// 60011: dead letters are sent again.
pub fn resend(broker: &Broker, request: &Request<'_, '_>, _answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let asked = asked(broker, request)?;
    if let Some(why) = broker.archive.refusal() {
        return Err(Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, &*why));
    }
    broker.readers.prepare(request.connection, asked.reply, READ_BYTES_MAX, move |broker| {
        let (letters, next) = read(broker, &asked).map_err(|error| broker.unreadable(&error))?;
        Ok(move |broker: &Broker, answers: &mut Answers<'_>| send(broker, &asked, &letters, next, answers))
    })
}

/// As many of the letters that wait as go into one unit, one at least if there is any, and where the next one may be.
/// Blocks.
fn read(broker: &Broker, asked: &Asked) -> Result<(Vec<Letter>, Option<u64>), SealedError> {
    let waiting = broker.dead_letters.waiting(&asked.topic, asked.number, asked.range.clone());
    let mut letters = Vec::new();
    let mut left_bytes = RESENT_BYTES_MAX;
    let limit = asked.limit.min(RESENT_MAX);
    for queue_offset in waiting.into_iter().flatten() {
        // What was trimmed meanwhile is gone.
        let Some(entry) = place(broker, asked.queue, queue_offset)? else { continue };
        let fits = left_bytes.checked_sub(u64::from(entry.record_bytes) + BESIDE_BYTES_MAX);
        if letters.len() as u64 == limit || fits.is_none() && !letters.is_empty() {
            return Ok((letters, Some(queue_offset)));
        }
        left_bytes = fits.unwrap_or(0);
        let read = broker.record_at(entry.physical_offset).map_err(|refusal| refusal.remark);
        letters.push(Letter { queue_offset, read });
    }
    Ok((letters, None))
}

/// Appends the messages of those letters that nobody has settled since they were read.
fn send(
    broker: &Broker,
    asked: &Asked,
    letters: &[Letter],
    next: Option<u64>,
    answers: &mut Answers<'_>,
) -> Handled {
    let mut latest = broker.dead_letters.latest.lock();
    if broker.applied.get() < *latest {
        return Ok(Done::After(*latest));
    }
    let mut answer = SettledDeadLetters { next, ..SettledDeadLetters::default() };
    let mut drafts: Vec<(u64, StoredMessage<'_>, Resent)> = Vec::new();
    {
        let catalog = broker.catalog.read();
        let folded = broker.dead_letters.folded.lock();
        let settled = folded.settled(&asked.topic, asked.number);
        for Letter { queue_offset, read } in letters {
            if settled.is_some_and(|settled| settled.contains(*queue_offset)) {
                continue;
            }
            let draft = read.as_ref().map_err(Clone::clone).and_then(|payload: &Bytes| {
                let (message, _) = StoredMessage::parse(payload).map_err(|error| error.to_string())?;
                let to_group = asked.to_group.then_some(&*asked.group);
                let resent = resent(broker, &catalog, &message, to_group)?;
                resent.encode(broker, &message)?;
                Ok((*queue_offset, message, resent))
            });
            match draft {
                Ok(draft) => drafts.push(draft),
                Err(reason) => {
                    answer.failed.push(FailedDeadLetter { queue_offset: *queue_offset, reason });
                }
            }
        }
    }
    if drafts.is_empty() {
        return answers.body(asked.reply, answer.encode());
    }
    let encoded = drafts.iter().filter_map(|(_, message, resent)| {
        Some((resent.queue(), &*resent.topic, resent.encode(broker, message).ok()?))
    });
    let messages: Vec<_> = encoded.collect();
    let mut stretches: Vec<(u64, u64)> = Vec::new();
    for (offset, message, resent) in &drafts {
        match stretches.last_mut().filter(|(_, end)| end == offset) {
            Some((_, end)) => *end += 1,
            None => stretches.push((*offset, offset + 1)),
        }
        answer.settled.push(SettledDeadLetter {
            queue_offset: *offset,
            message_id: message.offset_message_id().to_string(),
            topic: resent.topic.clone(),
        });
    }
    let record = asked.record(broker, stretches, Settlement::Resent);
    match append_behind(broker, &record, &messages) {
        Ok(end) => {
            *latest = end;
            let count = messages.len();
            info!(target: "audit", peer = asked.by.address, group = asked.group, count, "dead letters sent again");
            answers.body_when_applied(end, asked.reply, &answer.encode())
        }
        Err(error) => refused(&error),
    }
}
