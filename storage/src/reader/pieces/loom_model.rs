//! Two readers of one piece, and what comes between and ends its being kept, in every order.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::*;

const PIECE: u64 = 64;

fn ask(pieces: &Pieces, reads: &AtomicU64) {
    let bytes = pieces.get_or_read(PhysicalOffset::ZERO, 0, 8, || {
        reads.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from_static(&[7; PIECE as usize]))
    });
    assert_eq!(bytes.expect("it can be read"), [7; PIECE as usize].as_slice());
}

#[test]
fn two_who_ask_get_a_piece_that_one_has_read() {
    loom::model(|| {
        let pieces = Arc::new(Pieces::new(PIECE));
        let reads = Arc::new(AtomicU64::new(0));
        let other = {
            let (pieces, reads) = (Arc::clone(&pieces), Arc::clone(&reads));
            thread::spawn(move || ask(&pieces, &reads))
        };
        ask(&pieces, &reads);
        other.join().expect("it has not panicked");
        assert_eq!(reads.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn nothing_is_kept_of_what_is_trimmed_while_it_arrives() {
    loom::model(|| {
        let pieces = Arc::new(Pieces::new(PIECE));
        let reads = Arc::new(AtomicU64::new(0));
        let other = {
            let pieces = Arc::clone(&pieces);
            thread::spawn(move || pieces.trim(PhysicalOffset::new(PIECE)))
        };
        ask(&pieces, &reads);
        other.join().expect("it has not panicked");
        assert!(pieces.get(PhysicalOffset::ZERO, 0, 1).is_none());
    });
}

#[test]
fn nothing_stale_is_kept_of_what_is_forgotten_while_it_arrives() {
    loom::model(|| {
        let pieces = Arc::new(Pieces::new(PIECE));
        let file = Arc::new(AtomicU64::new(6));
        let other = {
            let (pieces, file) = (Arc::clone(&pieces), Arc::clone(&file));
            thread::spawn(move || {
                file.store(7, Ordering::Release);
                pieces.forget(PhysicalOffset::ZERO, PhysicalOffset::new(PIECE));
            })
        };
        let read = || {
            pieces.get_or_read(PhysicalOffset::ZERO, 0, 8, || {
                let byte = u8::try_from(file.load(Ordering::Acquire)).expect("it is a small one");
                Ok(Bytes::from(vec![byte; PIECE as usize]))
            })
        };
        assert!(read().is_ok());
        other.join().expect("it has not panicked");
        assert_eq!(read().expect("it can be read"), [7; PIECE as usize].as_slice());
    });
}
