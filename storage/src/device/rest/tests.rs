use super::*;
use crate::device::aligned;

/// Four blocks of memory, each full of its number.
fn blocks() -> Bytes {
    aligned::blocks((1..=4).map(|number| [number; BLOCK]))
}

/// Writes by attempts of which each gets so far; what ends up where, and how often it was tried.
fn write(rest: Rest, attempts: &[io::Result<usize>]) -> (io::Result<()>, Vec<u8>, usize) {
    let (mut file, mut tried) = (Vec::new(), 0);
    let outcome = rest.write_all(|slices, at| {
        let offered: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let bytes = match attempts.get(tried) {
            Some(Ok(bytes)) => *bytes,
            Some(Err(error)) => {
                tried += 1;
                return Err(error.kind().into());
            }
            None => offered.len(),
        };
        tried += 1;
        let at = usize::try_from(at).unwrap();
        file.resize(file.len().max(at + bytes), 0);
        file[at..at + bytes].copy_from_slice(&offered[..bytes]);
        Ok(bytes)
    });
    (outcome, file, tried)
}

fn operation(pieces: &[Bytes]) -> Operation {
    Operation { at: BLOCK as u64, pieces: pieces.iter().cloned().collect(), flush: false }
}

fn expected(pieces: &[Bytes]) -> Vec<u8> {
    [vec![0; BLOCK]].into_iter().chain(pieces.iter().map(|piece| piece.to_vec())).flatten().collect()
}

#[test]
fn what_a_short_write_leaves_is_offered_again() {
    let pieces =
        [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"two"), Bytes::from_static(b"3")];
    for first in 1..7 {
        let interrupted = Err(io::ErrorKind::Interrupted.into());
        let (outcome, file, tried) = write(Rest::cached(operation(&pieces)), &[Ok(first), interrupted]);
        outcome.unwrap();
        assert_eq!(file, expected(&pieces));
        assert_eq!(tried, 3);
    }
}

#[test]
fn a_direct_write_goes_on_at_the_block_that_it_ended_in() {
    let blocks = blocks();
    let pieces = [blocks.slice(..2 * BLOCK), blocks.slice(2 * BLOCK..3 * BLOCK), blocks.slice(3 * BLOCK..)];
    for first in [1, 511, BLOCK, BLOCK + 512, 2 * BLOCK, 3 * BLOCK - 1, 4 * BLOCK - 512] {
        let rest = Rest::direct(operation(&pieces));
        let (outcome, file, tried) = write(rest, &[Ok(first), Ok(0)]);
        outcome.unwrap();
        assert_eq!(file, expected(&pieces), "after {first} bytes");
        assert_eq!(tried, 3);
        // Each attempt begins at a block, in the file and in memory.
        let mut rest = Rest::direct(operation(&pieces));
        rest.note(Ok(first)).unwrap();
        assert!(rest.at().is_multiple_of(BLOCK as u64));
        assert!(rest.slices().iter().all(|slice| slice.as_ptr().addr().is_multiple_of(BLOCK)));
    }
}

#[test]
fn a_write_that_gets_nowhere_ends() {
    let nowhere: Vec<io::Result<usize>> = (0..100).map(|_| Ok(0)).collect();
    let (outcome, _, tried) = write(Rest::cached(operation(&[Bytes::from_static(b"x")])), &nowhere);
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::WriteZero);
    assert!(tried < 20);
    let refused = [Ok(1), Err(io::ErrorKind::StorageFull.into())];
    let (outcome, _, tried) = write(Rest::cached(operation(&[Bytes::from_static(b"xyz")])), &refused);
    assert_eq!((outcome.unwrap_err().kind(), tried), (io::ErrorKind::StorageFull, 2));
}

#[test]
#[should_panic(expected = "whole blocks")]
fn parts_of_blocks_are_not_transferred_directly() {
    drop(Rest::direct(operation(&[blocks().slice(512..BLOCK + 512)])));
}
