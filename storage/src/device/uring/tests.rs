use std::thread;

use bytes::Bytes;

use super::ring::SLOTS;
use super::*;
use crate::device::{DeviceKind, Files, aligned, probe};
use crate::segment::BLOCK;
use crate::staging::chunk::{Pool, whole};

/// A device on a file `a` of zero blocks; `None` where there is no io_uring or no direct transfer.
fn device() -> Option<(tempfile::TempDir, Directory, UringDevice)> {
    let temporary = tempfile::tempdir().unwrap();
    let directory = Directory::open(temporary.path()).unwrap();
    if let Err(error) = probe::check(&directory, DeviceKind::Uring) {
        let required = std::env::var_os("SKYLARK_DEVICES").is_some_and(|devices| devices == "required");
        assert!(!required, "{error}");
        println!("skipped: {error}");
        return None;
    }
    let file = directory.create("a").unwrap();
    file.write_zeros(0, 64 * BLOCK as u64).unwrap();
    let mut device = UringDevice::new(directory.clone());
    device.attach("a").unwrap();
    Some((temporary, directory, device))
}

fn block(number: u8) -> Bytes {
    aligned::blocks([[number; BLOCK]])
}

fn operation(first_block: u64, numbers: &[u8], flush: bool) -> Operation {
    let pieces = numbers.iter().map(|&number| block(number)).collect();
    Operation { at: first_block * BLOCK as u64, pieces, flush }
}

/// The number that each block of the file is full of.
fn numbers(directory: &Directory, count: usize) -> Vec<u8> {
    let mut read = vec![0; count * BLOCK];
    assert_eq!(directory.open("a").unwrap().read_at(0, &mut read).unwrap(), read.len());
    let whole = |block: &[u8]| {
        assert!(block.iter().all(|byte| *byte == block[0]), "a block is torn");
        block[0]
    };
    read.chunks(BLOCK).map(whole).collect()
}

#[test]
fn more_operations_than_slots_complete_in_order() {
    let Some((_temporary, directory, mut device)) = device() else { return };
    let count = u8::try_from(SLOTS * 3).unwrap();
    let submitted: Vec<Ticket> = (0..count)
        .map(|number| device.submit(operation(number.into(), &[number + 1], number % 3 == 2)))
        .collect();
    let mut completed = Vec::new();
    while let Some((ticket, outcome)) = device.complete() {
        outcome.unwrap();
        completed.push(ticket);
    }
    assert_eq!(completed, submitted);
    assert_eq!(numbers(&directory, count.into()), (1..=count).collect::<Vec<_>>());
}

#[test]
fn a_flush_behind_unflushed_writes_covers_them_too() {
    let Some((_temporary, _directory, mut device)) = device() else { return };
    let is_durable_write = |device: &UringDevice| match device.under_way.back() {
        Some((_, State::Writing { durably, then_flush, .. })) => {
            assert_ne!(durably, then_flush, "a flush is either part of the write, or follows it");
            *durably
        }
        _ => panic!("the operation is being written"),
    };
    let mut write = |number: u8, flush| {
        device.submit(operation(number.into(), &[number], flush));
        let durably = flush && is_durable_write(&device);
        device.complete().unwrap().1.unwrap();
        durably
    };
    assert!(!write(1, true), "whoever had the file before may have left something");
    assert!(write(2, true));
    assert!(!write(3, false));
    assert!(!write(4, true), "the write before is to be durable as well");
    assert!(write(5, true));
    write(6, false);
    device.submit(operation(0, &[], true));
    device.complete().unwrap().1.unwrap();
    device.submit(operation(7, &[7], true));
    assert!(is_durable_write(&device));
    device.complete().unwrap().1.unwrap();
    device.attach("a").unwrap();
    device.submit(operation(8, &[8], true));
    assert!(!is_durable_write(&device));
    // Only one of two that are under way needs it, and both are covered in order.
    device.submit(operation(9, &[9], true));
    assert!(!is_durable_write(&device));
    while let Some((_, outcome)) = device.complete() {
        outcome.unwrap();
    }
    assert_eq!(device.flushed_end, device.tickets);
}

#[test]
fn a_device_that_is_dropped_at_work_lets_the_kernel_finish() {
    for _ in 0..20 {
        let Some((_temporary, directory, mut device)) = device() else { return };
        for number in 1..=4 {
            device.submit(operation(u64::from(number) * 8, &[number; 8], number % 2 == 0));
        }
        // One at least is in the kernel's hands.
        device.complete().unwrap().1.unwrap();
        drop(device);
        // The lock is free at once, and memory that was freed and is used again changes nothing on the disk.
        let reused: Vec<Bytes> = (0..64).map(|_| block(0xff)).collect();
        let mut successor = UringDevice::new(directory.clone());
        successor.attach("a").unwrap();
        assert!(numbers(&directory, 40).iter().all(|number| *number <= 4), "{}", reused.len());
    }
}

/// Writes all of some memory, which is 64 blocks; how much is registered then.
fn write_whole(device: &mut UringDevice, memory: Bytes, flush: bool) -> Option<usize> {
    device.submit(Operation { at: 0, pieces: [memory].into_iter().collect(), flush });
    device.complete().unwrap().1.unwrap();
    device.ring().registered()
}

#[test]
fn memory_that_is_used_again_is_registered_until_nobody_has_it() {
    let Some((_temporary, directory, mut device)) = device() else { return };
    let pool = Pool::new(64 * BLOCK, 2);
    device.lend(TailMemory::of(&pool));
    device.ring = None;
    device.attach("a").unwrap();
    assert_eq!(write_whole(&mut device, whole(&pool, 1), true), Some(0), "it may never be used again");
    let held = whole(&pool, 2);
    if write_whole(&mut device, held.clone(), true).is_none() {
        return println!("the kernel registers no memory here");
    }
    assert_eq!(device.ring().registered(), Some(1));
    assert_eq!(numbers(&directory, 64), [2; 64]);
    // Another stretch, used for the first time; then either of them.
    assert_eq!(write_whole(&mut device, whole(&pool, 3), false), Some(1));
    assert_eq!(write_whole(&mut device, whole(&pool, 3), false), Some(2));
    drop(held);
    for number in 4..20 {
        assert!(write_whole(&mut device, whole(&pool, number), number % 2 == 0) <= Some(2));
        assert_eq!(numbers(&directory, 64), [number; 64]);
        // Parts of it too, and what is short is written without.
        let part = whole(&pool, number + 100);
        device.submit(Operation {
            at: 0,
            pieces: [part.slice(BLOCK..40 * BLOCK)].into_iter().collect(),
            flush: true,
        });
        device.submit(Operation {
            at: 39 * BLOCK as u64,
            pieces: [part.slice(..BLOCK)].into_iter().collect(),
            flush: true,
        });
        while let Some((_, outcome)) = device.complete() {
            outcome.unwrap();
        }
        assert_eq!(numbers(&directory, 64)[..40], [number + 100; 40]);
    }
    device.attach("a").unwrap();
    assert_eq!(device.ring().registered(), Some(2), "the pool has them");
}

#[test]
fn memory_that_only_the_ring_has_is_given_up_at_the_next_segment() {
    let Some((_temporary, _directory, mut device)) = device() else { return };
    let pool = Pool::new(64 * BLOCK, 1);
    device.lend(TailMemory::of(&pool));
    device.ring = None;
    device.attach("a").unwrap();
    drop(whole(&pool, 1));
    let again = whole(&pool, 2);
    if write_whole(&mut device, again.clone(), true).is_none() {
        return println!("the kernel registers no memory here");
    }
    // The pool keeps one stretch, and that is another by now.
    drop(whole(&pool, 3));
    drop(again);
    assert_eq!(device.ring().registered(), Some(1));
    device.attach("a").unwrap();
    assert_eq!(device.ring().registered(), Some(0));
}

#[test]
fn another_thread_gets_another_ring() {
    let Some((_temporary, directory, mut device)) = device() else { return };
    assert!(!device.any_thread());
    device.submit(operation(0, &[1], true));
    device.complete().unwrap().1.unwrap();
    let mut device = thread::spawn(move || {
        device.submit(operation(1, &[2], true));
        device.complete().unwrap().1.unwrap();
        device.attach("a").unwrap();
        device
    })
    .join()
    .unwrap();
    device.submit(operation(2, &[3], true));
    device.complete().unwrap().1.unwrap();
    assert_eq!(numbers(&directory, 3), [1, 2, 3]);
}

#[test]
fn a_device_that_changes_threads_at_work_says_so_and_frees_nothing() {
    let Some((_temporary, directory, mut device)) = device() else { return };
    device.submit(operation(0, &[1], true));
    device.ring().wait().map(drop).unwrap();
    device.under_way.clear();
    device.submit(operation(1, &[2; 40], true));
    let mut device = thread::spawn(move || {
        device.submit(operation(50, &[3], true));
        assert!(device.complete().unwrap().1.is_err());
        assert!(device.complete().unwrap().1.is_err());
        assert!(device.complete().is_none());
        device
    })
    .join()
    .unwrap();
    device.attach("a").unwrap();
    device.submit(operation(60, &[4], true));
    device.complete().unwrap().1.unwrap();
    assert_eq!(numbers(&directory, 61)[60], 4);
}

#[test]
fn a_failed_write_is_the_outcome_and_the_next_one_is_not_affected() {
    let Some((_temporary, directory, mut device)) = device() else { return };
    device.submit(Operation { at: 1 << 62, pieces: [block(1)].into_iter().collect(), flush: true });
    device.submit(operation(1, &[2], true));
    let (_, outcome) = device.complete().unwrap();
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("/a"), "{error}");
    device.complete().unwrap().1.unwrap();
    assert_eq!(numbers(&directory, 2), [0, 2]);
}
