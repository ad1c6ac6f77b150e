//! The examples, put through what a user would fear: kills in the middle of writes, power cuts, and a README that has
//! gone its own way.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;

use skylark_storage::device::Directory;
use skylark_storage::device::simulated::Disk;

#[allow(dead_code, unreachable_pub, reason = "an example is a program, and written as a library would be")]
#[path = "../examples/kv_wal.rs"]
mod kv_wal;
#[allow(dead_code, unreachable_pub, reason = "an example is a program, and written as a library would be")]
#[path = "../examples/ledger.rs"]
mod ledger;

use kv_wal::Store;
use ledger::{BANK, Ledger};

/// Names the directory to a process that is to be killed.
const CHILD: &str = "SKYLARK_EXAMPLES_CHILD";

/// Runs one test of this file in a process of its own, over `directory`, and kills it once it has said this many
/// lines that begin with `# `; returns what it said by then.
fn kill_after(lines: usize, test: &str, directory: &Path) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().expect("this test has a file"));
    command.args(["--exact", test, "--nocapture"]).env(CHILD, directory).stdout(Stdio::piped());
    let mut child = Killed(command.spawn().expect("this test can be run"));
    let said = BufReader::new(child.0.stdout.take().expect("it was asked for"));
    let said =
        said.lines().map_while(Result::ok).filter_map(|line| Some(line.strip_prefix("# ")?.to_owned()));
    said.take(lines).collect()
}

/// Dies, without a chance to say goodbye, when this drops.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().expect("it has not been waited for");
        self.0.wait().expect("it was killed");
    }
}

fn say(what: &str) {
    // Past the test harness, and at once.
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n# {what}").and_then(|()| out.flush()).expect("the parent listens until it kills");
}

fn key(writer: usize, n: usize) -> Vec<u8> {
    format!("{writer} {n}").into_bytes()
}

/// Writes pairs of keys, from several threads, until it is killed; says each pair that was acknowledged.
fn write_pairs(store: &Store, acknowledged: impl Fn(usize, usize) + Sync) {
    thread::scope(|scope| {
        for writer in 0..4 {
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                for n in 0.. {
                    let (key, twin) = (key(writer, n), [&key(writer, n), b"'".as_slice()].concat());
                    let value = vec![7; n * 97 % 5000];
                    let passing: [(&[u8], Option<&[u8]>); 2] = [(b"passing", Some(b"")), (b"passing", None)];
                    let batch = [(key.as_slice(), Some(value.as_slice())), (&twin, Some(&value))];
                    let batch = [batch, passing].concat();
                    if store.write(&batch).is_err() {
                        return;
                    }
                    acknowledged(writer, n);
                }
            });
        }
    });
}

/// Each writer's pairs are there without a gap, whole, and as far as was acknowledged.
fn check_pairs(store: &Store, acknowledged: &BTreeSet<(usize, usize)>) {
    for writer in 0..4 {
        let found = (0..).take_while(|n| store.get(&key(writer, *n)).is_some()).count();
        for n in 0..found {
            let value = store.get(&key(writer, n)).expect("it was there");
            assert!(value == vec![7; n * 97 % 5000], "{writer} {n}");
            assert_eq!(
                store.get(&[&key(writer, n), b"'".as_slice()].concat()),
                Some(value),
                "a half of a batch"
            );
        }
        assert_eq!(store.get(&[&key(writer, found), b"'".as_slice()].concat()), None, "a half of a batch");
        let lost = acknowledged.iter().find(|(of, n)| *of == writer && *n >= found);
        assert_eq!(lost, None, "of writer {writer} {found} are there");
    }
    assert_eq!(store.get(b"passing"), None);
}

#[test]
fn a_store_that_is_killed_keeps_what_it_acknowledged() {
    if let Some(directory) = std::env::var_os(CHILD) {
        let store = Store::open(Directory::open(directory).unwrap()).unwrap();
        write_pairs(&store, |writer, n| say(&format!("{writer} {n}")));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let test = "a_store_that_is_killed_keeps_what_it_acknowledged";
    for kill in 1..=3 {
        let said = kill_after(kill * 200, test, directory.path());
        assert_eq!(said.len(), kill * 200, "the child ended by itself");
        let numbers = said.iter().map(|line| {
            let (writer, n) = line.split_once(' ').expect("two numbers");
            (writer.parse().expect("a number"), n.parse().expect("a number"))
        });
        let store = Store::open(Directory::open(directory.path()).unwrap()).unwrap();
        check_pairs(&store, &numbers.collect());
    }
}

#[test]
fn a_store_without_power_keeps_what_it_acknowledged() {
    for cut in (1..400).step_by(23) {
        let disk = Disk::new(cut);
        let store = Store::open(disk.clone()).unwrap();
        let acknowledged = Mutex::new(BTreeSet::new());
        disk.power_off_at(cut);
        write_pairs(&store, |writer, n| {
            acknowledged.lock().unwrap().insert((writer, n));
        });
        drop(store);
        let store = Store::open(disk.crash()).unwrap();
        check_pairs(&store, &acknowledged.into_inner().unwrap());
    }
}

#[test]
fn a_store_refuses_keys_that_are_too_long() {
    let store = Store::open(Disk::new(1)).unwrap();
    assert!(store.write(&[(&[0; 256], None)]).is_err());
    assert!(store.write(&[]).is_err());
    store.write(&[(&[0; 255], Some(b""))]).unwrap();
    assert_eq!(store.get(&[0; 255]), Some(Vec::new()));
}

#[test]
fn a_ledger_that_is_killed_keeps_what_it_booked() {
    if let Some(directory) = std::env::var_os(CHILD) {
        let ledger = Ledger::open(Directory::open(directory).unwrap()).unwrap();
        thread::scope(|scope| {
            for account in 1..5 {
                let ledger = &ledger;
                scope.spawn(move || {
                    for n in 0.. {
                        let payer = if n % 3 == 0 { BANK } else { account % 4 + 1 };
                        if let Ok(number) = ledger.transfer(payer, account, 1 + n % 100, "some text") {
                            say(&number.to_string());
                        }
                    }
                });
            }
        });
    }
    let directory = tempfile::tempdir().unwrap();
    for kill in 1..=3 {
        let said = kill_after(kill * 200, "a_ledger_that_is_killed_keeps_what_it_booked", directory.path());
        assert_eq!(said.len(), kill * 200, "the child ended by itself");
        let last_said = said.iter().map(|line| line.parse().unwrap()).max().unwrap();
        let ledger = Ledger::open(Directory::open(directory.path()).unwrap()).unwrap();
        let transfers = ledger.transfers().collect::<Result<Vec<_>, _>>().unwrap();
        assert!(transfers.iter().map(|transfer| transfer.number).eq(1..=transfers.len() as u64));
        assert!(transfers.len() as u64 >= last_said, "{last_said} were booked");
        assert_eq!((0..5).map(|account| ledger.balance(account)).sum::<i64>(), 0);
        assert!((1..5).all(|account| ledger.balance(account) >= 0), "{ledger}");
        assert_eq!(ledger.transfer(BANK, 1, 5, "").unwrap(), transfers.len() as u64 + 1);
    }
}

/// What the README shows is what the other tests of this file have tried, and short.
#[test]
fn the_readme_shows_the_store() {
    let readme = include_str!("../README.md");
    let example = include_str!("../examples/kv_wal.rs");
    let shown = readme.split("```rust\n").nth(1).and_then(|behind| behind.split("```").next());
    let (store, _use_of_it) =
        shown.and_then(|shown| shown.split_once("\nfn main()")).expect("the README has a store");
    assert!(example.contains(store), "the README shows another store than the example's");
    let lines = store.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 60, "the store takes {lines} lines");
}
