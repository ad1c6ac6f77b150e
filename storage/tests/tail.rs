//! What readers of the tail hold on to.

mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use skylark_storage::device::simulated::Disk;
use skylark_storage::{Options, PhysicalOffset};

use support::{SEGMENT_BYTES, World, options};

/// A log whose chunks are as long as its segments, of which about two stay in the tail.
fn world() -> World {
    World::new(Disk::new(1), Options { tail_bytes: SEGMENT_BYTES, ..options() })
}

/// Appends a record and reads it from the tail, twice.
fn append_and_read(world: &mut World, rest_bytes: usize) -> (PhysicalOffset, [Bytes; 2]) {
    world.append(&[rest_bytes]).expect("the log takes appends");
    world.settle().expect("no promise is broken");
    let log = &world.opened.log;
    let at = world.units.last().expect("one was appended").records[0].at;
    let length = u32::try_from(log.record_at(at).expect("it is visible").bytes.len()).expect("it is short");
    let read = || log.read_hot(at, length).expect("it is in the tail");
    (log.segment_base(at), [read(), read()])
}

fn are_shared([first, second]: &[Bytes; 2]) -> bool {
    first.as_ptr() == second.as_ptr()
}

#[test]
fn whoever_keeps_what_it_has_read_holds_few_chunks() {
    let mut world = world();
    let read: Vec<_> = (0..400).map(|_| append_and_read(&mut world, 3000)).collect();
    let chunks = |is_shared: bool| -> BTreeSet<PhysicalOffset> {
        read.iter().filter(|(_, both)| are_shared(both) == is_shared).map(|(base, _)| *base).collect()
    };
    assert!(chunks(false).len() > 10, "most have been copied");
    // As much as the tail has, and what was in the tail when that was found.
    assert!((1..=4).contains(&chunks(true).len()), "{:?}", chunks(true));
    // Others who have let go of what they had read get at the tail itself again.
    drop(read);
    assert!(are_shared(&append_and_read(&mut world, 3000).1));
}

#[test]
fn whoever_lets_go_in_time_is_never_given_copies() {
    let mut world = world();
    for _ in 0..400 {
        assert!(are_shared(&append_and_read(&mut world, 3000).1));
    }
}

#[test]
fn small_parts_hold_no_chunk() {
    let mut world = world();
    assert!(!are_shared(&append_and_read(&mut world, 100).1));
    let at = world.units[0].records[0].at;
    let [first, second] = [0, 1].map(|_| world.opened.log.record_at(at).expect("it is visible").bytes);
    assert_ne!(first.as_ptr(), second.as_ptr());
}
