//! A producer that sends again, moved by hand.

use skylark_broker::suppression::ATTRIBUTE;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::message::OffsetMessageId;
use skylark_protocol::outgoing::Value;

use crate::support::raw::{Answer, send_fields};
use crate::world::World;

/// The topic that asks for suppression.
pub const TOPIC: &str = "unique";
/// One that does not.
pub const OTHER: &str = "plain";

/// What a producer is told about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub physical_offset: u64,
    pub queue: u64,
    pub queue_offset: u64,
}

impl Told {
    pub fn of(answer: &Answer) -> Self {
        assert_eq!(answer.code, 0, "{}", answer.remark);
        let id: OffsetMessageId = answer.fields["msgId"].parse().unwrap();
        Self {
            physical_offset: id.physical_offset,
            queue: answer.number("queueId"),
            queue_offset: answer.number("queueOffset"),
        }
    }
}

/// What makes a topic ask for suppression.
pub fn suppressing() -> String {
    format!("+{ATTRIBUTE}=suppress")
}

/// Both topics.
pub fn topics(world: &mut World) {
    assert_eq!(world.put_topic(TOPIC, 4, &suppressing()).code, 0);
    assert_eq!(world.put_topic(OTHER, 4, "").code, 0);
}

/// The property by which a client calls a message.
pub fn key(key: &str) -> String {
    format!("UNIQ_KEY\u{1}{key}\u{2}WAIT\u{1}true\u{2}")
}

/// Sends a message, and says what is answered.
pub fn answer(world: &mut World, topic: &str, queue: u32, properties: &str, body: &[u8]) -> Answer {
    world.call(Code::SEND_MESSAGE_V2, &send_fields(topic, queue, properties), body)
}

/// Sends a message with this key, and says where it lies.
pub fn send(world: &mut World, topic: &str, queue: u32, name: &str, body: &[u8]) -> Told {
    Told::of(&answer(world, topic, queue, &key(name), body))
}

/// The bodies in the first four queues of a topic, sorted.
pub fn stored(world: &mut World, topic: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    for queue in 0..4 {
        let pulled = world.pulled(topic, queue);
        bodies.extend(pulled.into_iter().map(|message| String::from_utf8(message.body).unwrap()));
    }
    bodies.sort_unstable();
    bodies
}

/// The body of a batch of messages, each with its properties and body.
pub fn batch(messages: &[(String, &[u8])]) -> Vec<u8> {
    let mut batch = Vec::new();
    for (properties, body) in messages {
        let bytes = 4 + 4 + 4 + 4 + 4 + body.len() + 2 + properties.len();
        for number in [bytes, 0, 0, 0, body.len()] {
            batch.extend(u32::try_from(number).unwrap().to_be_bytes());
        }
        batch.extend_from_slice(body);
        batch.extend(u16::try_from(properties.len()).unwrap().to_be_bytes());
        batch.extend_from_slice(properties.as_bytes());
    }
    batch
}

/// Sends a batch; says where its messages lie, and what else is answered.
pub fn send_batch(world: &mut World, queue: u32, messages: &[(String, &[u8])]) -> (Vec<u64>, Answer) {
    let mut fields = send_fields(TOPIC, queue, "");
    fields.last_mut().unwrap().1 = Value::Flag(true);
    let answer = world.call(Code::SEND_BATCH_MESSAGE, &fields, &batch(messages));
    assert_eq!(answer.code, 0, "{}", answer.remark);
    let ids = answer.fields["msgId"].split(',');
    let offsets = ids.map(|id| id.parse::<OffsetMessageId>().unwrap().physical_offset).collect();
    (offsets, answer)
}
