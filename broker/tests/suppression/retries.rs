//! What is a repetition, and what is not.

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;
use skylark_storage::Step;

use super::producer::*;
use crate::support::raw::send_fields;
use crate::world::World;

fn world() -> World {
    let mut world = World::new(1, Settings::default());
    topics(&mut world);
    world
}

#[test]
fn a_retry_is_told_where_the_first_lies_whichever_queue_it_goes_to() {
    let mut world = world();
    send(&mut world, TOPIC, 2, "another", b"one");
    let first = send(&mut world, TOPIC, 2, "K", b"two");
    assert_eq!((first.queue, first.queue_offset), (2, 1));
    for queue in 0..4 {
        assert_eq!(send(&mut world, TOPIC, queue, "K", b"two"), first);
    }
    assert_eq!(stored(&mut world, TOPIC), ["one", "two"]);
    assert_eq!(world.broker().suppression.suppressed(), 4);
    let figures = world.call(Code::GET_BROKER_RUNTIME_INFO, &[], b"").body;
    let figures: serde_json::Value = serde_json::from_slice(&figures).unwrap();
    assert_eq!(figures["table"]["duplicatesSuppressed"], "4");
    assert_eq!(figures["table"]["duplicateWindowMessages"], "2");
    assert_eq!(figures["table"]["putMessageTimesTotal"], "2", "what is not stored is not counted");
}

#[test]
fn another_body_key_or_topic_is_another_message() {
    let mut world = world();
    assert_eq!(world.put_topic("too", 4, &suppressing()).code, 0);
    let first = send(&mut world, TOPIC, 0, "K", b"one");
    assert_ne!(send(&mut world, TOPIC, 0, "K", b"two"), first);
    assert_ne!(send(&mut world, TOPIC, 0, "L", b"one"), first);
    send(&mut world, "too", 0, "K", b"one");
    assert_eq!(stored(&mut world, TOPIC), ["one", "one", "two"]);
    assert_eq!(stored(&mut world, "too"), ["one"]);
    assert_eq!(send(&mut world, TOPIC, 0, "K", b"one"), first, "none of them has pushed it out");
}

#[test]
fn without_a_key_of_the_clients_every_message_is_stored() {
    let mut world = world();
    for _ in 0..3 {
        assert_eq!(answer(&mut world, TOPIC, 0, "KEYS\u{1}K\u{2}", b"body").code, 0);
    }
    assert_eq!(stored(&mut world, TOPIC), ["body"; 3]);
}

#[test]
fn only_those_who_ask_for_it_get_it() {
    let mut world = world();
    send(&mut world, OTHER, 0, "K", b"body");
    send(&mut world, OTHER, 0, "K", b"body");
    assert_eq!(stored(&mut world, OTHER), ["body"; 2]);

    // From now on; what was stored before is not known.
    assert_eq!(world.put_topic(OTHER, 4, "+skylark.duplicates=suppress").code, 0);
    let first = send(&mut world, OTHER, 0, "K", b"body");
    assert_eq!(send(&mut world, OTHER, 1, "K", b"body"), first);
    assert_eq!(world.put_topic(OTHER, 4, "+skylark.duplicates=store").code, 0);
    send(&mut world, OTHER, 0, "K", b"body");
    assert_eq!(world.put_topic(OTHER, 4, "-skylark.duplicates").code, 0);
    send(&mut world, OTHER, 0, "K", b"body");
    assert_eq!(stored(&mut world, OTHER), ["body"; 5]);

    let wrong = world.put_topic(OTHER, 4, "+skylark.duplicates=maybe");
    assert_eq!((wrong.code, &*wrong.remark), (1, "attribute skylark.duplicates cannot be maybe"));
}

#[test]
fn a_producer_group_can_ask_for_it() {
    let mut world = world();
    let group = |world: &mut World, attributes: &str| {
        let body = format!(r#"{{"groupName":"PG","attributes":{attributes}}}"#);
        world.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], body.as_bytes())
    };
    assert_eq!(group(&mut world, r#"{"+skylark.duplicates":"maybe"}"#).code, 1);
    assert_eq!(group(&mut world, r#"{"+skylark.duplicates":"suppress"}"#).code, 0);
    let first = send(&mut world, OTHER, 0, "K", b"body");
    assert_eq!(send(&mut world, OTHER, 1, "K", b"body"), first);
    let mut fields = send_fields(OTHER, 0, "");
    let properties = key("K");
    fields[0].1 = Value::Text("another");
    fields[8].1 = Value::Text(&properties);
    assert_eq!(world.call(Code::SEND_MESSAGE_V2, &fields, b"body").code, 0);
    assert_eq!(stored(&mut world, OTHER), ["body"; 2], "another group's is stored");
    assert_eq!(group(&mut world, "{}").code, 0);
    assert_eq!(send(&mut world, OTHER, 0, "K", b"body"), first, "a change of something else leaves it");
    assert_eq!(group(&mut world, r#"{"-skylark.duplicates":""}"#).code, 0);
    send(&mut world, OTHER, 0, "K", b"body");
    assert_eq!(stored(&mut world, OTHER), ["body"; 3]);
}

#[test]
fn a_retry_waits_until_the_first_is_durable() {
    let mut world = world();
    let properties = key("K");
    let submit =
        |world: &mut World| world.submit(Code::SEND_MESSAGE_V2, &send_fields(TOPIC, 0, &properties), b"body");
    let opaques = [submit(&mut world), submit(&mut world)];
    world.poll();
    assert!(world.written().is_empty(), "nothing was flushed");
    let answers = world.answers();
    assert_eq!(answers.iter().map(|answer| answer.opaque).collect::<Vec<_>>(), opaques);
    assert_eq!(Told::of(&answers[0]), Told::of(&answers[1]));
    assert_eq!(stored(&mut world, TOPIC), ["body"]);
}

#[test]
fn a_retry_fails_as_the_first_does() {
    let mut world = world();
    let properties = key("K");
    world.disk.fail_flush(1);
    for _ in 0..2 {
        world.submit(Code::SEND_MESSAGE_V2, &send_fields(TOPIC, 0, &properties), b"body");
    }
    while world.running.writer.step() == Step::Worked {}
    world.poll();
    let codes: Vec<_> = world.written().iter().map(|answer| answer.code).collect();
    assert_eq!(codes, [14, 14], "nobody knows whether it will be found");
    // The power goes, and with it what was not flushed: the next attempt is the first.
    world.crash(true);
    let lost = stored(&mut world, TOPIC).is_empty();
    send(&mut world, TOPIC, 0, "K", b"body");
    assert_eq!(stored(&mut world, TOPIC), ["body"], "it was lost: {lost}");
}

#[test]
fn what_was_refused_is_not_known() {
    let mut world = world();
    // The group is full: there is no room in the log until something is written.
    let large = vec![b'x'; 4 << 20];
    let mut sent = 0;
    while world.broker().log.frontiers().appended_end == world.end() && sent < 16 {
        let properties = key(&format!("large {sent}"));
        world.submit(Code::SEND_MESSAGE_V2, &send_fields(OTHER, 0, &properties), &large);
        sent += 1;
    }
    let properties = key("K");
    world.submit(Code::SEND_MESSAGE_V2, &send_fields(TOPIC, 0, &properties), b"body");
    let answers = world.answers();
    assert_eq!(answers.len(), sent + 1);
    let told = Told::of(answers.last().unwrap());
    assert_eq!(send(&mut world, TOPIC, 0, "K", b"body"), told);
    assert_eq!(stored(&mut world, TOPIC), ["body"]);
    assert_eq!(world.broker().suppression.suppressed(), 1, "looking again for room is no repetition");
}

#[test]
fn a_retry_after_a_restart_is_known_as_before() {
    let mut world = world();
    let first = send(&mut world, TOPIC, 1, "K", b"body");
    for power in [true, false] {
        world.crash(power);
        assert_eq!(send(&mut world, TOPIC, 3, "K", b"body"), first);
    }
    assert_eq!(stored(&mut world, TOPIC), ["body"]);
}
