//! Crashes at any moment: what was acknowledged lies in its topic and in each of its light queues, once, at the offsets
//! that it says, and no light queue has a gap.
//!
//! `SKYLARK_SEED=n` runs one seed, `SKYLARK_SEEDS=n` so many.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_protocol::code::RequestCode as Code;
use skylark_storage::Step;

use super::producer::*;
use crate::support::raw::send_fields;
use crate::world::World;

const STEPS: u32 = 500;
const SEEDS: u64 = 150;
const LIGHT: usize = 6;

#[derive(Default)]
struct Producer {
    /// The light queues of each message, and whether it was acknowledged.
    messages: Vec<(Vec<usize>, bool)>,
    open: BTreeMap<i32, usize>,
}

impl Producer {
    fn send(&mut self, world: &mut World, random: &mut Pcg64) {
        let number = self.messages.len();
        let mut lights: Vec<usize> = (0..LIGHT).filter(|_| random.random_ratio(1, 3)).collect();
        if random.random() {
            lights.reverse();
        }
        let named: Vec<String> = lights.iter().map(usize::to_string).collect();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        let properties = if named.is_empty() { String::new() } else { names(&named) };
        let body = format!("{number} {}", "x".repeat(number % 700));
        let fields = send_fields("t", random.random_range(0..4), &properties);
        self.messages.push((lights, false));
        self.open.insert(world.submit(Code::SEND_MESSAGE_V2, &fields, body.as_bytes()), number);
    }

    fn listen(&mut self, world: &mut World) {
        for answer in world.written() {
            let number = self.open.remove(&answer.opaque).expect("one answer to each request");
            self.messages[number].1 |= answer.code == 0;
        }
    }
}

fn crash(world: &mut World, producer: &mut Producer, power: bool) {
    producer.listen(world);
    producer.open.clear();
    world.crash(power);
}

fn run(seed: u64, flushes_lie: bool) -> (usize, u32) {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut world = World::new(seed, settings());
    world.disk.set_flushes_lie(flushes_lie);
    let mut producer = Producer::default();
    let mut crashes = 0;
    for _ in 0..STEPS {
        match random.random_range(0..1000) {
            0..350 => producer.send(&mut world, &mut random),
            350..550 => {
                if world.running.writer.step() == Step::Stopped {
                    crash(&mut world, &mut producer, random.random());
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
            760..920 => {
                world.poll();
                producer.listen(&mut world);
            }
            920..970 => world.clock.advance(Duration::from_millis(random.random_range(0..600))),
            970..990 => {
                crash(&mut world, &mut producer, random.random());
                crashes += 1;
            }
            990..995 => world.disk.fail_flush(random.random_range(1..4)),
            _ => world.disk.fail_write(random.random_range(1..4)),
        }
    }
    for power in [true, false] {
        crash(&mut world, &mut producer, power);
        check(&mut world, &producer);
    }
    // Everything goes on behind that.
    for light in 0..LIGHT {
        assert_eq!(send(&mut world, "t", 0, &names(&[&light.to_string()]), b"last").code, 0);
        assert_eq!(bodies(&mut world, &light.to_string()).pop().as_deref(), Some("last"));
    }
    (producer.messages.iter().filter(|(_, told)| *told).count(), crashes)
}

fn number(body: &str) -> usize {
    body.split(' ').next().unwrap().parse().unwrap()
}

fn check(world: &mut World, producer: &Producer) {
    let light: Vec<Vec<usize>> = (0..LIGHT)
        .map(|light| bodies(world, &light.to_string()).iter().map(|body| number(body)).collect())
        .collect();
    let mut stored = BTreeSet::new();
    let mut places = 0;
    for queue in 0..4 {
        for message in world.pulled("t", queue) {
            let number = number(std::str::from_utf8(&message.body).unwrap());
            assert!(stored.insert(number), "{number} is stored once");
            let lights = &producer.messages[number].0;
            let said = message.properties.get("INNER_MULTI_QUEUE_OFFSET").map_or("", String::as_str);
            let said: Vec<usize> =
                said.split(',').filter(|text| !text.is_empty()).map(|text| text.parse().unwrap()).collect();
            assert_eq!(said.len(), lights.len());
            for (queue, offset) in lights.iter().zip(said) {
                assert_eq!(light[*queue][offset], number, "{number} lies where it says in {queue}");
                places += 1;
            }
        }
    }
    assert_eq!(places, light.iter().map(Vec::len).sum::<usize>(), "nothing else is in light queues");
    for (number, (_, told)) in producer.messages.iter().enumerate() {
        assert!(!told || stored.contains(&number), "{number} was acknowledged");
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn crashes_lose_nothing_of_light_queues() {
    if let Some(seed) = setting("SKYLARK_SEED") {
        println!("seed {seed}: {:?}", run(seed, false));
        return;
    }
    let mut sum = (0, 0);
    for seed in 0..setting("SKYLARK_SEEDS").unwrap_or(SEEDS) {
        let Ok(report) = catch_unwind(|| run(seed, false)) else {
            panic!(
                "repeat with: SKYLARK_SEED={seed} cargo test -p skylark-broker --test light crashes -- --nocapture"
            );
        };
        sum = (sum.0 + report.0, sum.1 + report.1);
    }
    println!("{} messages were acknowledged, over {} crashes", sum.0, sum.1);
    assert!(sum.0 > 0 && sum.1 > 0, "nothing was put to the test");
}

#[test]
fn an_acknowledgement_of_what_is_lost_is_caught() {
    assert!((0..20).any(|seed| catch_unwind(|| run(seed, true)).is_err()));
}
