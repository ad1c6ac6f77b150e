//! Timers in memory, in index files, behind their turn and appended again, in every mix: each fires once.
//!
//! `SKYLARK_SEED=n` runs one seed, `SKYLARK_SEEDS=n` so many.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_broker::timers::{Carried, CarryError};
use skylark_protocol::code::RequestCode;
use skylark_storage::PhysicalOffset;
use skylark_storage::device::Files;

use super::world::{START_MS, World, level};
use crate::support::raw::send_fields;

const SEGMENT_BYTES: u64 = 65_536;
const SEEDS: u64 = 40;
const STEPS: u32 = 500;
const DELAYS_MS: [u64; 4] = [1000, 5000, 10_000, 40_000];

/// What was sent, by number: when it may be delivered.
type Sent = BTreeMap<u64, u64>;

fn world(seed: u64, segment_bytes: u64) -> World {
    let settings = Settings {
        segment_bytes: Some(segment_bytes),
        delay_levels: Some("1s 5s 10s 40s".to_owned()),
        ..Settings::default()
    };
    let mut world = World::new(seed, settings);
    assert_eq!(world.send("t", "", b"makes the topic").code, 0);
    world
}

/// Hands a delayed message in; the log has it when the writer has worked.
fn submit(world: &mut World, sent: &mut Sent, asked: usize, filling: usize) {
    let number = sent.len() as u64;
    sent.insert(number, world.now_ms() + DELAYS_MS[asked]);
    let body = format!("{number} {}", "x".repeat(filling));
    let level = level(i32::try_from(asked).unwrap() + 1);
    let fields = send_fields("t", 0, &level);
    world.submit(RequestCode::SEND_MESSAGE_V2, &fields, body.as_bytes());
}

/// Fills the log up to this position with what is not delayed.
fn fill(world: &mut World, to: u64) {
    while world.end().get() < to {
        world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("other", 0, ""), &[b'x'; 4000]);
        world.answers();
    }
}

fn check(world: &mut World, sent: &Sent) {
    let mut delivered = BTreeMap::new();
    for message in world.pulled("t", 0).iter().skip(1) {
        let text = message.body.split(|byte| *byte == b' ').next().unwrap();
        let number: u64 = std::str::from_utf8(text).unwrap().parse().unwrap();
        assert_eq!(delivered.insert(number, ()), None, "{number} was delivered twice");
        assert!(message.stored_at >= sent[&number], "{number} was delivered early");
    }
    let missing: Vec<u64> = sent.keys().filter(|number| !delivered.contains_key(number)).copied().collect();
    assert!(missing.is_empty(), "{} of {} were not delivered: {missing:?}", missing.len(), sent.len());
}

/// How often what the test is about was met.
#[derive(Default)]
struct Met {
    /// Steps at which files and memory both had some that wait.
    mixed: u32,
    /// Units of a trim.
    carried: u32,
    /// Units of due messages.
    fired: u32,
}

fn run(seed: u64) -> Met {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut world = world(seed, SEGMENT_BYTES);
    world.look_at_most(random.random_range(1..12));
    let mut sent = Sent::new();
    let mut met = Met::default();
    for _ in 0..STEPS {
        let broker = Arc::clone(&world.running.broker);
        match random.random_range(0..100) {
            0..30 => {
                // Levels in runs, so that the keys of files and of memory interleave in more ways than one.
                let asked = random.random_range(0..DELAYS_MS.len());
                for _ in 0..random.random_range(1..8) {
                    submit(&mut world, &mut sent, asked, random.random_range(0..700));
                    world.running.writer.step();
                    world.running.housekeeper.step();
                }
            }
            30..45 => {
                world.running.dispatcher.step().unwrap();
            }
            45..50 => while world.running.dispatcher.step().unwrap() {},
            50..55 => {
                world.running.archivist.step();
            }
            55..80 => {
                let index = broker.index.read();
                let through = broker.timers.folded.lock().mark().through();
                let in_files = index.sealed().timers(through, u64::MAX, 1).unwrap();
                met.mixed +=
                    u32::from(!in_files.is_empty() && !index.timers(through, u64::MAX, 1).is_empty());
                drop(index);
                met.fired += u32::from(broker.timers.step(&broker) == Next::Now);
            }
            80..88 => {
                let applied = broker.applied.get().get();
                let below = PhysicalOffset::new(random.random_range(0..=applied));
                for _ in 0..random.random_range(1..4) {
                    match broker.timers.carry_forward(&broker, below) {
                        Ok(Carried::Some { .. }) => met.carried += 1,
                        Ok(Carried::All { .. }) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            88..97 => world.clock.advance(Duration::from_millis(random.random_range(0..1500))),
            97 => world.clock.advance(Duration::from_secs(random.random_range(1..15))),
            98 => world.settle(),
            _ if random.random_bool(0.3) => {
                world.settle();
                world.crash(random.random());
            }
            _ => {}
        }
    }
    for _ in 0..3 {
        world.advance(20_000);
    }
    assert_eq!(world.fire(), Next::Arrival, "nothing is left to wait for");
    world.answers();
    check(&mut world, &sent);
    met
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn every_mix_of_timers_fires_once() {
    if let Some(seed) = setting("SKYLARK_SEED") {
        run(seed);
        return;
    }
    let mut met = Met::default();
    for seed in 0..setting("SKYLARK_SEEDS").unwrap_or(SEEDS) {
        let Ok(Met { mixed, carried, fired }) = catch_unwind(|| run(seed)) else {
            panic!(
                "repeat with: SKYLARK_SEED={seed} cargo test -p skylark-broker --test delays mix -- --nocapture"
            );
        };
        met.mixed += mixed;
        met.carried += carried;
        met.fired += fired;
    }
    println!("{} mixed steps, {} units of trims, {} of due messages", met.mixed, met.carried, met.fired);
    assert!(met.mixed > 0 && met.carried > 0 && met.fired > 0, "nothing was put to the test");
}

#[test]
fn the_rest_of_the_files_fires_before_what_memory_has_behind_it() {
    let segment_bytes = 1 << 20;
    let mut world = world(1, segment_bytes);
    let mut sent = Sent::new();
    let send = |world: &mut World, sent: &mut Sent, asked: usize, count: u32| {
        for _ in 0..count {
            submit(world, sent, asked, 0);
            world.settle();
            world.clock.advance(Duration::from_millis(5));
        }
    };
    // More of them in the file than are looked at together. Those in memory come behind the last of a look at the
    // file, and before the last in the file.
    send(&mut world, &mut sent, 2, 1100);
    world.answers();
    fill(&mut world, segment_bytes + 1000);
    let later = START_MS + 10_000 - world.now_ms();
    world.clock.advance(Duration::from_millis(later));
    send(&mut world, &mut sent, 1, 100);
    world.answers();
    world.advance(60_000);
    assert_eq!(world.fire(), Next::Arrival);
    check(&mut world, &sent);
}

/// Damages the last page of the oldest index file, which has timers on it.
fn damage(world: &World) {
    let file = "log/00000000000000000000.idx";
    let bytes = world.disk.open(file).unwrap().len().unwrap();
    world.disk.flip_bit(file, bytes - 4096 + 10, 3).unwrap();
}

/// A broker that has read nothing yet of an index file with timers, one page of which is damaged.
fn damaged() -> (World, Sent) {
    let mut world = world(1, SEGMENT_BYTES);
    let mut sent = Sent::new();
    for _ in 0..50 {
        submit(&mut world, &mut sent, 2, 100);
        world.settle();
    }
    world.answers();
    fill(&mut world, 2 * SEGMENT_BYTES);
    damage(&world);
    world.crash(false);
    (world, sent)
}

#[test]
fn a_damaged_index_file_is_built_again_and_its_timers_fire() {
    let (mut world, sent) = damaged();
    world.clock.advance(Duration::from_secs(20));
    let broker = Arc::clone(&world.running.broker);
    assert_eq!(broker.timers.step(&broker), Next::Later);
    assert_eq!(broker.index.read().missing(), [PhysicalOffset::ZERO]);
    // Not before the file is there again.
    assert_eq!(broker.timers.step(&broker), Next::Later);
    assert_eq!(world.fire(), Next::Arrival);
    assert_eq!(broker.index.read().missing(), []);
    check(&mut world, &sent);
}

#[test]
fn a_damaged_index_file_is_built_again_for_a_trim() {
    let (mut world, sent) = damaged();
    let broker = Arc::clone(&world.running.broker);
    let below = PhysicalOffset::new(SEGMENT_BYTES);
    let failed = broker.timers.carry_forward(&broker, below).unwrap_err();
    assert!(matches!(&failed, CarryError::Index(_)), "{failed}");
    assert!(failed.to_string().contains("damaged"), "{failed}");
    world.settle();
    while let Carried::Some { .. } = broker.timers.carry_forward(&broker, below).unwrap() {
        world.settle();
    }
    world.advance(20_000);
    assert_eq!(world.fire(), Next::Arrival);
    check(&mut world, &sent);
}
