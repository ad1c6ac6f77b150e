//! The log as it is run: appenders, writer, housekeeper and a folder on threads of their own, on a real directory.

use std::sync::Arc;
use std::thread;

use skylark_storage::device::buffered::Directory;
use skylark_storage::{
    AppendError, CommitLog, Kind, NewRecord, Opened, Options, PhysicalOffset, Stopped, SystemClock,
    Visibility,
};

const KIND: Kind = Kind::new(16);
const THREADS: u32 = 4;
const UNITS: u32 = 600;

fn open(directory: &tempfile::TempDir, options: Options) -> Opened<Vec<u32>> {
    let files = Directory::open(directory.path()).expect("a temporary directory can be used");
    let state = vec![0; THREADS as usize];
    CommitLog::open(Arc::new(files), Arc::new(SystemClock::new()), options, state).expect("the log opens")
}

/// Appends through all the sizes, numbering each thread's records under the lock, and waits as a connection does.
fn append_all(log: &CommitLog<Vec<u32>>, thread: u32) {
    let body = vec![u8::try_from(thread).expect("few threads"); 100_000];
    for unit in 0..UNITS {
        let length = if unit % 50 == 0 { body.len() } else { (unit * 37 % 6000) as usize };
        let mut head = [0; 8];
        head[..4].copy_from_slice(&thread.to_le_bytes());
        let records = [
            NewRecord { kind: KIND, head: &head, rest: &[&body[..length]] },
            NewRecord { kind: KIND, head: &head, rest: &[] },
        ];
        let appended = loop {
            let outcome = log.append(&records, |numbers, _, head| {
                let number = &mut numbers[thread as usize];
                head[4..].copy_from_slice(&number.to_le_bytes());
                *number += 1;
            });
            match outcome {
                Ok(appended) => break appended,
                Err(AppendError::Backpressure { .. }) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        if unit % 8 == 7 {
            log.durable().wait_blocking(appended.end).expect("the disk is sound");
        }
    }
}

/// Each thread's records, in order, without a gap.
fn check<'a>(numbers: &mut [u32], records: impl Iterator<Item = &'a [u8]>) {
    for payload in records {
        let thread = u32::from_le_bytes(payload[..4].try_into().expect("four bytes"));
        let number = u32::from_le_bytes(payload[4..8].try_into().expect("four bytes"));
        assert_eq!(number, numbers[thread as usize], "of thread {thread}");
        assert!(payload[8..].iter().all(|&byte| u32::from(byte) == thread));
        numbers[thread as usize] += 1;
    }
}

fn run(options: Options) {
    let directory = tempfile::tempdir().expect("there is a temporary directory");
    let Opened { log, writer, housekeeper, groups, .. } = open(&directory, options.clone());
    let machines = [thread::spawn(|| writer.run()), thread::spawn(|| housekeeper.run())];
    let folder = {
        let log = log.clone();
        thread::spawn(move || {
            let mut numbers = vec![0; THREADS as usize];
            let mut end = PhysicalOffset::ZERO;
            while let Some(group) = groups.next_blocking() {
                assert!(group.start >= end && group.end <= log.visible().get());
                end = group.end;
                let records = group.records().filter(|(_, record)| record.header.fields().kind == KIND);
                check(&mut numbers, records.map(|(_, record)| record.payload));
                groups.done(&group);
            }
            numbers
        })
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || append_all(log, thread));
        }
    });
    log.close();
    assert!(matches!(log.wait_stopped(), Stopped::Closed));
    machines.into_iter().for_each(|machine| machine.join().expect("no thread of the log panics"));
    assert_eq!(folder.join().expect("all was in order"), vec![2 * UNITS; THREADS as usize]);
    drop(log);

    let opened = open(&directory, options);
    assert!(opened.recovery.clean);
    let mut numbers = vec![0; THREADS as usize];
    for group in opened.log.scan(PhysicalOffset::ZERO) {
        let group = group.expect("the log is sound");
        let records = group.records().filter(|(_, record)| record.header.fields().kind == KIND);
        check(&mut numbers, records.map(|(_, record)| record.payload));
    }
    assert_eq!(numbers, vec![2 * UNITS; THREADS as usize]);
}

#[test]
fn threads_append_and_every_record_is_kept_in_order() {
    run(Options {
        segment_bytes: 1 << 20,
        undurable_bytes_max: 1 << 20,
        tail_bytes: 1 << 20,
        ..Options::default()
    });
}

#[test]
fn threads_append_with_late_flushes() {
    let visibility = Visibility::Written;
    run(Options { segment_bytes: 2 << 20, undurable_bytes_max: 1 << 20, visibility, ..Options::default() });
}
