//! Transactions over crashes: what was rolled back is never seen, what was committed always is, and once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_broker::config::Settings;
use skylark_protocol::code::RequestCode;

use super::producer::*;
use crate::support::raw::send_fields;
use crate::world::World;

const SEGMENT_BYTES: u64 = 65_536;

/// What the producer knows of a transaction.
#[derive(Clone, Debug)]
struct Known {
    half: Half,
    /// How it wanted it to end; only that may have happened.
    wanted: Option<i32>,
    /// It was told that it has.
    is_settled: bool,
}

struct Story {
    world: World,
    random: Pcg64,
    known: BTreeMap<String, Known>,
    /// The keys of what consumers got, by its offset.
    seen: BTreeMap<u64, String>,
    sent: u32,
}

impl Story {
    fn new(seed: u64) -> Self {
        let settings = Settings {
            segment_bytes: Some(SEGMENT_BYTES),
            retention_bytes: Some(6 * SEGMENT_BYTES),
            transaction_timeout_ms: Some(1_000),
            transaction_check_interval_ms: Some(3_000),
            transaction_checks_max: Some(1_000),
            ..Settings::default()
        };
        let mut world = World::new(seed, settings);
        join(&mut world, "PG");
        let random = Pcg64::seed_from_u64(seed);
        let (known, seen) = (BTreeMap::new(), BTreeMap::new());
        let mut story = Self { world, random, known, seen, sent: 0 };
        story.prepare();
        story
    }

    fn prepare(&mut self) {
        let key = format!("K{}", self.sent);
        self.sent += 1;
        let half = prepare(&mut self.world, "t", &key, "");
        self.known.insert(key, Known { half, wanted: None, is_settled: false });
    }

    /// One that may be ended, and how its producer wants it to: it does not change its mind.
    fn pick(&mut self) -> Option<(Known, i32)> {
        let open: Vec<_> = self.known.iter().filter(|(_, known)| !known.is_settled).collect();
        let (key, _) = open.get(self.random.random_range(0..open.len().max(1)))?;
        let key = (*key).clone();
        let outcome = if self.random.random() { COMMIT } else { ROLLBACK };
        let known = self.known.get_mut(&key)?;
        let outcome = *known.wanted.get_or_insert(outcome);
        Some((known.clone(), outcome))
    }

    fn end(&mut self) {
        let Some((known, outcome)) = self.pick() else { return };
        let ended = answer(&mut self.world, &known.half, outcome);
        // An earlier request may have ended it, of which the answer was lost.
        assert!(ended.code == 0 || ended.code == 1, "{}", ended.remark);
        self.known.get_mut(&known.half.key).unwrap().is_settled = true;
    }

    /// The process ends with requests on their way.
    fn crash_amid(&mut self) {
        for _ in 0..self.random.random_range(0..6) {
            if self.random.random() {
                let Some((known, outcome)) = self.pick() else { continue };
                let fields = end_fields(&known.half, outcome, true);
                self.world.submit(RequestCode::END_TRANSACTION, &fields, b"");
            } else {
                self.world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("other", 0, ""), &[b'x'; 3000]);
            }
            if self.random.random_bool(0.3) {
                self.world.running.writer.step();
            }
        }
        let power = self.random.random();
        self.world.crash(power);
        join(&mut self.world, "PG");
    }

    fn fill(&mut self) {
        for _ in 0..200 {
            self.world.submit(RequestCode::SEND_MESSAGE_V2, &send_fields("other", 0, ""), &[b'x'; 300]);
        }
        self.world.answers();
        after(&mut self.world, 11_000);
    }

    /// Looks at what consumers can get. What they got once, retention may take later.
    fn look(&mut self) {
        for message in self.world.pulled("t", 2) {
            let key = message.properties["UNIQ_KEY"].clone();
            let known = self.seen.entry(message.queue_offset).or_insert_with(|| key.clone());
            assert_eq!(*known, key, "what was consumed at {} has changed", message.queue_offset);
        }
    }

    /// Consumers got what they had to, and nothing else.
    fn check_seen(&self) {
        let mut times: BTreeMap<&str, u32> = BTreeMap::new();
        self.seen.values().for_each(|key| *times.entry(key).or_default() += 1);
        for (key, known) in &self.known {
            let times = times.get(&**key).copied().unwrap_or(0);
            let possible = match (known.wanted, known.is_settled) {
                (Some(COMMIT), true) => 1..=1,
                (Some(COMMIT), false) => 0..=1,
                _ => 0..=0,
            };
            assert!(possible.contains(&times), "{known:?} was seen {times} times");
        }
    }

    fn run(mut self) {
        for _ in 0..60 {
            match self.random.random_range(0..10) {
                0..=3 => self.prepare(),
                4..=6 => self.end(),
                7 => self.crash_amid(),
                _ => self.fill(),
            }
            self.look();
            self.check_seen();
        }
        // In the end its producer is asked about whatever is open, and settles it.
        for round in 0.. {
            let questions = after(&mut self.world, 3_100);
            if self.world.broker().transactions.count() == 0 {
                break;
            }
            assert!(round < 10, "{} are still open", self.world.broker().transactions.count());
            for question in &questions {
                let half = asked(question);
                let known = self.known.get_mut(&half.key).unwrap();
                assert_eq!(known.half, half);
                assert!(!known.is_settled, "{half:?} is over");
                let outcome = *known.wanted.get_or_insert(COMMIT);
                known.is_settled = true;
                assert_eq!(answer(&mut self.world, &half, outcome).code, 0);
            }
        }
        self.look();
        self.known.values_mut().for_each(|known| known.is_settled = true);
        self.check_seen();
        TRIMMED
            .fetch_add(self.world.broker().log.frontiers().trimmed.get() / SEGMENT_BYTES, Ordering::Relaxed);
    }
}

/// Segments that retention took, in all stories: some of it has to be seen.
static TRIMMED: AtomicU64 = AtomicU64::new(0);

#[test]
fn transactions_end_as_their_producer_said_over_crashes_and_trims() {
    for seed in 0..30 {
        println!("seed {seed}");
        Story::new(seed).run();
    }
    assert!(TRIMMED.load(Ordering::Relaxed) > 30);
}
