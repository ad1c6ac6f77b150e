//! `kill -9` of a process that appends: what it was told is durable is there afterwards, whichever device wrote it and
//! whichever goes on.
//!
//! The page cache survives the kill, so this proves little about the disk. It does prove that a device leaves nothing
//! half done that another could trip over: writes under way, locks, lengths.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rand::RngExt;
use skylark_storage::device::DeviceKind;
use skylark_storage::{AppendError, Options, Step};

use super::workload;
use crate::{STARTS, start, temporary, usable};

const THREADS: usize = 4;
const ROUNDS: usize = 3;
const DIRECTORY: &str = "SKYLARK_TEST_APPEND_TO";
const DEVICE: &str = "SKYLARK_TEST_DEVICE";

fn options() -> Options {
    Options { segment_bytes: 1 << 20, ..Options::default() }
}

/// Appends until it is killed, and says what is durable; does nothing unless the test below started it.
#[test]
fn a_process_that_appends() {
    let (Some(root), Ok(device)) = (std::env::var_os(DIRECTORY), std::env::var(DEVICE)) else { return };
    let opened = workload::open(root.as_ref(), device.parse().unwrap(), THREADS, &options());
    let (writer, housekeeper, groups) = (opened.writer, opened.housekeeper, opened.groups);
    let log = Arc::new(opened.log);
    thread::spawn(|| writer.run());
    thread::spawn(|| housekeeper.run());
    for thread in 0..THREADS {
        let log = Arc::clone(&log);
        thread::spawn(move || {
            let mut random = rand::rng();
            loop {
                let most = if random.random_ratio(1, 20) { 60_000 } else { 3000 };
                match workload::append(&log, thread, random.random_range(0..most)) {
                    Ok((number, appended)) => {
                        log.durable().wait_blocking(appended.end).expect("the disk is sound");
                        // One write for each line, so that none is cut in two by the kill.
                        let line = format!("durable {thread} {number}\n");
                        std::io::stdout().lock().write_all(line.as_bytes()).expect("somebody listens");
                    }
                    Err(AppendError::Backpressure { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    while let Some(group) = groups.next_blocking() {
        groups.done(&group);
    }
}

/// Lets a process append through a device, and kills it; how many records of each thread were durable.
fn append_and_kill(root: &std::path::Path, kind: DeviceKind, acknowledged: &mut [u32]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["devices::kills::a_process_that_appends", "--exact", "--nocapture", "--test-threads=1"]);
    let mut child =
        start(command.env(DIRECTORY, root).env(DEVICE, kind.name()).stdout(Stdio::piped())).unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let wanted = rand::rng().random_range(50..400);
    let mut seen = 0;
    for line in lines {
        let line = line.unwrap();
        // The harness's own words may stand in front of the first line.
        let Some((_, said)) = line.split_once("durable ") else { continue };
        let Some((thread, number)) = said.split_once(' ') else { continue };
        let (thread, number): (usize, u32) = (thread.parse().unwrap(), number.parse().unwrap());
        acknowledged[thread] = acknowledged[thread].max(number + 1);
        seen += 1;
        if seen == wanted {
            // In the middle of a group, most likely. What was said before is still read.
            thread::sleep(Duration::from_micros(rand::rng().random_range(0..2000)));
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success(), "it ends by the kill");
    assert!(seen >= wanted, "{kind}: the process ended by itself");
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let rounds = std::env::var("SKYLARK_CRASH_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let kinds = usable();
    let temporary = temporary();
    let mut acknowledged = vec![0; THREADS];
    for round in 0..rounds * kinds.len() {
        let kind = kinds[round % kinds.len()];
        append_and_kill(temporary.path(), kind, &mut acknowledged);
        // Somebody else looks, and the process that goes on is another one again.
        let next = kinds[(round + 1 + round / kinds.len()) % kinds.len()];
        let nobody_starts = STARTS.read();
        let mut opened = workload::open(temporary.path(), next, THREADS, &options());
        let found = workload::counts(&opened.log, THREADS);
        let lost = found.iter().zip(&acknowledged).any(|(found, acknowledged)| found < acknowledged);
        assert!(!lost, "{kind} had acknowledged {acknowledged:?}, {next} found {found:?}");
        acknowledged = found;
        if round % 2 == 0 {
            opened.log.close();
            while opened.writer.step() != Step::Stopped {}
        }
        // The next process finds the directory free.
        drop((opened, nobody_starts));
    }
}
