//! Everything mixed, from a seed: pops, acks, longer and shorter times, crashes. A message that was acknowledged in time is
//! never seen again, every other one is, and no two deliveries of one overlap.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode as Code;

use super::consumer::*;

const STEPS: usize = 150;

struct Held {
    popped: Popped,
    visible_at: u64,
}

fn run(seed: u64) {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let settings = Settings { segment_bytes: Some(65_536), ..Settings::default() };
    let mut world = world_with(seed, 3, settings);
    let (mut sent, mut done): (usize, BTreeSet<String>) = (0, BTreeSet::new());
    let mut held: BTreeMap<String, Held> = BTreeMap::new();
    let mut next: BTreeMap<String, i32> = BTreeMap::new();
    for step in 0..STEPS {
        let is_last = step + 1 == STEPS;
        match rng.random_range(0..100) {
            0..25 => {
                let body = sent.to_string();
                assert_eq!(world.send(TOPIC, "", body.as_bytes()).code, 0);
                sent += 1;
            }
            25..55 => {
                for popped in pop(&mut world, rng.random_range(1..9)) {
                    let now_ms = world.now_ms();
                    let body = popped.body.clone();
                    assert!(!done.contains(&body), "seed {seed}: {body} was acknowledged");
                    let earlier = held.get(&body).map_or(0, |held| held.visible_at);
                    assert!(
                        earlier <= now_ms,
                        "seed {seed}: {body} is invisible until {earlier}, it is {now_ms}"
                    );
                    let attempt = next.entry(body.clone()).or_insert(0);
                    assert_eq!(popped.reconsume_times, *attempt, "seed {seed}: attempt of {body}");
                    *attempt += 1;
                    held.insert(body, Held { popped, visible_at: now_ms + INVISIBLE_MS });
                }
            }
            55..80 if !held.is_empty() => {
                let at = rng.random_range(0..held.len());
                let (body, own) = held.iter().nth(at).unwrap();
                let (body, in_time) = (body.clone(), world.now_ms() < own.visible_at);
                if rng.random_bool(0.7) {
                    let popped = own.popped.clone();
                    ack(&mut world, &popped);
                    if in_time {
                        held.remove(&body);
                        done.insert(body);
                    }
                } else {
                    let ms = rng.random_range(0..30_000);
                    let popped = own.popped.clone();
                    let answer =
                        world.call(Code::CHANGE_MESSAGE_INVISIBLETIME, &popped.prolong_fields(ms), &[]);
                    if in_time || answer.code == 0 {
                        assert_eq!(answer.code, 0, "seed {seed}: {answer:?}");
                        let visible_at = world.now_ms() + ms;
                        held.insert(body, Held { popped: popped.prolonged(&answer), visible_at });
                    }
                }
            }
            80..92 => drop(advance(&mut world, rng.random_range(0..8_000))),
            92..96 => world.crash(true),
            96..100 => world.crash(false),
            _ => {}
        }
        if is_last {
            break;
        }
    }
    // Whatever is left comes again, until all of it is acknowledged.
    for _ in 0..10 {
        advance(&mut world, 30_000);
        loop {
            let popped = pop(&mut world, 32);
            if popped.is_empty() {
                break;
            }
            for message in popped {
                assert!(done.insert(message.body.clone()), "seed {seed}: {} came again", message.body);
                ack(&mut world, &message);
            }
        }
    }
    assert_eq!(done.len(), sent, "seed {seed}: everything was consumed");
    agrees(&mut world);
    assert_eq!(world.broker().pops.undeliverable(), 0);
    for queue in 0..3 {
        let fields = [("topic", skylark_protocol::outgoing::Value::Text(TOPIC)), ("queueId", queue.into())];
        let end = world.call(Code::GET_MAX_OFFSET, &fields, &[]).number("offset");
        assert_eq!(committed(&mut world, TOPIC, queue), end, "seed {seed}: nothing is left behind");
    }
}

#[test]
fn every_mix_keeps_its_promises() {
    (0..60).for_each(run);
}
