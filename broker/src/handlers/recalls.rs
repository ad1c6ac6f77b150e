//! Recalling what waits for its time: 370.
//!
//! ```text
//!  recall ──► reader thread: unique key ──► places in the log ──► those that wait ──► engine ──► answer, once durable
//! ```
//!
//! No table of what waits is kept for this: the message is found by its unique key and its due time, each in the index
//! that every message is in. Only where both name the same place the log is read. Whether it has fired is the engine's
//! word, under its lock.

use std::collections::BTreeSet;

use skylark_index::{Timer, TimerKey, key_hash};
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::recall::{Recall, RecallHandle, Recalled};
use skylark_protocol::message::{StoredMessage, properties};
use skylark_protocol::outgoing::Value;
use skylark_storage::record::RECORD_HEADER_BYTES;
use skylark_storage::{AppendError, PhysicalOffset, ReadError};

use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request};
use crate::delay;
use crate::folds::kinds;
use crate::handlers::caught_up;
use crate::system;
use crate::timers::RecallError;

/// Messages whose key has one hash, of which the index is asked for the due time: the newest ones.
const CANDIDATES_MAX: usize = 16_384;
/// Of these, so many on either side of those that are due when the handle says are read for the sake of a producer's own
/// retries.
const RETRIES_MAX: usize = 16;
/// What an answer takes.
const ANSWER_BYTES: u64 = 512;

/// 370: a message that waits for its time is not to be delivered. Asked again, the answer is the same.
pub fn recall(broker: &Broker, request: &Request<'_, '_>, _answers: &mut Answers<'_>) -> Handled {
    let asked = Recall::decode(request.header)?;
    if !broker.policy.recall_messages {
        return Err(Refusal::new(ResponseCode::NO_PERMISSION, "recall failed, operation is forbidden"));
    }
    if broker.catalog.read().topics.get(asked.topic).is_none() {
        let remark = format!("recall failed, the topic[{}] not exist", asked.topic);
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    }
    let handle = RecallHandle::parse(asked.handle).map_err(|error| illegal(error.to_string()))?;
    if handle.topic != asked.topic {
        return Err(illegal("recall failed, topic not match"));
    }
    if handle.broker != broker.identity.broker {
        return Err(illegal("recall failed, broker service not available"));
    }
    if handle.behind_due_ms <= broker.clock.wall_ms() {
        return Err(illegal("recall failed, timestamp invalid: the time has passed"));
    }
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let reply = request.reply;
    broker.readers.prepare(request.connection, reply, ANSWER_BYTES, move |broker| {
        let end = withdraw(broker, &handle)?;
        let RecallHandle { message_id, .. } = handle;
        Ok(move |_: &Broker, answers: &mut Answers<'_>| {
            answers.when_durable(end, reply, |out| {
                let recalled = Recalled { message_id: &message_id };
                let mut fields = recalled.fields();
                fields.push(("MSG_REGION", Value::Text(system::REGION)));
                reply.success(out, &fields);
            })
        })
    })
}

/// Finds what the handle names and recalls it. Says behind which record it is recalled. Blocks.
///
/// A producer that got no answer has sent the message once more, with the same key: then both are recalled, if the
/// handle names one of them.
fn withdraw(broker: &Broker, handle: &RecallHandle<'_>) -> Result<PhysicalOffset, Refusal> {
    // Taken before the look: what is indexed meanwhile may be seen, and is not to be relied on.
    let seen = broker.applied.get();
    let due_ms = handle.behind_due_ms - 1;
    let Found { timers: waiting, is_trimmed } = find(broker, handle, due_ms)?;
    let gone = || illegal("recall failed, no such message waits: it was delivered, or never was one");
    if !waiting.iter().any(|timer| timer.key.due == due_ms) {
        // Where it was: the copy that came before the trim was not indexed when we looked.
        let moved =
            || Refusal::new(ResponseCode::SYSTEM_BUSY, format!("recall failed, {}", RecallError::Moving));
        return Err(if is_trimmed { moved() } else { gone() });
    }
    match broker.timers.recall(broker, &waiting, seen, handle) {
        Ok(Some(end)) => Ok(end),
        Ok(None) => Err(gone()),
        Err(error) => {
            let code = match error {
                RecallError::TooMany
                | RecallError::Moving
                | RecallError::Append(AppendError::Backpressure { .. }) => ResponseCode::SYSTEM_BUSY,
                RecallError::Append(_) => ResponseCode::SERVICE_NOT_AVAILABLE,
            };
            Err(Refusal::new(code, format!("recall failed, {error}")))
        }
    }
}

/// What the handle may mean.
#[derive(Default)]
struct Found {
    timers: Vec<Timer>,
    /// One of them was trimmed between the look at the index and the one at the log.
    is_trimmed: bool,
}

/// The timers for the handle's topic with its key that are due when it says and still in the log, fired or not, and those
/// close by that have the key and are due at another time. Blocks.
fn find(broker: &Broker, handle: &RecallHandle<'_>, due_ms: u64) -> Result<Found, Refusal> {
    let hash = key_hash(system::TIMER_TOPIC, &handle.message_id);
    let key = |at| TimerKey { due: due_ms, at };
    let mut named = BTreeSet::new();
    let (mut candidates, sealed) = {
        let index = broker.index.read();
        let candidates = index.keys(hash, 0..=u64::MAX, CANDIDATES_MAX);
        named.extend(candidates.iter().map(|found| found.at).filter(|at| index.timer(key(*at)).is_some()));
        (candidates, index.sealed())
    };
    let left = CANDIDATES_MAX - candidates.len();
    let unreadable = |error| broker.unreadable(&error);
    let in_files = sealed.keys(hash, 0..=u64::MAX, left).map_err(unreadable)?;
    for candidate in &in_files {
        if sealed.timer(key(candidate.at)).map_err(unreadable)?.is_some() {
            named.insert(candidate.at);
        }
    }
    let (Some(first), Some(last)) = (named.first(), named.last()) else { return Ok(Found::default()) };
    candidates.extend(in_files);
    let places: BTreeSet<PhysicalOffset> = candidates.iter().map(|candidate| candidate.at).collect();
    let before = places.range(..*first).rev().take(RETRIES_MAX);
    let behind = places
        .range(*first..)
        .take_while(|at| *at <= last)
        .chain(places.range(last.advance(1)..).take(RETRIES_MAX));
    let mut found = Found::default();
    for &at in before.chain(behind) {
        let record = match broker.log.record_at(at) {
            Ok(record) => record,
            Err(error @ ReadError::Io { .. }) => {
                return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, format!("recall failed, {error}")));
            }
            // It was trimmed meanwhile, or nobody will get it anyway.
            Err(_) => {
                found.is_trimmed |= at < broker.log.frontiers().trimmed;
                continue;
            }
        };
        if !kinds::is_message(record.fields.kind) {
            continue;
        }
        let payload = record.payload();
        let Ok((message, _)) = StoredMessage::parse(&payload) else { continue };
        let names = [properties::REAL_TOPIC, properties::UNIQ_KEY, properties::TIMER_OUT_MS];
        let [topic, unique_key, due] = message.properties().pick(names);
        let is_meant = message.topic == system::TIMER_TOPIC
            && topic == Some(&*handle.topic)
            && unique_key == Some(&*handle.message_id);
        if let (true, Some(due)) = (is_meant, due.and_then(delay::due_ms)) {
            let record_bytes = payload.len() + RECORD_HEADER_BYTES;
            let record_bytes = u32::try_from(record_bytes).expect("a record is below 8 MiB");
            found.timers.push(Timer { key: TimerKey { due, at }, record_bytes });
        }
    }
    Ok(found)
}

fn illegal(remark: impl Into<String>) -> Refusal {
    Refusal::new(ResponseCode::ILLEGAL_OPERATION, remark)
}
