//! Quotas of topics and groups, on a simulated disk and clock.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[path = "delays/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use more of it")]
mod world;

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;
use support::raw::{Answer, pull_fields, send_fields};
use world::World;

const OVER_QUOTA: i32 = 215;
const ILLEGAL: i32 = 13;
/// The group of `send_fields`.
const PRODUCERS: &str = "PG";

fn world() -> World {
    World::new(1, Settings::default())
}

fn put_group(world: &mut World, group: &str, attributes: &str) -> Answer {
    let config = format!(r#"{{"groupName":"{group}","attributes":{{{attributes}}}}}"#);
    world.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], config.as_bytes())
}

/// Sends every 10 ms for so long; says how many were stored.
fn stored(world: &mut World, topic: &str, ms: u64) -> usize {
    let sends = (0..ms / 10).filter(|_| {
        let answer = world.send(topic, "", b"x");
        world.advance(10);
        assert!(matches!(answer.code, 0 | OVER_QUOTA), "{answer:?}");
        answer.code == 0
    });
    sends.count()
}

#[test]
fn a_topic_takes_its_rate_and_says_when_there_is_room_again() {
    let mut world = world();
    assert_eq!(world.put_topic("T", 1, "+skylark.send.messages=10").code, 0);
    assert_eq!(stored(&mut world, "other", 2000), 200);
    assert_eq!(stored(&mut world, "T", 10_000), 10 + 100);
    let refused = loop {
        let answer = world.send("T", "", b"x");
        if answer.code != 0 {
            break answer;
        }
    };
    assert_eq!(refused.code, OVER_QUOTA);
    let remark =
        "topic T is over its quota of 10 messages a second (skylark.send.messages); there is room again in ";
    let wait_ms = refused.remark.strip_prefix(remark).and_then(|rest| rest.strip_suffix(" ms"));
    let wait_ms: u64 = wait_ms.unwrap_or_else(|| panic!("{}", refused.remark)).parse().unwrap();
    world.advance(wait_ms - 1);
    assert_eq!(world.send("T", "", b"x").code, OVER_QUOTA);
    world.advance(1);
    assert_eq!(world.send("T", "", b"x").code, 0, "as it was told");
    assert_eq!(world.pulled("T", 0).len(), 112, "what was refused is not there");

    assert_eq!(world.put_topic("T", 1, "-skylark.send.messages").code, 0);
    assert_eq!(stored(&mut world, "T", 1000), 100, "without the quota nothing is refused");
}

#[test]
fn a_clock_that_is_set_back_or_ahead_changes_no_rate() {
    let mut world = world();
    world.put_topic("T", 1, "+skylark.send.messages=10");
    assert_eq!(stored(&mut world, "T", 1000), 20);
    world.clock.set_wall_ms(world.now_ms() + 3_600_000);
    assert_eq!(stored(&mut world, "T", 1000), 10);
    world.clock.set_wall_ms(world.now_ms() - 7_200_000);
    assert_eq!(stored(&mut world, "T", 1000), 10);
}

#[test]
fn a_group_sends_its_rate_whatever_the_topic() {
    let mut world = world();
    assert_eq!(put_group(&mut world, PRODUCERS, r#""+skylark.send.bytes":"100""#).code, 0);
    let body = [b'x'; 50];
    let codes: Vec<i32> = ["A", "B", "A", "B", "A"].map(|topic| world.send(topic, "", &body).code).into();
    assert_eq!(codes, [0, 0, 0, OVER_QUOTA, OVER_QUOTA]);
    let mut other = send_fields("A", 0, "");
    other[0] = ("a", Value::Text("OTHERS"));
    assert_eq!(world.call(Code::SEND_MESSAGE_V2, &other, &body).code, 0);
}

#[test]
fn large_messages_are_refused_by_name() {
    let mut world = world();
    world.put_topic("T", 1, "+skylark.message.bytes=100,+skylark.send.messages=1");
    let refused = world.send("T", "", &[b'x'; 101]);
    assert_eq!(refused.code, ILLEGAL);
    assert_eq!(
        refused.remark,
        "the body has 101 bytes, and topic T takes messages of 100 bytes at most (skylark.message.bytes)"
    );
    assert_eq!(world.send("T", "", &[b'x'; 100]).code, 0, "what was refused is not counted");
}

#[test]
fn what_is_looked_at_again_is_counted_once() {
    let mut world = World::new(1, Settings { light_queues: Some(true), ..Settings::default() });
    world.put_topic("T", 1, "+skylark.send.messages=1");
    // The queue is made first, and the send looked at again then.
    assert_eq!(world.send("T", "INNER_MULTI_DISPATCH\u{1}%LMQ%ann\u{2}", b"x").code, 0);
    assert_eq!(world.send("T", "", b"x").code, 0);
    assert_eq!(world.send("T", "", b"x").code, OVER_QUOTA);
}

#[test]
fn what_would_hold_up_others_for_longer_than_a_minute_is_refused() {
    let mut world = world();
    world.put_topic("T", 1, "+skylark.send.bytes=10");
    let refused = world.send("T", "", &[b'x'; 601]);
    assert_eq!(refused.code, ILLEGAL);
    assert!(refused.remark.contains("more than topic T takes in a minute"), "{}", refused.remark);
    assert_eq!(world.send("T", "", &[b'x'; 600]).code, 0);
    world.advance(59_000);
    assert_eq!(world.send("T", "", b"x").code, 0);
}

#[test]
fn readers_that_wait_side_by_side_get_no_more_than_one_after_the_other() {
    let mut world = world();
    assert_eq!(world.send("T", "", b"first").code, 0);
    assert_eq!(put_group(&mut world, "slow", r#""+skylark.read.messages":"1""#).code, 0);
    let mut fields = pull_fields("slow", "T", 0, 1);
    for (name, value) in &mut fields {
        match *name {
            // It has its own subscription, and may be held.
            "sysFlag" => *value = Value::Number(4 | 2),
            "suspendTimeoutMillis" => *value = Value::Number(15_000),
            _ => {}
        }
    }
    for _ in 0..50 {
        world.submit(Code::PULL_MESSAGE, &fields, b"");
    }
    assert!(world.answers().is_empty(), "they wait");
    world.submit(Code::SEND_MESSAGE_V2, &send_fields("T", 0, ""), b"second");
    let answers = world.answers();
    let found = answers.iter().filter(|answer| answer.code == 0 && !answer.body.is_empty()).count();
    let over = answers.iter().filter(|answer| answer.code == OVER_QUOTA).count();
    assert_eq!((found, over), (2, 48), "{:?}", answers.iter().map(|answer| answer.code).collect::<Vec<_>>());
}

#[test]
fn readers_are_told_to_wait_and_get_everything() {
    let mut world = world();
    let bodies: Vec<Vec<u8>> = (0..100_u32).map(|number| number.to_string().into_bytes()).collect();
    for body in &bodies {
        assert_eq!(world.send("T", "", body).code, 0);
    }
    assert_eq!(put_group(&mut world, "slow", r#""+skylark.read.messages":"10""#).code, 0);
    let (mut got, mut refusals, mut took_ms) = (Vec::new(), 0, 0);
    while got.len() < bodies.len() {
        let mut fields = pull_fields("slow", "T", 0, got.len() as u64);
        fields
            .iter_mut()
            .filter(|(name, _)| *name == "maxMsgNums")
            .for_each(|(_, most)| *most = Value::Number(16));
        let answer = world.call(Code::PULL_MESSAGE, &fields, b"");
        match answer.code {
            0 => got.extend(
                skylark_protocol::message::StoredMessage::parse_all(&answer.body)
                    .map(|message| message.unwrap().body.to_vec()),
            ),
            OVER_QUOTA => {
                assert!(
                    answer.remark.starts_with("group slow is over its quota of 10 messages"),
                    "{answer:?}"
                );
                refusals += 1;
            }
            _ => panic!("{answer:?}"),
        }
        world.advance(20);
        took_ms += 20;
    }
    assert_eq!(got, bodies);
    assert!(refusals > 50, "{refusals}");
    // All but what may be taken at once, and what the last answer takes.
    assert!((5_000..=10_000).contains(&took_ms), "{took_ms}");
    assert_eq!(world.pulled("T", 0).len(), 100, "another group is not held up");
}

#[test]
fn what_the_broker_stores_on_its_own_is_not_held_up() {
    let mut world = world();
    world.send("T", "", b"first");
    let message = world.pulled("T", 0).pop().unwrap();
    world.put_topic("T", 1, "+skylark.send.messages=1");
    // Due when the topic is over its quota.
    assert_eq!(world.send("T", "TIMER_DELAY_MS\u{1}500\u{2}", b"later").code, 0);
    assert_eq!(world.send("T", "", b"x").code, 0);
    assert_eq!(world.send("T", "", b"x").code, OVER_QUOTA);
    world.advance(501);
    assert!(world.pulled("T", 0).iter().any(|message| message.body == b"later"));
    let back = [
        ("offset", message.physical_offset.into()),
        ("group", Value::Text("CG")),
        ("delayLevel", Value::Number(0)),
    ];
    for _ in 0..5 {
        assert_eq!(world.call(Code::CONSUMER_SEND_MSG_BACK, &back, b"").code, 0);
    }
}

#[test]
fn attributes_that_are_no_numbers_are_refused() {
    let mut world = world();
    for value in ["0", "-1", "many", ""] {
        let answer = world.put_topic("T", 1, &format!("+skylark.send.messages={value}"));
        assert_eq!(answer.code, 1, "{value}: {answer:?}");
        assert!(answer.remark.contains("skylark.send.messages"), "{answer:?}");
        let answer = put_group(&mut world, "G", &format!(r#""+skylark.read.bytes":"{value}""#));
        assert_eq!(answer.code, 1, "{value}: {answer:?}");
    }
}
