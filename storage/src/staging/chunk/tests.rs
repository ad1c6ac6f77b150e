//! Small enough for Miri; under AddressSanitizer with everything else.

use std::sync::mpsc;
use std::thread;

use super::*;

const CHUNK: usize = 2 * ALIGNMENT;
const BASE: PhysicalOffset = PhysicalOffset::new(7 * BLOCK_BYTES);

fn at(index: usize) -> PhysicalOffset {
    BASE.advance(index as u64)
}

#[test]
fn slots_are_filled_side_by_side_while_what_is_below_is_read() {
    let pool = Pool::new(CHUNK, 1);
    let mut filler = Filler::new(&pool, BASE);
    filler.fill(100).fill(1);
    // SAFETY: `fill` handed out these bytes, and its reference is gone.
    let front = unsafe { filler.source().freeze(BASE, at(100)) };
    let mut slots: Vec<Slot> = (0..4).map(|_| filler.detach(50)).collect();
    assert_eq!((filler.position(), filler.room()), (at(300), CHUNK - 300));
    thread::scope(|scope| {
        for (value, slot) in (2..).zip(&mut slots) {
            scope.spawn(move || {
                slot.fill(value);
                assert!(slot.iter().all(|&byte| byte == value));
            });
        }
        scope.spawn(|| assert_eq!(front, vec![1; 100]));
        filler.fill(10).fill(9);
    });
    drop(slots);
    // SAFETY: the slots are gone, and the threads that filled them have been joined.
    let all = unsafe { filler.source().freeze(at(100), at(310)) };
    let expected: Vec<u8> = [(1, 100), (2, 50), (3, 50), (4, 50), (5, 50), (9, 10)]
        .into_iter()
        .flat_map(|(value, count)| vec![value; count])
        .collect();
    assert_eq!(all, expected);
    assert_eq!(front, expected[..100], "what was frozen first is still there");
}

#[test]
fn memory_outlives_the_filler_and_returns_with_the_last_reader() {
    let pool = Pool::new(CHUNK, 1);
    let mut filler = Filler::new(&pool, BASE);
    filler.fill(CHUNK).fill(5);
    // SAFETY: `fill` handed out these bytes, and its reference is gone.
    let bytes = unsafe { filler.source().freeze(BASE, at(CHUNK)) };
    let source = filler.source();
    drop(filler);
    assert_eq!(source.base(), BASE);
    drop(source);
    let (sender, receiver) = mpsc::channel::<Bytes>();
    let reader = thread::spawn(move || {
        let part = receiver.recv().expect("it is sent");
        assert!(part.len() == 10 && part.iter().all(|&byte| byte == 5));
    });
    sender.send(bytes.slice(20..30)).expect("the reader waits");
    drop(bytes);
    reader.join().expect("the reader found what it expected");
    assert_eq!(pool.kept.lock().len(), 1);
    // The next chunk gets the same memory, and only this one is kept.
    let (first, second) = (Filler::new(&pool, BASE), Filler::new(&pool, BASE));
    assert_eq!(pool.kept.lock().len(), 0);
    drop((first, second));
    assert_eq!(pool.kept.lock().len(), 1);
}

#[test]
fn a_block_has_its_content_in_front_and_zeros_behind() {
    let pool = Pool::new(ALIGNMENT, 1);
    drop(block(&pool, &[9; ALIGNMENT]));
    let block = block(&pool, b"content");
    assert_eq!((&block[..7], block.len()), (&b"content"[..], ALIGNMENT));
    assert!(block[7..].iter().all(|&byte| byte == 0), "nothing is left of the block before");
    assert!(block.as_ptr().addr().is_multiple_of(ALIGNMENT));
}

#[test]
#[should_panic(expected = "a chunk is frozen from its front on")]
fn a_chunk_is_not_frozen_around_a_gap() {
    let mut filler = Filler::new(&Pool::new(CHUNK, 0), BASE);
    filler.fill(20).fill(1);
    // SAFETY: `fill` handed out these bytes, and its reference is gone.
    let _bytes = unsafe { filler.source().freeze(at(10), at(20)) };
}

#[test]
#[should_panic(expected = "there is room for it")]
fn a_slot_does_not_reach_beyond_its_chunk() {
    Filler::new(&Pool::new(CHUNK, 0), BASE).fill(CHUNK + 1);
}
