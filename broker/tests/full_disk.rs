//! The broker on a real file system of a fixed size: what its clients are told when it is full, what still works, and
//! that it goes on by itself.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

#[allow(dead_code, reason = "shared with another crate's test, which uses more of it")]
#[path = "../../storage/tests/support/small_disk.rs"]
mod small_disk;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use skylark_protocol::code::RequestCode;
use skylark_protocol::command::kv::KvTable;
use skylark_protocol::outgoing::Value;
use skylark_storage::device::Directory;
use skylark_storage::device::Files;

use small_disk::{Filler, SmallDisk};
use support::raw::{Answer, Raw, pull_fields, send_fields};
use support::server::Server;

const DISK: SmallDisk = SmallDisk::Ext4 { megabytes: 128 };
/// The watermarks are the defaults.
const OPTIONS: [&str; 6] =
    ["--segment-bytes", "4194304", "--disk-clean-percent", "85", "--disk-refuse-percent", "90"];
const BODY_BYTES: usize = 64 << 10;
/// RocketMQ's SERVICE_NOT_AVAILABLE.
const REFUSED: i32 = 14;
/// The disk is looked at every second, and the log tries again every second; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// Where the servers of these tests have their data: a small disk is mounted there, which nobody else sees.
fn on_a_small_disk(test: &str, scenario: impl FnOnce(&Path)) {
    DISK.run(test, Some(Path::new(env!("CARGO_TARGET_TMPDIR"))), scenario);
}

fn connect(server: &Server) -> Raw {
    Raw::connect(server.broker()).expect("the broker listens")
}

fn send(connection: &mut Raw, topic: &str, number: u64) -> Answer {
    let body = vec![u8::try_from(number % 251).unwrap(); BODY_BYTES];
    connection.call(RequestCode::SEND_MESSAGE_V2, &send_fields(topic, 0, ""), &body).unwrap()
}

/// Asks again and again until the answer is as wanted; it and how long that took.
fn soon(
    what: &str,
    server: &Server,
    mut ask: impl FnMut() -> Answer,
    is_wanted: impl Fn(&Answer) -> bool,
) -> (Answer, Duration) {
    let begun = Instant::now();
    loop {
        let answer = ask();
        if is_wanted(&answer) {
            return (answer, begun.elapsed());
        }
        assert!(begun.elapsed() < SOON, "{what}: {answer:?}\n{}", server.transcript());
        thread::sleep(Duration::from_millis(20));
    }
}

fn info(connection: &mut Raw) -> KvTable {
    let answer = connection.call(RequestCode::GET_BROKER_RUNTIME_INFO, &[], &[]).unwrap();
    KvTable::decode(&answer.body).unwrap()
}

fn commit(connection: &mut Raw, offset: u64) -> Answer {
    let fields = [
        ("consumerGroup", Value::Text("G")),
        ("topic", Value::Text("kept")),
        ("queueId", Value::Number(0)),
        ("commitOffset", offset.into()),
    ];
    connection.call(RequestCode::UPDATE_CONSUMER_OFFSET, &fields, &[]).unwrap()
}

fn committed(connection: &mut Raw) -> Answer {
    let fields = [
        ("consumerGroup", Value::Text("G")),
        ("topic", Value::Text("kept")),
        ("queueId", Value::Number(0)),
        ("setZeroIfNotFound", Value::Flag(false)),
    ];
    connection.call(RequestCode::QUERY_CONSUMER_OFFSET, &fields, &[]).unwrap()
}

/// Every message of the queue from its minimum on is there, and as it was sent.
fn check_messages(connection: &mut Raw, sent: u64) -> u64 {
    let fields = [("topic", Value::Text("kept")), ("queueId", Value::Number(0))];
    let min = connection.call(RequestCode::GET_MIN_OFFSET, &fields, &[]).unwrap().number("offset");
    let mut offset = min;
    while offset < sent {
        let pull = pull_fields("G", "kept", 0, offset);
        let answer = connection.call(RequestCode::PULL_MESSAGE, &pull, &[]).unwrap();
        assert_eq!(answer.code, 0, "{offset} of {sent}: {answer:?}");
        for message in skylark_protocol::message::StoredMessage::parse_all(&answer.body) {
            let message = message.unwrap();
            assert_eq!(message.queue_offset, offset);
            assert!(message.body.iter().all(|&byte| u64::from(byte) == offset % 251));
            offset += 1;
        }
    }
    min
}

#[test]
fn a_disk_that_another_fills_stops_senders_and_nobody_else() {
    on_a_small_disk("a_disk_that_another_fills_stops_senders_and_nobody_else", |disk| {
        let mut server = Server::start_with(&OPTIONS);
        let mut connection = connect(&server);
        let mut sent = 0;
        // Past a quarter of a segment, so that the next is prepared, but nothing yet that could be trimmed.
        while sent < 32 {
            assert_eq!(send(&mut connection, "kept", sent).code, 0);
            sent += 1;
        }
        assert_eq!(send(&mut connection, "gone", 0).code, 0);
        let pull = pull_fields("G", "kept", 0, 0);
        assert_eq!(connection.call(RequestCode::PULL_MESSAGE, &pull, &[]).unwrap().code, 0);
        thread::sleep(Duration::from_millis(500));

        let (filler, _) = Filler::all(disk.join("filler"));
        // What is sent until the broker looks goes into what is prepared.
        let mut probe = 0;
        let (refused, after) = soon(
            "sends are refused",
            &server,
            || {
                probe += 1;
                send(&mut connection, "probe", probe)
            },
            |answer| answer.code == REFUSED,
        );
        println!("refused after {after:?}: {}", refused.remark);
        let data = server.data();
        // It may have looked before the filler was done.
        for part in [data.to_str().unwrap(), " % full", " bytes are left"] {
            assert!(refused.remark.contains(part), "{}", refused.remark);
        }
        assert!(info(&mut connection).table.contains_key("sendsRefused"));
        // Everything else goes on, by what the log has prepared.
        assert_eq!(commit(&mut connection, 17).code, 0);
        let deleted =
            connection.call(RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", Value::Text("gone"))], &[]);
        assert_eq!(deleted.unwrap().code, 0);
        check_messages(&mut connection, sent);
        // Commits are told to the log within 200 ms.
        thread::sleep(Duration::from_secs(1));

        server.kill();
        let started = server.restart();
        println!("restarted on the full disk in {started:?}");
        let mut connection = connect(&server);
        assert_eq!(committed(&mut connection).number("offset"), 17);
        let fields = [("topic", Value::Text("gone")), ("queueId", Value::Number(0))];
        let of_deleted = connection.call(RequestCode::GET_MAX_OFFSET, &fields, &[]).unwrap();
        assert!(of_deleted.code != 0 || of_deleted.number("offset") == 0, "{of_deleted:?}");
        check_messages(&mut connection, sent);
        let (refused, _) = soon(
            "it refuses again",
            &server,
            || send(&mut connection, "probe", 0),
            |answer| answer.code == REFUSED,
        );
        println!("refused: {}", refused.remark);
        assert!(refused.remark.contains(data.to_str().unwrap()), "{}", refused.remark);
        assert_eq!(commit(&mut connection, 18).code, 0);

        drop(filler);
        let (_, after) =
            soon("sends go on", &server, || send(&mut connection, "kept", sent), |answer| answer.code == 0);
        sent += 1;
        println!("space returned: sends go on after {after:?}");
        check_messages(&mut connection, sent);
        assert!(server.terminate().success());
    });
}

#[test]
fn retention_frees_a_disk_that_is_full() {
    on_a_small_disk("retention_frees_a_disk_that_is_full", |disk| {
        let mut server = Server::start_with(&OPTIONS);
        let mut connection = connect(&server);
        // Twice the disk, in all: the watermark keeps it going.
        let total = (256 << 20) / BODY_BYTES as u64;
        let (mut sent, mut refusals, mut waited_most) = (0, 0, Duration::ZERO);
        while sent < total {
            let begun = Instant::now();
            let (_, waited) = soon(
                "sends go on",
                &server,
                || send(&mut connection, "kept", sent),
                |answer| answer.code == 0,
            );
            if begun.elapsed() > Duration::from_millis(20) && waited > Duration::from_millis(20) {
                refusals += 1;
                waited_most = waited_most.max(waited);
            }
            sent += 1;
        }
        println!("{total} messages, {refusals} times held up, for {waited_most:?} at most");
        let min = check_messages(&mut connection, sent);
        assert!(min > 0);

        // Somebody else takes the rest: the log gives up its older part, and senders go on.
        thread::sleep(Duration::from_secs(2));
        let taken = Directory::open(disk).unwrap().space().unwrap().available_bytes - (1 << 20);
        let filler = Filler::of(disk.join("filler"), taken);
        let before: u64 = info(&mut connection).table["commitLogMinOffset"].parse().unwrap();
        let (_, after) = soon(
            "sends go on beside the filler",
            &server,
            || {
                let answer = send(&mut connection, "kept", sent);
                sent += u64::from(answer.code == 0);
                let begins: u64 = info(&mut connection).table["commitLogMinOffset"].parse().unwrap();
                Answer { code: if begins > before { answer.code } else { -1 }, ..answer }
            },
            |answer| answer.code == 0,
        );
        println!("{taken} bytes taken by another: trimmed, and sends go on, after {after:?}");
        check_messages(&mut connection, sent);
        server.kill();
        server.restart();
        check_messages(&mut connect(&server), sent);
        drop(filler);
        assert!(server.terminate().success());
    });
}
