use std::io;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::sketch::{OPTIONS, Placed, SEGMENT, Sketch, Written, bytes_at};
use super::*;
use crate::device::simulated::Disk;
use crate::segment::{BLOCK_BYTES, segment_name};

/// Opens a disk after a crash; what was durable must be there, and what is there must have been written.
fn reopen(disk: Disk, durable_end: PhysicalOffset, groups: &[Written], what: &str) -> Sketch {
    let reopened =
        Sketch::open(disk, &OPTIONS, groups.to_vec()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let kept = reopened.report.end;
    assert!(kept >= durable_end, "{what}: kept {kept}, durable was {durable_end}");
    for group in groups.iter().filter(|group| group.end <= kept) {
        let found = bytes_at(&reopened.disk, group.start, group.bytes.len());
        assert!(found == group.bytes, "{what}: the group at {} is not what was written", group.start);
    }
    assert!(
        kept == PhysicalOffset::ZERO || groups.iter().any(|group| group.end == kept),
        "{what}: the log ends between groups, at {kept}"
    );
    reopened
}

#[test]
fn whatever_a_power_cut_leaves_is_a_prefix_with_all_that_was_durable() {
    for seed in 0..300 {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut log = Sketch::new(seed);
        for round in 0..6 {
            work(&mut log, &mut rng).unwrap();
            let (disk, durable_end) = (&log.disk, log.durable_end);
            let after = if rng.random_bool(0.3) { disk.kill() } else { disk.crash() };
            let what = format!("seed {seed}, round {round}");
            log = reopen(after, durable_end, &log.groups, &what);
        }
    }
}

/// Some appends, flushes, checkpoints and rolls.
fn work(log: &mut Sketch, rng: &mut Pcg64Mcg) -> io::Result<()> {
    for _ in 0..rng.random_range(0..12_usize) {
        let placed = if rng.random_bool(0.5) { Placed::Packed } else { Placed::NextBlock };
        let longest = if rng.random_bool(0.8) { 600 } else { 20_000 };
        let length: usize = rng.random_range(0..longest);
        let payload = vec![rng.random::<u8>(); length];
        // One in flight: the group before is durable when the next is written.
        log.append(placed, &payload)?;
        if rng.random_bool(0.9) {
            log.flush()?;
            if rng.random_bool(0.2) {
                log.store_checkpoint(false)?;
            }
        }
    }
    Ok(())
}

#[test]
fn the_power_may_fail_in_any_operation_of_the_writer() {
    for seed in 0..400 {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut log = Sketch::new(seed);
        work(&mut log, &mut rng).unwrap();
        log.disk.power_off_at(rng.random_range(1..30));
        let end = loop {
            let durable_end = log.durable_end;
            let length = rng.random_range(0..9000_usize);
            let worked = log.append_if_room(&vec![7; length]).and_then(|()| log.flush());
            if worked.is_err() {
                break durable_end;
            }
        };
        reopen(log.disk.crash(), end, &log.groups, &format!("seed {seed}"));
    }
}

/// A disk on which recovery has everything to do: leftovers, a tear over two segments, bytes to write again.
fn messy(seed: u64) -> Sketch {
    let mut log = Sketch::new(seed);
    while log.tip.end.get() < SEGMENT - 4 * BLOCK_BYTES {
        log.append_durably(1);
    }
    log.store_checkpoint(false).unwrap();
    log.append_durably(2);
    log.close_segment().unwrap();
    log.flush().unwrap();
    log.append(Placed::Packed, &[1; 3000]).unwrap();
    log.append(Placed::Packed, &[2; 3000]).unwrap();
    log.append(Placed::NextBlock, &[3; 9000]).unwrap();
    log.disk.create("log/x.tmp").unwrap();
    log.disk.create(&segment_name(PhysicalOffset::new(2 * SEGMENT))).unwrap().set_len(SEGMENT).unwrap();
    log
}

#[test]
fn recovery_may_be_cut_short_anywhere_and_comes_to_the_same_end() {
    for seed in 0..12 {
        let log = messy(seed);
        let disk = if seed % 2 == 0 { log.disk.kill() } else { log.disk.crash() };
        let whole = disk.kill();
        let before = whole.operations();
        let end = recover(&whole, &OPTIONS).unwrap().end;
        let operations = whole.operations() - before;
        assert!(operations >= 5, "there is something to do: {operations}");
        for nth in 1..=operations {
            let cut_short = disk.kill();
            cut_short.power_off_at(nth);
            assert!(recover(&cut_short, &OPTIONS).is_err(), "operation {nth}");
            let what = format!("seed {seed}, operation {nth}");
            let killed = reopen(cut_short.kill(), log.durable_end, &log.groups, &what);
            assert_eq!(killed.report.end, end, "{what}: a killed process loses nothing");
            for _ in 0..4 {
                reopen(cut_short.crash(), log.durable_end, &log.groups, &what);
            }
        }
    }
}

#[test]
fn what_recovery_returned_survives_the_next_power_cut() {
    for seed in 0..100 {
        let log = messy(seed);
        let disk = if seed % 2 == 0 { log.disk.kill() } else { log.disk.crash() };
        let end = recover(&disk, &OPTIONS).unwrap().end;
        let after = reopen(disk.crash(), end, &log.groups, &format!("seed {seed}"));
        assert_eq!(after.report.end, end);
    }
}

#[test]
fn creation_may_be_cut_short_anywhere() {
    let whole = Disk::new(0);
    recover(&whole, &OPTIONS).unwrap();
    for seed in 0..40 {
        for nth in 1..=whole.operations() {
            let disk = Disk::new(seed);
            disk.power_off_at(nth);
            assert!(recover(&disk, &OPTIONS).is_err());
            for after in [disk.crash(), disk.crash(), disk.kill()] {
                let mut log =
                    reopen(after, PhysicalOffset::ZERO, &[], &format!("seed {seed}, operation {nth}"));
                log.append_durably(1);
                reopen(log.disk.crash(), log.durable_end, &log.groups, "after creation");
            }
        }
    }
}

#[test]
fn a_failing_disk_fails_recovery_and_nothing_else() {
    for seed in 0..100 {
        let log = messy(seed);
        let disk = log.disk.kill();
        if seed % 2 == 0 {
            disk.fail_write(1 + seed % 7)
        } else {
            disk.fail_flush(1 + seed % 7)
        };
        if matches!(recover(&disk, &OPTIONS), Err(OpenError::Io(_))) {
            reopen(disk.crash(), log.durable_end, &log.groups, &format!("seed {seed}"));
        }
    }
}

#[test]
fn a_flush_that_lies_is_noticed() {
    let caught = (0..50).any(|seed| {
        let mut log = Sketch::new(seed);
        log.disk.set_flushes_lie(true);
        log.append_durably(5);
        let recovered = recover(&log.disk.crash(), &OPTIONS);
        recovered.map_or(true, |recovered| recovered.end < log.durable_end)
    });
    assert!(caught, "these tests would not see a disk that loses what was flushed");
}
