//! What is kept, and what pins do to it: on a simulated disk and by a clock that is moved by hand.

mod support;

use std::task::{Poll, Waker};
use std::time::Duration;

use skylark_storage::device::simulated::Disk;
use skylark_storage::retention::{LEASE_MAX, PINS_MAX};
use skylark_storage::{Files, PhysicalOffset, Pin, PinError, ReadError, Registration, Retention, Step};

use support::{SEGMENT_BYTES, World, options};

const LEASE: Duration = Duration::from_secs(60);
const A_MINUTE: Duration = Duration::from_secs(60);
/// More than two segments are not kept.
fn by_size() -> Retention {
    Retention::default().by_size(2 * SEGMENT_BYTES)
}

fn by_disk() -> Retention {
    by_size().by_disk(85)
}

fn base(index: u64) -> PhysicalOffset {
    PhysicalOffset::new(index * SEGMENT_BYTES)
}

fn grow(world: &mut World, segments: u64) {
    while world.frontiers().durable_end < base(segments).advance(10_000) {
        world.append(&[3000, 500]).expect("the log takes appends");
        world.settle().expect("no promise is broken");
        while world.step_housekeeper() == Step::Worked {}
    }
}

/// A log of five finished segments, the youngest a minute old, and one in use.
fn long() -> World {
    let mut world = World::new(Disk::new(1), options());
    for segment in 1..=5 {
        grow(&mut world, segment);
        world.clock.advance(A_MINUTE);
    }
    world
}

fn pin(world: &World, from: PhysicalOffset) -> Pin {
    world.opened.log.pin(from, LEASE, "a reader").expect("nothing stands in the way")
}

fn apply(world: &mut World, retention: &Retention) -> u64 {
    let retained = world.opened.log.apply_retention(retention).expect("the disk works");
    assert_eq!(retained.trimmed, world.frontiers().trimmed);
    retained.trimmed.get() / SEGMENT_BYTES
}

#[test]
fn a_policy_is_applied_in_one_call() {
    let world = long();
    let log = &world.opened.log;
    let before: u64 = log.segments().iter().map(|segment| segment.stored_bytes).sum();
    let retained = log.apply_retention(&by_size()).unwrap();
    let after: u64 = log.segments().iter().map(|segment| segment.stored_bytes).sum();
    assert!(after <= 2 * SEGMENT_BYTES && retained.segments > 2);
    assert_eq!(retained.freed_bytes, before - after);
    assert_eq!((retained.held_back, retained.overtaken), (None, Vec::new()));
    let again = log.apply_retention(&by_size()).unwrap();
    assert_eq!((again.segments, again.freed_bytes, again.trimmed), (0, 0, retained.trimmed));

    // By age: the segments in front of the newest, each finished a minute before the next.
    let mut world = long();
    let by_age = Retention::default().by_age(150_000);
    assert_eq!(apply(&mut world, &by_age), 3);
    world.clock.advance(A_MINUTE);
    assert_eq!(apply(&mut world, &by_age), 4);
}

#[test]
fn age_and_size_stop_at_a_pin_until_it_moves_or_goes() {
    let mut world = long();
    let held = pin(&world, base(1).advance(5000));
    let retained = world.opened.log.apply_retention(&by_size()).unwrap();
    assert_eq!((retained.trimmed, retained.segments), (base(1), 1));
    let held_back = retained.held_back.expect("the pin is in the way");
    assert_eq!((&*held_back.by.holder, held_back.by.from), ("a reader", base(1).advance(5000)));
    assert!(held_back.to >= base(3));
    assert_eq!(world.opened.log.pins(), [held.info()]);

    held.advance(base(2)).unwrap();
    held.advance(base(1)).unwrap();
    assert_eq!(held.info().from, base(2), "a pin never goes back");
    assert_eq!(apply(&mut world, &by_size()), 2);
    let other = pin(&world, base(9));
    drop(held);
    assert!(apply(&mut world, &by_size()) > 2);
    assert!(!other.is_lost());
}

#[test]
fn a_pin_expires_by_the_logs_clock_and_is_renewed() {
    let mut world = long();
    let held = pin(&world, base(1));
    for _ in 0..3 {
        world.clock.advance(LEASE - Duration::from_millis(1));
        assert_eq!(apply(&mut world, &by_size()), 1);
        held.renew().unwrap();
    }
    world.clock.advance(LEASE - Duration::from_millis(1));
    assert_eq!(held.info().expires_in, Duration::from_millis(1));
    // Whoever gets on is alive.
    held.advance(base(1).advance(10)).unwrap();
    world.clock.advance(LEASE);
    assert_eq!(held.info().expires_in, Duration::ZERO);
    assert!(!held.is_lost(), "nothing has asked for what it holds");
    let gone_to = apply(&mut world, &by_size());
    assert!(gone_to > 1);
    assert!(held.is_lost());
    let lost = held.renew().unwrap_err();
    assert_eq!((lost.from, lost.trimmed), (base(1).advance(10), base(gone_to)));
    // It can go on from where there is something.
    held.advance(base(gone_to)).unwrap();
    assert!(!held.is_lost());
}

#[test]
fn a_pin_that_expired_holds_again_once_it_is_renewed_in_time() {
    let mut world = long();
    let held = pin(&world, base(1));
    world.clock.advance(2 * LEASE);
    held.renew().unwrap();
    assert_eq!(apply(&mut world, &by_size()), 1);
}

#[test]
fn the_disk_watermark_passes_every_pin_and_the_holder_learns_so() {
    let mut world = long();
    let held = pin(&world, base(1));
    let log = world.opened.log.clone();
    let mut scan = log.scan(base(1));
    scan.next().unwrap().unwrap();
    assert_eq!(apply(&mut world, &by_disk()), 1, "the disk has space");
    world.disk.set_space_left(Some(0));
    let retained = world.opened.log.apply_retention(&by_disk()).unwrap();
    assert_eq!((retained.trimmed, retained.held_back), (base(5), None));
    assert_eq!(retained.overtaken, [held.info()]);
    assert!(held.is_lost() && held.renew().is_err());
    assert!(matches!(scan.next(), Some(Err(ReadError::Trimmed { .. }))));
    let refused = world.opened.log.pin(base(1), LEASE, "late").unwrap_err();
    assert_eq!(refused, PinError::Trimmed { from: base(1), kept: base(5) });
    assert!(world.disk.space().unwrap().available_bytes > 3 * SEGMENT_BYTES);
    world.settle().unwrap();
}

#[test]
fn what_is_about_to_go_cannot_be_pinned() {
    let mut world = long();
    let cut = world.opened.log.decide_cut(&by_size());
    let to = cut.to.expect("there is too much");
    assert_eq!(world.frontiers().trimmed, base(0), "nothing has happened yet");
    let refused = world.opened.log.pin(base(1), LEASE, "late").unwrap_err();
    assert_eq!(refused, PinError::Trimmed { from: base(1), kept: to });
    assert!(refused.to_string().contains(&to.to_string()), "{refused}");
    let held = pin(&world, to);
    // Nobody trims, and somebody asks about another policy.
    assert_eq!(world.opened.log.cut(&Retention::default()).to, None);
    assert!(world.opened.log.pin(base(1), LEASE, "late").is_err(), "what is decided stays so");
    // The policy has changed its mind.
    assert_eq!(world.opened.log.decide_cut(&Retention::default()).to, None);
    drop((held, pin(&world, base(1))));
    // An explicit trim has decided already.
    let held = pin(&world, base(1));
    world.trim(base(2)).unwrap();
    assert!(held.is_lost());
}

#[test]
fn a_question_about_retention_changes_nothing() {
    let world = long();
    let before = pin(&world, base(2));
    let asked = world.opened.log.cut(&by_size());
    assert_eq!(asked.to, Some(base(2)));
    assert_eq!(world.opened.log.cut(&by_size()), asked);
    assert_eq!(world.frontiers().trimmed, base(0));
    let behind = pin(&world, base(0));
    before.renew().expect("nothing has been decided");
    assert_eq!(world.opened.log.cut(&by_size()).to, None, "the other pin is in the way");
    drop(behind);
    assert_eq!(world.opened.log.decide_cut(&by_size()), asked, "what is decided is what was answered");
}

#[test]
fn pins_are_bounded_and_a_restart_forgets_them() {
    let mut world = long();
    let too_long = LEASE_MAX + Duration::from_secs(1);
    let refused = world.opened.log.pin(base(1), too_long, "for ever").unwrap_err();
    assert_eq!(refused, PinError::LeaseTooLong { lease: too_long });
    let mut pins: Vec<_> = (0..PINS_MAX).map(|_| pin(&world, base(1))).collect();
    let refused = world.opened.log.pin(base(1), LEASE, "one too many").unwrap_err();
    assert_eq!(refused, PinError::TooMany);
    pins.pop();
    pins.push(pin(&world, base(1)));

    world.kill().unwrap();
    assert_eq!(world.opened.log.pins(), []);
    assert!(apply(&mut world, &by_size()) > 1);
    // Whoever still has one of the old opening harms nobody.
    assert_eq!(pins[0].info().from, base(1));
}

#[test]
fn the_low_watermark_is_published_and_can_be_waited_for() {
    let mut world = long();
    let trimmed = world.opened.log.trimmed().clone();
    assert_eq!(trimmed.get(), base(0));
    let mut registration = Registration::default();
    let mut wait = |to| trimmed.wait(&mut registration, to, Waker::noop());
    assert!(wait(base(2)).is_pending());
    world.trim(base(2)).unwrap();
    assert!(matches!(wait(base(2)), Poll::Ready(Ok(()))));
    assert!(wait(base(3)).is_pending());
    world.opened.log.close();
    world.settle().unwrap();
    assert!(matches!(wait(base(3)), Poll::Ready(Err(_))), "it goes no further");
}

#[test]
fn a_crash_in_the_middle_leaves_all_or_none_of_it() {
    for nth in 1..12 {
        let world = long();
        world.disk.power_off_at(nth);
        let applied = world.opened.log.apply_retention(&by_size());
        let trimmed = applied.as_ref().map_or(base(0), |retained| retained.trimmed);
        let after = world.disk.crash();
        let opened = support::open(&after, &world.clock, &world.options).unwrap();
        let found = opened.log.frontiers().trimmed;
        assert!(
            found == base(0) && applied.is_err() || found > base(0) && found >= trimmed,
            "cut {nth}: {found}"
        );
        assert!(opened.log.scan(found).all(|group| group.is_ok()));
    }
}
