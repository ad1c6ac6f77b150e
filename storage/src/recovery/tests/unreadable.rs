//! What a sector that cannot be read does to an opening: the rows of the decision table that speak of it.

use super::rows::{
    REPAIR, corruption, keeps, keeps_with, log, log_with_checkpoint, long_log, refuses, segment,
};
use super::sketch::{OPTIONS, Placed, SEGMENT, Sketch, Written, overwrite};
use super::*;
use crate::checkpoint::{CHECKPOINT_NAME, SLOT_BYTES};
use crate::device::simulated::Disk;
use crate::segment::BLOCK_BYTES;

/// Makes one byte of a segment unreadable, and with it its block.
fn wear_out(disk: &Disk, at: PhysicalOffset) {
    let byte = at.get() % SEGMENT;
    disk.fail_reads(&segment(at.get() / SEGMENT), byte..byte + 1).unwrap();
}

fn unreadable(file: String, position: u64) -> Vec<Unreadable> {
    vec![Unreadable { file, position, bytes: 4096 }]
}

#[track_caller]
fn refuses_to_go_without(disk: &Disk, file: &str, position: u64) {
    let damage = corruption(disk);
    assert_eq!(
        (damage.file.as_str(), damage.position, &damage.evidence),
        (file, position, &Evidence::Unreadable)
    );
    let message = refuses(disk).to_string();
    assert!(
        message.contains(file) && message.contains("repair") && message.contains("another disk"),
        "{message}"
    );
}

#[test]
fn d4_a_slot_that_cannot_be_read_leaves_the_other_in_charge() {
    for slot in 0..2 {
        let log = log_with_checkpoint(3);
        let position = slot * SLOT_BYTES as u64;
        log.disk.fail_reads(CHECKPOINT_NAME, position + 700..position + 701).unwrap();
        let disk = log.disk.kill();
        let recovered = recover(&disk, &OPTIONS).unwrap();
        assert_eq!((recovered.end, recovered.epoch), (log.tip.end, Epoch::new(3)), "slot {slot}");
        assert!(recovered.report.slot_damaged);
        assert_eq!(recovered.report.unreadable, unreadable(CHECKPOINT_NAME.to_owned(), position));
        // The next checkpoints are written there.
        let mut file = recovered.checkpoint;
        file.store(*file.current()).unwrap();
        let healed = recover(&disk.kill(), &OPTIONS).unwrap().report;
        assert_eq!((healed.slot_damaged, healed.unreadable), (false, vec![]));
    }
}

#[test]
fn d3_two_slots_that_cannot_be_read_are_corruption() {
    let log = log_with_checkpoint(3);
    log.disk.fail_reads(CHECKPOINT_NAME, 4000..4200).unwrap();
    assert_eq!(corruption(&log.disk).evidence, Evidence::CheckpointDamaged);
    keeps_with(&log.disk, &log.groups, &REPAIR);
}

#[test]
fn d16_a_header_that_cannot_be_read_keeps_nobody_from_the_other_segments() {
    // The checkpoint is in the third segment, and the log goes on in the fourth.
    for index in 0..3 {
        let log = long_log();
        let sound = recover(&log.disk.kill(), &OPTIONS).unwrap();
        wear_out(&log.disk, PhysicalOffset::new(index * SEGMENT + 4000));
        let report = keeps(&log.disk, &log.groups);
        assert_eq!(report.unreadable, unreadable(segment(index), 0));
        let recovered = recover(&log.disk.kill(), &OPTIONS).unwrap();
        assert_eq!((recovered.epochs, recovered.stored_at), (sound.epochs, sound.stored_at));
        // Not given up before those behind it are.
        let index = usize::try_from(index).unwrap();
        let mut expected = sound.segments;
        expected[index].created_at = expected[index + 1].created_at;
        assert_eq!(recovered.segments, expected);
    }
}

#[test]
fn d17_the_header_of_the_segment_that_takes_the_next_group_is_needed() {
    let log = long_log();
    wear_out(&log.disk, PhysicalOffset::new(3 * SEGMENT));
    refuses_to_go_without(&log.disk, &segment(3), 0);
    let kept: Vec<Written> =
        log.groups.iter().filter(|group| group.end.get() <= 3 * SEGMENT).cloned().collect();
    let report = keeps_with(&log.disk, &kept, &REPAIR);
    assert_eq!(report.repaired.unwrap().evidence, Evidence::Unreadable);
    assert_eq!(report.removed, [segment(3)]);
}

#[test]
fn e9_a_group_that_cannot_be_read_may_have_been_acknowledged() {
    // In the middle, at its beginning, in its later blocks; and the last one, of which no other group tells.
    let mut log = log(3);
    log.append(Placed::NextBlock, &[7; 9000]).unwrap();
    log.flush().unwrap();
    log.append_durably(1);
    for (index, distance) in [(2, 0), (4, 0), (4, 5000), (5, 0)] {
        let (disk, lost) = (log.disk.kill(), &log.groups[index]);
        let at = lost.start.advance(distance);
        wear_out(&disk, at);
        refuses_to_go_without(&disk, &segment(0), at.align_down(BLOCK_BYTES).get());
        let report = keeps_with(&disk, &log.groups[..index], &REPAIR);
        assert_eq!(report.unreadable, unreadable(segment(0), at.align_down(BLOCK_BYTES).get()));
        // Nothing of it is lost while the disk gets over it.
        disk.heal_reads();
        keeps(&disk, &log.groups);
    }
}

/// Whether a file of this name holds a group of the first segment.
fn holds(disk: &Disk, name: &str, group: &Written) -> bool {
    let mut bytes = vec![0; group.bytes.len()];
    let read = disk.open(name).and_then(|file| file.read_at(group.start.get(), &mut bytes));
    read.is_ok() && bytes == group.bytes
}

#[test]
fn e9_a_repair_sets_aside_what_can_be_read_behind_what_cannot() {
    let (first, second) = (format!("{}.given-up", segment(0)), format!("{}.given-up-2", segment(0)));
    let log = log(6);
    wear_out(&log.disk, log.groups[3].start);
    let repaired = log.disk.kill();
    let before = repaired.operations();
    recover(&repaired, &REPAIR).unwrap();
    let operations = repaired.operations() - before;
    let behind = &log.groups[4..];
    assert!(behind.iter().all(|group| holds(&repaired.crash(), &first, group)));
    // Wherever the repair is cut short.
    for nth in 1..=operations {
        let cut_short = log.disk.kill();
        cut_short.power_off_at(nth);
        recover(&cut_short, &REPAIR).err();
        let left = cut_short.crash();
        recover(&left, &REPAIR).unwrap();
        for group in behind {
            let is_kept = [&first, &second].iter().any(|name| holds(&left, name, group));
            assert!(is_kept, "operation {nth}: group at {}", group.start);
        }
    }
    // What an earlier repair has set aside stays.
    let mut again = Sketch::open(repaired, &OPTIONS, log.groups.clone()).unwrap();
    again.append_durably(2);
    let (worn, last) = (again.groups.len() - 2, again.groups.len() - 1);
    wear_out(&again.disk, again.groups[worn].start);
    recover(&again.disk, &REPAIR).unwrap();
    assert!(holds(&again.disk, &second, &again.groups[last]));
    assert!(behind.iter().all(|group| holds(&again.disk, &first, group)));
}

#[test]
fn e9_what_was_durable_in_the_block_that_the_log_ends_in_is_needed() {
    for clean in [false, true] {
        let mut log = log_with_checkpoint(3);
        log.append(Placed::Packed, b"in the same block").unwrap();
        log.flush().unwrap();
        log.store_checkpoint(clean).unwrap();
        let block = log.tip.end.align_down(BLOCK_BYTES);
        wear_out(&log.disk, block.advance(100));
        refuses_to_go_without(&log.disk, &segment(0), block.get());
        let kept: Vec<Written> = log.groups.iter().filter(|group| group.end <= block).cloned().collect();
        keeps_with(&log.disk, &kept, &REPAIR);
    }
}

#[test]
fn e9_a_follower_fetches_again_what_it_cannot_read() {
    let mut log = log(6);
    log.checkpoint.store(Checkpoint { led_from: log.tip.end, ..log.named() }).unwrap();
    wear_out(&log.disk, log.groups[3].start);
    let report = keeps(&log.disk, &log.groups[..3]);
    assert!(report.doubt);
    assert_eq!(report.unreadable, unreadable(segment(0), log.groups[3].start.get()));
}

#[test]
fn e9_nothing_stands_behind_the_end_of_a_closed_log() {
    let mut log = log(3);
    log.name_segment(PhysicalOffset::new(SEGMENT)).unwrap();
    log.store_checkpoint(true).unwrap();
    wear_out(&log.disk, log.tip.end.align_up(BLOCK_BYTES));
    wear_out(&log.disk, PhysicalOffset::new(SEGMENT));
    let end = log.tip.end;
    let reopened = Sketch::open(log.disk.kill(), &OPTIONS, log.groups).unwrap();
    assert_eq!(reopened.report.end, end);
    let worn = [unreadable(segment(0), end.align_up(BLOCK_BYTES).get()), unreadable(segment(1), 0)].concat();
    assert_eq!((reopened.report.unreadable, reopened.report.cut_bytes), (worn, 8192));
    // Nor is it in the way of the next opening, before which something else may have been acknowledged.
    assert_eq!(keeps(&reopened.disk, &reopened.groups).unreadable, []);
}

#[test]
fn e10_what_cannot_be_read_further_on_is_written_again() {
    let mut log = log(3);
    log.name_segment(PhysicalOffset::new(SEGMENT)).unwrap();
    for place in [log.tip.end.align_up(BLOCK_BYTES).advance(2 * BLOCK_BYTES), PhysicalOffset::new(SEGMENT)] {
        let disk = log.disk.kill();
        wear_out(&disk, place.advance(100));
        let report = keeps(&disk, &log.groups);
        assert_eq!(report.cut_bytes, 4096);
        assert_eq!(report.unreadable, unreadable(segment(place.get() / SEGMENT), place.get() % SEGMENT));
        assert_eq!(preview(&disk, &OPTIONS).unwrap(), report);
        let recovered = disk.kill();
        recover(&recovered, &OPTIONS).unwrap();
        assert_eq!(recover(&recovered.crash(), &OPTIONS).unwrap().report.unreadable, []);
    }
}

#[test]
fn e10_a_witness_testifies_beside_what_cannot_be_read() {
    let log = log(6);
    log.disk.flip_bit(&segment(0), log.groups[2].start.get() + 500, 2).unwrap();
    wear_out(&log.disk, log.groups[4].start);
    assert!(matches!(corruption(&log.disk).evidence, Evidence::Witness { .. }));
}

/// A log whose fourth group is damaged, so that nothing but a later one says that it was durable.
fn log_with_damage(groups: usize) -> Sketch {
    let log = log(groups);
    log.disk.flip_bit(&segment(0), log.groups[3].start.get() + 500, 2).unwrap();
    log
}

#[test]
fn e10_the_only_witness_of_a_damaged_group_may_be_what_cannot_be_read() {
    for worn in 1..3 {
        let log = log_with_damage(3 + worn);
        log.groups[4..].iter().for_each(|group| wear_out(&log.disk, group.start));
        let at = log.groups[4].start.get();
        refuses_to_go_without(&log.disk, &segment(0), at);
        let report = keeps_with(&log.disk, &log.groups[..3], &REPAIR);
        assert_eq!((report.repaired.unwrap().position, report.doubt), (at, false));
        // Where nothing was written, nothing needs a witness.
        overwrite(&log.disk, log.groups[3].start, &[0; 4096]);
        keeps(&log.disk, &log.groups[..3]);
    }
}

#[test]
fn e10_a_leader_may_have_been_the_witness_that_cannot_be_read() {
    let mut log = log_with_damage(4);
    wear_out(&log.disk, log.groups[4].start);
    log.checkpoint.store(Checkpoint { led_from: log.tip.end.align_up(BLOCK_BYTES), ..log.named() }).unwrap();
    let report = keeps(&log.disk, &log.groups[..3]);
    assert!(report.doubt);
}

#[test]
fn e9_a_repair_that_a_follower_does_not_need_gives_up_no_segment() {
    let mut log = log(3);
    log.name_segment(PhysicalOffset::new(SEGMENT)).unwrap();
    log.checkpoint.store(Checkpoint { led_from: log.tip.end, ..log.named() }).unwrap();
    wear_out(&log.disk, log.groups[3].start);
    let report = keeps_with(&log.disk, &log.groups[..3], &REPAIR);
    assert_eq!((report.doubt, report.repaired, report.removed), (true, None, vec![]));
}

#[test]
fn e11_an_epoch_record_that_cannot_be_read_hides_no_more_than_its_segment() {
    let mut log = log(3);
    for _ in 0..4 {
        log = Sketch::open(log.disk.kill(), &OPTIONS, log.groups).unwrap();
        log.append_durably(2);
        log.close_segment().unwrap();
        log.flush().unwrap();
    }
    let log = Sketch::open(log.disk.kill(), &OPTIONS, log.groups).unwrap();
    let lost = log.epochs[3];
    wear_out(&log.disk, lost.start);
    let recovered = recover(&log.disk.kill(), &OPTIONS).unwrap();
    assert_eq!(recovered.report.unreadable, unreadable(segment(2), 4096));
    assert_eq!(recovered.end, log.tip.end);
    // It is named by the one behind it, and the header of the segment in front names the one before.
    assert_eq!(recovered.epochs[..log.epochs.len()], log.epochs);
}

#[test]
fn e12_a_disk_that_fails_as_a_whole_is_told_of_and_can_be_repaired_from() {
    let mut log = log(3);
    for index in 1..7 {
        log.name_segment(PhysicalOffset::new(index * SEGMENT)).unwrap();
        log.disk.fail_reads(&segment(index), 0..SEGMENT).unwrap();
        // 16 blocks each.
        if index <= 4 {
            assert_eq!(keeps(&log.disk, &log.groups).repaired, None);
        } else {
            refuses_to_go_without(&log.disk, &segment(1), 0);
            let repaired = keeps_with(&log.disk, &log.groups, &REPAIR).repaired.unwrap();
            assert_eq!((repaired.file, repaired.evidence), (segment(1), Evidence::Unreadable));
        }
    }
}
