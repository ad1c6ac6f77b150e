//! `kill -9` in the middle of producers, again and again: what was acknowledged is there after each restart.
//!
//! The page cache survives the kill, so this proves little about the disk; the same promise is tested against a
//! disk that loses what was not flushed in `simulation.rs` and in the log's own tests. What it does prove is that
//! recovery, folding and the advertised offsets of a real process agree with what clients were told.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use support::raw::{Raw, pull_fields, send_fields};
use support::server::Server;

const PRODUCERS: u32 = 8;
const QUEUES: u32 = 4;
/// Requests each producer keeps under way.
const WINDOW: usize = 16;
const ACKNOWLEDGED_MIN: u64 = 1000;
const IN_FLIGHT_MIN: usize = 64;
const TOPIC: &str = "crash";

/// What one producer was told.
#[derive(Default)]
struct Told {
    /// Acknowledged: queue and queue offset, and which message of this producer that is.
    acknowledged: Vec<(u32, u64, u64)>,
    /// Messages it has sent, acknowledged or not.
    sent: u64,
    in_flight: usize,
}

/// The body of a producer's message: anyone can make it again from the two numbers.
fn body(producer: u32, sequence: u64) -> Vec<u8> {
    let mut random = Pcg64::seed_from_u64(u64::from(producer) << 40 | sequence);
    let mut body = format!("{producer} {sequence} ").into_bytes();
    let more = random.random_range(0..2048);
    body.extend((0..more).map(|_| random.random::<u8>()));
    body
}

/// Sends until the connection breaks.
fn produce(
    server: std::net::SocketAddr,
    producer: u32,
    first: u64,
    acknowledged: &AtomicU64,
    stop: &AtomicBool,
) -> Told {
    let mut told = Told { sent: first, ..Told::default() };
    let mut open: VecDeque<(i32, u32, u64)> = VecDeque::new();
    let Ok(mut connection) = Raw::connect(server) else { return told };
    'connection: while !stop.load(Ordering::Relaxed) {
        while open.len() < WINDOW {
            let queue = (producer + u32::try_from(told.sent % 2).unwrap_or(0)) % QUEUES;
            let fields = send_fields(TOPIC, queue, "");
            // Sent or not, from here on it may be in the log.
            let sequence = told.sent;
            told.sent += 1;
            let Ok(opaque) =
                connection.send(RequestCode::SEND_MESSAGE_V2, &fields, &body(producer, sequence))
            else {
                break 'connection;
            };
            open.push_back((opaque, queue, sequence));
        }
        let Ok(Some(answer)) = connection.receive() else { break };
        let place =
            open.iter().position(|(opaque, ..)| *opaque == answer.opaque).expect("an answer to a request");
        let (_, queue, sequence) = open.remove(place).expect("found above");
        assert_eq!(answer.code, 0, "a healthy broker refuses nothing: {}", answer.remark);
        assert_eq!(answer.number("queueId"), u64::from(queue));
        told.acknowledged.push((queue, answer.number("queueOffset"), sequence));
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    told.in_flight = open.len();
    told
}

/// What the broker has, by queue: (producer, sequence) by offset. Grows with each look.
type Log = BTreeMap<u32, Vec<(u32, u64)>>;

/// Reads what is new in each queue, and checks every body.
fn read_on(connection: &mut Raw, log: &mut Log) {
    for queue in 0..QUEUES {
        let known = log.entry(queue).or_default();
        loop {
            let offset = known.len() as u64;
            let answer = connection
                .call(RequestCode::PULL_MESSAGE, &pull_fields("checker", TOPIC, queue, offset), &[])
                .expect("the broker answers");
            if answer.code == 19 {
                break;
            }
            assert_eq!(answer.code, 0, "pulling {queue} from {offset}: {}", answer.remark);
            for message in StoredMessage::parse_all(&answer.body) {
                let message = message.expect("a message");
                assert_eq!(message.queue_offset, known.len() as u64, "offsets are dense");
                let text = message.body.split(|byte| *byte == b' ').take(2);
                let mut numbers = text.map(|part| std::str::from_utf8(part).unwrap().parse::<u64>().unwrap());
                let (producer, sequence) = (numbers.next().unwrap(), numbers.next().unwrap());
                let producer = u32::try_from(producer).unwrap();
                assert!(
                    message.body == body(producer, sequence),
                    "the body of {producer}:{sequence} was altered"
                );
                known.push((producer, sequence));
            }
            assert_eq!(answer.number("nextBeginOffset"), known.len() as u64);
        }
    }
}

/// What clients may rely on, given what they were told and what is there.
fn check(log: &Log, told: &[Told]) {
    for (producer, told) in (0..).zip(told) {
        for (queue, offset, sequence) in &told.acknowledged {
            let there = log[queue].get(usize::try_from(*offset).unwrap());
            assert_eq!(
                there,
                Some(&(producer, *sequence)),
                "queue {queue} at {offset}: acknowledged and not there"
            );
        }
    }
    for (queue, messages) in log {
        let mut latest = BTreeMap::new();
        for (producer, sequence) in messages {
            let before = latest.insert(producer, sequence);
            assert!(before < Some(sequence), "queue {queue}: {producer}:{sequence} came behind {before:?}");
            let sent = told.get(*producer as usize).map_or(u64::MAX, |told| told.sent);
            assert!(*sequence < sent, "queue {queue} holds {producer}:{sequence}, which was never sent");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_fifty_kills() {
    let rounds: u32 =
        std::env::var("SKYLARK_CRASH_ROUNDS").map_or(50, |text| text.parse().expect("a number of rounds"));
    let seed: u64 =
        std::env::var("SKYLARK_SEED").map_or_else(|_| rand::random(), |text| text.parse().expect("a seed"));
    println!("SKYLARK_SEED={seed}");
    let mut random = Pcg64::seed_from_u64(seed);
    let mut server = Server::start_with(&["--segment-bytes", "4194304"]);
    let mut told: Vec<Told> = (0..PRODUCERS).map(|_| Told::default()).collect();
    let mut log = Log::new();
    let mut first_acks = Vec::new();
    for round in 0..rounds {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let address = server.broker();
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let (acknowledged, stop) = (Arc::clone(&acknowledged), Arc::clone(&stop));
                let first = told[producer as usize].sent;
                thread::spawn(move || produce(address, producer, first, &acknowledged, &stop))
            })
            .collect();
        let wanted = ACKNOWLEDGED_MIN + random.random_range(0..1000);
        let deadline = Instant::now() + Duration::from_secs(120);
        while acknowledged.load(Ordering::Relaxed) < wanted {
            assert!(
                Instant::now() < deadline,
                "round {round}: acknowledgements stopped\n{}",
                server.transcript()
            );
            thread::yield_now();
        }
        server.kill();
        let mut in_flight = 0;
        for (producer, handle) in producers.into_iter().enumerate() {
            let round_told = handle.join().expect("a producer saw something impossible");
            in_flight += round_told.in_flight;
            told[producer].sent = round_told.sent;
            told[producer].acknowledged.extend(round_told.acknowledged);
        }
        assert!(in_flight >= IN_FLIGHT_MIN, "round {round}: only {in_flight} were under way");

        let begun = Instant::now();
        server.restart();
        let mut connection = Raw::connect(server.broker()).expect("the broker listens");
        let probe = send_fields("probe", 0, "");
        let answer =
            connection.call(RequestCode::SEND_MESSAGE_V2, &probe, b"first").expect("the broker answers");
        assert_eq!(answer.code, 0, "{}", answer.remark);
        first_acks.push(begun.elapsed());
        read_on(&mut connection, &mut log);
        check(&log, &told);
    }
    first_acks.sort();
    let acknowledged: usize = told.iter().map(|told| told.acknowledged.len()).sum();
    println!(
        "{rounds} kills, {acknowledged} acknowledged, restart to first acknowledgement: median {:?}, max {:?}",
        first_acks[first_acks.len() / 2],
        first_acks[first_acks.len() - 1],
    );
}

#[test]
fn the_checker_notices_a_lost_message_and_a_swapped_pair() {
    let told = || vec![Told { acknowledged: vec![(0, 0, 0), (0, 1, 1)], sent: 2, in_flight: 0 }];
    let log = |messages: &[(u32, u64)]| Log::from([(0, messages.to_vec())]);
    check(&log(&[(0, 0), (0, 1)]), &told());
    for broken in [&[(0, 0)][..], &[(0, 1), (0, 0)], &[(0, 0), (0, 1), (0, 2)]] {
        let caught = std::panic::catch_unwind(|| check(&log(broken), &told()));
        assert!(caught.is_err(), "{broken:?} passed");
    }
}
