//! Pulls: 11 and 361, with long polling.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use std::ops::Range;

use skylark_index::{Answer, Entry, QueueId};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::pull::PullRequest;
use skylark_protocol::outgoing::{ReplyTo, Value};
use skylark_protocol::transport::Outbox;
use skylark_storage::PhysicalOffset;
use skylark_storage::record::RECORD_HEADER_BYTES;

use crate::broker::Broker;
use crate::changes::ControlRecord;
use crate::context::{Answers, Connection, Done, Handled, Refusal, Request, unchanged};
use crate::folds::groups::{GroupConfig, GroupPut};
use crate::handlers::tally::{self, Tally};
use crate::handlers::{caught_up, offsets};
use crate::light;
use crate::names;
use crate::progress::Reset;
use crate::readers;
use crate::selection::Selection;
use crate::session::Mail;

mod scan;
mod wanted;

use scan::Scan;

/// Messages in an answer, at most.
const MESSAGES_MAX: usize = 1024;
/// Bytes of messages in an answer beyond which none is added. RocketMQ's own default.
const ANSWER_BYTES: usize = 256 << 10;
/// Entries looked at in one go: a filter that selects little must not hold up its connection, or a reader thread.
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
    pub selection: Arc<Selection>,
    /// Number of the queue within its topic.
    pub queue_number: u32,
    /// Its name, if it is a light queue.
    pub light: Option<Arc<str>>,
    /// Where it is counted.
    pub tally: Tally,
    /// Until when it may be parked again if what wakes it is not wanted; none if it has to be answered.
    pub until: Option<Duration>,
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
    if let Some(handled) = light::make_for_reading(broker, pull.topic) {
        return handled;
    }
    let catalog = broker.catalog.read();
    let Some(group) = catalog.groups.get(pull.consumer_group) else {
        drop(catalog);
        return create_group(broker, pull.consumer_group);
    };
    let queue = wanted::check(&catalog, group, &pull)?;
    let may_broadcast = group.broadcast;
    let rates = tally::rates(&catalog, pull.topic, pull.consumer_group);
    drop(catalog);
    let selection = wanted::selection(broker, may_broadcast, &pull)?;
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
    let reads = broker.statistics.reads(pull.topic, pull.consumer_group);
    if let Some(reads) = &reads {
        reads.asked(Some(queue_number), broker.clock.monotonic(), request.connection.id);
    }
    let wanted = Pull {
        reply: request.reply,
        queue,
        offset: pull.queue_offset,
        messages_max: usize::try_from(pull.max_messages).unwrap_or(0).clamp(1, MESSAGES_MAX),
        selection,
        queue_number,
        light: names::is_light(pull.topic).then(|| pull.topic.into()),
        tally: Tally::ask(broker, reads, &rates)?,
        until: None,
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
    if let Err(refusal) = pull.tally.ask_again(broker) {
        return pull.reply.failure(out.buffer(), refusal.code, &refusal.remark);
    }
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

/// Parks a pull once more that was woken in vain, until the time it was parked for is over.
pub fn park_again(broker: &Broker, mut pull: Box<Pull>, connection: &Connection, out: &mut Outbox) {
    let (queue, offset) = (pull.queue, pull.offset);
    let now = broker.clock.monotonic();
    let wait = pull.until.take().map_or(Duration::ZERO, |until| until.saturating_sub(now));
    if wait.is_zero() {
        return answer(broker, *pull, connection, out);
    }
    match broker.parking.park(pull, connection, now, wait) {
        Ok(id) => {
            // As above. By mail, so that whoever sends what is not wanted cannot keep the session here.
            if i64::try_from(broker.index.read().range(queue).end).is_ok_and(|end| end > offset)
                && let Some(pull) = broker.parking.take_back(id)
            {
                // A mailbox that takes no mail belongs to a connection that is closing.
                connection.mailbox.post(Mail::Pull(pull)).ok();
            }
        }
        Err(mut pull) => {
            pull.until = None;
            answer(broker, *pull, connection, out);
        }
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
    /// There is something from here on, but whether it is wanted cannot be told at a glance.
    Something { from: u64 },
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
    if pull.selection.reads_messages() {
        return Look::Something { from };
    }
    match index.entries(pull.queue, from, EXAMINED_MAX) {
        Answer::Known(entries) => Look::Done(pull.select(from, &range, entries)),
        Answer::Sealed(_) => Look::Something { from },
    }
}

impl Pull {
    /// Takes the messages that are wanted, from `from` on, until the answer is full.
    fn select(&self, from: u64, range: &Range<u64>, entries: impl IntoIterator<Item = Entry>) -> Evaluated {
        let mut messages = Vec::new();
        let (mut bytes, mut next) = (0, from);
        for entry in entries {
            if self.selection.may_match(entry.tag_hash) {
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
        if let Some(reads) = &self.tally.reads {
            reads.pulled(self.queue_number, found.next);
        }
    }

    fn found(&self, next: u64, range: &Range<u64>) -> Found {
        Found { reply: self.reply, next, min: range.start, max: range.end }
    }
}

fn write(broker: &Broker, look: Look, pull: Pull, connection: &Connection, out: &mut Outbox) {
    let Evaluated { status, found, messages } = match look {
        Look::Done(evaluated) => evaluated,
        Look::Something { from } => {
            let scan = Scan::new(broker, pull, from);
            return if scan.is_for_workers() {
                scan.go_on_here(broker, connection, out)
            } else {
                scan.go_on_reading(broker, connection, out)
            };
        }
    };
    if status == Status::NoneMatched {
        if i64::try_from(found.next) == Ok(pull.offset) {
            let refusal = unsettled();
            return pull.reply.failure(out.buffer(), refusal.code, &refusal.remark);
        }
        if found.next < found.max {
            // A long stretch of what is not wanted: others get their turn in between.
            return Scan::new(broker, pull, found.next).go_on_reading(broker, connection, out);
        }
    }
    pull.note(&found);
    if status == Status::Found {
        let from = (pull.queue, u64::try_from(pull.offset).unwrap_or(0));
        return fetch(broker, found, from, messages, pull, connection, out);
    }
    broker.statistics.got_nothing();
    found.respond(status, &[], out);
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
    pull: Pull,
    connection: &Connection,
    out: &mut Outbox,
) {
    let Pull { tally, light, .. } = pull;
    let as_wanted = move |messages: Vec<Bytes>| match &light {
        Some(queue) => light::renumbered(queue, messages),
        None => messages,
    };
    let (count, bytes) = (messages.len() as u64, bytes_of(&messages));
    let hot: Option<Vec<Bytes>> = messages
        .iter()
        .map(|(at, bytes)| Some(broker.log.read_hot(*at, *bytes)?.slice(RECORD_HEADER_BYTES..)))
        .collect();
    if let Some(hot) = hot {
        tally.got(broker, count, bytes, Duration::ZERO);
        return found.write(as_wanted(hot), out);
    }
    let (reply, began) = (found.reply, broker.clock.monotonic());
    let submitted = broker.readers.submit(connection, reply, bytes, move |broker, out| {
        match readers::fetch(broker, &messages) {
            Ok(bodies) => found.write(as_wanted(bodies), out),
            Err(refusal) => return overtaken(broker, reply, from, refusal, out),
        }
        let waited = broker.clock.monotonic().saturating_sub(began);
        tally.got(broker, count, bytes, waited);
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

/// Appends a group that is not there yet; the pull is looked at again once the folds know it.
pub(super) fn create_group(broker: &Broker, group: &str) -> Handled {
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
