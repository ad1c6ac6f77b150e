//! What an opening must keep to, whatever it found.

use std::collections::BTreeMap;

use skylark_storage::device::simulated::Disk;
use skylark_storage::record::Record;
use skylark_storage::recovery::{Recovered, RecoveryOptions, preview, recover};
use skylark_storage::{Files, Kind, NewRecord, OpenError, Opened, PhysicalOffset};

use crate::disk::{Edited, RECOVERY, drive, open, segments};

/// The bytes of each segment.
pub type Segments = BTreeMap<PhysicalOffset, Vec<u8>>;

/// Recovers the disk, and, unless that is refused, holds what it finds to everything below, and to `more`, which is
/// given what stood there before.
pub fn check(disk: &Disk, repair: bool, edited: Edited, more: impl Fn(&Opened<()>, &Segments)) {
    let before = segments(disk);
    let options = RecoveryOptions { repair, ..RECOVERY };
    let untouched = disk.kill();
    let previewed = preview(disk, &options);
    let operations = disk.operations();
    let (disk, recovered, has_failed) = match recover(disk, &options) {
        // A fault that was asked for. It leaves something that can be recovered just as well.
        Err(OpenError::Io(_)) if edited.faulty => {
            let after = disk.kill();
            let outcome = recover(&after, &options);
            (after, outcome, true)
        }
        Err(OpenError::Io(error)) => panic!("the disk works: {error}"),
        outcome => (disk.clone(), outcome, false),
    };
    let recovered = match recovered {
        Ok(recovered) => recovered,
        // What was edited may be beyond what recovery promises anything for; but a refusal touches nothing.
        Err(refused) => {
            assert!(has_failed || disk.operations() == operations, "refused, and changed: {refused}");
            assert!(has_failed || previewed.is_err(), "it was previewed: {refused}");
            return;
        }
    };
    let previewed = previewed.expect("what is recovered can be previewed");
    assert!(has_failed || previewed == recovered.report, "{previewed:?}, then {:?}", recovered.report);
    // A checkpoint of a closed log vouches that nothing lies behind its end, and a first opening does not look: no
    // crash leaves anything there, only a hand does. The second one judges it, and may refuse, but not before what was
    // appended in front of it has become durable.
    let is_vouched_for = recovered.report.clean && recovered.report.searched_bytes == 0;
    if is_vouched_for && !is_zero_behind(&before, recovered.end) {
        let mut opened = open(&untouched, repair).expect("what was recovered can be opened");
        invents_nothing(&opened, &before);
        more(&opened, &before);
        let (at, payload) = append(&mut opened);
        match open(&untouched.crash(), false) {
            Ok(again) => has(&again, at, payload),
            Err(OpenError::Corrupt(_)) => {}
            Err(refused) => panic!("nothing is in the way: {refused}"),
        }
        return;
    }
    // Nor does a first opening see what cannot be read there: the second one writes it again.
    let worn_bytes = if is_vouched_for { 4096 * edited.worn_blocks } else { 0 };
    opens_identically(&disk.kill(), &recovered, After::Kill, worn_bytes);
    // Zeros whose flush failed look clean to the second attempt, which finds nothing to zero, and no later flush covers
    // them: a power cut may bring back what the first attempt saw there, and no more. It is of a lower epoch than what
    // is appended from here on, so it is cut again, and can neither follow nor testify.
    let come_back_bytes = if has_failed { previewed.cut_bytes } else { 0 };
    let disk = disk.kill();
    if is_vouched_for && edited.unflushed {
        // Nobody has looked at what hands have changed below the end of a closed log, and nobody has flushed it: a power
        // cut might bring back what was there before.
        flush(&disk);
    }
    opens_identically(&disk.crash(), &recovered, After::Crash, come_back_bytes + worn_bytes);
    let mut opened = open(&disk, false).expect("what was recovered can be opened");
    assert!(opened.log.epoch() > recovered.epoch, "an epoch was given twice");
    invents_nothing(&opened, &before);
    more(&opened, &before);
    let (at, payload) = append(&mut opened);
    let again = open(&disk.crash(), false).expect("what was recovered can be opened again");
    has(&again, at, payload);
}

/// Makes all that is readable durable.
fn flush(disk: &Disk) {
    for (directory, prefix) in [("", ""), ("log", "log/")] {
        for name in disk.list(directory).expect("the disk works") {
            if let Ok(file) = disk.open(&format!("{prefix}{name}")) {
                file.sync().expect("the disk works");
            }
        }
        disk.sync_directory(directory).expect("the disk works");
    }
}

fn is_zero_behind(segments: &Segments, end: PhysicalOffset) -> bool {
    segments.iter().all(|(base, bytes)| {
        let kept = end.get().saturating_sub(base.get());
        bytes.iter().skip(usize::try_from(kept).unwrap_or(usize::MAX)).all(|&byte| byte == 0)
    })
}

/// What came between two recoveries.
#[derive(PartialEq)]
enum After {
    Kill,
    Crash,
}

/// A second recovery finds the log that the first one left, and has nothing to do but to cut so many bytes.
fn opens_identically(disk: &Disk, first: &Recovered, after: After, may_be_cut: u64) {
    let again = recover(disk, &RECOVERY).expect("what was recovered can be recovered again");
    assert_eq!((again.end, again.chain, again.stored_at), (first.end, first.chain, first.stored_at));
    assert_eq!(again.epochs, first.epochs);
    assert!(again.next == first.next, "the next group goes elsewhere");
    if after == After::Kill {
        assert_eq!(again.segments, first.segments);
    }
    // The length of a file behind its last group is nobody's promise: only space hangs on it, and a power cut may
    // bring back another one.
    let places = |recovered: &Recovered| -> Vec<_> {
        recovered.segments.iter().map(|segment| (segment.base, segment.created_at)).collect()
    };
    assert_eq!(places(&again), places(first));
    assert_eq!((again.report.start, again.report.end), (first.report.start, first.report.end));
    assert!(again.report.cut_bytes <= may_be_cut, "{} bytes were left to cut", again.report.cut_bytes);
    assert_eq!(again.report.repaired, None);
    assert!(again.report.removed.is_empty(), "files were left: {:?}", again.report.removed);
}

/// Every record that is served was there before, at its place, and sound; and nothing is served behind the end.
fn invents_nothing(opened: &Opened<()>, before: &Segments) {
    let mut end = opened.recovery.start;
    // Recovery does not look at what a checkpoint vouches for, so a reader may find that damaged: then it is told.
    for group in opened.log.scan(end).map_while(Result::ok) {
        assert!(group.start >= end && group.end > group.start, "{group:?} does not lie behind {end}");
        end = group.end;
        assert!(end <= opened.recovery.end, "{end} is beyond what was recovered");
        for (at, record) in group.records() {
            let there = sound_record(opened, before, at).expect("there was a sound record");
            assert_eq!((there.kind(), there.payload), (record.kind(), record.payload));
        }
    }
}

/// The record that stood there, if one did.
pub fn sound_record<'b>(opened: &Opened<()>, before: &'b Segments, at: PhysicalOffset) -> Option<Record<'b>> {
    let base = at.align_down(opened.log.segment_bytes());
    let from = usize::try_from(at.since(base)).expect("segments are short");
    Record::parse(opened.log.log_id().seed(), at, before.get(&base)?.get(from..)?).ok()
}

/// The log goes on: what is appended becomes durable.
fn append(opened: &mut Opened<()>) -> (PhysicalOffset, &'static [u8]) {
    let payload: &[u8] = b"appended after recovery";
    let record = NewRecord { kind: Kind::new(17), head: &[], rest: &[payload] };
    let mut at = PhysicalOffset::ZERO;
    let appended = opened.log.append(&[record], |(), place, _| at = place.physical_offset);
    let end = appended.expect("nothing is staged").end;
    drive(opened);
    assert!(opened.log.durable().get() >= end, "{:?}", opened.log.stopped());
    (at, payload)
}

fn has(opened: &Opened<()>, at: PhysicalOffset, payload: &[u8]) {
    assert_eq!(&opened.log.record_at(at).expect("what was durable is there").payload()[..], payload);
}
