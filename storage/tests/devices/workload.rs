//! Records that tell by themselves which they are, and a log's answer to which of them it holds.

use std::sync::Arc;

use skylark_storage::device::{DeviceChoice, DeviceKind, Directory};
use skylark_storage::{
    AppendError, Appended, CommitLog, Kind, NewRecord, Opened, Options, PhysicalOffset, SystemClock,
};

const KIND: Kind = Kind::new(16);

/// How many records of each thread were appended: owned by the append lock.
pub type Counts = Vec<u32>;

/// Opens the log at a path through a device, with the numbers to go on with.
pub fn open(root: &std::path::Path, kind: DeviceKind, threads: usize, options: &Options) -> Opened<Counts> {
    let files = Directory::open(root).unwrap().with_device(DeviceChoice::Fixed(kind));
    let opened =
        CommitLog::open(Arc::new(files), Arc::new(SystemClock::new()), options.clone(), Counts::new())
            .unwrap();
    let counts = counts(&opened.log, threads);
    opened.log.with_state(|state| *state = counts);
    opened
}

/// Appends the next record of a thread; which number it has.
pub fn append(log: &CommitLog<Counts>, thread: usize, bytes: usize) -> Result<(u32, Appended), AppendError> {
    let body = vec![body_byte(thread); bytes];
    let mut head = [0; 8];
    head[..4].copy_from_slice(&u32::try_from(thread).unwrap().to_le_bytes());
    let record = NewRecord { kind: KIND, head: &head, rest: &[&body] };
    let mut number = 0;
    let appended = log.append(&[record], |counts, _, head| {
        number = counts[thread];
        counts[thread] += 1;
        head[4..].copy_from_slice(&number.to_le_bytes());
    })?;
    Ok((number, appended))
}

fn body_byte(thread: usize) -> u8 {
    u8::try_from(thread).unwrap() + 1
}

/// How many records of each thread a log holds, once it is clear that they are there in order and complete.
pub fn counts(log: &CommitLog<Counts>, threads: usize) -> Counts {
    let mut counts = vec![0; threads];
    for group in log.scan(PhysicalOffset::ZERO) {
        let group = group.unwrap();
        for (at, record) in group.records().filter(|(_, record)| record.header.fields().kind == KIND) {
            let (head, body) = record.payload.split_at(8);
            let thread = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
            let number = u32::from_le_bytes(head[4..].try_into().unwrap());
            assert_eq!(number, counts[thread], "the record at {at} is not the next one of thread {thread}");
            assert!(body.iter().all(|byte| *byte == body_byte(thread)), "the record at {at} has changed");
            counts[thread] += 1;
        }
    }
    counts
}
