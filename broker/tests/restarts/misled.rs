//! Files that say something else than the log does: the broker does not follow them, and if it did, the comparison
//! with the log would show it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use skylark_broker::broker::{Broker, Running, StartError};
use skylark_broker::snapshots::{Snapshot, Snapshots};
use skylark_broker::state::StateError;
use skylark_storage::PhysicalOffset;
use skylark_storage::device::simulated::Disk;

use super::audit::{SEGMENT_BYTES, audit, fill, settings};
use crate::digest::Digest;
use crate::disks;
use crate::world::World;

fn newest(disk: &Disk) -> Snapshot {
    let mut snapshots = Snapshots::open(Arc::new(disk.kill())).unwrap();
    snapshots.newest(|_| Ok(())).unwrap().expect("a snapshot")
}

/// Starts a broker on a disk, and nothing more.
fn try_open(world: &World, disk: &Disk) -> Result<Running, StartError> {
    Broker::open(Arc::new(disk.clone()), Arc::new(world.clock.clone()), &world.config)
}

/// What a broker says that folded the whole log.
fn refolded(world: &World, disk: &Disk) -> Digest {
    let copy = disk.kill();
    disks::lose(&copy, &disks::snapshots(&copy));
    disks::lose(&copy, &disks::index_files(&copy));
    Digest::of(&try_open(world, &copy).expect("a whole log"))
}

/// Two histories that part in the middle of a segment: the disk at that time, and a world that went on.
fn parted() -> (Disk, World) {
    let mut world = World::new(5, settings());
    fill(&mut world, "t", 3, 1);
    world.settle();
    while world.end().get() % SEGMENT_BYTES < SEGMENT_BYTES / 2 {
        super::audit::send(&mut world, "t", 0, &[1; 2000]);
    }
    let then = world.disk.kill();
    fill(&mut world, "t", 4, 2);
    world.settle();
    (then, world)
}

#[test]
fn a_snapshot_ahead_of_the_log_is_not_accepted() {
    let (then, mut world) = parted();
    let ahead = newest(&world.disk);
    let name = disks::snapshots(&world.disk).pop().unwrap();
    let bytes = disks::read(&world.disk, &name);
    // The log's flushes lied, those of the snapshot did not.
    disks::put(&then, &name, &bytes);
    let expected = refolded(&world, &then);
    world.restart_on(then);
    assert!(!disks::snapshots(&world.disk).contains(&name), "it is removed");
    assert!(world.broker().founded_on < ahead.head.position);
    assert_eq!(Digest::of(&world.running).topics, expected.topics);
    // The log goes on, in another way, beyond where the snapshot was taken: then it is one of another history.
    fill(&mut world, "u", 6, 3);
    world.settle();
    let disk = world.disk.kill();
    disks::lose(&disk, &disks::snapshots(&disk));
    disks::put(&disk, &name, &bytes);
    let running = try_open(&world, &disk).unwrap();
    assert_eq!(running.broker.founded_on, PhysicalOffset::ZERO);
    assert_eq!(Digest::of(&running), refolded(&world, &disk));
}

#[test]
fn accepting_a_snapshot_of_another_history_is_noticed() {
    let (then, mut world) = parted();
    let mut forged = newest(&world.disk);
    world.restart_on(then);
    fill(&mut world, "u", 6, 3);
    world.settle();
    // What proves the history is made to fit.
    let point = world.broker().log.chain_at(forged.head.position).unwrap().expect("a segment begins there");
    (forged.head.chain, forged.head.epoch) = (point.chain, point.epoch);
    let disk = world.disk.kill();
    disks::lose(&disk, &disks::snapshots(&disk));
    Snapshots::open(Arc::new(disk.clone())).unwrap().write(&forged).unwrap();
    let told =
        catch_unwind(AssertUnwindSafe(|| try_open(&world, &disk.kill()).map(|running| Digest::of(&running))));
    let is_noticed = match told {
        Ok(Ok(digest)) => digest != refolded(&world, &disk),
        Ok(Err(_)) | Err(_) => true,
    };
    assert!(is_noticed);
}

/// Seven segments, and two snapshots of which the log needs neither.
fn long() -> (World, [String; 2]) {
    let mut world = World::new(6, settings());
    fill(&mut world, "t", 7, 1);
    world.settle();
    let snapshots: [String; 2] = disks::snapshots(&world.disk).try_into().unwrap();
    (world, snapshots)
}

fn position(name: &str) -> PhysicalOffset {
    let digits = name.trim_start_matches("snapshots/").trim_end_matches(".snap");
    PhysicalOffset::new(digits.parse().unwrap())
}

#[test]
fn trimmed_to_the_older_snapshot_the_log_can_lose_the_newer() {
    for damaged in [false, true] {
        let (world, [older, newer]) = long();
        let whole = refolded(&world, &world.disk.kill());
        world.broker().log.trim(position(&older)).unwrap();
        let disk = world.disk.crash();
        if damaged {
            disk.flip_bit(&newer, 200, 3).unwrap();
        } else {
            disks::lose(&disk, &[newer]);
        }
        let running = try_open(&world, &disk).unwrap();
        assert_eq!(running.broker.founded_on, position(&older));
        assert_eq!(Digest::of(&running).without_minima(), whole.without_minima());
    }
}

#[test]
fn trimming_against_the_newest_snapshot_is_noticed() {
    for damaged in [false, true] {
        let (world, [_, newer]) = long();
        world.broker().log.trim(position(&newer)).unwrap();
        let disk = world.disk.crash();
        if damaged {
            disk.flip_bit(&newer, 200, 3).unwrap();
        } else {
            disks::lose(&disk, std::slice::from_ref(&newer));
        }
        let refused = try_open(&world, &disk).err();
        let trimmed = position(&newer);
        assert!(
            matches!(refused, Some(StartError::State(StateError::Unfounded { trimmed: at })) if at == trimmed),
            "{refused:?}"
        );
    }
}

#[test]
fn an_index_file_beyond_the_cut_is_removed_and_keeping_it_is_noticed() {
    let (then, mut world) = parted();
    let base = world.broker().log.segment_base(newest(&world.disk).head.position);
    let name = disks::index_files(&world.disk)
        .into_iter()
        .find(|name| !disks::index_files(&then).contains(name))
        .expect("the segment where the histories part was sealed");
    let old = disks::read(&world.disk, &name);
    disks::put(&then, &name, &old);
    world.restart_on(then);
    assert!(!disks::index_files(&world.disk).contains(&name), "it says what the log does not");
    assert!(base > world.end());
    fill(&mut world, "t", 4, 3);
    world.settle();
    assert!(disks::read(&world.disk, &name) != old, "the histories differ");
    audit(&mut world);
    world.crash(true);
    world.settle();
    audit(&mut world);

    let disk = world.disk.kill();
    disks::put(&disk, &name, &old);
    world.restart_on(disk);
    world.settle();
    assert!(catch_unwind(AssertUnwindSafe(|| audit(&mut world))).is_err(), "an old index file is believed");
}
