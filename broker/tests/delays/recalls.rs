//! Messages that are recalled while they wait: none is delivered, whatever happens in between.

use std::sync::Arc;
use std::time::Duration;

use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_broker::timers::Carried;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::recall::{Recall, RecallHandle};
use skylark_storage::{PhysicalOffset, Step};

use super::times::bodies;
use super::world::{START_MS, World, key, level, timer};
use crate::support::raw::{Answer, send_fields};

const SEGMENT_BYTES: u64 = 65_536;

/// Sends a message that is due after so many milliseconds, and returns its handle.
fn send(world: &mut World, delay_ms: u64, name: &str) -> String {
    let asked = format!("{}{}", timer("TIMER_DELAY_MS", delay_ms), key(name));
    let sent = world.send("t", &asked, name.as_bytes());
    assert_eq!(sent.code, 0, "{sent:?}");
    sent.fields["recallHandle"].clone()
}

fn recall(world: &mut World, topic: &str, handle: &str) -> Answer {
    let asked = Recall { producer_group: Some("PG"), topic, handle };
    world.call(RequestCode::RECALL_MESSAGE, &asked.fields(), &[])
}

fn handle(topic: &str, broker: &str, behind_due_ms: u64, message_id: &str) -> String {
    let (topic, broker, message_id) = (topic.into(), broker.into(), message_id.into());
    RecallHandle { topic, broker, behind_due_ms, message_id }.to_string()
}

fn pending(world: &World) -> u64 {
    world.broker().timers.folded.lock().pending().messages
}

#[test]
fn a_recalled_message_is_never_delivered() {
    let mut world = World::new(1, Settings::default());
    let handles = ["a", "b", "c", "d"].map(|name| send(&mut world, 5000, name));
    for name in ["b", "d"] {
        let at = name.as_bytes()[0] - b'a';
        let answer = recall(&mut world, "t", &handles[usize::from(at)]);
        assert_eq!((answer.code, &*answer.fields["msgId"]), (0, name), "{answer:?}");
    }
    assert_eq!(pending(&world), 2);
    world.crash(true);
    assert_eq!(pending(&world), 2);
    // Whoever got no answer asks again.
    assert_eq!(recall(&mut world, "t", &handles[1]).code, 0);
    assert_eq!(pending(&world), 2);
    assert_eq!(world.advance(5001), Next::Arrival);
    assert_eq!(bodies(&mut world, "t"), ["a", "c"]);
    assert_eq!(world.broker().timers.folded.lock().recalled(), 0, "their time has passed");
    world.crash(false);
    world.advance(1_000_000);
    assert_eq!((bodies(&mut world, "t"), pending(&world)), (vec!["a".to_owned(), "c".to_owned()], 0));
}

#[test]
fn what_cannot_be_recalled_is_answered_as_rocketmq_does() {
    let mut world = World::new(2, Settings::default());
    let fired = send(&mut world, 1000, "fired");
    let waits = send(&mut world, 60_000, "waits");
    world.send("other", "", b"makes the topic");
    world.advance(1002);
    let due_ms = RecallHandle::parse(&waits).unwrap().behind_due_ms;
    for (topic, handle, code, words) in [
        ("t", fired, 604, "timestamp invalid"),
        ("t", "no handle".to_owned(), 604, "recall handle is invalid"),
        ("other", waits.clone(), 604, "topic not match"),
        ("t", handle("t", "broker-b", due_ms, "waits"), 604, "broker service not available"),
        ("t", handle("t", "broker-a", due_ms, "unknown"), 604, "no such message waits"),
        ("t", handle("t", "broker-a", due_ms + 1, "waits"), 604, "no such message waits"),
        ("other", handle("other", "broker-a", due_ms, "waits"), 604, "no such message waits"),
        ("none", handle("none", "broker-a", due_ms, "waits"), 17, "the topic[none] not exist"),
    ] {
        let answer = recall(&mut world, topic, &handle);
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.remark.contains(words), "{answer:?}");
    }
    assert_eq!(pending(&world), 1);
    // One that has fired by a clock that was set back since.
    world.advance(60_000);
    world.clock.set_wall_ms(START_MS);
    let answer = recall(&mut world, "t", &waits);
    assert!(answer.code == 604 && answer.remark.contains("it was delivered"), "{answer:?}");
    assert_eq!(bodies(&mut world, "t"), ["fired", "waits"]);

    let off = Settings { recall_messages: Some(false), ..Settings::default() };
    world.reconfigure(off);
    let sent = world.send("t", &timer("TIMER_DELAY_MS", 1000), b"x");
    assert_eq!((sent.code, sent.fields.get("recallHandle")), (0, None));
    assert_eq!(recall(&mut world, "t", &waits).code, 16);
}

#[test]
fn levels_and_retries_have_no_handle() {
    let mut world = World::new(3, Settings::default());
    world.send("t", "", b"makes the topic");
    assert_eq!(world.send("t", &level(3), b"x").fields.get("recallHandle"), None);
    let asked = format!("{}{}", timer("TIMER_DELAY_MS", 5), key("with blank"));
    assert_eq!(
        world.send("t", &asked, b"x").fields.get("recallHandle"),
        None,
        "it would look like two names"
    );
    let answer = recall(&mut world, "t", &handle("t", "broker-a", START_MS + 6, "with blank"));
    assert_eq!(answer.code, 604);
    let made = world.send("t", &timer("TIMER_DELAY_MS", 5), b"x");
    let named = RecallHandle::parse(&made.fields["recallHandle"]).unwrap();
    assert_eq!(
        named.message_id, made.fields["transactionId"],
        "the broker gives a key where the client gave none"
    );
}

#[test]
fn a_recall_and_a_firing_decide_under_one_lock() {
    let mut world = World::new(4, Settings::default());
    let first = send(&mut world, 1000, "first");
    // The recall is in the log, and the folds do not know of it.
    let asked = Recall { producer_group: None, topic: "t", handle: &first };
    world.submit(RequestCode::RECALL_MESSAGE, &asked.fields(), &[]);
    let broker = Arc::clone(&world.running.broker);
    assert!(broker.readers.step(&broker));
    world.clock.advance(Duration::from_millis(1001));
    assert_eq!(broker.timers.step(&broker), Next::Now);
    assert_eq!(world.answers().iter().map(|answer| answer.code).collect::<Vec<_>>(), [0]);
    world.fire();
    assert_eq!(bodies(&mut world, "t"), Vec::<String>::new());

    // The unit with the message is in the log, and nobody can consume it yet; the clock is set back meanwhile.
    let second = send(&mut world, 1000, "second");
    let now_ms = world.now_ms();
    world.clock.advance(Duration::from_millis(1001));
    assert_eq!(broker.timers.step(&broker), Next::Now);
    world.clock.set_wall_ms(now_ms);
    let asked = Recall { producer_group: None, topic: "t", handle: &second };
    world.submit(RequestCode::RECALL_MESSAGE, &asked.fields(), &[]);
    broker.readers.step(&broker);
    assert_eq!(world.answers().iter().map(|answer| answer.code).collect::<Vec<_>>(), [604]);
    assert_eq!(bodies(&mut world, "t"), ["second"]);
}

#[test]
fn a_recall_that_was_not_durable_was_not_answered() {
    let mut world = World::new(5, Settings::default());
    let handle = send(&mut world, 1000, "x");
    let asked = Recall { producer_group: None, topic: "t", handle: &handle };
    world.submit(RequestCode::RECALL_MESSAGE, &asked.fields(), &[]);
    let broker = Arc::clone(&world.running.broker);
    assert!(broker.readers.step(&broker));
    world.poll();
    assert_eq!(world.written().len(), 0);
    drop(broker);
    world.crash(true);
    world.advance(1001);
    assert_eq!(bodies(&mut world, "t"), ["x"]);
    assert_eq!(world.running.writer.step(), Step::Idle);
}

#[test]
fn a_producers_own_retry_is_recalled_with_the_first() {
    let mut world = World::new(6, Settings::default());
    let first = send(&mut world, 1000, "x");
    world.advance(10);
    let second = send(&mut world, 1000, "x");
    send(&mut world, 1000, "y");
    assert_ne!(first, second);
    assert_eq!((recall(&mut world, "t", &second).code, pending(&world)), (0, 1));
    world.advance(2000);
    assert_eq!(bodies(&mut world, "t"), ["y"]);
}

#[test]
fn trims_carry_what_waits_and_not_what_was_recalled() {
    let settings = Settings { segment_bytes: Some(SEGMENT_BYTES), ..Settings::default() };
    let mut world = World::new(7, settings);
    let handles: Vec<String> =
        (0..200).map(|number| send(&mut world, 3_600_000, &format!("{number:03}"))).collect();
    while world.end().get() < 3 * SEGMENT_BYTES {
        world.send("other", "", &[b'x'; 4000]);
    }
    for handle in handles.iter().step_by(2) {
        assert_eq!(recall(&mut world, "t", handle).code, 0);
    }
    let broker = Arc::clone(&world.running.broker);
    let below = PhysicalOffset::new(2 * SEGMENT_BYTES);
    assert!(matches!(broker.timers.carry_forward(&broker, below), Ok(Carried::Some { .. })));
    // The copies are in the log, and not in the index yet: nobody is told that the message is gone.
    let asked = Recall { producer_group: None, topic: "t", handle: &handles[1] };
    world.submit(RequestCode::RECALL_MESSAGE, &asked.fields(), &[]);
    broker.readers.step(&broker);
    assert_eq!(world.answers().iter().map(|answer| answer.code).collect::<Vec<_>>(), [2]);
    while let Carried::Some { .. } = broker.timers.carry_forward(&broker, below).unwrap() {
        world.settle();
    }
    assert_eq!(pending(&world), 100);
    world.crash(true);
    for handle in handles.iter().skip(1).step_by(4) {
        assert_eq!(recall(&mut world, "t", handle).code, 0, "the copy is found");
    }
    assert_eq!(recall(&mut world, "t", &handles[0]).code, 604, "of the old place nothing is left");
    assert_eq!(pending(&world), 50);
    world.crash(false);
    world.advance(3_600_001);
    let expected: Vec<String> = (3..200).step_by(4).map(|number| format!("{number:03}")).collect();
    let mut delivered = bodies(&mut world, "t");
    delivered.sort();
    assert_eq!(delivered, expected);
}

#[test]
fn one_of_many_messages_with_one_key_is_recalled_alone() {
    // In memory, and in files.
    for segment_bytes in [None, Some(SEGMENT_BYTES)] {
        let mut world = World::new(8, Settings { segment_bytes, ..Settings::default() });
        world.send("t", "", b"makes the topic");
        let oldest = send(&mut world, 1000, "same");
        for number in 0..5000_u64 {
            let asked = format!("{}{}", timer("TIMER_DELAY_MS", 2000 + number), key("same"));
            world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("t", 0, &asked), b"x");
            if number % 50 == 49 {
                world.settle();
            }
        }
        assert!(world.answers().iter().all(|answer| answer.code == 0));
        let waits = pending(&world);
        assert_eq!(recall(&mut world, "t", &oldest).code, 0);
        let recalled = waits - pending(&world);
        assert!(
            (1..=17).contains(&recalled),
            "{recalled}: with the few next to it, which may be its producer's retries"
        );
        world.advance(1500);
        assert_eq!(bodies(&mut world, "t"), ["makes the topic"]);
    }
}

#[test]
fn a_recall_that_finds_the_place_trimmed_is_told_to_try_again() {
    let settings = Settings { segment_bytes: Some(SEGMENT_BYTES), ..Settings::default() };
    let mut world = World::new(9, settings);
    let handle = send(&mut world, 3_600_000, "x");
    while world.end().get() < 2 * SEGMENT_BYTES {
        world.send("other", "", &[b'x'; 4000]);
    }
    let broker = Arc::clone(&world.running.broker);
    let below = PhysicalOffset::new(SEGMENT_BYTES);
    assert!(matches!(broker.timers.carry_forward(&broker, below), Ok(Carried::Some { .. })));
    // As if the copy was indexed, and the log trimmed, behind the recall's look at the index.
    broker.log.trim(below).unwrap();
    let asked = Recall { producer_group: None, topic: "t", handle: &handle };
    world.submit(RequestCode::RECALL_MESSAGE, &asked.fields(), &[]);
    broker.readers.step(&broker);
    assert_eq!(world.answers().iter().map(|answer| answer.code).collect::<Vec<_>>(), [2]);
    assert_eq!(recall(&mut world, "t", &handle).code, 0);
    world.advance(3_600_001);
    assert_eq!(bodies(&mut world, "t"), Vec::<String>::new());
}
