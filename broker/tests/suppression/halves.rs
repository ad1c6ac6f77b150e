//! Half messages that are sent again: as long as they may become messages, they are repetitions.

use skylark_broker::config::Settings;
use skylark_broker::timers::Carried;
use skylark_protocol::code::RequestCode as Code;
use skylark_storage::PhysicalOffset;

use super::producer::{TOPIC, topics};
use crate::transactions::*;
use crate::world::World;

const SEGMENT_BYTES: u64 = 65_536;

fn world(settings: Settings) -> World {
    let mut world = World::new(1, settings);
    topics(&mut world);
    world
}

/// Whoever sends it again begins another transaction, which a commit ends as any.
fn begins_anew(world: &mut World, first: &Half) {
    let second = prepare(world, TOPIC, "K", "");
    assert_ne!(second, *first);
    assert_eq!(prepare(world, TOPIC, "K", ""), second, "the second is known as the first was");
    assert_eq!(end(world, &second, COMMIT).code, 0);
    assert_eq!(consumed(world, TOPIC), ["K"]);
    assert_eq!(prepare(world, TOPIC, "K", ""), second, "it stays known");
    world.crash(true);
    assert_eq!(prepare(world, TOPIC, "K", ""), second, "over a restart as well");
    assert_eq!((consumed(world, TOPIC), world.broker().transactions.count()), (vec!["K".to_owned()], 0));
}

#[test]
fn one_that_was_rolled_back_is_stored_again() {
    let mut world = world(Settings::default());
    let first = prepare(&mut world, TOPIC, "K", "");
    assert_eq!(prepare(&mut world, TOPIC, "K", ""), first);
    assert_eq!(answer(&mut world, &first, ROLLBACK).code, 0);
    begins_anew(&mut world, &first);
}

#[test]
fn one_that_was_rolled_back_before_a_restart_is_stored_again() {
    for power in [true, false] {
        let mut world = world(Settings::default());
        let first = prepare(&mut world, TOPIC, "K", "");
        assert_eq!(end(&mut world, &first, ROLLBACK).code, 0);
        world.crash(power);
        begins_anew(&mut world, &first);
    }
}

#[test]
fn one_that_was_rolled_back_before_a_snapshot_is_stored_again() {
    let mut world = world(Settings { segment_bytes: Some(SEGMENT_BYTES), ..Settings::default() });
    let first = prepare(&mut world, TOPIC, "K", "");
    assert_eq!(end(&mut world, &first, ROLLBACK).code, 0);
    while world.end().get() < 3 * SEGMENT_BYTES {
        world.send("other", "", &[b'x'; 4000]);
    }
    world.crash(true);
    assert!(world.broker().founded_on.get() > first.physical_offset, "a snapshot was loaded");
    begins_anew(&mut world, &first);
}

#[test]
fn one_whose_rollback_is_in_the_log_but_not_applied_is_stored_again() {
    let mut world = world(Settings::default());
    let first = prepare(&mut world, TOPIC, "K", "");
    world.submit(Code::END_TRANSACTION, &end_fields(&first, ROLLBACK, true), b"");
    assert_eq!(world.broker().transactions.count(), 1, "as far as the folds know");
    let before = world.broker().applied.get();
    let second = prepare(&mut world, TOPIC, "K", "");
    assert!(second.physical_offset > before.get());
    world.poll();
    world.written();
    begins_anew(&mut world, &first);
}

#[test]
fn one_that_was_given_up_is_stored_again() {
    let mut world = world(Settings { transaction_checks_max: Some(1), ..Settings::default() });
    join(&mut world, "PG");
    let first = prepare(&mut world, TOPIC, "K", "");
    assert_eq!(after(&mut world, 6_100).len(), 1);
    assert_eq!(prepare(&mut world, TOPIC, "K", ""), first, "it can still be committed");
    after(&mut world, 30_100);
    assert_eq!((world.pulled(GIVEN_UP, 0).len(), world.broker().transactions.count()), (1, 0));
    begins_anew(&mut world, &first);
}

#[test]
fn one_that_was_carried_forward_is_known_by_where_it_lay_first() {
    let mut world = world(Settings { segment_bytes: Some(SEGMENT_BYTES), ..Settings::default() });
    let first = prepare(&mut world, TOPIC, "K", "");
    while world.end().get() < 3 * SEGMENT_BYTES {
        world.send("other", "", &[b'x'; 4000]);
    }
    let below = PhysicalOffset::new(2 * SEGMENT_BYTES);
    let broker = std::sync::Arc::clone(&world.running.broker);
    while let Carried::Some { .. } = broker.transactions.carry_forward(&broker, below).unwrap() {
        world.settle();
    }
    drop(broker);
    assert_eq!(prepare(&mut world, TOPIC, "K", ""), first);
    assert_eq!(end(&mut world, &first, ROLLBACK).code, 0);
    begins_anew(&mut world, &first);
}
