//! The attribute `message.type`.

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::command::topics::TopicConfig;
use skylark_protocol::outgoing::Value;

use super::producer::*;
use crate::world::{World, level};

fn stated(world: &mut World, topic: &str) -> Option<String> {
    let answer = world.call(Code::GET_TOPIC_CONFIG, &[("topic", Value::Text(topic))], b"");
    TopicConfig::decode(&answer.body).unwrap().attributes.get("message.type").cloned()
}

#[test]
fn the_attribute_is_kept_changed_and_removed() {
    let mut world = World::new(1, Settings::default());
    for value in ["NORMAL", "FIFO", "DELAY", "TRANSACTION", "UNSPECIFIED"] {
        assert_eq!(world.put_topic("t", 4, &format!("+message.type={value}")).code, 0);
        world.crash(true);
        assert_eq!(stated(&mut world, "t").as_deref(), Some(value));
    }
    assert_eq!(world.put_topic("t", 4, "").code, 0);
    assert_eq!(stated(&mut world, "t").as_deref(), Some("UNSPECIFIED"), "what is not named stays");
    for (attributes, code) in [
        ("+message.type=PRIORITY", 1),
        ("+message.type=fifo", 1),
        ("message.type=FIFO", 1),
        ("+message.type=FIFO,-message.type", 1),
        ("+queue.type=BatchCQ", 1),
        ("+cleanup.policy=DELETE", 1),
        ("+message.type=MIXED", 29),
    ] {
        assert_eq!(world.put_topic("t", 4, attributes).code, code, "{attributes}");
    }
    assert_eq!(world.put_topic("batches", 4, "+queue.type=BatchCQ").code, 1);
    assert_eq!(world.put_topic("t", 4, "-message.type").code, 0);
    assert_eq!((stated(&mut world, "t"), world.put_topic("t", 4, "-message.type").code), (None, 1));
    world.reconfigure(Settings { mixed_message_type: Some(true), ..Settings::default() });
    assert_eq!(world.put_topic("t", 4, "+message.type=MIXED").code, 0);
    assert_eq!(stated(&mut world, "t").as_deref(), Some("MIXED"));
}

#[test]
fn messages_are_checked_if_the_broker_is_to() {
    let half = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}PG\u{2}UNIQ_KEY\u{1}K\u{2}";
    let messages = [
        ("NORMAL", String::new()),
        ("FIFO", "__SHARDINGKEY\u{1}k\u{2}".to_owned()),
        ("DELAY", level(1) + "__SHARDINGKEY\u{1}k\u{2}"),
        ("DELAY", "TIMER_DELAY_SEC\u{1}5\u{2}".to_owned()),
        ("DELAY", "__SHARDINGKEY\u{1}k\u{2}TIMER_DELAY_MS\u{1}5\u{2}".to_owned()),
        // One that has passed: the message is of the type, and delivered at once.
        ("DELAY", "TIMER_DELIVER_MS\u{1}1\u{2}".to_owned()),
        // A consumer sends on what has waited: it is delivered at once, and of another type.
        ("NORMAL", "TIMER_DELAY_MS\u{1}5\u{2}TIMER_OUT_MS\u{1}1\u{2}".to_owned()),
        ("TRANSACTION", half.to_owned()),
    ];
    for checked in [false, true] {
        let mut world = World::new(
            1,
            Settings {
                check_message_types: Some(checked),
                mixed_message_type: Some(true),
                ..Settings::default()
            },
        );
        for topic in ["NORMAL", "FIFO", "DELAY", "TRANSACTION", "UNSPECIFIED", "MIXED", "none"] {
            let attributes = if topic == "none" { String::new() } else { format!("+message.type={topic}") };
            assert_eq!(world.put_topic(topic, 4, &attributes).code, 0);
            for (found, properties) in &messages {
                let answer = send(&mut world, topic, 0, properties, b"x");
                let is_taken =
                    !checked || topic == *found || ["UNSPECIFIED", "MIXED", "none"].contains(&topic);
                assert_eq!(
                    answer.code,
                    if is_taken { 0 } else { 13 },
                    "{found} to {topic}: {}",
                    answer.remark
                );
            }
        }
    }
}
