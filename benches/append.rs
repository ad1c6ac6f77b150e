//! What does an append cost, and how much does the log add to the disk's own latency?
//!
//! - `append/1 KiB, n threads`: time per append of a 1 KiB record, its checksum included, until its place is known.
//!   Nothing is written to a disk; the writer drains outside the measured time.
//! - `durable/log`: one record after the other, each waited for, through the writer thread;
//! - `durable/pwrite + fdatasync`: the reference: 4 KiB written and flushed in a loop, into a file prepared as the
//!   log prepares its segments.
//!
//! The last two use `SKYLARK_BENCH_DIR`, or the system's temporary directory; a tmpfs there makes them pointless.

mod support {
    pub(crate) mod nowhere;
}

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use skylark_storage::device::buffered::Directory;
use skylark_storage::{CommitLog, Kind, NewRecord, Opened, Options, Step, SystemClock};

use support::nowhere::Nowhere;

const RECORD_BYTES: usize = 1024;
const HEAD_BYTES: usize = 64;
/// Appended by each thread before the writer drains: within the budget of staged bytes.
const BURST: u64 = 4096;

fn append(log: &CommitLog<u64>, rest: &[u8]) -> skylark_storage::Appended {
    let record = NewRecord { kind: Kind::new(16), head: &[0; HEAD_BYTES], rest: &[rest] };
    let appended = log.append(&[record], |count, place, head| {
        head[..8].copy_from_slice(&count.to_be_bytes());
        head[8..16].copy_from_slice(&place.physical_offset.get().to_be_bytes());
        head[16..24].copy_from_slice(&place.stored_at.to_be_bytes());
        *count += 1;
    });
    appended.expect("the log takes what fits its budget")
}

fn drain(opened: &mut Opened<u64>) {
    while opened.writer.step() == Step::Worked {
        while let Some(group) = opened.groups.try_next() {
            opened.groups.done(&group);
        }
    }
}

/// The time in which `threads` append `iterations` records together.
fn burst(opened: &mut Opened<u64>, threads: u64, iterations: u64) -> Duration {
    let rest = [7; RECORD_BYTES - HEAD_BYTES];
    let mut spent = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let each = left.div_ceil(threads).min(BURST);
        let log = &opened.log;
        spent += thread::scope(|scope| {
            let appenders: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        let started = Instant::now();
                        (0..each).for_each(|_| {
                            append(log, &rest);
                        });
                        (started, Instant::now())
                    })
                })
                .collect();
            let times: Vec<_> =
                appenders.into_iter().map(|a| a.join().expect("appending does not panic")).collect();
            let first = times.iter().map(|(started, _)| *started).min().expect("there are threads");
            let last = times.iter().map(|(_, ended)| *ended).max().expect("there are threads");
            last - first
        });
        drain(opened);
        left = left.saturating_sub(each * threads);
    }
    spent
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    for threads in [1, 2] {
        let clock = Arc::new(SystemClock::new());
        let mut opened = CommitLog::open(Arc::new(Nowhere::new()), clock, Options::default(), 0)
            .expect("nowhere is always empty");
        group.bench_function(format!("1 KiB, {threads} threads"), |bencher| {
            bencher.iter_custom(|iterations| burst(&mut opened, threads, iterations));
        });
    }
    group.finish();
}

fn durable(criterion: &mut Criterion) {
    let parent = std::env::var_os("SKYLARK_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let directory = tempfile::tempdir_in(parent).expect("the directory for benches can be used");
    let mut group = criterion.benchmark_group("durable");
    group.throughput(Throughput::Elements(1));

    let file = File::create(directory.path().join("reference")).expect("a file can be created");
    let prepared_bytes = 64 << 20;
    file.write_all_at(&vec![0; 64 << 20], 0).expect("the disk has room");
    file.sync_all().expect("the disk can flush");
    let (block, mut at) = ([7; 4096], 0);
    group.bench_function("pwrite + fdatasync", |bencher| {
        bencher.iter(|| {
            file.write_all_at(&block, at).expect("the disk can write");
            file.sync_data().expect("the disk can flush");
            at = (at + 4096) % prepared_bytes;
        });
    });

    let files = Directory::open(directory.path().join("log")).expect("the directory for benches can be used");
    let opened = CommitLog::open(Arc::new(files), Arc::new(SystemClock::new()), Options::default(), 0);
    let Opened { log, writer, housekeeper, groups, .. } = opened.expect("the directory is empty");
    let machines = [thread::spawn(|| writer.run()), thread::spawn(|| housekeeper.run())];
    drop(groups);
    let rest = [7; RECORD_BYTES - HEAD_BYTES];
    group.bench_function("log", |bencher| {
        bencher.iter(|| {
            let appended = append(&log, &rest);
            log.durable().wait_blocking(appended.end).expect("the disk is sound");
        });
    });
    group.finish();
    log.close();
    machines.into_iter().for_each(|machine| machine.join().expect("no thread of the log panics"));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = appends, durable
}
criterion_main!(benches);
