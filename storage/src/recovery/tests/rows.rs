use super::sketch::{OPTIONS, Placed, SEGMENT, Sketch, Written, bytes_at, overwrite};
use super::*;
use crate::checkpoint::{CHECKPOINT_NAME, SLOT_BYTES};
use crate::device::simulated::Disk;
use crate::segment::{BLOCK_BYTES, SegmentError, SegmentHeader, segment_name};
use zerocopy::IntoBytes;

pub(super) const REPAIR: RecoveryOptions = RecoveryOptions { repair: true, ..OPTIONS };

/// Opens the disk once more, expecting to keep these groups, byte for byte.
#[track_caller]
pub(super) fn keeps(disk: &Disk, groups: &[Written]) -> RecoveryReport {
    keeps_with(disk, groups, &OPTIONS)
}

#[track_caller]
pub(super) fn keeps_with(disk: &Disk, groups: &[Written], options: &RecoveryOptions) -> RecoveryReport {
    let disk = disk.kill();
    let previewed = preview(&disk, options).unwrap();
    let recovered = recover(&disk, options).unwrap();
    assert_eq!(previewed, recovered.report, "what is said before is what is done");
    assert_eq!(recovered.end, groups.last().map_or(recovered.report.start, |group| group.end));
    for group in groups {
        assert!(bytes_at(&disk, group.start, group.bytes.len()) == group.bytes, "group at {}", group.start);
    }
    assert_nothing_behind(&disk, &recovered);
    recovered.report
}

/// What is behind the end of a recovered log is zero, and durably so.
#[track_caller]
fn assert_nothing_behind(disk: &Disk, recovered: &Recovered) {
    let (end, newest) = (recovered.end, recovered.checkpoint.current().newest_segment);
    for disk in [disk.kill(), disk.crash()] {
        let mut at = end;
        while at < newest.advance(SEGMENT) {
            let limit = at.align_down(SEGMENT).advance(SEGMENT);
            let behind = bytes_at(&disk, at, usize::try_from(limit.since(at)).unwrap());
            assert!(behind.iter().all(|&byte| byte == 0), "something is left behind {at}");
            at = limit;
        }
    }
}

#[track_caller]
pub(super) fn refuses(disk: &Disk) -> OpenError {
    let copy = disk.kill();
    let before = copy.operations();
    let refused = recover(&copy, &OPTIONS).err().expect("the log is refused");
    assert_eq!(copy.operations(), before, "a log that is refused is not touched");
    refused
}

#[track_caller]
pub(super) fn corruption(disk: &Disk) -> Corruption {
    match refuses(disk) {
        OpenError::Corrupt(corruption) => corruption,
        other => panic!("{other}"),
    }
}

/// A log of one epoch record and `groups` more, a block each, all durable, none in a checkpoint.
pub(super) fn log(groups: usize) -> Sketch {
    let mut log = Sketch::new(1);
    log.append_durably(groups);
    log
}

/// As [`log`], with a checkpoint behind the last group.
pub(super) fn log_with_checkpoint(groups: usize) -> Sketch {
    let mut log = log(groups);
    log.store_checkpoint(false).unwrap();
    log
}

/// A log that fills three segments and begins a fourth; the checkpoint is in the third.
pub(super) fn long_log() -> Sketch {
    let mut log = Sketch::new(1);
    while log.tip.end < PhysicalOffset::new(2 * SEGMENT + 3 * BLOCK_BYTES) {
        log.append_durably(1);
    }
    log.store_checkpoint(false).unwrap();
    while log.tip.end < PhysicalOffset::new(3 * SEGMENT + 3 * BLOCK_BYTES) {
        log.append_durably(1);
    }
    log
}

pub(super) fn segment(index: u64) -> String {
    segment_name(PhysicalOffset::new(index * SEGMENT))
}

fn remove(disk: &Disk, name: &str) {
    disk.remove(name).unwrap();
    disk.sync_directory(name.rsplit_once('/').map_or("", |(directory, _)| directory)).unwrap();
}

// The directory.

#[test]
fn d1_an_empty_directory_becomes_a_log() {
    let disk = Disk::new(1);
    let recovered = recover(&disk, &OPTIONS).unwrap();
    assert!(recovered.report.created);
    assert_eq!((recovered.end, recovered.epoch), (PhysicalOffset::ZERO, Epoch::new(1)));
    assert_eq!(recovered.next, NextGroup::Begins { base: PhysicalOffset::ZERO });
    assert_eq!(recovered.epochs, []);
    // Opened again without an append.
    let recovered = recover(&disk.crash(), &OPTIONS).unwrap();
    assert!(!recovered.report.created);
    assert_eq!((recovered.end, recovered.epoch), (PhysicalOffset::ZERO, Epoch::new(2)));
}

#[test]
fn d1_a_creation_that_was_cut_short_is_begun_again() {
    let disk = Disk::new(1);
    disk.create(&segment(0)).unwrap().set_len(100).unwrap();
    assert!(recover(&disk, &OPTIONS).unwrap().report.created);
}

#[test]
fn d1_impossible_segment_lengths_are_refused() {
    let refused = recover(&Disk::new(1), &RecoveryOptions { segment_bytes: 5000, ..OPTIONS }).err().unwrap();
    assert!(matches!(refused, OpenError::SegmentBytes { segment_bytes: 5000 }));
}

#[test]
fn d2_a_missing_checkpoint_is_corruption() {
    let log = log(3);
    remove(&log.disk, CHECKPOINT_NAME);
    assert_eq!(corruption(&log.disk).evidence, Evidence::CheckpointMissing);
    let report = keeps_with(&log.disk, &log.groups, &REPAIR);
    assert_eq!(report.repaired.unwrap().evidence, Evidence::CheckpointMissing);
}

#[test]
fn d3_two_damaged_slots_are_corruption() {
    let log = long_log();
    for slot in [0, SLOT_BYTES as u64] {
        log.disk.flip_bit(CHECKPOINT_NAME, slot + 48, 3).unwrap();
    }
    assert_eq!(corruption(&log.disk).evidence, Evidence::CheckpointDamaged);
    let repaired = log.disk.kill();
    assert_eq!(keeps_with(&repaired, &log.groups, &REPAIR).segments, 4);
}

#[test]
fn d4_one_damaged_slot_leaves_the_other_in_charge() {
    let log = log_with_checkpoint(3);
    let newest = log.named().generation % 2;
    log.disk.flip_bit(CHECKPOINT_NAME, newest * SLOT_BYTES as u64 + 48, 3).unwrap();
    let report = keeps(&log.disk, &log.groups);
    assert!(report.slot_damaged);
    let recovered = recover(&log.disk, &OPTIONS).unwrap();
    assert_eq!(recovered.epoch, Epoch::new(3), "the lost slot may have named an epoch");
}

#[test]
fn d5_another_format_version_is_refused_by_name() {
    let log = log(1);
    let mut slot = log.named().to_slot();
    slot[8] = 9;
    let crc = crc32c::crc32c(&slot[..108]);
    slot[108..112].copy_from_slice(&crc.to_le_bytes());
    let disk = log.disk.kill();
    disk.open(CHECKPOINT_NAME).unwrap().write_at(0, &slot).unwrap();
    let refused = refuses(&disk);
    assert!(matches!(&refused, OpenError::FormatVersion { file, found: 9 } if file == CHECKPOINT_NAME));

    let mut header = bytes_at(&log.disk, PhysicalOffset::ZERO, 72);
    header[8] = 9;
    let crc = crc32c::crc32c(&header[..68]);
    header[68..].copy_from_slice(&crc.to_le_bytes());
    overwrite(&log.disk, PhysicalOffset::ZERO, &header);
    let refused = refuses(&log.disk);
    assert!(
        matches!(&refused, OpenError::FormatVersion { file, found: 9 } if *file == segment(0)),
        "{refused}"
    );
    assert!(recover(&log.disk, &REPAIR).is_err(), "another release is nothing to repair");
}

#[test]
fn d6_a_segment_of_another_log_is_refused_by_name() {
    let log = log(1);
    let stranger = LogId::from_bytes([9; 16]);
    let header = log_header(&log, 0);
    overwrite(
        &log.disk,
        PhysicalOffset::ZERO,
        SegmentHeader::new(&SegmentFields { log_id: stranger, ..header }).as_bytes(),
    );
    let refused = refuses(&log.disk);
    assert!(
        matches!(&refused, OpenError::ForeignLog { file, found, .. } if *file == segment(0) && *found == stranger)
    );
}

fn log_header(log: &Sketch, index: u64) -> SegmentFields {
    SegmentHeader::parse(&bytes_at(&log.disk, PhysicalOffset::new(index * SEGMENT), 72)).unwrap().fields()
}

#[test]
fn d7_a_missing_named_segment_is_corruption() {
    for index in 0..4 {
        let log = long_log();
        remove(&log.disk, &segment(index));
        let damage = corruption(&log.disk);
        assert_eq!((damage.file, damage.evidence), (segment(index), Evidence::SegmentMissing));
        let (kept, start) = match index {
            // Nothing is below it: what is above is kept, as after a trim.
            0 => (log.groups.iter().filter(|group| group.start.get() > SEGMENT), SEGMENT),
            _ => continue,
        };
        let kept: Vec<Written> = kept.cloned().collect();
        let report = keeps_with(&log.disk, &kept, &REPAIR);
        assert_eq!(report.start, PhysicalOffset::new(start));
    }
    for index in 1..4 {
        let log = long_log();
        remove(&log.disk, &segment(index));
        let limit = PhysicalOffset::new(index * SEGMENT);
        let kept: Vec<Written> = log.groups.iter().filter(|group| group.end <= limit).cloned().collect();
        let report = keeps_with(&log.disk, &kept, &REPAIR);
        assert_eq!(report.repaired.unwrap().at, limit);
    }
}

#[test]
fn d8_an_empty_named_segment_was_prepared() {
    let mut log = log(3);
    log.name_segment(PhysicalOffset::new(SEGMENT)).unwrap();
    let report = keeps(&log.disk, &log.groups);
    assert_eq!((report.segments, report.removed), (2, vec![]));
}

#[test]
fn d9_a_damaged_header_below_the_durable_end_is_corruption() {
    let log = long_log();
    log.disk.flip_bit(&segment(1), 30, 0).unwrap();
    let damage = corruption(&log.disk);
    assert!(matches!(damage.evidence, Evidence::SegmentHeader(SegmentError::Crc { .. })), "{damage}");
    let kept: Vec<Written> = log.groups.iter().filter(|group| group.end.get() <= SEGMENT).cloned().collect();
    keeps_with(&log.disk, &kept, &REPAIR);
}

#[test]
fn d9_a_zeroed_header_below_the_durable_end_is_corruption() {
    let log = long_log();
    overwrite(&log.disk, PhysicalOffset::new(SEGMENT), &[0; 4096]);
    assert_eq!(corruption(&log.disk).evidence, Evidence::SegmentHeader(SegmentError::Magic));
}

#[test]
fn d9_a_misplaced_segment_is_corruption() {
    let log = long_log();
    log.disk.rename(&segment(2), &segment(1)).unwrap();
    log.disk.create(&segment(2)).unwrap();
    let claims = PhysicalOffset::new(2 * SEGMENT);
    assert_eq!(corruption(&log.disk).evidence, Evidence::SegmentMisplaced { claims, segment_bytes: SEGMENT });
}

#[test]
fn d10_a_file_that_lost_its_durable_end_is_corruption() {
    let log = log_with_checkpoint(3);
    let file_bytes = log.tip.end.get() - 1;
    log.disk.open(&segment(0)).unwrap().set_len(file_bytes).unwrap();
    let damage = corruption(&log.disk);
    assert_eq!((damage.position, damage.evidence), (file_bytes, Evidence::SegmentShort { file_bytes }));
    keeps_with(&log.disk, &log.groups[..3], &REPAIR);
}

#[test]
fn d11_what_a_trim_left_is_removed() {
    let mut log = long_log();
    let oldest_segment = PhysicalOffset::new(SEGMENT);
    log.checkpoint.store(Checkpoint { oldest_segment, ..log.named() }).unwrap();
    let kept: Vec<Written> =
        log.groups.iter().filter(|group| group.start > oldest_segment).cloned().collect();
    let report = keeps(&log.disk, &kept);
    assert_eq!((report.removed, report.start), (vec![segment(0)], oldest_segment));
}

#[test]
fn d11_epochs_are_remembered_past_a_trim() {
    let mut log = Sketch::new(1);
    let mut starts = Vec::new();
    for _ in 0..3 {
        starts.push(EpochStart { epoch: log.tip.epoch, start: log.tip.epoch_start });
        log.close_segment().unwrap();
        log.flush().unwrap();
        log = Sketch::open(log.disk.kill(), &OPTIONS, log.groups).unwrap();
        assert_eq!(log.epochs, starts);
    }
    let oldest_segment = PhysicalOffset::new(2 * SEGMENT);
    log.checkpoint.store(Checkpoint { oldest_segment, ..log.named() }).unwrap();
    let recovered = recover(&log.disk.kill(), &OPTIONS).unwrap();
    assert_eq!(recovered.epochs[0], starts[1], "the record behind the trim names the one before");
    assert_eq!(recovered.epochs.len(), 3);
}

#[test]
fn d12_an_empty_segment_that_was_never_named_is_removed() {
    let log = log(3);
    log.disk.create(&segment(1)).unwrap().set_len(SEGMENT).unwrap();
    assert_eq!(keeps(&log.disk, &log.groups).removed, [segment(1)]);
}

#[test]
fn d13_a_segment_that_the_lost_slot_named_is_kept() {
    let log = {
        let mut log = Sketch::new(1);
        while log.tip.end < PhysicalOffset::new(SEGMENT + 3 * BLOCK_BYTES) {
            log.append_durably(1);
        }
        log
    };
    assert_eq!(log.named().newest_segment.get(), SEGMENT);
    let newest = log.named().generation % 2;
    log.disk.flip_bit(CHECKPOINT_NAME, newest * SLOT_BYTES as u64, 0).unwrap();
    let report = keeps(&log.disk, &log.groups);
    assert_eq!((report.segments, report.slot_damaged), (2, true));
}

#[test]
fn d14_content_that_nobody_named_is_refused() {
    let log = log(3);
    let stray = log.disk.create(&segment(1)).unwrap();
    stray.write_at(0, b"who am I?").unwrap();
    let refused = refuses(&log.disk);
    assert!(matches!(&refused, OpenError::Unexpected { file } if *file == segment(1)), "{refused}");
    remove(&log.disk, &segment(1));
    log.disk.create("log/00000000000000000777.seg").unwrap();
    assert!(matches!(refuses(&log.disk), OpenError::Unexpected { .. }));
}

#[test]
fn d15_unfinished_files_are_removed_and_strangers_left_alone() {
    let log = log(3);
    for name in ["log/a.tmp", "CHECKPOINT.tmp", "log/00000000000000000000.idx", "log/spare", "notes.tmp"] {
        log.disk.create(name).unwrap();
    }
    let mut report = keeps(&log.disk, &log.groups);
    report.removed.sort();
    assert_eq!(report.removed, ["CHECKPOINT.tmp", "log/a.tmp"]);
}

// The scan.

#[test]
fn s1_groups_follow_right_there() {
    let mut log = log(0);
    for payload in [&b"one"[..], b"", b"three, which is longer", &[7; 5000]] {
        log.append(Placed::Packed, payload).unwrap();
    }
    log.flush().unwrap();
    let report = keeps(&log.disk, &log.groups);
    assert_eq!(report.scanned_groups, 5);
    let NextGroup::Continues { segment, tail } = recover(&log.disk.kill(), &OPTIONS).unwrap().next else {
        panic!("the segment has room")
    };
    let end = log.tip.end;
    assert_eq!(segment, log_header(&log, 0));
    assert_eq!(
        tail,
        bytes_at(&log.disk, end.align_down(BLOCK_BYTES), usize::try_from(end.get() % 4096).unwrap())
    );
}

#[test]
fn s2_groups_follow_in_the_next_block() {
    let mut log = log(0);
    for placed in [Placed::NextBlock, Placed::Packed, Placed::NextBlock, Placed::NextBlock] {
        log.append(placed, b"a payload").unwrap();
    }
    log.flush().unwrap();
    keeps(&log.disk, &log.groups);
    // A byte in the gap ends the chain; the group behind it then proves that this is not how it was written.
    let gap = log.groups[3].end;
    overwrite(&log.disk, gap, &[1]);
    keeps(&log.disk, &log.groups[..4]);
}

#[test]
fn s3_groups_follow_in_the_next_segment() {
    // Behind a padding record, and at every distance from the nominal end.
    let mut closed = log(2);
    closed.close_segment().unwrap();
    closed.append(Placed::Packed, b"first of the second").unwrap();
    closed.flush().unwrap();
    keeps(&closed.disk, &closed.groups);

    for left in (0..=96).step_by(8) {
        let mut log = log(1);
        let room = SEGMENT - log.tip.end.get() - left - 48;
        log.append(Placed::Packed, &vec![5; usize::try_from(room).unwrap()]).unwrap();
        assert_eq!(SEGMENT - log.tip.end.get(), left);
        log.flush().unwrap();
        let begins = recover(&log.disk.kill(), &OPTIONS).unwrap().next;
        assert_eq!(
            begins == NextGroup::Begins { base: PhysicalOffset::new(SEGMENT) },
            left < 48,
            "{left} left"
        );
        log.append(Placed::Packed, &[6; 100]).unwrap();
        log.flush().unwrap();
        assert!(log.tip.end.get() > SEGMENT);
        keeps(&log.disk, &log.groups);
        let reopened = Sketch::open(log.disk.kill(), &OPTIONS, log.groups).unwrap();
        keeps(&reopened.disk, &reopened.groups);
    }
}

#[test]
fn s3_a_group_that_pads_to_the_end_is_followed_in_the_next_segment() {
    let mut log = log(13);
    // The last block holds 1 KiB; the writer pads, and the next block is the segment's end.
    let filling = SEGMENT - 4096 - log.tip.end.align_up(BLOCK_BYTES).get();
    assert_eq!(filling, 0);
    log.append(Placed::NextBlock, &[3; 1000]).unwrap();
    log.tip.end = PhysicalOffset::new(SEGMENT);
    log.append(Placed::Packed, b"next").unwrap();
    log.flush().unwrap();
    keeps(&log.disk, &log.groups);
}

#[test]
fn s4_a_group_of_the_wrong_chain_or_epoch_does_not_follow() {
    // The same place, length and log; only the past differs.
    let mut log = log(1);
    let before = log.disk.kill();
    log.append(Placed::NextBlock, b"one past").unwrap();
    log.append(Placed::NextBlock, b"last").unwrap();
    log.flush().unwrap();
    let last = log.groups[3].clone();
    let mut other = Sketch::open(before, &OPTIONS, log.groups[..2].to_vec()).unwrap();
    assert!(other.tip.end < last.start);
    other.append(Placed::NextBlock, b"to the place of the other").unwrap();
    other.flush().unwrap();
    assert_eq!(other.tip.end.align_up(BLOCK_BYTES), last.start);
    overwrite(&other.disk, last.start, &last.bytes);
    keeps(&other.disk, &other.groups);
}

// The end.

#[test]
fn e1_zeros_end_the_log() {
    let log = log(3);
    let report = keeps(&log.disk, &log.groups);
    assert_eq!((report.cut_bytes, report.doubt, report.repaired), (0, false, None));
    assert!(report.searched_bytes > 0);
}

#[test]
fn e2_a_torn_group_is_cut() {
    let mut log = log(3);
    log.append(Placed::NextBlock, &[9; 3000]).unwrap();
    let torn = log.groups.pop().unwrap();
    overwrite(&log.disk, torn.start.advance(1024), &[0; 512]);
    let report = keeps(&log.disk, &log.groups);
    assert_eq!(report.cut_bytes, 4096);
}

#[test]
fn e2_a_torn_first_group_leaves_its_segment_empty() {
    let mut log = log(3);
    log.close_segment().unwrap();
    log.flush().unwrap();
    log.append(Placed::Packed, &[9; 3000]).unwrap();
    let torn = log.groups.pop().unwrap();
    overwrite(&log.disk, torn.start.advance(1024), &[0; 512]);
    let report = keeps(&log.disk, &log.groups);
    assert_eq!((report.cut_bytes, report.segments), (8192, 2));
    let next = recover(&log.disk.kill(), &OPTIONS).unwrap().next;
    assert_eq!(next, NextGroup::Begins { base: PhysicalOffset::new(SEGMENT) });
}

#[test]
fn e3_groups_that_attest_no_more_than_the_end_are_cut() {
    let mut log = log(3);
    // Three in flight: the first is lost, the others landed.
    for payload in [b"lost", b"here", b"too!"] {
        log.append(Placed::NextBlock, payload).unwrap();
    }
    overwrite(&log.disk, log.groups[4].start, &[0; 512]);
    let report = keeps(&log.disk, &log.groups[..4]);
    assert_eq!(report.cut_bytes, 8192);
}

#[test]
fn e4_an_earlier_life_has_no_say() {
    let mut log = log(3);
    let before = log.disk.kill();
    log.append_durably(3);
    let witness = log.groups[6].clone();
    // Its predecessors were cut, and the log opened again: the checkpoint names a higher epoch.
    let reopened = Sketch::open(before, &OPTIONS, log.groups[..4].to_vec()).unwrap();
    assert!(reopened.tip.end < witness.start);
    overwrite(&reopened.disk, witness.start, &witness.bytes);
    let report = keeps(&reopened.disk, &reopened.groups);
    assert_eq!(report.cut_bytes, 4096);
}

#[test]
fn e5_a_witness_proves_corruption() {
    let log = log(6);
    let damaged = &log.groups[3];
    log.disk.flip_bit(&segment(0), damaged.start.get() + 500, 2).unwrap();
    let damage = corruption(&log.disk);
    let end = log.groups[2].end;
    assert_eq!((damage.at, damage.position, damage.file.clone()), (end, end.get(), segment(0)));
    let Evidence::Witness { witness, attested_end } = damage.evidence else { panic!("{damage}") };
    assert_eq!((witness, attested_end), (log.groups[4].start, log.groups[3].end));
    let message = refuses(&log.disk).to_string();
    assert!(
        message.contains(&segment(0)) && message.contains(&end.to_string()) && message.contains("repair")
    );

    let report = keeps_with(&log.disk, &log.groups[..3], &REPAIR);
    assert_eq!(report.repaired, Some(damage));
}

#[test]
fn e5_a_witness_may_lie_in_a_later_segment() {
    let log = long_log();
    let checkpoint = log.named().durable_end;
    let index = log.groups.iter().position(|group| group.start > checkpoint).unwrap();
    assert!(log.groups[index].start.get() < 3 * SEGMENT);
    log.disk.flip_bit(&segment(2), log.groups[index].start.get() % SEGMENT, 0).unwrap();
    assert!(matches!(corruption(&log.disk).evidence, Evidence::Witness { .. }));
    let report = keeps_with(&log.disk, &log.groups[..index], &REPAIR);
    assert_eq!((report.segments, report.removed), (3, vec![segment(3)]));
}

#[test]
fn e5_a_lost_header_block_is_corruption_when_its_group_was_durable() {
    let mut log = log(3);
    log.close_segment().unwrap();
    log.flush().unwrap();
    log.append_durably(3);
    overwrite(&log.disk, PhysicalOffset::new(SEGMENT), &[0; 4096]);
    assert!(matches!(corruption(&log.disk).evidence, Evidence::Witness { .. }));
}

#[test]
fn e5_the_newest_group_has_no_witness() {
    let log = log(6);
    log.disk.flip_bit(&segment(0), log.groups[6].start.get() + 500, 2).unwrap();
    keeps(&log.disk, &log.groups[..6]);
    // Which is why an idle log writes a checkpoint: then it is not taken for a tear.
    let log = log_with_checkpoint(6);
    log.disk.flip_bit(&segment(0), log.groups[6].start.get() + 500, 2).unwrap();
    let recovered = recover(&log.disk, &OPTIONS).unwrap();
    assert_eq!(recovered.end, log.tip.end, "what is below the durable end is never cut");
}

#[test]
fn e6_a_follower_in_doubt_cuts() {
    let mut log = log(6);
    log.checkpoint.store(Checkpoint { led_from: log.tip.end, ..log.named() }).unwrap();
    log.disk.flip_bit(&segment(0), log.groups[3].start.get() + 500, 2).unwrap();
    let report = keeps(&log.disk, &log.groups[..3]);
    assert!(report.doubt);
    assert_eq!(report.repaired, None);
}

#[test]
fn e7_a_broken_history_of_epochs_is_corruption() {
    let mut log = log(3);
    for _ in 0..2 {
        log = Sketch::open(log.disk.kill(), &OPTIONS, log.groups).unwrap();
        log.append_durably(2);
        log.close_segment().unwrap();
        log.flush().unwrap();
    }
    let log = Sketch::open(log.disk.kill(), &OPTIONS, log.groups).unwrap();
    let third = log.epochs[2];
    log.disk.flip_bit(&segment(1), third.start.get() % SEGMENT + 40, 0).unwrap();
    let damage = corruption(&log.disk);
    assert_eq!((damage.at, damage.evidence), (third.start, Evidence::EpochHistory));
    let kept: Vec<Written> = log.groups.iter().filter(|group| group.end <= third.start).cloned().collect();
    let repaired = log.disk.kill();
    keeps_with(&repaired, &kept, &REPAIR);
    let recovered = recover(&repaired, &REPAIR).unwrap();
    assert_eq!(recovered.epochs, log.epochs[..2]);
    assert_eq!(keeps(&repaired, &kept).repaired, None, "what was repaired stays so");
}

#[test]
fn damage_below_the_durable_end_is_cut_by_a_repair_that_is_told_of_it() {
    let mut log = long_log();
    log.store_checkpoint(true).unwrap();
    let within = |group: &Written| group.start.get() > SEGMENT + 4096 && group.end.get() < 2 * SEGMENT;
    let begins = |group: &Written| group.start.get() == SEGMENT + 4096;
    for index in [log.groups.iter().position(within), log.groups.iter().position(begins)].map(Option::unwrap)
    {
        let disk = log.disk.kill();
        let damaged = &log.groups[index];
        let told = RecoveryOptions { damaged_at: Some(damaged.start), ..REPAIR };
        if within(damaged) {
            let sound = preview(&disk, &told).err().unwrap();
            assert!(matches!(sound, OpenError::NotDamaged { at } if at == damaged.start), "{sound}");
        }
        disk.flip_bit(&segment(1), damaged.start.get() % SEGMENT + 40, 2).unwrap();
        for options in [REPAIR, RecoveryOptions { repair: false, ..told }] {
            let report = preview(&disk, &options).unwrap();
            assert_eq!((report.repaired, report.end), (None, log.tip.end), "it can be opened as it is");
        }
        let report = keeps_with(&disk, &log.groups[..index], &told);
        assert_eq!(report.repaired.as_ref().unwrap().evidence, Evidence::Damaged);
        let aside = &report.set_aside;
        assert!(aside.contains(&format!("{}.given-up", segment(3))), "{aside:?}");
    }
}

#[test]
fn e8_a_closed_log_is_not_searched() {
    let mut log = log(3);
    log.store_checkpoint(true).unwrap();
    let report = keeps(&log.disk, &log.groups);
    assert!(report.clean);
    assert_eq!((report.searched_bytes, report.scanned_bytes, report.rewritten_bytes), (0, 0, 0));
    let recovered = recover(&log.disk, &OPTIONS).unwrap();
    assert!(!recovered.checkpoint.current().clean, "from here on it is open");
}

#[test]
fn being_readable_is_not_being_durable() {
    let mut log = log(3);
    // Written, in the page cache, never flushed; the process is killed.
    log.append(Placed::NextBlock, b"readable").unwrap();
    log.append(Placed::Packed, b"too").unwrap();
    let killed = log.disk.kill();
    let recovered = recover(&killed, &OPTIONS).unwrap();
    assert_eq!(recovered.end, log.tip.end);
    assert!(recovered.report.rewritten_bytes >= 4096);
    for _ in 0..20 {
        keeps(&killed.crash(), &log.groups);
    }
}

#[test]
fn the_gap_behind_a_group_is_made_durable_with_it() {
    for seed in 0..100 {
        let mut log = Sketch::new(seed);
        log.disk.set_tears_destroy(true);
        log.append(Placed::NextBlock, b"readable, and zeros to the end of its block").unwrap();
        log.disk.fail_flush(1);
        log.flush().unwrap_err();
        let killed = log.disk.kill();
        let recovered = recover(&killed, &OPTIONS).unwrap();
        assert_eq!(recovered.end, log.tip.end);
        assert_nothing_behind(&killed, &recovered);
    }
}

#[test]
fn what_was_known_to_be_durable_is_not_written_again() {
    let mut log = log(2);
    log.store_checkpoint(false).unwrap();
    log.append_durably(4);
    let report = keeps(&log.disk, &log.groups);
    assert_eq!(report.rewritten_bytes, 8192, "the last group, and what is around it in its blocks");
}

#[test]
fn a_preview_counts_what_the_file_has() {
    let log = log(2);
    // A file that was cut where its last group ends, and not at a block's end.
    let file_bytes = log.tip.end.get();
    log.disk.open(&segment(0)).unwrap().set_len(file_bytes).unwrap();
    let previewed = preview(&log.disk, &OPTIONS).unwrap();
    assert_eq!(recover(&log.disk, &OPTIONS).unwrap().report, previewed);
    assert!(!previewed.rewritten_bytes.is_multiple_of(4096));
}

#[test]
fn a_new_log_has_the_id_it_was_given_or_a_random_one() {
    let id = |options: &RecoveryOptions| recover(&Disk::new(1), options).unwrap().checkpoint.current().log_id;
    assert_eq!(Some(id(&OPTIONS)), OPTIONS.log_id);
    let random = RecoveryOptions { log_id: None, ..OPTIONS };
    assert_ne!(id(&random), id(&random));
}

#[test]
fn a_log_keeps_its_segment_length() {
    let log = log(3);
    let larger = RecoveryOptions { segment_bytes: 4 * SEGMENT, ..OPTIONS };
    keeps_with(&log.disk, &log.groups, &larger);
}

#[test]
fn d7_the_only_segment_may_be_given_up() {
    let log = log_with_checkpoint(3);
    remove(&log.disk, &segment(0));
    assert_eq!(corruption(&log.disk).evidence, Evidence::SegmentMissing);
    keeps_with(&log.disk, &[], &REPAIR);
}
