//! A broker on a simulated disk and clock, with one connection, moved by hand.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use skylark_broker::broker::{Broker, Running};
use skylark_broker::config::{Config, Settings};
use skylark_broker::engine::Next;
use skylark_broker::session::ClientSession;
use skylark_protocol::code::RequestCode;
use skylark_protocol::frame::{self, Encoding, FRAME_BYTES_MAX};
use skylark_protocol::header::FLAG_ONEWAY;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::{Outgoing, Value};
use skylark_protocol::transport::{Listener, Outbox, Peer, Session};
use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::simulated::Disk;
use skylark_storage::device::{File, Files, Space};
use skylark_storage::{Clock, PhysicalOffset, Step};

use crate::support::layer::{Layer, Layered};
use crate::support::raw::{Answer, pull_fields, request, send_fields, topic_fields};

pub const START_MS: u64 = 1_700_000_000_000;

/// A message, as a consumer gets it.
#[derive(Clone, Debug)]
pub struct Pulled {
    pub queue_offset: u64,
    pub physical_offset: u64,
    pub stored_at: u64,
    pub born_at: i64,
    pub reconsume_times: i32,
    pub flag: i32,
    pub sys_flag: i32,
    pub prepared_transaction_offset: i64,
    pub body: Vec<u8>,
    pub properties: BTreeMap<String, String>,
    pub id: String,
}

pub struct World {
    pub clock: SimulatedClock,
    pub disk: Disk,
    /// What is wrong with the disk, beyond what it does by itself. Stays so through restarts.
    pub broken: Broken,
    pub running: Running,
    pub config: Config,
    /// See [`World::look_at_most`].
    look_max: Option<usize>,
    session: ClientSession,
    out: Outbox,
    next_opaque: i32,
}

impl World {
    pub fn new(seed: u64, settings: Settings) -> Self {
        let clock = SimulatedClock::new(START_MS);
        let disk = Disk::new(seed);
        let broken = Broken::default();
        let config = Config::new(settings).expect("sound settings");
        let running = open(&disk, &broken, &clock, &config);
        let session = connect(&running);
        let out = Outbox::default();
        Self { clock, disk, broken, running, config, look_max: None, session, out, next_opaque: 0 }
    }

    /// The process ends in the middle of everything, and another one starts on what is left.
    pub fn crash(&mut self, power: bool) {
        self.restart_on(if power { self.disk.crash() } else { self.disk.kill() });
    }

    /// The process ends, and another one starts on this disk.
    pub fn restart_on(&mut self, disk: Disk) {
        self.disk = disk;
        self.running = open(&self.disk, &self.broken, &self.clock, &self.config);
        if let Some(timers) = self.look_max {
            self.running.broker.timers.look_at_most(timers);
        }
        self.session = connect(&self.running);
        self.out = Outbox::default();
    }

    /// Lets the engine, and those of later starts, look at no more timers together.
    pub fn look_at_most(&mut self, timers: usize) {
        self.look_max = Some(timers);
        self.running.broker.timers.look_at_most(timers);
    }

    /// Another start, with other settings.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.config = Config::new(settings).expect("sound settings");
        self.crash(false);
    }

    pub fn broker(&self) -> &Broker {
        &self.running.broker
    }

    /// Lets everything but timers come to rest.
    pub fn settle(&mut self) {
        let mut worked = true;
        while worked {
            worked = self.running.writer.step() == Step::Worked;
            self.running.housekeeper.step();
            worked |= self.running.dispatcher.step().expect("what was appended can be applied");
            worked |= self.running.broker.readers.step(&self.running.broker);
            worked |= self.running.archivist.step();
        }
    }

    /// Lets everything come to rest that can at this moment of the clock; says what timers wait for then.
    pub fn fire(&mut self) -> Next {
        loop {
            self.settle();
            match self.running.broker.timers.step(&self.running.broker) {
                Next::Now => {}
                Next::Applied(end) if self.running.broker.log.frontiers().appended_end >= end => {}
                next => return next,
            }
        }
    }

    pub fn advance(&mut self, ms: u64) -> Next {
        self.clock.advance(Duration::from_millis(ms));
        self.fire()
    }

    /// Hands a request in; what it is answered, once it is.
    pub fn call(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> Answer {
        let opaque = self.submit(code, fields, body);
        let answer = self.answers().pop().expect("a request is answered");
        assert_eq!(answer.opaque, opaque);
        answer
    }

    /// Hands a request in, and returns its number.
    pub fn submit(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> i32 {
        let opaque = self.next_opaque;
        self.next_opaque += 1;
        let bytes = request(code, opaque, fields, body);
        let (frame, _) = frame::decode(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
        self.session.receive(frame, &mut self.out).unwrap();
        opaque
    }

    /// Hands in a request that is not to be answered.
    pub fn one_way(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)]) {
        let mut bytes = BytesMut::new();
        let request = Outgoing {
            encoding: Encoding::Json,
            code: code.0,
            opaque: self.next_opaque,
            flag: FLAG_ONEWAY,
            remark: None,
            fields,
        };
        request.write(0, &mut bytes);
        self.next_opaque += 1;
        let (frame, _) = frame::decode(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
        self.session.receive(frame, &mut self.out).unwrap();
    }

    /// Lets the session write what it can by now.
    pub fn poll(&mut self) {
        self.session.poll(&mut Context::from_waker(Waker::noop()), &mut self.out).unwrap();
    }

    /// What is answered by when everything has come to rest.
    pub fn answers(&mut self) -> Vec<Answer> {
        for _ in 0..8 {
            self.poll();
            self.settle();
        }
        self.written()
    }

    /// What has been answered since the last look.
    pub fn written(&mut self) -> Vec<Answer> {
        let mut slices = [IoSlice::new(&[]); 256];
        let mut bytes = Vec::new();
        while !self.out.is_empty() {
            let filled = self.out.slices(&mut slices);
            let piece: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
            slices = [IoSlice::new(&[]); 256];
            self.out.advance(piece.len());
            bytes.extend(piece);
        }
        let mut rest = &*bytes;
        let mut answers = Vec::new();
        while let Some((frame, length)) = frame::decode(rest, FRAME_BYTES_MAX).unwrap() {
            let header = frame.parse().unwrap();
            let fields = header.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
            answers.push(Answer {
                code: header.code,
                opaque: header.opaque,
                remark: header.remark.as_deref().unwrap_or_default().to_owned(),
                fields: fields.collect(),
                body: frame.body.to_vec(),
                is_response: header.is_response(),
            });
            rest = &rest[length..];
        }
        answers
    }

    /// Makes or changes a topic, and says what is answered.
    pub fn put_topic(&mut self, topic: &str, queues: u32, attributes: &str) -> Answer {
        let fields = topic_fields(topic, queues, attributes);
        self.submit(RequestCode::UPDATE_AND_CREATE_TOPIC, &fields, b"");
        self.settle();
        // There is no nameserver to hear of it.
        let broker = self.broker();
        broker.registered.publish(broker.applied.get());
        self.answers().pop().expect("a request is answered")
    }

    /// Sends a message to queue 0.
    pub fn send(&mut self, topic: &str, properties: &str, body: &[u8]) -> Answer {
        self.call(RequestCode::SEND_MESSAGE_V2, &send_fields(topic, 0, properties), body)
    }

    /// Every message of a queue that is still there.
    pub fn pulled(&mut self, topic: &str, queue: u32) -> Vec<Pulled> {
        let mut pulled: Vec<Pulled> = Vec::new();
        let fields = [("topic", Value::Text(topic)), ("queueId", queue.into())];
        let min = self.call(RequestCode::GET_MIN_OFFSET, &fields, &[]).number("offset");
        loop {
            let offset = pulled.last().map_or(min, |last| last.queue_offset + 1);
            let answer = self.call(RequestCode::PULL_MESSAGE, &pull_fields("CG", topic, queue, offset), &[]);
            if answer.code != 0 {
                return pulled;
            }
            for message in StoredMessage::parse_all(&answer.body) {
                pulled.push(Pulled::from(&message.unwrap()));
            }
        }
    }

    /// Where the log ends.
    pub fn end(&self) -> PhysicalOffset {
        self.broker().log.frontiers().appended_end
    }

    pub fn now_ms(&self) -> u64 {
        self.clock.wall_ms()
    }
}

impl From<&StoredMessage<'_>> for Pulled {
    fn from(message: &StoredMessage<'_>) -> Self {
        assert!(message.body_is_intact());
        let properties = message.properties().iter();
        Self {
            queue_offset: message.queue_offset,
            physical_offset: message.physical_offset,
            stored_at: message.store_timestamp,
            born_at: message.born_timestamp,
            reconsume_times: message.reconsume_times,
            flag: message.flag,
            sys_flag: message.sys_flag,
            prepared_transaction_offset: message.prepared_transaction_offset,
            body: message.body.to_vec(),
            properties: properties.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            id: message.offset_message_id().to_string(),
        }
    }
}

/// Which files cannot be created, as where a directory is broken or inodes lack, and what the disk says of its space.
#[derive(Clone, Default)]
pub struct Broken(Arc<Mutex<Faults>>);

#[derive(Default)]
struct Faults {
    uncreatable: Vec<&'static str>,
    space: Option<Space>,
}

impl Broken {
    /// From now on no file can be created whose name contains one of these.
    pub fn set(&self, uncreatable: &[&'static str]) {
        self.0.lock().unwrap().uncreatable = uncreatable.to_vec();
    }

    /// What the disk says of its space, instead of what is true.
    pub fn set_space(&self, space: Option<Space>) {
        self.0.lock().unwrap().space = space;
    }
}

struct BreakableFiles {
    disk: Disk,
    broken: Broken,
}

impl Layer for BreakableFiles {
    fn below(&self) -> &dyn Files {
        &self.disk
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        if self.broken.0.lock().unwrap().uncreatable.iter().any(|part| name.contains(part)) {
            return Err(io::Error::other(format!("cannot create {name}: broken on purpose")));
        }
        self.disk.create(name)
    }

    fn space(&self) -> io::Result<Space> {
        self.broken.0.lock().unwrap().space.map_or_else(|| self.disk.space(), Ok)
    }
}

fn open(disk: &Disk, broken: &Broken, clock: &SimulatedClock, config: &Config) -> Running {
    let files: Arc<dyn Files> =
        Arc::new(Layered(BreakableFiles { disk: disk.clone(), broken: broken.clone() }));
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let mut running = Broker::open(files, clock, config).expect("a log that was cut opens");
    while running.broker.applied.get() < running.prepared {
        running.writer.step();
        running.housekeeper.step();
        running.dispatcher.step().expect("what was appended can be applied");
    }
    running
}

fn connect(running: &Running) -> ClientSession {
    let address = "127.0.0.1:40000".parse().unwrap();
    let peer = Peer { listener: Listener::Broker, address, identity: None };
    ClientSession::new(Arc::clone(&running.broker), peer)
}

/// The properties of a message that asks for a delay level.
pub fn level(level: i32) -> String {
    format!("DELAY\u{1}{level}\u{2}")
}

/// The properties of a message that asks for a time in this way.
pub fn timer(way: &str, value: u64) -> String {
    format!("{way}\u{1}{value}\u{2}")
}

/// A property that is the unique key.
pub fn key(key: &str) -> String {
    format!("UNIQ_KEY\u{1}{key}\u{2}")
}
