//! Sends: 10, 310, and 320 for batches.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::BytesMut;
use skylark_index::QueueId;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::send::SendRequest;
use skylark_protocol::message::batch::inner_messages;
use skylark_protocol::message::properties::{self, Properties};
use skylark_protocol::message::{MessageParts, MessageRefused, NewMessage, OffsetMessageId, sys_flag};
use skylark_protocol::outgoing::Value;
use skylark_storage::{AppendError, NewRecord};

use crate::append::{Stored, append, append_delayed, stamp};
use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request, refused};
use crate::delay::{self, Delayed};
use crate::folds::kinds;
use crate::names;
use crate::system;

use target::{Sought, Target};

pub mod target;

/// Takes a message, or a batch, and answers once it is durable.
pub fn send(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let send = SendRequest::decode(request.header, request.body)?;
    if let Err(error) = names::check_topic(send.topic) {
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, error.to_string()));
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
        return batch(broker, request, answers, message, &send, target.queue);
    }
    let found = look_through(message.properties, &send)?;
    let Some(group) = send.topic.strip_prefix(names::RETRY_PREFIX) else {
        return single(broker, request, answers, message, &found, target);
    };
    if !target::is_dead(broker, group, request.header.version, &send)? {
        return single(broker, request, answers, message, &found, target);
    }
    let dead_letters = match target::dead_letters(broker, group) {
        Sought::Found(target) => target,
        Sought::Made(handled) => return handled,
    };
    let topic = names::dlq_topic(group);
    // RocketMQ's own mark of a message that comes back no more.
    let properties = properties::rewrite(message.properties, &[], &[(properties::DELAY, "-1")]);
    let found = Noteworthy { delay_level: -1, ..found };
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
    let delayed = delay::delay(broker, message.topic, target.queue_id, found.delay_level, properties)?;
    let stored = match &delayed {
        None => append(broker, target.queue, message.topic, &encode(broker, &message)?),
        Some(Delayed { queue, queue_id, properties }) => {
            let topic = system::SCHEDULE_TOPIC;
            let waiting = NewMessage { topic, queue_id: *queue_id, properties, ..message };
            append_delayed(broker, *queue, &encode(broker, &waiting)?)
        }
    };
    let Stored { stamped, end } = match stored {
        Ok(stored) => stored,
        Err(error) => return not_stored(broker, &error),
    };
    answers.sent.push_back((end, broker.clock.monotonic()));
    let id = OffsetMessageId { store_host: message.store_host, physical_offset: stamped.physical_offset };
    let text = id.text();
    answers.when_durable(end, request.reply, |out| {
        respond(request, out, text.as_str(), asked_for, stamped.queue_offset, Some(unique_key));
    })
}

fn batch(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    outer: NewMessage<'_>,
    send: &SendRequest<'_>,
    queue: QueueId,
) -> Handled {
    if look_through(outer.properties, send)?.delay_level > 0 {
        return Err(illegal("a batch cannot be delayed; send its messages one by one"));
    }
    if outer.topic.starts_with(names::RETRY_PREFIX) {
        return Err(illegal("a batch cannot be sent to a retry topic; send its messages one by one"));
    }
    let too_large = outer.body.len() > broker.policy.message_bytes_max as usize;
    if too_large {
        let (body_bytes, body_bytes_max) = (outer.body.len(), broker.policy.message_bytes_max as usize);
        return Err(illegal(MessageRefused::BodyTooLarge { body_bytes, body_bytes_max }));
    }
    let mut parts: Vec<MessageParts<'_>> = Vec::new();
    for inner in inner_messages(outer.body) {
        let inner = inner.map_err(illegal)?;
        // RocketMQ reads a delay level from the batch alone; one of an inner message is a property like others.
        look_through(inner.properties, send)?;
        let message =
            NewMessage { flag: inner.flag, body: inner.body, properties: inner.properties, ..outer };
        parts.push(encode(broker, &message)?);
    }
    if parts.is_empty() {
        return Err(illegal(MessageRefused::EmptyBody));
    }
    let rests: Vec<_> = parts.iter().map(MessageParts::rest).collect();
    let records = parts.iter().zip(&rests);
    let unit: Vec<_> =
        records.map(|(parts, rest)| NewRecord { kind: kinds::MESSAGE, head: parts.head(), rest }).collect();
    let mut stamps = Vec::with_capacity(unit.len());
    let appended =
        broker.log.append(&unit, |state, place, head| stamps.push(stamp(state, queue, &place, head)));
    let appended = match appended {
        Ok(appended) => appended,
        Err(error) => return not_stored(broker, &error),
    };
    answers.sent.push_back((appended.end, broker.clock.monotonic()));
    let bytes = parts.iter().map(|parts| parts.len() as u64).sum();
    broker.statistics.put(outer.topic, stamps.len() as u64, bytes);
    let mut ids = String::with_capacity(33 * stamps.len());
    for stamped in &stamps {
        let id = OffsetMessageId { store_host: outer.store_host, physical_offset: stamped.physical_offset };
        let separator = if ids.is_empty() { "" } else { "," };
        write!(ids, "{separator}{id}").expect("writing to memory does not fail");
    }
    let first = stamps.first().expect("a batch has messages").queue_offset;
    answers.when_durable(appended.end, request.reply, |out| {
        respond(request, out, &ids, outer.queue_id, first, None);
    })
}

fn respond(
    request: &Request<'_, '_>,
    out: &mut BytesMut,
    message_id: &str,
    queue_id: u32,
    queue_offset: u64,
    unique_key: Option<&str>,
) {
    let fields = [
        ("msgId", Value::Text(message_id)),
        ("queueId", Value::Number(queue_id.into())),
        ("queueOffset", Value::Number(i64::try_from(queue_offset).unwrap_or(i64::MAX))),
        ("MSG_REGION", Value::Text(system::REGION)),
        ("TRACE_ON", Value::Text("true")),
        ("transactionId", Value::Text(unique_key.unwrap_or_default())),
    ];
    let count = if unique_key.is_some() { fields.len() } else { fields.len() - 1 };
    request.reply.success(out, &fields[..count]);
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

/// Properties that ask for a due time, or belong to one, begin with this.
const TIMER_PREFIX: &str = "TIMER_";
/// What a sender may say in a message's sysFlag: how its body is compressed. The rest says what the broker did.
const SENDERS_FLAGS: i32 = sys_flag::COMPRESSED | sys_flag::COMPRESSION;

/// What a send's properties say to the broker.
#[derive(Clone, Copy, Default)]
struct Noteworthy<'a> {
    /// What the client calls the message.
    unique_key: Option<&'a str>,
    /// It was consumed by POP before, and carries what that needs.
    was_popped: bool,
    /// How long it is to wait; not at all below 1.
    delay_level: i32,
}

/// Goes through the properties once. What this release cannot keep its word about is refused; taken as a plain
/// message it would do harm.
fn look_through<'a>(properties: &'a [u8], send: &SendRequest<'_>) -> Result<Noteworthy<'a>, Refusal> {
    let mut found = Noteworthy::default();
    let mut is_half = false;
    for (name, value) in Properties::new(properties).iter() {
        match name {
            properties::UNIQ_KEY => found.unique_key = Some(value),
            properties::POP_CK => found.was_popped = true,
            properties::TRAN_MSG => is_half = value.eq_ignore_ascii_case("true"),
            properties::DELAY => {
                found.delay_level =
                    value.parse().map_err(|_| illegal(format_args!("{value} is no delay level (DELAY)")))?;
            }
            _ if name.starts_with(TIMER_PREFIX) => {
                return Err(illegal(format_args!("this release has delay levels only: leave {name} out")));
            }
            _ => {}
        }
    }
    // Clients before 4.6.1 leave the mark on what they send back.
    let is_sent_back = send.reconsume_times > 0 && found.delay_level > 0;
    if send.sys_flag & sys_flag::TRANSACTION != 0 || is_half && !is_sent_back {
        let remark = "this release does not take transactional messages";
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    Ok(found)
}
