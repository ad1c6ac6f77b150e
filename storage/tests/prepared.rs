//! A roll meets a segment that exists already.

use std::sync::Arc;

use skylark_storage::checkpoint::Checkpoint;
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
    let options = RecoveryOptions { segment_bytes: SEGMENT_BYTES, log_id: None, repair: false };
    let mut checkpoint = recover(&disk, &options)?.checkpoint;
    let newest_segment = PhysicalOffset::new(SEGMENT_BYTES);
    disk.create(&segment_name(newest_segment))?;
    disk.sync_directory("log")?;
    checkpoint.store(Checkpoint { newest_segment, ..*checkpoint.current() })?;
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
