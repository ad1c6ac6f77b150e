//! The log as it is run: appenders, writer, housekeeper and a folder on threads of their own, on a real directory,
//! through every device that can be used there.

mod support {
    pub mod usable;
}

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use skylark_storage::device::DeviceKind;
use skylark_storage::{
    AppendError, CommitError, CommitLog, Kind, NewRecord, Opened, Options, PhysicalOffset, Stopped,
    SystemClock, Visibility,
};

use support::usable::{temporary, usable};

const KIND: Kind = Kind::new(16);
const THREADS: u32 = 4;
const UNITS: u32 = 600;

fn open(directory: &tempfile::TempDir, kind: DeviceKind, options: Options) -> Opened<Vec<u32>> {
    let files = support::usable::directory(directory, kind);
    let state = vec![0; THREADS as usize];
    CommitLog::open(Arc::new(files), Arc::new(SystemClock::new()), options, state).expect("the log opens")
}

/// Appends through all the sizes, numbering each thread's records under the lock, and waits as a connection does.
fn append_all(log: &CommitLog<Vec<u32>>, thread: u32) {
    let body = vec![u8::try_from(thread).expect("few threads"); 100_000];
    let mut gather = Some(log.gather());
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
            // Before anything is waited for.
            gather.take().expect("it is gathered").write_here();
            log.durable().wait_blocking(appended.end).expect("the disk is sound");
            gather = Some(log.gather());
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

fn run(options: &Options) {
    usable().into_iter().for_each(|kind| run_through(kind, options));
}

fn run_through(kind: DeviceKind, options: &Options) {
    let directory = temporary();
    let Opened { log, writer, housekeeper, groups, .. } = open(&directory, kind, options.clone());
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

    let opened = open(&directory, kind, options.clone());
    assert!(opened.recovery.clean, "{kind}");
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
    run(&Options {
        segment_bytes: 1 << 20,
        undurable_bytes_max: 1 << 20,
        tail_bytes: 1 << 20,
        ..Options::default()
    });
}

#[test]
fn threads_append_with_late_flushes() {
    let visibility = Visibility::Written;
    run(&Options { segment_bytes: 2 << 20, undurable_bytes_max: 1 << 20, visibility, ..Options::default() });
}

/// As many as there are at a time, each of which waits for its record: alone, the appender writes it itself.
#[test]
fn who_appends_durably_finds_it_durable() {
    usable().into_iter().for_each(append_durably_through);
}

fn append_durably_through(kind: DeviceKind) {
    let directory = temporary();
    let Opened { log, writer, housekeeper, groups, .. } = open(&directory, kind, Options::default());
    drop(groups);
    let machines = [thread::spawn(|| writer.run()), thread::spawn(|| housekeeper.run())];
    let records = |threads: u32| {
        thread::scope(|scope| {
            for thread in 0..threads {
                let log = &log;
                scope.spawn(move || {
                    for number in 0..200_u32 {
                        let head = [thread.to_le_bytes(), number.to_le_bytes()].concat();
                        let record = [NewRecord { kind: KIND, head: &head, rest: &[] }];
                        let appended = log.append_durable(&record, |_, _, _| ()).expect("the disk is sound");
                        assert!(log.durable().get() >= appended.end);
                    }
                });
            }
        });
    };
    records(1);
    records(4);
    records(1);
    let scanned: usize = log
        .scan(PhysicalOffset::ZERO)
        .map(|group| group.expect("the log is sound").records().filter(is_own).count())
        .sum();
    assert_eq!(scanned, 1200);
    log.close();
    machines.into_iter().for_each(|machine| machine.join().expect("no thread of the log panics"));
    let record = [NewRecord { kind: KIND, head: &[], rest: &[] }];
    let refused = log.append_durable(&record, |_, _, _| ());
    assert!(matches!(refused, Err(CommitError::Refused(AppendError::Closed))), "{refused:?}");
}

/// Who waits for room while it gathers gets it, though nobody else wakes the writer.
#[test]
fn a_full_stage_is_written_though_somebody_gathers() {
    usable().into_iter().for_each(fill_stage_through);
}

fn fill_stage_through(kind: DeviceKind) {
    let directory = temporary();
    let options = Options { undurable_bytes_max: 64 << 10, ..Options::default() };
    let Opened { log, writer, groups, .. } = open(&directory, kind, options);
    drop(groups);
    let writer = thread::spawn(|| writer.run());
    let body = [7; 4000];
    let gather = log.gather();
    let mut refused = 0_u32;
    for _ in 0..100 {
        let record = [NewRecord { kind: KIND, head: &[], rest: &[&body] }];
        while let Err(error) = log.append(&record, |_, _, _| ()) {
            assert!(matches!(error, AppendError::Backpressure { .. }), "{error}");
            refused += 1;
            thread::yield_now();
        }
    }
    assert!(refused > 0, "the stage was never full");
    gather.release();
    log.close();
    writer.join().expect("no thread of the log panics");
}

/// A gathering that somebody forgets, or does not end for long, is no reason for others to wait.
#[test]
fn appends_of_others_do_not_wait_for_who_gathers() {
    let visibilities = [Visibility::Durable, Visibility::Written];
    for (kind, visibility) in usable().into_iter().flat_map(|kind| visibilities.map(|other| (kind, other))) {
        let directory = temporary();
        let Opened { log, writer, .. } = open(&directory, kind, Options { visibility, ..Options::default() });
        let writer = thread::spawn(|| writer.run());
        std::mem::forget(log.gather());
        for _ in 0..3 {
            let record = [NewRecord { kind: KIND, head: &[], rest: &[b"of another"] }];
            let end = log.append(&record, |_, _, _| ()).expect("the log is open").end;
            let (say, hear) = mpsc::channel();
            let waiter = log.clone();
            thread::spawn(move || say.send(waiter.visible().wait_blocking(end)));
            let outcome = hear.recv_timeout(Duration::from_secs(30));
            assert!(matches!(outcome, Ok(Ok(()))), "{kind}, {visibility:?}: {outcome:?}");
        }
        log.close();
        writer.join().expect("no thread of the log panics");
    }
}

fn is_own((_, record): &(PhysicalOffset, skylark_storage::Record<'_>)) -> bool {
    record.header.fields().kind == KIND
}
