//! Messages that wait for a time, and are sent again: the answer names the first, and it is the first that is recalled.

use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_broker::timers::Carried;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::command::recall::{Recall, RecallHandle};
use skylark_protocol::outgoing::Value;
use skylark_storage::PhysicalOffset;

use super::producer::*;
use crate::support::raw::{Answer, send_fields};
use crate::world::{World, timer};

const SEGMENT_BYTES: u64 = 65_536;

fn world(settings: Settings) -> World {
    let mut world = World::new(1, settings);
    topics(&mut world);
    world
}

/// Sends the message that asks to wait so; says where it lies, and its recall handle.
fn send_waiting(world: &mut World, asked: &str) -> (Told, Option<String>) {
    let answer = answer(world, TOPIC, 1, &(key("K") + asked), b"body");
    (Told::of(&answer), answer.fields.get("recallHandle").cloned())
}

fn recall(world: &mut World, handle: &str) -> Answer {
    let asked = Recall { producer_group: Some("PG"), topic: TOPIC, handle };
    world.call(Code::RECALL_MESSAGE, &asked.fields(), &[])
}

fn pending(world: &World) -> u64 {
    world.broker().timers.folded.lock().pending().messages
}

#[test]
fn a_repetition_carries_the_handle_of_the_first() {
    let mut world = world(Settings::default());
    let asked = timer("TIMER_DELAY_MS", 60_000);
    let first = send_waiting(&mut world, &asked);
    let due_ms = RecallHandle::parse(first.1.as_ref().unwrap()).unwrap().behind_due_ms;
    world.advance(700);
    assert_eq!(send_waiting(&mut world, &asked), first);
    // Whatever the repetition asks for, the first alone waits.
    assert_eq!(send_waiting(&mut world, &timer("TIMER_DELAY_SEC", 5)), first);
    assert_eq!(send_waiting(&mut world, ""), first);
    for power in [true, false] {
        world.crash(power);
        world.advance(700);
        assert_eq!(send_waiting(&mut world, &asked), first);
    }
    assert_eq!(pending(&world), 1);
    let again = send_waiting(&mut world, &asked).1.unwrap();
    assert_eq!(recall(&mut world, &again).code, 0);
    assert_eq!(send_waiting(&mut world, &asked), first, "a late retry does not bring it back");
    assert_eq!(recall(&mut world, &again).code, 0);
    assert_eq!(pending(&world), 0);
    world.clock.set_wall_ms(due_ms);
    assert_eq!(world.fire(), Next::Arrival);
    assert_eq!(stored(&mut world, TOPIC), [""; 0]);
}

#[test]
fn a_repetition_of_what_was_delivered_is_one_too() {
    let mut world = world(Settings::default());
    let at = timer("TIMER_DELIVER_MS", world.now_ms() + 1000);
    let first = send_waiting(&mut world, &at);
    world.advance(1001);
    assert_eq!(stored(&mut world, TOPIC), ["body"]);
    // Its time has passed, so a message that asks for it would wait no more.
    assert_eq!(send_waiting(&mut world, &at), first);
    assert_eq!(recall(&mut world, &first.1.unwrap()).code, 604);
    assert_eq!(stored(&mut world, TOPIC), ["body"]);
}

#[test]
fn what_was_delivered_at_once_has_no_handle_later() {
    let mut world = world(Settings::default());
    let first = send_waiting(&mut world, "");
    assert_eq!(first.1, None);
    assert_eq!(send_waiting(&mut world, &timer("TIMER_DELAY_MS", 60_000)), first);
    assert_eq!(pending(&world), 0);
}

#[test]
fn a_repetition_of_one_that_waits_for_two_months_has_no_handle() {
    const DAY_S: u64 = 86_400;
    let mut world = world(Settings::default());
    let (first, handle) = send_waiting(&mut world, &timer("TIMER_DELAY_SEC", 60 * DAY_S));
    assert!(handle.is_some());
    for _ in 0..2 {
        assert_eq!(send_waiting(&mut world, &timer("TIMER_DELAY_SEC", 60 * DAY_S)), (first.clone(), None));
        world.crash(true);
    }
    assert_eq!((recall(&mut world, &handle.unwrap()).code, pending(&world)), (0, 0));
}

#[test]
fn a_trim_carries_what_waits_and_its_repetition_is_known() {
    let settings = Settings { segment_bytes: Some(SEGMENT_BYTES), ..Settings::default() };
    let mut world = world(settings);
    let asked = timer("TIMER_DELAY_SEC", 300);
    let first = send_waiting(&mut world, &asked);
    while world.end().get() < 3 * SEGMENT_BYTES {
        world.send("other", "", &[b'x'; 4000]);
    }
    let below = PhysicalOffset::new(2 * SEGMENT_BYTES);
    while let Carried::Some { .. } = world.broker().timers.carry_forward(world.broker(), below).unwrap() {
        world.settle();
    }
    assert_eq!((send_waiting(&mut world, &asked), pending(&world)), (first.clone(), 1));
    world.crash(true);
    assert_eq!((send_waiting(&mut world, &asked), pending(&world)), (first.clone(), 1));
    assert_eq!(recall(&mut world, &first.1.unwrap()).code, 0, "the copy is found");
    world.advance(300_001);
    assert_eq!(stored(&mut world, TOPIC), [""; 0]);
}

#[test]
fn a_half_message_that_waits_once_it_is_committed_does_so_once() {
    const COMMIT: i32 = 8;
    let mut world = world(Settings::default());
    let properties = key("K") + "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}PG\u{2}" + &timer("TIMER_DELAY_MS", 1000);
    let prepare = |world: &mut World| {
        let mut fields = send_fields(TOPIC, 1, &properties);
        fields[5].1 = Value::Number(4);
        let answer = world.call(Code::SEND_MESSAGE_V2, &fields, b"body");
        assert_eq!(answer.fields.get("recallHandle"), None);
        Told::of(&answer)
    };
    let first = prepare(&mut world);
    let end = [
        ("producerGroup", Value::Text("PG")),
        ("tranStateTableOffset", first.queue_offset.into()),
        ("commitLogOffset", first.physical_offset.into()),
        ("commitOrRollback", Value::Number(COMMIT.into())),
        ("fromTransactionCheck", Value::Flag(false)),
        ("msgId", Value::Text("K")),
        ("transactionId", Value::Text("K")),
    ];
    assert_eq!(world.call(Code::END_TRANSACTION, &end, b"").code, 0);
    assert_eq!((prepare(&mut world), pending(&world)), (first.clone(), 1));
    world.crash(true);
    world.advance(1001);
    assert_eq!((prepare(&mut world), stored(&mut world, TOPIC)), (first, vec!["body".to_owned()]));
}

#[test]
fn a_dead_letter_of_a_unique_message_is_sent_again() {
    let mut world = world(Settings::default());
    let first = send(&mut world, TOPIC, 0, "K", b"body");
    world.pulled(TOPIC, 0);
    let fields = [
        ("offset", first.physical_offset.into()),
        ("group", Value::Text("CG")),
        ("delayLevel", Value::Number(-1)),
    ];
    assert_eq!(world.call(Code::CONSUMER_SEND_MSG_BACK, &fields, b"").code, 0);
    let letters = [
        ("group", Value::Text("CG")),
        ("queueId", Value::Number(0)),
        ("beginOffset", Value::Number(0)),
        ("endOffset", Value::Number(1)),
        ("limit", Value::Number(10)),
    ];
    assert_eq!(world.call(Code::SKYLARK_RESEND_DEAD_LETTERS, &letters, b"").code, 0);
    assert_eq!(stored(&mut world, TOPIC), ["body"; 2], "it is meant to come again");
    assert_eq!(send(&mut world, TOPIC, 0, "K", b"body"), first, "its producer's retry is not");
}
