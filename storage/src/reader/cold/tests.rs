use super::*;
use crate::clock::SimulatedClock;
use crate::device::simulated::Disk;
use crate::segment::segment_name;

const SEGMENT_BYTES: u64 = 1 << 20;

/// Two segments, of which the second is short, on a disk that can be made to fail.
struct World {
    disk: Disk,
    cold: Cold,
    written: Frontier,
    end: u64,
}

fn byte(at: u64) -> u8 {
    u8::try_from((at / 7 + at / 4096) % 251).expect("below 251")
}

fn expected(at: u64, bytes: u64) -> Vec<u8> {
    (at..at + bytes).map(byte).collect()
}

fn world(cache_bytes: u64) -> World {
    let (disk, end) = (Disk::new(1), SEGMENT_BYTES + 300_000);
    for (base, bytes) in [(0, SEGMENT_BYTES), (SEGMENT_BYTES, 300_000)] {
        let file = disk.create(&segment_name(PhysicalOffset::new(base))).expect("the name is free");
        file.write_at(0, &expected(base, bytes)).expect("the disk has space");
    }
    let written = Frontier::new(PhysicalOffset::new(end), None);
    let clock = Arc::new(SimulatedClock::new(0));
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    let cold = Cold::new(files, clock, SEGMENT_BYTES, cache_bytes, u64::MAX, written.get());
    World { disk, cold, written, end }
}

impl World {
    fn request(&self, at: u64, bytes: u64) -> Request<'_> {
        let visible_end = PhysicalOffset::new(self.end);
        Request { at: PhysicalOffset::new(at), bytes, visible_end, written: &self.written }
    }

    fn read(&self, at: u64, bytes: u64) -> io::Result<Bytes> {
        self.cold.read(self.request(at, bytes))
    }

    fn keeps(&self, at: u64) -> bool {
        self.cold.pieces.get(PhysicalOffset::new(at), 0, 1).is_some()
    }
}

#[test]
fn every_way_gives_the_same_bytes() {
    for cache_bytes in [0, PIECE_BYTES, 32 << 20] {
        let world = world(cache_bytes);
        for bytes in [1, 100, 4096, 20_000, PIECE_BYTES, 300_001, SEGMENT_BYTES] {
            for start in [0, 1, 4097, PIECE_BYTES - 50, 500_000] {
                let mut at = start;
                while at < SEGMENT_BYTES {
                    let bytes = bytes.min(SEGMENT_BYTES - at);
                    assert_eq!(world.read(at, bytes).unwrap(), expected(at, bytes), "{bytes} at {at}");
                    let found = world.cold.find(world.request(at, bytes)).unwrap();
                    assert_eq!(found, expected(at, bytes), "{bytes} at {at}");
                    at += (bytes + 3).max(SEGMENT_BYTES / 40);
                }
            }
        }
        // The file of the newest segment ends before the segment.
        assert_eq!(world.read(world.end - 10, 50).unwrap(), expected(world.end - 10, 10));
        assert_eq!(world.read(world.end + 10, 50).unwrap(), Bytes::new());
    }
}

#[test]
fn who_goes_on_shares_a_piece_and_who_jumps_keeps_none() {
    let world = world(32 << 20);
    for at in [0, 600_000, 200_000, 900_000] {
        world.read(at, 1000).unwrap();
    }
    assert!((0..8).all(|index| !world.keeps(index * PIECE_BYTES)));
    let first = world.read(1000, 32_000).unwrap();
    assert!(world.keeps(0));
    let again = world.read(1000, 32_000).unwrap();
    assert_eq!(first.as_ptr(), again.as_ptr(), "one copy serves both");
    let small = world.read(1000, 100).unwrap();
    assert_ne!(small.as_ptr(), first.as_ptr(), "a small slice does not hold a piece");
}

#[test]
fn a_piece_that_is_still_written_to_is_not_kept() {
    let world = world(32 << 20);
    let at = SEGMENT_BYTES + 2 * PIECE_BYTES;
    world.read(at, 1000).unwrap();
    world.read(at + 1000, 1000).unwrap();
    assert!(!world.keeps(at), "the log ends within");
    world.read(at - 2000, 1000).unwrap();
    world.read(at - 1000, 1000).unwrap();
    assert!(world.keeps(at - PIECE_BYTES));
}

#[test]
fn what_cannot_be_read_is_not_in_the_way_of_the_rest() {
    let world = world(32 << 20);
    world.disk.fail_reads(&segment_name(PhysicalOffset::ZERO), 50_000..50_512).unwrap();
    let mut failed = Vec::new();
    for at in (0..PIECE_BYTES).step_by(1000) {
        match world.read(at, 1000) {
            Ok(bytes) => assert_eq!(bytes, expected(at, 1000)),
            Err(_) => failed.push(at),
        }
    }
    assert_eq!(failed, [50_000]);
    assert!(world.read(40_000, 200_000).is_err());
    // A window is as long as it can be.
    let mut window = vec![0; 200_000];
    let filled = world.cold.fill(world.request(0, 200_000), &mut window, 40_000).unwrap();
    assert_eq!((filled, &window[..filled]), (40_000, &expected(0, 40_000)[..]));
    let filled = world.cold.fill(world.request(51_000, 100_000), &mut window, 10).unwrap();
    assert!(filled >= 10 && window[..filled] == expected(51_000, filled as u64));
    world.disk.heal_reads();
    assert_eq!(world.read(50_000, 1000).unwrap(), expected(50_000, 1000), "nothing was poisoned");
}

#[test]
fn trimmed_segments_are_closed_and_forgotten() {
    let world = world(32 << 20);
    world.read(0, 1000).unwrap();
    world.read(1000, 1000).unwrap();
    assert!(world.keeps(0));
    world.disk.remove(&segment_name(PhysicalOffset::ZERO)).unwrap();
    world.cold.trim(PhysicalOffset::new(SEGMENT_BYTES));
    assert!(!world.keeps(0));
    assert!(world.read(0, 1000).is_err());
    assert!(world.read(SEGMENT_BYTES, 1000).is_ok());
}
