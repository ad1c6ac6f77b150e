//! Pops that wait.

use skylark_broker::folds::pops::{MessagesPopped, Offsets, PoppedBatch};
use skylark_broker::pops::BATCHES_PER_GROUP_MAX;
use skylark_broker::pops::polling::WAITING_PER_KEY_MAX;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;

use super::consumer::*;
use crate::world::World;

fn wait(world: &mut World, queue: i32) -> i32 {
    let fields = pop_fields(queue, 9, world.now_ms(), 15_000);
    world.submit(Code::POP_MESSAGE, &fields, &[])
}

fn waiting(world: &mut World, queue: i32) -> u64 {
    let fields = [
        ("consumerGroup", Value::Text(GROUP)),
        ("topic", Value::Text(TOPIC)),
        ("queueId", Value::Number(queue.into())),
    ];
    world.call(Code::POLLING_INFO, &fields, &[]).number("pollingNum")
}

#[test]
fn a_message_wakes_one_of_those_who_wait() {
    let mut world = world(30, 4);
    pop(&mut world, 1);
    let first = wait(&mut world, -1);
    let second = wait(&mut world, -1);
    let other = wait(&mut world, 2);
    assert!(world.answers().is_empty());
    assert_eq!((waiting(&mut world, -1), waiting(&mut world, 2), waiting(&mut world, 0)), (2, 1, 0));
    world.submit(Code::SEND_MESSAGE_V2, &crate::support::raw::send_fields(TOPIC, 0, ""), b"a");
    let answers = world.answers();
    let popped: Vec<_> = answers.iter().filter(|answer| answer.opaque == first).collect();
    assert_eq!((answers.len(), popped.len()), (2, 1), "the longest waiting, and the sender");
    assert_eq!(bodies(&messages(popped[0])), ["a"]);
    assert_eq!(waiting(&mut world, -1), 1);
    // What comes back wakes those who wait for the topic, although the retry topic is not there yet.
    advance(&mut world, INVISIBLE_MS);
    let answers = world.answers();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!([second, other].contains(&answers[0].opaque));
    assert_eq!(messages(&answers[0])[0].reconsume_times, 1);
    // The rest is told when its time is over.
    world.clock.advance(std::time::Duration::from_secs(6));
    world.broker().tick();
    let answers = world.answers();
    assert_eq!(answers.iter().map(|answer| answer.code).collect::<Vec<_>>(), [210]);
    assert_eq!((waiting(&mut world, -1), waiting(&mut world, 2)), (0, 0));
    // Whoever asks too late has given up.
    let late = with(pop_fields(-1, 1, world.now_ms() - 2000, 1000), "queueId", Value::Number(-1));
    assert_eq!(world.call(Code::POP_MESSAGE, &late, &[]).code, 210);
}

#[test]
fn those_who_filter_are_woken_for_what_they_want() {
    let mut world = world(31, 1);
    pop(&mut world, 1);
    let fields = with(pop_fields(-1, 9, world.now_ms(), 15_000), "expType", Value::Text("SQL92"));
    world.submit(Code::POP_MESSAGE, &with(fields, "exp", Value::Text("wanted IS NOT NULL")), &[]);
    assert!(world.answers().is_empty());
    for (properties, expected) in [("", 0), ("TAGS\u{1}A\u{2}", 0), ("wanted\u{1}1\u{2}", 1)] {
        world.submit(Code::SEND_MESSAGE_V2, &crate::support::raw::send_fields(TOPIC, 0, properties), b"a");
        let answers = world.answers();
        let popped = answers.iter().filter(|answer| answer.fields.contains_key("popTime")).count();
        assert_eq!(popped, expected, "{answers:?}");
    }
    assert_eq!(committed(&mut world, TOPIC, 0), 2);
}

#[test]
fn too_many_who_wait_for_the_same_are_refused() {
    let mut world = world(32, 1);
    for _ in 0..WAITING_PER_KEY_MAX {
        wait(&mut world, -1);
    }
    assert!(world.answers().is_empty());
    wait(&mut world, -1);
    assert_eq!(world.answers().iter().map(|answer| answer.code).collect::<Vec<_>>(), [209]);
    wait(&mut world, 0);
    assert!(world.answers().is_empty(), "others have room of their own");
}

#[test]
fn a_notification_takes_nothing() {
    let mut world = world(33, 1);
    pop(&mut world, 1);
    let fields = |world: &World, poll_ms: i64| -> Fields<'static> {
        vec![
            ("consumerGroup", Value::Text(GROUP)),
            ("topic", Value::Text(TOPIC)),
            ("queueId", Value::Number(-1)),
            ("pollTime", Value::Number(poll_ms)),
            ("bornTime", world.now_ms().into()),
        ]
    };
    let answer = world.call(Code::NOTIFICATION, &fields(&world, 0), &[]);
    assert_eq!((&*answer.fields["hasMsg"], &*answer.fields["pollingFull"]), ("false", "false"));
    let waits = [(); 2].map(|()| {
        let fields = fields(&world, 10_000);
        world.submit(Code::NOTIFICATION, &fields, &[])
    });
    assert!(world.answers().is_empty());
    world.submit(Code::SEND_MESSAGE_V2, &crate::support::raw::send_fields(TOPIC, 0, ""), b"a");
    let answers = world.answers();
    let told: Vec<_> = answers.iter().filter(|answer| waits.contains(&answer.opaque)).collect();
    assert_eq!(told.len(), 2, "all are told");
    assert!(told.iter().all(|answer| answer.fields["hasMsg"] == "true"));
    assert_eq!(bodies(&pop(&mut world, 9)), ["a"]);
    let waits = fields(&world, 10_000);
    world.submit(Code::NOTIFICATION, &waits, &[]);
    assert!(world.answers().is_empty(), "what is in flight is nobody's");
    world.clock.advance(std::time::Duration::from_secs(10));
    world.broker().tick();
    assert_eq!(world.answers().pop().unwrap().fields["hasMsg"], "false");
}

#[test]
fn a_group_that_acknowledges_nothing_leaves_room_for_the_others() {
    let mut world = world(33, 2);
    send(&mut world, &["a", "b"]);
    let held = pop(&mut world, 1);
    // As many more as a group may have, in records of some thousands.
    let offsets: Vec<u64> = (10..10 + BATCHES_PER_GROUP_MAX as u64 - 1).collect();
    for offsets in offsets.chunks(10_000) {
        let mut live = world.broker().pops.live();
        let batch = |offset: &u64| PoppedBatch {
            topic: TOPIC.to_owned(),
            queue: 1,
            offsets: Offsets::new(&[*offset]),
            next: offset + 1,
        };
        let record = MessagesPopped {
            group: GROUP.to_owned(),
            attempt: None,
            popped_at: world.now_ms(),
            visible_at: world.now_ms() + INVISIBLE_MS,
            batches: offsets.iter().map(batch).collect(),
        };
        let end = world.broker().append_one(&record).unwrap();
        live.popped(record, end);
    }
    world.settle();
    let fields = |world: &World, group| {
        with(pop_fields(-1, 1, world.now_ms(), 0), "consumerGroup", Value::Text(group))
    };
    let answer = world.call(Code::POP_MESSAGE, &fields(&world, GROUP), &[]);
    assert_eq!(answer.code, 2, "{answer:?}");
    assert!(answer.remark.contains("250000 batches of the group 'g'"), "{}", answer.remark);
    let other = world.call(Code::POP_MESSAGE, &fields(&world, "other"), &[]);
    assert_eq!(bodies(&messages(&other)), ["a"], "another group goes on");
    ack(&mut world, &held[0]);
    assert_eq!(bodies(&pop(&mut world, 1)), ["b"], "and so does the group once there is room");
    agrees(&mut world);
}
