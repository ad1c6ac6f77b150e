//! `kill -9` in the middle of everything, again and again: what clients were told holds after each restart.
//!
//! The page cache survives the kill, so this proves little about the disk; the same promises are tested against a
//! disk that loses what was not flushed in `simulation.rs` and in the log's own tests. What it does prove is that
//! recovery, folding and the advertised offsets of a real process agree with what clients were told.
//!
//! Each start writes through another device; those that cannot be used here are skipped, with the reason, unless
//! `SKYLARK_DEVICES=required`.
//!
//! `SKYLARK_CRASH_ROUNDS=100 cargo test -p skylark-broker --test crash -- --nocapture` kills a hundred times.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[allow(unreachable_pub, reason = "the modules of a test export to nobody")]
mod crash {
    pub mod checker;
    pub mod clients;
}

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crash::checker::{Log, There, check, check_returned, read_again, read_on, waiting};
use crash::clients::{
    COMMITTING_GROUP, Committed, LEVELS, QUEUES, RETRY_TOPIC, RETURNING_GROUP, Returned, TOPIC, Told, commit,
    produce, send_back,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_protocol::code::RequestCode;
use skylark_protocol::outgoing::Value;
use skylark_storage::device::{DeviceChoice, DeviceKind, Directory};
use support::raw::{Answer, Raw, pull_fields, send_fields};
use support::server::Server;

const ROUNDS: u32 = 10;
const PRODUCERS: u32 = 8;
const ACKNOWLEDGED_MIN: u64 = 1000;
const IN_FLIGHT_MIN: usize = 64;
/// A round takes so long at least, so that offsets which were committed in it have to be durable.
const ROUND_MIN: Duration = Duration::from_millis(1200);
/// A commit that was answered so long before the kill is durable: 200 ms until the log is told, and then a flush on a
/// busy machine.
const COMMIT_DURABLE: Duration = Duration::from_millis(900);
/// A hang, not a slow machine, is what this bounds.
const DELIVERED_WITHIN: Duration = Duration::from_secs(30);
/// Who is moved.
const MOVED_GROUP: &str = "moved";

/// What the broker was told, and said, over all rounds.
#[derive(Default)]
struct History {
    told: Vec<Told>,
    log: Log,
    retries: Vec<There>,
    returned: Returned,
    /// The lowest and the highest offset at which the committing group may be.
    committed: (u64, u64),
    /// Where the moved group was sent.
    moved_to: Option<u64>,
    minima: BTreeMap<u32, u64>,
}

fn call(connection: &mut Raw, code: RequestCode, fields: &[(&str, Value<'_>)]) -> Answer {
    connection.call(code, fields, &[]).expect("the broker answers")
}

fn offset_of(connection: &mut Raw, group: &str) -> Option<u64> {
    let fields = [
        ("consumerGroup", Value::Text(group)),
        ("topic", Value::Text(TOPIC)),
        ("queueId", Value::Number(0)),
        ("setZeroIfNotFound", Value::Flag(false)),
    ];
    let answer = call(connection, RequestCode::QUERY_CONSUMER_OFFSET, &fields);
    (answer.code == 0).then(|| answer.number("offset"))
}

impl History {
    /// Lets clients work until the broker is killed in the middle of it.
    fn round(&mut self, server: &mut Server, random: &mut Pcg64) {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let address = server.broker();
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let (acknowledged, stop) = (Arc::clone(&acknowledged), Arc::clone(&stop));
                let first = self.told[producer as usize].sent;
                thread::spawn(move || produce(address, producer, first, &acknowledged, &stop))
            })
            .collect();
        let from = self.log.get(&1).map_or(0, Vec::len) as u64;
        let returner = thread::spawn(move || send_back(address, 1, from));
        let highest = self.committed.1;
        let committer = thread::spawn(move || commit(address, highest));
        let wanted = ACKNOWLEDGED_MIN + random.random_range(0..1000);
        let least = Instant::now() + ROUND_MIN + Duration::from_millis(random.random_range(0..300));
        let deadline = Instant::now() + Duration::from_secs(120);
        while acknowledged.load(Ordering::Relaxed) < wanted || Instant::now() < least {
            assert!(Instant::now() < deadline, "acknowledgements stopped\n{}", server.transcript());
            thread::sleep(Duration::from_millis(1));
        }
        let killed_at = Instant::now();
        server.kill();
        let mut in_flight = 0;
        for (producer, handle) in producers.into_iter().enumerate() {
            let told = handle.join().expect("a producer saw something impossible");
            in_flight += told.in_flight;
            self.told[producer].sent = told.sent;
            self.told[producer].acknowledged.extend(told.acknowledged);
            self.told[producer].due_ms.extend(told.due_ms);
        }
        assert!(in_flight >= IN_FLIGHT_MIN, "only {in_flight} were under way");
        let Returned { acknowledged, unknown } = returner.join().expect("what is sent back can be");
        self.returned.acknowledged.extend(acknowledged);
        self.returned.unknown.extend(unknown);
        let Committed { sent, answered } = committer.join().expect("commits are answered");
        let durable = answered.iter().rev().find(|(_, at)| *at + COMMIT_DURABLE <= killed_at);
        self.committed = (durable.map_or(self.committed.0, |(offset, _)| *offset), sent);
    }

    /// Looks at what a restart has left.
    fn check(&mut self, connection: &mut Raw, is_at_rest: bool) {
        for queue in 0..QUEUES {
            read_on(connection, TOPIC, queue, self.log.entry(queue).or_default());
        }
        check(&self.log, &self.told, is_at_rest);
        read_on(connection, RETRY_TOPIC, 0, &mut self.retries);
        check_returned(&self.retries, &self.returned, is_at_rest);
    }

    /// Waits until everything that is delayed has been delivered, but not for ever.
    fn rest(&mut self, connection: &mut Raw) {
        // What is sent back waits for no longer than the longest level.
        thread::sleep(Duration::from_secs(4));
        let deadline = Instant::now() + DELIVERED_WITHIN;
        loop {
            self.check(connection, false);
            let waiting = waiting(&self.log, &self.told);
            if waiting.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{} messages are not delivered: {waiting:?}", waiting.len());
            println!("{} messages are still to be delivered", waiting.len());
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn check_offsets(&mut self, connection: &mut Raw, random: &mut Pcg64) {
        let (lowest, highest) = self.committed;
        let committed = offset_of(connection, COMMITTING_GROUP).unwrap_or(0);
        assert!(
            (lowest..=highest).contains(&committed),
            "{committed} is committed; {lowest} was long before the kill, and {highest} is the last"
        );
        self.committed.0 = committed;
        let pull = pull_fields(MOVED_GROUP, TOPIC, 0, 0);
        if let Some(offset) = self.moved_to {
            assert_eq!(offset_of(connection, MOVED_GROUP), Some(offset), "a reset survives a restart");
            let answer = call(connection, RequestCode::PULL_MESSAGE, &pull);
            assert_eq!((answer.code, answer.number("nextBeginOffset")), (21, offset), "{}", answer.remark);
        }
        // Below the minimum it could not be moved.
        let end = self.log[&0].len() as u64;
        let offset = random.random_range(end - end.min(100)..=end);
        let fields = [
            ("group", Value::Text(MOVED_GROUP)),
            ("topic", Value::Text(TOPIC)),
            ("queueId", Value::Number(0)),
            ("offset", offset.into()),
            ("timestamp", Value::Number(-1)),
            ("isForce", Value::Flag(true)),
        ];
        let answer = call(connection, RequestCode::INVOKE_BROKER_TO_RESET_OFFSET, &fields);
        assert_eq!(answer.code, 0, "{}", answer.remark);
        self.moved_to = Some(offset);
    }

    /// Everything that is left is what it was, and what is gone stays gone.
    fn check_minima(&mut self, connection: &mut Raw) {
        let minima = read_again(connection, &self.log);
        for (queue, before) in std::mem::replace(&mut self.minima, minima) {
            assert!(self.minima[&queue] >= before, "queue {queue} began at {before}: {:?}", self.minima);
        }
    }
}

fn options(device: DeviceChoice, flush: &str) -> Vec<String> {
    let device = device.to_string();
    let options = ["--segment-bytes", "4194304", "--retention-bytes", "67108864", "--delay-levels", LEVELS];
    options.into_iter().chain(["--device", &device, "--flush", flush]).map(str::to_owned).collect()
}

/// What can be chosen here.
fn devices() -> Vec<DeviceChoice> {
    let required = std::env::var_os("SKYLARK_DEVICES").is_some_and(|devices| devices == "required");
    let temporary =
        tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the build directory is writable");
    let choices = DeviceKind::ALL.iter().map(|kind| DeviceChoice::Fixed(*kind)).filter(|choice| {
        let directory = Directory::open(temporary.path()).expect("it exists").with_device(*choice);
        match directory.check_device() {
            Ok(()) => true,
            Err(error) if required => panic!("{choice}: {error}"),
            Err(error) => {
                println!("{choice} is skipped: {error}");
                false
            }
        }
    });
    choices.chain([DeviceChoice::Auto]).collect()
}

#[test]
fn no_promise_is_broken_by_kills() {
    kill_again_and_again("durable");
}

#[test]
fn no_promise_is_broken_by_kills_where_written_is_enough() {
    kill_again_and_again("written");
}

fn kill_again_and_again(flush: &str) {
    let rounds: u32 = std::env::var("SKYLARK_CRASH_ROUNDS")
        .map_or(ROUNDS, |text| text.parse().expect("a number of rounds"));
    let seed: u64 =
        std::env::var("SKYLARK_SEED").map_or_else(|_| rand::random(), |text| text.parse().expect("a seed"));
    println!("SKYLARK_SEED={seed}");
    let mut random = Pcg64::seed_from_u64(seed);
    let devices = devices();
    let mut server = Server::start_with(&options(devices[0], flush));
    let told = (0..PRODUCERS).map(|_| Told::default()).collect();
    let mut history = History { told, ..History::default() };
    let mut connection = Raw::connect(server.broker()).expect("the broker listens");
    // A topic is made by the first send, and groups by the first pull.
    let first = send_fields(TOPIC, 0, "");
    let answer = connection.call(RequestCode::SEND_MESSAGE_V2, &first, &crash::clients::body(PRODUCERS, 0));
    assert_eq!(answer.expect("the broker answers").code, 0);
    for group in [RETURNING_GROUP, COMMITTING_GROUP, MOVED_GROUP] {
        assert_eq!(
            call(&mut connection, RequestCode::PULL_MESSAGE, &pull_fields(group, TOPIC, 0, 0)).code,
            0
        );
    }
    let mut first_acks = Vec::new();
    for round in 0..rounds {
        println!("round {round}");
        history.round(&mut server, &mut random);
        let begun = Instant::now();
        server.set_options(&options(devices[(round as usize + 1) % devices.len()], flush));
        server.restart();
        let mut connection = Raw::connect(server.broker()).expect("the broker listens");
        let probe = send_fields("probe", 0, "");
        let answer =
            connection.call(RequestCode::SEND_MESSAGE_V2, &probe, b"first").expect("the broker answers");
        assert_eq!(answer.code, 0, "{}", answer.remark);
        first_acks.push(begun.elapsed());
        history.check(&mut connection, false);
        history.check_offsets(&mut connection, &mut random);
        if round % 10 == 9 {
            history.check_minima(&mut connection);
        }
    }
    let mut connection = Raw::connect(server.broker()).expect("the broker listens");
    history.rest(&mut connection);
    history.check(&mut connection, true);
    history.check_minima(&mut connection);
    first_acks.sort();
    let acknowledged: usize = history.told.iter().map(|told| told.acknowledged.len()).sum();
    println!(
        "{rounds} kills, {acknowledged} acknowledged, {} sent back, queues begin at {:?}, restart to first \
         acknowledgement: median {:?}, max {:?}",
        history.returned.acknowledged.len(),
        history.minima.values().collect::<Vec<_>>(),
        first_acks[first_acks.len() / 2],
        first_acks[first_acks.len() - 1],
    );
}

#[test]
fn the_checker_notices_what_is_lost_swapped_repeated_or_early() {
    let there = |sequence, stored_at| There { name: (0, sequence), stored_at };
    let told = || {
        let acknowledged = vec![(0, Some(0), 0), (0, Some(1), 1), (0, None, 7)];
        vec![Told { acknowledged, sent: 8, due_ms: [(7, 50)].into(), in_flight: 0 }]
    };
    let log = |messages: &[There]| Log::from([(0, messages.to_vec())]);
    let delivered = there(7, 60);
    check(&log(&[there(0, 0), there(1, 0), delivered]), &told(), true);
    let broken = [
        &[there(0, 0), delivered][..],
        &[there(1, 0), there(0, 0), delivered],
        &[there(0, 0), there(1, 0), there(8, 0), delivered],
        &[there(0, 0), there(1, 0)],
        &[there(0, 0), there(1, 0), delivered, delivered],
        &[there(0, 0), there(1, 0), there(7, 40)],
    ];
    for broken in broken {
        let caught = std::panic::catch_unwind(|| check(&log(broken), &told(), true));
        assert!(caught.is_err(), "{broken:?} passed");
    }
    let returned = || Returned { acknowledged: vec![(0, 1)], unknown: vec![(0, 2)] };
    check_returned(&[there(1, 0)], &returned(), true);
    check_returned(&[there(1, 0), there(2, 0)], &returned(), true);
    for broken in [&[][..], &[there(1, 0), there(1, 0)], &[there(1, 0), there(3, 0)]] {
        let caught = std::panic::catch_unwind(|| check_returned(broken, &returned(), true));
        assert!(caught.is_err(), "{broken:?} passed");
    }
}
