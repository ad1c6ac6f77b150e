//! What does a read cost, from memory and from files?
//!
//! - `tail read`: `read_hot` of 1 KiB and of 64 KiB that were just appended. Baseline: a copy of as many bytes.
//! - `cold read`: `read_cold` of files that the page cache holds, 4 KiB to 1 MiB anywhere in the log. Baseline: `pread`
//!   of the same places of the same files into a buffer that is there already.
//! - `scan`: the whole log, group by group, each checked. Baselines: `read` of the files, and their CRC32C alone.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use skylark_benches::support::appenders::{self, RunningLog};
use skylark_benches::support::devices;
use skylark_benches::support::records::Payload;
use skylark_benches::support::scratch;
use skylark_storage::{Options, PhysicalOffset};

const SEGMENT_BYTES: u64 = 64 << 20;
const LOG_BYTES: u64 = 256 << 20;

/// A log of a few segments, all of it in the page cache.
struct Filled {
    running: RunningLog,
    segments: Vec<PathBuf>,
    directory: tempfile::TempDir,
}

impl Filled {
    fn new() -> Self {
        let directory = scratch::directory(&scratch::parent());
        let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
        let running = RunningLog::open_at(directory.path(), devices::by_itself(), options);
        appenders::fill(&running.log, &Payload::new(1024), LOG_BYTES);
        let segments = scratch::segments(directory.path()).expect("the log has a directory");
        segments.iter().for_each(|path| drop(std::fs::read(path).expect("a segment can be read")));
        Self { running, segments, directory }
    }

    fn end(self) {
        self.running.close();
        scratch::clear(self.directory);
    }
}

fn tail(criterion: &mut Criterion) {
    let filled = Filled::new();
    let log = &filled.running.log;
    // Somewhere in memory, and within a chunk of it: what lies in two is not served without a copy.
    let end = log.durable().get().get();
    let mut bases = (1..16_u64).map(|step| end - (step << 21));
    let base = bases
        .find(|base| log.read_hot(PhysicalOffset::new(*base), (1 << 20) + (64 << 10)).is_some())
        .expect("the newest bytes are in memory");
    let mut group = criterion.benchmark_group("tail read");
    for bytes in [1_u32 << 10, 64 << 10] {
        group.throughput(Throughput::Bytes(bytes.into()));
        let source = vec![7_u8; bytes as usize];
        group.bench_function(BenchmarkId::new("copy", bytes), |bencher| {
            bencher.iter(|| black_box(black_box(&source[..]).to_vec()));
        });
        let mut at = 0;
        group.bench_function(BenchmarkId::new("read_hot", bytes), |bencher| {
            bencher.iter(|| {
                at = (at + 1024) % (1 << 20);
                log.read_hot(PhysicalOffset::new(base + at), bytes)
            });
        });
    }
    group.finish();
    filled.end();
}

fn cold(criterion: &mut Criterion) {
    let filled = Filled::new();
    let log = &filled.running.log;
    let files: Vec<File> =
        filled.segments.iter().map(|path| File::open(path).expect("a segment can be opened")).collect();
    let mut group = criterion.benchmark_group("cold read");
    for bytes in [4_u32 << 10, 64 << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(bytes.into()));
        // Steps through the first segments, with a stride that shares no factor with their length.
        let mut at = 0;
        let mut next = move || {
            at = (at + 4096 * 1_237) % (3 * SEGMENT_BYTES);
            at.min(at / SEGMENT_BYTES * SEGMENT_BYTES + SEGMENT_BYTES - (2 << 20))
        };
        let mut buffer = vec![0; bytes as usize];
        group.bench_function(BenchmarkId::new("pread", bytes), |bencher| {
            bencher.iter(|| {
                let at = next();
                let file = &files[usize::try_from(at / SEGMENT_BYTES).expect("there are few segments")];
                file.read_exact_at(&mut buffer, at % SEGMENT_BYTES).expect("a segment can be read");
                black_box(buffer[0])
            });
        });
        group.bench_function(BenchmarkId::new("read_cold", bytes), |bencher| {
            bencher
                .iter(|| log.read_cold(PhysicalOffset::new(next()), bytes).expect("a segment can be read"));
        });
    }
    group.finish();
    filled.end();
}

fn scan(criterion: &mut Criterion) {
    let filled = Filled::new();
    let log = &filled.running.log;
    let mut group = criterion.benchmark_group("scan 256 MiB, page cache");
    group.throughput(Throughput::Bytes(LOG_BYTES));
    let mut buffer = vec![0; 1 << 20];
    let mut read_all = |with: fn(u32, &[u8]) -> u32| {
        let mut crc = 0;
        for path in &filled.segments {
            let file = File::open(path).expect("a segment can be opened");
            let mut at = 0;
            loop {
                let read = file.read_at(&mut buffer, at).expect("a segment can be read");
                if read == 0 {
                    break;
                }
                crc = with(crc, &buffer[..read]);
                at += read as u64;
            }
        }
        crc
    };
    group.bench_function("read", |bencher| bencher.iter(|| read_all(|_, _| 0)));
    group.bench_function("read + CRC32C", |bencher| bencher.iter(|| read_all(crc32c::crc32c_append)));
    group.bench_function("scan", |bencher| {
        bencher.iter(|| {
            log.scan(PhysicalOffset::ZERO)
                .map(|group| group.expect("the log is sound").bytes.len())
                .sum::<usize>()
        });
    });
    group.finish();
    filled.end();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = tail, cold, scan
}
