//! What a checksum vouches for and no writer would write: found by the fuzzer, which makes checksums fit.

use std::sync::Arc;

use skylark_storage::checkpoint::{Checkpoint, CheckpointFile};
use skylark_storage::clock::SimulatedClock;
use skylark_storage::device::simulated::Disk;
use skylark_storage::{CommitLog, Kind, NewRecord, Opened, Options, Step};

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
        let mut file = loaded.file.ok().expect("it is sound");
        let next = Checkpoint { stored_at, ..*file.current() };
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
