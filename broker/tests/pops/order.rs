//! Pops of groups that consume in order.

use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;

use super::consumer::*;
use crate::support::raw::Answer;
use crate::world::World;

fn pop_in_order(world: &mut World, attempt: &str) -> Answer {
    let fields = with(pop_fields(-1, 3, world.now_ms(), 0), "order", Value::Flag(true));
    world.call(Code::POP_MESSAGE, &with(fields, "attemptId", Value::Text(attempt)), &[])
}

#[test]
fn a_queue_gives_nothing_else_until_its_batch_is_acknowledged() {
    let mut world = world(20, 1);
    send(&mut world, &["a", "b", "c", "d", "e"]);
    let answer = pop_in_order(&mut world, "1");
    let first = messages(&answer);
    assert_eq!((bodies(&first), answer.number("reviveQid")), (vec!["a", "b", "c"], 999));
    assert_eq!(answer.fields["orderCountInfo"], "0 0 0");
    assert_eq!(pop_in_order(&mut world, "2").code, 210, "the queue is blocked");
    // The same attempt: its answer was lost.
    let answer = pop_in_order(&mut world, "1");
    let first = messages(&answer);
    assert_eq!((bodies(&first), &*answer.fields["orderCountInfo"]), (vec!["a", "b", "c"], "0 0 0"));
    ack(&mut world, &first[0]);
    ack(&mut world, &first[2]);
    assert_eq!(committed(&mut world, TOPIC, 0), 1);
    world.crash(true);
    assert_eq!(pop_in_order(&mut world, "2").code, 210);
    advance(&mut world, INVISIBLE_MS);
    let answer = pop_in_order(&mut world, "2");
    let second = messages(&answer);
    // From the first that was not acknowledged on, with what was popped before counted.
    assert_eq!(bodies(&second), ["b", "c", "d"]);
    assert_eq!(answer.fields["orderCountInfo"], "0 qo0%1 1;0 qo0%2 1;0 0 0");
    // Receipts of the batch before have no effect; an offset that is not in the batch is an error.
    ack(&mut world, &first[1]);
    assert_eq!(committed(&mut world, TOPIC, 0), 1);
    let forged = with(second[0].ack_fields(), "offset", Value::Number(4));
    assert_eq!(world.call(Code::ACK_MESSAGE, &forged, &[]).code, 13);
    second.iter().for_each(|message| ack(&mut world, message));
    assert_eq!(committed(&mut world, TOPIC, 0), 4);
    assert_eq!(bodies(&messages(&pop_in_order(&mut world, "3"))), ["e"]);
    agrees(&mut world);
}

#[test]
fn a_blocked_queue_is_free_when_its_time_is_changed() {
    let mut world = world(21, 1);
    send(&mut world, &["a"]);
    let answer = pop_in_order(&mut world, "1");
    let popped = messages(&answer);
    world.clock.advance(std::time::Duration::from_secs(1));
    let changed = world.call(Code::CHANGE_MESSAGE_INVISIBLETIME, &popped[0].prolong_fields(2000), &[]);
    assert_eq!(changed.number("popTime"), answer.number("popTime"), "{changed:?}");
    assert_eq!(changed.number("invisibleTime"), 3000);
    let popped = popped[0].prolonged(&changed);
    // One that waits is woken when the time is over, and not before.
    let fields = with(pop_fields(-1, 3, world.now_ms(), 15_000), "order", Value::Flag(true));
    world.submit(Code::POP_MESSAGE, &fields, &[]);
    assert!(world.answers().is_empty());
    advance(&mut world, 1999);
    assert!(world.answers().is_empty());
    advance(&mut world, 1);
    let again = messages(&world.answers().pop().expect("the pop is woken"));
    assert_eq!(bodies(&again), ["a"]);
    ack(&mut world, &popped);
    assert_eq!(committed(&mut world, TOPIC, 0), 0, "its time was over");
    // And when the batch is acknowledged.
    send(&mut world, &["b"]);
    let fields = with(pop_fields(-1, 3, world.now_ms(), 15_000), "order", Value::Flag(true));
    world.submit(Code::POP_MESSAGE, &fields, &[]);
    assert!(world.answers().is_empty());
    world.submit(Code::ACK_MESSAGE, &again[0].ack_fields(), &[]);
    let answers = world.answers();
    let popped =
        answers.iter().find(|answer| answer.fields.contains_key("popTime")).expect("the pop is woken");
    assert_eq!(bodies(&messages(popped)), ["b"]);
    agrees(&mut world);
}
