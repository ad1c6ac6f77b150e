//! Messages that consumers send back: when they return, what they carry, and when they are given up.

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode;
use skylark_protocol::message::OffsetMessageId;
use skylark_protocol::outgoing::Value;

use super::world::{Pulled, START_MS, World, level};
use crate::support::raw::{Answer, send_fields};

const GROUP: &str = "CG";

fn send_back(world: &mut World, offset: u64, more: &[(&'static str, Value<'_>)]) -> Answer {
    let mut fields = vec![("offset", offset.into()), ("group", Value::Text(GROUP))];
    if more.iter().all(|(name, _)| *name != "delayLevel") {
        fields.push(("delayLevel", Value::Number(0)));
    }
    fields.extend_from_slice(more);
    world.call(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[])
}

/// A world with a message in it, which the group has seen.
fn with_message() -> (World, Pulled) {
    let mut world = World::new(1, Settings::default());
    let sent = world.send("orders", "TAGS\u{1}A\u{2}UNIQ_KEY\u{1}U\u{2}WAIT\u{1}true\u{2}", b"x");
    assert_eq!(sent.code, 0);
    let message = world.pulled("orders", 0).pop().unwrap();
    (world, message)
}

fn retried(world: &mut World) -> Vec<Pulled> {
    world.pulled("%RETRY%CG", 0)
}

fn has(message: &Pulled, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        assert_eq!(message.properties.get(*name).map(String::as_str), *value, "{name} of {message:?}");
    }
}

#[test]
fn a_message_comes_back_a_level_later_each_time_and_then_is_dead() {
    let (mut world, first) = with_message();
    let mut message = first.clone();
    let mut seconds = 0;
    for (times, (delay, level)) in [(10, "3"), (30, "4"), (60, "5")].into_iter().enumerate() {
        let answer = send_back(&mut world, message.physical_offset, &[]);
        assert_eq!(answer.code, 0, "{answer:?}");
        world.advance(delay * 1000);
        assert_eq!(retried(&mut world).len(), times, "not before {delay} s are over");
        world.advance(1);
        let returned = retried(&mut world);
        assert_eq!(returned.len(), times + 1);
        message = returned[times].clone();
        seconds += delay;
        assert_eq!(message.stored_at, START_MS + seconds * 1000 + times as u64 + 1);
        assert_eq!((&*message.body, message.born_at, message.flag), (&b"x"[..], first.born_at, first.flag));
        assert_eq!(message.reconsume_times, i32::try_from(times).unwrap() + 1);
        has(
            &message,
            &[
                ("RETRY_TOPIC", Some("orders")),
                ("ORIGIN_MESSAGE_ID", Some(&first.id)),
                ("DELAY", Some(level)),
                ("REAL_TOPIC", Some("%RETRY%CG")),
                ("REAL_QID", Some("0")),
                ("WAIT", Some("false")),
                ("UNIQ_KEY", Some("U")),
                ("TAGS", Some("A")),
                ("TIMER_OUT_MS", None),
            ],
        );
    }
    let limit = [("maxReconsumeTimes", Value::Number(3))];
    assert_eq!(send_back(&mut world, message.physical_offset, &limit).code, 0);
    let dead = world.pulled("%DLQ%CG", 0);
    assert_eq!((dead.len(), dead[0].reconsume_times), (1, 4));
    has(
        &dead[0],
        &[
            ("RETRY_TOPIC", Some("orders")),
            ("ORIGIN_MESSAGE_ID", Some(&first.id)),
            ("DELAY", Some("0")),
            ("WAIT", Some("false")),
        ],
    );
    let catalog = world.broker().catalog.read();
    let config = catalog.topics.get("%DLQ%CG").unwrap();
    assert_eq!((config.read_queues, config.write_queues, config.perm.0), (1, 1, 6));
}

#[test]
fn a_group_is_tried_as_often_as_it_is_configured() {
    let (mut world, mut message) = with_message();
    for _ in 0..16 {
        assert_eq!(send_back(&mut world, message.physical_offset, &[]).code, 0);
        world.advance(7_200_001);
        message = retried(&mut world).pop().unwrap();
    }
    assert_eq!(message.properties["DELAY"], "18", "two hours are the most");
    assert_eq!((message.reconsume_times, world.pulled("%DLQ%CG", 0).len()), (16, 0));
    assert_eq!(send_back(&mut world, message.physical_offset, &[]).code, 0);
    assert_eq!(world.pulled("%DLQ%CG", 0).len(), 1);
}

#[test]
fn a_consumer_may_name_the_level() {
    let (mut world, message) = with_message();
    let named = |level: i64| [("delayLevel", Value::Number(level))];
    assert_eq!(send_back(&mut world, message.physical_offset, &named(1)).code, 0);
    world.advance(1001);
    assert_eq!(retried(&mut world).len(), 1);
    assert_eq!(send_back(&mut world, message.physical_offset, &named(-1)).code, 0);
    assert_eq!(world.pulled("%DLQ%CG", 0).len(), 1, "below zero there is no hope");
}

#[test]
fn nothing_comes_back_from_an_offset_that_is_no_message() {
    let (mut world, message) = with_message();
    let at = message.physical_offset;
    let end = world.end().get();
    let control = (0..at).step_by(8).find(|offset| {
        let record = world.broker().log.record_at(skylark_storage::PhysicalOffset::new(*offset));
        record.is_ok_and(|record| record.fields.kind.get() > 16)
    });
    let before = end;
    for offset in [at + 8, at + 1, control.unwrap(), end, end + 8, u64::MAX, u64::MAX - 31, 0] {
        let answer = send_back(&mut world, offset, &[]);
        assert_eq!((answer.code, answer.body.len()), (1, 0), "{offset}: {answer:?}");
        assert!(answer.remark.starts_with("look message by offset failed"), "{answer:?}");
    }
    let fields =
        [("offset", Value::Number(-1)), ("group", Value::Text(GROUP)), ("delayLevel", Value::Number(0))];
    assert_ne!(world.call(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]).code, 0);
    world.advance(1_000_000);
    assert_eq!(retried(&mut world).len(), 0);
    // The group's retry topic was made by its first request, and nothing else was appended.
    assert!(world.end().get() - before < 4096 * 3, "{before} to {}", world.end());
}

/// It would come before its time, or although it is recalled or rolled back.
#[test]
fn what_waits_cannot_be_sent_back() {
    let (mut world, _) = with_message();
    let half = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}P\u{2}";
    for (properties, waits_in) in [
        (level(5), "SCHEDULE_TOPIC_XXXX"),
        ("TIMER_DELAY_SEC\u{1}60\u{2}".to_owned(), "rmq_sys_wheel_timer"),
        (half.to_owned(), "RMQ_SYS_TRANS_HALF_TOPIC"),
    ] {
        let sent = world.send("orders", &properties, b"waits");
        let id: OffsetMessageId = sent.fields["msgId"].parse().unwrap();
        let answer = send_back(&mut world, id.physical_offset, &[]);
        assert_eq!(answer.code, 1, "{properties}");
        assert!(answer.remark.contains(waits_in), "{answer:?}");
    }
    world.advance(30_000);
    assert_eq!(retried(&mut world).len(), 0);
}

#[test]
fn a_group_must_exist_and_want_its_messages_back() {
    let (mut world, message) = with_message();
    let fields = [
        ("offset", message.physical_offset.into()),
        ("group", Value::Text("nobody")),
        ("delayLevel", Value::Number(0)),
    ];
    assert_eq!(world.call(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]).code, 26);
    let config = br#"{"groupName":"CG","retryQueueNums":0}"#;
    let answer = world.call(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], config);
    assert_eq!(answer.code, 0, "{answer:?}");
    let end = world.end();
    assert_eq!(send_back(&mut world, message.physical_offset, &[]).code, 0);
    assert_eq!(world.end(), end, "nothing was stored");
}

#[test]
fn what_is_sent_back_is_acknowledged_when_it_is_durable() {
    let (mut world, message) = with_message();
    assert_eq!(send_back(&mut world, message.physical_offset, &[]).code, 0);
    let fields = [
        ("offset", message.physical_offset.into()),
        ("group", Value::Text(GROUP)),
        ("delayLevel", Value::Number(1)),
    ];
    world.submit(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]);
    let broker = std::sync::Arc::clone(&world.running.broker);
    assert!(broker.readers.step(&broker));
    world.poll();
    assert!(world.written().is_empty(), "it is appended, and on no disk yet");
    assert_eq!(world.answers().len(), 1);
    world.crash(true);
    world.advance(10_001);
    assert_eq!(retried(&mut world).len(), 2);
}

/// What a client does when it cannot send back: it sends to the retry topic itself.
fn send_to_retry(world: &mut World, times: i64, times_max: i64) -> Answer {
    let properties = format!("{}RETRY_TOPIC\u{1}orders\u{2}", level(3));
    let mut fields = send_fields("%RETRY%CG", 0, &properties);
    fields.retain(|(name, _)| *name != "j");
    fields.extend([("j", Value::Number(times)), ("l", Value::Number(times_max))]);
    world.call(RequestCode::SEND_MESSAGE_V2, &fields, b"again")
}

#[test]
fn a_client_may_send_to_its_retry_topic_itself() {
    let (mut world, _) = with_message();
    assert_eq!(send_to_retry(&mut world, 3, 3).code, 0);
    world.advance(10_001);
    let returned = retried(&mut world);
    assert_eq!((returned.len(), returned[0].reconsume_times), (1, 3));
    assert_eq!(send_to_retry(&mut world, 4, 3).code, 0);
    let dead = world.pulled("%DLQ%CG", 0);
    assert_eq!((dead.len(), dead[0].reconsume_times), (1, 4));
    has(&dead[0], &[("DELAY", Some("-1")), ("RETRY_TOPIC", Some("orders"))]);

    // Who consumes in order retries on its own, and sends what it gives up.
    let lock = br#"{"clientId":"C","consumerGroup":"CG","mqSet":[{"brokerName":"broker-a","queueId":0,"topic":"orders"}]}"#;
    assert_eq!(world.call(RequestCode::LOCK_BATCH_MQ, &[], lock).code, 0);
    assert_eq!(send_to_retry(&mut world, 1, 3).code, 0);
    assert_eq!(world.pulled("%DLQ%CG", 0).len(), 2);
    world.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!(send_to_retry(&mut world, 1, 3).code, 0);
    assert_eq!(world.pulled("%DLQ%CG", 0).len(), 2, "the lock has expired");
}
