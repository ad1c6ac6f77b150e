//! What do the rare moments of a log's life cost: opening one that was not closed, and going on to the next segment?
//!
//! - `recovery`: opening a log whose last 64 MiB, or 192 MiB, no checkpoint covers; a housekeeper stores one every 64 MiB.
//!   Baseline: a read of as many bytes of the same file with their CRC32C.
//! - `roll-over`: 4 MiB of durable records, 64 at a time, into segments that hold them all, and into segments of 1 MiB.
//!   Baseline: as many groups written and flushed by one thread.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group};
use skylark_benches::support::appenders::{self, RunningLog};
use skylark_benches::support::bare::{Bound, Primitive, WrittenFile};
use skylark_benches::support::devices;
use skylark_benches::support::records::Payload;
use skylark_benches::support::scratch;
use skylark_storage::{CommitLog, Opened, Options, Step, SystemClock};

fn open(directory: &Path) -> Opened<u64> {
    let files = devices::open(directory, devices::by_itself()).expect("the directory can be used");
    let opened = CommitLog::open(Arc::new(files), Arc::new(SystemClock::new()), Options::default(), 0);
    opened.expect("the log is sound")
}

/// Fills a log and lets go of it as a killed process does: no checkpoint says where it ends.
fn leave(directory: &Path, bytes: u64) {
    let Opened { log, mut writer, groups, .. } = open(directory);
    drop(groups);
    let payload = Payload::new(1024);
    let end = log.frontiers().appended_end.advance(bytes);
    while log.frontiers().appended_end < end {
        (0..256).for_each(|_| {
            appenders::append(&log, &payload);
        });
        while writer.step() == Step::Worked {}
    }
}

fn recovery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recovery, page cache");
    for mib in [64_u64, 192] {
        let bytes = mib << 20;
        group.throughput(Throughput::Bytes(bytes));
        group.sampling_mode(SamplingMode::Flat);
        let directory = scratch::directory(&scratch::parent());
        leave(directory.path(), bytes);
        let segment = scratch::segments(directory.path()).expect("the log has a directory").remove(0);
        let mut buffer = vec![0; usize::try_from(bytes).expect("it fits into memory")];
        group.bench_function(BenchmarkId::new("read + CRC32C, MiB", mib), |bencher| {
            bencher.iter(|| {
                let mut file = File::open(&segment).expect("the segment can be opened");
                file.read_exact(&mut buffer).expect("the segment can be read");
                crc32c::crc32c(&buffer)
            });
        });
        group.bench_function(BenchmarkId::new("open, MiB", mib), |bencher| {
            bencher.iter_custom(|iterations| {
                (0..iterations)
                    .map(|_| {
                        let log = scratch::directory(&scratch::parent());
                        leave(log.path(), bytes);
                        let started = Instant::now();
                        let opened = open(log.path());
                        let spent = started.elapsed();
                        assert!(opened.recovery.scanned_bytes >= bytes, "everything was scanned");
                        drop(opened);
                        spent
                    })
                    .sum()
            });
        });
        scratch::clear(directory);
    }
    group.finish();
}

fn roll_over(criterion: &mut Criterion) {
    const RECORDS: usize = 64;
    const BYTES: u64 = 4 << 20;
    let payload = Payload::new(1024);
    let batches = BYTES / (RECORDS * payload.stored_bytes()) as u64;
    let mut group = criterion.benchmark_group("roll-over, 4 MiB durable");
    group.throughput(Throughput::Bytes(BYTES));
    let directory = scratch::directory(&scratch::parent());
    for primitive in Primitive::ALL {
        let Ok(file) = WrittenFile::open_or_create(&directory.path().join("bare"), 256 << 20, primitive)
        else {
            continue;
        };
        let mut bound = Bound::new(file, payload.clone(), RECORDS);
        group.bench_function(primitive.name(), |bencher| {
            bencher.iter(|| (0..batches).for_each(|_| bound.step().expect("the disk is sound")));
        });
    }
    for (name, segment_bytes) in [("no roll", 256_u64 << 20), ("four rolls", 1 << 20)] {
        let log = directory.path().join(name);
        let options = Options { segment_bytes, ..Options::default() };
        let running = RunningLog::open_at(&log, devices::by_itself(), options);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                (0..batches).for_each(|_| appenders::append_on_thread(&running.log, &payload, RECORDS));
            });
        });
        running.close();
    }
    group.finish();
    scratch::clear(directory);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = recovery, roll_over
}
