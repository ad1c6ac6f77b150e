//! Requests about light queues.

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;

use crate::support::raw::{Answer, send_fields};
use crate::world::World;

pub const SEGMENT_BYTES: u64 = 65_536;

pub fn settings() -> Settings {
    Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        light_queues: Some(true),
        light_queues_max: Some(20),
        ..Settings::default()
    }
}

/// The property by which a message names light queues.
pub fn names(queues: &[&str]) -> String {
    let queues: Vec<String> = queues.iter().map(|queue| format!("%LMQ%{queue}")).collect();
    format!("INNER_MULTI_DISPATCH\u{1}{}\u{2}", queues.join(","))
}

pub fn send(world: &mut World, topic: &str, queue: u32, properties: &str, body: &[u8]) -> Answer {
    world.call(Code::SEND_MESSAGE_V2, &send_fields(topic, queue, properties), body)
}

/// Sends a batch of messages to queue 0, with these properties of the batch, and of each.
pub fn send_batch(world: &mut World, topic: &str, properties: &str, each: &[&str]) -> Answer {
    let mut fields = send_fields(topic, 0, properties);
    fields.last_mut().unwrap().1 = Value::Flag(true);
    let mut batch = Vec::new();
    for properties in each {
        let bytes = 4 + 4 + 4 + 4 + 4 + 1 + 2 + properties.len();
        for number in [bytes, 0, 0, 0, 1] {
            batch.extend(u32::try_from(number).unwrap().to_be_bytes());
        }
        batch.push(b'x');
        batch.extend(u16::try_from(properties.len()).unwrap().to_be_bytes());
        batch.extend_from_slice(properties.as_bytes());
    }
    world.call(Code::SEND_BATCH_MESSAGE, &fields, &batch)
}

/// The bodies in a light queue, whose offsets go on one by one.
pub fn bodies(world: &mut World, queue: &str) -> Vec<String> {
    let pulled = world.pulled(&format!("%LMQ%{queue}"), 0);
    let first = pulled.first().map_or(0, |message| message.queue_offset);
    for (number, message) in pulled.iter().enumerate() {
        assert_eq!(message.queue_offset, first + number as u64, "{queue}");
    }
    pulled.into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect()
}

pub fn delete_topic(world: &mut World, topic: &str) -> Answer {
    world.call(Code::DELETE_TOPIC_IN_BROKER, &[("topic", Value::Text(topic))], b"")
}

pub fn offset(world: &mut World, code: Code, topic: &str) -> u64 {
    world.call(code, &[("topic", Value::Text(topic)), ("queueId", Value::Number(0))], b"").number("offset")
}
