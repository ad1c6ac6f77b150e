//! How much is known, and for how long.

use std::time::Duration;

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode as Code;
use skylark_protocol::outgoing::Value;

use super::producer::*;
use crate::world::World;

const SEGMENT_BYTES: u64 = 65_536;

fn settings(messages: u32, seconds: u64) -> Settings {
    Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        duplicate_window_messages: Some(messages),
        duplicate_window_seconds: Some(seconds),
        ..Settings::default()
    }
}

fn world(messages: u32, seconds: u64) -> World {
    let mut world = World::new(1, settings(messages, seconds));
    topics(&mut world);
    world
}

#[test]
fn the_latest_messages_are_known_and_a_restart_changes_nothing() {
    let mut world = world(10, 600);
    let told: Vec<Told> =
        (0..30).map(|number: u32| send(&mut world, TOPIC, 0, &number.to_string(), b"body")).collect();
    for power in [true, false] {
        for number in [29, 25, 20] {
            assert_eq!(send(&mut world, TOPIC, 1, &number.to_string(), b"body"), told[number]);
        }
        world.crash(power);
    }
    assert_ne!(send(&mut world, TOPIC, 1, "19", b"body"), told[19]);
    assert_ne!(send(&mut world, TOPIC, 1, "20", b"body"), told[20], "19 has taken its place");
}

#[test]
fn old_messages_are_not_known_though_nothing_came_since() {
    let mut world = world(10, 60);
    let first = send(&mut world, TOPIC, 0, "K", b"body");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(send(&mut world, TOPIC, 0, "K", b"body"), first);
    world.clock.advance(Duration::from_millis(1));
    let second = send(&mut world, TOPIC, 0, "K", b"body");
    assert_ne!(second, first);
    world.crash(true);
    assert_eq!(send(&mut world, TOPIC, 0, "K", b"body"), second);
}

#[test]
fn a_message_of_a_clock_that_is_ahead_takes_no_other_along() {
    const HOUR: Duration = Duration::from_secs(3600);
    let mut world = world(10, 600);
    let first = send(&mut world, TOPIC, 0, "K", b"body");
    let before_ms = world.now_ms();
    world.clock.set_wall_ms(before_ms + 3_600_000);
    let ahead = send(&mut world, TOPIC, 0, "ahead", b"body");
    world.clock.set_wall_ms(before_ms + 1000);
    for power in [true, false] {
        assert_eq!(send(&mut world, TOPIC, 1, "K", b"body"), first);
        assert_eq!(send(&mut world, TOPIC, 1, "ahead", b"body"), ahead);
        world.crash(power);
    }
    world.clock.advance(HOUR);
    assert_ne!(send(&mut world, TOPIC, 1, "K", b"body"), first, "it is too old at last");
}

#[test]
fn limits_can_change_at_a_restart() {
    let mut world = world(10, 600);
    let told: Vec<Told> =
        (0..10).map(|number: u32| send(&mut world, TOPIC, 0, &number.to_string(), b"body")).collect();
    world.reconfigure(settings(2, 600));
    assert_eq!(send(&mut world, TOPIC, 1, "8", b"body"), told[8]);
    assert_ne!(send(&mut world, TOPIC, 1, "7", b"body"), told[7]);
    world.reconfigure(settings(0, 600));
    assert_ne!(send(&mut world, TOPIC, 1, "9", b"body"), told[9], "nothing is known");
    assert_eq!(world.broker().suppression.folded.lock().len(), 0);
}

/// The window lies in snapshots: what was sent in segments that are not folded again is known, even once the log's
/// beginning is gone.
#[test]
fn a_window_over_many_segments_survives_restarts_and_trims() {
    let mut world =
        World::new(1, Settings { retention_bytes: Some(3 * SEGMENT_BYTES), ..settings(5000, 36_000) });
    topics(&mut world);
    let body = vec![b'x'; 1000];
    let mut told = Vec::new();
    while world.end().get() < 12 * SEGMENT_BYTES {
        told.push(send(&mut world, TOPIC, 0, &told.len().to_string(), &body));
        // Retention is looked at every ten seconds.
        world.advance(100);
    }
    let trimmed = world.broker().log.frontiers().trimmed.get();
    assert!(trimmed > told[0].physical_offset, "the log begins at {trimmed}");
    let end = world.end();
    for power in [false, true] {
        for (number, first) in told.iter().enumerate() {
            assert_eq!(send(&mut world, TOPIC, 1, &number.to_string(), &body), *first);
        }
        world.crash(power);
        assert!(world.broker().founded_on > skylark_storage::PhysicalOffset::ZERO, "a snapshot was loaded");
    }
    assert!(world.end().since(end) < 4096, "nothing was stored again");
}

#[test]
fn a_topic_that_is_made_again_begins_without_what_was_sent_before() {
    let mut world = world(10, 600);
    let first = send(&mut world, TOPIC, 0, "K", b"body");
    let delete = [("topic", Value::Text(TOPIC))];
    assert_eq!(world.call(Code::DELETE_TOPIC_IN_BROKER, &delete, b"").code, 0);
    assert_eq!(world.put_topic(TOPIC, 4, &suppressing()).code, 0);
    let second = send(&mut world, TOPIC, 0, "K", b"body");
    assert_ne!(second, first);
    assert_eq!(send(&mut world, TOPIC, 0, "K", b"body"), second);
    assert_eq!(stored(&mut world, TOPIC), ["body"]);
}
