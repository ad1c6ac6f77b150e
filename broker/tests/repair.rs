//! A log that no broker opens, and the command that lets one open it again.

#![allow(clippy::unwrap_used, reason = "a test says what it expects in the shortest way")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use skylark_protocol::code::RequestCode;
use skylark_storage::checkpoint::CHECKPOINT_NAME;

use support::raw::{Raw, send_fields};
use support::server::Server;

const SEGMENT_BYTES: u64 = 64 << 10;
const BODY_BYTES: usize = 8 << 10;

/// A command that has ended: its exit code, standard output and error.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("the binary was built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Runs `skylark log` on the server's data directory.
fn log(server: &Server, command: &str, options: &[&str]) -> (Option<i32>, String, String) {
    let mut skylark = Command::new(env!("CARGO_BIN_EXE_skylark"));
    run(skylark.args(["log", command]).arg(server.data()).args(options))
}

/// All files of a directory.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

/// A server that has taken this many messages, and has ended.
fn ended_after(messages: usize, segment_bytes: u64) -> Server {
    let mut server = Server::start_with(&["--segment-bytes".to_owned(), segment_bytes.to_string()]);
    let mut connection = Raw::connect(server.broker()).expect("the broker listens");
    for _ in 0..messages {
        let fields = send_fields("kept", 0, "");
        assert_eq!(connection.call(RequestCode::SEND_MESSAGE_V2, &fields, &[7; BODY_BYTES]).unwrap().code, 0);
    }
    assert!(server.terminate().success());
    server
}

/// Changes a bit in the payload of the first message behind this offset; where the message begins.
fn damage(server: &Server, behind: u64, segment_bytes: u64) -> u64 {
    let (_, out, _) = log(server, "dump", &[]);
    let messages = out.lines().filter(|line| line.contains(" kind=16 name=message "));
    let offsets = messages.filter_map(|line| line.split("at=").nth(1)?.split(' ').next()?.parse().ok());
    let at: u64 = { offsets }.find(|at| *at > behind).expect("there are messages further on");
    let base = at - at % segment_bytes;
    let file = server.data().join(format!("log/{base:020}.seg"));
    let mut bytes = fs::read(&file).unwrap();
    bytes[usize::try_from(at - base).unwrap() + 32 + 1000] ^= 1;
    fs::write(&file, &bytes).unwrap();
    at
}

#[test]
fn a_log_that_no_broker_opens_is_repaired_and_says_before_what_is_given_up() {
    let mut server = ended_after(40, SEGMENT_BYTES);
    damage(&server, SEGMENT_BYTES + (16 << 10), SEGMENT_BYTES);
    fs::remove_file(server.data().join(CHECKPOINT_NAME)).unwrap();
    let command = format!("skylark log repair {}", server.data().display());
    let (code, _, error) = run(&mut server.command());
    assert!(code == Some(1) && error.contains(&command) && error.contains("--dry-run"), "{error}");

    let before = contents(&server.data());
    let (code, would, error) = log(&server, "repair", &["--dry-run"]);
    let aside = format!("set aside: log/{:020}.seg.given-up", 2 * SEGMENT_BYTES);
    assert!(code == Some(1) && would.contains("kept 0 to ") && would.contains(&aside), "{would}{error}");
    assert!(contents(&server.data()) == before, "a dry run changes nothing");

    let (code, out, error) = log(&server, "repair", &[]);
    assert!(code == Some(0) && out.starts_with(&would) && out.contains("\nrepaired:\n"), "{out}{error}");
    assert!(server.data().join(format!("log/{:020}.seg.given-up", 2 * SEGMENT_BYTES)).exists());
    let (code, out, error) = log(&server, "verify", &[]);
    assert_eq!(code, Some(0), "{out}{error}");
    let (code, out, _) = log(&server, "repair", &["--dry-run"]);
    assert!(code == Some(0) && out.starts_with("nothing is to be repaired"), "{out}");

    server.restart();
    let (code, _, error) = log(&server, "repair", &[]);
    assert!(code == Some(2) && error.contains("in use by another process"), "{error}");
    assert!(server.terminate().success());
}

#[test]
fn a_log_that_cannot_be_folded_is_cut_where_the_broker_says() {
    let segment_bytes = 1 << 20;
    let mut server = ended_after(20, segment_bytes);
    let at = damage(&server, 64 << 10, segment_bytes);
    let (code, _, error) = run(&mut server.command());
    let place = format!("at byte {at} of log/{:020}.seg", 0);
    let command = format!("skylark log repair {} --cut-at {at}", server.data().display());
    assert!(code == Some(1) && error.contains(&place) && error.contains(&command), "{error}");
    // The opening before has left an epoch of its own, and is no damage.
    let (code, out, _) = log(&server, "repair", &["--dry-run"]);
    assert!(code == Some(0) && out.starts_with("nothing is to be repaired"), "{out}");

    let before = contents(&server.data());
    let cut_at = ["--cut-at", &at.to_string()];
    let (code, would, error) = log(&server, "repair", &[&cut_at[..], &["--dry-run"]].concat());
    assert!(code == Some(1) && would.contains("kept 0 to "), "{would}{error}");
    assert!(contents(&server.data()) == before, "a dry run changes nothing");
    let (code, out, error) = log(&server, "repair", &cut_at);
    assert_eq!(code, Some(0), "{out}{error}");
    let (code, out, error) = log(&server, "verify", &[]);
    assert_eq!(code, Some(0), "{out}{error}");
    let (code, _, error) = log(&server, "repair", &cut_at);
    assert!(code == Some(2) && error.contains("nothing is damaged from offset"), "{error}");

    server.restart();
    let mut connection = Raw::connect(server.broker()).expect("the broker listens");
    let fields = send_fields("kept", 0, "");
    assert_eq!(connection.call(RequestCode::SEND_MESSAGE_V2, &fields, &[7; BODY_BYTES]).unwrap().code, 0);
    assert!(server.terminate().success());
}
