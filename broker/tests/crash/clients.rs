//! Clients of a broker that is going to be killed: each works until its connection breaks, and says what it was told.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;

use crate::support::raw::{Raw, pull_fields, send_fields};

pub const TOPIC: &str = "crash";
pub const QUEUES: u32 = 4;
/// Whose messages come back, and where to.
pub const RETURNING_GROUP: &str = "returning";
pub const RETRY_TOPIC: &str = "%RETRY%returning";
/// Who commits.
pub const COMMITTING_GROUP: &str = "committing";
/// Requests each producer keeps under way.
const WINDOW: usize = 16;
/// A producer's messages of a round behind which it slows down.
const HURRIED: u64 = 500;
/// The broker's levels, as it is told and in milliseconds.
pub const LEVELS: &str = "1s 2s";
const LEVELS_MS: [u64; 2] = [1000, 2000];
/// Every so many messages one is delayed.
const DELAYED_EVERY: u64 = 8;
/// Every so many messages one is sent back.
const RETURNED_EVERY: usize = 16;

/// A message, by its producer and its number there.
pub type Name = (u32, u64);

/// What one producer was told.
#[derive(Default)]
pub struct Told {
    /// Acknowledged: queue and queue offset, and which message of this producer that is. A delayed one's place is not
    /// known.
    pub acknowledged: Vec<(u32, Option<u64>, u64)>,
    /// Messages it has sent, acknowledged or not.
    pub sent: u64,
    /// Of the delayed ones, the earliest time at which they may be delivered, in milliseconds since 1970.
    pub due_ms: BTreeMap<u64, u64>,
    pub in_flight: usize,
}

/// The body of a producer's message: anyone can make it again from the two numbers.
pub fn body(producer: u32, sequence: u64) -> Vec<u8> {
    let mut random = Pcg64::seed_from_u64(u64::from(producer) << 40 | sequence);
    let mut body = format!("{producer} {sequence} ").into_bytes();
    let more = random.random_range(0..2048);
    body.extend((0..more).map(|_| random.random::<u8>()));
    body
}

/// Which message this is; checks that its body is its own.
pub fn name(message: &StoredMessage<'_>) -> Name {
    let text = message.body.split(|byte| *byte == b' ').take(2);
    let mut numbers = text.map(|part| std::str::from_utf8(part).unwrap().parse::<u64>().unwrap());
    let (producer, sequence) = (numbers.next().unwrap(), numbers.next().unwrap());
    let producer = u32::try_from(producer).unwrap();
    assert!(message.body == body(producer, sequence), "the body of {producer}:{sequence} was altered");
    (producer, sequence)
}

/// The delay level of a message, counted from 0.
pub fn level(sequence: u64) -> Option<usize> {
    (sequence % DELAYED_EVERY == DELAYED_EVERY - 1).then_some(usize::from(sequence / DELAYED_EVERY % 2 == 1))
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Sends until the connection breaks.
pub fn produce(
    server: SocketAddr,
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
            // Sent or not, from here on it may be in the log.
            let sequence = told.sent;
            told.sent += 1;
            let level = level(sequence);
            let properties = level.map(|level| format!("DELAY\u{1}{}\u{2}", level + 1)).unwrap_or_default();
            if let Some(level) = level {
                told.due_ms.insert(sequence, now_ms() + LEVELS_MS[level]);
            }
            let fields = send_fields(TOPIC, queue, &properties);
            let body = body(producer, sequence);
            let Ok(opaque) = connection.send(RequestCode::SEND_MESSAGE_V2, &fields, &body) else {
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
        let offset = level(sequence).is_none().then(|| answer.number("queueOffset"));
        told.acknowledged.push((queue, offset, sequence));
        acknowledged.fetch_add(1, Ordering::Relaxed);
        if told.sent - first > HURRIED {
            // More than is kept must not come before the checker has read it.
            thread::sleep(Duration::from_millis(1));
        }
    }
    told.in_flight = open.len();
    told
}

/// What came of sending messages back.
#[derive(Default)]
pub struct Returned {
    pub acknowledged: Vec<Name>,
    pub unknown: Vec<Name>,
}

/// Reads a queue and sends some of its messages back, until the connection breaks.
pub fn send_back(server: SocketAddr, queue: u32, from: u64) -> Returned {
    let mut returned = Returned::default();
    let mut next = from;
    let Ok(mut connection) = Raw::connect(server) else { return returned };
    loop {
        let fields = pull_fields(RETURNING_GROUP, TOPIC, queue, next);
        let Ok(answer) = connection.call(RequestCode::PULL_MESSAGE, &fields, &[]) else { return returned };
        if answer.code != 0 {
            // There is nothing new, or not here any more.
            next = answer.fields.get("nextBeginOffset").map_or(next, |next| next.parse().unwrap());
            thread::sleep(Duration::from_millis(2));
            continue;
        }
        for message in StoredMessage::parse_all(&answer.body).step_by(RETURNED_EVERY) {
            let message = message.expect("a message");
            let fields = [
                ("offset", message.physical_offset.into()),
                ("group", Value::Text(RETURNING_GROUP)),
                ("delayLevel", Value::Number(1)),
                ("unitMode", Value::Flag(false)),
            ];
            match connection.call(RequestCode::CONSUMER_SEND_MSG_BACK, &fields, &[]) {
                Ok(answer) if answer.code == 0 => returned.acknowledged.push(name(&message)),
                // It may have been trimmed since it was read.
                Ok(answer) => assert_eq!(answer.code, 1, "{}", answer.remark),
                Err(_) => {
                    returned.unknown.push(name(&message));
                    return returned;
                }
            }
        }
        next = answer.number("nextBeginOffset");
    }
}

/// What came of commits: each is one higher than the one before.
#[derive(Default)]
pub struct Committed {
    /// The last that was sent.
    pub sent: u64,
    /// Those that were answered, and when.
    pub answered: Vec<(u64, Instant)>,
}

/// Commits again and again, until the connection breaks.
pub fn commit(server: SocketAddr, from: u64) -> Committed {
    let mut committed = Committed { sent: from, answered: Vec::new() };
    let Ok(mut connection) = Raw::connect(server) else { return committed };
    loop {
        committed.sent += 1;
        let fields = [
            ("consumerGroup", Value::Text(COMMITTING_GROUP)),
            ("topic", Value::Text(TOPIC)),
            ("queueId", Value::Number(0)),
            ("commitOffset", committed.sent.into()),
        ];
        match connection.call(RequestCode::UPDATE_CONSUMER_OFFSET, &fields, &[]) {
            Ok(answer) => {
                assert_eq!(answer.code, 0, "{}", answer.remark);
                committed.answered.push((committed.sent, Instant::now()));
            }
            Err(_) => return committed,
        }
        thread::sleep(Duration::from_millis(2));
    }
}
