//! What do the checksums of a record cost, alone and with the copy that every append makes?

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for bytes in [256_usize, 1 << 10, 4 << 10, 16 << 10, 64 << 10] {
        group.throughput(Throughput::Bytes(bytes as u64));
        let source = vec![7_u8; bytes];
        let mut target = vec![0_u8; bytes];
        group.bench_function(BenchmarkId::new("memcpy", bytes), |bencher| {
            bencher.iter(|| black_box(&mut target[..]).copy_from_slice(black_box(&source)));
        });
        group.bench_function(BenchmarkId::new("CRC32C", bytes), |bencher| {
            bencher.iter(|| crc32c::crc32c(black_box(&source)));
        });
        group.bench_function(BenchmarkId::new("memcpy + CRC32C", bytes), |bencher| {
            bencher.iter(|| {
                black_box(&mut target[..]).copy_from_slice(black_box(&source));
                crc32c::crc32c(black_box(&source))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    targets = checksums
}
