//! Producers are asked.

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;

use super::producer::*;
use crate::world::World;

fn world() -> World {
    World::new(1, Settings::default())
}

#[test]
fn a_producer_is_asked_with_the_message_and_its_offsets() {
    let mut world = world();
    join(&mut world, "PG");
    let half = prepare(&mut world, "t", "K1", "");
    assert!(after(&mut world, 5_999).is_empty());
    let questions = after(&mut world, 101);
    assert_eq!(questions.len(), 1);
    let question = &questions[0];
    assert_eq!(asked(question), half);
    let told = ["topic", "msgId", "bname", "offsetMsgId"].map(|name| &*question.fields[name]);
    let id = world.pulled(HALF, 0)[0].id.clone();
    assert_eq!(told, [HALF, "K1", "broker-a", &*id]);
    let (message, _) = StoredMessage::parse(&question.body).unwrap();
    assert_eq!((message.topic, message.queue_id, message.body), ("t", 2, &b"K1"[..]));
    assert_eq!((message.physical_offset, message.queue_offset), (half.physical_offset, half.queue_offset));
    let known = ["PGROUP", "UNIQ_KEY", "TRANSACTION_CHECK_TIMES"].map(|name| message.properties().get(name));
    assert_eq!(known, [Some("PG"), Some("K1"), Some("1")]);
    assert!(after(&mut world, 29_000).is_empty());
    assert_eq!(answer(&mut world, &half, COMMIT).code, 0);
    assert_eq!(consumed(&mut world, "t"), ["K1"]);
    assert!(after(&mut world, 600_000).is_empty());
}

#[test]
fn a_clock_that_was_set_back_holds_up_no_question() {
    let mut world = world();
    join(&mut world, "PG");
    let first = prepare(&mut world, "t", "K1", "");
    world.clock.set_wall_ms(world.now_ms() - 7_200_000);
    let second = prepare(&mut world, "t", "K2", "");
    assert!(after(&mut world, 1).is_empty(), "its arrival wakes the engine");
    assert!(after(&mut world, 5_900).is_empty());
    let questions = after(&mut world, 300);
    assert_eq!(questions.iter().map(asked).collect::<Vec<_>>(), [first, second]);
    assert_eq!(after(&mut world, 30_100).len(), 2, "and after the interval");
}

#[test]
fn a_check_is_answered_by_whoever_belongs_to_the_group() {
    let mut world = world();
    join(&mut world, "PG");
    let half = prepare(&mut world, "t", "K1", "");
    assert_eq!(after(&mut world, 6_100).len(), 1);
    // Its producer is gone with its connection; nobody is asked for a while, and nothing is counted.
    world.crash(false);
    assert!(after(&mut world, 1_000_000).is_empty());
    join(&mut world, "other");
    assert!(after(&mut world, 1_000_000).is_empty());
    join(&mut world, "PG");
    let questions = after(&mut world, 30_100);
    assert_eq!(questions.iter().map(asked).collect::<Vec<_>>(), std::slice::from_ref(&half));
    let (message, _) = StoredMessage::parse(&questions[0].body).unwrap();
    assert_eq!(message.properties().get("TRANSACTION_CHECK_TIMES"), Some("2"));
    assert_eq!(answer(&mut world, &half, ROLLBACK).code, 0);
    assert_eq!(consumed(&mut world, "t"), [""; 0]);
}

#[test]
fn who_never_answers_is_asked_fifteen_times_whatever_happens() {
    let mut world = world();
    join(&mut world, "PG");
    let half = prepare(&mut world, "t", "K1", "");
    let mut count = after(&mut world, 6_100).len();
    for round in 0..40_u64 {
        if round % 5 == 4 {
            world.crash(round % 2 == 0);
            join(&mut world, "PG");
        }
        count += after(&mut world, 30_100).len();
    }
    assert_eq!(count, 15);
    let given_up = world.pulled(GIVEN_UP, 0);
    assert_eq!(keys(&given_up), ["K1"]);
    assert_eq!(given_up[0].properties["TRANSACTION_CHECK_TIMES"], "15");
    assert_eq!(answer(&mut world, &half, COMMIT).code, 1, "it is an operator's now");
    assert_eq!(consumed(&mut world, "t"), [""; 0]);
    assert_eq!(world.broker().transactions.count(), 0);
}

#[test]
fn without_a_producer_it_waits_as_long_as_messages_are_kept() {
    let settings = Settings { retention_hours: Some(1), ..Settings::default() };
    let mut world = World::new(1, settings);
    prepare(&mut world, "t", "K1", "");
    for _ in 0..118 {
        assert!(after(&mut world, 30_100).is_empty());
    }
    assert_eq!(world.broker().transactions.count(), 1);
    world.crash(true);
    assert!(questions(&mut world).is_empty());
    assert!(after(&mut world, 119_000).is_empty());
    assert_eq!(world.broker().transactions.count(), 1, "after a start producers get the time to come");
    assert!(after(&mut world, 30_100).is_empty());
    assert_eq!(world.broker().transactions.count(), 0);
    assert_eq!(keys(&world.pulled(GIVEN_UP, 0)), ["K1"]);
}

#[test]
fn a_message_may_say_when_its_producer_can_be_asked() {
    let mut world = world();
    join(&mut world, "PG");
    let half = prepare(&mut world, "t", "K1", "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}60\u{2}");
    let early = prepare(&mut world, "t", "K2", "CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}60\u{2}");
    assert!(after(&mut world, 59_900).is_empty());
    assert_eq!(end(&mut world, &early, COMMIT).code, 0);
    world.clock.advance(std::time::Duration::from_millis(101));
    assert_eq!(end(&mut world, &half, COMMIT).code, 604, "only answers count from now on");
    assert_eq!(questions(&mut world).iter().map(asked).collect::<Vec<_>>(), std::slice::from_ref(&half));
    assert_eq!(end(&mut world, &half, COMMIT).code, 604);
    assert_eq!(answer(&mut world, &half, COMMIT).code, 0);
    assert_eq!(consumed(&mut world, "t"), ["K2", "K1"]);
}

#[test]
fn times_and_limits_are_configured() {
    let settings = Settings {
        transaction_timeout_ms: Some(1_000),
        transaction_check_interval_ms: Some(200),
        transaction_checks_max: Some(2),
        ..Settings::default()
    };
    let mut world = World::new(1, settings);
    join(&mut world, "PG");
    prepare(&mut world, "t", "K1", "");
    let times = [1_100, 300, 300, 300].map(|ms| after(&mut world, ms).len());
    assert_eq!(times, [1, 1, 0, 0]);
    assert_eq!(keys(&world.pulled(GIVEN_UP, 0)), ["K1"]);
}

#[test]
fn thousands_are_asked_about_a_batch_at_a_time() {
    let mut world = world();
    join(&mut world, "PG");
    prepare(&mut world, "t", "K", "");
    let count = 3_000;
    for number in 0..count {
        let properties = properties(&number.to_string(), "");
        let fields = crate::support::raw::send_fields("t", 2, &properties);
        world.submit(RequestCode::SEND_MESSAGE_V2, &fields, b"x");
    }
    assert_eq!(world.answers().len(), count);
    let before = world.end();
    let times = [6_200, 100, 100, 100];
    let counts: Vec<_> = times.into_iter().map(|ms| after(&mut world, ms)).collect();
    assert_eq!(counts.iter().map(Vec::len).collect::<Vec<_>>(), [1024, 1024, 953, 0]);
    let mut asked: Vec<_> = counts.iter().flatten().map(|question| asked(question).key).collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), count + 1);
    assert!(world.end().since(before) < 20 * count as u64, "a check leaves a few bytes in the log");
    let gone = [("clientID", Value::Text("c")), ("producerGroup", Value::Text("PG"))];
    assert_eq!(world.call(RequestCode::UNREGISTER_CLIENT, &gone, b"").code, 0);
    assert!(after(&mut world, 100_000).is_empty());
}
