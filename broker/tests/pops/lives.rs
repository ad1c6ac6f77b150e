//! What becomes of popped messages: acknowledged, delivered again, prolonged, over crashes, resets and deletions.

use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::command::pop::{BatchAck, BatchAckMessage};
use skylark_protocol::outgoing::Value;

use super::consumer::*;
use crate::world::{START_MS, World};

#[test]
fn what_nobody_acknowledges_comes_again_from_the_retry_topic() {
    let mut world = world(1, 1);
    send(&mut world, &["a", "b", "c", "d"]);
    let popped = pop(&mut world, 32);
    assert_eq!(bodies(&popped), ["a", "b", "c", "d"]);
    assert!(pop(&mut world, 32).is_empty(), "they are invisible");
    assert_eq!(committed(&mut world, TOPIC, 0), 0);
    ack(&mut world, &popped[0]);
    ack(&mut world, &popped[2]);
    assert_eq!(committed(&mut world, TOPIC, 0), 1, "progress follows the lowest that is in flight");

    let popped_at = world.now_ms();
    advance(&mut world, INVISIBLE_MS - 1);
    assert!(pop(&mut world, 32).is_empty());
    advance(&mut world, 1);
    assert_eq!(committed(&mut world, TOPIC, 0), 4);
    let again = pop(&mut world, 32);
    assert_eq!(bodies(&again), ["b", "d"]);
    for message in &again {
        assert_eq!((&*message.topic, message.reconsume_times), (TOPIC, 1));
        assert_eq!(message.properties["1ST_POP_TIME"], popped_at.to_string());
    }
    // An earlier receipt has no effect, and is no error.
    ack(&mut world, &popped[1]);
    ack(&mut world, &again[0]);
    assert_eq!(advance(&mut world, INVISIBLE_MS), Next::Arrival);
    let third = pop(&mut world, 32);
    assert_eq!((bodies(&third), third[0].reconsume_times), (vec!["d"], 2));
    assert_eq!(third[0].properties["1ST_POP_TIME"], popped_at.to_string(), "the first time stays");
    ack(&mut world, &third[0]);
    advance(&mut world, INVISIBLE_MS);
    assert!(pop(&mut world, 32).is_empty());
    assert_eq!((committed(&mut world, RETRIES, 0), world.broker().pops.undeliverable()), (3, 0));
}

#[test]
fn a_crash_delivers_again_and_loses_nothing() {
    for power in [false, true] {
        let mut world = world(2, 2);
        send(&mut world, &["a", "b", "c"]);
        let popped = pop(&mut world, 2);
        ack(&mut world, &popped[0]);
        world.crash(power);
        agrees(&mut world);
        let rest = pop(&mut world, 32);
        assert_eq!(bodies(&rest), ["c"], "the others are still invisible");
        ack(&mut world, &rest[0]);
        world.crash(power);
        advance(&mut world, INVISIBLE_MS);
        let again = pop(&mut world, 32);
        assert_eq!(bodies(&again), ["b"], "what was acknowledged is not delivered again");
        // Neither the engine's unit nor what it said is there twice.
        world.crash(power);
        advance(&mut world, INVISIBLE_MS);
        let again = pop(&mut world, 32);
        assert_eq!((bodies(&again), again[0].reconsume_times), (vec!["b"], 2));
        ack(&mut world, &again[0]);
        world.crash(power);
        assert_eq!(advance(&mut world, INVISIBLE_MS), Next::Arrival);
        assert!(pop(&mut world, 32).is_empty());
    }
}

#[test]
fn a_pop_whose_record_is_lost_has_not_been() {
    let mut world = world(3, 1);
    assert!(pop(&mut world, 1).is_empty(), "which makes the group");
    send(&mut world, &["a"]);
    world.submit(Code::POP_MESSAGE, &pop_fields(-1, 1, START_MS, 0), &[]);
    world.poll();
    // Answered, and nothing written yet.
    let popped = messages(&world.written().pop().unwrap());
    world.crash(true);
    let again = pop(&mut world, 1);
    assert_eq!((bodies(&again), again[0].reconsume_times), (vec!["a"], 0));
    assert_eq!((again[0].offset, committed(&mut world, TOPIC, 0)), (popped[0].offset, 0));
}

#[test]
fn time_can_be_prolonged_under_a_new_receipt() {
    let mut world = world(4, 1);
    send(&mut world, &["a", "b"]);
    let popped = pop(&mut world, 2);
    world.clock.advance(std::time::Duration::from_secs(1));
    let answer = world.call(Code::CHANGE_MESSAGE_INVISIBLETIME, &popped[0].prolong_fields(60_000), &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let now_ms = world.now_ms();
    assert_eq!((answer.number("popTime"), answer.number("invisibleTime")), (now_ms, 60_000));
    let prolonged = popped[0].prolonged(&answer);
    // The old receipt is no more.
    ack(&mut world, &popped[0]);
    let refused = world.call(Code::CHANGE_MESSAGE_INVISIBLETIME, &popped[0].prolong_fields(1), &[]);
    assert_eq!(refused.code, 208);
    advance(&mut world, INVISIBLE_MS);
    assert_eq!(bodies(&pop(&mut world, 2)), ["b"]);
    world.crash(true);
    // Shortened, in the same millisecond as it was prolonged.
    let answer = world.call(Code::CHANGE_MESSAGE_INVISIBLETIME, &prolonged.prolong_fields(0), &[]);
    let shortened = prolonged.prolonged(&answer);
    revive(&mut world);
    let again = pop(&mut world, 2);
    assert_eq!((bodies(&again), again[0].reconsume_times), (vec!["a"], 1));
    ack(&mut world, &shortened);
    advance(&mut world, INVISIBLE_MS);
    let mut again = pop(&mut world, 9);
    again.sort_by(|a, b| a.body.cmp(&b.body));
    assert_eq!(bodies(&again), ["a", "b"]);
}

#[test]
fn a_batch_acknowledges_what_it_names_of_its_group() {
    let mut world = world(5, 1);
    send(&mut world, &["a", "b", "c", "d"]);
    let popped = pop(&mut world, 3);
    let values: Vec<&str> = popped[0].receipt.split(' ').collect();
    let ack = |group: &str, topic: &str, bits: &[u32]| BatchAck {
        consumer_group: group.to_owned(),
        topic: topic.to_owned(),
        retry: "0".to_owned(),
        start_offset: 0,
        popped_at: values[1].parse().unwrap(),
        bits: BatchAck::bits_of(bits.iter().copied()),
        ..BatchAck::default()
    };
    let foreign =
        vec![ack("other", TOPIC, &[0, 1, 2]), ack(GROUP, "other", &[0]), ack(GROUP, TOPIC, &[3, 500])];
    let own = vec![ack(GROUP, TOPIC, &[0, 2, 9])];
    for (acks, expected) in [(foreign, 0), (own.clone(), 1), (own, 1)] {
        let body = BatchAckMessage { broker_name: "broker-a".to_owned(), acks }.encode();
        assert_eq!(world.call(Code::BATCH_ACK_MESSAGE, &[], &body).code, 0);
        assert_eq!(committed(&mut world, TOPIC, 0), expected);
    }
    let nothing = BatchAckMessage::default().encode();
    assert_eq!(world.call(Code::BATCH_ACK_MESSAGE, &[], &nothing).code, 208);
    advance(&mut world, INVISIBLE_MS);
    let mut rest = pop(&mut world, 9);
    rest.sort_by(|a, b| a.body.cmp(&b.body));
    assert_eq!(bodies(&rest), ["b", "d"]);
}

#[test]
fn a_reset_clears_what_is_in_flight() {
    let mut world = world(6, 1);
    send(&mut world, &["a", "b", "c"]);
    let popped = pop(&mut world, 3);
    let fields = [
        ("topic", Value::Text(TOPIC)),
        ("group", Value::Text(GROUP)),
        ("timestamp", Value::Number(-1)),
        ("isForce", Value::Flag(true)),
        ("offset", Value::Number(1)),
        ("queueId", Value::Number(0)),
    ];
    let answer = world.call(Code::INVOKE_BROKER_TO_RESET_OFFSET, &fields, &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    agrees(&mut world);
    ack(&mut world, &popped[1]);
    world.crash(true);
    let again = pop(&mut world, 9);
    assert_eq!(bodies(&again), ["b", "c"], "from there on, and what was acknowledged before is no matter");
    again.iter().for_each(|message| ack(&mut world, message));
    assert_eq!(
        advance(&mut world, INVISIBLE_MS),
        Next::Arrival,
        "nothing comes back of what was in flight before"
    );
    assert!(pop(&mut world, 9).is_empty());
}

/// What a group has popped decides how far it is, so a commit alone would be undone by the next pop.
#[test]
fn a_commit_of_an_operator_moves_a_group_that_pops() {
    for power in [false, true] {
        let mut world = world(14, 1);
        send(&mut world, &["a", "b", "c", "d", "e"]);
        let popped = pop(&mut world, 3);
        ack(&mut world, &popped[0]);
        let commit = |world: &mut World, offset: u64| {
            let fields = [
                ("consumerGroup", Value::Text(GROUP)),
                ("topic", Value::Text(TOPIC)),
                ("queueId", Value::Number(0)),
                ("commitOffset", offset.into()),
            ];
            let answer = world.call(Code::UPDATE_CONSUMER_OFFSET, &fields, &[]);
            assert_eq!(answer.code, 0, "{answer:?}");
            agrees(world);
        };
        commit(&mut world, 0);
        // Nobody has popped since: it holds, as a reset does.
        commit(&mut world, 4);
        assert_eq!(committed(&mut world, TOPIC, 0), 0);
        world.crash(power);
        assert_eq!(committed(&mut world, TOPIC, 0), 0);
        let again = pop(&mut world, 2);
        assert_eq!(bodies(&again), ["a", "b"], "it goes back");
        commit(&mut world, 4);
        ack(&mut world, &again[0]);
        assert_eq!(committed(&mut world, TOPIC, 0), 4);
        assert_eq!(bodies(&pop(&mut world, 9)), ["e"], "and forward");
        assert_eq!(advance(&mut world, INVISIBLE_MS - 1), Next::Due(world.now_ms() + 1));
        let trail = world.broker().audit.trail.lock().moves();
        assert_eq!(trail, 2, "each move is in the trail");
    }
}

#[test]
fn deleted_topics_and_groups_leave_nothing_in_flight() {
    let mut world = world(7, 1);
    send(&mut world, &["a"]);
    pop(&mut world, 3);
    let answer = world.call(
        Code::DELETE_SUBSCRIPTIONGROUP,
        &[("groupName", Value::Text(GROUP)), ("cleanOffset", Value::Flag(false))],
        &[],
    );
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(advance(&mut world, INVISIBLE_MS), Next::Arrival);
    // Its offsets were kept, so that a group of the same name gets what was not acknowledged.
    assert_eq!(bodies(&pop(&mut world, 3)), ["a"]);
    let answer = world.call(Code::DELETE_TOPIC_IN_BROKER, &[("topic", Value::Text(TOPIC))], &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    agrees(&mut world);
    assert_eq!(advance(&mut world, INVISIBLE_MS), Next::Arrival);
    let refused = world.call(Code::POP_MESSAGE, &pop_fields(-1, 1, world.now_ms(), 0), &[]);
    assert_eq!(refused.code, 17);
}

#[test]
fn a_topic_that_is_deleted_takes_along_what_was_to_be_popped_again() {
    let mut world = world(12, 1);
    send(&mut world, &["a", "b"]);
    pop(&mut world, 3);
    advance(&mut world, INVISIBLE_MS);
    let retries = format!("%RETRY%{GROUP}_{TOPIC}");
    assert_eq!(world.call(Code::GET_TOPIC_CONFIG, &[("topic", Value::Text(&retries))], &[]).code, 0);
    let answer = world.call(Code::DELETE_TOPIC_IN_BROKER, &[("topic", Value::Text(TOPIC))], &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_ne!(world.call(Code::GET_TOPIC_CONFIG, &[("topic", Value::Text(&retries))], &[]).code, 0);
    assert_eq!(world.put_topic(TOPIC, 1, "").code, 0);
    assert!(pop(&mut world, 3).is_empty(), "of its earlier life");
    world.crash(true);
    send(&mut world, &["c"]);
    assert_eq!(bodies(&pop(&mut world, 3)), ["c"]);
}

#[test]
fn retries_whose_topic_has_the_name_of_another_groups_outlive_a_deletion() {
    let mut world = world(13, 1);
    let named_alike = format!(r#"{{"groupName":"{GROUP}_{TOPIC}","retryQueueNums":1,"retryMaxTimes":16}}"#);
    let answer = world.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], named_alike.as_bytes());
    assert_eq!(answer.code, 0, "{answer:?}");
    send(&mut world, &["a"]);
    pop(&mut world, 3);
    advance(&mut world, INVISIBLE_MS);
    let answer = world.call(Code::DELETE_TOPIC_IN_BROKER, &[("topic", Value::Text(TOPIC))], &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let retries = format!("%RETRY%{GROUP}_{TOPIC}");
    assert_eq!(world.call(Code::GET_TOPIC_CONFIG, &[("topic", Value::Text(&retries))], &[]).code, 0);
}

#[test]
fn a_suspended_group_gets_nothing_and_its_messages_come_back() {
    let mut world = world(8, 1);
    send(&mut world, &["a"]);
    pop(&mut world, 3);
    let suspend = |world: &mut World, consume: bool| {
        let body = format!(
            r#"{{"groupName":"{GROUP}","consumeEnable":{consume},"retryQueueNums":1,"retryMaxTimes":16}}"#
        );
        let answer = world.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], body.as_bytes());
        assert_eq!(answer.code, 0, "{answer:?}");
    };
    suspend(&mut world, false);
    assert_eq!(world.call(Code::POP_MESSAGE, &pop_fields(-1, 1, world.now_ms(), 0), &[]).code, 16);
    advance(&mut world, INVISIBLE_MS);
    suspend(&mut world, true);
    let again = pop(&mut world, 3);
    assert_eq!((bodies(&again), again[0].reconsume_times), (vec!["a"], 1));
}

#[test]
fn filters_pass_over_what_is_not_wanted() {
    let mut world = world(9, 1);
    for number in 0..100 {
        let tag = if number % 10 == 0 { "A" } else { "B" };
        let properties = format!("TAGS\u{1}{tag}\u{2}number\u{1}{number}\u{2}");
        world.send(TOPIC, &properties, number.to_string().as_bytes());
    }
    let fields = |world: &World, kind, expression| {
        let fields = with(pop_fields(-1, 4, world.now_ms(), 0), "expType", Value::Text(kind));
        with(fields, "exp", Value::Text(expression))
    };
    let first = messages(&world.call(Code::POP_MESSAGE, &fields(&world, "TAG", "A"), &[]));
    assert_eq!(bodies(&first), ["0", "10", "20", "30"]);
    let sql = "TAGS = 'A' AND number > 45";
    let second = messages(&world.call(Code::POP_MESSAGE, &fields(&world, "SQL92", sql), &[]));
    assert_eq!(bodies(&second), ["50", "60", "70", "80"]);
    first.iter().for_each(|message| ack(&mut world, message));
    assert_eq!(committed(&mut world, TOPIC, 0), 50, "what nobody wants is done with");
    advance(&mut world, INVISIBLE_MS);
    let refused = world.call(Code::POP_MESSAGE, &fields(&world, "SQL92", "number >"), &[]);
    assert_eq!(refused.code, 23);
    // Of the retries, everything is wanted: it was selected once.
    let last = messages(&world.call(
        Code::POP_MESSAGE,
        &with(fields(&world, "TAG", "C"), "maxMsgNums", Value::Number(32)),
        &[],
    ));
    assert_eq!(bodies(&last), ["50", "60", "70", "80"]);
    assert_eq!(world.call(Code::POP_MESSAGE, &fields(&world, "TAG", "C"), &[]).code, 210);
    assert_eq!(committed(&mut world, TOPIC, 0), 100);
}

#[test]
fn old_messages_are_popped_and_come_back_from_the_disk() {
    let settings =
        Settings { segment_bytes: Some(1 << 20), tail_bytes: Some(1 << 20), ..Settings::default() };
    let mut world = world_with(10, 2, settings);
    let body = "x".repeat(20_000);
    for number in 0..300 {
        let body = format!("{number:03}{body}");
        assert_eq!(world.send(TOPIC, "", body.as_bytes()).code, 0);
    }
    let mut found = Vec::new();
    let collect = |world: &mut World, found: &mut Vec<String>| {
        loop {
            let popped = pop(world, 32);
            if popped.is_empty() {
                return;
            }
            for message in popped {
                assert_eq!(&message.body[3..], body);
                let number = message.body[..3].to_owned();
                // Every other one fails, the first time.
                if message.reconsume_times > 0 || number.parse::<u32>().unwrap().is_multiple_of(2) {
                    ack(world, &message);
                    found.push(number);
                }
            }
        }
    };
    collect(&mut world, &mut found);
    assert_eq!(found.len(), 150);
    world.crash(true);
    advance(&mut world, INVISIBLE_MS);
    collect(&mut world, &mut found);
    found.sort();
    assert_eq!(found, (0..300).map(|number| format!("{number:03}")).collect::<Vec<_>>());
    assert_eq!(world.broker().pops.undeliverable(), 0);
}

/// What retention takes is gone, popped or not; nobody waits for it.
#[test]
fn what_is_trimmed_in_flight_does_not_come_back() {
    let settings =
        Settings { segment_bytes: Some(65_536), retention_bytes: Some(6 * 65_536), ..Settings::default() };
    let mut world = world_with(12, 1, settings);
    send(&mut world, &["a", "b"]);
    assert_eq!(bodies(&pop(&mut world, 2)), ["a", "b"]);
    let body = "x".repeat(2000);
    let mut sent = 2;
    while world.broker().log.frontiers().trimmed.get() == 0 {
        assert_eq!(world.send(TOPIC, "", body.as_bytes()).code, 0);
        sent += 1;
        assert!(sent < 1000, "nothing is trimmed");
        // Retention is looked at every ten seconds.
        world.clock.advance(std::time::Duration::from_millis(200));
        world.settle();
    }
    world.clock.advance(std::time::Duration::from_millis(INVISIBLE_MS));
    assert_eq!(revive(&mut world), Next::Arrival);
    assert_eq!(world.broker().pops.undeliverable(), 2);
    let rest = pop(&mut world, 32);
    assert!(
        !rest.is_empty() && rest.iter().all(|message| message.body == body && message.reconsume_times == 0)
    );
    assert_eq!(committed(&mut world, TOPIC, 0), rest[0].offset, "progress begins where the queue does");
    agrees(&mut world);
}

#[test]
fn a_new_group_begins_where_it_asks() {
    let mut world = world(11, 1);
    send(&mut world, &["a", "b", "c"]);
    // All of it is young enough to begin at the first message all the same.
    let fields = with(pop_fields(0, 9, world.now_ms(), 0), "initMode", Value::Number(1));
    assert_eq!(bodies(&messages(&world.call(Code::POP_MESSAGE, &fields, &[]))), ["a", "b", "c"]);
    let peeked = |world: &mut World| {
        let fields = [
            ("consumerGroup", Value::Text(GROUP)),
            ("topic", Value::Text(TOPIC)),
            ("queueId", Value::Number(-1)),
            ("maxMsgNums", Value::Number(9)),
        ];
        world.call(Code::PEEK_MESSAGE, &fields, &[])
    };
    assert_eq!(peeked(&mut world).code, 19);
    send(&mut world, &["d"]);
    for _ in 0..2 {
        let answer = peeked(&mut world);
        assert_eq!((bodies(&messages(&answer)), answer.number("restNum")), (vec!["d"], 0));
    }
    assert_eq!(bodies(&pop(&mut world, 9)), ["d"]);
}
