//! Messages that could not be consumed: 36. They come back later, or become dead letters.
//!
//! ```text
//!  send_back ──► reader thread reads the original ──► session ──► finish ──► answer, once durable
//! ```
//!
//! How long one waits: as the consumer says, by a delay level; if it leaves that to the broker, as the group's retry policy
//! says, to the millisecond; and if there is none, by the third delay level the first time and one higher each time.
//! RocketMQ's broker knows the last two steps only; there the policy counts for clients of the proxy.
//!
//! Nothing is believed about the offset of the request: a record has to begin there, be a message, and be
//! acknowledged.

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::send_back::SendBack;
use skylark_protocol::message::properties;
use skylark_protocol::message::record::BODY_BYTES_MAX;
use skylark_protocol::message::{MessageParts, NewMessage, StoredMessage};
use skylark_protocol::outgoing::ReplyTo;
use skylark_storage::{AppendError, OwnedRecord, PhysicalOffset};

use crate::append::{append, append_delayed, once_more};
use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request, refused};
use crate::delay::{self, Asked};
use crate::folds::groups::RetryPolicy;
use crate::folds::kinds;
use crate::folds::topics::{Perm, TopicConfig};
use crate::handlers::message_at;
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
        let original = message_at(broker, at)?;
        let sent_back = SentBack { reply, group, delay_level, unit_mode, times_max, original };
        Ok(move |broker: &Broker, answers: &mut Answers<'_>| finish(broker, &sent_back, answers))
    })
}

/// Stores the message where it comes back, or among the group's dead letters.
fn finish(broker: &Broker, sent_back: &SentBack, answers: &mut Answers<'_>) -> Handled {
    let SentBack { reply, ref group, unit_mode, .. } = *sent_back;
    let retry = match seek(broker, group, unit_mode)? {
        Way::Nowhere => return answers.success(reply, &[]),
        Way::Made(handled) => return handled,
        Way::To(retry) => retry,
    };
    let times_max = sent_back.times_max.unwrap_or(retry.times_max);
    let payload = sent_back.original.payload();
    let (original, _) = StoredMessage::parse(&payload)
        .map_err(|error| Refusal::new(ResponseCode::SYSTEM_ERROR, format!("no message: {error}")))?;
    if system::holds_for_others(original.topic) {
        let remark = format!("a message of {} waits: nobody can have consumed it", original.topic);
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, remark));
    }
    let is_dead = original.reconsume_times >= times_max || sent_back.delay_level < 0;
    let (topic, target, pause) = if is_dead {
        match target::dead_letters(broker, group) {
            Sought::Found(target) => (names::dlq_topic(group), target, Pause::Level(0)),
            Sought::Made(handled) => return handled,
        }
    } else {
        let times = original.reconsume_times;
        let pause = match (sent_back.delay_level, retry.policy.delay_ms(times)) {
            (0, Some(delay_ms)) => Pause::Exactly { delay_ms },
            (0, None) => Pause::Level(times.saturating_add(FIRST_LEVEL)),
            (level, _) => Pause::Level(level),
        };
        (names::retry_topic(group), retry.target, pause)
    };
    let end = match store(broker, &original, &topic, target, pause)? {
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
    policy: RetryPolicy,
}

/// How long a message waits before it is tried again.
#[derive(Clone, Copy)]
enum Pause {
    /// As those of a delay level; not at all below 1.
    Level(i32),
    /// As its group's retry policy says.
    Exactly { delay_ms: u64 },
}

fn seek(broker: &Broker, group: &str, unit_mode: bool) -> Result<Way, Refusal> {
    let catalog = broker.catalog.read();
    let config = catalog.groups.get(group).ok_or_else(|| target::no_group(group))?;
    let (retry_queues, times_max) = (config.retry_queues, config.retry_times_max);
    let policy = config.retry_policy.clone();
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
    Ok(Way::To(Retry { target: target::target(config, queues, queue_id), times_max, policy }))
}

/// Appends the message anew, as RocketMQ does: what the broker keeps of earlier deliveries lies in its properties.
fn store(
    broker: &Broker,
    original: &StoredMessage<'_>,
    topic: &str,
    target: Target,
    pause: Pause,
) -> Result<Result<PhysicalOffset, AppendError>, Refusal> {
    let id = original.offset_message_id().text();
    let level = match pause {
        Pause::Level(level) => level,
        Pause::Exactly { .. } => 0,
    };
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
        properties: &properties,
        reconsume_times: original.reconsume_times.saturating_add(1),
        ..once_more(broker, original)
    };
    // Of what the message asked for when it was sent, nothing counts any more.
    let asked = match pause {
        Pause::Level(level) => Asked::level(level),
        Pause::Exactly { delay_ms } => Asked::exactly(delay_ms),
    };
    let place = (topic, target.queue_id);
    let delayed = delay::delay(broker, place, &asked.of_taken(), &properties, &[])?;
    let stored = match &delayed {
        None => append(broker, kinds::MESSAGE, target.queue, topic, &encode(&message)?),
        Some(delayed) => {
            let waiting = NewMessage {
                topic: delayed.topic,
                queue_id: delayed.queue_id,
                properties: &delayed.properties,
                added_properties: &delayed.added_properties,
                ..message
            };
            append_delayed(broker, kinds::MESSAGE, delayed.topic, delayed.queue, &encode(&waiting)?)
        }
    };
    Ok(stored.map(|stored| stored.end))
}

fn encode<'a>(message: &NewMessage<'a>) -> Result<MessageParts<'a>, Refusal> {
    // It was taken with this body, whatever the limit has become since.
    let parts = message.parts(BODY_BYTES_MAX);
    parts.map_err(|error| Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()))
}
