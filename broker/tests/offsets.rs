//! Where groups go on, and who moved them: times to the millisecond, resets, clones, and the trail of all of it, on a
//! simulated disk and clock.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[path = "delays/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use more of it")]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::json;
use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::command::audit::{OffsetTrail, OffsetsMoved, QueueMoved};
use skylark_protocol::command::reset::ResetOffsets;
use skylark_protocol::outgoing::Value;
use support::raw::{Answer, pull_fields};
use world::{START_MS, World};

const SEGMENT_BYTES: u64 = 65_536;

fn one_queue() -> Settings {
    Settings { default_topic_queues: Some(1), ..Settings::default() }
}

fn group(world: &mut World, name: &str) {
    let config = json!({"groupName": name}).to_string();
    assert_eq!(world.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], config.as_bytes()).code, 0);
}

fn heartbeat(world: &mut World, group: &str, topic: &str) {
    let body = json!({"clientID": "10.0.0.1@7", "consumerDataSet": [{
        "groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
        "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET",
        "subscriptionDataSet": [{"topic": topic, "subString": "*", "subVersion": 1}]}]});
    assert_eq!(world.call(Code::HEART_BEAT, &[], body.to_string().as_bytes()).code, 0);
}

fn commit_fields<'a>(group: &'a str, topic: &'a str, offset: u64) -> [(&'static str, Value<'a>); 4] {
    [
        ("consumerGroup", Value::Text(group)),
        ("topic", Value::Text(topic)),
        ("queueId", Value::Number(0)),
        ("commitOffset", offset.into()),
    ]
}

fn commit(world: &mut World, group: &str, topic: &str, offset: u64) {
    assert_eq!(world.call(Code::UPDATE_CONSUMER_OFFSET, &commit_fields(group, topic, offset), &[]).code, 0);
}

fn committed(world: &mut World, group: &str, topic: &str) -> Option<u64> {
    let fields = [
        ("consumerGroup", Value::Text(group)),
        ("topic", Value::Text(topic)),
        ("queueId", Value::Number(0)),
        ("setZeroIfNotFound", Value::Flag(false)),
    ];
    let answer = world.call(Code::QUERY_CONSUMER_OFFSET, &fields, &[]);
    (answer.code == 0).then(|| answer.number("offset"))
}

fn reset(world: &mut World, group: &str, topic: &str, timestamp: i64, offset: i64) -> Answer {
    let queue = if offset >= 0 { 0 } else { -1 };
    let fields = [
        ("group", Value::Text(group)),
        ("topic", Value::Text(topic)),
        ("timestamp", Value::Number(timestamp)),
        ("isForce", Value::Flag(true)),
        ("queueId", Value::Number(queue)),
        ("offset", Value::Number(offset)),
    ];
    world.call(Code::INVOKE_BROKER_TO_RESET_OFFSET, &fields, &[])
}

fn clone(world: &mut World, from: &str, to: &str, topic: Option<&str>, offline: bool) -> Answer {
    let mut fields = vec![
        ("srcGroup", Value::Text(from)),
        ("destGroup", Value::Text(to)),
        ("offline", Value::Flag(offline)),
    ];
    fields.extend(topic.map(|topic| ("topic", Value::Text(topic))));
    world.call(Code::CLONE_GROUP_OFFSET, &fields, &[])
}

fn trail_of(world: &mut World, more: &[(&'static str, Value<'_>)]) -> Vec<OffsetsMoved> {
    let fields = [&[("from", Value::Number(0)), ("limit", Value::Number(1000))][..], more].concat();
    let answer = world.call(Code::SKYLARK_AUDIT_OFFSETS, &fields, &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    OffsetTrail::decode(&answer.body).unwrap().moves
}

/// A step of the trail, in short: request, group, topic, and from where to where in queue 0.
type Told = (i32, String, String, Option<u64>, Option<u64>);

fn trail(world: &mut World) -> Vec<Told> {
    let moves = trail_of(world, &[]).into_iter();
    let short = |moved: OffsetsMoved| {
        let QueueMoved { from, to, .. } = moved.queues[0];
        (moved.code, moved.group, moved.topic, from, to)
    };
    moves.map(short).collect()
}

fn told(code: i32, group: &str, topic: &str, from: Option<u64>, to: Option<u64>) -> Told {
    (code, group.to_owned(), topic.to_owned(), from, to)
}

fn search(world: &mut World, time: i64, boundary: Option<&'static str>) -> u64 {
    let mut fields =
        vec![("topic", Value::Text("t")), ("queueId", Value::Number(0)), ("timestamp", Value::Number(time))];
    fields.extend(boundary.map(|boundary| ("boundaryType", Value::Text(boundary))));
    world.call(Code::SEARCH_OFFSET_BY_TIMESTAMP, &fields, &[]).number("offset")
}

/// What RocketMQ's documentation of both boundaries says, told from a list of times.
fn expected(times: &[u64], min: u64, time: u64) -> (u64, u64) {
    let lower = times.iter().filter(|stored| **stored < time).count() as u64;
    let upper = times.iter().filter(|stored| **stored <= time).count() as u64;
    (lower.max(min), if upper > min { upper - 1 } else { 0 })
}

#[test]
fn a_time_is_found_to_the_millisecond_by_both_boundaries() {
    for seed in 0..4 {
        let mut random = Pcg64::seed_from_u64(seed);
        let settings = Settings {
            segment_bytes: Some(SEGMENT_BYTES),
            retention_bytes: Some(6 * SEGMENT_BYTES),
            ..one_queue()
        };
        let mut world = World::new(seed, settings);
        let mut times = Vec::new();
        // Several messages a millisecond, gaps of all lengths, in memory, in sealed files and partly trimmed.
        while world.broker().log.frontiers().trimmed.get() < SEGMENT_BYTES {
            for _ in 0..random.random_range(1..4) {
                assert_eq!(world.send("t", "", &[0; 1500]).code, 0);
                times.push(world.now_ms());
            }
            world.advance([0, 1, 2, 1000][random.random_range(0..4)]);
        }
        let fields = [("topic", Value::Text("t")), ("queueId", Value::Number(0))];
        let min = world.call(Code::GET_MIN_OFFSET, &fields, &[]).number("offset");
        assert!(min > 0);
        let mut asked: Vec<u64> = times.iter().flat_map(|time| [time - 1, *time, time + 1]).collect();
        asked.extend([0, 1, START_MS - 1, u64::try_from(i64::MAX).unwrap()]);
        asked.sort_unstable();
        asked.dedup();
        for time in asked {
            let (lower, upper) = expected(&times, min, time);
            let time = i64::try_from(time).unwrap();
            assert_eq!(search(&mut world, time, None), lower, "seed {seed}: {time}");
            assert_eq!(search(&mut world, time, Some("LOWER")), lower);
            assert_eq!(search(&mut world, time, Some("UPPER")), upper, "seed {seed}: {time}");
            assert_eq!(search(&mut world, time, Some("upper")), upper);
        }
        assert_eq!(search(&mut world, -5, None), min);
    }
}

#[test]
fn a_search_by_time_without_messages_says_so_by_its_offset() {
    let mut world = World::new(1, one_queue());
    assert_eq!(search(&mut world, 5, Some("UPPER")), 0, "no such topic");
    assert_eq!(world.send("t", "", b"x").code, 0);
    let fields =
        [("topic", Value::Text("t")), ("queueId", Value::Number(0)), ("timestamp", Value::Text("noon"))];
    let answer = world.call(Code::SEARCH_OFFSET_BY_TIMESTAMP, &fields, &[]);
    assert_eq!(answer.code, 29, "{answer:?}");
    assert!(answer.remark.contains("timestamp") && answer.remark.contains("noon"), "{answer:?}");
}

/// Ten messages, a second apart.
fn with_messages() -> World {
    let mut world = World::new(1, one_queue());
    for _ in 0..10 {
        assert_eq!(world.send("t", "", b"x").code, 0);
        world.advance(1000);
    }
    group(&mut world, "G");
    world
}

#[test]
fn a_group_without_members_is_reset_by_time_and_offset() {
    let mut world = with_messages();
    let start = i64::try_from(START_MS).unwrap();
    for (time, offset, expected) in
        [(start + 3000, -1, 3), (start + 3001, -1, 4), (-1, -1, 10), (0, -1, 0), (0, 7, 7), (0, 10, 10)]
    {
        let answer = reset(&mut world, "G", "t", time, offset);
        assert_eq!(answer.code, 0, "{answer:?}");
        let table = ResetOffsets::decode(&answer.body).unwrap().offset_table;
        assert_eq!(table.values().copied().collect::<Vec<_>>(), [i64::try_from(expected).unwrap()]);
        assert_eq!(committed(&mut world, "G", "t"), Some(expected));
        world.crash(true);
        assert_eq!(committed(&mut world, "G", "t"), Some(expected));
    }
    let offsets: Vec<_> = trail(&mut world).into_iter().map(|(_, _, _, from, to)| (from, to)).collect();
    let moves = [(None, 3), (Some(3), 4), (Some(4), 10), (Some(10), 0), (Some(0), 7), (Some(7), 10)];
    assert_eq!(offsets, moves.map(|(from, to)| (from, Some(to))));
    for (group, topic, offset, code, named) in
        [("G", "t", 12, 1, "[0-10]"), ("nobody", "t", 1, 26, "nobody"), ("G", "none", 1, 17, "none")]
    {
        let answer = reset(&mut world, group, topic, 0, offset);
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.remark.contains(named), "{answer:?}");
    }
    assert_eq!(trail(&mut world).len(), 6, "what was refused has moved nothing");
}

/// Consumers that are gone commit late, and who commits is not always known to be one of them.
#[test]
fn a_reset_holds_whoever_commits_until_a_consumer_has_gone_there() {
    let mut world = with_messages();
    commit(&mut world, "G", "t", 9);
    assert_eq!(reset(&mut world, "G", "t", 0, 2).code, 0);
    commit(&mut world, "G", "t", 10);
    world.one_way(Code::UPDATE_CONSUMER_OFFSET, &commit_fields("G", "t", 1));
    assert_eq!(committed(&mut world, "G", "t"), Some(2));
    world.crash(true);
    commit(&mut world, "G", "t", 10);
    assert_eq!(committed(&mut world, "G", "t"), Some(2));
    assert_eq!(trail(&mut world).len(), 2, "what did not count is no move");
    let pulled = world.call(Code::PULL_MESSAGE, &pull_fields("G", "t", 0, 9), &[]);
    assert_eq!((pulled.code, pulled.number("nextBeginOffset")), (21, 2));
    commit(&mut world, "G", "t", 10);
    assert_eq!(committed(&mut world, "G", "t"), Some(10));
}

#[test]
fn a_group_with_members_goes_where_it_is_sent_and_the_trail_knows_the_client() {
    let mut world = with_messages();
    heartbeat(&mut world, "G", "t");
    commit(&mut world, "G", "t", 9);
    assert_eq!(reset(&mut world, "G", "t", 0, 2).code, 0);
    commit(&mut world, "G", "t", 10);
    assert_eq!(
        committed(&mut world, "G", "t"),
        Some(2),
        "what it commits until it has gone there does not count"
    );
    let pulled = world.call(Code::PULL_MESSAGE, &pull_fields("G", "t", 0, 9), &[]);
    assert_eq!((pulled.code, pulled.number("nextBeginOffset")), (21, 2));
    commit(&mut world, "G", "t", 5);
    assert_eq!(committed(&mut world, "G", "t"), Some(5));
    assert_eq!(trail(&mut world), [told(222, "G", "t", Some(9), Some(2))], "members' commits are no moves");
    let moved = trail_of(&mut world, &[]).remove(0);
    assert_eq!((&*moved.address, moved.client_id.as_deref()), ("127.0.0.1:40000", Some("10.0.0.1@7")));
    assert_eq!(moved.timestamp, i64::try_from(START_MS + 10_000).unwrap());
}

#[test]
fn a_clone_goes_on_where_the_other_group_is() {
    let mut world = with_messages();
    assert_eq!(world.send("u", "", b"x").code, 0);
    for name in ["H", "I", "J"] {
        group(&mut world, name);
    }
    commit(&mut world, "G", "t", 4);
    commit(&mut world, "G", "u", 1);
    assert_eq!(clone(&mut world, "G", "H", None, true).code, 0);
    assert_eq!(clone(&mut world, "G", "I", Some("u"), true).code, 0);
    // One that is consuming: what it does not read any more is passed over.
    heartbeat(&mut world, "G", "t");
    assert_eq!(clone(&mut world, "G", "J", None, false).code, 0);
    world.crash(true);
    for (name, t, u) in [("H", Some(4), Some(1)), ("I", None, Some(1)), ("J", Some(4), None)] {
        assert_eq!((committed(&mut world, name, "t"), committed(&mut world, name, "u")), (t, u), "{name}");
    }
    assert_eq!(
        trail(&mut world),
        [
            told(15, "G", "t", None, Some(4)),
            told(15, "G", "u", None, Some(1)),
            told(314, "H", "t", None, Some(4)),
            told(314, "H", "u", None, Some(1)),
            told(314, "I", "u", None, Some(1)),
            told(314, "J", "t", None, Some(4)),
        ]
    );
    assert_eq!(clone(&mut world, "G", "nobody", None, true).code, 26);
    assert_eq!(clone(&mut world, "nobody", "H", None, true).code, 0, "there is nothing to clone");
}

#[test]
fn a_commit_is_a_move_where_no_member_made_it() {
    let mut world = with_messages();
    commit(&mut world, "G", "t", 4);
    commit(&mut world, "G", "t", 4);
    assert_eq!(trail(&mut world), [told(15, "G", "t", None, Some(4))], "the same again is none");
    // Consumers do not wait for an answer. One may have lost its connection, and not said yet who it is.
    let one_way = |world: &mut World, offset| {
        world.one_way(Code::UPDATE_CONSUMER_OFFSET, &commit_fields("G", "t", offset));
        world.answers();
    };
    one_way(&mut world, 6);
    assert_eq!((committed(&mut world, "G", "t"), trail(&mut world).len()), (Some(6), 1));
    one_way(&mut world, 1);
    assert_eq!(trail(&mut world)[1..], [told(15, "G", "t", Some(6), Some(1))], "but it does not go back");
    heartbeat(&mut world, "G", "t");
    commit(&mut world, "G", "t", 8);
    commit(&mut world, "G", "t", 3);
    assert_eq!((committed(&mut world, "G", "t"), trail(&mut world).len()), (Some(3), 2));
}

#[test]
fn a_commit_of_an_operator_is_durable_with_its_trail() {
    let mut world = with_messages();
    for (offset, power) in [(4, true), (7, false), (2, true)] {
        commit(&mut world, "G", "t", offset);
        // Before the commits of consumers are made durable, which happens five times a second.
        world.crash(power);
        assert_eq!(committed(&mut world, "G", "t"), Some(offset));
        assert_eq!(trail(&mut world).last().unwrap().4, Some(offset));
    }
}

#[test]
fn what_is_deleted_with_its_group_or_topic_is_in_the_trail() {
    let mut world = with_messages();
    group(&mut world, "H");
    heartbeat(&mut world, "G", "t");
    commit(&mut world, "G", "t", 4);
    commit(&mut world, "H", "t", 5);
    let delete = |world: &mut World, group: &'static str, with_offsets| {
        let fields = [("groupName", Value::Text(group)), ("cleanOffset", Value::Flag(with_offsets))];
        assert_eq!(world.call(Code::DELETE_SUBSCRIPTIONGROUP, &fields, &[]).code, 0);
    };
    delete(&mut world, "G", true);
    delete(&mut world, "H", false);
    assert_eq!(world.call(Code::DELETE_TOPIC_IN_BROKER, &[("topic", "t".into())], &[]).code, 0);
    world.crash(true);
    assert_eq!(
        trail(&mut world),
        [
            told(15, "H", "t", None, Some(5)),
            told(207, "G", "t", Some(4), None),
            told(215, "H", "t", Some(5), None),
        ]
    );
}

#[test]
fn the_trail_is_asked_by_group_topic_and_page() {
    let mut world = with_messages();
    assert_eq!(world.send("u", "", b"x").code, 0);
    group(&mut world, "H");
    for (group, topic, offset) in [("G", "t", 1), ("H", "t", 2), ("G", "u", 1), ("H", "t", 3), ("G", "t", 4)]
    {
        commit(&mut world, group, topic, offset);
    }
    let numbers = |moves: &[OffsetsMoved]| moves.iter().map(|moved| moved.number).collect::<Vec<_>>();
    assert_eq!(numbers(&trail_of(&mut world, &[("group", "G".into())])), [0, 2, 4]);
    assert_eq!(numbers(&trail_of(&mut world, &[("topic", "t".into())])), [0, 1, 3, 4]);
    assert_eq!(numbers(&trail_of(&mut world, &[("group", "H".into()), ("topic", "u".into())])), [0_u64; 0]);
    let mut from = Some(0);
    let mut found = Vec::new();
    while let Some(number) = from {
        let fields = [("from", number.into()), ("limit", Value::Number(2)), ("group", "".into())];
        let page = OffsetTrail::decode(&world.call(Code::SKYLARK_AUDIT_OFFSETS, &fields, &[]).body).unwrap();
        assert!(page.moves.len() <= 2);
        found.extend(numbers(&page.moves));
        from = page.next;
    }
    assert_eq!(found, [0, 1, 2, 3, 4]);
    let wrong = [("from", Value::Text("start")), ("limit", Value::Number(2))];
    let answer = world.call(Code::SKYLARK_AUDIT_OFFSETS, &wrong, &[]);
    assert!(answer.code == 29 && answer.remark.contains("from"), "{answer:?}");
}

#[test]
fn the_trail_outlives_the_log_it_was_read_from() {
    let settings = Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        retention_bytes: Some(4 * SEGMENT_BYTES),
        ..one_queue()
    };
    let mut world = World::new(1, settings);
    assert_eq!(world.send("t", "", b"x").code, 0);
    group(&mut world, "G");
    commit(&mut world, "G", "t", 1);
    while world.broker().log.frontiers().trimmed.get() < 2 * SEGMENT_BYTES {
        assert_eq!(world.send("t", "", &[0; 4096]).code, 0);
        world.advance(1000);
    }
    for power in [true, false] {
        world.crash(power);
        assert_eq!(trail(&mut world), [told(15, "G", "t", None, Some(1))]);
    }
    assert_eq!(reset(&mut world, "G", "t", -1, -1).code, 0);
    assert_eq!(trail(&mut world).len(), 2);
}

#[test]
fn the_trail_is_bounded_by_number_and_age() {
    let settings = || Settings { audit_moves_max: Some(100), audit_days: Some(1), ..one_queue() };
    let mut world = World::new(1, settings());
    assert_eq!(world.send("t", "", b"x").code, 0);
    group(&mut world, "G");
    for offset in 1..=150 {
        commit(&mut world, "G", "t", offset);
    }
    let moves = trail(&mut world);
    assert_eq!((moves.len(), moves[0].4, moves[99].4), (100, Some(51), Some(150)));
    world.crash(true);
    assert_eq!(trail(&mut world), moves);
    world.advance(86_400_001);
    assert!(trail(&mut world).is_empty(), "they are a day old, and shown no more");
    commit(&mut world, "G", "t", 7);
    assert_eq!(trail(&mut world), [told(15, "G", "t", Some(150), Some(7))]);
    assert_eq!(world.broker().audit.trail.lock().moves(), 1, "nor kept");
    for (moves_max, days) in [(Some(99), None), (None, Some(0)), (Some(1_000_001), None)] {
        let settings = Settings { audit_moves_max: moves_max, audit_days: days, ..Settings::default() };
        let mistakes = skylark_broker::config::Config::new(settings).unwrap_err();
        assert!(mistakes.0[0].key.starts_with("audit-"), "{mistakes}");
    }
}

/// A move is in the trail if and only if it has happened.
#[test]
fn whatever_crashes_the_trail_says_what_has_happened() {
    for seed in 0..60 {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut world = World::new(seed, one_queue());
        for _ in 0..20 {
            assert_eq!(world.send("t", "", b"x").code, 0);
        }
        group(&mut world, "G");
        let mut acknowledged = BTreeMap::new();
        for step in 0..random.random_range(1..20) {
            let to: u64 = random.random_range(0..20);
            // While a reset is pending a commit is answered, and does not count.
            let is_reset = random.random_bool(0.5);
            let opaque = if !is_reset {
                world.submit(Code::UPDATE_CONSUMER_OFFSET, &commit_fields("G", "t", to), &[])
            } else {
                let fields = [
                    ("group", Value::Text("G")),
                    ("topic", Value::Text("t")),
                    ("timestamp", Value::Number(0)),
                    ("isForce", Value::Flag(true)),
                    ("queueId", Value::Number(0)),
                    ("offset", to.into()),
                ];
                world.submit(Code::INVOKE_BROKER_TO_RESET_OFFSET, &fields, &[])
            };
            let broker = Arc::clone(&world.running.broker);
            for _ in 0..random.random_range(0..8) {
                match random.random_range(0..3) {
                    0 => drop(world.running.writer.step()),
                    1 => drop(world.running.dispatcher.step().unwrap()),
                    _ => world.poll(),
                }
            }
            drop(broker);
            for answer in world.written() {
                assert_eq!(answer.code, 0, "{answer:?}");
                if answer.opaque == opaque && is_reset {
                    acknowledged.insert(step, to);
                }
            }
            if random.random_bool(0.4) {
                world.crash(random.random_bool(0.5));
            }
        }
        world.answers();
        let steps = trail(&mut world);
        for pair in steps.windows(2) {
            assert_eq!(
                pair[0].4, pair[1].3,
                "seed {seed}: each goes on where the one before ended: {steps:?}"
            );
        }
        let last = steps.last().and_then(|step| step.4);
        assert_eq!(committed(&mut world, "G", "t"), last, "seed {seed}: {steps:?}");
        // What was acknowledged has happened, in its order.
        let mut told = steps.iter().filter(|step| step.0 == 222).filter_map(|step| step.4);
        for to in acknowledged.values() {
            let is_told = told.any(|known| known == *to);
            assert!(is_told, "seed {seed}: {to} of {acknowledged:?} is missing in {steps:?}");
        }
    }
}
