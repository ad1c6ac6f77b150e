//! Messages that do not go straight to a queue: delayed, half, batches, retries of consumers.

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;

use super::producer::*;
use crate::support::raw::send_fields;
use crate::world::{World, level};

fn world() -> World {
    let mut world = World::new(1, Settings::default());
    topics(&mut world);
    world
}

#[test]
fn a_delayed_message_is_one_of_the_topic_it_is_for() {
    let mut world = world();
    let properties = key("K") + &level(1);
    let first = Told::of(&answer(&mut world, TOPIC, 2, &properties, b"body"));
    assert_eq!(first.queue, 2, "the one that was asked for");
    let again = |world: &mut World| Told::of(&answer(world, TOPIC, 3, &properties, b"body"));
    assert_eq!(again(&mut world), first);
    world.crash(true);
    assert_eq!(again(&mut world), first);
    world.advance(1001);
    assert_eq!(stored(&mut world, TOPIC), ["body"], "it is delivered, and only once");
    assert_eq!(again(&mut world), first, "what was delivered is no message of a client's");
    world.advance(2000);
    assert_eq!(stored(&mut world, TOPIC), ["body"]);
}

#[test]
fn a_half_message_is_one_of_the_topic_it_is_for() {
    const COMMIT: i32 = 8;
    let mut world = world();
    let properties = key("K") + "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}PG\u{2}";
    let prepare = |world: &mut World, queue| {
        let mut fields = send_fields(TOPIC, queue, &properties);
        fields[5].1 = Value::Number(4);
        Told::of(&world.call(Code::SEND_MESSAGE_V2, &fields, b"body"))
    };
    let first = prepare(&mut world, 1);
    assert_eq!(prepare(&mut world, 2), first);
    world.crash(true);
    assert_eq!(prepare(&mut world, 2), first);
    assert_eq!(world.broker().transactions.count(), 1);
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
    assert_eq!(prepare(&mut world, 2), first, "its transaction has ended since");
    assert_eq!(
        (stored(&mut world, TOPIC), world.broker().transactions.count()),
        (vec!["body".to_owned()], 0)
    );
}

#[test]
fn each_message_of_a_batch_is_looked_at() {
    let mut world = world();
    let none = String::new;
    let messages =
        [(key("A"), &b"a"[..]), (key("B"), &b"b"[..]), (none(), &b"nameless"[..]), (key("C"), &b"c"[..])];
    let (first, told) = send_batch(&mut world, 1, &messages);
    assert_eq!((told.number("queueId"), told.number("queueOffset")), (1, 0));
    for power in [true, false] {
        let (again, told) = send_batch(&mut world, 2, &messages);
        assert_eq!(
            ([again[0], again[1], again[3]], again[2] > first[3]),
            ([first[0], first[1], first[3]], true)
        );
        assert_eq!((told.number("queueId"), told.number("queueOffset")), (1, 0), "of the first of them");
        world.crash(power);
    }
    // One of them alone, and some among others.
    assert_eq!(send(&mut world, TOPIC, 0, "B", b"b").physical_offset, first[1]);
    let mixed =
        [(key("D"), &b"d"[..]), (key("B"), &b"b"[..]), (key("D"), &b"d"[..]), (key("A"), &b"other"[..])];
    let (places, told) = send_batch(&mut world, 3, &mixed);
    assert_eq!((places[1], places[0] == places[2]), (first[1], true));
    assert_eq!((told.number("queueId"), told.number("queueOffset")), (3, 0));
    assert_eq!(stored(&mut world, TOPIC), ["a", "b", "c", "d", "nameless", "nameless", "nameless", "other"]);
    assert_eq!(send_batch(&mut world, 0, &mixed).0, places, "and all of them again");
}

#[test]
fn what_was_consumed_before_is_stored_whatever_it_is() {
    let mut world = world();
    let properties = key("K");
    for reconsumed in [1, 1, 2] {
        let mut fields = send_fields(TOPIC, 0, &properties);
        fields[9].1 = Value::Number(reconsumed);
        assert_eq!(world.call(Code::SEND_MESSAGE_V2, &fields, b"body").code, 0);
    }
    assert_eq!(stored(&mut world, TOPIC), ["body"; 3]);
    let group = br#"{"groupName":"PG","attributes":{"+skylark.duplicates":"suppress"}}"#;
    assert_eq!(world.call(Code::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, &[], group).code, 0);
    for topic in ["%RETRY%PG", "%DLQ%PG"] {
        for _ in 0..2 {
            assert_eq!(answer(&mut world, topic, 0, &properties, b"body").code, 0);
        }
        assert_eq!(world.pulled(topic, 0).len(), 2, "{topic}");
    }
}

#[test]
fn a_consumer_can_send_the_same_message_back_again_and_again() {
    let mut world = world();
    let first = send(&mut world, TOPIC, 0, "K", b"body");
    world.pulled(TOPIC, 0);
    for _ in 0..2 {
        let fields = [
            ("offset", first.physical_offset.into()),
            ("group", Value::Text("CG")),
            ("delayLevel", Value::Number(1)),
            ("originMsgId", Value::Text("")),
            ("originTopic", Value::Text(TOPIC)),
            ("unitMode", Value::Flag(false)),
            ("maxReconsumeTimes", Value::Number(16)),
        ];
        assert_eq!(world.call(Code::CONSUMER_SEND_MSG_BACK, &fields, b"").code, 0);
    }
    world.advance(1001);
    assert_eq!(world.pulled("%RETRY%CG", 0).len(), 2);
}

#[test]
fn a_message_that_nobody_waits_for_is_known_too() {
    let mut world = world();
    let first = send(&mut world, TOPIC, 0, "K", b"body");
    // The other way to write a send, too.
    let properties = key("K");
    let fields = [
        ("producerGroup", Value::Text("PG")),
        ("topic", Value::Text(TOPIC)),
        ("defaultTopic", Value::Text("TBW102")),
        ("defaultTopicQueueNums", Value::Number(4)),
        ("queueId", Value::Number(3)),
        ("sysFlag", Value::Number(0)),
        ("bornTimestamp", Value::Number(1)),
        ("flag", Value::Number(0)),
        ("properties", Value::Text(&properties)),
        ("reconsumeTimes", Value::Number(0)),
    ];
    assert_eq!(Told::of(&world.call(Code::SEND_MESSAGE, &fields, b"body")), first);
    assert_eq!(stored(&mut world, TOPIC), ["body"]);
}
