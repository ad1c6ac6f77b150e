use super::*;
use crate::device::simulated::Disk;

const CHECKPOINT: Checkpoint = Checkpoint {
    generation: 7,
    log_id: LogId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    segment_bytes: 0x1_0000,
    durable_end: PhysicalOffset::new(0x2_0000),
    chain: Chain::new(0x33f3_5efb),
    epoch: Epoch::new(3),
    epoch_start: PhysicalOffset::new(0x1_1010),
    highest_epoch: Epoch::new(4),
    oldest_segment: PhysicalOffset::new(0x1_0000),
    newest_segment: PhysicalOffset::new(0x2_0000),
    led_from: PhysicalOffset::ZERO,
    stored_at: 1_700_000_000_009,
    clean: true,
};

const GOLDEN: [u8; 112] = [
    b'S', b'K', b'Y', b'L', b'K', b'C', b'K', b'P', // magic
    0x01, 0x00, 0x00, 0x00, // format_version
    0x01, 0x00, 0x00, 0x00, // flags: clean
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
    0x10, // log_id
    0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // generation
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, // segment_bytes
    0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, // durable_end
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, // oldest_segment
    0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, // newest_segment
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // led_from
    0x10, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, // epoch_start
    0x09, 0x68, 0xe5, 0xcf, 0x8b, 0x01, 0x00, 0x00, // stored_at
    0x03, 0x00, 0x00, 0x00, // epoch
    0x04, 0x00, 0x00, 0x00, // highest_epoch
    0xfb, 0x5e, 0xf3, 0x33, // chain
    0x09, 0x83, 0x8c, 0xfd, // crc
];

#[test]
fn golden_bytes() {
    let mut slot = [0; SLOT_BYTES];
    slot[..GOLDEN.len()].copy_from_slice(&GOLDEN);
    assert_eq!(CHECKPOINT.to_slot(), slot);
    assert_eq!(Checkpoint::from_slot(&slot), Ok(CHECKPOINT));
}

#[test]
fn every_flipped_bit_is_noticed() {
    for bit in (0..GOLDEN.len() * 8).chain([SLOT_BYTES * 8 - 1]) {
        let mut slot = CHECKPOINT.to_slot();
        slot[bit / 8] ^= 1 << (bit % 8);
        assert!(Checkpoint::from_slot(&slot).is_err(), "bit {bit}");
    }
}

#[test]
fn another_version_is_told_from_a_flipped_bit() {
    let mut slot = CHECKPOINT.to_slot();
    slot[8] = 2;
    assert!(matches!(Checkpoint::from_slot(&slot), Err(SlotError::Crc { .. })));
    let crc = crc32c::crc32c(&slot[..108]);
    slot[108..112].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Checkpoint::from_slot(&slot), Err(SlotError::FormatVersion { found: 2 }));
}

#[test]
fn contradictions_are_refused() {
    let far = PhysicalOffset::new(u64::MAX << 16);
    for wrong in [
        Checkpoint { segment_bytes: 0, ..CHECKPOINT },
        Checkpoint { segment_bytes: 1 << 20, ..CHECKPOINT },
        Checkpoint { oldest_segment: PhysicalOffset::new(0x3_0000), ..CHECKPOINT },
        Checkpoint { newest_segment: far, durable_end: far, ..CHECKPOINT },
        Checkpoint { durable_end: PhysicalOffset::new(0x3_0008), ..CHECKPOINT },
        Checkpoint { durable_end: PhysicalOffset::new(0x2_0004), ..CHECKPOINT },
        Checkpoint { durable_end: PhysicalOffset::ZERO, ..CHECKPOINT },
        Checkpoint { durable_end: PhysicalOffset::new(0x1_0008), ..CHECKPOINT },
        Checkpoint { durable_end: PhysicalOffset::new(0x1_1000), ..CHECKPOINT },
        Checkpoint { epoch: Epoch::ZERO, durable_end: PhysicalOffset::new(0x1_1008), ..CHECKPOINT },
        Checkpoint { highest_epoch: Epoch::new(2), ..CHECKPOINT },
        Checkpoint { highest_epoch: Epoch::new(u32::MAX), ..CHECKPOINT },
        Checkpoint { epoch_start: PhysicalOffset::new(0x2_0008), ..CHECKPOINT },
    ] {
        assert_eq!(Checkpoint::from_slot(&wrong.to_slot()), Err(SlotError::Contradiction), "{wrong:?}");
    }
}

fn first() -> Checkpoint {
    Checkpoint { generation: FIRST_GENERATION, ..CHECKPOINT }
}

#[test]
fn slots_take_turns() {
    let disk = Disk::new(1);
    assert!(CheckpointFile::load(&disk).unwrap().is_none());
    let mut file = CheckpointFile::create(&disk, first()).unwrap();
    for stored_at in 1..6 {
        file.store(Checkpoint { stored_at, ..*file.current() }).unwrap();
        let loaded = CheckpointFile::load(&disk).unwrap().unwrap();
        let current = *loaded.file.unwrap().current();
        assert_eq!((current.stored_at, current.generation), (stored_at, FIRST_GENERATION + stored_at));
        assert_eq!(loaded.damaged, None);
    }
}

#[test]
fn a_torn_slot_leaves_the_other() {
    let disk = Disk::new(1);
    let mut file = CheckpointFile::create(&disk, first()).unwrap();
    file.store(first()).unwrap();
    for (slot, generation) in [(0, FIRST_GENERATION), (1, FIRST_GENERATION + 1)] {
        let damaged = disk.kill();
        damaged.flip_bit(CHECKPOINT_NAME, slot * SLOT_BYTES as u64 + 50, 0).unwrap();
        let loaded = CheckpointFile::load(&damaged).unwrap().unwrap();
        assert_eq!(loaded.file.unwrap().current().generation, generation);
        assert!(matches!(loaded.damaged, Some(SlotError::Crc { .. })));
    }
}

#[test]
fn an_empty_slot_is_expected_only_at_the_beginning() {
    let disk = Disk::new(1);
    let mut file = CheckpointFile::create(&disk, first()).unwrap();
    let only = CheckpointFile::load(&disk).unwrap().unwrap();
    assert!(only.file.is_ok() && only.damaged.is_none());
    file.store(first()).unwrap();
    disk.open(CHECKPOINT_NAME).unwrap().write_at(SLOT_BYTES as u64, &[0; SLOT_BYTES]).unwrap();
    let lost = CheckpointFile::load(&disk).unwrap().unwrap();
    assert_eq!(lost.damaged, Some(SlotError::Empty));
}

#[test]
fn a_power_cut_leaves_one_of_the_two_newest() {
    for seed in 0..200 {
        let disk = Disk::new(seed);
        let mut file = CheckpointFile::create(&disk, first()).unwrap();
        file.store(Checkpoint { stored_at: 1, ..first() }).unwrap();
        disk.power_off_at(1 + seed % 2);
        file.store(Checkpoint { stored_at: 2, ..first() }).unwrap_err();
        let loaded = CheckpointFile::load(&disk.crash()).unwrap().unwrap();
        let stored_at = loaded.file.unwrap().current().stored_at;
        assert!([1, 2].contains(&stored_at), "seed {seed}: {stored_at}");
    }
}

#[test]
fn a_power_cut_during_creation_leaves_none_or_the_first() {
    for seed in 0..200 {
        let disk = Disk::new(seed);
        disk.power_off_at(1 + seed % 5);
        assert!(CheckpointFile::create(&disk, first()).is_err());
        match CheckpointFile::load(&disk.crash()).unwrap() {
            None => {}
            Some(loaded) => assert_eq!(*loaded.file.unwrap().current(), first()),
        }
    }
}
