//! Batches: messages that take their places together.

use std::fmt::Write as _;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use skylark_protocol::command::send::SendRequest;
use skylark_protocol::message::batch::inner_messages;
use skylark_protocol::message::properties::{self, Properties};
use skylark_protocol::message::{MessageParts, MessageRefused, NewMessage, OffsetMessageId};
use skylark_storage::{AppendError, Kind, NewRecord, PhysicalOffset};

use super::target::Target;
use super::{NO_DELAYED_BATCH, Names, encode, illegal, look_through, may_be_unique, not_stored, respond};
use crate::append::{Stamped, Stored, stamp};
use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request};
use crate::folds::duplicates::Fingerprint;
use crate::folds::kinds;
use crate::names;
use crate::suppression::Accepted;

/// A message of a batch.
struct Inner<'a> {
    parts: MessageParts<'a>,
    /// What tells it from others, if it is not to be stored again.
    fingerprint: Option<Fingerprint>,
}

/// Where a message of a batch lies.
#[derive(Clone, Copy)]
enum Place {
    /// Where one was put that was sent before.
    Known(Accepted),
    /// Where this message of the unit is put.
    Appended(usize),
}

/// Stores the messages of a batch as one unit, but for those that were sent before, and answers once all are durable.
pub(super) fn store(
    broker: &Broker,
    request: &Request<'_, '_>,
    answers: &mut Answers<'_>,
    outer: NewMessage<'_>,
    send: &SendRequest<'_>,
    target: Target,
) -> Handled {
    let inner = parse(broker, &outer, send, target)?;
    let fingerprints: Vec<_> = inner.iter().map(|inner| inner.fingerprint).collect();
    let mut known = broker.suppression.batch(&fingerprints);
    let mut places: Vec<Place> = Vec::with_capacity(inner.len());
    let mut unit: Vec<usize> = Vec::with_capacity(inner.len());
    let mut here: HashMap<Fingerprint, usize, RandomState> = HashMap::default();
    for (number, Inner { fingerprint, .. }) in inner.iter().enumerate() {
        let first = fingerprint.and_then(|fingerprint| known.find(broker, fingerprint, outer.topic));
        // The same message may be in the batch twice.
        let same = || Some(Place::Appended(*here.get(fingerprint.as_ref()?)?));
        places.push(first.map(Place::Known).or_else(same).unwrap_or_else(|| {
            here.extend(fingerprint.map(|fingerprint| (fingerprint, unit.len())));
            unit.push(number);
            Place::Appended(unit.len() - 1)
        }));
    }
    let appended = match append(broker, &inner, &unit, target) {
        Ok(appended) => appended,
        Err(error) => return not_stored(broker, &error),
    };
    let mut end = PhysicalOffset::ZERO;
    if let Some((stamps, unit_end)) = &appended {
        end = *unit_end;
        answers.sent.push_back((end, broker.clock.monotonic()));
        let bytes = unit.iter().map(|number| inner[*number].parts.len() as u64).sum();
        broker.statistics.put(outer.topic, stamps.len() as u64, bytes);
        for (number, stamped) in unit.iter().zip(stamps) {
            if let Some(fingerprint) = fingerprints[*number] {
                let stored = Stored { stamped: *stamped, end };
                let accepted =
                    Accepted { stored, queue_id: outer.queue_id, due_ms: None, is_repeated: false };
                known.push(fingerprint, &accepted);
            }
        }
    }
    known.count((inner.len() - unit.len()) as u64);
    drop(known);
    let stamps = appended.map(|(stamps, _)| stamps).unwrap_or_default();
    let mut ids = String::with_capacity(33 * places.len());
    let mut first = None;
    for place in &places {
        let (stamped, queue_id) = match *place {
            Place::Known(Accepted { stored, queue_id, .. }) => {
                end = end.max(stored.end);
                (stored.stamped, queue_id)
            }
            Place::Appended(number) => (stamps[number], outer.queue_id),
        };
        first.get_or_insert((stamped.queue_offset, queue_id));
        let id = OffsetMessageId { store_host: outer.store_host, physical_offset: stamped.physical_offset };
        let separator = if ids.is_empty() { "" } else { "," };
        write!(ids, "{separator}{id}").expect("writing to memory does not fail");
    }
    let (queue_offset, queue_id) = first.expect("a batch has messages");
    let names = Names { message_id: &ids, unique_key: None, recall_handle: None };
    answers.when_durable(end, request.reply, |out| {
        respond(request, out, &names, queue_id, queue_offset);
    })
}

/// The messages of a batch, ready to be appended.
fn parse<'a>(
    broker: &Broker,
    outer: &NewMessage<'a>,
    send: &SendRequest<'a>,
    target: Target,
) -> Result<Vec<Inner<'a>>, Refusal> {
    let is_unique = target.unique && may_be_unique(outer);
    let found = look_through(properties::in_text(send.properties), send)?;
    if found.asked.is_to_wait() {
        return Err(illegal(NO_DELAYED_BATCH));
    }
    if found.is_half {
        return Err(illegal("a batch cannot be part of a transaction; send its messages one by one"));
    }
    if found.light.is_some() {
        return Err(illegal("a batch cannot be for light queues; send its messages one by one"));
    }
    if outer.topic.starts_with(names::RETRY_PREFIX) {
        return Err(illegal("a batch cannot be sent to a retry topic; send its messages one by one"));
    }
    let too_large = outer.body.len() > broker.policy.message_bytes_max as usize;
    if too_large {
        let (body_bytes, body_bytes_max) = (outer.body.len(), broker.policy.message_bytes_max as usize);
        return Err(illegal(MessageRefused::BodyTooLarge { body_bytes, body_bytes_max }));
    }
    let mut parsed = Vec::new();
    for inner in inner_messages(outer.body) {
        let inner = inner.map_err(illegal)?;
        // RocketMQ reads a delay level from the batch alone; one of an inner message is a property like others. A time
        // is refused there too: whoever sets it takes it for kept.
        let found = look_through(Properties::new(inner.properties).iter(), send)?;
        if found.asked.is_for_a_time() {
            return Err(illegal(NO_DELAYED_BATCH));
        }
        if found.is_half {
            return Err(illegal("a message of a batch cannot be part of a transaction; send it alone"));
        }
        if found.light.is_some() {
            return Err(illegal("a message of a batch cannot be for light queues; send it alone"));
        }
        target.check(outer.topic, found.message_type())?;
        let message =
            NewMessage { flag: inner.flag, body: inner.body, properties: inner.properties, ..*outer };
        let parts = encode(broker, &message)?;
        let key = found.unique_key.filter(|_| is_unique);
        let fingerprint = key.map(|key| broker.suppression.fingerprint(outer.topic, key, &parts));
        parsed.push(Inner { parts, fingerprint });
    }
    if parsed.is_empty() {
        return Err(illegal(MessageRefused::EmptyBody));
    }
    Ok(parsed)
}

/// Appends these messages of a batch, if there are any; says what places they took, and where they end.
fn append(
    broker: &Broker,
    inner: &[Inner<'_>],
    unit: &[usize],
    target: Target,
) -> Result<Option<(Vec<Stamped>, PhysicalOffset)>, AppendError> {
    if unit.is_empty() {
        return Ok(None);
    }
    let rests: Vec<_> = unit.iter().map(|number| inner[*number].parts.rest()).collect();
    let kind = |inner: &Inner<'_>| -> Kind {
        if inner.fingerprint.is_some() { kinds::UNIQUE_MESSAGE } else { kinds::MESSAGE }
    };
    let records = unit.iter().map(|number| &inner[*number]).zip(&rests);
    let records: Vec<_> = records
        .map(|(inner, rest)| NewRecord { kind: kind(inner), head: inner.parts.head(), rest })
        .collect();
    let mut stamps = Vec::with_capacity(records.len());
    let appended = broker
        .log
        .append(&records, |state, place, head| stamps.push(stamp(state, target.queue, &place, head)))?;
    Ok(Some((stamps, appended.end)))
}
