//! Finding messages: 33 by place, 12 by key.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use skylark_index::key_hash;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::query::{QueryMessage, QueryResponse, ViewMessage};
use skylark_protocol::message::StoredMessage;
use skylark_storage::PhysicalOffset;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request};
use crate::folds::kinds;
use crate::handlers::caught_up;

/// Messages in an answer, at most, and as many as a unique key is asked for. RocketMQ's own numbers.
const MESSAGES_MAX: usize = 64;
const UNIQUE_MAX: usize = 32;
/// Messages looked at because their keys share a hash with the one asked for.
const CANDIDATES_MAX: usize = 4096;
/// Bytes in an answer beyond which no message is added.
const ANSWER_BYTES: u64 = 4 << 20;
/// How long older and older segments are searched: the tools wait six seconds.
const SEARCH_MAX: Duration = Duration::from_secs(5);

/// 33: the message at a place of the log.
pub fn view(broker: &Broker, request: &Request<'_, '_>, _answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    // To RocketMQ a place that cannot be is one where nothing lies.
    let asked = ViewMessage::decode(request.header)
        .map_err(|error| Refusal::new(ResponseCode::SYSTEM_ERROR, error.to_string()))?;
    let at = PhysicalOffset::new(asked.physical_offset);
    let reply = request.reply;
    let bytes = u64::from(broker.policy.message_bytes_max);
    broker.readers.submit(request.connection, reply, bytes, move |broker, out| {
        let message = message_at(broker, at)?;
        reply.respond(out, ResponseCode::SUCCESS, None, &[], message);
        Ok(())
    })
}

/// The message whose record begins exactly at a place that a client named, as it is stored. Blocks.
///
/// # Errors
/// When no record begins there, it is none of a message, it is not acknowledged, or its topic's life is over.
pub fn message_at(broker: &Broker, at: PhysicalOffset) -> Result<Bytes, Refusal> {
    let none = |why: &dyn std::fmt::Display| {
        Refusal::new(ResponseCode::SYSTEM_ERROR, format!("can not find message by the offset, {at}: {why}"))
    };
    let record = broker.log.record_at(at).map_err(|error| none(&error))?;
    if !kinds::is_message(record.fields.kind) {
        return Err(none(&"there is a record of the broker's own"));
    }
    let payload = record.payload();
    let (message, _) = StoredMessage::parse(&payload).map_err(|error| none(&error))?;
    if !is_there(broker, &message) {
        return Err(none(&"its topic was deleted"));
    }
    Ok(payload)
}

/// Whether a message can still be consumed, or at least could before its queue was trimmed.
fn is_there(broker: &Broker, message: &StoredMessage<'_>) -> bool {
    let catalog = broker.catalog.read();
    let queues = catalog.queues(message.topic).unwrap_or_default();
    let queue = queues.get(message.queue_id as usize);
    queue.is_some_and(|queue| broker.index.read().range(*queue).contains(&message.queue_offset))
}

/// 12: messages by one of their keys, or by their unique one.
pub fn query(broker: &Broker, request: &Request<'_, '_>, _answers: &mut Answers<'_>) -> Handled {
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let asked = QueryMessage::decode(request.header)?;
    let time = |ms: i64| u64::try_from(ms).unwrap_or(0);
    let max = usize::try_from(asked.max_messages).unwrap_or(0).clamp(1, MESSAGES_MAX);
    let wanted = Wanted {
        topic: asked.topic.to_owned(),
        key: asked.key.to_owned(),
        times: (time(asked.begin_timestamp), time(asked.end_timestamp)),
        messages_max: if asked.unique { UNIQUE_MAX } else { max },
    };
    let reply = request.reply;
    broker.readers.submit(request.connection, reply, ANSWER_BYTES, move |broker, out| {
        let messages = wanted.find(broker)?;
        if messages.is_empty() {
            let remark = "can not find message, maybe time range not correct";
            return Err(Refusal::new(ResponseCode::QUERY_NOT_FOUND, remark));
        }
        let indexed = QueryResponse {
            index_last_timestamp: broker.clock.wall_ms(),
            index_last_physical_offset: broker.applied.get().get(),
        };
        let bytes = messages.iter().map(Bytes::len).sum();
        reply.write(out.buffer(), ResponseCode::SUCCESS, None, &indexed.fields(), bytes);
        if !reply.oneway {
            messages.into_iter().for_each(|message| out.push(message));
        }
        Ok(())
    })
}

/// Messages that are looked for.
struct Wanted {
    topic: String,
    key: String,
    /// First and last time of storing, in milliseconds since 1970.
    times: (u64, u64),
    messages_max: usize,
}

impl Wanted {
    /// The newest ones, in the order in which they were stored. Blocks.
    fn find(&self, broker: &Broker) -> Result<Vec<Bytes>, Refusal> {
        let hash = key_hash(&self.topic, &self.key);
        let times = self.times.0..=self.times.1;
        let began = broker.clock.monotonic();
        let (mut candidates_max, mut known) = (self.messages_max, BTreeSet::new());
        let mut found: Vec<(PhysicalOffset, Bytes)> = Vec::new();
        let mut bytes = 0;
        loop {
            let (mut candidates, sealed) = {
                let index = broker.index.read();
                (index.keys(hash, times.clone(), candidates_max), index.sealed())
            };
            if candidates.len() < candidates_max {
                let goes_on = || broker.clock.monotonic().saturating_sub(began) < SEARCH_MAX;
                let wanted = candidates_max - candidates.len();
                let older = sealed.keys_while(hash, times.clone(), wanted, goes_on);
                candidates.extend(older.map_err(|error| broker.unreadable(&error))?);
            }
            let all = candidates.len() < candidates_max;
            for candidate in candidates {
                if !known.insert(candidate.at) {
                    continue;
                }
                // What was trimmed meanwhile is not there.
                let Ok(message) = message_at(broker, candidate.at) else { continue };
                if self.is_meant(&message) {
                    bytes += message.len() as u64;
                    found.push((candidate.at, message));
                }
                if found.len() == self.messages_max || bytes >= ANSWER_BYTES {
                    return Ok(in_order(found));
                }
            }
            if all || candidates_max >= CANDIDATES_MAX {
                return Ok(in_order(found));
            }
            // Some only share the hash.
            candidates_max *= 2;
        }
    }

    fn is_meant(&self, message: &[u8]) -> bool {
        StoredMessage::parse(message).is_ok_and(|(message, _)| {
            message.topic == self.topic && message.properties().index_keys().any(|key| key == self.key)
        })
    }
}

fn in_order(mut found: Vec<(PhysicalOffset, Bytes)>) -> Vec<Bytes> {
    found.sort_unstable_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, message)| message).collect()
}
