//! What retention does while index files or snapshots cannot be written, and what it is told by pins.

use std::time::Duration;

use skylark_broker::config::Settings;
use skylark_broker::refusal::UNSEALED_MAX;
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::kv::KvTable;
use skylark_storage::device::Space;

use super::audit::{SEGMENT_BYTES, audit, fill, ranges, settings};
use crate::support::raw::send_fields;
use crate::world::World;

/// What is failed is tried again, and retention's turn comes, within this.
const A_WHILE: u64 = 11_000;
const LEASE: Duration = Duration::from_secs(600);
const INDEXES: &str = ".idx";
const SNAPSHOTS: &str = "snapshots/";

/// Above the watermark for retention, below that for senders.
const TIGHT: Space = Space { total_bytes: 100 << 20, available_bytes: 12 << 20 };

fn begins(world: &World) -> u64 {
    world.broker().log.frontiers().trimmed.get() / SEGMENT_BYTES
}

fn ends(world: &World) -> u64 {
    world.end().get() / SEGMENT_BYTES
}

fn unsealed(world: &World) -> usize {
    world.broker().index.read().unsealed_count()
}

fn by_size() -> Settings {
    Settings { retention_bytes: Some(4 * SEGMENT_BYTES), ..settings() }
}

/// Lets so much time pass that everything that is due has its turn, twice.
fn let_time_pass(world: &mut World) {
    for _ in 0..4 {
        world.advance(A_WHILE / 2);
    }
}

#[test]
fn a_disk_at_the_watermark_is_trimmed_though_nothing_can_be_sealed() {
    let mut world = World::new(7, settings());
    fill(&mut world, "t", 5, 1);
    assert_eq!((begins(&world), unsealed(&world)), (0, 0));
    world.broken.set(&[INDEXES]);
    for salt in 0..3 {
        fill(&mut world, "t", 1, salt);
        let_time_pass(&mut world);
    }
    assert!(unsealed(&world) >= 2);
    world.broken.set_space(Some(TIGHT));
    let_time_pass(&mut world);
    let begins_at = begins(&world);
    assert!(begins_at >= 4, "what has index files and is older than two snapshots goes at once: {begins_at}");
    audit(&mut world);
    // It goes on like that for as long as it takes. Two snapshots are kept, each at the beginning of a segment: all
    // below the older one goes.
    for salt in 0..8 {
        fill(&mut world, "t", 1, salt);
        let_time_pass(&mut world);
        assert!(salt == 0 || begins(&world) >= ends(&world) - 2, "{} of {}", begins(&world), ends(&world));
        assert!(salt == 0 || unsealed(&world) <= 2, "{}", unsealed(&world));
    }
    audit(&mut world);
    let before = ranges(&world);
    for power in [true, false] {
        world.crash(power);
        world.broken.set(&[]);
        let_time_pass(&mut world);
        assert_eq!(ranges(&world), before);
        audit(&mut world);
        world.broken.set(&[INDEXES]);
    }
}

#[test]
fn senders_are_refused_before_unsealed_segments_fill_memory() {
    let mut world = World::new(7, settings());
    fill(&mut world, "t", 2, 1);
    world.broken.set(&[INDEXES]);
    let body = vec![7; 1000];
    let mut refused = None;
    for number in 0..3000 {
        let answer = world.call(RequestCode::SEND_MESSAGE_V2, &send_fields("t", 0, ""), &body);
        if answer.code != 0 {
            refused = Some(answer);
            break;
        }
        if number % 16 == 0 {
            world.advance(1000);
        }
    }
    let refused = refused.expect("memory is bounded");
    assert_eq!(refused.code, 14);
    assert!(refused.remark.contains(INDEXES) && refused.remark.contains("above 8"), "{}", refused.remark);
    assert!((UNSEALED_MAX + 1..UNSEALED_MAX + 3).contains(&unsealed(&world)));
    // What there is can be consumed, and senders go on once it can be written.
    audit(&mut world);
    let info = world.call(RequestCode::GET_BROKER_RUNTIME_INFO, &[], &[]);
    let info = KvTable::decode(&info.body).unwrap().table;
    assert_eq!(info["unsealedSegments"], unsealed(&world).to_string());
    assert_eq!(info["sendsRefused"], refused.remark);
    world.broken.set(&[]);
    let_time_pass(&mut world);
    assert_eq!(unsealed(&world), 0);
    fill(&mut world, "t", 1, 2);
    audit(&mut world);
}

#[test]
fn a_segment_that_cannot_be_indexed_again_is_kept_until_it_can() {
    let mut world = World::new(7, by_size());
    fill(&mut world, "t", 3, 1);
    let index_files = crate::disks::index_files(&world.disk);
    world.crash(false);
    crate::disks::lose(&world.disk, &index_files[..1]);
    world.crash(false);
    world.broken.set(&[INDEXES]);
    for salt in 0..6 {
        fill(&mut world, "t", 1, salt);
        let_time_pass(&mut world);
    }
    assert_eq!(begins(&world), 0, "nobody knows what waits in it");
    world.broken.set(&[]);
    let_time_pass(&mut world);
    assert!(begins(&world) >= 4, "{}", begins(&world));
    audit(&mut world);
}

#[test]
fn without_snapshots_retention_stops_at_the_older_one_and_goes_on_with_the_next() {
    let mut world = World::new(7, by_size());
    for salt in 0..6 {
        fill(&mut world, "t", 1, salt);
        let_time_pass(&mut world);
    }
    let stops_at = ends(&world) - 1;
    assert!(begins(&world) < stops_at);
    world.broken.set(&[SNAPSHOTS]);
    for salt in 0..8 {
        fill(&mut world, "t", 1, salt);
        let_time_pass(&mut world);
    }
    assert_eq!(begins(&world), stops_at, "what only the log knows is kept");
    world.broken.set_space(Some(TIGHT));
    let_time_pass(&mut world);
    assert_eq!(begins(&world), stops_at);
    world.crash(true);
    world.broken.set_space(None);
    world.settle();
    audit(&mut world);
    world.broken.set(&[]);
    for salt in 0..2 {
        fill(&mut world, "t", 1, salt);
        let_time_pass(&mut world);
    }
    assert!(begins(&world) > stops_at);
    audit(&mut world);
}

#[test]
fn a_pin_holds_what_is_too_much_until_it_expires_or_the_disk_is_tight() {
    let mut world = World::new(7, by_size());
    fill(&mut world, "t", 3, 1);
    let log = world.broker().log.clone();
    let pin = log.pin(log.trimmed().get(), LEASE, "follower 10.0.0.7").unwrap();
    for salt in 0..4 {
        fill(&mut world, "t", 1, salt);
        let_time_pass(&mut world);
    }
    assert_eq!(begins(&world), 0);
    let info = world.call(RequestCode::GET_BROKER_RUNTIME_INFO, &[], &[]);
    let pins = KvTable::decode(&info.body).unwrap().table["commitLogPins"].clone();
    assert!(pins.starts_with("follower 10.0.0.7 from 0 for "), "{pins}");
    world.advance(u64::try_from(LEASE.as_millis()).unwrap());
    let_time_pass(&mut world);
    let begins_at = begins(&world);
    assert!(begins_at > 0 && pin.is_lost());
    drop(pin);

    let pin = log.pin(log.trimmed().get(), LEASE, "follower 10.0.0.7").unwrap();
    fill(&mut world, "t", 3, 1);
    let_time_pass(&mut world);
    assert_eq!(begins(&world), begins_at);
    world.broken.set_space(Some(TIGHT));
    world.advance(1000);
    assert!(begins(&world) > begins_at && pin.is_lost());
    world.broken.set_space(None);
    audit(&mut world);
}
