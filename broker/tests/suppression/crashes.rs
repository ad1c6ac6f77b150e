//! Producers that send again under crashes, from one seed: what was acknowledged is stored, and once, and each
//! acknowledgement names where it lies.
//!
//! `SKYLARK_SEED=n` runs one seed, `SKYLARK_SEEDS=n` so many.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode as Code;
use skylark_storage::Step;

use super::producer::*;
use crate::support::raw::send_fields;
use crate::world::{World, level};

const SEGMENT_BYTES: u64 = 65_536;
const STEPS: u32 = 500;
const SEEDS: u64 = 150;

/// What is wrong with the broker, for showing that the test would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A restart begins without what was known.
    Forgetful,
    /// The disk loses what it said was flushed, so messages are gone that were acknowledged.
    LyingFlushes,
}

/// A message that is sent until it is acknowledged, and now and then once more.
#[derive(Default)]
struct Sending {
    delayed: bool,
    told: Option<Told>,
}

#[derive(Default)]
struct Producer {
    messages: Vec<Sending>,
    /// The requests on their way: which message each is about.
    open: BTreeMap<i32, usize>,
    repeated: u64,
}

impl Producer {
    fn submit(&mut self, world: &mut World, number: usize, queue: u32) {
        let mut properties = key(&number.to_string());
        if self.messages[number].delayed {
            properties += &level(1);
        }
        let body = format!("{number} {}", "x".repeat(number % 700));
        let fields = send_fields(TOPIC, queue, &properties);
        self.open.insert(world.submit(Code::SEND_MESSAGE_V2, &fields, body.as_bytes()), number);
    }

    fn listen(&mut self, world: &mut World) {
        for answer in world.written() {
            let number = self.open.remove(&answer.opaque).expect("one answer to each request");
            if answer.code == 0 {
                let told = Told::of(&answer);
                let known = self.messages[number].told.get_or_insert_with(|| told.clone());
                assert_eq!(*known, told, "{number} was acknowledged before, at another place");
            }
        }
    }
}

fn settings(duplicate_window_messages: Option<u32>) -> Settings {
    Settings {
        segment_bytes: Some(SEGMENT_BYTES),
        delay_levels: Some("1s".to_owned()),
        duplicate_window_messages,
        ..Settings::default()
    }
}

fn crash(world: &mut World, producer: &mut Producer, power: bool, fault: Fault) {
    // What was written is on its way already.
    producer.listen(world);
    producer.open.clear();
    world.crash(power);
    if fault == Fault::Forgetful {
        // A start whose window holds nothing leaves nothing to the next one.
        world.reconfigure(settings(Some(0)));
        world.settle();
        world.reconfigure(settings(None));
        world.settle();
    }
}

fn run(seed: u64, fault: Fault) -> (u64, u64, u32) {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut world = World::new(seed, settings(None));
    topics(&mut world);
    world.disk.set_flushes_lie(fault == Fault::LyingFlushes);
    let mut producer = Producer::default();
    let mut crashes = 0;
    for _ in 0..STEPS {
        let queue = random.random_range(0..4);
        match random.random_range(0..1000) {
            0..150 => {
                let delayed = random.random_ratio(1, 8);
                producer.messages.push(Sending { delayed, told: None });
                producer.submit(&mut world, producer.messages.len() - 1, queue);
            }
            // One that was acknowledged, or not, or is on its way at this moment.
            150..350 if !producer.messages.is_empty() => {
                let number = random.random_range(0..producer.messages.len());
                producer.repeated += 1;
                producer.submit(&mut world, number, queue);
            }
            350..550 => {
                if world.running.writer.step() == Step::Stopped {
                    crash(&mut world, &mut producer, random.random(), fault);
                    crashes += 1;
                }
            }
            550..700 => {
                world.running.dispatcher.step().unwrap();
            }
            700..740 => {
                world.running.housekeeper.step();
            }
            740..760 => {
                world.running.archivist.step();
            }
            760..830 => {
                world.running.broker.timers.step(&world.running.broker);
            }
            830..920 => {
                world.poll();
                producer.listen(&mut world);
            }
            920..975 => world.clock.advance(Duration::from_millis(random.random_range(0..600))),
            975..985 => {
                crash(&mut world, &mut producer, true, fault);
                crashes += 1;
            }
            985..990 => {
                crash(&mut world, &mut producer, false, fault);
                crashes += 1;
            }
            990..995 => world.disk.fail_flush(random.random_range(1..4)),
            _ => world.disk.fail_write(random.random_range(1..4)),
        }
    }
    crash(&mut world, &mut producer, true, fault);
    // What nobody has acknowledged is sent until somebody does.
    for number in 0..producer.messages.len() {
        producer.submit(&mut world, number, 0);
        let answers = world.answers();
        for answer in answers {
            let number = producer.open.remove(&answer.opaque).expect("one answer to each request");
            let told = Told::of(&answer);
            let known = producer.messages[number].told.get_or_insert_with(|| told.clone());
            assert_eq!(*known, told, "{number} was acknowledged before, at another place");
        }
    }
    for _ in 0..3 {
        world.advance(2000);
    }
    check(&mut world, &producer);
    crash(&mut world, &mut producer, true, fault);
    check(&mut world, &producer);
    (producer.messages.len() as u64, producer.repeated, crashes)
}

fn check(world: &mut World, producer: &Producer) {
    let mut places: BTreeMap<usize, Vec<Told>> = BTreeMap::new();
    for queue in 0..4_u32 {
        for message in world.pulled(TOPIC, queue) {
            let text = String::from_utf8(message.body).unwrap();
            let number = text.split(' ').next().unwrap().parse().unwrap();
            places.entry(number).or_default().push(Told {
                physical_offset: message.physical_offset,
                queue: queue.into(),
                queue_offset: message.queue_offset,
            });
        }
    }
    for (number, Sending { delayed, told }) in producer.messages.iter().enumerate() {
        let stored = places.get(&number).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(stored.len(), 1, "{number} is stored at {stored:?}");
        if !delayed {
            assert_eq!(Some(&stored[0]), told.as_ref(), "{number} lies where its producer was told");
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn crashes_lose_no_acknowledged_message_and_repeat_none() {
    if let Some(seed) = setting("SKYLARK_SEED") {
        println!("seed {seed}: {:?}", run(seed, Fault::None));
        return;
    }
    let mut sum = (0, 0, 0);
    for seed in 0..setting("SKYLARK_SEEDS").unwrap_or(SEEDS) {
        let Ok(report) = catch_unwind(|| run(seed, Fault::None)) else {
            panic!(
                "repeat with: SKYLARK_SEED={seed} cargo test -p skylark-broker --test suppression crashes -- --nocapture"
            );
        };
        sum = (sum.0 + report.0, sum.1 + report.1, sum.2 + report.2);
    }
    println!("{} messages were sent, {} more times than once, over {} crashes", sum.0, sum.1, sum.2);
    assert!(sum.0 > 0 && sum.1 > 0 && sum.2 > 0, "nothing was put to the test");
}

#[test]
fn a_window_that_does_not_survive_is_caught() {
    assert!((0..20).any(|seed| catch_unwind(|| run(seed, Fault::Forgetful)).is_err()));
}

#[test]
fn an_acknowledgement_of_what_is_lost_is_caught() {
    assert!((0..20).any(|seed| catch_unwind(|| run(seed, Fault::LyingFlushes)).is_err()));
}
