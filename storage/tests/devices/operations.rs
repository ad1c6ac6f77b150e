//! Operations of all shapes, and what others find in the file meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use skylark_storage::device::{DeviceKind, File, Files, Operation};
use zerocopy::{Immutable, IntoBytes};

use crate::{directory, temporary, usable};

const BLOCK: usize = 4096;

#[derive(Clone, IntoBytes, Immutable)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

struct Blocks(Vec<Block>);

impl AsRef<[u8]> for Blocks {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Whole blocks of memory with this content in front, and zeros behind.
pub fn blocks(content: &[u8]) -> Bytes {
    let block = |content: &[u8]| {
        let mut block = Block([0; BLOCK]);
        block.0[..content.len()].copy_from_slice(content);
        block
    };
    Bytes::from_owner(Blocks(content.chunks(BLOCK).map(block).collect()))
}

fn read(file: &dyn File, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    assert_eq!(file.read_at(0, &mut read).unwrap(), bytes);
    read
}

/// Random operations on a file, beside the plainest model of it: its bytes.
fn play(kind: DeviceKind, seed: u64) {
    const FILE_BLOCKS: usize = 64;
    let temporary = temporary();
    let directory = directory(&temporary, kind);
    let file = directory.create("a").unwrap();
    file.write_zeros(0, (FILE_BLOCKS * BLOCK) as u64).unwrap();
    file.sync().unwrap();
    let mut model = vec![0; FILE_BLOCKS * BLOCK];
    let mut device = directory.device();
    device.attach("a").unwrap();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut tail = 0;
    for round in 0..120_u8 {
        // Behind the last one, over its last block as a log does, or anywhere.
        let at = match round % 4 {
            0 => random.random_range(0..FILE_BLOCKS),
            1 => tail,
            _ => tail.saturating_sub(1),
        };
        let mut pieces = Vec::new();
        let mut end = at;
        for _ in 0..random.random_range(0..=3) {
            let count = if random.random_ratio(1, 3) { 1 } else { random.random_range(1..20) };
            if end + count > FILE_BLOCKS {
                break;
            }
            let mut content = vec![0_u8; count * BLOCK];
            random.fill(&mut content[..]);
            model[end * BLOCK..(end + count) * BLOCK].copy_from_slice(&content);
            pieces.push(blocks(&content));
            end += count;
        }
        tail = if end >= FILE_BLOCKS { 0 } else { end };
        let flush = random.random_ratio(2, 3);
        let operation = Operation { at: (at * BLOCK) as u64, pieces: pieces.into_iter().collect(), flush };
        let ticket = device.submit(operation);
        let (completed, outcome) = device.complete().unwrap();
        assert_eq!(completed, ticket);
        outcome.unwrap();
        assert!(device.complete().is_none());
        // Through the page cache, where an earlier round has left its pages.
        assert!(read(&*file, model.len()) == model, "{kind}, seed {seed}, round {round}");
        if round % 40 == 39 {
            device.attach("a").unwrap();
        }
    }
}

#[test]
fn operations_of_all_shapes_land_where_they_should() {
    for kind in usable() {
        for seed in 0..3 {
            play(kind, seed);
        }
    }
}

#[test]
fn a_flush_alone_and_nothing_at_all_are_operations() {
    for kind in usable() {
        let temporary = temporary();
        let directory = directory(&temporary, kind);
        directory.create("a").unwrap();
        let mut device = directory.device();
        device.attach("a").unwrap();
        for flush in [false, true, true] {
            device.submit(Operation { at: 0, pieces: Default::default(), flush });
            device.complete().unwrap().1.unwrap();
        }
        assert_eq!(directory.open("a").unwrap().len().unwrap(), 0);
        // A file grows where nobody has prepared it.
        let pieces = [blocks(&[1; BLOCK]), blocks(&[2; 2 * BLOCK])];
        device.submit(Operation { at: 8192, pieces: pieces.into_iter().collect(), flush: true });
        device.complete().unwrap().1.unwrap();
        assert_eq!(directory.open("a").unwrap().len().unwrap(), 8192 + 3 * 4096);
    }
}

#[test]
fn several_operations_at_a_time_are_all_carried_out() {
    for kind in usable() {
        let temporary = temporary();
        let directory = directory(&temporary, kind);
        directory.create("a").unwrap().write_zeros(0, 1 << 20).unwrap();
        let mut device = directory.device();
        device.attach("a").unwrap();
        let mut submitted: Vec<_> = (0..40_u8)
            .map(|number| {
                let pieces = [blocks(&[number; BLOCK])].into_iter().collect();
                device.submit(Operation { at: u64::from(number) * 4096, pieces, flush: number % 5 == 0 })
            })
            .collect();
        while let Some((ticket, outcome)) = device.complete() {
            outcome.unwrap();
            submitted.retain(|submitted| *submitted != ticket);
        }
        assert!(submitted.is_empty());
        let found = read(&*directory.open("a").unwrap(), 40 * BLOCK);
        assert!((0..40).zip(found.chunks(BLOCK)).all(|(number, block)| block.iter().all(|b| *b == number)));
    }
}

/// A byte that tells where it belongs.
fn byte_at(position: u64) -> u8 {
    (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

#[test]
fn who_reads_below_the_published_end_finds_what_was_published() {
    const FILE_BYTES: u64 = 8 << 20;
    for kind in usable() {
        let temporary = temporary();
        let directory = directory(&temporary, kind);
        let file = directory.create("a").unwrap();
        file.write_zeros(0, FILE_BYTES).unwrap();
        file.sync().unwrap();
        let mut device = directory.device();
        device.attach("a").unwrap();
        let (end, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let reader = thread::spawn({
            let (end, stop) = (Arc::clone(&end), Arc::clone(&stop));
            move || {
                let mut random = SmallRng::seed_from_u64(1);
                let mut buffer = vec![0; 64 << 10];
                let mut reads = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let published = end.load(Ordering::Acquire);
                    // Mostly the newest bytes, with readahead into those that are about to be written.
                    let from = published.saturating_sub(random.random_range(1..100_000));
                    let bytes = usize::try_from(published - from).unwrap().min(buffer.len());
                    assert_eq!(file.read_at(from, &mut buffer[..bytes]).unwrap(), bytes);
                    let wrong = (from..).zip(&buffer[..bytes]).find(|&(at, byte)| *byte != byte_at(at));
                    assert_eq!(wrong, None, "{kind}: read {bytes} bytes from {from}");
                    reads += 1;
                }
                reads
            }
        });
        let mut random = SmallRng::seed_from_u64(2);
        let began = Instant::now();
        let mut at = 0_u64;
        while began.elapsed() < Duration::from_millis(700) {
            let next = at + random.random_range(1..20_000);
            if next > FILE_BYTES {
                break;
            }
            // As a log packs its groups: the block that is not full yet is written again.
            let first = at / 4096 * 4096;
            let content: Vec<u8> = (first..next).map(byte_at).collect();
            let pieces = [blocks(&content)].into_iter().collect();
            device.submit(Operation { at: first, pieces, flush: true });
            device.complete().unwrap().1.unwrap();
            at = next;
            end.store(at, Ordering::Release);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    }
}

#[test]
fn a_device_waits_for_its_predecessor() {
    for kind in usable() {
        let temporary = temporary();
        let directory = directory(&temporary, kind);
        directory.create("a").unwrap();
        let mut first = directory.device();
        first.attach("a").unwrap();
        let pieces = |content| [blocks(&[content; BLOCK])].into_iter().collect();
        let successor = thread::spawn({
            let (directory, pieces) = (directory.clone(), pieces(2));
            move || {
                let mut second = directory.device();
                second.attach("a").unwrap();
                second.submit(Operation { at: 0, pieces, flush: true });
                second.complete().unwrap().1.unwrap();
            }
        });
        first.submit(Operation { at: 0, pieces: pieces(1), flush: true });
        first.complete().unwrap().1.unwrap();
        drop(first);
        successor.join().unwrap();
        assert_eq!(read(&*directory.open("a").unwrap(), 1), [2]);
    }
}

#[test]
fn a_segment_that_is_missing_is_named() {
    for kind in usable() {
        let temporary = temporary();
        let mut device = directory(&temporary, kind).device();
        let error = device.attach("log/missing").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        assert!(error.to_string().contains("log/missing"), "{error}");
    }
}

#[test]
fn a_write_that_fails_is_handed_over_as_the_outcome() {
    for kind in usable() {
        let temporary = temporary();
        let directory = directory(&temporary, kind);
        directory.create("a").unwrap();
        let mut device = directory.device();
        device.attach("a").unwrap();
        let pieces = || [blocks(&[1; BLOCK])].into_iter().collect();
        device.submit(Operation { at: 1 << 62, pieces: pieces(), flush: true });
        let error = device.complete().unwrap().1.unwrap_err().to_string();
        assert!(error.contains("cannot write") && error.contains("/a"), "{error}");
        device.submit(Operation { at: 0, pieces: pieces(), flush: true });
        device.complete().unwrap().1.unwrap();
    }
}
