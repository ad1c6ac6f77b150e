//! The same traffic to a broker on a simulated disk and clock, from one seed: power cuts take what was not flushed.
//!
//! `SKYLARK_SEED=n` runs one seed, `SKYLARK_SEEDS=n` so many.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_broker::changes::ControlRecord;
use skylark_broker::config::Settings;
use skylark_broker::folds::topics::{TopicConfig, TopicPut};
use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;

use super::cast::{cast, check, missing, promises};
use super::client::{Client, Look, Scene, Wire};
use super::delays::LEVELS;
use super::logs::{Logs, TOPICS, make_groups};
use super::transactions::{INTERVAL_MS, TIMEOUT_MS};
use crate::support::raw::Answer;
use crate::world::{START_MS, World};

const SEEDS: u64 = 40;
const STEPS: u32 = 4000;
/// How far the clock is set ahead of the beginning, at most.
const SET_MS_MAX: u64 = 60_000;
/// Whatever goes on, everybody has what was promised after so many pauses.
const PAUSES_MAX: u32 = 2000;

/// An answer comes once everything has come to rest so many times.
const ROUNDS_MAX: u32 = 20;

/// How the disk is broken, for showing that somebody would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// It says that a flush is done, and does nothing.
    FlushesLie,
}

#[derive(Debug, Default)]
struct Report {
    promises: Vec<usize>,
    messages: usize,
    crashes: u32,
}

struct Simulated {
    world: World,
    fault: Fault,
    random: Pcg64,
    clients: Vec<Box<dyn Client>>,
    logs: Logs,
    /// Who asked what.
    asked: BTreeMap<i32, usize>,
    /// Came while something else was waited for.
    heard: Vec<Answer>,
    crashes: u32,
    /// The latest that the clock has shown before it was set.
    wall_high: u64,
}

struct OneOf<'a> {
    world: &'a mut World,
    asked: &'a mut BTreeMap<i32, usize>,
    client: usize,
}

impl Wire for OneOf<'_> {
    fn ask(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> i32 {
        let opaque = self.world.submit(code, fields, body);
        self.asked.insert(opaque, self.client);
        opaque
    }

    fn now_ms(&self) -> u64 {
        self.world.now_ms()
    }
}

impl Look for Simulated {
    fn look(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> Answer {
        let opaque = self.world.submit(code, fields, body);
        for _ in 0..ROUNDS_MAX {
            let mut answers = self.world.answers();
            let own = answers.iter().position(|answer| answer.is_response && answer.opaque == opaque);
            let own = own.map(|own| answers.remove(own));
            self.heard.extend(answers);
            if let Some(own) = own {
                return own;
            }
        }
        panic!("{code} is not answered: {fields:?}, {:?}", self.world.broker().log.frontiers());
    }
}

impl Simulated {
    fn new(seed: u64, fault: Fault) -> Self {
        let settings = Settings {
            segment_bytes: Some(65_536),
            delay_levels: Some(LEVELS.to_owned()),
            transaction_timeout_ms: Some(TIMEOUT_MS),
            transaction_check_interval_ms: Some(INTERVAL_MS),
            transaction_checks_max: Some(1000),
            ..Settings::default()
        };
        let mut new = Self {
            world: World::new(seed, settings),
            fault,
            random: Pcg64::seed_from_u64(seed),
            clients: cast(),
            logs: Logs::default(),
            asked: BTreeMap::new(),
            heard: Vec::new(),
            crashes: 0,
            wall_high: 0,
        };
        let put = TOPICS.map(|(topic, queues)| {
            let (topic, config) = (topic.to_owned(), TopicConfig::with_queues(queues));
            ControlRecord::of(&TopicPut { topic, config })
        });
        new.world.broker().change(|_| put.into()).expect("a healthy log takes changes");
        make_groups(&mut new);
        new.connect();
        new
    }

    /// Lets one of the clients do something.
    fn with(&mut self, client: usize, is_resting: bool, act: impl FnOnce(&mut dyn Client, &mut Scene<'_>)) {
        let mut wire = OneOf { world: &mut self.world, asked: &mut self.asked, client };
        let mut scene = Scene { wire: &mut wire, random: &mut self.random, is_resting };
        act(self.clients[client].as_mut(), &mut scene);
    }

    fn connect(&mut self) {
        self.world.disk.set_flushes_lie(self.fault == Fault::FlushesLie);
        for client in 0..self.clients.len() {
            self.with(client, false, |client, scene| client.connected(scene));
        }
    }

    fn hear(&mut self, is_resting: bool) {
        self.world.poll();
        let answers = std::mem::take(&mut self.heard).into_iter().chain(self.world.written());
        for answer in answers.collect::<Vec<_>>() {
            if answer.is_response {
                let client = self.asked.remove(&answer.opaque).expect("an answer to a request");
                self.with(client, is_resting, |client, scene| client.hear(&answer, scene));
            } else {
                // Whoever it is for knows it.
                for client in 0..self.clients.len() {
                    self.with(client, is_resting, |client, scene| client.hear(&answer, scene));
                }
            }
        }
    }

    fn crash(&mut self, power: bool) {
        if self.random.random() {
            self.hear(false);
        }
        self.crashes += 1;
        self.clients.iter_mut().for_each(|client| client.lost());
        self.asked.clear();
        self.heard.clear();
        self.world.crash(power);
        self.check();
        self.connect();
    }

    fn check(&mut self) {
        let mut logs = std::mem::take(&mut self.logs);
        logs.look(self);
        check(&mut self.clients, &logs);
        self.logs = logs;
    }

    fn engines(&mut self) {
        let broker = Arc::clone(&self.world.running.broker);
        broker.timers.step(&broker);
        broker.pops.step(&broker);
        broker.transactions.step(&broker);
    }

    fn step(&mut self) {
        let client = self.random.random_range(0..self.clients.len());
        match self.random.random_range(0..1000) {
            0..400 => self.with(client, false, |client, scene| client.act(scene)),
            400..520 => drop(self.world.running.writer.step()),
            520..640 => drop(self.world.running.dispatcher.step().expect("what was appended can be applied")),
            640..650 => drop(self.world.running.housekeeper.step()),
            650..655 => drop(self.world.running.archivist.step()),
            655..720 => drop(self.world.running.broker.readers.step(&self.world.running.broker)),
            720..790 => self.engines(),
            790..940 => self.hear(false),
            940..950 => self.world.broker().commit_offsets().expect("a healthy log takes offsets"),
            950..994 => self.world.clock.advance(Duration::from_millis(self.random.random_range(0..60))),
            994..996 => self.set_clock(),
            996..999 => self.crash(true),
            _ => self.crash(false),
        }
    }

    /// Somebody sets the clock, ahead or back. Not between a request and its answer: clients would not know by which clock
    /// a message is due.
    fn set_clock(&mut self) {
        let answers = self.world.answers();
        self.heard.extend(answers);
        self.clients.iter_mut().for_each(|client| client.clock_set());
        self.wall_high = self.wall_high.max(self.world.now_ms());
        self.world.clock.set_wall_ms(START_MS + self.random.random_range(0..SET_MS_MAX));
    }

    /// Lets everybody get what was promised, without which this would not end.
    fn rest(&mut self) {
        // What was sent while the clock was ahead is due by a clock that has come there again.
        self.world.clock.set_wall_ms(self.wall_high.max(self.world.now_ms()));
        for pause in 0..PAUSES_MAX {
            for client in 0..self.clients.len() {
                self.with(client, true, |client, scene| client.act(scene));
            }
            self.engines();
            self.world.settle();
            self.hear(true);
            self.world.clock.advance(Duration::from_millis(10));
            if pause % 50 == 49 {
                self.check();
                if missing(&self.clients, &self.logs).is_none() {
                    return;
                }
            }
        }
        panic!("nobody got {:?}", missing(&self.clients, &self.logs));
    }

    fn run(mut self) -> Report {
        for _ in 0..STEPS {
            self.step();
        }
        self.crash(true);
        self.rest();
        // Whatever anybody was shown is there without power, too.
        self.crash(true);
        self.rest();
        let logs = std::mem::take(&mut self.logs);
        logs.look_again(&mut self);
        Report { promises: promises(&self.clients), messages: logs.len(), crashes: self.crashes }
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn no_promise_of_any_kind_is_broken_by_power_cuts() {
    if let Some(seed) = setting("SKYLARK_SEED") {
        println!("seed {seed}: {:?}", Simulated::new(seed, Fault::None).run());
        return;
    }
    let mut total = Report::default();
    for seed in 0..setting("SKYLARK_SEEDS").unwrap_or(SEEDS) {
        let Ok(report) = catch_unwind(|| Simulated::new(seed, Fault::None).run()) else {
            panic!(
                "repeat with: SKYLARK_SEED={seed} cargo test -p skylark-broker --test mixed power_cuts -- --nocapture"
            );
        };
        total.promises.resize(report.promises.len(), 0);
        total.promises.iter_mut().zip(&report.promises).for_each(|(total, count)| *total += count);
        total.messages += report.messages;
        total.crashes += report.crashes;
    }
    println!("{total:?}");
    assert!(total.promises.iter().all(|count| *count > 0), "not everything was put to the test: {total:?}");
}

/// What a broken promise was told as.
fn told(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<String>().map_or_else(|| panic.downcast_ref().copied().unwrap_or(""), String::as_str)
}

#[test]
fn a_disk_that_does_not_flush_is_caught() {
    let caught: Vec<_> = (0..10)
        .filter_map(|seed| catch_unwind(|| Simulated::new(seed, Fault::FlushesLie).run()).err())
        .map(|panic| told(panic.as_ref()).to_owned())
        .collect();
    println!("{caught:#?}");
    assert!(!caught.is_empty());
    // By what clients were told, and not because the broker did not start.
    assert!(caught.iter().any(|told| told.contains("acknowledged, and not there")), "{caught:?}");
}
