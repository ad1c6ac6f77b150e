//! Timers that would go with the log's old end are appended again.

use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_broker::timers::{Carried, CarryError};
use skylark_protocol::code::RequestCode;
use skylark_storage::PhysicalOffset;
use skylark_storage::device::Space;

use super::world::{START_MS, World, level, timer};
use crate::support::raw::send_fields;

const SEGMENT_BYTES: u64 = 65_536;

fn world() -> World {
    World::new(1, Settings { segment_bytes: Some(SEGMENT_BYTES), ..Settings::default() })
}

fn fill(world: &mut World, levels: &[i32], to: u64) -> u64 {
    assert_eq!(world.send("t", "", b"makes the topic").code, 0);
    let mut sent = 0;
    while world.end().get() < to {
        let asked = levels[usize::try_from(sent).unwrap() % levels.len()];
        let body = format!("{sent} {}", "x".repeat(200));
        world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("t", 0, &level(asked)), body.as_bytes());
        world.settle();
        sent += 1;
    }
    assert!(world.answers().iter().all(|answer| answer.code == 0));
    sent
}

fn numbers(world: &mut World) -> Vec<u64> {
    world.pulled("t", 0).iter().skip(1).map(|message| number(&message.body)).collect()
}

fn number(body: &[u8]) -> u64 {
    std::str::from_utf8(body).unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn carry(world: &mut World, below: u64) -> u32 {
    let broker = std::sync::Arc::clone(&world.running.broker);
    for units in 0.. {
        match broker.timers.carry_forward(&broker, PhysicalOffset::new(below)).unwrap() {
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
fn what_is_pending_below_a_trim_fires_once() {
    let mut world = world();
    let sent = fill(&mut world, &[1, 2, 17], 4 * SEGMENT_BYTES);
    // A third has fired, and of the rest a half is due soon.
    world.advance(1001);
    let fired = numbers(&mut world).len() as u64;
    assert_eq!(fired, sent.div_ceil(3));
    let units = carry(&mut world, 3 * SEGMENT_BYTES);
    assert!(units > 1, "{units}");
    assert_eq!(carry(&mut world, 3 * SEGMENT_BYTES), 0, "there is nothing left to do");
    assert_eq!(numbers(&mut world).len() as u64, fired);
    world.crash(true);
    assert_eq!(carry(&mut world, 3 * SEGMENT_BYTES), 0);
    world.advance(5000);
    world.crash(true);
    world.advance(3_600_001);
    let mut all = numbers(&mut world);
    all.sort_unstable();
    assert_eq!(all, (0..sent).collect::<Vec<_>>());
}

#[test]
fn timers_fire_while_others_are_carried() {
    let mut world = world();
    let sent = fill(&mut world, &[2, 16], 4 * SEGMENT_BYTES);
    let broker = std::sync::Arc::clone(&world.running.broker);
    let below = PhysicalOffset::new(3 * SEGMENT_BYTES);
    assert!(matches!(broker.timers.carry_forward(&broker, below), Ok(Carried::Some { .. })));
    // The copies of the first unit become visible behind the turn of those that fire here.
    world.clock.advance(std::time::Duration::from_millis(5001));
    assert_eq!(broker.timers.step(&broker), Next::Applied(world.end()));
    world.fire();
    carry(&mut world, below.get());
    world.fire();
    let mut due = numbers(&mut world);
    due.sort_unstable();
    assert_eq!(due, (0..sent).step_by(2).collect::<Vec<_>>());
    world.crash(false);
    world.advance(1_800_000);
    let mut all = numbers(&mut world);
    all.sort_unstable();
    assert_eq!(all, (0..sent).collect::<Vec<_>>());
    assert!(world.now_ms() > START_MS);
}

#[test]
fn nothing_is_carried_that_the_folds_do_not_know() {
    let world = world();
    let broker = &world.running.broker;
    let beyond = world.end().advance(1);
    assert!(matches!(broker.timers.carry_forward(broker, beyond), Err(CarryError::NotApplied)));
}

#[test]
fn retention_takes_no_message_that_waits() {
    let settings = Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        retention_bytes: Some(6 * SEGMENT_BYTES),
        ..Settings::default()
    };
    let mut world = World::new(1, settings);
    let sent = fill(&mut world, &[17], SEGMENT_BYTES);
    for round in 0..20 {
        for _ in 0..100 {
            world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("other", 0, ""), &[b'x'; 300]);
        }
        assert_eq!(world.answers().len(), 100);
        // Retention is looked at every ten seconds.
        world.advance(11_000);
        if round % 7 == 6 {
            world.crash(round % 2 == 0);
        }
    }
    let trimmed = world.broker().log.frontiers().trimmed;
    assert!(trimmed.get() > 2 * SEGMENT_BYTES, "the log begins at {trimmed}");
    assert_eq!(world.pulled("t", 0).len(), 0, "the message that made the topic is gone");
    world.advance(3_600_001);
    let pulled = world.pulled("t", 0);
    let mut all: Vec<_> = pulled.iter().map(|message| number(&message.body)).collect();
    all.sort_unstable();
    assert_eq!(all, (0..sent).collect::<Vec<_>>());
    assert_eq!(world.broker().timers.undeliverable(), 0);
}

/// Above the watermark for retention, below that for senders.
const TIGHT: Space = Space { total_bytes: 100 << 20, available_bytes: 12 << 20 };

#[test]
fn segments_full_of_timers_are_trimmed_on_a_disk_near_its_watermark() {
    let mut world = world();
    assert_eq!(world.send("t", "", b"makes the topic").code, 0);
    let due_ms = START_MS + 300 * 86_400_000;
    let mut sent = 0;
    while world.end().get() < 8 * SEGMENT_BYTES {
        let body = format!("{sent} {}", "x".repeat(200));
        assert_eq!(world.send("t", &timer("TIMER_DELIVER_MS", due_ms + sent), body.as_bytes()).code, 0);
        sent += 1;
    }
    // What is left holds a few segments, far less than what waits: room comes from trims alone.
    world.disk.set_space_left(Some(4 * SEGMENT_BYTES));
    world.broken.set_space(Some(TIGHT));
    let (begin, end) = (world.broker().log.frontiers().trimmed, world.end());
    let mut held = end.since(begin);
    for _ in 0..24 {
        world.advance(5000);
        assert_eq!(world.send("other", "", b"x").code, 0, "senders go on");
        held = held.max(world.end().since(world.broker().log.frontiers().trimmed));
    }
    let trimmed = world.broker().log.frontiers().trimmed;
    assert!(
        trimmed > end,
        "all that waited has gone once around: the log begins at {trimmed}, it ended at {end}"
    );
    assert!(held <= end.since(begin) + 3 * SEGMENT_BYTES, "{held}");
    // Once in a turn of retention, however little it frees: two minutes are twelve turns.
    let carried = world.end().since(end);
    assert!(carried <= 14 * SEGMENT_BYTES, "trims chase their own tail: {carried} bytes were appended again");
    assert_eq!(world.broker().timers.folded.lock().pending().messages, sent);

    world.disk.set_space_left(None);
    world.broken.set_space(None);
    world.crash(true);
    assert_eq!(world.broker().timers.folded.lock().pending().messages, sent);
    world.advance(301 * 86_400_000);
    let pulled = world.pulled("t", 0);
    let arrived: Vec<_> = pulled.iter().map(|message| number(&message.body)).collect();
    assert_eq!(arrived, (0..sent).collect::<Vec<_>>(), "in the order of their times");
}
