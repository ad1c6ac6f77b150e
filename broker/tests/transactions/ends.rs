//! Commits and rollbacks.

use skylark_broker::config::Settings;
use skylark_broker::folds::halves::{HalfEnded, HalvesEnded, Outcome};
use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;
use skylark_storage::device::Space;

use super::producer::*;
use crate::support::raw::send_fields;
use crate::world::{START_MS, World, timer};

fn world() -> World {
    World::new(1, Settings::default())
}

#[test]
fn a_message_is_consumed_once_its_transaction_is_committed() {
    let mut world = world();
    let half = prepare(&mut world, "t", "K1", "");
    assert_eq!(half.key, "K1");
    assert_eq!(consumed(&mut world, "t"), [""; 0]);
    let waiting = world.pulled(HALF, 0).remove(0);
    assert_eq!((waiting.physical_offset, waiting.queue_offset), (half.physical_offset, half.queue_offset));
    let told = ["REAL_TOPIC", "REAL_QID", "__transactionId__", "PGROUP"];
    assert_eq!(told.map(|name| &*waiting.properties[name]), ["t", "2", "K1", "PG"]);

    assert_eq!(end(&mut world, &half, COMMIT).code, 0);
    let pulled = world.pulled("t", 2);
    assert_eq!(pulled.len(), 1);
    let committed = &pulled[0];
    assert_eq!((&*committed.body, committed.queue_offset), (&b"K1"[..], 0));
    assert_eq!(committed.properties, waiting.properties, "RocketMQ leaves them as they are");
    assert_eq!(
        (committed.sys_flag & 0xC, committed.prepared_transaction_offset),
        (8, half.physical_offset.cast_signed())
    );
    assert_eq!(end(&mut world, &half, COMMIT).code, 1, "it was committed before");
    assert_eq!(end(&mut world, &half, ROLLBACK).code, 1);
    assert_eq!(consumed(&mut world, "t"), ["K1"]);
    assert_eq!(world.broker().transactions.count(), 0);
}

#[test]
fn nobody_gets_what_was_rolled_back() {
    let mut world = world();
    let (first, second) = (prepare(&mut world, "t", "K1", ""), prepare(&mut world, "t", "K2", ""));
    assert_eq!(end(&mut world, &first, ROLLBACK).code, 0);
    assert_eq!(end(&mut world, &first, COMMIT).code, 1);
    assert_eq!(end(&mut world, &second, COMMIT).code, 0);
    for power in [false, true] {
        world.crash(power);
        assert_eq!(end(&mut world, &first, COMMIT).code, 1);
        assert_eq!(consumed(&mut world, "t"), ["K2"]);
        assert!(after(&mut world, 100_000).is_empty());
    }
}

#[test]
fn two_ends_at_the_same_time_are_one() {
    let mut world = world();
    let half = prepare(&mut world, "t", "K1", "");
    for outcome in [COMMIT, ROLLBACK, COMMIT] {
        world.submit(RequestCode::END_TRANSACTION, &end_fields(&half, outcome, false), b"");
    }
    let mut codes: Vec<_> = world.answers().iter().map(|answer| (answer.opaque, answer.code)).collect();
    codes.sort_unstable();
    assert_eq!(codes.iter().map(|(_, code)| *code).collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(consumed(&mut world, "t"), ["K1"]);
}

#[test]
fn what_is_not_exactly_an_open_half_message_ends_nothing() {
    let mut world = world();
    let plain = world.send("t", "", b"plain");
    let half = prepare(&mut world, "t", "K1", "");
    let of_plain = Half::of(&plain);
    let wrong = [
        Half { physical_offset: half.physical_offset + 8, ..half.clone() },
        Half { physical_offset: 0, ..half.clone() },
        Half { physical_offset: u64::MAX >> 1, ..half.clone() },
        Half { queue_offset: half.queue_offset + 1, ..half.clone() },
        of_plain,
    ];
    for wrong in &wrong {
        for outcome in [COMMIT, ROLLBACK] {
            assert_eq!(end(&mut world, wrong, outcome).code, 1, "{wrong:?}");
        }
    }
    let mut fields = end_fields(&half, COMMIT, false);
    fields[0].1 = Value::Text("other");
    let refused = world.call(RequestCode::END_TRANSACTION, &fields, b"");
    assert_eq!((refused.code, &*refused.remark), (1, "The producer group wrong"));
    // A producer that does not know says so, and waits for no answer.
    for outcome in [0, 4, 7] {
        world.submit(RequestCode::END_TRANSACTION, &end_fields(&half, outcome, false), b"");
    }
    assert!(world.answers().is_empty());
    assert_eq!(consumed(&mut world, "t"), [""; 0]);
    assert_eq!(end(&mut world, &half, COMMIT).code, 0);
}

#[test]
fn a_commit_reads_what_has_left_memory() {
    let settings = Settings { tail_bytes: Some(1 << 20), ..Settings::default() };
    let mut world = World::new(1, settings);
    let half = prepare(&mut world, "t", "K1", "");
    for _ in 0..64 {
        assert_eq!(world.send("t", "", &[b'x'; 100_000]).code, 0);
    }
    world.crash(false);
    assert_eq!(end(&mut world, &half, COMMIT).code, 0);
    assert_eq!(consumed(&mut world, "t"), ["K1"]);
}

#[test]
fn a_committed_message_waits_for_its_delay_from_then_on() {
    let mut world = world();
    let half = prepare(&mut world, "t", "K1", "DELAY\u{1}2\u{2}");
    world.advance(20_000);
    assert_eq!(consumed(&mut world, "t"), [""; 0]);
    assert_eq!(end(&mut world, &half, COMMIT).code, 0);
    world.advance(4_999);
    assert_eq!(consumed(&mut world, "t"), [""; 0]);
    world.crash(true);
    world.advance(2);
    let pulled = world.pulled("t", 2);
    assert_eq!(keys(&pulled), ["K1"]);
    assert_eq!(
        (pulled[0].sys_flag & 0xC, pulled[0].prepared_transaction_offset),
        (8, half.physical_offset.cast_signed())
    );
    assert_eq!(pulled[0].properties["DELAY"], "2");
}

/// Java's producers do not wait for the answer to a commit: one that is refused until it is given up is lost to them.
#[test]
fn a_commit_is_taken_whatever_may_wait_by_now() {
    let mut world = world();
    let far = prepare(&mut world, "t", "FAR", &timer("TIMER_DELAY_SEC", 3600));
    let near = prepare(&mut world, "t", "NEAR", "DELAY\u{1}2\u{2}");
    world.reconfigure(Settings {
        delay_seconds_max: Some(60),
        pending_disk_percent: Some(1),
        ..Settings::default()
    });
    let space = Space { total_bytes: 1000, available_bytes: 1000 };
    world.broken.set_space(Some(space));
    assert_eq!(world.send("t", &timer("TIMER_DELAY_SEC", 5), &[0; 100]).code, 0);
    world.advance(1000);
    assert_eq!(world.send("t", &timer("TIMER_DELAY_SEC", 5), b"x").code, 1, "too much waits");
    for half in [&far, &near] {
        assert_eq!(end(&mut world, half, COMMIT).code, 0);
    }
    world.advance(5_001);
    assert!(consumed(&mut world, "t").contains(&"NEAR".to_owned()));
    world.advance(3_600_000);
    assert!(consumed(&mut world, "t").contains(&"FAR".to_owned()));
}

#[test]
fn a_committed_message_waits_for_the_time_it_asks_for() {
    let mut world = world();
    let after = prepare(&mut world, "t", "AFTER", &timer("TIMER_DELAY_MS", 2500));
    let until = prepare(&mut world, "t", "UNTIL", &timer("TIMER_DELIVER_MS", START_MS + 21_000));
    let passed = prepare(&mut world, "t", "PASSED", &timer("TIMER_DELIVER_MS", START_MS + 10_000));
    let rolled_back = prepare(&mut world, "t", "NEVER", &timer("TIMER_DELAY_SEC", 1));
    let now_ms = world.now_ms();
    assert!(now_ms < START_MS + 1000, "the broker starts at once");
    world.advance(START_MS + 20_000 - now_ms);
    assert_eq!(consumed(&mut world, "t"), [""; 0]);
    for half in [&after, &until, &passed] {
        assert_eq!(end(&mut world, half, COMMIT).code, 0);
    }
    assert_eq!(end(&mut world, &rolled_back, ROLLBACK).code, 0);
    assert_eq!(consumed(&mut world, "t"), ["PASSED"]);
    world.crash(true);
    world.advance(START_MS + 20_999 - world.now_ms());
    assert_eq!(consumed(&mut world, "t"), ["PASSED"]);
    world.advance(1);
    assert_eq!(consumed(&mut world, "t"), ["PASSED", "UNTIL"]);
    world.advance(1500);
    assert_eq!(consumed(&mut world, "t"), ["PASSED", "UNTIL"]);
    world.advance(1);
    assert_eq!(consumed(&mut world, "t"), ["PASSED", "UNTIL", "AFTER"]);
    let pulled = world.pulled("t", 2);
    assert_eq!(
        (pulled[2].sys_flag & 0xC, pulled[2].prepared_transaction_offset),
        (8, after.physical_offset.cast_signed())
    );
    world.advance(10_000);
    assert_eq!(consumed(&mut world, "t").len(), 3);
}

#[test]
fn a_half_message_that_asks_for_a_time_it_cannot_get_is_refused_at_once() {
    let mut world = world();
    for (way, value) in
        [("TIMER_DELAY_SEC", "31622401"), ("TIMER_DELAY_MS", "x"), ("TIMER_DEL_UNIQKEY", "t+U")]
    {
        let properties = properties("K1", &format!("{way}\u{1}{value}\u{2}"));
        let answer = world.send("t", &properties, b"");
        assert_eq!(answer.code, 13, "{way}: {}", answer.remark);
        assert!(answer.remark.starts_with("timer message illegal"), "{way}: {}", answer.remark);
    }
}

#[test]
fn a_topic_that_is_gone_keeps_its_transactions_open() {
    let mut world = world();
    let half = prepare(&mut world, "t", "K1", "");
    let deleted = world.call(RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", Value::Text("t"))], b"");
    assert_eq!(deleted.code, 0);
    assert_eq!(end(&mut world, &half, COMMIT).code, 17);
    assert_eq!(world.send("t", "", b"makes it anew").code, 0);
    assert_eq!(end(&mut world, &half, COMMIT).code, 0);
    assert_eq!(consumed(&mut world, "t"), ["K1"]);
}

#[test]
fn what_cannot_be_a_transaction_is_refused() {
    let mut world = world();
    let mut fields = send_fields("t", 0, "");
    fields[5].1 = Value::Number(4);
    assert_eq!(world.call(RequestCode::SEND_MESSAGE_V2, &fields, b"x").code, 13, "the property counts");
    let properties = properties("K", "");
    let mut batch = send_fields("t", 0, &properties);
    batch.last_mut().unwrap().1 = Value::Flag(true);
    assert_eq!(world.call(RequestCode::SEND_BATCH_MESSAGE, &batch, b"x").code, 13);
    assert_eq!(world.send("RMQ_SYS_TRANS_HALF_TOPIC", "", b"x").code, 16);
    let long = format!("{properties}p\u{1}{}\u{2}", "x".repeat(32_500));
    assert_eq!(world.send("t", &long, b"x").code, 13, "a commit has to have room");
    // Clients before 4.6.1 leave the mark on what they send back.
    let back = format!("{properties}DELAY\u{1}1\u{2}");
    let mut fields = send_fields("t", 2, &back);
    fields[5].1 = Value::Number(4);
    fields[9].1 = Value::Number(1);
    assert_eq!(world.call(RequestCode::SEND_MESSAGE_V2, &fields, b"x").code, 0);
    world.advance(1_001);
    assert_eq!(consumed(&mut world, "t"), ["K"]);

    let half = prepare(&mut world, "t", "K1", "");
    world.reconfigure(Settings { transactions: Some(false), ..Settings::default() });
    assert_eq!(world.send("t", &properties, b"x").code, 16);
    assert_eq!(end(&mut world, &half, COMMIT).code, 0, "what is open goes on");
    world.reconfigure(Settings { transactions_open_max: Some(2), ..Settings::default() });
    let open = [prepare(&mut world, "t", "K2", ""), prepare(&mut world, "t", "K3", "")];
    assert_eq!(world.send("t", &properties, b"x").code, 2);
    assert_eq!(end(&mut world, &open[0], ROLLBACK).code, 0);
    prepare(&mut world, "t", "K4", "");
}

/// The checker has to notice a broker that ends a transaction twice.
#[test]
fn a_second_end_in_the_log_contradicts_it() {
    let mut world = world();
    let half = prepare(&mut world, "t", "K1", "");
    assert_eq!(end(&mut world, &half, ROLLBACK).code, 0);
    let again =
        HalvesEnded { ended: vec![HalfEnded { at: half.physical_offset, outcome: Outcome::Committed }] };
    world.broker().append_one(&again).unwrap();
    while world.running.writer.step() == skylark_storage::Step::Worked {}
    let error = world.running.dispatcher.step().unwrap_err();
    assert!(error.to_string().contains("is not open"), "{error}");
}
