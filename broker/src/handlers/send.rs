//! Sends: 10, 310, and 320 for batches.

use std::net::SocketAddr;

use bytes::BytesMut;
use skylark_index::QueueId;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::recall::RecallHandle;
use skylark_protocol::command::send::SendRequest;
use skylark_protocol::message::properties;
use skylark_protocol::message::{MessageParts, NewMessage, OffsetMessageId, sys_flag};
use skylark_protocol::outgoing::Value;
use skylark_storage::AppendError;
use smallvec::SmallVec;

use crate::append::{Stored, append, append_delayed};
use crate::broker::Broker;
use crate::context::{Answers, Done, Handled, Refusal, Request, refused};
use crate::delay::{self, Asked, Delayed};
use crate::light;
use crate::message_type::MessageType;
use crate::names;
use crate::quotas::Limits;
use crate::suppression::{Accepted, Sending};
use crate::system;
use crate::transactions::message::{self as transaction, Prepared};

use limits::Charge;
use target::{Sought, Target};

mod batch;
mod limits;
pub mod target;

/// Takes a message, or a batch, and answers once it is durable.
pub fn send(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let send = SendRequest::decode(request.header, request.body)?;
    if let Err(error) = names::check_topic(send.topic) {
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, error.to_string()));
    }
    if send.topic.starts_with(names::LIGHT_PREFIX) {
        let remark = format!(
            "{} is a light queue: send to a topic, and name the queue in {}",
            send.topic,
            properties::INNER_MULTI_DISPATCH
        );
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    if !system::may_send_to(send.topic) {
        let remark =
            format!("Sending message to topic[{}] is forbidden: the broker alone writes it", send.topic);
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    if let Some(why) = broker.archive.refusal() {
        return Err(Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, &*why));
    }
    let target = match target::seek(broker, &send)? {
        Sought::Found(target) => target,
        Sought::Made(handled) => return handled,
    };
    if target.limits == <[Limits; 2]>::default() {
        return store(broker, request, answers, &send, target);
    }
    let charge = Charge::of(broker, &send, request.body, target.limits)?;
    let handled = store(broker, request, answers, &send, target)?;
    if let (Done::Answered, Some(charge)) = (&handled, charge) {
        charge.take(broker);
    }
    Ok(handled)
}

/// Takes a message, or a batch, that may be sent to this target.
fn store(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    send: &SendRequest<'_>,
    target: Target,
) -> Handled {
    let multi_tags = if target.multi_tags { sys_flag::MULTI_TAGS } else { 0 };
    let message = NewMessage {
        topic: send.topic,
        queue_id: target.queue_id,
        flag: send.flag,
        sys_flag: send.sys_flag & SENDERS_FLAGS | multi_tags,
        born_timestamp: send.born_timestamp,
        born_host: request.connection.peer.address,
        store_host: SocketAddr::V4(broker.identity.store_host),
        reconsume_times: send.reconsume_times,
        prepared_transaction_offset: 0,
        body: request.body,
        properties: send.properties.as_bytes(),
        added_properties: &[],
    };
    if send.batch {
        return batch::store(broker, request, answers, message, send, target);
    }
    let found = look_through(properties::in_text(send.properties), send)?;
    target.check(send.topic, found.message_type())?;
    let Some(group) = send.topic.strip_prefix(names::RETRY_PREFIX) else {
        return single(broker, request, answers, message, &found, target);
    };
    if !target::is_dead(broker, group, request.header.version, send)? {
        return single(broker, request, answers, message, &found, target);
    }
    let dead_letters = match target::dead_letters(broker, group) {
        Sought::Found(target) => target,
        Sought::Made(handled) => return handled,
    };
    let topic = names::dlq_topic(group);
    // RocketMQ's own mark of a message that comes back no more.
    let properties = properties::rewrite(message.properties, &[], &[(properties::DELAY, "-1")]);
    let found = Noteworthy { asked: Asked::level(-1), ..found };
    let message = NewMessage { topic: &topic, properties: &properties, ..message };
    single(broker, request, answers, message, &found, dead_letters)
}

/// Stores a message, at once or to be delivered later. The answer names the queue of the request in any case.
fn single(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    message: NewMessage<'_>,
    found: &Noteworthy<'_>,
    target: Target,
) -> Handled {
    let (made, mut with_key, without_pop);
    let (unique_key, added_properties) = match found.unique_key {
        Some(key) => (key, &*broker.added_properties),
        None => {
            made = broker.unique_keys.next(broker.clock.wall_ms());
            with_key = broker.added_properties.to_vec();
            properties::write(properties::UNIQ_KEY, made.as_str(), &mut with_key);
            (made.as_str(), &*with_key)
        }
    };
    let properties = if found.was_popped {
        without_pop = properties::rewrite(message.properties, &[properties::POP_CK], &[]);
        &*without_pop
    } else {
        message.properties
    };
    let asked_for = message.queue_id;
    let message = NewMessage { queue_id: target.queue_id, properties, added_properties, ..message };
    let is_unique = target.unique && found.unique_key.is_some() && may_be_unique(&message);
    let topic = message.topic;
    let sending = |parts: &MessageParts<'_>| {
        let fingerprint = is_unique.then(|| broker.suppression.fingerprint(topic, unique_key, parts));
        Sending { fingerprint, topic, queue_id: asked_for, due_ms: None }
    };
    if let Some(named) = found.light {
        // It asks for no time, but may be RocketMQ's way to recall another message.
        delay::wait(broker, &found.asked)?;
        let light = match light::seek(broker, named)? {
            light::Sought::Found(light) => light,
            light::Sought::Made(handled) => return handled,
        };
        let accepted = for_light_queues(broker, message, target, &light, sending)?;
        return taken(broker, request, answers, topic, accepted, unique_key);
    }
    if found.is_half {
        let accepted = half(broker, message, unique_key, found, sending)?;
        return taken(broker, request, answers, topic, accepted, unique_key);
    }
    let place = (topic, target.queue_id);
    let delayed = delay::delay(broker, place, &found.asked, properties, added_properties)?;
    let accepted = match &delayed {
        None => {
            let parts = encode(broker, &message)?;
            let append = |kind| append(broker, kind, target.queue, topic, &parts);
            broker.suppression.once(broker, sending(&parts), append)
        }
        Some(Delayed { topic, queue, queue_id, due_ms, properties, added_properties }) => {
            let queue_id = *queue_id;
            let waiting = NewMessage { topic, queue_id, properties, added_properties, ..message };
            let parts = encode(broker, &waiting)?;
            let due_ms = (*topic == system::TIMER_TOPIC).then_some(*due_ms);
            let append = |kind| append_delayed(broker, kind, topic, *queue, &parts);
            broker.suppression.once(broker, Sending { due_ms, ..sending(&parts) }, append)
        }
    };
    taken(broker, request, answers, topic, accepted, unique_key)
}

/// Stores a message that is part of a transaction where nobody gets it, until the transaction ends.
fn half<'a>(
    broker: &Broker,
    message: NewMessage<'_>,
    unique_key: &str,
    found: &Noteworthy<'_>,
    sending: impl Fn(&MessageParts<'_>) -> Sending<'a>,
) -> Result<Result<Accepted, AppendError>, Refusal> {
    // Refused here, as its commit would be.
    delay::wait(broker, &found.asked)?;
    let place = (message.topic, message.queue_id);
    let Prepared { queue, properties } =
        transaction::prepare(broker, place, unique_key, found.producer_group, message.properties)?;
    transaction::check_properties(properties.len() + message.added_properties.len()).map_err(illegal)?;
    let waiting = NewMessage { topic: system::HALF_TOPIC, queue_id: 0, properties: &properties, ..message };
    let parts = encode(broker, &waiting)?;
    let append = |kind| transaction::append_half(broker, kind, queue, &parts);
    Ok(broker.suppression.once(broker, sending(&parts), append))
}

/// Stores a message in its queue and in light queues.
fn for_light_queues<'a>(
    broker: &Broker,
    message: NewMessage<'_>,
    target: Target,
    light: &[QueueId],
    sending: impl Fn(&MessageParts<'_>) -> Sending<'a>,
) -> Result<Result<Accepted, AppendError>, Refusal> {
    let added = message.added_properties;
    let properties = properties::rewrite(message.properties, &[properties::INNER_MULTI_QUEUE_OFFSET], &[]);
    let longest = [added, &light::longest(light)].concat();
    let roomy = NewMessage { properties: &properties, added_properties: &longest, ..message };
    let parts = encode(broker, &roomy)?;
    let target = (target.queue, message.topic);
    let append = |kind| light::append(broker, kind, target, light, &parts, added);
    Ok(broker.suppression.once(broker, sending(&parts), append))
}

/// Whether a message may be one that is not stored again: none that has been consumed before, or that could be taken
/// for one that the broker has put where it lies.
fn may_be_unique(message: &NewMessage<'_>) -> bool {
    let NewMessage { topic, reconsume_times, .. } = *message;
    reconsume_times == 0
        && !topic.starts_with(names::RETRY_PREFIX)
        && !topic.starts_with(names::DLQ_PREFIX)
        && !system::holds_for_others(topic)
}

/// Answers for a message once it is durable, or the one is that was sent before. The answer names the queue that was
/// asked for then, and the time for which that one waits.
fn taken(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    topic: &str,
    accepted: Result<Accepted, AppendError>,
    unique_key: &str,
) -> Handled {
    let Accepted { stored: Stored { stamped, end }, queue_id, due_ms, is_repeated } = match accepted {
        Ok(accepted) => accepted,
        Err(error) => return not_stored(broker, &error),
    };
    if !is_repeated {
        answers.sent.push_back((end, broker.clock.monotonic()));
    }
    let store_host = SocketAddr::V4(broker.identity.store_host);
    let id = OffsetMessageId { store_host, physical_offset: stamped.physical_offset };
    let text = id.text();
    let recall_handle = due_ms.and_then(|due_ms| recall_handle(broker, topic, due_ms, unique_key));
    let names = Names { message_id: text.as_str(), unique_key: Some(unique_key), recall_handle };
    answers.when_durable(end, request.reply, |out| {
        respond(request, out, &names, queue_id, stamped.queue_offset);
    })
}

/// What the answer to a send calls the message.
struct Names<'a> {
    /// Its place in the log; of a batch those of all its messages.
    message_id: &'a str,
    /// Absent for a batch.
    unique_key: Option<&'a str>,
    /// For one that waits for a time.
    recall_handle: Option<RecallHandle<'a>>,
}

/// What a producer recalls a message by that is due at this time, if it can be: one that is no retry.
fn recall_handle<'a>(
    broker: &'a Broker,
    topic: &'a str,
    due_ms: u64,
    unique_key: &'a str,
) -> Option<RecallHandle<'a>> {
    let can_be = broker.policy.recall_messages
        && !topic.starts_with(names::RETRY_PREFIX)
        && RecallHandle::can_name(unique_key);
    can_be.then(|| RecallHandle {
        topic: topic.into(),
        broker: (&*broker.identity.broker).into(),
        behind_due_ms: due_ms.saturating_add(1),
        message_id: unique_key.into(),
    })
}

fn respond(
    request: &Request<'_, '_>,
    out: &mut BytesMut,
    names: &Names<'_>,
    queue_id: u32,
    queue_offset: u64,
) {
    let handle = names.recall_handle.as_ref().map(RecallHandle::text);
    let mut fields: SmallVec<[_; 7]> = SmallVec::from_slice(&[
        ("msgId", Value::Text(names.message_id)),
        ("queueId", Value::Number(queue_id.into())),
        ("queueOffset", Value::Number(i64::try_from(queue_offset).unwrap_or(i64::MAX))),
        ("MSG_REGION", Value::Text(system::REGION)),
        ("TRACE_ON", Value::Text("true")),
    ]);
    fields.extend(names.unique_key.map(|key| ("transactionId", Value::Text(key))));
    fields.extend(handle.as_deref().map(|handle| ("recallHandle", Value::Text(handle))));
    request.reply.success(out, &fields);
}

/// Answers for a message that the log did not take.
fn not_stored(broker: &Broker, error: &AppendError) -> Handled {
    let handled = refused(error);
    if handled.is_err() {
        broker.statistics.failed_puts.add(1, 0);
    }
    handled
}

fn encode<'a>(broker: &Broker, message: &NewMessage<'a>) -> Result<MessageParts<'a>, Refusal> {
    message.parts(broker.policy.message_bytes_max as usize).map_err(illegal)
}

fn illegal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(ResponseCode::MESSAGE_ILLEGAL, error.to_string())
}

const NO_DELAYED_BATCH: &str = "a batch cannot be delayed; send its messages one by one";
/// What a sender may say in a message's sysFlag: how its body is compressed. The rest says what the broker did.
const SENDERS_FLAGS: i32 = sys_flag::COMPRESSED | sys_flag::COMPRESSION;

/// What a send's properties say to the broker.
#[derive(Clone, Copy, Default)]
struct Noteworthy<'a> {
    /// What the client calls the message.
    unique_key: Option<&'a str>,
    /// It was consumed by POP before, and carries what that needs.
    was_popped: bool,
    /// How long it is to wait; from when its transaction is committed, if it is part of one.
    asked: Asked<'a>,
    /// Nobody gets it until its transaction is committed.
    is_half: bool,
    /// Who sends it.
    producer_group: &'a str,
    /// The light queues that are to hold it as well.
    light: Option<&'a str>,
    /// It is one of those that are consumed in the order of a key.
    is_ordered: bool,
}

impl Noteworthy<'_> {
    fn message_type(&self) -> MessageType {
        MessageType::of(self.is_half, self.asked.is_to_wait(), self.is_ordered)
    }
}

/// Goes through the properties once. What this release cannot keep its word about is refused; taken as a plain
/// message it would do harm.
fn look_through<'a>(
    properties: impl Iterator<Item = (&'a str, &'a str)>,
    send: &SendRequest<'a>,
) -> Result<Noteworthy<'a>, Refusal> {
    let mut found = Noteworthy { producer_group: send.producer_group, ..Noteworthy::default() };
    let mut is_half = false;
    for (name, value) in properties {
        match name {
            properties::UNIQ_KEY => found.unique_key = Some(value),
            properties::POP_CK => found.was_popped = true,
            properties::SHARDING_KEY => found.is_ordered = true,
            properties::INNER_MULTI_DISPATCH if light::may_hold(send.topic) => found.light = Some(value),
            properties::TRAN_MSG => is_half = value.eq_ignore_ascii_case("true"),
            properties::DELAY => {
                found.asked.level =
                    value.parse().map_err(|_| illegal(format_args!("{value} is no delay level (DELAY)")))?;
            }
            _ => found.asked.see(name, value),
        }
    }
    // Clients before 4.6.1 leave the mark on what they send back.
    let is_sent_back = send.reconsume_times > 0 && found.asked.level > 0;
    found.is_half = is_half && !is_sent_back;
    if send.sys_flag & sys_flag::TRANSACTION != 0 && !is_half {
        // RocketMQ goes by the property, and nobody would ever get this message.
        return Err(illegal(
            "sysFlag says that the message is part of a transaction; say so with TRAN_MSG too",
        ));
    }
    if found.light.is_some() && (found.is_half || found.asked.is_to_wait()) {
        return Err(illegal("a message for light queues can neither be delayed nor part of a transaction"));
    }
    Ok(found)
}
