//! What a checksum vouches for and no writer would write: found by the fuzzer, which makes checksums fit.

use std::sync::Arc;

use skylark_storage::checkpoint::{CHECKPOINT_NAME, CheckpointFile, SLOT_BYTES, SlotError};
use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::simulated::Disk;
use skylark_storage::recovery::{Evidence, RecoveryOptions, recover};
use skylark_storage::segment::{SEGMENT_HEADER_BYTES, SegmentFields, SegmentHeader, segment_name};
use skylark_storage::{
    CommitLog, Epoch, Files, Kind, NewRecord, OpenError, Opened, Options, PhysicalOffset, ReadError, Step,
};
use zerocopy::IntoBytes;

fn open(disk: &Disk) -> Opened<()> {
    let clock = Arc::new(SimulatedClock::new(1_700_000_000_000));
    let options = Options { segment_bytes: 64 << 10, ..Options::default() };
    CommitLog::open(Arc::new(disk.clone()), clock, options, ()).expect("the log opens")
}

fn append(opened: &mut Opened<()>, rest: &[u8]) {
    let record = NewRecord { kind: Kind::new(16), head: &[], rest: &[rest] };
    opened.log.append(&[record], |(), _, _| {}).expect("there is room");
    while opened.writer.step() == Step::Worked {}
}

/// The first opening took the groups behind it, and every later one refused the log.
#[test]
fn a_misplaced_header_above_the_durable_end_ends_the_log() {
    let disk = Disk::new(1);
    let mut opened = open(&disk);
    append(&mut opened, b"written once");
    drop(opened);
    // The checkpoint has not heard of the group yet.
    let name = segment_name(PhysicalOffset::ZERO);
    let file = disk.open(&name).expect("it is there");
    let mut block = [0; SEGMENT_HEADER_BYTES];
    file.read_at(0, &mut block).expect("the disk works");
    let fields = SegmentHeader::parse(&block).expect("it is sound").fields();
    let misplaced = SegmentHeader::new(&SegmentFields { base: PhysicalOffset::new(64 << 10), ..fields });
    file.write_at(0, misplaced.as_bytes()).expect("the disk works");

    let disk = disk.kill();
    let mut opened = open(&disk);
    assert_eq!(opened.recovery.end, PhysicalOffset::ZERO);
    append(&mut opened, b"and again");
    let end = opened.log.durable().get();
    assert_eq!(open(&disk.crash()).recovery.end, end);
}

/// A repair gave up the same thing for ever.
#[test]
fn a_repair_without_progress_ends() {
    let disk = Disk::new(1);
    let mut opened = open(&disk);
    for _ in 0..20 {
        append(&mut opened, &[7; 4000]);
    }
    drop(opened);
    // All that is left is the second segment, and it says that its epoch began where no epoch record stands.
    disk.remove("CHECKPOINT").expect("it is there");
    disk.remove(&segment_name(PhysicalOffset::ZERO)).expect("it is there");
    let base = PhysicalOffset::new(64 << 10);
    let file = disk.open(&segment_name(base)).expect("the log has rolled");
    let mut block = [0; SEGMENT_HEADER_BYTES];
    file.read_at(0, &mut block).expect("the disk works");
    let fields = SegmentHeader::parse(&block).expect("it is sound").fields();
    let contradicting = SegmentHeader::new(&SegmentFields { epoch_start: base.advance(5000), ..fields });
    file.write_at(0, contradicting.as_bytes()).expect("the disk works");

    let disk = disk.kill();
    let options = RecoveryOptions { repair: true, ..RecoveryOptions::default() };
    let refused = recover(&disk, &options).err().expect("there is nothing left to give up");
    let OpenError::Corrupt(corruption) = refused else { panic!("{refused}") };
    assert_eq!((corruption.evidence, corruption.at), (Evidence::EpochHistory, base.advance(5000)));
}

/// A repair gave up a segment, and took it back for what another one said, again and again.
#[test]
fn a_repair_takes_nothing_back_that_it_gave_up() {
    let disk = Disk::new(1);
    let mut opened = open(&disk);
    for _ in 0..40 {
        append(&mut opened, &[7; 4000]);
    }
    opened.log.close();
    while opened.writer.step() == Step::Worked {}
    drop(opened);
    let [oldest, newest] = [1, 2].map(|index| PhysicalOffset::new(index * (64 << 10)));
    let loaded = CheckpointFile::load(&disk).expect("the disk works").expect("there is a checkpoint");
    let Ok(mut file) = loaded.file else { panic!("no slot is sound") };
    let mut next = *file.current();
    assert_eq!(next.newest_segment, newest);
    next.oldest_segment = oldest;
    file.store(next).expect("the disk works");
    // The newest segment is another one, and the one before says that its epoch began in there.
    let forge = |base, change: fn(SegmentFields) -> SegmentFields| {
        let file = disk.open(&segment_name(base)).expect("it is there");
        let mut block = [0; SEGMENT_HEADER_BYTES];
        file.read_at(0, &mut block).expect("the disk works");
        let fields = SegmentHeader::parse(&block).expect("it is sound").fields();
        file.write_at(0, SegmentHeader::new(&change(fields)).as_bytes()).expect("the disk works");
    };
    forge(newest, |fields| SegmentFields { base: fields.base.advance(64 << 10), ..fields });
    forge(oldest, |fields| SegmentFields { epoch_start: fields.base.advance((64 << 10) + 5000), ..fields });

    let options = RecoveryOptions { repair: true, ..RecoveryOptions::default() };
    let refused = recover(&disk.kill(), &options).err().expect("there is nothing left to give up");
    let OpenError::Corrupt(corruption) = refused else { panic!("{refused}") };
    assert_eq!((corruption.evidence, corruption.at), (Evidence::EpochHistory, newest.advance(5000)));
}

/// A repair passed the segments that a checkpoint named, and that there were none of, one by one.
#[test]
fn a_repair_is_not_led_through_segments_that_never_were() {
    let disk = Disk::new(1);
    let mut opened = open(&disk);
    append(&mut opened, b"all there is");
    opened.log.close();
    while opened.writer.step() == Step::Worked {}
    drop(opened);
    let loaded = CheckpointFile::load(&disk).expect("the disk works").expect("there is a checkpoint");
    let Ok(mut file) = loaded.file else { panic!("no slot is sound") };
    for _ in 0..2 {
        let mut next = *file.current();
        (next.oldest_segment, next.newest_segment) =
            (PhysicalOffset::new(1 << 20), PhysicalOffset::new(1 << 60));
        next.durable_end = next.newest_segment.advance(8192);
        file.store(next).expect("the disk works");
    }
    let options = RecoveryOptions { repair: true, ..RecoveryOptions::default() };
    let repaired = recover(&disk.kill(), &options).expect("an empty log is what is left");
    assert_eq!(repaired.end, PhysicalOffset::new(1 << 60));
}

/// A reader was handed the whole group, of which the rest was written over.
#[test]
fn a_scan_ends_where_a_checkpoint_ends_the_log_inside_a_group() {
    let disk = Disk::new(1);
    let mut opened = open(&disk);
    append(&mut opened, b"whole");
    let whole = opened.log.durable().get();
    append(&mut opened, &[7; 100]);
    opened.log.close();
    while opened.writer.step() == Step::Worked {}
    drop(opened);

    let loaded = CheckpointFile::load(&disk).expect("the disk works").expect("there is a checkpoint");
    let Ok(mut file) = loaded.file else { panic!("no slot is sound") };
    let inside = whole.advance(64);
    let mut next = *file.current();
    next.durable_end = inside;
    file.store(next).expect("the disk works");

    let opened = open(&disk.kill());
    assert_eq!(opened.recovery.end, inside);
    let groups: Vec<_> = opened.log.scan(PhysicalOffset::ZERO).collect();
    let [sound @ .., last] = &groups[..] else { panic!("there are groups") };
    assert!(sound.iter().all(|group| group.as_ref().is_ok_and(|group| group.end <= whole)));
    assert!(matches!(last, Err(ReadError::NotVisible { at, .. }) if *at == whole), "{last:?}");
}

#[test]
fn a_checkpoint_of_the_far_future_does_not_keep_a_log_closed() {
    for stored_at in [u64::MAX, 1_700_000_000_000 + (1 << 33), 0] {
        let disk = Disk::new(1);
        let mut opened = open(&disk);
        append(&mut opened, b"before");
        opened.log.close();
        while opened.writer.step() == Step::Worked {}
        drop(opened);

        let loaded = CheckpointFile::load(&disk).expect("the disk works").expect("there is a checkpoint");
        let Ok(mut file) = loaded.file else { panic!("no slot is sound") };
        let mut next = *file.current();
        next.stored_at = stored_at;
        file.store(next).expect("the disk works");

        let mut opened = open(&disk.kill());
        append(&mut opened, b"behind");
        let groups =
            opened.log.scan(opened.recovery.start).collect::<Result<Vec<_>, _>>().expect("the log is sound");
        let records = groups.iter().flat_map(|group| group.records());
        let records = records.filter(|(_, record)| record.kind() == Kind::new(16));
        let found: Vec<&[u8]> = records.map(|(_, record)| record.rest()).collect();
        assert_eq!(found, [b"before", b"behind"]);
    }
}

/// Padding goes on in the epoch in front of it, so behind such a checkpoint nobody found the writer's, and the group of
/// the next segment testified against the log.
#[test]
fn a_checkpoint_of_no_epoch_inside_a_segment_is_none() {
    let disk = Disk::new(1);
    let mut opened = open(&disk);
    append(&mut opened, b"written once");
    opened.log.close();
    while opened.writer.step() == Step::Worked {}
    drop(opened);

    let loaded = CheckpointFile::load(&disk).expect("the disk works").expect("there is a checkpoint");
    let Ok(sound) = loaded.file else { panic!("no slot is sound") };
    let mut forged = *sound.current();
    assert_eq!(forged.newest_segment, PhysicalOffset::ZERO);
    // The store time makes the writer begin a segment.
    (forged.epoch, forged.epoch_start, forged.stored_at) = (Epoch::ZERO, PhysicalOffset::ZERO, u64::MAX);
    let file = disk.open(CHECKPOINT_NAME).expect("it is there");
    for generation in [forged.generation + 1, forged.generation + 2] {
        forged.generation = generation;
        let slot = (generation % 2) * SLOT_BYTES as u64;
        file.write_at(slot, &forged.to_slot()).expect("the disk works");
    }
    let found = CheckpointFile::load(&disk).expect("the disk works").expect("there is a file").file.err();
    assert_eq!(found, Some([SlotError::Contradiction; 2]));
}
