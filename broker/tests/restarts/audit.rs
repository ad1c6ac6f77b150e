//! Everything that the log says there is can be pulled, and nothing else.

use std::collections::BTreeMap;
use std::ops::Range;

use skylark_broker::config::Settings;
use skylark_broker::folds::kinds;
use skylark_broker::system;
use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;

use crate::support::raw::{Answer, pull_fields, send_fields};
use crate::world::{Pulled, World};

pub const SEGMENT_BYTES: u64 = 65_536;

/// Small segments, so that they are finished, sealed and trimmed all the time.
pub fn settings() -> Settings {
    Settings { segment_bytes: Some(SEGMENT_BYTES), ..Settings::default() }
}

/// Sends to a queue, and says where the message came to stand there.
pub fn send(world: &mut World, topic: &str, queue: u32, body: &[u8]) -> u64 {
    let answer = world.call(RequestCode::SEND_MESSAGE_V2, &send_fields(topic, queue, ""), body);
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.number("queueOffset")
}

/// Sends until the log has gone on by so many segments. What is sent differs by `salt`.
pub fn fill(world: &mut World, topic: &str, segments: u64, salt: u8) {
    let end = world.end().get() + segments * SEGMENT_BYTES;
    let mut sent = 0_usize;
    while world.end().get() < end {
        let body = vec![salt; 100 + sent * 97 % 900];
        let queue = u32::try_from(sent % 3).unwrap();
        world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields(topic, queue, ""), &body);
        sent += 1;
        if sent.is_multiple_of(16) {
            assert!(world.answers().iter().all(|answer| answer.code == 0));
        }
    }
    assert!(world.answers().iter().all(|answer| answer.code == 0));
}

/// A queue's minimum and maximum.
pub fn range(world: &World, topic: &str, queue: u32) -> Range<u64> {
    let index = world.broker().index.read();
    index.range(index.lookup(topic, queue).expect("a queue that held something"))
}

/// Where every queue begins and ends.
pub fn ranges(world: &World) -> BTreeMap<(String, u32), Range<u64>> {
    let index = world.broker().index.read();
    let named = index.queues().map(|queue| {
        let (topic, number) = index.name(queue);
        ((topic.to_owned(), number), index.range(queue))
    });
    named.filter(|(_, range)| range.end > 0).collect()
}

/// A message that the log holds: its place and its body.
type Held = (u64, Vec<u8>);

/// By topic, queue and offset, what the log holds, whatever the index says.
fn held(world: &World) -> BTreeMap<(String, u32), BTreeMap<u64, Held>> {
    let log = &world.broker().log;
    let mut held: BTreeMap<_, BTreeMap<u64, Held>> = BTreeMap::new();
    for group in log.scan(log.frontiers().trimmed) {
        let group = group.expect("the log can be read");
        for (at, record) in group.records() {
            if kinds::is_message(record.header.fields().kind) {
                let (message, _) = StoredMessage::parse(record.payload).unwrap();
                let queue = held.entry((message.topic.to_owned(), message.queue_id)).or_default();
                queue.insert(message.queue_offset, (at.get(), message.body.to_vec()));
            }
        }
    }
    held
}

/// Pulls every queue of every topic from its minimum to its end.
pub fn audit(world: &mut World) {
    let held = held(world);
    for ((topic, queue), range) in ranges(world) {
        let is_readable = world.broker().catalog.read().topics.get(&topic).is_some();
        if !is_readable || system::holds_timers(&topic) {
            continue;
        }
        let mut offset = range.start;
        while offset < range.end {
            for message in pull(world, &topic, queue, offset) {
                assert_eq!(message.queue_offset, offset, "queue {queue} of {topic} has a gap");
                let found = (message.physical_offset, message.body);
                assert_eq!(
                    held[&(topic.clone(), queue)][&offset],
                    found,
                    "queue {queue} of {topic} at {offset}"
                );
                offset += 1;
            }
        }
        assert_eq!(offset, range.end);
        let next = held.get(&(topic.clone(), queue)).and_then(|queue| queue.last_key_value());
        assert!(next.is_none_or(|(last, _)| last + 1 == range.end), "queue {queue} of {topic} ends early");
    }
}

/// What a pull gives that must find something.
fn pull(world: &mut World, topic: &str, queue: u32, offset: u64) -> Vec<Pulled> {
    let fields = pull_fields("AUDIT", topic, queue, offset);
    let answer = world.call(RequestCode::PULL_MESSAGE, &fields, &[]);
    assert_eq!(answer.code, 0, "{topic} {queue} {offset}: {answer:?}");
    pulled(&answer)
}

/// The messages of an answer.
pub fn pulled(answer: &Answer) -> Vec<Pulled> {
    StoredMessage::parse_all(&answer.body).map(|message| Pulled::from(&message.unwrap())).collect()
}
