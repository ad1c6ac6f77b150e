//! A roll meets a segment that exists already.

use std::sync::Arc;

use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::simulated::Disk;
use skylark_storage::recovery::{RecoveryOptions, recover};
use skylark_storage::segment::segment_name;
use skylark_storage::{CommitLog, Files, Kind, NewRecord, OpenError, Options, PhysicalOffset, Step};

const SEGMENT_BYTES: u64 = 64 << 10;

/// A roll that named its segment, and then lost the group that was to be the first there, and the one that closed
/// the segment before.
fn with_named_segment() -> Result<Disk, OpenError> {
    let disk = Disk::new(1);
    let options = RecoveryOptions { segment_bytes: SEGMENT_BYTES, ..RecoveryOptions::default() };
    let mut checkpoint = recover(&disk, &options)?.checkpoint;
    let newest_segment = PhysicalOffset::new(SEGMENT_BYTES);
    disk.create(&segment_name(newest_segment))?;
    disk.sync_directory("log")?;
    let mut next = *checkpoint.current();
    next.newest_segment = newest_segment;
    checkpoint.store(next)?;
    Ok(disk)
}

#[test]
fn a_roll_takes_the_segment_that_an_earlier_one_named() {
    for housekeeper_works in [false, true] {
        let disk = with_named_segment().unwrap();
        let options = Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
        let clock = Arc::new(SimulatedClock::new(1_700_000_000_000));
        let mut opened = CommitLog::open(Arc::new(disk.clone()), clock, options, ()).unwrap();
        let mut last = None;
        for _ in 0..100 {
            let record = NewRecord { kind: Kind::FIRST_FREE, head: &[], rest: &[&[7; 1500]] };
            last = Some(opened.log.append(&[record], |(), _, _| ()).unwrap());
            while opened.writer.step() == Step::Worked
                || (housekeeper_works && opened.housekeeper.step() == Step::Worked)
            {}
        }
        let end = last.unwrap().end;
        assert!(end.get() > 2 * SEGMENT_BYTES);
        assert_eq!(opened.log.frontiers().durable_end, end, "{:?}", opened.log.stopped());
    }
}

/// The power is cut at each operation between a segment's filling and its first group.
#[test]
fn a_segment_that_is_prepared_is_there_or_not_wherever_the_power_is_cut() {
    let options = || Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
    let clock = || Arc::new(SimulatedClock::new(1_700_000_000_000));
    let append = |opened: &mut skylark_storage::Opened<()>, bytes: usize| {
        let record = NewRecord { kind: Kind::FIRST_FREE, head: &[], rest: &[&vec![7; bytes]] };
        let appended = opened.log.append(&[record], |(), _, _| ());
        while opened.writer.step() == Step::Worked {}
        appended.map(|appended| appended.end)
    };
    let mut taken_over = 0;
    for nth in 1.. {
        let disk = Disk::new(nth);
        let mut opened = CommitLog::open(Arc::new(disk.clone()), clock(), options(), ()).unwrap();
        let mut acknowledged = append(&mut opened, 30_000).unwrap();
        let before = disk.operations();
        disk.power_off_at(nth);
        while opened.housekeeper.step() == Step::Worked {}
        if let Ok(end) = append(&mut opened, 40_000)
            && opened.log.frontiers().durable_end >= end
        {
            acknowledged = end;
        }
        let is_through = disk.operations() - before < nth;
        let after = disk.crash();
        let mut opened = CommitLog::open(Arc::new(after.clone()), clock(), options(), ()).unwrap();
        assert!(opened.log.frontiers().durable_end >= acknowledged, "cut at operation {nth}");
        let next = segment_name(PhysicalOffset::new(SEGMENT_BYTES));
        let was_prepared = after.open(&next).is_ok_and(|file| file.len().is_ok_and(|bytes| bytes > 0));
        taken_over += u64::from(was_prepared && acknowledged.get() < SEGMENT_BYTES);
        for _ in 0..3 {
            append(&mut opened, 30_000).unwrap();
            while opened.housekeeper.step() == Step::Worked {}
        }
        assert_eq!(opened.log.frontiers().durable_end, opened.log.frontiers().appended_end);
        assert!(opened.log.scan(PhysicalOffset::ZERO).all(|group| group.is_ok()), "cut at operation {nth}");
        if is_through {
            break;
        }
    }
    assert!(taken_over > 0, "some openings find it prepared");
}

/// Whoever finds data in a segment that no checkpoint names refuses it, so a spare that is given such a name must have
/// nothing in its first block: not what a file system has left there either, or a write that was torn.
#[test]
fn a_spare_of_an_earlier_opening_is_not_taken_for_data() {
    let clock = || Arc::new(SimulatedClock::new(1_700_000_000_000));
    let options = || Options { segment_bytes: SEGMENT_BYTES, ..Options::default() };
    let open = |disk: &Disk| CommitLog::open(Arc::new(disk.clone()), clock(), options(), ());
    let disk = Disk::new(1);
    let mut opened = open(&disk).unwrap();
    let record = NewRecord { kind: Kind::FIRST_FREE, head: &[], rest: &[&[7; 20_000]] };
    let end = opened.log.append(&[record], |(), _, _| ()).unwrap().end;
    while opened.writer.step() == Step::Worked {}
    while disk.open("log/spare").is_err() {
        assert_eq!(opened.housekeeper.step(), Step::Worked);
    }
    assert_eq!(opened.housekeeper.step(), Step::Worked);
    drop(opened);
    let disk = disk.kill();
    let spare = disk.open("log/spare").unwrap();
    assert!(spare.len().unwrap() >= 4096);
    spare.write_at(512, &[9; 3000]).unwrap();
    spare.sync().unwrap();

    let mut opened = open(&disk).unwrap();
    let next = segment_name(PhysicalOffset::new(SEGMENT_BYTES));
    while disk.open(&next).is_err() {
        assert_eq!(opened.housekeeper.step(), Step::Worked);
    }
    // Nobody has named it yet.
    let opened = open(&disk.crash()).unwrap();
    assert_eq!(opened.recovery.end, end);
}
