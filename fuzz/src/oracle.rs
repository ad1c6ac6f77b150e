//! What an opening must keep to, whatever it found.

use std::collections::BTreeMap;

use skylark_storage::device::simulated::Disk;
use skylark_storage::record::Record;
use skylark_storage::recovery::{Recovered, RecoveryOptions, recover};
use skylark_storage::{Kind, NewRecord, OpenError, Opened, PhysicalOffset};

use crate::disk::{RECOVERY, drive, open, segments};

/// Recovers the disk, and, unless that is refused, holds what it finds to everything below, and to `more`.
pub fn check(disk: &Disk, repair: bool, more: impl Fn(&Opened<()>)) {
    let before = segments(disk);
    let options = RecoveryOptions { repair, ..RECOVERY };
    let (disk, recovered, has_failed) = match recover(disk, &options) {
        // A fault that was asked for. It leaves something that can be recovered just as well.
        Err(OpenError::Io(_)) => {
            let after = disk.kill();
            let outcome = recover(&after, &options);
            (after, outcome, true)
        }
        outcome => (disk.clone(), outcome, false),
    };
    let Ok(recovered) = recovered else { return };
    // A checkpoint of a closed log vouches that nothing lies behind its end, so a first opening does not look; what
    // a forger put there is the second one's to judge.
    let is_vouched_for = recovered.report.clean && recovered.report.searched_bytes == 0;
    if is_vouched_for && !is_zero_behind(&before, recovered.end) {
        return;
    }
    opens_identically(&disk.kill(), &recovered, false);
    // Zeros whose flush failed look clean to the second attempt, so a power cut may bring back what they covered. It
    // is of a lower epoch than what is appended from here on, and cut again.
    opens_identically(&disk.crash(), &recovered, has_failed);
    let disk = disk.kill();
    let mut opened = open(&disk, false).expect("what was recovered can be opened");
    assert!(opened.log.epoch() > recovered.epoch, "an epoch was given twice");
    invents_nothing(&opened, &before);
    more(&opened);
    takes_an_append(&disk, &mut opened);
}

fn is_zero_behind(segments: &BTreeMap<PhysicalOffset, Vec<u8>>, end: PhysicalOffset) -> bool {
    segments.iter().all(|(base, bytes)| {
        let kept = end.get().saturating_sub(base.get());
        bytes.iter().skip(usize::try_from(kept).unwrap_or(usize::MAX)).all(|&byte| byte == 0)
    })
}

/// A second recovery finds the log that the first one left, and has nothing to do, unless it may have something to
/// cut.
fn opens_identically(disk: &Disk, first: &Recovered, may_cut: bool) {
    let again = recover(disk, &RECOVERY).expect("what was recovered can be recovered again");
    assert_eq!((again.end, again.chain, again.stored_at), (first.end, first.chain, first.stored_at));
    assert_eq!(again.epochs, first.epochs);
    assert!(again.next == first.next, "the next group goes elsewhere");
    // The cut of a sealed file's unused rest is not flushed: only space hangs on it.
    let places = |recovered: &Recovered| -> Vec<_> {
        recovered.segments.iter().map(|segment| (segment.base, segment.created_at)).collect()
    };
    assert_eq!(places(&again), places(first));
    assert_eq!((again.report.start, again.report.end), (first.report.start, first.report.end));
    assert!(may_cut || again.report.cut_bytes == 0, "{} bytes were left to cut", again.report.cut_bytes);
    assert_eq!(again.report.repaired, None);
    assert!(again.report.removed.is_empty(), "files were left: {:?}", again.report.removed);
}

/// Every record that is served was there before, at its place, and sound.
fn invents_nothing(opened: &Opened<()>, before: &BTreeMap<PhysicalOffset, Vec<u8>>) {
    let seed = opened.log.log_id().seed();
    let mut end = opened.recovery.start;
    // Recovery does not look at what a checkpoint vouches for, so a reader may find that damaged, or, where a forged
    // one ends the log inside a group, a little longer.
    for group in opened.log.scan(end).map_while(Result::ok) {
        assert!(group.start >= end && group.end > group.start, "{group:?} does not lie behind {end}");
        end = group.end;
        for (at, record) in group.records() {
            let base = at.align_down(opened.log.segment_bytes());
            let from = usize::try_from(at.since(base)).expect("segments are short");
            let there = before.get(&base).and_then(|bytes| bytes.get(from..)).expect("there was such a file");
            let there = Record::parse(seed, at, there).expect("there was a sound record");
            assert_eq!((there.kind(), there.payload), (record.kind(), record.payload));
        }
    }
}

/// The log goes on, and what is appended survives a power cut.
fn takes_an_append(disk: &Disk, opened: &mut Opened<()>) {
    let payload: &[u8] = b"appended after recovery";
    let record = NewRecord { kind: Kind::new(17), head: &[], rest: &[payload] };
    let mut at = PhysicalOffset::ZERO;
    let appended = opened.log.append(&[record], |(), place, _| at = place.physical_offset);
    let end = appended.expect("nothing is staged").end;
    drive(opened);
    assert!(opened.log.durable().get() >= end, "{:?}", opened.log.stopped());
    let again = open(&disk.crash(), false).expect("what was recovered can be opened again");
    assert_eq!(&again.log.record_at(at).expect("what was durable is there").payload()[..], payload);
}
