//! Dead letters: what is listed, sent again and given up, each once, over crashes, on a simulated disk and clock.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[path = "delays/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use more of it")]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::audit::{OffsetTrail, QueueMoved};
use skylark_protocol::command::dead_letters::{DeadLetterQueue, DeadLetters, SettledDeadLetters};
use skylark_protocol::outgoing::Value;
use support::raw::Answer;
use world::{START_MS, World};

const RESEND: RequestCode = RequestCode::SKYLARK_RESEND_DEAD_LETTERS;
const PURGE: RequestCode = RequestCode::SKYLARK_PURGE_DEAD_LETTERS;
const DLQ: &str = "%DLQ%CG";

/// Sends a message and has the group give it up.
fn give_up(world: &mut World, body: &[u8]) {
    let properties = format!("UNIQ_KEY\u{1}U{0}\u{2}TAGS\u{1}A\u{2}KEYS\u{1}k\u{2}", body.escape_ascii());
    let sent = world.send("orders", &properties, body);
    assert_eq!(sent.code, 0, "{sent:?}");
    let at = world.pulled("orders", 0).last().unwrap().physical_offset;
    let fields = [("offset", at.into()), ("group", Value::Text("CG")), ("delayLevel", Value::Number(-1))];
    let answer = world.call(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
}

fn with_letters(count: u8) -> World {
    let mut world = World::new(1, Settings { default_topic_queues: Some(1), ..Settings::default() });
    for number in 0..count {
        give_up(&mut world, &[b'a' + number]);
        world.advance(1000);
    }
    world
}

fn fields(range: (u64, u64), limit: i64) -> Vec<(&'static str, Value<'static>)> {
    vec![
        ("group", Value::Text("CG")),
        ("queueId", Value::Number(0)),
        ("beginOffset", range.0.into()),
        ("endOffset", range.1.into()),
        ("limit", Value::Number(limit)),
    ]
}

fn settle(world: &mut World, code: RequestCode, range: (u64, u64), limit: i64) -> SettledDeadLetters {
    let answer = world.call(code, &fields(range, limit), &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    SettledDeadLetters::decode(&answer.body).unwrap()
}

fn offsets(settled: &SettledDeadLetters) -> Vec<u64> {
    settled.settled.iter().map(|letter| letter.queue_offset).collect()
}

fn listed(world: &mut World) -> DeadLetterQueue {
    let answer = world.call(RequestCode::SKYLARK_LIST_DEAD_LETTERS, &[("group", "CG".into())], &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let mut queues = DeadLetters::decode(&answer.body).unwrap().queues;
    assert_eq!(queues.len(), 1);
    queues.remove(0)
}

/// How often each body lies in a topic, over all its queues.
fn bodies(world: &mut World, topic: &str) -> BTreeMap<String, usize> {
    let queues = world.broker().catalog.read().topics.queues(topic);
    let mut found = BTreeMap::new();
    for queue in 0..queues {
        for message in world.pulled(topic, queue) {
            *found.entry(String::from_utf8(message.body).unwrap()).or_default() += 1;
        }
    }
    found
}

#[test]
fn dead_letters_are_listed_with_their_ages() {
    let mut world = with_letters(3);
    let queue = listed(&mut world);
    let time = |ms: u64| Some(i64::try_from(START_MS + ms).unwrap());
    let expected = DeadLetterQueue {
        group: "CG".to_owned(),
        topic: DLQ.to_owned(),
        queue_id: 0,
        min_offset: 0,
        max_offset: 3,
        waiting: 3,
        oldest: time(0),
        newest: time(2000),
        stretches: vec![(0, 3)],
    };
    assert_eq!(queue, expected);
    settle(&mut world, PURGE, (0, 1), 10);
    settle(&mut world, PURGE, (2, 3), 10);
    let queue = listed(&mut world);
    assert_eq!((queue.waiting, queue.oldest, queue.newest), (1, time(1000), time(1000)));
    assert_eq!(queue.stretches, [(1, 2)]);
    settle(&mut world, PURGE, (0, 9), 10);
    let queue = listed(&mut world);
    assert_eq!((queue.waiting, queue.oldest, queue.newest, queue.stretches.len()), (0, None, None, 0));
    let all = world.call(RequestCode::SKYLARK_LIST_DEAD_LETTERS, &[], &[]);
    assert_eq!(DeadLetters::decode(&all.body).unwrap().queues.len(), 1);
    let none = world.call(RequestCode::SKYLARK_LIST_DEAD_LETTERS, &[("group", "nobody".into())], &[]);
    assert!(DeadLetters::decode(&none.body).unwrap().queues.is_empty());
}

#[test]
fn a_dead_letter_is_sent_again_as_if_it_had_never_failed() {
    let mut world = with_letters(1);
    let first = world.pulled("orders", 0).remove(0);
    let dead = world.pulled(DLQ, 0).remove(0);
    assert_eq!(dead.reconsume_times, 1);
    let settled = settle(&mut world, RESEND, (0, 1), 10);
    assert_eq!((settled.settled.len(), settled.failed.len(), settled.next), (1, 0, None));
    assert_eq!((&settled.settled[0].message_id, &*settled.settled[0].topic), (&dead.id, "orders"));
    let again = world.pulled("orders", 0).remove(1);
    assert_eq!((&again.body, again.born_at, again.flag), (&first.body, first.born_at, first.flag));
    assert_eq!((again.reconsume_times, again.sys_flag), (0, first.sys_flag));
    let mut expected = first.properties.clone();
    expected.insert("SKYLARK_DEAD_LETTER".to_owned(), dead.id.clone());
    assert_eq!(again.properties, expected);

    // It fails once more, and is another dead letter of the same message.
    let fields = [
        ("offset", again.physical_offset.into()),
        ("group", Value::Text("CG")),
        ("delayLevel", Value::Number(-1)),
    ];
    assert_eq!(world.call(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]).code, 0);
    let dead = world.pulled(DLQ, 0).remove(1);
    assert_eq!((dead.reconsume_times, &dead.properties["ORIGIN_MESSAGE_ID"]), (1, &again.id));
    assert_eq!(listed(&mut world).stretches, [(1, 2)]);
}

#[test]
fn a_dead_letter_is_sent_to_its_group_alone_if_so_wished() {
    let mut world = with_letters(1);
    // As its first heartbeat would have made it.
    let config = br#"{"topicName":"%RETRY%CG","readQueueNums":1,"writeQueueNums":1,"perm":6}"#;
    let fields_of_topic = [
        ("topic", Value::Text("%RETRY%CG")),
        ("defaultTopic", Value::Text("TBW102")),
        ("readQueueNums", Value::Number(1)),
        ("writeQueueNums", Value::Number(1)),
        ("perm", Value::Number(6)),
        ("topicFilterType", Value::Text("SINGLE_TAG")),
        ("topicSysFlag", Value::Number(0)),
        ("order", Value::Flag(false)),
    ];
    assert_eq!(world.call(RequestCode::UPDATE_AND_CREATE_TOPIC, &fields_of_topic, config).code, 0);
    let mut asked = fields((0, 1), 10);
    asked.push(("toGroup", Value::Flag(true)));
    let answer = world.call(RESEND, &asked, &[]);
    let settled = SettledDeadLetters::decode(&answer.body).unwrap();
    assert_eq!((settled.settled.len(), &*settled.settled[0].topic), (1, "%RETRY%CG"), "{settled:?}");
    assert_eq!(world.pulled("orders", 0).len(), 1);
    let again = world.pulled("%RETRY%CG", 0).remove(0);
    assert_eq!((again.reconsume_times, &*again.properties["RETRY_TOPIC"]), (0, "orders"));
    assert!(!again.properties.contains_key("DELAY"));
}

#[test]
fn each_is_sent_once_however_often_it_is_asked_for() {
    let mut world = with_letters(5);
    let settled = settle(&mut world, RESEND, (1, 4), 2);
    assert_eq!((offsets(&settled), settled.next), (vec![1, 2], Some(3)));
    let settled = settle(&mut world, RESEND, (0, 5), 100);
    assert_eq!((offsets(&settled), settled.next), (vec![0, 3, 4], None), "those before are passed over");
    let settled = settle(&mut world, RESEND, (0, u64::MAX), 100);
    assert!(settled.settled.is_empty(), "{settled:?}");
    assert!(bodies(&mut world, "orders").values().all(|count| *count == 2));

    // Two at the same time: what one has settled the other passes over.
    give_up(&mut world, b"z");
    world.submit(RESEND, &fields((0, 9), 10), &[]);
    world.submit(RESEND, &fields((0, 9), 10), &[]);
    let settled: Vec<_> =
        world.answers().iter().map(|answer| SettledDeadLetters::decode(&answer.body).unwrap()).collect();
    assert_eq!(settled.iter().map(|settled| settled.settled.len()).sum::<usize>(), 1, "{settled:?}");
    assert_eq!(bodies(&mut world, "orders")["z"], 2);
}

#[test]
fn what_is_purged_is_neither_listed_nor_sent_any_more() {
    let mut world = with_letters(4);
    let settled = settle(&mut world, PURGE, (0, 9), 3);
    assert_eq!((offsets(&settled), settled.next), (vec![0, 1, 2], Some(3)));
    world.crash(true);
    assert_eq!(listed(&mut world).stretches, [(3, 4)]);
    let settled = settle(&mut world, RESEND, (0, 9), 10);
    assert_eq!(offsets(&settled), [3]);
    assert!(settle(&mut world, PURGE, (0, 9), 10).settled.is_empty());
    assert_eq!(bodies(&mut world, "orders").values().sum::<usize>(), 5);
}

#[test]
fn what_cannot_be_sent_stays_with_the_reason() {
    let mut world = with_letters(2);
    // Nobody gave this one up: it says of no topic where it came from.
    assert_eq!(world.send(DLQ, "", b"stray").code, 0);
    let settled = settle(&mut world, RESEND, (0, 9), 10);
    assert_eq!(offsets(&settled), [0, 1]);
    assert_eq!((settled.failed.len(), settled.failed[0].queue_offset), (1, 2));
    assert!(settled.failed[0].reason.contains("which topic"), "{settled:?}");

    // It would lie there for ever.
    assert_eq!(world.send(DLQ, "RETRY_TOPIC\u{1}rmq_sys_wheel_timer\u{2}", b"stray").code, 0);
    let settled = settle(&mut world, RESEND, (3, 4), 10);
    assert!(settled.failed[0].reason.contains("is the broker's own"), "{settled:?}");
    settle(&mut world, PURGE, (3, 4), 10);
    // It would take a place there that a message of a topic is about to take.
    assert_eq!(world.send(DLQ, "RETRY_TOPIC\u{1}%LMQ%ann\u{2}", b"stray").code, 0);
    let settled = settle(&mut world, RESEND, (4, 5), 10);
    assert!(settled.failed[0].reason.contains("is a light queue"), "{settled:?}");
    settle(&mut world, PURGE, (4, 5), 10);

    give_up(&mut world, b"c");
    assert_eq!(world.call(RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", "orders".into())], &[]).code, 0);
    let settled = settle(&mut world, RESEND, (5, 6), 10);
    assert!(settled.failed[0].reason.contains("topic orders does not exist"), "{settled:?}");
    assert_eq!(listed(&mut world).stretches, [(2, 3), (5, 6)]);
    assert_eq!(world.send("orders", "", b"made again").code, 0);
    assert_eq!(offsets(&settle(&mut world, RESEND, (0, 9), 10)), [5]);
}

#[test]
fn a_request_that_makes_no_sense_is_refused() {
    let mut world = with_letters(1);
    for code in [RESEND, PURGE] {
        for (name, value, expected, named) in [
            ("group", Value::Text("nobody"), 17, "nobody"),
            ("queueId", Value::Number(1), 29, "queueId"),
            ("queueId", Value::Number(-1), 29, "queueId"),
            ("limit", Value::Number(0), 29, "limit"),
            ("limit", Value::Number(-7), 29, "-7"),
            ("beginOffset", Value::Number(-1), 29, "beginOffset"),
            ("beginOffset", Value::Number(9), 29, "endOffset"),
        ] {
            let mut asked = fields((0, 1), 10);
            asked.retain(|(field, _)| *field != name);
            asked.push((name, value));
            let answer: Answer = world.call(code, &asked, &[]);
            assert_eq!(answer.code, expected, "{name}: {answer:?}");
            assert!(answer.remark.contains(named), "{name}: {answer:?}");
        }
    }
    assert_eq!(listed(&mut world).waiting, 1);
}

#[test]
fn settled_ones_stay_so_over_trims_and_a_topic_made_anew() {
    const SEGMENT_BYTES: u64 = 65_536;
    let settings = Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        retention_bytes: Some(4 * SEGMENT_BYTES),
        default_topic_queues: Some(1),
        ..Settings::default()
    };
    let mut world = World::new(1, settings);
    for body in [b"a", b"b", b"c"] {
        give_up(&mut world, body);
    }
    settle(&mut world, RESEND, (0, 2), 10);
    while world.broker().log.frontiers().trimmed.get() < SEGMENT_BYTES {
        assert_eq!(world.send("filler", "", &[0; 4096]).code, 0);
        world.advance(1000);
    }
    world.crash(true);
    let queue = listed(&mut world);
    assert_eq!((queue.min_offset, queue.max_offset, queue.waiting), (3, 3, 0), "what was trimmed is gone");
    assert!(settle(&mut world, RESEND, (0, 9), 10).settled.is_empty());
    give_up(&mut world, b"d");
    assert_eq!(listed(&mut world).stretches, [(3, 4)]);
    assert_eq!(offsets(&settle(&mut world, RESEND, (0, 9), 10)), [3]);

    assert_eq!(world.call(RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", DLQ.into())], &[]).code, 0);
    give_up(&mut world, b"e");
    assert_eq!(listed(&mut world).stretches, [(4, 5)], "its offsets go on");
    assert_eq!(offsets(&settle(&mut world, RESEND, (0, 9), 10)), [4]);
}

#[test]
fn the_trail_says_who_settled_what() {
    let mut world = with_letters(4);
    settle(&mut world, PURGE, (1, 2), 10);
    settle(&mut world, RESEND, (0, 9), 10);
    world.crash(true);
    let asked = [("from", Value::Number(0)), ("limit", Value::Number(10)), ("group", Value::Text("CG"))];
    let answer = world.call(RequestCode::SKYLARK_AUDIT_OFFSETS, &asked, &[]);
    let moves = OffsetTrail::decode(&answer.body).unwrap().moves;
    let told: Vec<_> = moves.iter().map(|moved| (moved.code, &*moved.topic, &*moved.queues)).collect();
    let moved = |from, to| QueueMoved { queue_id: 0, from: Some(from), to: Some(to) };
    let resent = [moved(0, 1), moved(2, 4)];
    assert_eq!(told, [(PURGE.0, DLQ, &[moved(1, 2)][..]), (RESEND.0, DLQ, &resent[..])]);
    assert_eq!(moves[0].address, "127.0.0.1:40000");
}

/// Every body lies in its topic as often as it should: once when it was sent, and once more if it was sent again.
fn check_once(found: &BTreeMap<String, usize>, given_up: usize) -> Result<(), String> {
    let wrong: Vec<_> = found.iter().filter(|(_, count)| **count != 2).collect();
    if wrong.is_empty() && found.len() == given_up {
        return Ok(());
    }
    Err(format!("{} of {given_up} bodies, not twice: {wrong:?}", found.len()))
}

#[test]
fn a_checker_of_once_sees_twice_and_never() {
    let found = |counts: &[usize]| counts.iter().enumerate().map(|(at, n)| (at.to_string(), *n)).collect();
    assert!(check_once(&found(&[2, 2]), 2).is_ok());
    assert!(check_once(&found(&[2, 3]), 2).is_err());
    assert!(check_once(&found(&[2, 1]), 2).is_err());
    assert!(check_once(&found(&[2]), 2).is_err());
}

/// The operator's machine, the broker's, or both go down at any moment; the command is run again until it is through.
#[test]
fn whatever_crashes_each_is_sent_once() {
    for seed in 0..60 {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut world = World::new(seed, Settings { default_topic_queues: Some(1), ..Settings::default() });
        let count = random.random_range(1..12_u8);
        (0..count).for_each(|number| give_up(&mut world, &[b'a' + number]));
        for _attempt in 0..random.random_range(1..8) {
            let from = random.random_range(0..u64::from(count));
            let limit = random.random_range(1..5);
            world.submit(RESEND, &fields((from, u64::from(count)), limit), &[]);
            let broker = Arc::clone(&world.running.broker);
            for _step in 0..random.random_range(0..12) {
                match random.random_range(0..4) {
                    0 => drop(world.running.writer.step()),
                    1 => drop(broker.readers.step(&broker)),
                    2 => drop(world.running.dispatcher.step().unwrap()),
                    _ => world.poll(),
                }
            }
            drop(broker);
            if random.random_bool(0.7) {
                world.crash(random.random_bool(0.5));
            }
        }
        // What was asked for and not answered yet.
        world.answers();
        let mut next = Some(0);
        while let Some(from) = next {
            next = settle(&mut world, RESEND, (from, u64::MAX), 3).next;
        }
        let found = bodies(&mut world, "orders");
        check_once(&found, count.into()).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        assert_eq!(listed(&mut world).waiting, 0, "seed {seed}");
    }
}
