//! Messages that ask for a time: when they are delivered, what they look like, and how much may wait.

use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_broker::timers::Carried;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::recall::RecallHandle;
use skylark_protocol::outgoing::Value;
use skylark_storage::PhysicalOffset;
use skylark_storage::device::Space;

use super::world::{Pulled, START_MS, World, key, level, timer};
use crate::support::raw::{Answer, send_fields};

const TIMERS: &str = "rmq_sys_wheel_timer";
const SEGMENT_BYTES: u64 = 65_536;
const DAY_MS: u64 = 86_400_000;

pub fn bodies(world: &mut World, topic: &str) -> Vec<String> {
    let pulled = world.pulled(topic, 0).into_iter();
    pulled.map(|message| String::from_utf8(message.body).unwrap()).collect()
}

/// What the broker says of itself.
fn figure(world: &mut World, name: &str) -> String {
    let answer = world.call(RequestCode::GET_BROKER_RUNTIME_INFO, &[], &[]);
    let body = String::from_utf8(answer.body).unwrap();
    let begin = format!("\"{name}\":\"");
    let at = body.find(&begin).unwrap_or_else(|| panic!("no {name} in {body}")) + begin.len();
    body[at..].split('"').next().unwrap().to_owned()
}

fn property<'a>(message: &'a Pulled, name: &str) -> Option<&'a str> {
    message.properties.get(name).map(String::as_str)
}

#[test]
fn where_a_message_belongs_that_waits_is_not_for_its_sender_to_say() {
    let mut world = World::new(1, Settings::default());
    for forged in ["", "REAL_TOPIC\u{1}forged\u{2}REAL_QID\u{1}9\u{2}", "REAL_QID\u{1}9"] {
        let asked = format!("{}{forged}", timer("TIMER_DELAY_MS", 10));
        let sent = world.call(RequestCode::SEND_MESSAGE_V2, &send_fields("orders", 2, &asked), b"x");
        assert_eq!(sent.code, 0, "{sent:?}");
    }
    for waiting in world.pulled(TIMERS, 0) {
        let place = ["REAL_TOPIC", "REAL_QID"].map(|name| property(&waiting, name));
        assert_eq!(place, [Some("orders"), Some("2")]);
    }
    world.advance(11);
    assert_eq!(world.pulled("orders", 2).len(), 3);
}

#[test]
fn a_message_with_a_time_waits_and_arrives_to_the_millisecond() {
    let mut world = World::new(1, Settings::default());
    let due_ms = START_MS + 12_345;
    let asked = format!("{}TAGS\u{1}A\u{2}{}", timer("TIMER_DELIVER_MS", due_ms), key("U"));
    let sent = world.call(RequestCode::SEND_MESSAGE_V2, &send_fields("orders", 2, &asked), b"x");
    assert_eq!((sent.code, sent.number("queueId"), sent.number("queueOffset")), (0, 2, 0), "{sent:?}");
    let handle = RecallHandle::parse(&sent.fields["recallHandle"]).unwrap();
    let expected = RecallHandle {
        topic: "orders".into(),
        broker: "broker-a".into(),
        behind_due_ms: due_ms + 1,
        message_id: "U".into(),
    };
    assert_eq!(handle, expected);
    let waiting = world.pulled(TIMERS, 0);
    assert_eq!(waiting.len(), 1);
    assert_eq!(sent.fields["msgId"], waiting[0].id, "the answer names the record that waits");
    let due = due_ms.to_string();
    for (name, value) in
        [("REAL_TOPIC", "orders"), ("REAL_QID", "2"), ("TIMER_OUT_MS", &*due), ("TIMER_DELIVER_MS", &*due)]
    {
        assert_eq!(property(&waiting[0], name), Some(value), "{name}");
    }
    assert_eq!((figure(&mut world, "timerCongestNum"), figure(&mut world, "timerOffsetBehind")), zero("1"));
    let bytes: u64 = figure(&mut world, "timerPendingBytes").parse().unwrap();
    assert!(bytes > 100, "{bytes}");

    assert_eq!(world.advance(12_344), Next::Due(due_ms));
    assert_eq!(world.pulled("orders", 2).len(), 0);
    assert_eq!(world.advance(1), Next::Arrival);
    let arrived = world.pulled("orders", 2);
    assert_eq!((arrived.len(), &*arrived[0].body, arrived[0].stored_at), (1, &b"x"[..], due_ms));
    let since = START_MS.to_string();
    for (name, value) in [
        ("TIMER_DELIVER_MS", &*due),
        ("TIMER_OUT_MS", &*due),
        ("TIMER_ENQUEUE_MS", &*since),
        ("TIMER_DEQUEUE_MS", &*due),
        ("REAL_TOPIC", "orders"),
        ("REAL_QID", "2"),
        ("UNIQ_KEY", "U"),
        ("TAGS", "A"),
    ] {
        assert_eq!(property(&arrived[0], name), Some(value), "{name}");
    }
    assert_eq!((figure(&mut world, "timerCongestNum"), figure(&mut world, "timerPendingBytes")), zero("0"));
    assert_eq!(world.broker().timers.progress(world.broker()), [], "a time is no level");
}

fn zero(first: &str) -> (String, String) {
    (first.to_owned(), "0".to_owned())
}

#[test]
fn each_way_to_ask_is_kept() {
    let mut world = World::new(2, Settings::default());
    for (body, asked) in [
        ("past", timer("TIMER_DELIVER_MS", START_MS - 1)),
        ("now", timer("TIMER_DELIVER_MS", START_MS)),
        ("none", timer("TIMER_DELAY_MS", 0)),
        ("negative", "TIMER_DELAY_SEC\u{1}-3\u{2}".to_owned()),
        ("waited", format!("{}TIMER_OUT_MS\u{1}1\u{2}", timer("TIMER_DELAY_MS", 9))),
        ("seconds", timer("TIMER_DELAY_SEC", 2)),
        ("milliseconds", timer("TIMER_DELAY_MS", 1500)),
        ("time", timer("TIMER_DELIVER_MS", START_MS + 1)),
        ("level", format!("{}{}", level(1), timer("TIMER_DELAY_MS", 5))),
        ("a year", timer("TIMER_DELAY_SEC", 366 * 86_400)),
    ] {
        let sent = world.send("t", &asked, body.as_bytes());
        assert_eq!(sent.code, 0, "{body}: {sent:?}");
        let recallable = ["seconds", "milliseconds", "time", "a year"].contains(&body);
        assert_eq!(sent.fields.contains_key("recallHandle"), recallable, "{body}");
    }
    let at_once = ["past", "now", "none", "negative", "waited"];
    world.fire();
    assert_eq!(bodies(&mut world, "t"), at_once);
    let first = &world.pulled("t", 0)[0];
    assert_eq!(
        property(first, "TIMER_DELIVER_MS"),
        Some(&*(START_MS - 1).to_string()),
        "it is left as it is"
    );
    for (ms, body) in [(1, "time"), (1000, "level"), (500, "milliseconds"), (500, "seconds")] {
        world.advance(ms - 1);
        assert!(!bodies(&mut world, "t").contains(&body.to_owned()), "{body} is early");
        world.advance(1);
        assert_eq!(bodies(&mut world, "t").last().map(String::as_str), Some(body));
    }
    let level = world.pulled("t", 0).into_iter().find(|message| message.body == b"level").unwrap();
    assert_eq!((property(&level, "TIMER_DELAY_MS"), property(&level, "DELAY")), (None, Some("1")));
    assert_eq!(world.advance(366 * DAY_MS), Next::Arrival);
    assert_eq!(bodies(&mut world, "t").last().map(String::as_str), Some("a year"));
}

#[test]
fn what_cannot_be_kept_is_refused_in_rocketmqs_words() {
    let settings = Settings { delay_seconds_max: Some(10), ..Settings::default() };
    let mut world = World::new(3, settings);
    let words = "timer message illegal, the delay time should not be bigger than the max delay 10000ms";
    for asked in [
        timer("TIMER_DELAY_SEC", 11),
        timer("TIMER_DELIVER_MS", START_MS + 10_002),
        timer("TIMER_DELAY_MS", u64::MAX),
        "TIMER_DELAY_MS\u{1}soon\u{2}".to_owned(),
        format!("{}TIMER_DEL_UNIQKEY\u{1}t+U\u{2}", timer("TIMER_DELAY_MS", 5)),
    ] {
        let sent = world.send("t", &asked, b"x");
        assert_eq!(sent.code, 13, "{sent:?}");
        assert!(sent.remark.starts_with(words), "{sent:?}");
    }
    assert_eq!(world.send("t", &timer("TIMER_DELAY_SEC", 10), b"x").code, 0);

    // Nor is a batch delayed, as a whole or in part.
    let asked = timer("TIMER_DELAY_MS", 5);
    let mut fields = send_fields("t", 0, "");
    fields.retain(|(name, _)| *name != "m");
    fields.push(("m", Value::Flag(true)));
    let inner = |properties: &str| {
        let bytes = u16::try_from(properties.len()).unwrap();
        let mut message = (23 + u32::from(bytes)).to_be_bytes().to_vec();
        message.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'x']);
        message.extend(bytes.to_be_bytes());
        message.extend(properties.bytes());
        message
    };
    assert_eq!(world.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &inner("")).code, 0);
    assert_eq!(world.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &inner(&asked)).code, 13);
    fields.retain(|(name, _)| *name != "i");
    fields.push(("i", Value::Text(&asked)));
    assert_eq!(world.call(RequestCode::SEND_BATCH_MESSAGE, &fields, &inner("")).code, 13);
}

/// What waits, by looking at every message of the log that does.
fn waits(world: &World) -> (u64, u64) {
    let broker = world.broker();
    let mark = broker.timers.folded.lock().mark();
    let (all, last) =
        (PhysicalOffset::ZERO..world.end(), skylark_index::TimerKey { due: u64::MAX, at: world.end() });
    let index = broker.index.read();
    let mut timers = index.sealed().late_timers(all.clone(), last, usize::MAX / 2).unwrap();
    timers.extend(index.late_timers(all, last, usize::MAX / 2));
    timers.retain(|timer| mark.is_pending(timer.key));
    timers.retain(|timer| !broker.timers.folded.lock().is_recalled(timer.key));
    (timers.len() as u64, timers.iter().map(|timer| u64::from(timer.record_bytes)).sum())
}

#[test]
fn what_waits_is_counted_exactly_over_restarts_and_trims() {
    let settings = Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        retention_hours: Some(100 * 24),
        ..Settings::default()
    };
    let mut world = World::new(4, settings);
    world.send("t", "", b"makes the topic");
    for number in 0..900_u64 {
        let asked = match number % 3 {
            0 => timer("TIMER_DELAY_MS", 1000 + number),
            1 => timer("TIMER_DELIVER_MS", START_MS + 30 * DAY_MS - number),
            _ => level(5),
        };
        let body = vec![b'x'; usize::try_from(number % 97).unwrap() + 100];
        world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("t", 0, &asked), &body);
        world.settle();
    }
    assert!(world.answers().iter().all(|answer| answer.code == 0));
    let counted = |world: &World| {
        let pending = world.broker().timers.folded.lock().pending();
        assert_eq!((pending.messages, pending.bytes), waits(world));
        pending.messages
    };
    assert_eq!(counted(&world), 900);
    world.crash(true);
    assert_eq!(counted(&world), 900);
    assert!(world.broker().founded_on > PhysicalOffset::ZERO, "a snapshot was loaded");
    world.advance(1500);
    assert_eq!(counted(&world), 900 - 167);
    let below = PhysicalOffset::new(3 * SEGMENT_BYTES);
    let broker = std::sync::Arc::clone(&world.running.broker);
    while let Carried::Some { .. } = broker.timers.carry_forward(&broker, below).unwrap() {
        world.settle();
    }
    assert_eq!(counted(&world), 900 - 167);
    world.crash(false);
    assert_eq!(counted(&world), 900 - 167);
    world.advance(90_000);
    world.crash(true);
    assert_eq!(counted(&world), 300);
    world.advance(30 * DAY_MS);
    assert_eq!(counted(&world), 0);
    assert_eq!(world.broker().timers.folded.lock().pending().bytes, 0);
    assert_eq!(world.pulled("t", 0).len(), 901);
}

#[test]
fn beyond_their_share_of_the_disk_delayed_messages_are_refused() {
    let settings = Settings { pending_disk_percent: Some(1), ..Settings::default() };
    let mut world = World::new(5, settings);
    world.send("t", "", b"makes the topic");
    // A hundredth of it is 20,000 bytes.
    let space = Space { total_bytes: 2_000_000, available_bytes: 2_000_000 };
    world.broken.set_space(Some(space));
    world.advance(1000);
    let send = |world: &mut World, asked: &str| -> Answer { world.send("t", asked, &[b'x'; 1000]) };
    let mut taken = 0;
    let refused = loop {
        let asked = if taken % 2 == 0 { timer("TIMER_DELAY_SEC", 60) } else { level(5) };
        let sent = send(&mut world, &asked);
        if sent.code != 0 {
            break sent;
        }
        taken += 1;
    };
    assert_eq!(refused.code, 1);
    let words = format!("{taken} delayed messages wait and take ");
    assert!(refused.remark.starts_with(&words) && refused.remark.contains("above 20000"), "{refused:?}");
    assert!((14..=19).contains(&taken), "{taken}");
    assert_eq!(send(&mut world, &level(1)).code, 1);
    assert_eq!(send(&mut world, "").code, 0, "what need not wait is taken");
    let failed = world.pulled("t", 0).pop().unwrap().physical_offset;
    let fields = [("offset", failed.into()), ("group", Value::Text("CG")), ("delayLevel", Value::Number(5))];
    let answer = world.call(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]);
    assert_eq!(answer.code, 0, "what was taken once comes back: {answer:?}");
    world.crash(true);
    world.advance(1000);
    assert_eq!(send(&mut world, &level(1)).code, 1, "the count is kept");
    assert_eq!(figure(&mut world, "timerPendingBytesMax"), "20000");
    world.advance(60_001);
    assert_eq!(send(&mut world, &timer("TIMER_DELAY_MS", 5)).code, 0);
}

#[test]
fn a_message_that_comes_back_waits_for_its_level_alone() {
    let mut world = World::new(6, Settings::default());
    world.send("t", &timer("TIMER_DELAY_MS", 100), b"x");
    world.advance(101);
    let first = world.pulled("t", 0).remove(0);
    let beat = serde_json::json!({
        "clientID": "c",
        "consumerDataSet": [{
            "groupName": "CG",
            "consumeType": "CONSUME_PASSIVELY",
            "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET",
            "subscriptionDataSet": [],
            "unitMode": false,
        }],
        "producerDataSet": [],
    });
    world.call(RequestCode::HEART_BEAT, &[], beat.to_string().as_bytes());
    let fields = [
        ("offset", first.physical_offset.into()),
        ("group", Value::Text("CG")),
        ("delayLevel", Value::Number(1)),
        ("unitMode", Value::Flag(false)),
    ];
    let answer = world.call(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(world.fire(), Next::Due(world.now_ms() + 1001));
    world.advance(1001);
    let again = world.pulled("%RETRY%CG", 0);
    assert_eq!((again.len(), &*again[0].body), (1, &b"x"[..]));
    assert_eq!(property(&again[0], "TIMER_DELAY_MS"), None);
}

#[test]
fn clocks_that_jump_deliver_nothing_early_or_twice() {
    let mut world = World::new(7, Settings::default());
    let due_ms = START_MS + 10_000;
    world.send("t", &timer("TIMER_DELIVER_MS", due_ms), b"time");
    world.send("t", &timer("TIMER_DELAY_MS", 20_000), b"delay");
    world.clock.set_wall_ms(START_MS - DAY_MS);
    assert_eq!(world.fire(), Next::Due(due_ms));
    world.send("t", &timer("TIMER_DELAY_MS", 5), b"behind");
    world.advance(5);
    assert_eq!(bodies(&mut world, "t"), Vec::<String>::new());
    world.advance(1);
    assert_eq!(bodies(&mut world, "t"), ["behind"]);
    world.crash(true);
    world.clock.set_wall_ms(due_ms);
    world.fire();
    assert_eq!(bodies(&mut world, "t"), ["behind", "time"]);
    // What it was due by when it was sent counts, not how the clock came there.
    world.clock.set_wall_ms(START_MS + 30 * DAY_MS);
    world.fire();
    world.clock.set_wall_ms(START_MS);
    world.fire();
    world.crash(false);
    world.advance(60 * DAY_MS);
    assert_eq!(bodies(&mut world, "t"), ["behind", "time", "delay"]);
}

#[test]
fn retention_takes_no_message_that_waits_for_a_time() {
    let settings = Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        retention_bytes: Some(6 * SEGMENT_BYTES),
        ..Settings::default()
    };
    let mut world = World::new(8, settings);
    for number in 0..100_u64 {
        let asked = timer("TIMER_DELIVER_MS", START_MS + 200 * DAY_MS + number);
        assert_eq!(world.send("t", &asked, number.to_string().as_bytes()).code, 0);
    }
    for round in 0..20 {
        for _ in 0..100 {
            world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("other", 0, ""), &[b'x'; 300]);
        }
        assert_eq!(world.answers().len(), 100);
        // Retention is looked at every ten seconds.
        world.advance(11_000);
        if round % 7 == 6 {
            world.crash(round % 2 == 0);
        }
    }
    let trimmed = world.broker().log.frontiers().trimmed;
    assert!(trimmed.get() > 2 * SEGMENT_BYTES, "the log begins at {trimmed}");
    assert_eq!(world.broker().timers.folded.lock().pending().messages, 100);
    world.advance(201 * DAY_MS);
    let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(bodies(&mut world, "t"), numbers);
}
