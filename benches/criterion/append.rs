//! What does an append cost until its place is known, and how long until it is durable?
//!
//! - `append/…`: time per append, the record's checksum included, until its place is known. Nothing is written to a
//!   disk; the writer drains outside the measured time. Baseline: the same bytes encoded into memory by one thread.
//! - `durable/…`: time per record until it is durable, in closed loops of 1, 2 and 16 threads. Baselines: a single
//!   thread that encodes, writes and flushes groups of as many records, with `pwrite` and `fdatasync`, and past the
//!   page cache; and another log from the registry.
//! - `group commit/…`: how long a group of so many records takes from its first append until it is durable.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, measurement::WallTime};
use skylark_benches::support::appenders::{self, RunningLog};
use skylark_benches::support::bare::{Bound, Primitive, WrittenFile};
use skylark_benches::support::devices;
use skylark_benches::support::nowhere::Nowhere;
use skylark_benches::support::okay::Okay;
use skylark_benches::support::peer::{Peer, PeerLog};
use skylark_benches::support::records::Payload;
use skylark_benches::support::scratch;
use skylark_storage::{CommitLog, Opened, Options, Step, SystemClock};

const PAYLOADS: [usize; 4] = [256, 1024, 4096, 10 << 10];
const APPENDERS: [u64; 3] = [1, 2, 16];
/// Appended together before the writer drains: within the budget of staged bytes.
const BURST_BYTES: u64 = 8 << 20;
const WRITTEN_BYTES: u64 = 256 << 20;

fn drain(opened: &mut Opened<u64>) {
    while opened.writer.step() == Step::Worked {
        while let Some(group) = opened.groups.try_next() {
            opened.groups.done(&group);
        }
    }
}

/// Does `act` so many times on each of `threads`; from the first beginning to the last end.
fn together(threads: u64, each: u64, act: impl Fn(usize) + Sync) -> Duration {
    thread::scope(|scope| {
        let appenders: Vec<_> = (0..threads)
            .map(|index| {
                let act = &act;
                scope.spawn(move || {
                    let index = usize::try_from(index).expect("there are few threads");
                    let started = Instant::now();
                    (0..each).for_each(|_| act(index));
                    (started, Instant::now())
                })
            })
            .collect();
        let times: Vec<_> =
            appenders.into_iter().map(|a| a.join().expect("appending does not panic")).collect();
        let first = times.iter().map(|(started, _)| *started).min().expect("there are threads");
        let last = times.iter().map(|(_, ended)| *ended).max().expect("there are threads");
        last - first
    })
}

/// The time in which `threads` append `iterations` records together, without that of draining.
fn burst(opened: &mut Opened<u64>, payload: &Payload, threads: u64, iterations: u64) -> Duration {
    let burst = BURST_BYTES / payload.stored_bytes() as u64 / threads;
    let mut spent = Duration::ZERO;
    let mut left = iterations;
    while left > 0 {
        let each = left.div_ceil(threads).min(burst);
        let log = &opened.log;
        spent += together(threads, each, |_| {
            appenders::append(log, payload);
        });
        drain(opened);
        left = left.saturating_sub(each * threads);
    }
    spent
}

fn appends(criterion: &mut Criterion) {
    for bytes in PAYLOADS {
        let payload = Payload::new(bytes);
        let mut group = criterion.benchmark_group(format!("append {bytes} B"));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("memcpy + CRC32C", |bencher| {
            let mut memory = vec![0; (8 << 20) / payload.stored_bytes() * payload.stored_bytes()];
            let mut encoder = skylark_benches::support::records::Encoder::default();
            let mut at = 0;
            bencher.iter(|| {
                let crc = payload.crc();
                let into = &mut memory[at..at + payload.stored_bytes()];
                encoder.record(into, at as u64, &payload, crc);
                at = (at + payload.stored_bytes()) % memory.len();
            });
        });
        for threads in APPENDERS {
            let clock = Arc::new(SystemClock::new());
            let mut opened = CommitLog::open(Arc::new(Nowhere::default()), clock, Options::default(), 0)
                .expect("nowhere is always empty");
            group.bench_with_input(BenchmarkId::new("threads", threads), &threads, |bencher, &threads| {
                bencher.iter_custom(|iterations| burst(&mut opened, &payload, threads, iterations));
            });
        }
        group.finish();
    }
}

/// Groups of so many records by one thread, as the device takes them.
fn bounds(group: &mut BenchmarkGroup<'_, WallTime>, directory: &Path, payload: &Payload, records: usize) {
    for primitive in Primitive::ALL {
        // Some file systems refuse direct transfers.
        let Ok(file) = WrittenFile::open_or_create(&directory.join("bare"), WRITTEN_BYTES, primitive) else {
            continue;
        };
        let mut bound = Bound::new(file, payload.clone(), records);
        let name = format!("{}, groups of {records}", primitive.name());
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let groups = iterations.div_ceil(records as u64);
                let started = Instant::now();
                (0..groups).for_each(|_| bound.step().expect("the disk is sound"));
                // For so many records, of which the last group may have had more.
                started.elapsed().mul_f64(iterations as f64 / (groups * records as u64) as f64)
            });
        });
    }
}

fn open_peer(directory: &Path) -> Box<dyn PeerLog> {
    let directory = directory.join("peer");
    std::fs::create_dir_all(&directory).expect("the directory for benches can be used");
    Okay.open(&directory).expect("the peer can be opened")
}

fn durable(criterion: &mut Criterion) {
    for bytes in PAYLOADS {
        let payload = Payload::new(bytes);
        let directory = scratch::directory(&scratch::parent());
        let log_directory = directory.path().join("log");
        let running = RunningLog::open_at(&log_directory, devices::by_itself(), Options::default());
        let peer = open_peer(directory.path());
        let mut group = criterion.benchmark_group(format!("durable {bytes} B"));
        group.throughput(Throughput::Elements(1));
        for threads in APPENDERS {
            let records = usize::try_from(threads).expect("there are few threads");
            bounds(&mut group, directory.path(), &payload, records);
            group.bench_with_input(
                BenchmarkId::new("log, threads", threads),
                &threads,
                |bencher, &threads| {
                    bencher.iter_custom(|iterations| {
                        let act = |_| appenders::append_on_thread(&running.log, &payload, 1);
                        together(threads, iterations.div_ceil(threads), act)
                    });
                },
            );
            let bytes = vec![7; payload.bytes()];
            let name = format!("{}, threads", Okay.name());
            group.bench_with_input(BenchmarkId::new(name, threads), &threads, |bencher, &threads| {
                bencher.iter_custom(|iterations| {
                    together(threads, iterations.div_ceil(threads), |index| peer.append(index, &bytes, 1))
                });
            });
        }
        group.finish();
        running.close();
        scratch::clear(directory);
    }
}

fn group_commit(criterion: &mut Criterion) {
    let payload = Payload::new(1024);
    let directory = scratch::directory(&scratch::parent());
    let running =
        RunningLog::open_at(&directory.path().join("log"), devices::by_itself(), Options::default());
    let mut group = criterion.benchmark_group("group commit 1 KiB");
    for records in [1, 16, 128, 512] {
        group.throughput(Throughput::Elements(records as u64));
        for primitive in Primitive::ALL {
            let file = WrittenFile::open_or_create(&directory.path().join("bare"), WRITTEN_BYTES, primitive);
            let Ok(file) = file else { continue };
            let mut bound = Bound::new(file, payload.clone(), records);
            group.bench_function(BenchmarkId::new(primitive.name(), records), |bencher| {
                bencher.iter(|| bound.step().expect("the disk is sound"));
            });
        }
        group.bench_function(BenchmarkId::new("log", records), |bencher| {
            bencher.iter(|| appenders::append_on_thread(&running.log, &payload, records));
        });
    }
    group.finish();
    running.close();
    scratch::clear(directory);
}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = short();
    targets = appends, durable, group_commit
}
