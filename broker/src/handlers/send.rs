//! Sends: 10, 310, and 320 for batches.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::BytesMut;
use skylark_index::QueueId;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::send::SendRequest;
use skylark_protocol::message::batch::inner_messages;
use skylark_protocol::message::properties::{self, Properties};
use skylark_protocol::message::{
    MessageParts, MessageRefused, NewMessage, OffsetMessageId, fill_head, sys_flag,
};
use skylark_protocol::outgoing::Value;
use skylark_storage::{AppendError, NewRecord, Place};

use crate::broker::{Broker, Catalog, ControlRecord};
use crate::context::{Answers, Done, Handled, Refusal, Request, refused, unchanged};
use crate::folds::kinds;
use crate::folds::topics::{FilterType, Perm, TopicConfig, TopicPut};
use crate::names;
use crate::stamp::Tentative;
use crate::system;

/// Takes a message, or a batch, and answers once it is durable.
pub fn send(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let send = SendRequest::decode(request.header, request.body)?;
    let topic = send.topic;
    if let Err(error) = names::check_topic(topic) {
        return Err(Refusal::new(ResponseCode::INVALID_PARAMETER, error.to_string()));
    }
    if !system::may_send_to(topic) {
        let remark = format!("Sending message to topic[{topic}] is forbidden: the broker alone writes it");
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    if let Some(why) = broker.archive.disk_full() {
        return Err(Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, &*why));
    }
    let catalog = broker.catalog.read();
    let Some((config, queues)) = catalog.topic(topic) else {
        drop(catalog);
        return create(broker, &send);
    };
    let queue_id = pick(broker, config, send.queue_id)?;
    let queue = *queues.get(queue_id as usize).expect("a topic has all queues below its counts");
    let multi_tags = if config.filter == FilterType::MultiTag { sys_flag::MULTI_TAGS } else { 0 };
    drop(catalog);

    let message = NewMessage {
        topic,
        queue_id,
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
    let found = look_through(message.properties, send.sys_flag)?;
    if send.batch {
        batch(broker, request, answers, message, queue)
    } else {
        single(broker, request, answers, message, &found, queue)
    }
}

fn single(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    message: NewMessage<'_>,
    found: &Noteworthy<'_>,
    queue: QueueId,
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
        without_pop = without(Properties::new(message.properties), properties::POP_CK);
        &*without_pop
    } else {
        message.properties
    };
    let parts = encode(broker, &NewMessage { properties, added_properties, ..message })?;
    let rest = parts.rest();
    let unit = [NewRecord { kind: kinds::MESSAGE, head: parts.head(), rest: &rest }];
    let mut stamped = Stamped::default();
    let appended =
        match broker.log.append(&unit, |state, place, head| stamped = stamp(state, queue, &place, head)) {
            Ok(appended) => appended,
            Err(error) => return not_stored(broker, &error),
        };
    answers.sent.push_back((appended.end, broker.clock.monotonic()));
    broker.statistics.put(message.topic, 1, parts.len() as u64);
    let id = OffsetMessageId { store_host: message.store_host, physical_offset: stamped.physical_offset };
    let text = id.text();
    answers.when_durable(appended.end, request.reply, |out| {
        respond(request, out, text.as_str(), message.queue_id, stamped.queue_offset, Some(unique_key));
    })
}

fn batch(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    outer: NewMessage<'_>,
    queue: QueueId,
) -> Handled {
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
        look_through(inner.properties, 0)?;
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

/// What the append lock decided about a message.
#[derive(Clone, Copy, Default)]
struct Stamped {
    queue_offset: u64,
    physical_offset: u64,
}

/// Runs under the append lock: gives the message its place in the queue and fills in what follows from it.
fn stamp(state: &mut Tentative, queue: QueueId, place: &Place, head: &mut [u8]) -> Stamped {
    let queue_offset = state.assign(queue);
    let physical_offset = place.physical_offset.get();
    fill_head(head, queue_offset, physical_offset, place.stored_at);
    Stamped { queue_offset, physical_offset }
}

fn encode<'a>(broker: &Broker, message: &NewMessage<'a>) -> Result<MessageParts<'a>, Refusal> {
    message.parts(broker.policy.message_bytes_max as usize).map_err(illegal)
}

fn illegal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(ResponseCode::MESSAGE_ILLEGAL, error.to_string())
}

/// Properties that ask for a delay, or belong to one, begin with this.
const TIMER_PREFIX: &str = "TIMER_";
/// What a sender may say in a message's sysFlag: how its body is compressed. The rest says what the broker did.
const SENDERS_FLAGS: i32 = sys_flag::COMPRESSED | sys_flag::COMPRESSION;

/// What a send's properties say to the broker.
#[derive(Default)]
struct Noteworthy<'a> {
    /// What the client calls the message.
    unique_key: Option<&'a str>,
    /// It was consumed by POP before, and carries what that needs.
    was_popped: bool,
}

/// Goes through the properties once. What this release cannot keep its word about is refused; taken as a plain
/// message it would do harm.
fn look_through(properties: &[u8], flags: i32) -> Result<Noteworthy<'_>, Refusal> {
    if flags & sys_flag::TRANSACTION != 0 {
        return Err(transactional());
    }
    let mut found = Noteworthy::default();
    for (name, value) in Properties::new(properties).iter() {
        match name {
            properties::UNIQ_KEY => found.unique_key = Some(value),
            properties::POP_CK => found.was_popped = true,
            properties::TRAN_MSG if value.eq_ignore_ascii_case("true") => return Err(transactional()),
            properties::DELAY if value.parse::<i32>().map_or(true, |level| level > 0) => {
                return Err(illegal(
                    "this release does not delay messages: leave the delay level (DELAY) out",
                ));
            }
            _ if name.starts_with(TIMER_PREFIX) => {
                return Err(illegal(format_args!("this release does not delay messages: leave {name} out")));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn transactional() -> Refusal {
    Refusal::new(ResponseCode::NO_PERMISSION, "this release does not take transactional messages")
}

/// The queue a message goes to: the one asked for, or any.
fn pick(broker: &Broker, config: &TopicConfig, asked: i32) -> Result<u32, Refusal> {
    let Ok(queue) = u32::try_from(asked) else {
        return Ok(broker.any() % config.write_queues.max(1));
    };
    let count = config.write_queues.max(config.read_queues);
    if queue < count {
        return Ok(queue);
    }
    let remark = format!("request queueId[{asked}] is illegal, the topic has {count} queues");
    Err(Refusal::new(ResponseCode::INVALID_PARAMETER, remark))
}

/// The configuration that a topic gets which is created by a send to it.
fn template(broker: &Broker, catalog: &Catalog, send: &SendRequest<'_>) -> Result<TopicConfig, Refusal> {
    let topic = send.topic;
    let unknown = |why: &str| {
        let remark = format!("topic[{topic}] not exist, {why}");
        Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark))
    };
    if let Some(group) = topic.strip_prefix(names::RETRY_PREFIX) {
        if catalog.groups.get(group).is_none() {
            let remark = format!("subscription group not exist, {group}");
            return Err(Refusal::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, remark));
        }
        return Ok(TopicConfig::with_queues(1));
    }
    if !broker.policy.auto_create_topics {
        return unknown("and topics are not created automatically here; create it first");
    }
    let Some(default) = catalog.topics.get(send.default_topic) else {
        return unknown("nor does the default topic that it would be made after; apply first please");
    };
    if !default.perm.allows(Perm::INHERIT) {
        return unknown("and no topic may be made after the default topic of the request");
    }
    let wanted = u32::try_from(send.default_topic_queue_nums).unwrap_or(0);
    let queues = wanted.clamp(1, default.write_queues.max(1));
    Ok(TopicConfig { perm: default.perm.without(Perm::INHERIT), ..TopicConfig::with_queues(queues) })
}

/// Makes the topic of a send; the send is looked at again once the folds know it.
fn create(broker: &Broker, send: &SendRequest<'_>) -> Handled {
    let mut refusal = None;
    let changed = broker.change(|catalog| {
        if catalog.topics.get(send.topic).is_some() {
            return Vec::new();
        }
        match template(broker, catalog, send) {
            Ok(config) => vec![ControlRecord::of(&TopicPut { topic: send.topic.to_owned(), config })],
            Err(error) => {
                refusal = Some(error);
                Vec::new()
            }
        }
    });
    match (changed, refusal) {
        (_, Some(refusal)) => Err(refusal),
        (Ok(end), None) => Ok(Done::After(end.unwrap_or(broker.applied.get()))),
        (Err(error), None) => unchanged(&error),
    }
}

/// Properties without those of one name.
fn without(properties: Properties<'_>, name: &str) -> Vec<u8> {
    let mut kept = Vec::new();
    for (known, value) in properties.iter().filter(|(known, _)| *known != name) {
        properties::write(known, value, &mut kept);
    }
    kept
}
