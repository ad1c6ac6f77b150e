//! What consumers say about messages that they popped: 200051, 200151 and 200053.
//!
//! Nothing is believed about a receipt: it names a batch of this group in this queue that is in flight, or has no
//! effect.

use std::collections::BTreeMap;

use skylark_protocol::code::ResponseCode;
use skylark_protocol::command::pop::{
    AckMessage, BatchAck, BatchAckMessage, Bits, ChangeInvisibleTime, ORDERLY, Receipt,
};
use skylark_protocol::header::FieldError;

use crate::broker::Broker;
use crate::context::{Answers, Handled, Refusal, Request, refused};
use crate::folds::pops::{BatchKey, PopQueue};
use crate::names;
use crate::pops::Named;

/// Batches that one record is about, at most.
const NAMED_MAX: usize = 1000;

/// 200051: a message was consumed. Answered once that is durable; that it was not in flight any more is no error, because
/// nobody could tell.
pub fn ack(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = AckMessage::decode(request.header)?;
    let receipt = Receipt::parse(asked.extra_info)?;
    let Place { queue, offset } = check(broker, asked.topic, asked.queue_id, asked.offset, true)?;
    let key = match key_of(broker, asked.consumer_group, asked.topic, queue, &receipt) {
        Key::Batch(key) => key,
        Key::Ordered { key, offsets } if offsets.contains(&offset) => key,
        Key::Ordered { .. } => {
            let remark = format!("offset {offset} was not popped by this receipt");
            return Err(Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark));
        }
    };
    let is_named = |other| other == offset;
    let named = [Named { topic: asked.topic, queue, key, is_named: &is_named }];
    let reply = request.reply;
    match broker.pops.settle(broker, asked.consumer_group, &named, None) {
        Ok(used) => answers.when_durable(used.end, reply, |out| reply.success(out, &[])),
        Err(error) => refused(&error),
    }
}

/// 200151: messages of several pops were consumed. Those that are not in flight are passed over.
pub fn batch(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let acks = BatchAckMessage::decode(request.body)?.acks;
    if acks.is_empty() {
        return Err(Refusal::new(ResponseCode::NO_MESSAGE, "the batch acknowledges nothing"));
    }
    let mut groups: BTreeMap<&str, Vec<Acked>> = BTreeMap::new();
    for ack in &acks {
        if let Some(acked) = Acked::new(broker, ack) {
            groups.entry(&ack.consumer_group).or_default().push(acked);
        }
    }
    let reply = request.reply;
    let mut end = broker.pops.live().end();
    for (group, acked) in &groups {
        for acked in acked.chunks(NAMED_MAX) {
            let tests: Vec<_> = acked.iter().map(|acked| |offset| acked.names(offset)).collect();
            let named = acked.iter().zip(&tests);
            let named: Vec<Named<'_>> = named
                .map(|(acked, is_named)| Named {
                    topic: &acked.topic,
                    queue: acked.queue,
                    key: acked.key,
                    is_named,
                })
                .collect();
            match broker.pops.settle(broker, group, &named, None) {
                Ok(used) => end = end.max(used.end),
                Err(error) => return refused(&error),
            }
        }
    }
    answers.when_durable(end, reply, |out| reply.success(out, &[]))
}

/// 200053: a message is to stay invisible until so long from now, under another receipt.
pub fn prolong(broker: &Broker, request: &Request<'_, '_>, answers: &mut Answers<'_>) -> Handled {
    let asked = ChangeInvisibleTime::decode(request.header)?;
    let receipt = Receipt::parse(asked.extra_info)?;
    let invisible_ms = u64::try_from(asked.invisible_ms).map_err(|_| {
        FieldError::invalid("invisibleTime", "a number from 0 on", &asked.invisible_ms.to_string())
    })?;
    let Place { queue, offset } = check(broker, asked.topic, asked.queue_id, asked.offset, false)?;
    let (key, is_ordered) = match key_of(broker, asked.consumer_group, asked.topic, queue, &receipt) {
        Key::Batch(key) => (key, false),
        Key::Ordered { key, .. } => (key, true),
    };
    let is_named = |other| other == offset;
    let named = [Named { topic: asked.topic, queue, key, is_named: &is_named }];
    let used = match broker.pops.settle(broker, asked.consumer_group, &named, Some(invisible_ms)) {
        Ok(used) => used,
        Err(error) => return refused(&error),
    };
    if used.messages == 0 {
        // RocketMQ would make it invisible once more, although it may be another consumer's by now.
        let remark =
            "the receipt does not exist any more: the message was acknowledged, or its time was over";
        return Err(Refusal::new(ResponseCode::NO_MESSAGE, remark));
    }
    // In order the batch keeps its time, and the answer counts from that.
    let (popped_at, invisible_ms) = match is_ordered {
        true => (key.popped_at, used.at_ms.saturating_add(invisible_ms).saturating_sub(key.popped_at)),
        false => (used.at_ms, invisible_ms),
    };
    let reply = request.reply;
    answers.when_durable(used.end, reply, |out| {
        let fields = [
            ("popTime", popped_at.into()),
            ("invisibleTime", invisible_ms.into()),
            ("reviveQid", receipt.revive_queue_id.into()),
        ];
        reply.success(out, &fields);
    })
}

/// Where a message lies that a receipt is about.
struct Place {
    queue: u32,
    offset: u64,
}

/// The checks of a receipt's place. RocketMQ takes the offset behind the last message too, but not to prolong it.
fn check(broker: &Broker, topic: &str, queue_id: i32, offset: i64, with_end: bool) -> Result<Place, Refusal> {
    let catalog = broker.catalog.read();
    let Some((config, queues)) = catalog.topic(topic) else {
        let remark = format!("topic[{topic}] not exist, apply first please!");
        return Err(Refusal::new(ResponseCode::TOPIC_NOT_EXIST, remark));
    };
    let queue = u32::try_from(queue_id).ok().filter(|queue| *queue < config.read_queues);
    let found = queue.and_then(|queue| Some((queue, *queues.get(queue as usize)?)));
    let (queue, id) = found.ok_or_else(|| {
        let remark = format!(
            "queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{}]",
            config.read_queues
        );
        Refusal::new(ResponseCode::MESSAGE_ILLEGAL, remark)
    })?;
    drop(catalog);
    let range = broker.index.read().range(id);
    let is_there = |offset: &u64| range.contains(offset) || with_end && *offset == range.end;
    let offset = u64::try_from(offset).ok().filter(is_there).ok_or_else(|| {
        let remark = format!(
            "offset is illegal, key:{topic}@{queue}, commit:{offset}, store:{}~{}",
            range.start, range.end
        );
        Refusal::new(ResponseCode::NO_MESSAGE, remark)
    })?;
    Ok(Place { queue, offset })
}

/// The batch that a receipt names.
enum Key {
    Batch(BatchKey),
    /// One that is consumed in order, and what was popped in it. There is one at a time, known by its time alone.
    Ordered {
        key: BatchKey,
        offsets: Vec<u64>,
    },
}

fn key_of(broker: &Broker, group: &str, topic: &str, queue: u32, receipt: &Receipt<'_>) -> Key {
    let key = BatchKey { start: receipt.start_offset, popped_at: receipt.popped_at };
    let ordered =
        receipt.is_orderly().then(|| ordered(broker, group, topic, queue, receipt.popped_at)).flatten();
    ordered.unwrap_or(Key::Batch(key))
}

fn ordered(broker: &Broker, group: &str, topic: &str, queue: u32, popped_at: u64) -> Option<Key> {
    let live = broker.pops.live();
    let order = live.queue(group, topic, queue).and_then(PopQueue::order)?;
    let key = order.key();
    (key.popped_at == popped_at).then(|| Key::Ordered { key, offsets: order.offsets().iter().collect() })
}

/// Messages of a batch that one of several receipts acknowledges.
struct Acked {
    topic: String,
    queue: u32,
    key: BatchKey,
    start: u64,
    bits: Bits,
}

impl Acked {
    /// None if it cannot name anything.
    fn new(broker: &Broker, ack: &BatchAck) -> Option<Self> {
        let topic = match &*ack.retry {
            "0" | "" => ack.topic.clone(),
            "1" => names::pop_retry_topic(&ack.consumer_group, &ack.topic),
            _ => return None,
        };
        let start = u64::try_from(ack.start_offset).ok()?;
        let (queue, popped_at) = (u32::try_from(ack.queue_id).ok()?, u64::try_from(ack.popped_at).ok()?);
        let in_order = (ack.revive_queue_id == ORDERLY)
            .then(|| ordered(broker, &ack.consumer_group, &topic, queue, popped_at))
            .flatten();
        let key = match in_order {
            Some(Key::Ordered { key, .. } | Key::Batch(key)) => key,
            None => BatchKey { start, popped_at },
        };
        Some(Self { topic, queue, key, start, bits: ack.named() })
    }

    fn names(&self, offset: u64) -> bool {
        offset.checked_sub(self.start).is_some_and(|behind| self.bits.contains(behind))
    }
}
