//! The log on threads that it starts itself.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use skylark_storage::device::simulated::Disk;
use skylark_storage::{
    AppendError, Appended, Cause, CommitLog, Group, Kind, NewRecord, Opened, Options, Running, Stopped,
    SystemClock,
};

fn open(disk: &Disk) -> Opened<()> {
    let options = Options { segment_bytes: 64 << 10, ..Options::default() };
    CommitLog::open(Arc::new(disk.clone()), Arc::new(SystemClock::new()), options, ()).expect("the log opens")
}

fn append(log: &Running<()>, rest: &[u8]) -> Result<Appended, AppendError> {
    log.append(&[NewRecord { kind: Kind::new(16), head: &[], rest: &[rest] }], |(), _, _| {})
}

#[test]
fn what_is_folded_is_what_was_appended() {
    let disk = Disk::new(1);
    let folded = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&folded);
    let fold = move |group: &Group| {
        let records = group.records().filter(|(_, record)| record.kind() == Kind::new(16));
        sink.lock().unwrap().extend(records.map(|(_, record)| record.rest().to_vec()));
    };
    let log = open(&disk).run(fold).unwrap();
    let expected: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n; usize::from(n) * 7]).collect();
    for rest in &expected {
        let appended = append(&log, rest).unwrap();
        log.folded().wait_blocking(appended.end).unwrap();
        assert_eq!(folded.lock().unwrap().last(), Some(rest));
        assert!(log.durable().get() >= appended.end);
    }
    assert_eq!(*folded.lock().unwrap(), expected);
    // Not waited for by anybody but the closing.
    append(&log, b"last").unwrap();
    assert!(matches!(log.close(), Stopped::Closed));
    assert_eq!(folded.lock().unwrap().last().unwrap(), b"last");

    let opened = open(&disk);
    assert!(opened.recovery.clean);
    let groups = opened.log.scan(opened.recovery.start).collect::<Result<Vec<_>, _>>().unwrap();
    let records = groups.iter().flat_map(Group::records);
    assert_eq!(records.filter(|(_, record)| record.kind() == Kind::new(16)).count(), expected.len() + 1);
}

#[test]
fn a_log_whose_writer_is_gone_refuses_appends_and_keeps_nobody_waiting() {
    let disk = Disk::new(1);
    let Opened { log, writer, groups, .. } = open(&disk);
    let record = [NewRecord { kind: Kind::new(16), head: &[], rest: &[b"unwritten"] }];
    let end = log.append(&record, |(), _, _| {}).unwrap().end;
    let (say, hear) = mpsc::channel();
    for frontier in [log.durable(), log.written(), log.trimmed()] {
        let (frontier, say) = (frontier.clone(), say.clone());
        thread::spawn(move || say.send(frontier.wait_blocking(end).err()));
    }
    thread::spawn(move || say.send(groups.next_blocking().and(None)));
    // Of a thread that panics for a reason of its own, for instance.
    drop(writer);
    let told: Vec<_> = (0..4).map(|_| hear.recv_timeout(Duration::from_secs(30)).unwrap()).collect();
    let is_told = |stopped: &&Stopped| matches!(stopped, Stopped::Poisoned { cause: Cause::WriterGone, .. });
    // And whoever folds, that no group comes any more.
    assert_eq!(told.iter().flatten().filter(is_told).count(), 3, "{told:?}");
    let refused = log.append(&record, |(), _, _| {}).unwrap_err();
    assert!(matches!(refused, AppendError::Poisoned { cause: Cause::WriterGone, .. }), "{refused}");
    let refused = log.append_durable(&record, |(), _, _| {}).unwrap_err();
    assert!(refused.to_string().contains("writer is gone"), "{refused}");
    assert!(matches!(log.wait_stopped(), Stopped::Poisoned { cause: Cause::WriterGone, .. }));
}

#[test]
fn a_fold_that_panics_stops_the_log_and_keeps_nobody_waiting() {
    let disk = Disk::new(1);
    let log = open(&disk)
        .run(|group| assert!(group.records().all(|(_, record)| record.rest() != b"unfoldable")))
        .unwrap();
    let good = append(&log, b"foldable").unwrap();
    log.folded().wait_blocking(good.end).unwrap();
    let bad = append(&log, b"unfoldable").unwrap();
    assert!(matches!(log.folded().wait_blocking(bad.end), Err(Stopped::Poisoned { .. })));
    assert!(matches!(append(&log, b"more"), Err(AppendError::Poisoned { .. })));
    assert!(matches!(log.close(), Stopped::Poisoned { .. }));
    // It was durable all the same.
    assert!(open(&disk).recovery.end >= bad.end);
}
