//! Popping messages: the broker decides who gets what, and gives out again what nobody acknowledges.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::header::FieldError;
use crate::json::{self, lenient};

pub use receipt::{ORDERLY, Receipt};

mod receipt;

header_fields! {
    /// A request for messages of a topic: code 200050.
    PopMessage<'a> {
        /// Who consumes.
        consumer_group: &'a str = "consumerGroup",
        /// The topic; never the one of its retries.
        topic: &'a str = "topic",
        /// The queue; all of them if negative.
        queue_id: i32 = "queueId",
        /// Most messages wanted.
        max_messages: i32 = "maxMsgNums",
        /// For how many milliseconds nobody else gets them.
        invisible_ms: i64 = "invisibleTime",
        /// For how many milliseconds the request may be held, from `born_at` on.
        poll_ms: i64 = "pollTime",
        /// When the client made it, in milliseconds of its clock; 0 or nothing if it does not say.
        born_at: Option<i64> = "bornTime",
        /// Where a group begins that is new: 0 at the first message, 1 at the last.
        init_mode: i32 = "initMode",
        /// `TAG`, `SQL92`, or nothing for tags.
        expression_type: Option<&'a str> = "expType",
        /// The expression; nothing for all messages.
        expression: Option<&'a str> = "exp",
        /// Whether a queue's messages are consumed in order.
        order: bool = "order",
        /// Names one attempt to receive, so that it can be repeated.
        attempt_id: Option<&'a str> = "attemptId",
        /// The broker's name.
        broker_name: Option<&'a str> = "bname",
    }
}

header_fields! {
    /// A message was consumed: code 200051.
    AckMessage<'a> {
        /// Who consumed it.
        consumer_group: &'a str = "consumerGroup",
        /// The topic it was read from, which may be one of retries.
        topic: &'a str = "topic",
        /// Its queue.
        queue_id: i32 = "queueId",
        /// Its [`Receipt`].
        extra_info: &'a str = "extraInfo",
        /// Its ordinal.
        offset: i64 = "offset",
    }
}

header_fields! {
    /// A message is to stay invisible until so long from now: code 200053, answered with
    /// [`InvisibleTimeChanged`].
    ChangeInvisibleTime<'a> {
        /// Who consumes it.
        consumer_group: &'a str = "consumerGroup",
        /// The topic it was read from, which may be one of retries.
        topic: &'a str = "topic",
        /// Its queue.
        queue_id: i32 = "queueId",
        /// Its [`Receipt`].
        extra_info: &'a str = "extraInfo",
        /// Its ordinal.
        offset: i64 = "offset",
        /// For how many milliseconds.
        invisible_ms: i64 = "invisibleTime",
    }
}

header_fields! {
    /// What the message's next receipt consists of.
    InvisibleTimeChanged {
        /// When it was popped, as it were.
        popped_at: i64 = "popTime",
        /// For how many milliseconds it is invisible from then on.
        invisible_ms: i64 = "invisibleTime",
        /// As in the receipt before.
        revive_queue_id: i32 = "reviveQid",
    }
}

header_fields! {
    /// Which messages a pop would give: code 200052.
    PeekMessage<'a> {
        /// Who asks.
        consumer_group: &'a str = "consumerGroup",
        /// The topic.
        topic: &'a str = "topic",
        /// The queue; all of them if negative.
        queue_id: i32 = "queueId",
        /// Most messages wanted.
        max_messages: i32 = "maxMsgNums",
    }
}

header_fields! {
    /// Says once a pop would find something: code 200054. Answered with `hasMsg` and `pollingFull`.
    Notification<'a> {
        /// Who asks.
        consumer_group: &'a str = "consumerGroup",
        /// The topic.
        topic: &'a str = "topic",
        /// The queue; all of them if negative.
        queue_id: i32 = "queueId",
        /// For how many milliseconds the request may be held, from `born_at` on.
        poll_ms: i64 = "pollTime",
        /// When the client made it, in milliseconds of its clock.
        born_at: i64 = "bornTime",
        /// Whether the messages are consumed in order.
        order: bool = "order",
        /// See [`PopMessage::attempt_id`].
        attempt_id: Option<&'a str> = "attemptId",
    }
}

header_fields! {
    /// How many pops wait: code 200055. Answered with `pollingNum`.
    PollingInfo<'a> {
        /// The group.
        consumer_group: &'a str = "consumerGroup",
        /// The topic.
        topic: &'a str = "topic",
        /// The queue; a negative one stands for those that wait for any.
        queue_id: i32 = "queueId",
    }
}

/// Acknowledges messages of several pops: the body of code 200151.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BatchAckMessage {
    /// The broker's name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub broker_name: String,
    /// By pop and queue.
    #[serde(deserialize_with = "lenient::or_default")]
    pub acks: Vec<BatchAck>,
}

/// Acknowledges messages that were popped together from a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BatchAck {
    /// Who consumed them.
    #[serde(rename = "c", alias = "consumerGroup", deserialize_with = "lenient::or_default")]
    pub consumer_group: String,
    /// The topic that was popped.
    #[serde(rename = "t", alias = "topic", deserialize_with = "lenient::or_default")]
    pub topic: String,
    /// `0` if they were read from there, else from its retries.
    #[serde(rename = "r", alias = "retry", deserialize_with = "lenient::or_default")]
    pub retry: String,
    /// Ordinal of the first that was popped.
    #[serde(rename = "so", alias = "startOffset", deserialize_with = "lenient::integer")]
    pub start_offset: i64,
    /// Their queue.
    #[serde(rename = "q", alias = "queueId", deserialize_with = "lenient::integer")]
    pub queue_id: i32,
    /// As in their receipts.
    #[serde(rename = "rq", alias = "reviveQueueId", deserialize_with = "lenient::integer")]
    pub revive_queue_id: i32,
    /// When they were popped.
    #[serde(rename = "pt", alias = "popTime", deserialize_with = "lenient::integer")]
    pub popped_at: i64,
    /// For how long they were invisible.
    #[serde(rename = "it", alias = "invisibleTime", deserialize_with = "lenient::integer")]
    pub invisible_ms: i64,
    /// Which ones: bit `i`, counted from the lowest of the first byte, stands for `start_offset + i`. In Base64.
    #[serde(rename = "b", alias = "bitSet", deserialize_with = "lenient::or_default")]
    pub bits: String,
}

impl BatchAckMessage {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("batch of acknowledgements", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

impl BatchAck {
    /// Which messages it names. What is no Base64 names none.
    pub fn named(&self) -> Bits {
        Bits(from_base64(&self.bits).unwrap_or_default())
    }

    /// The text of [`bits`](Self::bits) for messages so far behind the first one.
    pub fn bits_of(behind: impl IntoIterator<Item = u32>) -> String {
        let mut bytes = Vec::new();
        for bit in behind {
            let at = bit as usize / 8;
            if bytes.len() <= at {
                bytes.resize(at + 1, 0);
            }
            bytes[at] |= 1 << (bit % 8);
        }
        to_base64(&bytes)
    }
}

/// Messages, by how far they lie behind the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits(Vec<u8>);

impl Bits {
    /// Whether the message so far behind the first one is among them.
    pub fn contains(&self, behind: u64) -> bool {
        let byte = usize::try_from(behind / 8).ok().and_then(|at| self.0.get(at));
        byte.is_some_and(|byte| byte >> (behind % 8) & 1 == 1)
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut held_bits) = (0_u32, 0);
    for digit in digits {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        held = held << 6 | u32::try_from(value).ok()?;
        held_bits += 6;
        if held_bits >= 8 {
            held_bits -= 8;
            bytes.push(u8::try_from(held >> held_bits & 0xFF).ok()?);
        }
    }
    Some(bytes)
}

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (word >> (18 - 6 * digit) & 0x3F) as usize;
            text.push(if digit <= three.len() { char::from(ALPHABET[value]) } else { '=' });
        }
    }
    text
}

/// The lists of a pop's answer that say which messages of which queue it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoppedInfo {
    /// `startOffsetInfo`: where each queue's messages begin.
    pub start_offsets: String,
    /// `msgOffsetInfo`: the ordinals of each queue's messages.
    pub offsets: String,
    /// `orderCountInfo`: how often messages were popped before, where they are consumed in order.
    pub order_counts: String,
}

impl PoppedInfo {
    /// Adds a queue, which must come once only: the ordinals of its messages, ascending. `retry` is 0 for the topic
    /// itself, 1 for its retries.
    pub fn queue(&mut self, retry: u8, queue_id: u32, offsets: &[u64]) {
        let Some((first, rest)) = offsets.split_first() else { return };
        let separator = if self.offsets.is_empty() { "" } else { ";" };
        let written = write!(self.start_offsets, "{separator}{retry} {queue_id} {first}")
            .and_then(|()| write!(self.offsets, "{separator}{retry} {queue_id} {first}"))
            .and_then(|()| rest.iter().try_for_each(|offset| write!(self.offsets, ",{offset}")));
        written.expect("writing to memory does not fail");
    }

    /// Adds how often messages of a queue were popped before: by ordinal for those that were, and the least of all.
    pub fn order_count(&mut self, queue_id: u32, counts: &[(u64, u32)]) {
        let known = counts.iter().filter(|(_, count)| *count > 0);
        for (offset, count) in known {
            let separator = if self.order_counts.is_empty() { "" } else { ";" };
            let written = write!(self.order_counts, "{separator}0 qo{queue_id}%{offset} {count}");
            written.expect("writing to memory does not fail");
        }
        let least = counts.iter().map(|(_, count)| *count).min().unwrap_or(0);
        let separator = if self.order_counts.is_empty() { "" } else { ";" };
        write!(self.order_counts, "{separator}0 {queue_id} {least}")
            .expect("writing to memory does not fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(ack: &BatchAck) -> Vec<u64> {
        let bits = ack.named();
        (0..64).filter(|behind| bits.contains(*behind)).collect()
    }

    #[test]
    fn a_batch_of_acks_is_read_as_java_writes_it() {
        let body = br#"{"brokerName":"broker-a","acks":[{"c":"G","t":"T","r":"0","so":100,"q":1,"rq":3,"pt":1700000000000,"it":60000,"b":"CQI="}]}"#;
        let acks = BatchAckMessage::decode(body).unwrap();
        let ack = &acks.acks[0];
        assert_eq!((&*ack.consumer_group, &*ack.topic, &*ack.retry), ("G", "T", "0"));
        assert_eq!((ack.queue_id, ack.revive_queue_id, ack.popped_at), (1, 3, 1_700_000_000_000));
        assert_eq!((ack.start_offset, named(ack)), (100, vec![0, 3, 9]));
        assert_eq!(BatchAck::bits_of([0, 3, 9]), "CQI=");
        assert_eq!(BatchAckMessage::decode(&acks.encode()).unwrap(), acks);
        let long = br#"{"acks":[{"consumerGroup":"G","topic":"T","startOffset":"5","bitSet":"AQ=="}]}"#;
        let long = BatchAckMessage::decode(long).unwrap();
        assert_eq!(
            (&*long.acks[0].topic, long.acks[0].start_offset, named(&long.acks[0])),
            ("T", 5, vec![0])
        );
    }

    #[test]
    fn bits_that_are_none_name_nothing() {
        let ack = |bits: &str| BatchAck { bits: bits.to_owned(), ..BatchAck::default() };
        for bits in ["", "=", "A", "*", "CQ I="] {
            assert!(named(&ack(bits)).is_empty(), "{bits}");
        }
        assert!(!ack("CQI=").named().contains(u64::MAX));
        for bits in [vec![0], vec![7, 8], vec![1, 30, 31], (0..32).collect()] {
            let text = BatchAck::bits_of(bits.iter().copied());
            let behind: Vec<u64> = bits.iter().map(|bit| u64::from(*bit)).collect();
            assert_eq!(named(&ack(&text)), behind, "{text}");
        }
    }

    #[test]
    fn an_answer_says_which_messages_it_holds() {
        let mut info = PoppedInfo::default();
        info.queue(0, 2, &[100, 101, 109]);
        info.queue(1, 0, &[7]);
        info.order_count(2, &[(100, 2), (101, 1), (109, 0)]);
        assert_eq!(info.start_offsets, "0 2 100;1 0 7");
        assert_eq!(info.offsets, "0 2 100,101,109;1 0 7");
        assert_eq!(info.order_counts, "0 qo2%100 2;0 qo2%101 1;0 2 0");
    }
}
