//! When delayed messages are delivered, and what they look like.

use std::collections::BTreeSet;

use skylark_broker::changes::ControlRecord;
use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_broker::folds::topics::{TopicConfig, TopicDeleted, TopicPut};
use skylark_protocol::code::RequestCode;

use super::world::{START_MS, World, level};
use crate::support::raw::send_fields;

const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";

fn bodies(world: &mut World, topic: &str) -> Vec<String> {
    let pulled = world.pulled(topic, 0).into_iter();
    pulled.map(|message| String::from_utf8(message.body).unwrap()).collect()
}

#[test]
fn a_delayed_message_waits_in_the_queue_of_its_level() {
    let mut world = World::new(1, Settings::default());
    let properties = format!("{}TAGS\u{1}A\u{2}REAL_TOPIC\u{1}forged\u{2}UNIQ_KEY\u{1}U\u{2}", level(3));
    let sent = world.call(RequestCode::SEND_MESSAGE_V2, &send_fields("orders", 2, &properties), b"x");
    assert_eq!((sent.code, sent.number("queueId"), sent.number("queueOffset")), (0, 2, 0), "{sent:?}");
    assert_eq!(sent.fields["transactionId"], "U");
    let waiting = world.pulled(SCHEDULE, 2);
    assert_eq!(waiting.len(), 1);
    assert_eq!(sent.fields["msgId"], waiting[0].id, "the answer names the record that waits");
    let properties = |message: &super::world::Pulled, name: &str| message.properties.get(name).cloned();
    let due = (START_MS + 10_001).to_string();
    for (name, value) in
        [("DELAY", "3"), ("REAL_TOPIC", "orders"), ("REAL_QID", "2"), ("TIMER_OUT_MS", &due), ("TAGS", "A")]
    {
        assert_eq!(properties(&waiting[0], name).as_deref(), Some(value), "{name}");
    }

    assert_eq!(world.advance(10_000), Next::Due(START_MS + 10_001));
    assert_eq!(world.pulled("orders", 2).len(), 0);
    assert_eq!(world.advance(1), Next::Arrival);
    let due = world.pulled("orders", 2);
    assert_eq!((due.len(), &*due[0].body, due[0].born_at), (1, &b"x"[..], waiting[0].born_at));
    assert_eq!(due[0].stored_at, START_MS + 10_001);
    for (name, value) in [
        ("DELAY", Some("3")),
        ("REAL_TOPIC", Some("orders")),
        ("REAL_QID", Some("2")),
        ("TIMER_OUT_MS", None),
        ("UNIQ_KEY", Some("U")),
        ("CLUSTER", Some("DefaultCluster")),
    ] {
        assert_eq!(properties(&due[0], name).as_deref(), value, "{name}");
    }
    assert_eq!(world.broker().timers.progress(world.broker()), [(3, 1, 1)]);
    let body = |answer: crate::support::raw::Answer| String::from_utf8(answer.body).unwrap();
    let offsets = body(world.call(RequestCode::GET_ALL_DELAY_OFFSET, &[], &[]));
    assert!(offsets.contains(r#""offsetTable":{3:1}"#), "{offsets}");
    let figures = body(world.call(RequestCode::GET_BROKER_RUNTIME_INFO, &[], &[]));
    assert!(figures.contains(r#""scheduleMessageOffset_3":"1,1""#), "{figures}");
}

#[test]
fn levels_are_those_of_the_configuration() {
    let settings = Settings { delay_levels: Some("1s 1h".to_owned()), ..Settings::default() };
    let mut world = World::new(2, settings);
    for (body, asked) in [("none", 0), ("negative", -3), ("first", 1), ("highest", 99)] {
        assert_eq!(world.send("t", &level(asked), body.as_bytes()).code, 0);
    }
    assert_eq!(bodies(&mut world, "t"), ["none", "negative"]);
    world.advance(1001);
    assert_eq!(bodies(&mut world, "t"), ["none", "negative", "first"]);
    assert_eq!(world.pulled(SCHEDULE, 1)[0].properties["DELAY"], "2");
    world.advance(3_600_001 - 1001);
    assert_eq!(bodies(&mut world, "t"), ["none", "negative", "first", "highest"]);
    assert_eq!(world.send("t", "DELAY\u{1}soon\u{2}", b"x").code, 13);
    let batch = [0, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'x', 0, 0];
    let mut fields = send_fields("t", 0, "");
    fields.retain(|(name, _)| *name != "m");
    fields.push(("m", skylark_protocol::outgoing::Value::Flag(true)));
    assert_eq!(world.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &batch).code, 0);
    let delayed = level(1);
    fields.retain(|(name, _)| *name != "i");
    fields.push(("i", skylark_protocol::outgoing::Value::Text(&delayed)));
    assert_eq!(world.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &batch).code, 13);
}

#[test]
fn more_levels_get_more_queues_at_the_next_start() {
    let mut world = World::new(3, Settings::default());
    let settings = Settings { delay_levels: Some("1s ".repeat(20)), ..Settings::default() };
    world.reconfigure(settings);
    assert_eq!(world.send("t", &level(20), b"x").code, 0);
    world.advance(1001);
    assert_eq!(bodies(&mut world, "t"), ["x"]);
    world.reconfigure(Settings { delay_levels: Some("5s".to_owned()), ..Settings::default() });
    assert_eq!(world.send("t", &level(20), b"y").code, 0);
    world.advance(5001);
    assert_eq!(bodies(&mut world, "t"), ["x", "y"]);
}

#[test]
fn messages_are_delivered_in_the_order_of_their_due_times() {
    let mut world = World::new(4, Settings::default());
    for (body, asked) in [("c", 3), ("a", 1), ("b", 2), ("d", 3)] {
        world.send("t", &level(asked), body.as_bytes());
        world.clock.advance(std::time::Duration::from_millis(1));
    }
    assert_eq!(world.advance(60_000), Next::Arrival);
    assert_eq!(bodies(&mut world, "t"), ["a", "b", "c", "d"], "all at once, after a long pause");
}

#[test]
fn what_is_due_together_goes_out_in_several_units() {
    let mut world = World::new(5, Settings::default());
    let large = vec![b'x'; 3 << 20];
    for number in 0..4 {
        let mut body = format!("{number} ").into_bytes();
        body.extend_from_slice(&large);
        assert_eq!(world.send("large", &level(1), &body).code, 0);
    }
    for number in 0..600 {
        world.submit(
            RequestCode::SEND_MESSAGE_V2,
            &send_fields("t", 0, &level(1)),
            number.to_string().as_bytes(),
        );
    }
    assert_eq!(world.answers().len(), 600);
    world.clock.advance(std::time::Duration::from_secs(2));
    world.settle();
    let broker = &world.running.broker;
    let first = world.broker().timers.step(broker);
    assert_eq!(first, Next::Now);
    let in_flight = world.broker().timers.step(broker);
    assert_eq!(in_flight, Next::Applied(world.end()), "one unit at a time");
    assert_eq!(world.fire(), Next::Arrival);
    assert_eq!(world.pulled("large", 0).len(), 4);
    let numbers: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    assert_eq!(bodies(&mut world, "t"), numbers);
    assert_eq!(world.broker().timers.progress(world.broker()), [(1, 604, 604)]);
}

#[test]
fn the_largest_message_can_be_delayed() {
    let mut world = World::new(6, Settings::default());
    let topic = "x".repeat(127);
    let name = "n".repeat(32_000);
    assert_eq!(world.send(&topic, &format!("{}{name}\u{1}v\u{2}", level(1)), &vec![1; 4 << 20]).code, 0);
    assert_eq!(world.advance(1001), Next::Arrival);
    let pulled = world.pulled(&topic, 0);
    assert_eq!((pulled.len(), pulled[0].body.len()), (1, 4 << 20));
    assert_eq!(world.send("t", &format!("{}{name}{name}\u{1}v\u{2}", level(1)), b"x").code, 13);

    // Where a unit holds less, what would not fit once it is due is not taken.
    let small = Settings { segment_bytes: Some(65_536), ..Settings::default() };
    let mut world = World::new(6, small);
    let unit_bytes_max = usize::try_from(world.broker().log.unit_bytes_max()).unwrap();
    // The record beside it grows with each time that the clock is set back.
    for turn in 0..60 {
        world.clock.set_wall_ms(START_MS + 1_000_000 - turn * 5000);
        assert_eq!(world.send("turns", &level(1), b"x").code, 0);
        world.advance(1001);
    }
    assert_eq!(world.pulled("turns", 0).len(), 60);
    let mut taken = 0;
    // Alone in its unit, or two in one.
    for most in [unit_bytes_max / 2, unit_bytes_max] {
        for bytes in (most - 4000..most).step_by(10) {
            taken += usize::from(world.send(&topic, &level(1), &vec![1; bytes]).code == 0);
        }
    }
    assert!(taken > 500, "{taken}");
    assert_eq!(world.advance(1_000_000), Next::Arrival);
    assert_eq!(world.pulled(&topic, 0).len(), taken);
    assert_eq!(world.broker().timers.undeliverable(), 0);
}

#[test]
fn a_clock_that_was_set_back_delays_and_loses_nothing() {
    let mut world = World::new(7, Settings::default());
    world.send("t", &level(1), b"before");
    world.advance(1001);
    world.clock.set_wall_ms(START_MS - 10_000);
    // Due before what has fired already, and not yet.
    world.send("t", &level(1), b"behind");
    assert_eq!(world.fire(), Next::Due(START_MS - 10_000 + 1001));
    assert_eq!(world.advance(1000), Next::Due(START_MS - 10_000 + 1001));
    assert_eq!(bodies(&mut world, "t"), ["before"]);
    assert_eq!(world.advance(1), Next::Arrival);
    assert_eq!(bodies(&mut world, "t"), ["before", "behind"]);
    world.send("t", &level(3), b"longer");
    world.send("t", &level(1), b"shorter");
    world.advance(1001);
    world.clock.set_wall_ms(START_MS + 60_000);
    assert_eq!(world.fire(), Next::Arrival);
    let mut all = bodies(&mut world, "t");
    all.sort();
    assert_eq!(all, ["before", "behind", "longer", "shorter"]);
}

#[test]
fn a_timer_that_becomes_visible_behind_its_turn_fires_at_once() {
    let mut world = World::new(8, Settings::default());
    world.send("t", &level(2), b"first");
    world.clock.advance(std::time::Duration::from_millis(4000));
    // Due before the other, and held up on its way to the disk.
    world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("t", 0, &level(1)), b"second");
    world.clock.advance(std::time::Duration::from_millis(2000));
    let broker = std::sync::Arc::clone(&world.running.broker);
    assert_eq!(broker.timers.step(&broker), Next::Now);
    assert_eq!(world.fire(), Next::Arrival);
    assert_eq!(world.answers().len(), 1);
    assert_eq!(bodies(&mut world, "t"), ["first", "second"]);
    world.crash(true);
    assert_eq!(world.advance(1_000_000), Next::Arrival);
    assert_eq!(bodies(&mut world, "t"), ["first", "second"]);
}

#[test]
fn a_message_for_a_topic_that_is_gone_holds_nobody_up() {
    let mut world = World::new(9, Settings::default());
    world.send("gone", &level(1), b"x");
    world.send("narrow", &level(1), b"y");
    world.send("t", &level(1), b"z");
    let put = |topic: &str, queues| {
        let config = TopicConfig::with_queues(queues);
        ControlRecord::of(&TopicPut { topic: topic.to_owned(), config })
    };
    let deleted = |topic: &str| ControlRecord::of(&TopicDeleted { topic: topic.to_owned() });
    let broker = std::sync::Arc::clone(&world.running.broker);
    let records = vec![deleted("gone"), deleted("narrow"), put("narrow", 1)];
    broker.change(|_| records).unwrap();
    assert_eq!(world.advance(1001), Next::Arrival);
    assert_eq!(broker.timers.undeliverable(), 1);
    assert_eq!(bodies(&mut world, "t"), ["z"]);
    assert_eq!(bodies(&mut world, "narrow").last().map(String::as_str), Some("y"));
    assert_eq!(broker.timers.progress(&broker), [(1, 3, 3)]);
}

#[test]
fn a_log_that_stops_stops_the_engine() {
    let mut world = World::new(10, Settings::default());
    world.send("t", &level(1), b"x");
    world.clock.advance(std::time::Duration::from_secs(2));
    world.running.broker.log.close();
    world.settle();
    assert_eq!(world.running.broker.timers.step(&world.running.broker), Next::Stopped);
    world.crash(false);
    assert_eq!(world.fire(), Next::Arrival);
    assert_eq!(bodies(&mut world, "t"), ["x"]);
}

#[test]
fn more_timers_than_are_looked_at_together_all_fire() {
    // Long enough for all to fire before another is finished, and what is sealed looked at anew.
    const SEGMENT_BYTES: u64 = 1 << 20;
    let settings = Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        delay_levels: Some("1s 3s 5s".to_owned()),
        ..Settings::default()
    };
    let mut world = World::new(1, settings);
    world.send("t", "", b"makes the topic");
    let mut sent = 0_u32;
    let mut send = |world: &mut World, asked, count: u32| {
        for _ in 0..count {
            let (properties, body) = (level(asked), sent.to_string());
            world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("t", 0, &properties), body.as_bytes());
            sent += 1;
            if sent.is_multiple_of(64) {
                assert!(world.answers().iter().all(|answer| answer.code == 0));
            }
        }
    };
    send(&mut world, 1, 100);
    send(&mut world, 2, 1500);
    let end = world.end().get() + 2 * SEGMENT_BYTES;
    while world.end().get() < end {
        // What was sent so far gets into index files.
        world.send("other", "", &[b'x'; 4000]);
    }
    send(&mut world, 3, 100);
    assert!(world.answers().iter().all(|answer| answer.code == 0));
    // The first are a unit of their own, so that what was read ahead does not end with a unit.
    world.advance(1500);
    world.advance(5000);
    let bodies: BTreeSet<Vec<u8>> =
        world.pulled("t", 0).into_iter().skip(1).map(|pulled| pulled.body).collect();
    let missing = (0..sent).filter(|number| !bodies.contains(number.to_string().as_bytes())).count();
    assert_eq!((bodies.len(), missing), (1700, 0));
}
