//! What a pop is answered.

use bytes::Bytes;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::pop::{ORDERLY, PoppedInfo, Receipt};
use skylark_protocol::message::record::BODY_BYTES_MAX;
use skylark_protocol::message::{NewMessage, StoredMessage, properties};
use skylark_protocol::outgoing::Value;
use skylark_protocol::transport::Outbox;

use crate::append;
use crate::broker::Broker;

use super::attempt::{Found, Given};
use super::{Kind, NotParked, Pop, number};

/// The revive queue of all receipts but those of messages in order: there are none here.
const REVIVE_QUEUE: i32 = 0;

/// Answers with what was found.
pub(super) fn found(broker: &Broker, pop: &Pop, found: &Found, out: &mut Outbox) {
    if pop.kind == Kind::Notification {
        return notify(pop, true, false, out);
    }
    let mut info = PoppedInfo::default();
    let mut messages = Vec::new();
    for given in &found.queues {
        let offsets: Vec<u64> = given.messages.iter().map(|(offset, ..)| *offset).collect();
        info.queue(given.is_retry.into(), given.number, &offsets);
        if pop.attempt.is_some() {
            let counts: Vec<(u64, u32)> =
                given.messages.iter().map(|(offset, _, count)| (*offset, *count)).collect();
            info.order_count(given.number, &counts);
        }
        messages.extend(given.messages.iter().map(|(offset, message, _)| match given.is_retry {
            true => as_original(broker, pop, found, given, *offset, message),
            false => message.clone(),
        }));
    }
    let mut fields = fields(pop, found.popped_at, found.rest);
    fields.extend([
        ("startOffsetInfo", Value::Text(&info.start_offsets)),
        ("msgOffsetInfo", Value::Text(&info.offsets)),
    ]);
    if pop.attempt.is_some() {
        fields.push(("orderCountInfo", Value::Text(&info.order_counts)));
    }
    let bytes: usize = messages.iter().map(Bytes::len).sum();
    pop.tally.got(broker, messages.len() as u64, bytes as u64, found.waited);
    pop.reply.write(out.buffer(), ResponseCode::SUCCESS, Some("FOUND"), &fields, bytes);
    if !pop.reply.oneway {
        messages.into_iter().for_each(|message| out.push(message));
    }
    if pop.kind == Kind::Pop && found.rest > 0 {
        broker.pops.polling.wake_next(&pop.key());
    }
}

/// Answers that there is nothing.
pub(super) fn nothing(broker: &Broker, not_parked: &NotParked, out: &mut Outbox) {
    let NotParked { pop, is_full } = not_parked;
    let code = match pop.kind {
        Kind::Notification => return notify(pop, false, *is_full, out),
        Kind::Peek => ResponseCode::PULL_NOT_FOUND,
        Kind::Pop if *is_full => ResponseCode::POLLING_FULL,
        Kind::Pop => ResponseCode::POLLING_TIMEOUT,
    };
    broker.statistics.got_nothing();
    let fields = fields(pop, broker.clock.wall_ms(), 0);
    pop.reply.write(out.buffer(), code, Some("NO_MESSAGE_IN_QUEUE"), &fields, 0);
}

fn notify(pop: &Pop, has_message: bool, is_full: bool, out: &mut Outbox) {
    let fields = [("hasMsg", Value::Flag(has_message)), ("pollingFull", Value::Flag(is_full))];
    pop.reply.success(out.buffer(), &fields);
}

fn fields(pop: &Pop, popped_at: u64, rest: u64) -> Vec<(&'static str, Value<'static>)> {
    vec![
        ("popTime", number(popped_at)),
        ("invisibleTime", number(pop.invisible_ms)),
        ("reviveQid", Value::Number(revive_queue(pop).into())),
        ("restNum", number(rest)),
    ]
}

fn revive_queue(pop: &Pop) -> i32 {
    if pop.attempt.is_some() { ORDERLY } else { REVIVE_QUEUE }
}

/// A message of the retry topic under its original topic's name, with the receipt that the client could not make up from
/// that. Where there is no room for it the message goes out as it is: clients tell by the topic's name, too.
fn as_original(
    broker: &Broker,
    pop: &Pop,
    found: &Found,
    given: &Given,
    queue_offset: u64,
    stored: &Bytes,
) -> Bytes {
    let Ok((message, _)) = StoredMessage::parse(stored) else { return stored.clone() };
    let receipt = Receipt {
        start_offset: given.messages.first().map_or(queue_offset, |(first, ..)| *first),
        popped_at: found.popped_at,
        invisible_ms: pop.invisible_ms,
        revive_queue_id: revive_queue(pop),
        retry: 1,
        broker_name: &broker.identity.broker,
        queue_id: given.number,
        queue_offset,
    };
    let properties =
        properties::rewrite(message.properties, &[], &[(properties::POP_CK, &receipt.to_string())]);
    let renamed = NewMessage {
        topic: &pop.topic,
        store_host: message.store_host,
        prepared_transaction_offset: message.prepared_transaction_offset,
        properties: &properties,
        ..append::once_more(broker, &message)
    };
    let parts = renamed.parts(BODY_BYTES_MAX);
    let written = parts
        .map(|parts| parts.to_vec(message.queue_offset, message.physical_offset, message.store_timestamp));
    written.map_or_else(|_| stored.clone(), Bytes::from)
}
