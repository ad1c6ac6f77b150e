//! Half messages that would go with the log's old end are appended again.

use std::sync::Arc;

use skylark_broker::config::Settings;
use skylark_broker::timers::{Carried, CarryError};
use skylark_protocol::code::RequestCode;
use skylark_protocol::command::transactions::OpenTransactions;
use skylark_storage::PhysicalOffset;

use super::producer::*;
use crate::support::raw::send_fields;
use crate::world::World;

const SEGMENT_BYTES: u64 = 65_536;

fn world(settings: Settings) -> World {
    World::new(1, Settings { segment_bytes: Some(SEGMENT_BYTES), ..settings })
}

fn fill(world: &mut World, to: u64) {
    assert_eq!(world.send("other", "", b"makes the topic").code, 0);
    while world.end().get() < to {
        world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("other", 0, ""), &[b'x'; 300]);
        world.settle();
    }
    assert!(world.answers().iter().all(|answer| answer.code == 0));
}

fn carry(world: &mut World, below: u64) -> u32 {
    let broker = Arc::clone(&world.running.broker);
    for units in 0.. {
        match broker.transactions.carry_forward(&broker, PhysicalOffset::new(below)).unwrap() {
            Carried::Some { .. } => world.settle(),
            Carried::All { end } => {
                assert!(broker.applied.get() >= end);
                return units;
            }
        }
    }
    unreachable!()
}

#[test]
fn either_offset_ends_what_was_carried_and_only_once() {
    let mut world = world(Settings::default());
    let halves: Vec<_> = (0..6).map(|number| prepare(&mut world, "t", &format!("K{number}"), "")).collect();
    fill(&mut world, 2 * SEGMENT_BYTES);
    assert_eq!(carry(&mut world, SEGMENT_BYTES), 1);
    assert_eq!(carry(&mut world, SEGMENT_BYTES), 0, "there is nothing left to do");
    let copies = world.pulled(HALF, 0).split_off(6);
    assert_eq!(keys(&copies), ["K0", "K1", "K2", "K3", "K4", "K5"]);
    let copy = |number: usize| Half {
        physical_offset: copies[number].physical_offset,
        queue_offset: copies[number].queue_offset,
        key: copies[number].properties["UNIQ_KEY"].clone(),
    };
    let copied: Vec<_> = (0..6).map(copy).collect();
    assert_eq!(end(&mut world, &halves[0], COMMIT).code, 0);
    assert_eq!(end(&mut world, &copied[0], COMMIT).code, 1);
    assert_eq!(end(&mut world, &copied[1], COMMIT).code, 0);
    assert_eq!(end(&mut world, &halves[1], ROLLBACK).code, 1);
    let mixed = Half { queue_offset: halves[2].queue_offset, ..copied[2].clone() };
    assert_eq!(end(&mut world, &mixed, COMMIT).code, 1);
    world.crash(true);
    assert_eq!(end(&mut world, &halves[2], ROLLBACK).code, 0);
    assert_eq!(end(&mut world, &copied[3], ROLLBACK).code, 0);
    // An operator finds it by its name.
    let fields = [("from", halves[5].physical_offset.into()), ("limit", 1.into())];
    let listed = world.call(RequestCode::SKYLARK_LIST_TRANSACTIONS, &fields, b"");
    let listed = OpenTransactions::decode(&listed.body).unwrap().transactions.remove(0);
    assert_eq!((&*listed.transaction_id, listed.physical_offset), ("K5", halves[5].physical_offset));
    // A check names the first place, whatever became of it.
    join(&mut world, "PG");
    let mut found: Vec<_> = after(&mut world, 6_100).iter().map(asked).collect();
    found.sort_unstable_by_key(|half| half.physical_offset);
    assert_eq!(found, halves[4..]);
    assert_eq!(answer(&mut world, &halves[4], COMMIT).code, 0);
    fill(&mut world, 4 * SEGMENT_BYTES);
    assert_eq!(carry(&mut world, 3 * SEGMENT_BYTES), 1, "once more");
    assert_eq!(end(&mut world, &copied[5], COMMIT).code, 1, "a copy of which there is another has no name");
    assert_eq!(answer(&mut world, &halves[5], COMMIT).code, 0);
    let pulled = world.pulled("t", 2);
    assert_eq!(keys(&pulled), ["K0", "K1", "K4", "K5"]);
    let origins: Vec<_> =
        pulled.iter().map(|message| message.prepared_transaction_offset.cast_unsigned()).collect();
    assert_eq!(origins, [0, 1, 4, 5].map(|number: usize| halves[number].physical_offset));
}

#[test]
fn an_end_waits_for_a_copy_on_its_way() {
    let mut world = world(Settings::default());
    let half = prepare(&mut world, "t", "K1", "");
    fill(&mut world, 2 * SEGMENT_BYTES);
    let broker = Arc::clone(&world.running.broker);
    let below = PhysicalOffset::new(SEGMENT_BYTES);
    assert!(matches!(broker.transactions.carry_forward(&broker, below), Ok(Carried::Some { .. })));
    assert_eq!(end(&mut world, &half, COMMIT).code, 0);
    assert_eq!(consumed(&mut world, "t"), ["K1"]);
    assert_eq!(carry(&mut world, SEGMENT_BYTES), 0);
    let beyond = world.end().advance(1);
    let refused = broker.transactions.carry_forward(&broker, beyond);
    assert!(matches!(refused, Err(CarryError::NotApplied)));
}

#[test]
fn retention_takes_no_open_transaction() {
    let settings = Settings { retention_bytes: Some(6 * SEGMENT_BYTES), ..Settings::default() };
    let mut world = world(settings);
    let halves: Vec<_> =
        (0..40).map(|number| prepare(&mut world, "t", &format!("{number:02}"), "")).collect();
    for round in 0..20 {
        let to = world.end().get() + SEGMENT_BYTES / 2;
        fill(&mut world, to);
        // Retention is looked at every ten seconds.
        world.advance(11_000);
        if round % 7 == 6 {
            world.crash(round % 2 == 0);
        }
    }
    let trimmed = world.broker().log.frontiers().trimmed;
    assert!(trimmed.get() > 2 * SEGMENT_BYTES, "the log begins at {trimmed}");
    assert_eq!(world.broker().transactions.count(), 40);
    for (number, half) in halves.iter().enumerate() {
        let outcome = if number % 2 == 0 { COMMIT } else { ROLLBACK };
        assert_eq!(end(&mut world, half, outcome).code, 0);
    }
    world.crash(true);
    let committed: Vec<_> = (0..40).step_by(2).map(|number| format!("{number:02}")).collect();
    assert_eq!(consumed(&mut world, "t"), committed);
    assert_eq!(world.broker().transactions.count(), 0);
}
