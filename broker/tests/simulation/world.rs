//! The world of a seed: who exists, what may happen, and what must hold.

use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_broker::broker::{Broker, Running, StartError};
use skylark_broker::config::{Config, Settings};
use skylark_broker::engine::Next;
use skylark_broker::registrar::Registrar;
use skylark_broker::session::ClientService;
use skylark_nameserver::{NameServer, NameServerService};
use skylark_protocol::memory::{Link, MemoryNetwork, Side};
use skylark_protocol::transport::{Connector, Listener};
use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::Files;
use skylark_storage::device::simulated::Disk;
use skylark_storage::{Clock, PhysicalOffset, Step};

use super::cast::Cast;
use super::clients::follower::Habit;
use super::clients::operator::GROUPS;
use super::clients::producer::{Delay, LEVELS};
use super::clients::{
    Client, FLEETING, Follower, Orderly, RETRY_TOPIC, RETURNING_GROUP, STEADY, Scene, orderly,
};
use super::digest::Digest;
use super::disks;
use super::eager::Eager;
use super::story::{Fate, Recalled, Story};
use super::truth::Truth;
use crate::support::layer::Layered;

/// How the broker, or the disk under it, is broken, for showing that the oracle would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    FlushesLie,
    WritesLater,
    /// A restart does not know who held which lock.
    LocksForgotten,
    /// Offsets that consumers commit never reach the log.
    CommitsForgotten,
    /// A delayed message is delivered when the clock shows less than its due time.
    ClockAhead,
    /// A message is called recalled of whose recall the broker was not told.
    RecallsLost,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub acknowledged: u64,
    pub delayed: u64,
    /// Messages that the broker said are recalled.
    pub recalled: u64,
    pub sent: u64,
    pub seen: u64,
    pub back: u64,
    pub crashes: u64,
    /// Starts that began with a snapshot.
    pub restored: u64,
    /// Segments that were trimmed.
    pub trimmed: u64,
    pub deletions: u64,
    pub disk_operations: u64,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.delayed += other.delayed;
        self.recalled += other.recalled;
        self.sent += other.sent;
        self.seen += other.seen;
        self.back += other.back;
        self.crashes += other.crashes;
        self.restored += other.restored;
        self.trimmed += other.trimmed;
        self.deletions += other.deletions;
        self.disk_operations += other.disk_operations;
    }
}

const STEPS: u32 = 2500;
/// Whatever goes on, it comes to rest within so many rounds.
const ROUNDS_MAX: u32 = 20_000;
const BROKER: &str = "127.0.0.1:10911";
const NAMESERVER: &str = "127.0.0.1:9876";
const SEGMENT_BYTES: u64 = 64 << 10;
const KEPT_BYTES: u64 = 4 * SEGMENT_BYTES;
const START_MS: u64 = 1_700_000_000_000;

type Links = Arc<Mutex<Vec<Link>>>;

pub struct World {
    random: Pcg64,
    fault: Fault,
    clock: SimulatedClock,
    wall_high: u64,
    disk: Disk,
    running: Option<(Running, Arc<Registrar>)>,
    network: Arc<MemoryNetwork>,
    links: Links,
    nameserver: Arc<NameServer>,
    cast: Cast,
    story: Story,
    truth: Truth,
    config: Config,
    is_resting: bool,
    crashes: u64,
    restored: u64,
    trimmed: PhysicalOffset,
}

/// Connections hold the sessions that hold the network that makes them: a world that ends cuts them, or thousands of
/// worlds would stay in memory.
impl Drop for World {
    fn drop(&mut self) {
        self.network.unbind(BROKER);
        let links = self.links.lock().map(|mut links| std::mem::take(&mut *links));
        drop(links);
    }
}

impl World {
    pub fn new(seed: u64, fault: Fault) -> Self {
        let clock = SimulatedClock::new(START_MS);
        let links: Links = Arc::default();
        let given = Arc::clone(&links);
        let network = Arc::new(MemoryNetwork::new(move |_, link| given.lock().unwrap().push(link)));
        let nameserver = Arc::new(NameServer::new([]));
        let time = clock.clone();
        let service = NameServerService::new(Arc::clone(&nameserver), Arc::new(move || time.monotonic()));
        network.bind(NAMESERVER, Listener::NameServer, Arc::new(service));
        let settings = Settings {
            segment_bytes: Some(SEGMENT_BYTES),
            retention_bytes: Some(KEPT_BYTES),
            delay_levels: Some(LEVELS.to_owned()),
            ..Settings::default()
        };
        let mut world = Self {
            random: Pcg64::seed_from_u64(seed),
            fault,
            clock,
            wall_high: START_MS,
            disk: Disk::new(seed),
            running: None,
            network,
            links,
            nameserver,
            cast: Cast::new(),
            story: Story::default(),
            truth: Truth::default(),
            config: Config::new(settings).expect("sound settings"),
            is_resting: false,
            crashes: 0,
            restored: 0,
            trimmed: PhysicalOffset::ZERO,
        };
        world.cast.producer.keeps_recalls = fault == Fault::RecallsLost;
        world.start();
        world.connect();
        world.cast.operator.make_groups();
        while world.cast.operator.groups < GROUPS.len() {
            world.work();
        }
        world
    }

    pub fn run(mut self) -> Report {
        self.steps(STEPS);
        self.settle();
        self.check();
        // Once more without power: what was acknowledged, and what was shown, is there.
        self.crash(true);
        self.settle();
        self.check();
        self.report()
    }

    fn report(&self) -> Report {
        let acknowledged = |sent: &&super::story::Sent| matches!(sent.fate, Fate::Acknowledged(..));
        let sent = &self.story.sent;
        Report {
            acknowledged: sent.iter().filter(acknowledged).count() as u64,
            delayed: sent.iter().filter(acknowledged).filter(|sent| sent.delay_ms.is_some()).count() as u64,
            recalled: sent.iter().filter(|sent| sent.recall == Some(Recalled::Sure)).count() as u64,
            sent: sent.len() as u64,
            seen: self.story.seen.len() as u64,
            back: self.story.back.values().map(|count| count.sure).sum(),
            crashes: self.crashes,
            restored: self.restored,
            trimmed: self.trimmed.get() / SEGMENT_BYTES,
            deletions: self.truth.deletions,
            disk_operations: self.disk.operations(),
        }
    }

    fn steps(&mut self, steps: u32) {
        for _ in 0..steps {
            self.step();
        }
    }

    fn running(&mut self) -> &mut Running {
        &mut self.running.as_mut().expect("a broker runs").0
    }

    fn files(&self) -> Arc<dyn Files> {
        match self.fault {
            Fault::WritesLater => Arc::new(Layered(Eager(self.disk.clone()))),
            Fault::FlushesLie => {
                self.disk.set_flushes_lie(true);
                Arc::new(self.disk.clone())
            }
            _ => Arc::new(self.disk.clone()),
        }
    }

    fn start(&mut self) {
        loop {
            match self.try_start() {
                Ok(true) => return,
                // There was not enough room, and an operator makes some.
                Ok(false) => {}
                Err(error) => {
                    assert!(self.is_tight(), "{error}");
                }
            }
            self.running = None;
            self.disk = self.disk.kill();
        }
    }

    fn try_start(&mut self) -> Result<bool, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let running = Broker::open(self.files(), clock, &self.config)?;
        let log = &running.broker.log;
        self.truth.compare(log);
        let trimmed = log.frontiers().trimmed;
        assert!(trimmed >= self.trimmed, "what was trimmed came back");
        self.trimmed = trimmed;
        if running.broker.founded_on > PhysicalOffset::ZERO {
            self.restored += 1;
            if self.random.random_ratio(1, 3) {
                self.check_state(&running);
            }
        }
        let mut running = running;
        let mut rounds = 0;
        while running.broker.applied.get() < running.prepared {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "it does not start: {:?}", running.broker.log.frontiers());
            if running.writer.step() == Step::Stopped {
                return Ok(false);
            }
            running.housekeeper.step();
            running.dispatcher.step().expect("what was appended can be applied");
        }
        if self.fault == Fault::LocksForgotten {
            running.broker.locks.forget_group(orderly::GROUP);
        }
        let service = ClientService::new(Arc::clone(&running.broker));
        self.network.bind(BROKER, Listener::Broker, Arc::new(service));
        let connector: Arc<dyn Connector> = Arc::clone(&self.network) as _;
        let registrar = Registrar::new(Arc::clone(&running.broker), connector, vec![NAMESERVER.to_owned()]);
        self.running = Some((running, registrar));
        Ok(true)
    }

    /// What was restored is what is folded from the log's beginning, or, where that is trimmed, from the snapshot
    /// before.
    fn check_state(&self, running: &Running) {
        let copy = self.disk.kill();
        let snapshots = disks::snapshots(&copy);
        let superfluous = match running.broker.log.frontiers().trimmed {
            PhysicalOffset::ZERO => &snapshots[..],
            _ if snapshots.len() > 1 => &snapshots[1..],
            _ => return,
        };
        disks::lose(&copy, superfluous);
        disks::lose(&copy, &disks::index_files(&copy));
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let refolded = Broker::open(Arc::new(copy), clock, &self.config).expect("a log that was just opened");
        let (restored, refolded) = (Digest::of(running), Digest::of(&refolded));
        if running.broker.log.frontiers().trimmed == PhysicalOffset::ZERO {
            assert_eq!(restored, refolded, "a snapshot is not what the log says");
        } else {
            // Where queues begin is told by the files of what was trimmed.
            assert_eq!(restored.without_minima(), refolded.without_minima(), "two snapshots differ");
        }
    }

    /// The broker ends in the middle of everything, and another one starts on what is left.
    pub fn crash(&mut self, power: bool) {
        self.end(power);
        self.start();
    }

    fn end(&mut self, power: bool) {
        self.crashes += 1;
        self.hear();
        self.look_back();
        let durable_end = self.running().broker.log.frontiers().durable_end;
        self.network.unbind(BROKER);
        self.links.lock().unwrap().clear();
        self.on_all(|client, scene| client.lost(scene));
        self.cast.followers.iter_mut().for_each(|follower| follower.crashed(durable_end));
        self.disk = if power { self.disk.crash() } else { self.disk.kill() };
        self.running = None;
    }

    /// While it is down, files are lost that can be lost, and perhaps there is little room.
    fn crash_badly(&mut self) {
        let power = self.random.random();
        self.end(power);
        let kind = self.random.random_range(0..8);
        if matches!(kind, 0 | 1 | 5 | 6) {
            let mut files = disks::index_files(&self.disk);
            files.retain(|_| kind == 0 || self.random.random());
            disks::lose(&self.disk, &files);
        }
        if matches!(kind, 2 | 5) {
            let snapshots = disks::snapshots(&self.disk);
            if snapshots.len() > 1 || self.trimmed == PhysicalOffset::ZERO {
                disks::lose(&self.disk, &snapshots[snapshots.len().saturating_sub(1)..]);
            }
        }
        if matches!(kind, 3 | 6) {
            self.disk.set_space_left(Some(self.random.random_range(0..100_000)));
        }
        self.start();
    }

    fn step(&mut self) {
        match self.random.random_range(0..2000) {
            0..360 => self.write(),
            360..620 => {
                self.dispatch();
            }
            620..720 => {
                self.housekeep();
            }
            720..800 => {
                self.read();
            }
            800..860 => {
                self.fire();
            }
            860..1380 => (0..6).for_each(|_| {
                self.move_bytes();
            }),
            1380..1800 => self.act(),
            1800..1860 => self.connect(),
            1860..1910 => self.advance_by_up_to(200_000),
            1910..1960 => self.tick(),
            1960..1963 => self.set_wall(),
            1963..1968 => self.cut(),
            1968 => self.crash(true),
            1969 => self.crash(false),
            1970..1972 => self.crash_badly(),
            1972 => self.disk.fail_flush(self.random.random_range(1..4)),
            1973 => self.disk.fail_write(self.random.random_range(1..4)),
            1974 => self.disk.set_space_left(Some(self.random.random_range(0..150_000))),
            1975..1978 => self.disk.set_space_left(None),
            _ => self.advance_by_up_to(20_000_000),
        }
        let [first, second] = &self.cast.orderly;
        Orderly::check(first, second, self.clock.monotonic());
    }

    fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        self.clock_shows();
    }

    fn advance_by_up_to(&mut self, most_us: u64) {
        let by = Duration::from_micros(self.random.random_range(0..most_us));
        self.advance(by);
    }

    fn set_wall(&mut self) {
        self.clock.set_wall_ms(START_MS + self.random.random_range(0..10_000_000));
        self.clock_shows();
    }

    fn clock_shows(&mut self) {
        let wall_ms = self.clock.wall_ms();
        self.wall_high = self.wall_high.max(wall_ms);
        self.story.clock_shows(wall_ms);
    }

    fn write(&mut self) {
        if self.running().writer.step() == Step::Stopped {
            // It has said what it could say about it; an operator starts it again.
            self.crash(false);
        }
    }

    fn dispatch(&mut self) -> bool {
        self.running().dispatcher.step().expect("what was appended can be applied")
    }

    fn housekeep(&mut self) -> bool {
        // Before it may be trimmed.
        self.look_back();
        let running = self.running();
        running.housekeeper.step();
        let worked = running.archivist.step();
        let frontiers = running.broker.log.frontiers();
        if frontiers.trimmed > self.trimmed {
            let kept = frontiers.appended_end.since(frontiers.trimmed);
            // A full disk keeps less.
            assert!(self.is_tight() || kept >= KEPT_BYTES - SEGMENT_BYTES, "{kept} bytes were kept");
            self.trimmed = frontiers.trimmed;
        }
        worked
    }

    /// Whether the disk has little room.
    fn is_tight(&self) -> bool {
        self.disk.space().expect("a simulated disk tells").available_bytes < 1 << 20
    }

    fn read(&mut self) -> bool {
        let broker = &self.running().broker;
        broker.readers.step(broker)
    }

    fn fire(&mut self) -> bool {
        let wall_ms = self.clock.wall_ms();
        if self.fault == Fault::ClockAhead {
            self.clock.set_wall_ms(wall_ms + 500);
        }
        let fired = self.fire_now();
        if self.fault == Fault::ClockAhead {
            self.clock.set_wall_ms(wall_ms);
        }
        fired
    }

    fn fire_now(&mut self) -> bool {
        let broker = &self.running().broker;
        match broker.timers.step(broker) {
            Next::Now => true,
            Next::Applied(end) => broker.applied.get() < end && broker.log.stopped().is_none(),
            _ => false,
        }
    }

    fn look_back(&mut self) {
        let (running, _) = self.running.as_ref().expect("a broker runs");
        self.truth.read_on(&running.broker.log, &self.story);
    }

    fn tick(&mut self) {
        let (running, registrar) = self.running.as_ref().expect("a broker runs");
        let broker = &running.broker;
        broker.tick();
        registrar.tick();
        // A log that has stopped takes no offsets; they are lost with the process, as commits may be.
        if self.fault == Fault::CommitsForgotten || broker.commit_offsets().is_ok() {
            let end = broker.log.frontiers().appended_end;
            self.cast.followers.iter_mut().for_each(|follower| follower.told(end));
        }
        self.nameserver.tick(self.clock.monotonic());
    }

    /// Lets everybody do something.
    fn on_all(&mut self, mut each: impl FnMut(&mut dyn Client, &mut Scene<'_>)) {
        let Self { cast, random, story, clock, .. } = self;
        let mut scene = Scene { random, story, wall_ms: clock.wall_ms(), now: clock.monotonic() };
        cast.clients().into_iter().for_each(|client| each(client, &mut scene));
    }

    fn act(&mut self) {
        // The producer is the first; without it there is nothing to do for the others.
        let others = self.cast.clients().len() - 1;
        let chosen = if self.random.random_ratio(1, 3) { 0 } else { self.random.random_range(0..others) + 1 };
        self.cast.followers.iter_mut().for_each(Follower::ask_again);
        let mut place = 0;
        self.on_all(|client, scene| {
            if place == chosen && client.line().is_connected() {
                client.act(scene);
            }
            place += 1;
        });
    }

    fn hear(&mut self) {
        self.on_all(|client, scene| client.hear(scene));
        let Cast { followers, returner, .. } = &mut self.cast;
        for follower in followers {
            for failed in std::mem::take(&mut follower.got) {
                let fails = follower.group == RETURNING_GROUP && !self.is_resting;
                if fails && returner.line.is_connected() && self.random.random_ratio(1, 4) {
                    returner.failed.push(failed);
                }
            }
        }
    }

    fn connect(&mut self) {
        let network = Arc::clone(&self.network);
        self.on_all(|client, scene| {
            if !client.line().is_connected() {
                client.lost(scene);
                network.connect(BROKER, client.line().session());
            }
        });
    }

    fn move_bytes(&mut self) -> bool {
        let mut links = std::mem::take(&mut *self.links.lock().unwrap());
        links.retain(|link| !link.is_closed());
        let mut worked = false;
        if !links.is_empty() {
            let link = self.random.random_range(0..links.len());
            let to = if self.random.random() { Side::Server } else { Side::Client };
            let bytes = self.random.random_range(1..16_384);
            worked = links[link].step(to, bytes, &mut Context::from_waker(Waker::noop()));
        }
        // Stepping may have opened another link.
        links.append(&mut self.links.lock().unwrap());
        *self.links.lock().unwrap() = links;
        self.hear();
        worked
    }

    /// Moves every byte that can move just now.
    fn move_all_bytes(&mut self) -> bool {
        let mut links = std::mem::take(&mut *self.links.lock().unwrap());
        links.retain(|link| !link.is_closed());
        let mut worked = false;
        let mut context = Context::from_waker(Waker::noop());
        for link in &mut links {
            worked |= link.step(Side::Server, usize::MAX, &mut context);
            worked |= link.step(Side::Client, usize::MAX, &mut context);
        }
        links.append(&mut self.links.lock().unwrap());
        *self.links.lock().unwrap() = links;
        self.hear();
        worked
    }

    fn cut(&mut self) {
        let mut links = self.links.lock().unwrap();
        if links.is_empty() {
            return;
        }
        let link = self.random.random_range(0..links.len());
        let mut link = links.swap_remove(link);
        drop(links);
        link.cut();
    }

    /// Lets everything come to rest: faults end, clients connect, and all that can move moves.
    fn settle(&mut self) {
        self.crash(false);
        self.clock.set_wall_ms(self.wall_high + 600_000);
        self.clock_shows();
        self.rest();
    }

    fn work(&mut self) -> bool {
        self.parts().into_iter().any(|(_, worked)| worked)
    }

    /// Lets every part do something, and says which did.
    fn parts(&mut self) -> [(&'static str, bool); 6] {
        [
            ("writer", self.running().writer.step() == Step::Worked),
            ("housekeeping", self.housekeep()),
            ("dispatcher", self.dispatch()),
            ("readers", self.read()),
            ("timers", self.fire()),
            ("bytes", self.move_all_bytes()),
        ]
    }

    /// What goes on and on.
    fn restless(&mut self) -> String {
        let mut parts: Vec<_> = (0..4).flat_map(|_| self.parts()).collect();
        parts.retain(|(_, worked)| *worked);
        format!("{parts:?}, {:?}", self.running().broker.log.frontiers())
    }

    fn rest(&mut self) {
        self.is_resting = true;
        for _ in 0..4 {
            self.advance(Duration::from_secs(6));
            self.tick();
            self.connect();
            self.cast.followers.iter_mut().for_each(Follower::ask_again);
            let (mut idle, mut rounds) = (0, 0);
            while idle < 3 {
                rounds += 1;
                assert!(rounds < ROUNDS_MAX, "it does not come to rest: {}", self.restless());
                let worked = self.work();
                let Self { cast, random, story, clock, .. } = self;
                let mut scene = Scene { random, story, wall_ms: clock.wall_ms(), now: clock.monotonic() };
                cast.followers.iter_mut().for_each(|follower| follower.act(&mut scene));
                idle = if worked { 0 } else { idle + 1 };
            }
        }
        self.is_resting = false;
    }

    /// Sends so many messages and lets everything come to rest: how many were acknowledged in all, and what the
    /// others were refused with.
    pub fn send_and_rest(&mut self, messages: u32) -> (usize, Vec<i32>) {
        self.connect();
        let Self { cast, story, clock, .. } = self;
        for _ in 0..messages {
            cast.producer.send_to(STEADY.0, 0, Delay::None, story, clock.wall_ms());
        }
        self.rest();
        let acknowledged = |sent: &&super::story::Sent| matches!(sent.fate, Fate::Acknowledged(..));
        (self.story.sent.iter().filter(acknowledged).count(), self.story.refused.clone())
    }

    /// The next flush of the log fails.
    pub fn fail_next_flush(&self) {
        self.disk.fail_flush(1);
    }

    /// How many messages those get who begin anew, on connections of their own.
    pub fn served(&mut self) -> usize {
        self.links.lock().unwrap().clear();
        self.story.seen.clear();
        self.cast.followers.iter_mut().for_each(Follower::rewind);
        self.rest();
        self.story.seen.len()
    }

    /// What clients may rely on.
    fn check(&mut self) {
        self.look_back();
        let trimmed = self.running().broker.log.frontiers().trimmed;
        self.truth.check(&self.story, trimmed);
        {
            let (running, _) = self.running.as_ref().expect("a broker runs");
            let index = running.broker.index.read();
            for ((topic, number), queue) in &self.truth.queues {
                let id = index.lookup(topic, *number).expect("a queue that held something");
                assert_eq!(index.range(id), queue.range(trimmed), "queue {number} of {topic}");
            }
            assert_eq!(running.broker.timers.undeliverable(), 0);
        }
        if self.truth.queues.keys().any(|(topic, _)| topic == STEADY.0) {
            self.check_route();
        }
        self.audit();
    }

    /// Everything that there is can be pulled.
    fn audit(&mut self) {
        let before = self.cast.followers.len();
        for topic in [STEADY.0, FLEETING.0, RETRY_TOPIC] {
            let (running, _) = self.running.as_ref().expect("a broker runs");
            if running.broker.catalog.read().topics.get(topic).is_none() {
                continue;
            }
            let queues = self.truth.queues.keys().filter(|(of, _)| of == topic);
            let count = queues.map(|(_, number)| number + 1).max().unwrap_or(0);
            let auditor = Follower::new("AUDIT", topic, count, Habit::Reads);
            self.cast.followers.push(auditor);
        }
        self.rest();
        let trimmed = self.running().broker.log.frontiers().trimmed;
        for auditor in self.cast.followers.drain(before..) {
            for (name, next) in auditor.positions() {
                let end = self.truth.queues.get(&name).map_or(0, |queue| queue.range(trimmed).end);
                assert_eq!(next.unwrap_or(0), end, "{name:?} cannot be read to its end");
            }
        }
        self.truth.check(&self.story, trimmed);
    }

    /// The nameserver knows where the topic is.
    fn check_route(&self) {
        let route = self.nameserver.route_of(STEADY.0).expect("a topic that was written to has a route");
        assert_eq!(route.broker_datas[0].broker_addrs[&0], BROKER);
        assert_eq!(route.queue_datas[0].write_queue_nums, i32::try_from(STEADY.1).unwrap());
    }
}
