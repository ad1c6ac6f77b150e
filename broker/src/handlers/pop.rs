//! Pops: 200050, with long polling; 200052 and 200054, which take nothing; 200055.
//!
//! ```text
//!  pop ──► attempt: look at queues ──► commit: [messages popped] ──► answer
//!   ▲          │ nothing                   │ another was faster: look again
//!   └── mail ◄─┴── polling
//! ```

use std::sync::Arc;
use std::time::Duration;

use skylark_index::QueueId;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::pop::{Notification, PeekMessage, PollingInfo, PopMessage};
use skylark_protocol::header::FieldError;
use skylark_protocol::message::TagFilter;
use skylark_protocol::message::record::TOPIC_BYTES_MAX;
use skylark_protocol::outgoing::{ReplyTo, Value};
use skylark_protocol::transport::{Mailbox, Outbox};

use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::context::{Answers, Connection, Done, Handled, Refusal, Request};
use crate::folds::topics::Perm;
use crate::handlers::caught_up;
use crate::handlers::pull::create_group;
use crate::handlers::tally::{self, Tally};
use crate::light;
use crate::membership::ConnectionId;
use crate::names;
use crate::pops::polling::Key;
use crate::readers::Turn;
use crate::selection::Selection;
use crate::session::Mail;

use attempt::{Attempt, Budget, Source};

mod answer;
mod attempt;

/// Messages in an answer, at most.
const MESSAGES_MAX: i32 = 32;
/// Bytes of messages in an answer beyond which none is added. RocketMQ's own default.
const ANSWER_BYTES: usize = 256 << 10;
/// A pop is not held for longer, whatever it asks for.
const HELD_MAX: Duration = Duration::from_secs(60);
/// A client that asked this long before its own time was over has given up.
const LATE_MS: i64 = 500;
/// How long a pop goes on without finding anything in a long stretch of what it does not want.
const SCAN_MAX: Duration = Duration::from_secs(1);
/// How often a worker looks again because another pop was faster.
const TRIES_MAX: usize = 3;

/// What a pop asks for, and all that is kept of it while it waits.
pub struct Pop {
    /// Whose it is.
    pub connection: ConnectionId,
    /// Where the connection is woken.
    pub mailbox: Arc<Mailbox<Mail>>,
    /// How it is answered.
    reply: ReplyTo,
    kind: Kind,
    group: Box<str>,
    topic: Box<str>,
    retry_topic: Box<str>,
    /// One queue only.
    queue: Option<u32>,
    messages_max: usize,
    invisible_ms: u64,
    /// A group that is new begins at the last message.
    from_last: bool,
    selection: Arc<Selection>,
    /// Messages of a queue are given out in order; names the attempt, if it has a name.
    attempt: Option<Box<str>>,
    /// Until when it may wait.
    deadline: Option<Duration>,
    /// Where its messages are counted.
    tally: Tally,
    /// The queues of the retry topic, when it was parked.
    retries: Vec<QueueId>,
}

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// To get messages.
    Pop,
    /// To see them.
    Peek,
    /// To know whether there are any.
    Notification,
}

/// 200050: takes messages, or waits for some.
pub fn pop(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = PopMessage::decode(request.header)?;
    let now_ms = wall_ms(broker);
    let born_at = asked.born_at.filter(|born_at| *born_at != 0).unwrap_or(now_ms);
    let left_ms = born_at.saturating_add(asked.poll_ms).saturating_sub(now_ms);
    if left_ms < -LATE_MS {
        let remark = format!("the broker[{}] pop message is timeout too much", broker.identity.broker);
        return Err(Refusal::new(ResponseCode::POLLING_TIMEOUT, remark));
    }
    if asked.max_messages > MESSAGES_MAX {
        let remark = format!(
            "the broker[{}] pop message's num is greater than {MESSAGES_MAX}",
            broker.identity.broker
        );
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
    }
    if let Some(handled) = light::make_for_reading(broker, asked.topic) {
        return handled;
    }
    let catalog = broker.catalog.read();
    check_topic(&catalog, asked.topic, asked.queue_id)?;
    if catalog.groups.get(asked.consumer_group).is_none() {
        drop(catalog);
        return create_group(broker, asked.consumer_group);
    }
    check_group(&catalog, asked.consumer_group)?;
    let rates = tally::rates(&catalog, asked.topic, asked.consumer_group);
    drop(catalog);
    let invisible_ms = u64::try_from(asked.invisible_ms).map_err(|_| {
        FieldError::invalid("invisibleTime", "a number from 0 on", &asked.invisible_ms.to_string())
    })?;
    let wanted = wanted(request, Kind::Pop, asked.consumer_group, asked.topic, asked.queue_id)?;
    let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).min(HELD_MAX);
    let wanted = Pop {
        messages_max: usize::try_from(asked.max_messages).unwrap_or(0).max(1),
        invisible_ms,
        from_last: asked.init_mode == 1,
        selection: Arc::new(selection(broker, &asked)?),
        attempt: asked.order.then(|| asked.attempt_id.unwrap_or_default().into()),
        deadline: (asked.poll_ms > 0).then(|| broker.clock.monotonic() + left),
        ..wanted
    };
    note(broker, &wanted);
    let reads = broker.statistics.reads(asked.topic, asked.consumer_group);
    let tally = Tally::ask(broker, reads, &rates)?;
    begin(broker, Pop { tally, ..wanted }, request.connection, answers.out)
}

/// Remembers for the watchdog that the group asks.
fn note(broker: &Broker, pop: &Pop) {
    let has_retries = broker.catalog.read().topics.get(&pop.retry_topic).is_some();
    let retries = has_retries.then_some((&pop.retry_topic, None));
    for (topic, queue) in [(&pop.topic, pop.queue)].into_iter().chain(retries) {
        if let Some(reads) = broker.statistics.reads(topic, &pop.group) {
            reads.asked(queue, broker.clock.monotonic(), pop.connection);
        }
    }
}

/// 200052: shows what a pop would give.
pub fn peek(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = PeekMessage::decode(request.header)?;
    let catalog = broker.catalog.read();
    check_topic(&catalog, asked.topic, asked.queue_id)?;
    check_group(&catalog, asked.consumer_group)?;
    let rates = tally::rates(&catalog, asked.topic, asked.consumer_group);
    drop(catalog);
    let wanted = wanted(request, Kind::Peek, asked.consumer_group, asked.topic, asked.queue_id)?;
    let messages_max = usize::try_from(asked.max_messages.clamp(1, MESSAGES_MAX)).unwrap_or(1);
    let reads = broker.statistics.reads(asked.topic, asked.consumer_group);
    let tally = Tally::ask(broker, reads, &rates)?;
    begin(broker, Pop { messages_max, tally, ..wanted }, request.connection, answers.out)
}

/// 200054: says once a pop would find something.
pub fn notification(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = Notification::decode(request.header)?;
    let catalog = broker.catalog.read();
    check_topic(&catalog, asked.topic, asked.queue_id)?;
    check_group(&catalog, asked.consumer_group)?;
    drop(catalog);
    let left_ms = asked.born_at.saturating_add(asked.poll_ms).saturating_sub(wall_ms(broker));
    let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)).min(HELD_MAX);
    let wanted = wanted(request, Kind::Notification, asked.consumer_group, asked.topic, asked.queue_id)?;
    let wanted = Pop {
        attempt: asked.order.then(|| asked.attempt_id.unwrap_or_default().into()),
        deadline: (asked.poll_ms > 0).then(|| broker.clock.monotonic() + left),
        ..wanted
    };
    begin(broker, wanted, request.connection, answers.out)
}

/// 200055: how many pops wait.
pub fn polling_info(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = PollingInfo::decode(request.header)?;
    let catalog = broker.catalog.read();
    check_topic(&catalog, asked.topic, asked.queue_id)?;
    check_group(&catalog, asked.consumer_group)?;
    drop(catalog);
    let key = Key {
        topic: asked.topic.into(),
        group: asked.consumer_group.into(),
        queue: u32::try_from(asked.queue_id).ok(),
        notifies: false,
    };
    let count = broker.pops.polling.count(&key) as u64;
    answers.success(request.reply, &[("pollingNum", count.into())])
}

/// Goes on with a pop that has waited.
pub fn go_on(broker: &Broker, pop: Box<Pop>, connection: &Connection, out: &mut Outbox) {
    match pop.tally.ask_again(broker).and_then(|()| attempt(broker, &pop)) {
        Ok(Attempt::Found(found)) => answer::found(broker, &pop, &found, out),
        Ok(Attempt::Nothing(seen)) => {
            if let Err(full) = park(broker, pop, &seen) {
                answer::nothing(broker, &full, out);
            }
        }
        Ok(_) => read(broker, pop, connection, out),
        Err(refusal) => pop.reply.failure(out.buffer(), refusal.code, &refusal.remark),
    }
}

/// Takes what there is, or lets the pop wait.
fn begin(broker: &Broker, pop: Pop, connection: &Connection, out: &mut Outbox) -> Handled {
    match attempt(broker, &pop)? {
        Attempt::Found(found) => answer::found(broker, &pop, &found, out),
        Attempt::NoRoom => return Ok(Done::NoRoom),
        Attempt::Nothing(seen) => {
            // What is asked for may have been acknowledged and not applied yet.
            if pop.deadline.is_none()
                && let Some(wait) = caught_up(broker)
            {
                return Ok(wait);
            }
            if let Err(full) = park(broker, Box::new(pop), &seen) {
                answer::nothing(broker, &full, out);
            }
        }
        Attempt::Further | Attempt::ToDisk | Attempt::Moved => read(broker, Box::new(pop), connection, out),
    }
    Ok(Done::Answered)
}

/// Looks at what is in memory, as far as a worker may.
fn attempt(broker: &Broker, pop: &Pop) -> Result<Attempt, Refusal> {
    for _ in 1..TRIES_MAX {
        match attempt::attempt(broker, pop, Budget::worker())? {
            Attempt::Moved => {}
            attempt => return Ok(attempt),
        }
    }
    attempt::attempt(broker, pop, Budget::worker())
}

/// Goes on on reader threads, in turn with what else they have to do.
fn read(broker: &Broker, pop: Box<Pop>, connection: &Connection, out: &mut Outbox) {
    let (reply, began) = (pop.reply, broker.clock.monotonic());
    let mut pop = Some(pop);
    let submitted = broker.readers.take_turns(connection, reply, ANSWER_BYTES as u64, move |broker, out| {
        let Some(wanted) = pop.take() else { return Ok(Turn::Written) };
        match attempt::attempt(broker, &wanted, Budget::reader())? {
            Attempt::Found(found) => answer::found(broker, &wanted, &found, out),
            Attempt::Nothing(seen) => {
                if let Err(full) = park(broker, wanted, &seen) {
                    answer::nothing(broker, &full, out);
                }
            }
            Attempt::Further if broker.clock.monotonic().saturating_sub(began) >= SCAN_MAX => {
                answer::nothing(broker, &NotParked { pop: wanted, is_full: false }, out);
            }
            Attempt::Further | Attempt::ToDisk | Attempt::Moved | Attempt::NoRoom => {
                pop = Some(wanted);
                return Ok(Turn::Again);
            }
        }
        Ok(Turn::Written)
    });
    if let Err(refusal) = submitted {
        reply.failure(out.buffer(), refusal.code, &refusal.remark);
    }
}

/// A pop that is answered although there is nothing.
struct NotParked {
    pop: Box<Pop>,
    /// Because too many wait, and not because its time is over.
    is_full: bool,
}

/// Lets a pop wait that found nothing in these queues, which end there.
fn park(broker: &Broker, mut pop: Box<Pop>, seen: &[(Source, u64)]) -> Result<(), NotParked> {
    let now = broker.clock.monotonic();
    let Some(deadline) = pop.deadline.filter(|deadline| *deadline > now && pop.kind != Kind::Peek) else {
        return Err(NotParked { pop, is_full: false });
    };
    pop.retries = seen.iter().filter(|(source, _)| source.is_retry).map(|(source, _)| source.queue).collect();
    let queues: Vec<QueueId> = seen.iter().map(|(source, _)| source.queue).collect();
    let parked = broker.pops.polling.park(pop, &queues, deadline);
    let id = parked.map_err(|pop| NotParked { pop, is_full: true })?;
    // A message may have arrived between the look and the parking; then nobody would wake the pop.
    let index = broker.index.read();
    let has_news = seen.iter().any(|(source, end)| index.range(source.queue).end > *end);
    drop(index);
    if has_news && let Some(pop) = broker.pops.polling.take_back(id) {
        // By mail, so that whoever sends what is not wanted cannot keep the session here. A mailbox that takes none
        // belongs to a connection that is closing.
        let mailbox = Arc::clone(&pop.mailbox);
        mailbox.post(Mail::Pop(pop)).ok();
    }
    Ok(())
}

impl Pop {
    /// What it waits for.
    pub fn key(&self) -> Key {
        let notifies = self.kind == Kind::Notification;
        Key { topic: self.topic.clone(), group: self.group.clone(), queue: self.queue, notifies }
    }

    /// Whether it may want a message of this queue with this tag hash.
    pub fn may_want(&self, queue: QueueId, tag_hash: i32) -> bool {
        self.selection.may_match(tag_hash) || self.retries.contains(&queue)
    }

    /// Whether it reads this topic: its own, or the one of its retries.
    pub fn reads(&self, topic: &str) -> bool {
        *self.topic == *topic || *self.retry_topic == *topic
    }
}

fn wall_ms(broker: &Broker) -> i64 {
    i64::try_from(broker.clock.wall_ms()).unwrap_or(i64::MAX)
}

/// A request that asks for nothing yet.
fn wanted(
    request: &Request<'_, '_>,
    kind: Kind,
    group: &str,
    topic: &str,
    queue_id: i32,
) -> Result<Pop, Refusal> {
    let retry_topic = names::pop_retry_topic(group, topic);
    if retry_topic.len() > TOPIC_BYTES_MAX {
        let remark = format!(
            "the names of group and topic are too long for POP: messages come back in {retry_topic}, which may have \
             {TOPIC_BYTES_MAX} characters"
        );
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
    }
    Ok(Pop {
        connection: request.connection.id,
        mailbox: Arc::clone(&request.connection.mailbox),
        reply: request.reply,
        kind,
        group: group.into(),
        topic: topic.into(),
        retry_topic: retry_topic.into(),
        queue: u32::try_from(queue_id).ok(),
        messages_max: 1,
        invisible_ms: 0,
        from_last: false,
        selection: Arc::new(Selection::Tags(TagFilter::All)),
        attempt: None,
        deadline: None,
        tally: Tally::default(),
        retries: Vec::new(),
    })
}

/// Which messages a pop wants: all of them if it does not say.
fn selection(broker: &Broker, asked: &PopMessage<'_>) -> Result<Selection, Refusal> {
    let failed = |why: String| Refusal::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, why);
    let Some(expression) = asked.expression.filter(|expression| !expression.is_empty()) else {
        return Ok(Selection::Tags(TagFilter::All));
    };
    let expression_type = asked.expression_type.unwrap_or_default();
    if expression_type.is_empty() || expression_type.eq_ignore_ascii_case("TAG") {
        let tags = TagFilter::parse(Some(expression)).map_err(|error| failed(error.to_string()))?;
        return Ok(Selection::Tags(tags));
    }
    broker.filters.selection(asked.topic, expression_type, expression)
}

fn check_topic(catalog: &Catalog, topic: &str, queue_id: i32) -> Result<(), Refusal> {
    let Some(config) = catalog.topics.get(topic) else {
        let remark = format!("topic[{topic}] not exist, apply first please!");
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    };
    if !config.perm.allows(Perm::READ) {
        let remark = format!("the topic[{topic}] peeking message is forbidden");
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    if u32::try_from(queue_id).is_ok_and(|queue| queue >= config.read_queues) {
        let remark = format!(
            "queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{}]",
            config.read_queues
        );
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark));
    }
    Ok(())
}

fn check_group(catalog: &Catalog, group: &str) -> Result<(), Refusal> {
    let Some(config) = catalog.groups.get(group) else {
        let remark = format!("subscription group [{group}] does not exist");
        return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
    };
    if !config.consume {
        let remark = format!("subscription group no permission, {group}");
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    Ok(())
}

/// What an answer says besides the messages.
fn number(number: u64) -> Value<'static> {
    number.into()
}
