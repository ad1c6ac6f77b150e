//! A broker and one client's connection to it, driven by hand: nothing runs but what a call steps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use skylark_broker::broker::{Broker, Running};
use skylark_broker::config::{Config, Settings};
use skylark_broker::session::ClientService;
use skylark_protocol::code::RequestCode;
use skylark_protocol::frame::{self, FRAME_BYTES_MAX};
use skylark_protocol::outgoing::Value;
use skylark_protocol::transport::{Listener, Outbox, Peer, Service, Session};
use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::simulated::Disk;

use crate::support::raw::{Answer, pull_fields, request, send_fields};

/// What the wall says when a bench begins.
pub(crate) const NOW_MS: u64 = 1_700_000_000_000;
/// Rounds after which an answer that has not come never will.
const ROUNDS_MAX: u32 = 1000;

pub(crate) struct Bench {
    running: Running,
    clock: SimulatedClock,
    disk: Disk,
    session: Box<dyn Session>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let clock = SimulatedClock::new(NOW_MS);
        let config = Config::new(Settings::default()).expect("sound settings");
        let disk = Disk::new(1);
        let mut running = Broker::open(Arc::new(disk.clone()), Arc::new(clock.clone()), &config).unwrap();
        while running.broker.applied.get() < running.prepared {
            step(&mut running);
        }
        let address: SocketAddr = "10.0.0.1:5".parse().unwrap();
        let peer = Peer { listener: Listener::Broker, address, identity: None };
        let session = ClientService::new(Arc::clone(&running.broker)).accept(peer);
        Self { running, clock, disk, session }
    }

    /// Time goes by.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        self.running.broker.tick();
    }

    /// So many bytes are left on the disk, and the archivist has noticed.
    pub(crate) fn leave_space(&mut self, bytes: Option<u64>) {
        self.disk.set_space_left(bytes);
        self.advance(Duration::from_secs(2));
        self.running.archivist.step();
    }

    /// Sends a request and lets everything run until its answer is there.
    pub(crate) fn call(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> Answer {
        let bytes = request(code, 1, fields, body);
        let (frame, _) = frame::decode(&bytes, FRAME_BYTES_MAX).unwrap().unwrap();
        let mut out = Outbox::default();
        self.session.receive(frame, &mut out).unwrap();
        for _ in 0..ROUNDS_MAX {
            self.session.poll(&mut Context::from_waker(Waker::noop()), &mut out).unwrap();
            if let Some(answer) = answer(&mut out) {
                return answer;
            }
            step(&mut self.running);
        }
        panic!("{code} is never answered");
    }

    /// The same for what has to go well.
    pub(crate) fn ok(&mut self, code: RequestCode, fields: &[(&str, Value<'_>)], body: &[u8]) -> Answer {
        let answer = self.call(code, fields, body);
        assert_eq!(answer.code, 0, "{code}: {}", answer.remark);
        answer
    }

    pub(crate) fn send(&mut self, topic: &str, queue: u32) {
        self.ok(RequestCode::SEND_MESSAGE_V2, &send_fields(topic, queue, ""), b"body");
    }

    pub(crate) fn pull(&mut self, group: &str, topic: &str, queue: u32, offset: u64) {
        self.ok(RequestCode::PULL_MESSAGE, &pull_fields(group, topic, queue, offset), b"");
    }

    pub(crate) fn commit(&mut self, group: &str, topic: &str, queue: u32, offset: u64) {
        let fields = [
            ("consumerGroup", Value::Text(group)),
            ("topic", Value::Text(topic)),
            ("queueId", queue.into()),
            ("commitOffset", offset.into()),
        ];
        self.ok(RequestCode::UPDATE_CONSUMER_OFFSET, &fields, b"");
    }
}

fn step(running: &mut Running) {
    running.writer.step();
    running.housekeeper.step();
    running.dispatcher.step().unwrap();
    let broker = &running.broker;
    broker.readers.step(broker);
    // In place of the registrar: there is no nameserver to tell.
    broker.registered.publish(broker.applied.get());
}

/// The answer among what goes out; requests of the broker's are passed over.
fn answer(out: &mut Outbox) -> Option<Answer> {
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let count = out.slices(&mut slices);
        let before = bytes.len();
        slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
        let written = bytes.len() - before;
        out.advance(written);
    }
    let mut rest = &bytes[..];
    while let Some((frame, length)) = frame::decode(rest, FRAME_BYTES_MAX).unwrap() {
        let header = frame.parse().unwrap();
        let fields = header.fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = Answer {
            code: header.code,
            opaque: header.opaque,
            remark: header.remark.as_deref().unwrap_or_default().to_owned(),
            fields: fields.collect(),
            body: frame.body.to_vec(),
            is_response: header.is_response(),
        };
        if answer.is_response {
            return Some(answer);
        }
        rest = &rest[length..];
    }
    None
}
