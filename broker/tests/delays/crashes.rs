//! Delays under crashes and clocks that are set, from one seed: each acknowledged message is delivered once, not early,
//! and as soon as it is due.
//!
//! `SKYLARK_SEED=n` runs one seed, `SKYLARK_SEEDS=n` so many.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_broker::config::Settings;
use skylark_broker::engine::Next;
use skylark_broker::folds::payload::Payload;
use skylark_broker::folds::timers::TimersFired;
use skylark_broker::timers::Carried;
use skylark_index::TimerKey;
use skylark_protocol::code::RequestCode;
use skylark_storage::{NewRecord, PhysicalOffset, Step};

use super::world::{START_MS, World, level, timer};
use crate::support::raw::send_fields;

const SEGMENT_BYTES: u64 = 65_536;
const STEPS: u32 = 600;
const SEEDS: u64 = 150;
/// How far clocks are set ahead of the beginning, at most.
const SET_MS_MAX: u64 = 300_000;
/// Seconds of the levels used here.
const DELAYS_MS: [u64; 4] = [1000, 2000, 5000, 60_000];

/// What is wrong with the engine, for showing that the test would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A record says that timers have fired whose messages are not behind it.
    MarkAhead,
}

#[derive(Default)]
struct Told {
    sent: u64,
    /// By number: when it may be delivered.
    due_ms: BTreeMap<u64, u64>,
    open: BTreeMap<i32, u64>,
    acknowledged: Vec<u64>,
}

fn number_of(body: &[u8]) -> u64 {
    let text = body.split(|byte| *byte == b' ').next().unwrap();
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

/// A record that takes `key` for fired.
fn forge(world: &World, key: TimerKey) {
    let broker = world.broker();
    let mark = broker.timers.folded.lock().mark();
    let through = key.max(mark.through());
    let forged = TimersFired { mark: mark.fired(through, world.end()), fired: Vec::new(), bytes: 0 };
    let payload = forged.encode();
    let rest: [&[u8]; 1] = [&payload];
    broker
        .log
        .append(&[NewRecord { kind: TimersFired::KIND, head: &[], rest: &rest }], |_, _, _| {})
        .unwrap();
}

fn run(seed: u64, fault: Fault) -> (u64, u32) {
    let mut random = Pcg64::seed_from_u64(seed);
    let settings = Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        delay_levels: Some("1s 2s 5s 60s".to_owned()),
        ..Settings::default()
    };
    let mut world = World::new(seed, settings);
    world.look_at_most(1 + usize::try_from(seed % 9).unwrap());
    world.send("t", "", b"makes the topic");
    let mut told = Told::default();
    let mut crashes = 0;
    for _ in 0..STEPS {
        match random.random_range(0..1000) {
            0..250 => {
                let asked = random.random_range(0..DELAYS_MS.len());
                let number = told.sent;
                told.sent += 1;
                let (delay_ms, properties) = if random.random() {
                    (DELAYS_MS[asked], level(i32::try_from(asked).unwrap() + 1))
                } else {
                    let delay_ms = random.random_range(1..DELAYS_MS[asked]);
                    (delay_ms, timer("TIMER_DELAY_MS", delay_ms))
                };
                told.due_ms.insert(number, world.now_ms() + delay_ms);
                let body = format!("{number} {}", "x".repeat(random.random_range(0..600)));
                let fields = send_fields("t", 0, &properties);
                let opaque = world.submit(RequestCode::SEND_MESSAGE_V2, &fields, body.as_bytes());
                told.open.insert(opaque, number);
            }
            250..450 => {
                let has_stopped = world.running.writer.step() == Step::Stopped;
                if has_stopped {
                    crash(&mut world, &mut told, false);
                    crashes += 1;
                }
            }
            450..600 => {
                world.running.dispatcher.step().unwrap();
            }
            600..630 => {
                world.running.housekeeper.step();
            }
            630..640 => {
                world.running.archivist.step();
            }
            640..780 => {
                world.running.broker.timers.step(&world.running.broker);
            }
            780..880 => {
                world.poll();
                listen(&mut world, &mut told);
            }
            880..960 => world.clock.advance(Duration::from_millis(random.random_range(0..400))),
            960..966 => world.clock.advance(Duration::from_secs(random.random_range(1..30))),
            966..970 => {
                let set_ms = START_MS + random.random_range(0..SET_MS_MAX);
                world.clock.set_wall_ms(set_ms);
            }
            970..985 => {
                let below = world.broker().applied.get().align_down(SEGMENT_BYTES);
                let broker = &world.running.broker;
                if let Ok(Carried::All { end }) = broker.timers.carry_forward(broker, below) {
                    assert!(end <= world.end());
                }
            }
            985..990 => {
                crash(&mut world, &mut told, true);
                crashes += 1;
            }
            990..994 => {
                crash(&mut world, &mut told, false);
                crashes += 1;
            }
            994..996 => world.disk.fail_flush(random.random_range(1..4)),
            996..998 => world.disk.fail_write(random.random_range(1..4)),
            _ if fault == Fault::MarkAhead && world.broker().log.stopped().is_none() => {
                let due = world.now_ms() + 1000;
                forge(&world, TimerKey { due, at: PhysicalOffset::ZERO });
                world.settle();
                crash(&mut world, &mut told, true);
            }
            _ => {}
        }
    }
    crash(&mut world, &mut told, true);
    for back_ms in [0, SET_MS_MAX / 2, SET_MS_MAX] {
        world.clock.set_wall_ms(START_MS + SET_MS_MAX - back_ms);
        world.fire();
        check(&mut world, &told);
    }
    let last_ms = told.due_ms.values().max().copied().unwrap_or(0);
    world.clock.set_wall_ms(last_ms.max(world.now_ms()) + 1);
    assert_eq!(world.fire(), Next::Arrival, "nothing is left to wait for");
    check(&mut world, &told);
    crash(&mut world, &mut told, true);
    assert_eq!(world.advance(1_000_000), Next::Arrival);
    check(&mut world, &told);
    (told.acknowledged.len() as u64, crashes)
}

fn crash(world: &mut World, told: &mut Told, power: bool) {
    listen(world, told);
    told.open.clear();
    world.crash(power);
}

fn listen(world: &mut World, told: &mut Told) {
    for answer in world.written() {
        let number = told.open.remove(&answer.opaque).expect("one answer to each request");
        if answer.code == 0 {
            told.acknowledged.push(number);
        }
    }
}

fn check(world: &mut World, told: &Told) {
    let mut delivered = BTreeMap::new();
    for message in world.pulled("t", 0).iter().skip(1) {
        let number = number_of(&message.body);
        assert_eq!(delivered.insert(number, message.queue_offset), None, "{number} was delivered twice");
        let due_ms = told.due_ms[&number];
        assert!(
            message.stored_at >= due_ms,
            "{number} was delivered {} ms early",
            due_ms - message.stored_at
        );
    }
    for number in told.acknowledged.iter().filter(|number| told.due_ms[number] < world.now_ms()) {
        assert!(delivered.contains_key(number), "{number} was acknowledged, and not delivered");
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn crashes_lose_no_delayed_message_and_repeat_none() {
    if let Some(seed) = setting("SKYLARK_SEED") {
        println!("seed {seed}: {:?}", run(seed, Fault::None));
        return;
    }
    let (mut acknowledged, mut crashes) = (0, 0);
    for seed in 0..setting("SKYLARK_SEEDS").unwrap_or(SEEDS) {
        let Ok(report) = catch_unwind(|| run(seed, Fault::None)) else {
            panic!(
                "repeat with: SKYLARK_SEED={seed} cargo test -p skylark-broker --test delays crashes -- --nocapture"
            );
        };
        acknowledged += report.0;
        crashes += report.1;
    }
    println!("{acknowledged} messages were acknowledged, over {crashes} crashes");
    assert!(acknowledged > 0 && crashes > 0, "nothing was put to the test");
}

#[test]
fn a_mark_ahead_of_what_was_appended_is_caught() {
    assert!((0..50).any(|seed| catch_unwind(|| run(seed, Fault::MarkAhead)).is_err()));
}
