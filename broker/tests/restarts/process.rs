//! The same with the real binary and real files.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use skylark_protocol::code::RequestCode;
use skylark_protocol::message::StoredMessage;
use skylark_protocol::outgoing::Value;

use crate::support::raw::{Raw, pull_fields, send_fields};
use crate::support::server::Server;

const SEGMENT_BYTES: usize = 4 << 20;
const BODY_BYTES: usize = 16 << 10;

fn index_files(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = std::fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let files = names.filter(|path| path.extension().is_some_and(|extension| extension == "idx"));
    files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

/// Waits until there are so many index files, and gives them.
fn await_index_files(data: &Path, count: usize) -> BTreeMap<String, Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let files = index_files(data);
        if files.len() >= count {
            return files;
        }
        assert!(Instant::now() < deadline, "there are {} index files, not {count}", files.len());
        thread::sleep(Duration::from_millis(5));
    }
}

fn fill(connection: &mut Raw, topic: &str, segments: usize) -> u64 {
    let mut sent = 0;
    while sent < (segments * SEGMENT_BYTES / BODY_BYTES) as u64 {
        let body = [u8::try_from(sent % 251).unwrap(); BODY_BYTES];
        let answer =
            connection.call(RequestCode::SEND_MESSAGE_V2, &send_fields(topic, 0, ""), &body).unwrap();
        assert_eq!((answer.code, answer.number("queueOffset")), (0, sent), "{}", answer.remark);
        sent += 1;
    }
    sent
}

#[test]
fn lost_index_files_are_rebuilt_and_bring_nothing_back() {
    let mut server = Server::start_with(&["--segment-bytes", &SEGMENT_BYTES.to_string()]);
    let mut connection = Raw::connect(server.broker()).unwrap();
    let gone = fill(&mut connection, "gone", 1);
    let sent = fill(&mut connection, "kept", 4);
    let deleted =
        connection.call(RequestCode::DELETE_TOPIC_IN_BROKER, &[("topic", Value::Text("gone"))], &[]);
    assert_eq!(deleted.unwrap().code, 0);
    let before = await_index_files(&server.data(), 5);
    server.kill();
    before.keys().for_each(|file| std::fs::remove_file(file).unwrap());
    server.restart();

    let mut connection = Raw::connect(server.broker()).unwrap();
    let (mut next, mut busy) = (0, 0);
    while next < sent {
        let pull = pull_fields("G", "kept", 0, next);
        let answer = connection.call(RequestCode::PULL_MESSAGE, &pull, &[]).unwrap();
        if answer.code == 2 {
            busy += 1;
            continue;
        }
        assert_eq!(answer.code, 0, "{next}: {}", answer.remark);
        for message in StoredMessage::parse_all(&answer.body) {
            let message = message.unwrap();
            assert_eq!(message.queue_offset, next);
            assert!(message.body.iter().all(|byte| u64::from(*byte) == next % 251));
            next += 1;
        }
    }
    println!("{busy} pulls were told to come again");
    assert!(await_index_files(&server.data(), before.len()) == before, "the files are not what they were");

    let answer = connection.call(RequestCode::SEND_MESSAGE_V2, &send_fields("gone", 0, ""), b"second life");
    assert_eq!(answer.unwrap().number("queueOffset"), gone);
    server.kill();
    server.restart();
    let mut connection = Raw::connect(server.broker()).unwrap();
    let pull = pull_fields("G", "gone", 0, 0);
    let answer = connection.call(RequestCode::PULL_MESSAGE, &pull, &[]).unwrap();
    assert_eq!((answer.code, answer.number("minOffset"), answer.number("maxOffset")), (21, gone, gone + 1));
}
