//! The world of a seed: who exists, what may happen, and what must hold.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_broker::broker::{Broker, Running};
use skylark_broker::config::{Config, Settings};
use skylark_broker::registrar::Registrar;
use skylark_broker::session::ClientService;
use skylark_nameserver::{NameServer, NameServerService};
use skylark_protocol::memory::{Link, MemoryNetwork, Side};
use skylark_protocol::transport::{Connector, Listener};
use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::Files;
use skylark_storage::device::simulated::Disk;
use skylark_storage::{Clock, Step};

use super::clients::{Consumer, ConsumerSession, Producer, ProducerSession, QUEUES, TOPIC};
use super::eager::Eager;

/// How the disk under the broker is broken, for showing that the oracle would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    FlushesLie,
    WritesLater,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub acknowledged: u64,
    pub sent: u64,
    pub seen: u64,
    pub crashes: u64,
    pub disk_operations: u64,
}

const STEPS: u32 = 1200;
const BROKER: &str = "127.0.0.1:10911";
const NAMESERVER: &str = "127.0.0.1:9876";
const SEGMENT_BYTES: &str = "65536";

type Links = Arc<Mutex<Vec<Link>>>;

pub struct World {
    random: Pcg64,
    fault: Fault,
    clock: SimulatedClock,
    disk: Disk,
    running: Option<(Running, Arc<Registrar>)>,
    network: Arc<MemoryNetwork>,
    links: Links,
    nameserver: Arc<NameServer>,
    producer: Arc<Mutex<Producer>>,
    consumer: Arc<Mutex<Consumer>>,
    config: Config,
    crashes: u64,
}

impl World {
    pub fn new(seed: u64, fault: Fault) -> Self {
        let clock = SimulatedClock::new(1_700_000_000_000);
        let links: Links = Arc::default();
        let given = Arc::clone(&links);
        let network = Arc::new(MemoryNetwork::new(move |_, link| given.lock().unwrap().push(link)));
        let nameserver = Arc::new(NameServer::new([]));
        let time = clock.clone();
        let service = NameServerService::new(Arc::clone(&nameserver), Arc::new(move || time.monotonic()));
        network.bind(NAMESERVER, Listener::NameServer, Arc::new(service));
        let settings =
            Settings { segment_bytes: Some(SEGMENT_BYTES.parse().unwrap()), ..Settings::default() };
        let mut world = Self {
            random: Pcg64::seed_from_u64(seed),
            fault,
            clock,
            disk: Disk::new(seed),
            running: None,
            network,
            links,
            nameserver,
            producer: Arc::default(),
            consumer: Arc::default(),
            config: Config::new(settings).expect("sound settings"),
            crashes: 0,
        };
        world.start();
        world
    }

    pub fn run(mut self) -> Report {
        for _ in 0..STEPS {
            self.step();
        }
        self.settle();
        self.check();
        // Once more without power: what was acknowledged, and what was shown, is there.
        self.crash(true);
        self.consumer.lock().unwrap().next.clear();
        self.settle();
        self.check();
        let (producer, consumer) = (self.producer.lock().unwrap(), self.consumer.lock().unwrap());
        Report {
            acknowledged: producer.acknowledged.len() as u64,
            sent: producer.sent,
            seen: consumer.seen.len() as u64,
            crashes: self.crashes,
            disk_operations: self.disk.operations(),
        }
    }

    fn start(&mut self) {
        let files: Arc<dyn Files> = match self.fault {
            Fault::WritesLater => Arc::new(Eager(self.disk.clone())),
            Fault::FlushesLie => {
                self.disk.set_flushes_lie(true);
                Arc::new(self.disk.clone())
            }
            Fault::None => Arc::new(self.disk.clone()),
        };
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let mut running = Broker::open(files, clock, &self.config).expect("a log that was cut opens");
        while running.broker.applied.get() < running.prepared {
            running.writer.step();
            running.housekeeper.step();
            running.dispatcher.step().expect("what was appended can be applied");
        }
        let service = ClientService::new(Arc::clone(&running.broker));
        self.network.bind(BROKER, Listener::Broker, Arc::new(service));
        let connector: Arc<dyn Connector> = Arc::clone(&self.network) as _;
        let registrar = Registrar::new(Arc::clone(&running.broker), connector, vec![NAMESERVER.to_owned()]);
        self.running = Some((running, registrar));
    }

    /// The broker ends in the middle of everything, and another one starts on what is left.
    fn crash(&mut self, power: bool) {
        self.crashes += 1;
        self.network.unbind(BROKER);
        self.links.lock().unwrap().clear();
        self.disk = if power { self.disk.crash() } else { self.disk.kill() };
        self.running = None;
        self.start();
    }

    fn step(&mut self) {
        match self.random.random_range(0..1000) {
            0..250 => self.write(),
            250..400 => {
                self.dispatch();
            }
            400..430 => self.housekeep(),
            430..480 => {
                self.read();
            }
            480..760 => {
                self.move_bytes();
            }
            760..860 => self.send(),
            860..900 => self.connect(),
            900..940 => self.clock.advance(Duration::from_micros(self.random.random_range(0..20_000))),
            940..980 => self.tick(),
            980..984 => self.clock.set_wall_ms(1_700_000_000_000 + self.random.random_range(0..10_000_000)),
            984..990 => self.cut(),
            990..993 => self.crash(true),
            993..995 => self.crash(false),
            995..997 => self.disk.fail_flush(self.random.random_range(1..4)),
            997..999 => self.disk.fail_write(self.random.random_range(1..4)),
            _ => self.clock.advance(Duration::from_secs(self.random.random_range(1..40))),
        }
    }

    fn write(&mut self) {
        let (running, _) = self.running.as_mut().expect("a broker runs");
        if running.writer.step() == Step::Stopped {
            // It has said what it could say about it; an operator starts it again.
            self.crash(false);
        }
    }

    fn dispatch(&mut self) -> bool {
        let (running, _) = self.running.as_mut().expect("a broker runs");
        running.dispatcher.step().expect("what was appended can be applied")
    }

    fn housekeep(&mut self) {
        let (running, _) = self.running.as_mut().expect("a broker runs");
        running.housekeeper.step();
        running.archivist.step();
    }

    fn read(&mut self) -> bool {
        let (running, _) = self.running.as_mut().expect("a broker runs");
        let broker = &running.broker;
        broker.readers.step(broker)
    }

    fn tick(&mut self) {
        let (running, registrar) = self.running.as_ref().expect("a broker runs");
        running.broker.tick();
        registrar.tick();
        // A log that has stopped takes no offsets; they are lost with the process, as commits may be.
        running.broker.commit_offsets().ok();
        self.nameserver.tick(self.clock.monotonic());
    }

    fn send(&mut self) {
        self.producer.lock().unwrap().allowance += self.random.random_range(1..6);
    }

    fn connect(&mut self) {
        let (mut producer, mut consumer) = (self.producer.lock().unwrap(), self.consumer.lock().unwrap());
        let missing = (!producer.connected, !consumer.connected);
        (producer.connected, consumer.connected) = (true, true);
        drop((producer, consumer));
        if missing.0 {
            self.network.connect(BROKER, Box::new(ProducerSession(Arc::clone(&self.producer))));
        }
        if missing.1 {
            self.network.connect(BROKER, Box::new(ConsumerSession::new(Arc::clone(&self.consumer))));
        }
    }

    fn move_bytes(&mut self) -> bool {
        let mut links = std::mem::take(&mut *self.links.lock().unwrap());
        links.retain(|link| !link.is_closed());
        let mut worked = false;
        if !links.is_empty() {
            let link = self.random.random_range(0..links.len());
            let to = if self.random.random() { Side::Server } else { Side::Client };
            let bytes = self.random.random_range(1..8192);
            worked = links[link].step(to, bytes, &mut Context::from_waker(Waker::noop()));
        }
        // Stepping may have opened another link.
        links.append(&mut self.links.lock().unwrap());
        *self.links.lock().unwrap() = links;
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
        self.rest();
    }

    /// Sends so many messages and lets everything come to rest; what the producer was told.
    pub fn send_and_rest(&mut self, messages: u32) -> (usize, Vec<i32>) {
        self.producer.lock().unwrap().allowance += messages;
        self.rest();
        let producer = self.producer.lock().unwrap();
        (producer.acknowledged.len(), producer.refused.clone())
    }

    /// The next flush of the log fails.
    pub fn fail_next_flush(&self) {
        self.disk.fail_flush(1);
    }

    /// The broker is started again on the disk as it is.
    pub fn restart(&mut self) {
        self.crash(false);
    }

    /// How many messages the consumer has seen.
    pub fn seen(&self) -> usize {
        self.consumer.lock().unwrap().seen.len()
    }

    /// The consumer begins anew, on a connection of its own.
    pub fn rewind(&mut self) {
        self.links.lock().unwrap().clear();
        let mut consumer = self.consumer.lock().unwrap();
        consumer.next.clear();
        consumer.seen.clear();
    }

    fn rest(&mut self) {
        for _ in 0..4 {
            self.clock.advance(Duration::from_secs(2));
            self.tick();
            self.connect();
            let mut idle = 0;
            while idle < 8 {
                let mut worked = false;
                let (running, _) = self.running.as_mut().expect("a broker runs");
                worked |= running.writer.step() == Step::Worked;
                running.housekeeper.step();
                worked |= running.archivist.step();
                worked |= self.dispatch();
                worked |= self.read();
                for _ in 0..16 {
                    worked |= self.move_bytes();
                }
                idle = if worked { 0 } else { idle + 1 };
            }
        }
    }

    /// What clients may rely on.
    fn check(&self) {
        let (producer, consumer) = (self.producer.lock().unwrap(), self.consumer.lock().unwrap());
        for (queue, offset, number) in &producer.acknowledged {
            let there = consumer.seen.get(&(*queue, *offset));
            assert_eq!(there, Some(number), "queue {queue} at {offset}: acknowledged, and not there");
        }
        let mut latest: BTreeMap<u32, u64> = BTreeMap::new();
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        for ((queue, offset), number) in &consumer.seen {
            let expected = next.entry(*queue).or_default();
            assert_eq!(offset, expected, "queue {queue} has a gap");
            *expected += 1;
            assert!(
                latest.insert(*queue, *number) < Some(*number),
                "queue {queue}: {number} is out of order"
            );
            assert!(*number < producer.sent, "{number} was never sent");
        }
        if !producer.acknowledged.is_empty() {
            self.check_route();
        }
    }

    /// The nameserver knows where the topic is.
    fn check_route(&self) {
        let route = self.nameserver.route_of(TOPIC).expect("a topic that was written to has a route");
        assert_eq!(route.broker_datas[0].broker_addrs[&0], BROKER);
        assert_eq!(route.queue_datas[0].write_queue_nums, i32::try_from(QUEUES).unwrap());
    }
}
