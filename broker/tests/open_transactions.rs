//! What a million open transactions cost: memory, a snapshot, a look at what is due; and how fast they are ended.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use skylark_broker::folds::halves::{HalfEnded, HalfPlace, HalvesEnded, Outcome};
use skylark_broker::folds::{Change, Event, Fold, Halves};
use skylark_broker::transactions::{TransactionPolicy, Transactions};
use skylark_protocol::code::RequestCode;
use skylark_protocol::message::OffsetMessageId;
use skylark_protocol::outgoing::Value;
use skylark_storage::PhysicalOffset;

use support::raw::{Raw, request, send_fields};
use support::server::Server;

const COUNT: u64 = 1_000_000;
/// From one half message to the next.
const STEP: u64 = 500;
/// Pairs of measurements in a comparison.
const ROUNDS: u64 = 12;

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn at(number: u64) -> PhysicalOffset {
    PhysicalOffset::new((4 << 30) + number * STEP)
}

fn open(transactions: &Transactions, number: u64) {
    let place = HalfPlace { queue_offset: number, record_bytes: 480, group: "payments", immunity_s: 0 };
    let stored_at = 1_700_000_000_000 + number / 100;
    transactions.apply(&Event { at: at(number), stored_at, change: Change::Half(place) }, stored_at).unwrap();
}

fn end(transactions: &Transactions, number: u64) {
    let ended = vec![HalfEnded { at: at(number).get(), outcome: Outcome::Committed }];
    let change = Change::HalvesEnded(HalvesEnded { ended });
    transactions.apply(&Event { at: at(COUNT), stored_at: 0, change }, 0).unwrap();
}

#[test]
fn a_million_open_transactions_take_a_hundred_bytes_each() {
    let before = resident_bytes();
    let begun = Instant::now();
    let transactions = Transactions::new(Halves::default(), TransactionPolicy::default());
    (0..COUNT).for_each(|number| open(&transactions, number));
    let (opened, bytes) = (begun.elapsed(), resident_bytes().saturating_sub(before));
    let begun = Instant::now();
    let snapshot = transactions.folded().snapshot();
    let taken = begun.elapsed();
    println!(
        "open: {} bytes each, {} ns each; snapshot: {} bytes each, {} ms",
        bytes / COUNT,
        opened.as_nanos() / u128::from(COUNT),
        snapshot.len() as u64 / COUNT,
        taken.as_millis()
    );
    assert!(bytes <= 110 * COUNT, "{bytes} bytes");
    assert!(snapshot.len() as u64 <= 24 * COUNT, "{} bytes", snapshot.len());
    let restored = Halves::restore(&snapshot).unwrap();
    assert_eq!(restored.len() as u64, COUNT);
    drop((snapshot, restored));

    // What ends leaves nothing, however long others stay open.
    let begun = Instant::now();
    for number in (0..COUNT).filter(|number| number % 100 != 0) {
        end(&transactions, number);
    }
    let ended = begun.elapsed();
    println!("ended: {} ns each", ended.as_nanos() / u128::from(COUNT));
    for round in 1..6 {
        for number in round * COUNT..(round + 1) * COUNT {
            open(&transactions, number);
            end(&transactions, number);
        }
    }
    let bytes = resident_bytes().saturating_sub(before);
    println!("after five million that came and went: {} MB", bytes >> 20);
    assert_eq!(transactions.count(), COUNT / 100);
    assert!(bytes <= 200 * COUNT, "{bytes} bytes");
}

/// Keeps so many requests on their way, and gives every answer to `take`. Says how many a second were answered.
fn pipelined(
    server: &Server,
    count: u64,
    frame: impl Fn(u64) -> Vec<u8>,
    mut take: impl FnMut(u64, &str),
) -> f64 {
    const WINDOW: u64 = 256;
    let mut connection = Raw::connect(server.broker()).unwrap();
    let begun = Instant::now();
    let (mut asked, mut answered) = (0, 0);
    while answered < count {
        let mut bytes = Vec::new();
        while asked < count && asked < answered + WINDOW {
            bytes.extend(frame(asked));
            asked += 1;
        }
        connection.write(&bytes).unwrap();
        let until = (answered + WINDOW / 2).min(count);
        while answered < until {
            let answer = connection.receive().unwrap().unwrap();
            assert_eq!(answer.code, 0, "{}", answer.remark);
            let id = answer.fields.get("msgId").map_or("", |id| &**id);
            take(u64::try_from(answer.opaque).unwrap(), id);
            answered += 1;
        }
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

/// What the system says of a process: resident bytes that are its own, and how long it has run on processors.
fn used(server: &Server) -> (u64, Duration) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", server.id())).unwrap();
    let status = read("status");
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap();
    let stat = read("stat");
    // Behind the name, which may have spaces: state, ten others, user time and system time in hundredths of a second.
    let times: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = times[11..13].iter().map(|time| time.parse::<u64>().unwrap()).sum();
    (kib << 10, Duration::from_millis(ticks * 10))
}

const HALF: &str = "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}PG\u{2}";

fn message(properties: &str, number: u64) -> Vec<u8> {
    let opaque = i32::try_from(number).unwrap();
    let properties = format!("{properties}UNIQ_KEY\u{1}{number:032}\u{2}");
    request(RequestCode::SEND_MESSAGE_V2, opaque, &send_fields("t", 0, &properties), &[b'x'; 256])
}

/// Commits the half message of this number in its queue.
fn commit(opaque: u64, number: u64, at: u64) -> Vec<u8> {
    let fields = [
        ("producerGroup", Value::Text("PG")),
        ("tranStateTableOffset", number.into()),
        ("commitLogOffset", at.into()),
        ("commitOrRollback", Value::Number(8)),
    ];
    request(RequestCode::END_TRANSACTION, i32::try_from(opaque).unwrap(), &fields, b"")
}

/// Notes where each message lies.
fn keep(places: &mut [u64]) -> impl FnMut(u64, &str) {
    |number, id| {
        places[usize::try_from(number).unwrap()] = id.parse::<OffsetMessageId>().unwrap().physical_offset;
    }
}

/// Measures both in turns, the one first and then the other, and says how much faster the second is.
fn compare(what: &str, plain: impl Fn() -> f64, mut other: impl FnMut() -> f64) {
    let (mut ratios, mut others, mut plains) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (sent, taken) = if round % 2 == 0 {
            (plain(), other())
        } else {
            let taken = other();
            (plain(), taken)
        };
        ratios.push(taken / sent);
        others.push(taken);
        plains.push(sent);
    }
    let least = ratios.iter().copied().fold(f64::MAX, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "{what} {:.0}/s, plain sends {:.0}/s: {:.2} ({least:.2} to {most:.2}), medians of {ROUNDS} pairs",
        median(others),
        median(plains),
        median(ratios)
    );
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A producer comes back to many large open transactions over a link that takes nothing for a while.
#[test]
fn a_producer_that_does_not_read_is_not_asked_on_and_is_still_heard() {
    const HALVES: u64 = 2000;
    const BODY: &[u8] = &[b'x'; 20 << 10];
    let mut server = Server::start_with(&[
        "--transaction-timeout-ms=500",
        "--transaction-check-interval-ms=60000",
        "--transaction-checks-max=1000",
    ]);
    let half = |number: u64| {
        let properties = format!("{HALF}UNIQ_KEY\u{1}{number:032}\u{2}");
        let opaque = i32::try_from(number).unwrap();
        request(RequestCode::SEND_MESSAGE_V2, opaque, &send_fields("t", 0, &properties), BODY)
    };
    let fields = send_fields("t", 0, "");
    let mut other = Raw::connect(server.broker()).unwrap();
    assert_eq!(other.call(RequestCode::SEND_MESSAGE_V2, &fields, b"first").unwrap().code, 0);
    let mut places = vec![0; usize::try_from(HALVES).unwrap()];
    pipelined(&server, HALVES, half, keep(&mut places));
    // Both kinds of buffers have been through as much by then.
    let (bytes_before, _) = used(&server);

    let mut producer = Raw::connect(server.broker()).unwrap();
    let heartbeat = r#"{"clientID":"c","producerDataSet":[{"groupName":"PG"}]}"#;
    producer.send(RequestCode::HEART_BEAT, &[], heartbeat.as_bytes()).unwrap();
    thread::sleep(Duration::from_secs(4));
    let (bytes_after, _) = used(&server);
    let grown = bytes_after.saturating_sub(bytes_before);
    println!("{} KiB more for a producer that reads nothing", grown >> 10);
    assert!(grown < 16 << 20, "{grown} bytes, of {} that it may be asked about", HALVES * BODY.len() as u64);

    // It ends one all the same. Nobody reads the answer yet.
    producer.write(&commit(7, 7, places[7])).unwrap();
    let begun = Instant::now();
    let pull = [
        ("consumerGroup", Value::Text("g")),
        ("topic", Value::Text("t")),
        ("queueId", Value::Number(0)),
        ("queueOffset", Value::Number(1)),
        ("maxMsgNums", Value::Number(1)),
        ("sysFlag", Value::Number(4)),
        ("commitOffset", Value::Number(0)),
        ("suspendTimeoutMillis", Value::Number(0)),
        ("subscription", Value::Text("*")),
        ("subVersion", Value::Number(0)),
    ];
    while other.call(RequestCode::PULL_MESSAGE, &pull, b"").unwrap().code != 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the commit of who does not read is not taken");
        thread::sleep(Duration::from_millis(50));
    }

    // And once it reads it is asked about all the others.
    let mut asked = std::collections::BTreeSet::new();
    while (asked.len() as u64) < HALVES - 1 {
        let frame = producer.receive().unwrap().unwrap();
        if frame.code == RequestCode::CHECK_TRANSACTION_STATE.0 && !frame.is_response {
            asked.insert(frame.fields["tranStateTableOffset"].clone());
        }
    }
    assert!(server.terminate().success());
}

/// A broker with a million open transactions: what they take while nothing is due, how fast one after the other is
/// committed beside plain sends, how long a restart takes, and how fast their producer is asked about all of them. For
/// who changes transactions; run it with `--release -- --ignored --nocapture`. It takes 2 GB of disk and two minutes.
#[test]
#[ignore = "measures"]
fn a_million_open_transactions_slow_nobody_down() {
    const ROUND: u64 = 20_000;
    let mut server = Server::start_with(&["--transaction-timeout-ms=3600000"]);
    let mut connection = Raw::connect(server.broker()).unwrap();
    let plain = |server: &Server, count| pipelined(server, count, |number| message("", number), |_, _| {});
    let fields = send_fields("t", 0, "");
    assert_eq!(connection.call(RequestCode::SEND_MESSAGE_V2, &fields, b"first").unwrap().code, 0);
    plain(&server, 200_000);
    let (bytes_before, _) = used(&server);
    let mut places = vec![0; usize::try_from(COUNT).unwrap()];
    let opened = pipelined(&server, COUNT, |number| message(HALF, number), keep(&mut places));
    let (bytes_after, busy_before) = used(&server);
    thread::sleep(Duration::from_secs(10));
    let busy = used(&server).1 - busy_before;
    println!(
        "a million open at {opened:.0}/s: {} MB more; at rest {busy:?} of processors in 10 s",
        bytes_after.saturating_sub(bytes_before) >> 20
    );

    let plains = || plain(&server, ROUND);
    // A producer that does its work and commits.
    let mut young = vec![0; usize::try_from(ROUND).unwrap()];
    let mut stored = COUNT;
    compare("commits of young ones", plains, || {
        pipelined(&server, ROUND, |number| message(HALF, number), keep(&mut young));
        let committed = |number| commit(number, stored + number, young[usize::try_from(number).unwrap()]);
        let speed = pipelined(&server, ROUND, committed, |_, _| {});
        stored += ROUND;
        speed
    });
    // Spread over all of them: most have to be read from the disk, and what ends leaves holes everywhere.
    let mut round = 0;
    compare("commits of old ones", plains, || {
        let committed = |number| {
            let nth = number * (COUNT / ROUND) + round;
            commit(number, nth, places[usize::try_from(nth).unwrap()])
        };
        let speed = pipelined(&server, ROUND, committed, |_, _| {});
        round += 1;
        speed
    });

    server.kill();
    server.set_options(&["--transaction-timeout-ms=1000", "--transaction-check-interval-ms=3600000"]);
    println!("ready {:?} after a kill", server.restart());
    let mut producer = Raw::connect(server.broker()).unwrap();
    let heartbeat = r#"{"clientID":"c","producerDataSet":[{"groupName":"PG"}]}"#;
    let begun = Instant::now();
    let registered = producer.send(RequestCode::HEART_BEAT, &[], heartbeat.as_bytes()).unwrap();
    let (mut asked, open) = (0, COUNT - ROUNDS * ROUND);
    while asked < open {
        let frame = producer.receive().unwrap().unwrap();
        if frame.is_response {
            assert_eq!((frame.opaque, frame.code), (registered, 0));
        } else {
            assert_eq!(frame.code, RequestCode::CHECK_TRANSACTION_STATE.0);
            asked += 1;
        }
    }
    println!("asked about {asked} in {:?}", begun.elapsed());
    assert!(server.terminate().success());
}
