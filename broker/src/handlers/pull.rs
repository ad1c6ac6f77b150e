//! Pulls: 11 and 361, with long polling.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use std::ops::Range;

use skylark_index::{Answer, Entry, QueueId, SealedQueue};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::heartbeat::MessageModel;
use skylark_protocol::command::pull::PullRequest;
use skylark_protocol::message::TagFilter;
use skylark_protocol::outgoing::{ReplyTo, Value};
use skylark_protocol::transport::Outbox;
use skylark_storage::PhysicalOffset;
use skylark_storage::record::RECORD_HEADER_BYTES;

use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::changes::ControlRecord;
use crate::context::{Answers, Connection, Done, Handled, Refusal, Request, unchanged};
use crate::folds::groups::{GroupConfig, GroupPut};
use crate::folds::topics::Perm;
use crate::handlers::{caught_up, offsets};
use crate::names;
use crate::progress::Reset;
use crate::readers;
use crate::statistics::Reads;

/// Messages in an answer, at most.
const MESSAGES_MAX: usize = 1024;
/// Bytes of messages in an answer beyond which none is added. RocketMQ's own default.
const ANSWER_BYTES: usize = 256 << 10;
/// Entries looked at for one pull: a filter that selects little must not hold up its connection.
const EXAMINED_MAX: usize = 16_384;
/// Clients close a connection on which a pull was held for longer than 30 seconds.
const HELD_MAX: Duration = Duration::from_secs(20);

/// What a pull asks for, and all that is kept of it while it waits.
#[derive(Clone, Debug)]
pub struct Pull {
    /// How it is answered.
    pub reply: ReplyTo,
    /// The queue.
    pub queue: QueueId,
    /// The first offset wanted; below zero is below every minimum.
    pub offset: i64,
    /// How many messages are wanted, at most.
    pub messages_max: usize,
    /// Which ones.
    pub filter: TagFilter,
    /// Number of the queue within its topic.
    pub queue_number: u32,
    /// Where it is counted.
    pub reads: Option<Arc<Reads>>,
}

/// What a pull is answered with, besides messages.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// How it is answered.
    pub reply: ReplyTo,
    next: u64,
    min: u64,
    max: u64,
}

/// Takes a pull, and answers it or parks it.
pub fn pull(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let pull = PullRequest::decode(request.header)?;
    let catalog = broker.catalog.read();
    let Some(group) = catalog.groups.get(pull.consumer_group) else {
        drop(catalog);
        return create_group(broker, pull.consumer_group);
    };
    let queue = check(&catalog, group, &pull)?;
    let may_broadcast = group.broadcast;
    drop(catalog);
    let filter = filter(broker, may_broadcast, &pull)?;
    let number = u32::try_from(pull.queue_id);
    if let (Some(Ok(offset)), Ok(number)) = (pull.commit().map(u64::try_from), number) {
        offsets::commit(broker, request.connection, pull.consumer_group, pull.topic, number, offset);
    }
    // Taken before the match, whose arms must not run under the lock.
    let reset = broker.offsets.lock().take_reset(pull.consumer_group, pull.topic, number.unwrap_or(u32::MAX));
    match reset {
        Reset::None => {}
        Reset::After(end) => return Ok(Done::After(end)),
        Reset::To(next) => {
            let range = broker.index.read().range(queue);
            let found = Found { reply: request.reply, next, min: range.start, max: range.end };
            found.respond(Status::Moved, &[], answers.out);
            return Ok(Done::Answered);
        }
    }
    let queue_number = number.unwrap_or_default();
    let wanted = Pull {
        reply: request.reply,
        queue,
        offset: pull.queue_offset,
        messages_max: usize::try_from(pull.max_messages).unwrap_or(0).clamp(1, MESSAGES_MAX),
        filter,
        queue_number,
        reads: broker.statistics.reads(pull.topic, pull.consumer_group),
    };
    let wait_ms = u64::try_from(pull.suspend_timeout_ms).unwrap_or(0);
    let wait = pull.suspends().then(|| Duration::from_millis(wait_ms).min(HELD_MAX));
    let look = look(broker, &wanted);
    let status = if let Look::Done(evaluated) = &look { evaluated.status } else { Status::Found };
    match (status, wait) {
        (Status::AtEnd, Some(wait)) => park(broker, wanted, wait, request.connection, answers.out),
        // What is asked for may have been acknowledged and not applied yet.
        (Status::AtEnd | Status::Beyond | Status::Empty, _) if let Some(wait) = caught_up(broker) => {
            return Ok(wait);
        }
        _ => write(broker, look, wanted, request.connection, answers.out),
    }
    Ok(Done::Answered)
}

/// Answers a pull that was parked.
pub fn answer(broker: &Broker, pull: Pull, connection: &Connection, out: &mut Outbox) {
    let look = look(broker, &pull);
    write(broker, look, pull, connection, out);
}

fn park(broker: &Broker, pull: Pull, wait: Duration, connection: &Connection, out: &mut Outbox) {
    let (queue, offset) = (pull.queue, pull.offset);
    let now = broker.clock.monotonic();
    match broker.parking.park(Box::new(pull), connection, now, wait) {
        Ok(id) => {
            // A message may have arrived between the look and the parking; then nobody would wake the pull.
            if i64::try_from(broker.index.read().range(queue).end).is_ok_and(|end| end > offset)
                && let Some(pull) = broker.parking.take_back(id)
            {
                answer(broker, *pull, connection, out);
            }
        }
        Err(pull) => answer(broker, *pull, connection, out),
    }
}

/// What a look at the queue gave.
struct Evaluated {
    status: Status,
    found: Found,
    /// Where each message lies, and its length with the record's header.
    messages: Vec<(PhysicalOffset, u32)>,
}

/// How the offset asked for lies to what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// There are messages to send.
    Found,
    /// There are messages, but none that is wanted.
    NoneMatched,
    /// The queue ends here.
    AtEnd,
    /// The queue begins later.
    Below,
    /// The queue ends earlier.
    Beyond,
    /// There has never been a message.
    Empty,
    /// An operator has moved the group.
    Moved,
}

impl Status {
    /// The code, and RocketMQ's word for it, which goes into the remark.
    fn answer(self) -> (ResponseCode, &'static str) {
        match self {
            Self::Found => (ResponseCode::SUCCESS, "FOUND"),
            Self::NoneMatched => (ResponseCode::PULL_RETRY_IMMEDIATELY, "NO_MATCHED_MESSAGE"),
            Self::AtEnd => (ResponseCode::PULL_NOT_FOUND, "OFFSET_OVERFLOW_ONE"),
            Self::Below => (ResponseCode::PULL_OFFSET_MOVED, "OFFSET_TOO_SMALL"),
            Self::Beyond => (ResponseCode::PULL_OFFSET_MOVED, "OFFSET_OVERFLOW_BADLY"),
            Self::Empty => (ResponseCode::PULL_OFFSET_MOVED, "NO_MESSAGE_IN_QUEUE"),
            Self::Moved => (ResponseCode::PULL_OFFSET_MOVED, "OFFSET_RESET"),
        }
    }
}

/// What a pull finds at once.
enum Look {
    /// All there is to know.
    Done(Evaluated),
    /// Its messages lie in segments whose index is in files.
    OnDisk { sealed: SealedQueue, from: u64, range: Range<u64> },
}

fn look(broker: &Broker, pull: &Pull) -> Look {
    let index = broker.index.read();
    let range = index.range(pull.queue);
    let without = |status, next| {
        Look::Done(Evaluated { status, found: pull.found(next, &range), messages: Vec::new() })
    };
    if range.end == 0 && pull.offset != 0 {
        return without(Status::Empty, 0);
    }
    let Some(from) = u64::try_from(pull.offset).ok().filter(|offset| *offset >= range.start) else {
        return without(Status::Below, range.start);
    };
    if from == range.end {
        return without(Status::AtEnd, from);
    }
    if from > range.end {
        return without(Status::Beyond, range.end);
    }
    match index.entries(pull.queue, from, EXAMINED_MAX) {
        Answer::Known(entries) => Look::Done(pull.select(from, &range, entries)),
        Answer::Sealed(sealed) => Look::OnDisk { sealed, from, range },
    }
}

impl Pull {
    /// Takes the messages that are wanted, from `from` on, until the answer is full.
    fn select(&self, from: u64, range: &Range<u64>, entries: impl IntoIterator<Item = Entry>) -> Evaluated {
        let mut messages = Vec::new();
        let (mut bytes, mut next) = (0, from);
        for entry in entries {
            if self.filter.matches_hash(entry.tag_hash) {
                let message_bytes = entry.record_bytes as usize;
                if !messages.is_empty() && bytes + message_bytes > ANSWER_BYTES {
                    break;
                }
                bytes += message_bytes;
                messages.push((entry.physical_offset, entry.record_bytes));
            }
            next = entry.queue_offset + 1;
            if messages.len() >= self.messages_max {
                break;
            }
        }
        let status = if messages.is_empty() { Status::NoneMatched } else { Status::Found };
        Evaluated { status, found: self.found(next, range), messages }
    }

    /// Remembers for the tools how far the group has asked for.
    fn note(&self, found: &Found) {
        if let Some(reads) = &self.reads {
            reads.pulled(self.queue_number, found.next);
        }
    }

    fn found(&self, next: u64, range: &Range<u64>) -> Found {
        Found { reply: self.reply, next, min: range.start, max: range.end }
    }
}

fn write(broker: &Broker, look: Look, pull: Pull, connection: &Connection, out: &mut Outbox) {
    let (reply, submitted) = match look {
        Look::Done(evaluated) => {
            pull.note(&evaluated.found);
            let Evaluated { status, found, messages } = evaluated;
            if status == Status::NoneMatched && i64::try_from(found.next) == Ok(pull.offset) {
                let refusal = unsettled();
                return pull.reply.failure(out.buffer(), refusal.code, &refusal.remark);
            }
            if status == Status::Found {
                let from = (pull.queue, u64::try_from(pull.offset).unwrap_or(0));
                return fetch(broker, found, from, messages, pull.reads, connection, out);
            }
            broker.statistics.got_nothing();
            return found.respond(status, &[], out);
        }
        Look::OnDisk { sealed, from, range } => {
            let examined_max = if pull.filter == TagFilter::All { pull.messages_max } else { EXAMINED_MAX };
            let (reply, began) = (pull.reply, broker.clock.monotonic());
            let work = move |broker: &Broker, out: &mut Outbox| {
                let read = || {
                    let entries = sealed.entries(from, examined_max);
                    let entries = entries.map_err(|error| broker.unreadable(&error))?;
                    if entries.is_empty() {
                        return Err(unsettled());
                    }
                    let evaluated = pull.select(from, &range, entries);
                    let bodies = readers::fetch(broker, &evaluated.messages)?;
                    Ok((evaluated, bodies))
                };
                let (Evaluated { status, found, messages }, bodies) = match read() {
                    Ok(read) => read,
                    Err(refusal) => return overtaken(broker, reply, (pull.queue, from), refusal, out),
                };
                found.respond(status, &bodies, out);
                pull.note(&found);
                let waited = broker.clock.monotonic().saturating_sub(began);
                let reads = pull.reads.as_deref();
                broker.statistics.got(reads, messages.len() as u64, bytes_of(&messages), waited);
                Ok(())
            };
            (reply, broker.readers.submit(connection, reply, ANSWER_BYTES as u64, work))
        }
    };
    if let Err(refusal) = submitted {
        reply.failure(out.buffer(), refusal.code, &refusal.remark);
    }
}

/// Why nothing is found where something should be: index files were lost, and the restart has not found out yet where
/// the queue begins. The client asks again.
fn unsettled() -> Refusal {
    Refusal::new(ResponseCode::SYSTEM_BUSY, "where the queue begins is being looked up; try again")
}

fn bytes_of(messages: &[(PhysicalOffset, u32)]) -> u64 {
    messages.iter().map(|(_, bytes)| u64::from(*bytes)).sum()
}

/// Answers a read that failed. If what was asked for was trimmed meanwhile, the consumer goes on where the queue begins
/// by now.
fn overtaken(
    broker: &Broker,
    reply: ReplyTo,
    (queue, from): (QueueId, u64),
    refusal: Refusal,
    out: &mut Outbox,
) -> Result<(), Refusal> {
    let range = broker.index.read().range(queue);
    if range.start <= from {
        return Err(refusal);
    }
    let found = Found { reply, next: range.start, min: range.start, max: range.end };
    found.respond(Status::Below, &[], out);
    Ok(())
}

/// Sends messages: slices of the log's tail, or what a reader thread fetches.
fn fetch(
    broker: &Broker,
    found: Found,
    from: (QueueId, u64),
    messages: Vec<(PhysicalOffset, u32)>,
    reads: Option<Arc<Reads>>,
    connection: &Connection,
    out: &mut Outbox,
) {
    let (count, bytes) = (messages.len() as u64, bytes_of(&messages));
    let hot: Option<Vec<Bytes>> = messages
        .iter()
        .map(|(at, bytes)| Some(broker.log.read_hot(*at, *bytes)?.slice(RECORD_HEADER_BYTES..)))
        .collect();
    if let Some(hot) = hot {
        broker.statistics.got(reads.as_deref(), count, bytes, Duration::ZERO);
        return found.write(hot, out);
    }
    let (reply, began) = (found.reply, broker.clock.monotonic());
    let submitted = broker.readers.submit(connection, reply, bytes, move |broker, out| {
        match readers::fetch(broker, &messages) {
            Ok(bodies) => found.write(bodies, out),
            Err(refusal) => return overtaken(broker, reply, from, refusal, out),
        }
        let waited = broker.clock.monotonic().saturating_sub(began);
        broker.statistics.got(reads.as_deref(), count, bytes, waited);
        Ok(())
    });
    if let Err(refusal) = submitted {
        reply.failure(out.buffer(), refusal.code, &refusal.remark);
    }
}

impl Found {
    /// Answers with messages.
    pub fn write(&self, messages: Vec<Bytes>, out: &mut Outbox) {
        self.respond(Status::Found, &messages, out);
    }

    fn respond(&self, status: Status, messages: &[Bytes], out: &mut Outbox) {
        let (code, remark) = match status {
            Status::AtEnd if self.max == 0 => (ResponseCode::PULL_NOT_FOUND, "NO_MESSAGE_IN_QUEUE"),
            _ => status.answer(),
        };
        let number = |offset: u64| Value::Number(i64::try_from(offset).unwrap_or(i64::MAX));
        let fields = [
            ("suggestWhichBrokerId", Value::Number(0)),
            ("nextBeginOffset", number(self.next)),
            ("minOffset", number(self.min)),
            ("maxOffset", number(self.max)),
        ];
        let bytes = messages.iter().map(Bytes::len).sum();
        self.reply.write(out.buffer(), code, Some(remark), &fields, bytes);
        if !self.reply.oneway {
            messages.iter().for_each(|message| out.push(message.clone()));
        }
    }
}

/// The checks of a pull, in RocketMQ's order.
fn check(catalog: &Catalog, group: &GroupConfig, pull: &PullRequest<'_>) -> Result<QueueId, Refusal> {
    if !group.consume {
        let remark = format!("subscription group no permission, {}", pull.consumer_group);
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    let Some((config, queues)) = catalog.topic(pull.topic) else {
        let remark = format!("topic[{}] not exist, apply first please!", pull.topic);
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    };
    if !config.perm.allows(Perm::READ) {
        let remark = format!("the topic[{}] pulling message is forbidden", pull.topic);
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    let queue = u32::try_from(pull.queue_id).ok().filter(|queue| *queue < config.read_queues);
    queue.and_then(|queue| queues.get(queue as usize).copied()).ok_or_else(|| {
        let remark = format!(
            "queueId[{}] is illegal, topic {} has {} read queues",
            pull.queue_id, pull.topic, config.read_queues
        );
        Refusal::new(ResponseCode::INVALID_PARAMETER, remark)
    })
}

/// Which messages the pull wants: by its own expression, or by what the group's heartbeats say.
fn filter(broker: &Broker, may_broadcast: bool, pull: &PullRequest<'_>) -> Result<TagFilter, Refusal> {
    if pull.brings_subscription() {
        if !pull.is_by_tags() {
            return Err(no_sql());
        }
        return pull
            .tag_filter()
            .map_err(|error| Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, error.to_string()));
    }
    let not_there = || {
        let remark = format!(
            "the consumer's group info not exist: {} has no member that sent a heartbeat",
            pull.consumer_group
        );
        Refusal::new(ResponseCode::SUBSCRIPTION_NOT_EXIST, remark)
    };
    let found = broker.membership.subscription(pull.consumer_group, pull.topic).map_err(|_| not_there())?;
    let Some((subscription, model)) = found else {
        let remark = format!(
            "the consumer's subscription not exist: {} does not read {}",
            pull.consumer_group, pull.topic
        );
        return Err(Refusal::new(ResponseCode::SUBSCRIPTION_NOT_EXIST, remark));
    };
    if model == MessageModel::Broadcasting && !may_broadcast {
        let remark = format!("the consumer group[{}] can not consume by broadcast way", pull.consumer_group);
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    if subscription.stated.version < pull.subscription_version {
        let remark = "the consumer's subscription not latest, send a heartbeat first";
        return Err(Refusal::new(ResponseCode::SUBSCRIPTION_NOT_LATEST, remark));
    }
    match &subscription.filter {
        Some(filter) => Ok(filter.clone()),
        None => Err(no_sql()),
    }
}

/// What an SQL subscription is answered with.
pub fn no_sql() -> Refusal {
    let remark = "The broker does not support consumer to filter message by SQL92; subscribe by tags";
    Refusal::new(ResponseCode::SYSTEM_ERROR, remark)
}

/// Appends a group that is not there yet; the pull is looked at again once the folds know it.
fn create_group(broker: &Broker, group: &str) -> Handled {
    let missing = |why: &str| {
        let remark = format!("subscription group [{group}] does not exist, {why}");
        Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark))
    };
    if !broker.policy.auto_create_groups {
        return missing("and groups are not created automatically here");
    }
    if let Err(error) = names::check_group(group) {
        return missing(&error.to_string());
    }
    let changed = broker.change(|catalog| match catalog.groups.get(group) {
        Some(_) => Vec::new(),
        None => {
            vec![ControlRecord::of(&GroupPut { group: group.to_owned(), config: GroupConfig::default() })]
        }
    });
    match changed {
        Ok(end) => Ok(Done::After(end.unwrap_or(broker.applied.get()))),
        Err(error) => unchanged(&error),
    }
}
