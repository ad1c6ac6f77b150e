//! A trim takes messages, and nothing else.

use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;

use super::audit::{SEGMENT_BYTES, audit, fill, range, ranges, send, settings};
use crate::digest::Digest;
use crate::disks;
use crate::world::World;

const QUEUES: u32 = 3;
const EACH: u64 = 7;

fn commit(world: &mut World, queue: u32, offset: u64) {
    let fields = [
        ("consumerGroup", Value::Text("G")),
        ("topic", Value::Text("quiet")),
        ("queueId", queue.into()),
        ("commitOffset", offset.into()),
    ];
    assert_eq!(world.call(RequestCode::UPDATE_CONSUMER_OFFSET, &fields, &[]).code, 0);
}

fn committed(world: &mut World, queue: u32) -> u64 {
    let fields = [
        ("consumerGroup", Value::Text("G")),
        ("topic", Value::Text("quiet")),
        ("queueId", queue.into()),
        ("setZeroIfNotFound", Value::Flag(false)),
    ];
    let answer = world.call(RequestCode::QUERY_CONSUMER_OFFSET, &fields, &[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.number("offset")
}

/// A queue whose every message was trimmed.
fn quiet() -> World {
    let kept = Settings { retention_bytes: Some(4 * SEGMENT_BYTES), ..settings() };
    let mut world = World::new(7, kept);
    for number in 0..EACH * u64::from(QUEUES) {
        send(&mut world, "quiet", u32::try_from(number).unwrap() % QUEUES, b"something");
    }
    // The group is made by its first pull.
    world.pulled("quiet", 0);
    let fields = crate::support::raw::pull_fields("G", "quiet", 0, 0);
    world.call(RequestCode::PULL_MESSAGE, &fields, &[]);
    (0..QUEUES).for_each(|queue| commit(&mut world, queue, u64::from(queue) + 2));
    world.broker().commit_offsets().unwrap();
    let last = world.end();
    for round in 0..9 {
        fill(&mut world, "busy", 1, round);
        // Retention is looked at every ten seconds.
        world.advance(11_000);
    }
    let trimmed = world.broker().log.frontiers().trimmed;
    assert!(trimmed > last, "the log begins at {trimmed}, the quiet queue's last message lies before {last}");
    world
}

fn check(world: &mut World) {
    for queue in 0..QUEUES {
        assert_eq!(range(world, "quiet", queue), EACH..EACH);
        assert_eq!(committed(world, queue), u64::from(queue) + 2);
    }
    audit(world);
}

#[test]
fn a_queue_of_which_every_segment_was_trimmed_is_what_it_was() {
    let mut world = quiet();
    check(&mut world);
    let before = (Digest::of(&world.running), ranges(&world));
    for power in [true, false] {
        world.crash(power);
        assert_eq!((Digest::of(&world.running), ranges(&world)), before);
        world.settle();
        check(&mut world);
    }
    assert_eq!(send(&mut world, "quiet", 0, b"goes on"), EACH);
    assert_eq!(range(&world, "quiet", 0), EACH..EACH + 1);
    audit(&mut world);
}

#[test]
fn the_older_snapshot_and_no_index_file_tell_the_same_of_it() {
    let mut world = quiet();
    let before = ranges(&world);
    for (snapshot, indexes) in [(true, false), (false, true), (true, true)] {
        let disk = world.disk.crash();
        let snapshots = disks::snapshots(&disk);
        // The power cut may have undone the removal of one before them.
        assert!(snapshots.len() >= 2);
        if snapshot {
            disks::lose(&disk, &snapshots[snapshots.len() - 1..]);
        }
        if indexes {
            disks::lose(&disk, &disks::index_files(&disk));
        }
        let mut again = quiet();
        again.restart_on(disk);
        again.settle();
        assert_eq!(
            ranges(&again),
            before,
            "without the newest snapshot {snapshot}, without indexes {indexes}"
        );
        check(&mut again);
        assert_eq!(send(&mut again, "quiet", 1, b"goes on"), EACH);
    }
    world.settle();
}
