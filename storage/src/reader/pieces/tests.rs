use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::*;

const PIECE: u64 = 1000;

fn at(index: u64) -> PhysicalOffset {
    PhysicalOffset::new(index * PIECE)
}

fn piece(index: u64) -> Bytes {
    Bytes::from(vec![u8::try_from(index % 251).expect("below 251"); 1000])
}

/// Reads a part of a piece; whether it had to be read from the file.
fn read(pieces: &Pieces, index: u64, from: usize, to: usize) -> bool {
    let mut was_read = false;
    let bytes = pieces.get_or_read(at(index), from, to, || {
        was_read = true;
        Ok(piece(index))
    });
    assert_eq!(bytes.expect("it can be read"), piece(index));
    assert!(held(pieces) <= pieces.bytes_max);
    was_read
}

/// Reads through a piece in small steps, as who follows the log does.
fn read_through(pieces: &Pieces, index: u64) -> bool {
    let was_read = read(pieces, index, 0, 100);
    for step in 1..10 {
        assert!(!read(pieces, index, step * 100, step * 100 + 100), "it is there from the first step on");
    }
    was_read
}

fn held(pieces: &Pieces) -> u64 {
    let shelf = pieces.shelf.lock();
    let lengths = shelf.slots.values().map(|slot| match slot {
        Slot::Arriving { .. } => 0,
        Slot::Held(piece) => piece.bytes.len() as u64,
    });
    let held = lengths.sum();
    assert_eq!(held, shelf.held_bytes);
    held
}

#[test]
fn a_replay_evicts_itself_and_not_what_others_come_back_to() {
    let pieces = Pieces::new(8 * PIECE);
    for _ in 0..2 {
        for index in 0..4 {
            read_through(&pieces, index);
        }
    }
    for index in 100..200 {
        assert!(read_through(&pieces, index));
    }
    for index in 0..4 {
        assert!(!read_through(&pieces, index), "piece {index} is still there");
    }
}

#[test]
fn what_is_used_again_takes_all_the_room_in_the_end_and_the_oldest_use_goes_first() {
    let pieces = Pieces::new(8 * PIECE);
    for index in 0..8 {
        for _ in 0..2 {
            read_through(&pieces, index);
        }
    }
    assert_eq!(held(&pieces), 8 * PIECE);
    read_through(&pieces, 0);
    read_through(&pieces, 50);
    assert!(pieces.get(at(1), 0, 1).is_none());
    assert!(pieces.get(at(0), 0, 1).is_some());
}

#[test]
fn a_cache_without_room_keeps_nothing_and_serves_all() {
    let pieces = Pieces::new(PIECE - 1);
    assert!(!pieces.may_hold(PIECE));
    assert!(read(&pieces, 3, 0, 10) && read(&pieces, 3, 10, 20));
    assert_eq!(held(&pieces), 0);
}

#[test]
fn a_trim_drops_what_lies_below_for_good() {
    let pieces = Pieces::new(8 * PIECE);
    for index in 0..6 {
        read_through(&pieces, index);
    }
    // One arrives while its segment is given up.
    let late = pieces.get_or_read(at(6), 0, 10, || {
        pieces.trim(at(7));
        Ok(piece(6))
    });
    assert_eq!(late.unwrap(), piece(6), "whoever has asked gets it");
    assert_eq!(held(&pieces), 0);
    assert!(read_through(&pieces, 7));
    assert_eq!(held(&pieces), PIECE);
}

#[test]
fn what_is_forgotten_is_read_again() {
    let pieces = Pieces::new(8 * PIECE);
    for index in 0..4 {
        read_through(&pieces, index);
    }
    pieces.forget(PhysicalOffset::new(1500), PhysicalOffset::new(2001));
    let is_there = |index| pieces.get(at(index), 0, 1).is_some();
    assert_eq!([0, 1, 2, 3].map(is_there), [true, false, false, true]);
}

#[test]
fn what_is_forgotten_while_it_arrives_is_not_kept() {
    let pieces = Pieces::new(8 * PIECE);
    let arrive = |index, from, to| {
        let stale = pieces.get_or_read(at(index), 0, 10, || {
            pieces.forget(PhysicalOffset::new(from), PhysicalOffset::new(to));
            Ok(piece(99))
        });
        assert_eq!(stale.unwrap(), piece(99), "whoever has asked gets it");
        pieces.get(at(index), 0, 1).is_some()
    };
    assert!(!arrive(1, 1500, 1501));
    assert!(read_through(&pieces, 1), "it is read again");
    assert!(!arrive(2, 1000, 2001), "by its first byte");
    assert!(arrive(3, 1000, 3000), "what lies behind is not meant");
}

#[test]
fn a_failed_read_leaves_nothing_behind() {
    let pieces = Pieces::new(8 * PIECE);
    assert!(pieces.get_or_read(at(0), 0, 1, || Err(io::ErrorKind::Other.into())).is_err());
    assert!(read_through(&pieces, 0));
    // Not even one that panics.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(pieces.get_or_read(at(1), 0, 1, || panic!("as a device might")));
    }));
    assert!(panicked.is_err());
    assert!(read_through(&pieces, 1));
}

#[test]
fn of_many_who_ask_for_a_piece_one_reads_it() {
    let pieces = Arc::new(Pieces::new(8 * PIECE));
    let reads = Arc::new(AtomicU64::new(0));
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let (pieces, reads) = (Arc::clone(&pieces), Arc::clone(&reads));
            thread::spawn(move || {
                let bytes = pieces.get_or_read(at(5), 0, 10, || {
                    reads.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                    Ok(piece(5))
                });
                assert_eq!(bytes.unwrap(), piece(5));
            })
        })
        .collect();
    askers.into_iter().for_each(|asker| asker.join().unwrap());
    assert_eq!(reads.load(Ordering::Relaxed), 1);
}
