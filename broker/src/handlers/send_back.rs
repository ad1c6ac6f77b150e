//! Messages that could not be consumed: 36. They come back later, or become dead letters.
//!
//! ```text
//!  send_back ──► reader thread reads the original ──► session ──► finish ──► answer, once durable
//! ```
//!
//! Nothing is believed about the offset of the request: a record has to begin there, be a message, and be
//! acknowledged.

use std::net::SocketAddr;

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::send_back::SendBack;
use skylark_protocol::message::properties;
use skylark_protocol::message::record::BODY_BYTES_MAX;
use skylark_protocol::message::{MessageParts, NewMessage, StoredMessage};
use skylark_protocol::outgoing::ReplyTo;
use skylark_storage::{AppendError, OwnedRecord, PhysicalOffset};

use crate::append::{append, append_delayed};
use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request, refused};
use crate::delay;
use crate::folds::kinds;
use crate::folds::topics::{Perm, TopicConfig};
use crate::handlers::send::target::{self, Sought, Target};
use crate::names;
use crate::system;

/// The level of a first retry, 10 seconds by RocketMQ's table; each further one is a level higher.
const FIRST_LEVEL: i32 = 3;
/// In a topic's bits: units subscribe to it.
const UNIT_SUBSCRIPTION: i32 = 2;

/// A message on its way back, and what was asked for it.
struct SentBack {
    reply: ReplyTo,
    group: String,
    delay_level: i32,
    unit_mode: bool,
    /// How often it is tried at most, if that was asked for.
    times_max: Option<i32>,
    original: OwnedRecord,
}

/// Lets a reader fetch the message that comes back.
pub fn send_back(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = SendBack::decode(request.header)?;
    if let Some(why) = broker.archive.refusal() {
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, &*why));
    }
    match seek(broker, asked.group, asked.unit_mode)? {
        Way::Nowhere => return answers.success(request.reply, &[]),
        Way::Made(handled) => return handled,
        Way::To(_) => {}
    }
    let (reply, at) = (request.reply, PhysicalOffset::new(asked.physical_offset));
    let (group, delay_level, unit_mode) = (asked.group.to_owned(), asked.delay_level, asked.unit_mode);
    let times_max = asked.max_reconsume_times.filter(|_| request.header.version >= SendBack::LIMIT_SINCE);
    // Nobody knows how large the original is before it was read.
    let bytes = BODY_BYTES_MAX as u64;
    broker.readers.prepare(request.connection, reply, bytes, move |broker| {
        let original = original(broker, at)?;
        let sent_back = SentBack { reply, group, delay_level, unit_mode, times_max, original };
        Ok(move |broker: &Broker, answers: &mut Answers<'_>| finish(broker, &sent_back, answers))
    })
}

/// The message whose record begins at exactly this position. Blocks.
fn original(broker: &Broker, at: PhysicalOffset) -> Result<OwnedRecord, Refusal> {
    let failed = |why: &dyn std::fmt::Display| {
        Refusal::new(ResponseCode::SYSTEM_ERROR, format!("look message by offset failed, {at}: {why}"))
    };
    let record = broker.log.record_at(at).map_err(|error| failed(&error))?;
    if record.fields.kind != kinds::MESSAGE {
        return Err(failed(&"the record there is no message"));
    }
    Ok(record)
}

/// Stores the message where it comes back, or among the group's dead letters.
fn finish(broker: &Broker, sent_back: &SentBack, answers: &mut Answers<'_>) -> Handled {
    let SentBack { reply, ref group, unit_mode, .. } = *sent_back;
    let (target, times_max) = match seek(broker, group, unit_mode)? {
        Way::Nowhere => return answers.success(reply, &[]),
        Way::Made(handled) => return handled,
        Way::To(retry) => (retry.target, sent_back.times_max.unwrap_or(retry.times_max)),
    };
    let payload = sent_back.original.payload();
    let (original, _) = StoredMessage::parse(&payload)
        .map_err(|error| Refusal::new(ResponseCode::SYSTEM_ERROR, format!("no message: {error}")))?;
    let is_dead = original.reconsume_times >= times_max || sent_back.delay_level < 0;
    let (topic, target, level) = if is_dead {
        match target::dead_letters(broker, group) {
            Sought::Found(target) => (names::dlq_topic(group), target, 0),
            Sought::Made(handled) => return handled,
        }
    } else {
        let level = match sent_back.delay_level {
            0 => original.reconsume_times.saturating_add(FIRST_LEVEL),
            level => level,
        };
        (names::retry_topic(group), target, level)
    };
    let end = match store(broker, &original, &topic, target, level)? {
        Ok(end) => end,
        Err(error) => return refused(&error),
    };
    let first_topic = original.properties().get(properties::RETRY_TOPIC).unwrap_or(original.topic);
    broker.statistics.sent_back(first_topic, group);
    answers.when_durable(end, reply, |out| reply.success(out, &[]))
}

/// Where a group's messages go back to.
enum Way {
    /// It wants none back.
    Nowhere,
    /// The topic is missing, and is being made.
    Made(Handled),
    /// Here.
    To(Retry),
}

struct Retry {
    target: Target,
    times_max: i32,
}

fn seek(broker: &Broker, group: &str, unit_mode: bool) -> Result<Way, Refusal> {
    let catalog = broker.catalog.read();
    let config = catalog.groups.get(group).ok_or_else(|| target::no_group(group))?;
    let (retry_queues, times_max) = (config.retry_queues, config.retry_times_max);
    if retry_queues == 0 {
        return Ok(Way::Nowhere);
    }
    let topic = names::retry_topic(group);
    let Some((config, queues)) = catalog.topic(&topic) else {
        drop(catalog);
        let sys_flag = if unit_mode { UNIT_SUBSCRIPTION } else { 0 };
        let config = TopicConfig { sys_flag, ..TopicConfig::with_queues(retry_queues) };
        return Ok(Way::Made(target::create(broker, &topic, |_| Ok(config))));
    };
    if !config.perm.allows(Perm::WRITE) {
        let remark = format!("the topic[{topic}] sending message is forbidden");
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark));
    }
    // The topic may have been made with another number of queues than the group is configured with.
    let count = u32::try_from(queues.len()).unwrap_or(u32::MAX).clamp(1, retry_queues);
    let queue_id = broker.any() % count;
    Ok(Way::To(Retry { target: target::target(config, queues, queue_id), times_max }))
}

/// Appends the message anew, as RocketMQ does: what the broker keeps of earlier deliveries lies in its properties.
fn store(
    broker: &Broker,
    original: &StoredMessage<'_>,
    topic: &str,
    target: Target,
    level: i32,
) -> Result<Result<PhysicalOffset, AppendError>, Refusal> {
    let id = original.offset_message_id().text();
    let level_text = level.to_string();
    let known = original.properties();
    let put = [
        (properties::RETRY_TOPIC, known.get(properties::RETRY_TOPIC).unwrap_or(original.topic)),
        (properties::ORIGIN_MESSAGE_ID, known.get(properties::ORIGIN_MESSAGE_ID).unwrap_or(id.as_str())),
        (properties::WAIT, "false"),
        (properties::DELAY, &*level_text),
    ];
    let properties = properties::rewrite(original.properties, &[], &put);
    let message = NewMessage {
        topic,
        queue_id: target.queue_id,
        flag: original.flag,
        sys_flag: original.sys_flag,
        born_timestamp: original.born_timestamp,
        born_host: original.born_host,
        store_host: SocketAddr::V4(broker.identity.store_host),
        reconsume_times: original.reconsume_times.saturating_add(1),
        prepared_transaction_offset: 0,
        body: original.body,
        properties: &properties,
        added_properties: &[],
    };
    let delayed = delay::delay(broker, topic, target.queue_id, level, &properties)?;
    let stored = match &delayed {
        None => append(broker, target.queue, topic, &encode(&message)?),
        Some(delayed) => {
            let waiting = NewMessage {
                topic: system::SCHEDULE_TOPIC,
                queue_id: delayed.queue_id,
                properties: &delayed.properties,
                ..message
            };
            append_delayed(broker, delayed.queue, &encode(&waiting)?)
        }
    };
    Ok(stored.map(|stored| stored.end))
}

fn encode<'a>(message: &NewMessage<'a>) -> Result<MessageParts<'a>, Refusal> {
    // It was taken with this body, whatever the limit has become since.
    let parts = message.parts(BODY_BYTES_MAX);
    parts.map_err(|error| Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()))
}
