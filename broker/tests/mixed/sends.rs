//! Plain messages, single and in batches: what was acknowledged is where the answer said, each queue holds a producer's
//! messages in the order in which they were sent, and none twice.

use std::collections::BTreeMap;

use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;

use super::client::{Client, Name, Scene, body, property};
use super::logs::{Logs, PLAIN, PLAIN_QUEUES};
use crate::support::raw::{Answer, send_fields};

/// Requests under way.
const WINDOW: usize = 12;
/// Every so many requests one is a batch.
const BATCH_EVERY: u64 = 6;
const BATCH_MESSAGES: u64 = 3;

/// Sends to two queues in turn.
pub struct Sender {
    producer: u32,
    asked: u64,
    /// Messages that were sent, acknowledged or not.
    pub sent: u64,
    /// By request: the queue, the first message, and how many.
    open: BTreeMap<i32, (u32, u64, u64)>,
    /// Acknowledged since the last check: queue, offset and number.
    pub acknowledged: Vec<(u32, u64, u64)>,
    /// The latest of its messages in each queue.
    latest: BTreeMap<u32, u64>,
    promises: usize,
}

/// The tag of a message.
pub fn tag(sequence: u64) -> &'static str {
    ["A", "B", "C"][usize::try_from(sequence % 3).unwrap()]
}

fn properties(sequence: u64) -> String {
    property("TAGS", tag(sequence)) + &property("number", &sequence.to_string())
}

/// A message within a batch.
fn inner(name: Name) -> Vec<u8> {
    let (body, properties) = (body(name), properties(name.1));
    let mut message = Vec::new();
    let bytes = 22 + body.len() + properties.len();
    message.extend(u32::try_from(bytes).unwrap().to_be_bytes());
    message.extend([0; 12]);
    message.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    message.extend(u16::try_from(properties.len()).unwrap().to_be_bytes());
    message.extend(properties.bytes());
    message
}

impl Sender {
    pub fn new(producer: u32) -> Self {
        Self {
            producer,
            asked: 0,
            sent: 0,
            open: BTreeMap::new(),
            acknowledged: Vec::new(),
            latest: BTreeMap::new(),
            promises: 0,
        }
    }
}

impl Client for Sender {
    fn act(&mut self, scene: &mut Scene<'_>) {
        if scene.is_resting || self.open.len() >= WINDOW {
            return;
        }
        let queue = (self.producer + u32::from(self.asked.is_multiple_of(2))) % PLAIN_QUEUES;
        let (first, is_batch) = (self.sent, self.asked % BATCH_EVERY == BATCH_EVERY - 1);
        self.asked += 1;
        let opaque = if is_batch {
            self.sent += BATCH_MESSAGES;
            let messages: Vec<u8> =
                (first..self.sent).flat_map(|number| inner((self.producer, number))).collect();
            let mut fields = send_fields(PLAIN, queue, "");
            fields.retain(|(name, _)| *name != "m");
            fields.push(("m", Value::Flag(true)));
            scene.wire.ask(RequestCode::SEND_BATCH_MESSAGE, &fields, &messages)
        } else {
            self.sent += 1;
            let properties = properties(first);
            let fields = send_fields(PLAIN, queue, &properties);
            scene.wire.ask(RequestCode::SEND_MESSAGE_V2, &fields, &body((self.producer, first)))
        };
        self.open.insert(opaque, (queue, first, self.sent - first));
    }

    fn hear(&mut self, answer: &Answer, _scene: &mut Scene<'_>) {
        let Some((queue, first, count)) = self.open.remove(&answer.opaque) else { return };
        assert_eq!(answer.code, 0, "a healthy broker refuses nothing: {}", answer.remark);
        assert_eq!(answer.number("queueId"), u64::from(queue));
        let offset = answer.number("queueOffset");
        self.acknowledged.extend((0..count).map(|behind| (queue, offset + behind, first + behind)));
        self.promises += usize::try_from(count).unwrap();
    }

    fn lost(&mut self) {
        self.open.clear();
    }

    fn check(&mut self, logs: &Logs) {
        for queue in 0..PLAIN_QUEUES {
            let own = logs.fresh((PLAIN, queue)).iter().filter(|there| there.name.0 == self.producer);
            for (_, sequence) in own.map(|there| there.name) {
                assert!(sequence < self.sent, "queue {queue} holds {sequence}, which was never sent");
                let before = self.latest.insert(queue, sequence);
                assert!(before < Some(sequence), "queue {queue}: {sequence} came behind {before:?}");
            }
        }
        for (queue, offset, sequence) in self.acknowledged.drain(..) {
            let there = logs.at((PLAIN, queue), offset);
            let expected = Some((self.producer, sequence));
            assert_eq!(there, expected, "queue {queue} at {offset}: acknowledged, and not there");
        }
    }

    fn missing(&self, _logs: &Logs) -> Option<String> {
        None
    }

    fn promises(&self) -> usize {
        self.promises
    }
}
