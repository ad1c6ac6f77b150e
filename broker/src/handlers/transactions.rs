//! Transactions: 37 ends one, 323 has one checked anew, 60001 lists those that are open.
//!
//! ```text
//!  37: standing ──► rolled back ─────────────────────────────────────► answer, once durable
//!              └──► half message, from memory or by a reader ──► committed ──► answer, once durable
//! ```
//!
//! Nothing is believed about the offsets of a request: an open half message has to lie there, or have lain there first,
//! under that number, and belong to that producer group.

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::transactions::{
    EndTransaction, ListTransactions, OpenTransaction, OpenTransactions, ResumeCheck,
};
use skylark_protocol::message::properties;
use skylark_protocol::message::record::BODY_BYTES_MAX;
use skylark_protocol::message::{OffsetMessageId, StoredMessage};
use skylark_protocol::outgoing::ReplyTo;
use skylark_storage::PhysicalOffset;
use skylark_storage::record::RECORD_HEADER_BYTES;
use tracing::debug;

use crate::append::Stored;
use crate::broker::Broker;
use crate::context::{Answers, Done, Handled, Refusal, Request, refused};
use crate::folds::halves::{Half, HalvesChecked, OpenHalf};
use crate::handlers::{caught_up, message_at};
use crate::transactions::Standing;
use crate::transactions::message::{self, NotCommitted};

/// Transactions in an answer, at most.
const LISTED_MAX: usize = 1000;
/// Transactions of other groups that are passed over for an answer, at most.
const PASSED_MAX: usize = 100_000;

/// 37: a producer commits or rolls back.
pub fn end(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = EndTransaction::decode(request.header)?;
    let commits = match asked.outcome {
        EndTransaction::COMMIT => true,
        EndTransaction::ROLLBACK => false,
        // The producer does not know: it will be asked. No client waits for an answer.
        _ => return Ok(Done::Answered),
    };
    // Whoever was told where the half message lies may end its transaction.
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let half = match sought(broker, &asked)? {
        Found::Open(half) => half,
        Found::Later => return Ok(later(broker)),
    };
    if !commits {
        return match message::roll_back(broker, half.at) {
            Ok(Some(end)) => answers.when_durable(end, request.reply, |out| request.reply.success(out, &[])),
            Ok(None) => Err(gone()),
            Err(error) => refused(&error),
        };
    }
    if let Some(why) = broker.archive.refusal() {
        return Err(Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, &*why));
    }
    let reply = request.reply;
    match broker.log.read_hot(half.at, half.half.record_bytes) {
        // It has not been on the disk since it was appended, and needs no second look.
        Some(record) => commit(broker, reply, &half, &record[RECORD_HEADER_BYTES..], answers),
        None => {
            let at = half.at;
            broker.readers.prepare(request.connection, reply, half.half.record_bytes.into(), move |broker| {
                let payload = broker.record_at(at)?;
                Ok(move |broker: &Broker, answers: &mut Answers<'_>| {
                    // It may have ended, or been carried forward, while it was read.
                    match broker.transactions.standing(at).0 {
                        Standing::Open(half) => commit(broker, reply, &half, &payload, answers),
                        Standing::Moving => Ok(later(broker)),
                        Standing::Gone => Err(gone()),
                    }
                })
            })
        }
    }
}

fn commit(
    broker: &Broker,
    reply: ReplyTo,
    half: &OpenHalf,
    payload: &[u8],
    answers: &mut Answers<'_>,
) -> Handled {
    match message::commit(broker, half, payload) {
        Ok(end) => {
            answers.sent.push_back((end, broker.clock.monotonic()));
            answers.when_durable(end, reply, |out| reply.success(out, &[]))
        }
        Err(NotCommitted::Append(error)) => refused(&error),
        Err(NotCommitted::Refused(refusal)) => {
            debug!(at = half.at.get(), remark = refusal.remark, "a transaction is not committed");
            Err(refusal)
        }
        Err(NotCommitted::Gone) => Err(gone()),
    }
}

enum Found {
    Open(OpenHalf),
    Later,
}

/// The transaction that a request is about, if its producer may end it.
fn sought(broker: &Broker, asked: &EndTransaction<'_>) -> Result<Found, Refusal> {
    let place = PhysicalOffset::new(asked.physical_offset);
    let (half, group) = match broker.transactions.standing(place) {
        (Standing::Open(half), group) => (half, group),
        (Standing::Moving, _) => return Ok(Found::Later),
        (Standing::Gone, _) => return Err(gone()),
    };
    if group != asked.producer_group {
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "The producer group wrong"));
    }
    if !half.is_called(place, asked.queue_offset) {
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, "The transaction state table offset wrong"));
    }
    if !asked.from_check && is_too_late(broker, &half.half) {
        let remark = "the time in which the producer could say so unasked is over: it will be asked";
        return Err(Refusal::new(ResponseCode::ILLEGAL_OPERATION, remark));
    }
    Ok(Found::Open(half))
}

/// Whether a producer that set a time of its own is only heard when it is asked.
fn is_too_late(broker: &Broker, half: &Half) -> bool {
    let immunity_ms = u64::from(half.immunity_s) * 1000;
    let over_ms = half.since_ms.saturating_add(immunity_ms);
    half.immunity_s > 0 && (half.checks > 0 || broker.clock.wall_ms() > over_ms)
}

fn gone() -> Refusal {
    Refusal::new(ResponseCode::SYSTEM_ERROR, "Find prepared transaction message failed")
}

/// A copy is on its way into the log, and nothing can be said before it is applied.
fn later(broker: &Broker) -> Done {
    Done::After(broker.applied.get().advance(1))
}

/// 323: the count of a transaction's checks begins again; one that was given up is opened again, as a new one.
pub fn resume_check(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = ResumeCheck::decode(request.header)?;
    let no_id =
        |_| Refusal::new(ResponseCode::SYSTEM_ERROR, format!("{} is no message id", asked.message_id));
    let id: OffsetMessageId = asked.message_id.parse().map_err(no_id)?;
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let (reply, at) = (request.reply, PhysicalOffset::new(id.physical_offset));
    match broker.transactions.standing(at).0 {
        Standing::Open(half) => {
            let checked = vec![(half.at.get(), 0)];
            match broker.append_one(&HalvesChecked { checked }) {
                Ok(end) => answers.when_applied(end, reply, |out| reply.success(out, &[])),
                Err(error) => refused(&error),
            }
        }
        Standing::Moving => Ok(later(broker)),
        // Nobody knows how large the message is before it was read.
        Standing::Gone => {
            broker.readers.prepare(request.connection, reply, BODY_BYTES_MAX as u64, move |broker| {
                let record = message_at(broker, at)?;
                Ok(move |broker: &Broker, answers: &mut Answers<'_>| {
                    match message::reopen(broker, &record.payload())? {
                        Ok(Stored { end, .. }) => {
                            answers.when_durable(end, reply, |out| reply.success(out, &[]))
                        }
                        Err(error) => refused(&error),
                    }
                })
            })
        }
    }
}

/// 60001: what is open, for operators.
pub fn list(broker: &Broker, request: &Request<'_, '_>) -> Handled {
    let asked = ListTransactions::decode(request.header)?;
    if let Some(wait) = caught_up(broker) {
        return Ok(wait);
    }
    let from = PhysicalOffset::new(asked.from);
    let limit = usize::try_from(asked.limit).unwrap_or(0).clamp(1, LISTED_MAX);
    let only = asked.producer_group.filter(|group| !group.is_empty());
    let mut listed: Vec<(OpenHalf, String)> = Vec::new();
    let (mut next, open) = (None, broker.transactions.count());
    {
        let folded = broker.transactions.folded();
        // One that was carried forward is found by where it lay first.
        let from = folded.find(from).map_or(from, |half| half.at);
        for (passed, half) in folded.from(from).enumerate() {
            if listed.len() == limit || passed == PASSED_MAX {
                next = Some(half.at.get());
                break;
            }
            let group = folded.group(&half.half);
            if only.is_none_or(|only| only == group) {
                listed.push((half, group.to_owned()));
            }
        }
    }
    let reply = request.reply;
    let bytes = listed.iter().map(|(half, _)| u64::from(half.half.record_bytes)).max().unwrap_or(0);
    broker.readers.submit(request.connection, reply, bytes, move |broker, out| {
        let transactions = listed.into_iter().map(|(half, group)| listed_as(broker, &half, group)).collect();
        let open = i64::try_from(open).unwrap_or(i64::MAX);
        let body = OpenTransactions { open, transactions, next }.encode();
        reply.respond(out, ResponseCode::SUCCESS, None, &[], body.into());
        Ok(())
    })
}

/// An open transaction as operators see it. Blocks. Of a half message that cannot be read, only its place is told.
fn listed_as(broker: &Broker, half: &OpenHalf, producer_group: String) -> OpenTransaction {
    let origin = half.origin.get();
    let store_host = broker.identity.store_host.into();
    let known = OpenTransaction {
        message_id: OffsetMessageId { store_host, physical_offset: origin }.to_string(),
        physical_offset: origin,
        queue_offset: half.half.queue_offset,
        producer_group,
        checks: half.half.checks,
        ..OpenTransaction::default()
    };
    let Ok(payload) = broker.record_at(half.at) else { return known };
    let Ok((message, _)) = StoredMessage::parse(&payload) else { return known };
    let said = message.properties();
    let text = |name| said.get(name).unwrap_or_default().to_owned();
    OpenTransaction {
        transaction_id: text(properties::UNIQ_KEY),
        topic: text(properties::REAL_TOPIC),
        born_timestamp: message.born_timestamp,
        ..known
    }
}
