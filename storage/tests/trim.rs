//! Giving up the log's beginning: what is gone, what stays, and what a crash in between leaves.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use skylark_storage::device::Directory;
use skylark_storage::device::simulated::Disk;
use skylark_storage::{
    CommitLog, Files, NewRecord, Opened, Options, PhysicalOffset, ReadError, Step, Stopped, SystemClock,
    TrimError, segment,
};

use support::usable::{directory, temporary, usable};
use support::{KIND, SEGMENT_BYTES, World, options};

fn base(index: u64) -> PhysicalOffset {
    PhysicalOffset::new(index * SEGMENT_BYTES)
}

/// A log that fills some segments, in several openings, and has begun the one behind them.
fn long(segments: u64) -> World {
    long_on(Disk::new(1), options(), segments)
}

fn long_on(disk: Disk, options: Options, segments: u64) -> World {
    let mut world = World::new(disk, options);
    let mut opened_in = 0;
    while world.frontiers().durable_end < base(segments).advance(10_000) {
        world.append(&[3000, 500]).expect("the log takes appends");
        world.settle().expect("no promise is broken");
        world.clock.advance(Duration::from_millis(10));
        let segment = world.frontiers().durable_end.get() / SEGMENT_BYTES;
        if segment > opened_in {
            opened_in = segment;
            world.kill().expect("a killed process loses nothing");
        }
    }
    world
}

fn segment_files(files: &dyn Files) -> Vec<PhysicalOffset> {
    let mut bases: Vec<_> = files
        .list("log")
        .expect("the disk works")
        .iter()
        .filter_map(|name| segment::segment_base(name))
        .collect();
    bases.sort();
    bases
}

#[test]
fn what_lies_below_is_gone_and_named_so_and_the_rest_stays() {
    let mut world = long(4);
    let below = world.units[0].records[0].at;
    let log = world.opened.log.clone();
    assert_eq!(world.trim(base(2).advance(5000)).unwrap(), base(2), "whole segments only");

    assert_eq!(world.frontiers().trimmed, base(2));
    assert_eq!(segment_files(&world.disk), [base(2), base(3), base(4)]);
    assert_eq!(log.segments().first().map(|segment| segment.base), Some(base(2)));
    let is_trimmed = |error: &ReadError| {
        matches!(error, ReadError::Trimmed { trimmed, .. } if *trimmed == base(2))
            && error.to_string().contains(&base(2).to_string())
    };
    assert!(log.record_at(below).is_err_and(|error| is_trimmed(&error)));
    assert!(log.read_cold(below, 32).is_err_and(|error| is_trimmed(&error)));
    assert!(log.read_hot(below, 32).is_none());
    let scanned: Vec<_> = log.scan(PhysicalOffset::ZERO).collect();
    assert!(matches!(scanned.as_slice(), [Err(error)] if is_trimmed(error)));
    assert_eq!(log.chain_at(base(1)).unwrap(), None);
    assert!(log.chain_at(base(2)).unwrap().is_some());
    assert!(log.scan(base(2)).all(|group| group.is_ok()));
    drop(log);

    world.check_records().unwrap();
    for _ in 0..2 {
        world.append(&[100]).unwrap();
        world.settle().unwrap();
        world.crash().unwrap();
        world.kill().unwrap();
        world.close().unwrap();
        assert_eq!(world.frontiers().trimmed, base(2));
        assert_eq!(world.opened.recovery.removed, Vec::<String>::new());
    }
}

#[test]
fn a_scan_under_way_learns_that_it_was_overtaken() {
    let mut world = long(3);
    let log = world.opened.log.clone();
    let mut scan = log.scan(PhysicalOffset::ZERO);
    scan.next().unwrap().unwrap();
    world.trim(base(2)).unwrap();
    assert!(matches!(scan.next(), Some(Err(ReadError::Trimmed { .. }))));
    assert!(scan.next().is_none());
}

#[test]
fn the_newest_segment_with_something_durable_stays() {
    let mut world = long(2);
    let before = (world.frontiers(), world.disk.operations());
    for to in [base(3), base(9), PhysicalOffset::new(u64::MAX)] {
        let refused = world.trim(to).unwrap_err();
        assert!(matches!(refused, TrimError::Beyond { limit, .. } if limit == base(2)), "{refused}");
        assert!(refused.to_string().contains(&base(2).to_string()), "{refused}");
    }
    assert_eq!((world.frontiers(), world.disk.operations()), before, "nothing was touched");
    // To the very end is to the base of the segment that holds it.
    assert_eq!(world.trim(world.frontiers().durable_end).unwrap(), base(2));
    world.close().unwrap();

    // What is appended and not durable holds no segment open for a trim.
    let mut world = long(1);
    while world.frontiers().appended_end < base(3) {
        world.append(&[3000]).unwrap();
    }
    assert!(matches!(world.trim(base(2)), Err(TrimError::Beyond { limit, .. }) if limit == base(1)));
}

#[test]
fn a_log_that_ends_with_its_segment_keeps_that_segment() {
    let mut world = World::new(Disk::new(1), options());
    let largest = usize::try_from(world.opened.log.unit_bytes_max()).unwrap() - 32 - support::HEAD_BYTES;
    world.append(&[100]).unwrap();
    world.append(&[largest]).unwrap();
    world.append(&[100]).unwrap();
    // Step by step: the group that closes a segment is durable before the next segment is begun.
    let mut sealed = 0;
    while world.step_writer().unwrap() == Step::Worked {
        let end = world.frontiers().durable_end;
        if end.get().is_multiple_of(SEGMENT_BYTES) {
            sealed += 1;
            let last = PhysicalOffset::new(end.get() - SEGMENT_BYTES);
            assert!(matches!(world.trim(end), Err(TrimError::Beyond { limit, .. }) if limit == last));
            let point = world.opened.log.chain_at(end).unwrap();
            assert_eq!(point.map(|point| point.epoch), Some(world.opened.log.epoch()));
            world.trim(last).unwrap();
            world.check_records().unwrap();
        }
    }
    assert_eq!(sealed, 2);
    world.close().unwrap();
}

#[test]
fn a_trim_of_nothing_does_nothing() {
    let mut world = long(3);
    world.trim(base(2)).unwrap();
    let operations = world.disk.operations();
    for to in [PhysicalOffset::ZERO, base(1), base(2), base(2).advance(77)] {
        assert_eq!(world.trim(to).unwrap(), base(2));
    }
    assert_eq!(world.disk.operations(), operations);
}

#[test]
fn a_stopped_log_is_not_trimmed() {
    let mut world = long(2);
    world.opened.log.close();
    world.settle().unwrap();
    assert!(matches!(world.trim(base(1)), Err(TrimError::Stopped(Stopped::Closed))));
    world.crash().unwrap();
    assert!(world.opened.recovery.clean);

    world.disk.fail_flush(2);
    let failed = world.trim(base(1)).unwrap_err();
    assert!(matches!(failed, TrimError::Stopped(Stopped::Poisoned { .. })), "{failed}");
    assert!(world.opened.log.stopped().is_some(), "a checkpoint in doubt poisons");
    assert_eq!(segment_files(&world.disk), [base(0), base(1), base(2)], "no file went before it was named");
    world.crash().unwrap();
}

#[test]
fn no_checkpoint_slot_names_what_is_gone() {
    let mut world = long(3);
    world.trim(base(2)).unwrap();
    for slot in 0..2 {
        let disk = world.disk.kill();
        disk.flip_bit("CHECKPOINT", slot * 4096 + 50, 1).unwrap();
        let opened = support::open(&disk, &world.clock, &options()).expect("the other slot leads");
        assert!(opened.recovery.slot_damaged);
        assert_eq!(opened.recovery.start, base(2));
    }
}

#[test]
fn segments_are_known_without_reading_them() {
    let check = |world: &World| {
        let log = &world.opened.log;
        let known = log.segments();
        let groups: Vec<_> = log.scan(world.frontiers().trimmed).map(|group| group.unwrap()).collect();
        // Base, creation, and what is stored.
        let mut expected: Vec<(PhysicalOffset, u64, u64)> = Vec::new();
        for group in &groups {
            let base = log.segment_base(group.start);
            let stored_end = group.start.advance(group.bytes.len() as u64);
            let stored_bytes = stored_end.since(base);
            match expected.last_mut().filter(|(known, ..)| *known == base) {
                Some((.., bytes)) => *bytes = stored_bytes,
                None => expected.push((base, group.created_at, stored_bytes)),
            }
        }
        // A process that was killed in front of cutting a sealed segment leaves it longer.
        let begun = known.iter().map(|segment| (segment.base, segment.created_at));
        assert!(begun.eq(expected.iter().map(|(base, created_at, _)| (*base, *created_at))), "{known:?}");
        let newest = known.len() - 1;
        assert_eq!(known[newest].stored_bytes, expected[newest].2);
        for segment in &known[..newest] {
            let file = world.disk.open(&segment::segment_name(segment.base)).unwrap();
            assert_eq!(segment.stored_bytes, file.len().unwrap());
        }
    };
    let mut world = World::new(Disk::new(1), options());
    assert_eq!(world.opened.log.segments(), [], "no group, no segment");
    for round in 0..60 {
        world.append(&[4000]).unwrap();
        world.settle().unwrap();
        world.clock.advance(Duration::from_millis(7));
        // It cuts what was sealed.
        while world.step_housekeeper() == Step::Worked {}
        check(&world);
        match round % 20 {
            7 => world.crash().unwrap(),
            14 => world.close().unwrap(),
            19 => {
                let to = world.frontiers().durable_end.get() - SEGMENT_BYTES;
                world.trim(PhysicalOffset::new(to)).unwrap();
            }
            _ => continue,
        }
        if !world.opened.log.segments().is_empty() {
            check(&world);
        }
    }
}

#[test]
fn the_chain_at_a_segment_says_which_history_it_continues() {
    let mut world = World::new(Disk::new(1), options());
    let start = world.opened.log.chain_at(base(0)).unwrap().unwrap();
    let mut seen = vec![start];
    for round in 0..90 {
        world.append(&[3000]).unwrap();
        while world.step_writer().unwrap() == Step::Worked {
            let end = world.frontiers().durable_end;
            let index = seen.len();
            if let Some(point) = world.opened.log.chain_at(base(index as u64)).unwrap() {
                assert!(end >= base(index as u64));
                seen.push(point);
            }
        }
        match round % 30 {
            11 => world.crash().unwrap(),
            22 => world.close().unwrap(),
            _ => {}
        }
        for (index, point) in seen.iter().enumerate().skip(1) {
            assert_eq!(world.opened.log.chain_at(base(index as u64)).unwrap().as_ref(), Some(point));
        }
        assert_eq!(world.opened.log.chain_at(base(seen.len() as u64)).unwrap(), None, "beyond the end");
    }
    assert!(seen.len() > 4);
    assert!(seen.is_sorted_by(|a, b| a.epoch <= b.epoch) && seen[0].epoch < seen[seen.len() - 1].epoch);
    assert_eq!(world.opened.log.chain_at(PhysicalOffset::new(8)).unwrap(), None, "no segment begins there");
    world.trim(base(2)).unwrap();
    for round in 0..2 {
        for (index, point) in seen.iter().enumerate() {
            let expected = (index >= 2).then_some(*point);
            assert_eq!(world.opened.log.chain_at(base(index as u64)).unwrap(), expected, "round {round}");
        }
        world.crash().unwrap();
    }
    let other = long(2);
    assert_ne!(other.opened.log.chain_at(base(1)).unwrap().unwrap().chain, seen[1].chain, "another log");
}

#[test]
fn epochs_lead_past_what_was_trimmed() {
    let mut world = long(4);
    let before = world.opened.log.epochs();
    assert!(before.len() >= 5);
    world.trim(base(3)).unwrap();
    world.crash().unwrap();
    let after = world.opened.log.epochs();
    let known: Vec<_> = before.iter().copied().filter(|begun| begun.start >= base(3)).collect();
    assert!(after[after.len() - 1].epoch > before[before.len() - 1].epoch);
    assert!(after.windows(known.len()).any(|part| part == known));
    // The one that the first records above the trim carry, wherever it began.
    let first = world.opened.log.scan(base(3)).next().unwrap().unwrap().epoch;
    assert!(after.iter().any(|begun| begun.epoch <= first && begun.start < base(3).advance(10_000)));
}

#[test]
fn a_crash_at_any_step_of_a_trim_leaves_all_that_lies_above() {
    let begun = long(5);
    let whole = begun.disk.kill();
    let operations = {
        let opened = support::open(&whole, &begun.clock, &options()).unwrap();
        let before = whole.operations();
        opened.log.trim(base(3)).unwrap();
        whole.operations() - before
    };
    assert_eq!(operations, 2 + 2 + 3 + 1, "two checkpoints, three files, their directory");
    for nth in 1..=operations {
        for seed in 0..40 {
            let mut world = long_on(Disk::new(seed), options(), 5);
            world.disk.power_off_at(nth);
            let failed = world.trim(base(3)).expect_err("the power is off");
            assert!(!matches!(failed, TrimError::Beyond { .. }), "{failed}");
            if seed % 3 == 0 { world.kill() } else { world.crash() }
                .unwrap_or_else(|violation| panic!("operation {nth}, seed {seed}: {violation}"));
            assert!([base(0), base(3)].contains(&world.trimmed), "all or nothing");
            if nth > 4 {
                assert_eq!(world.trimmed, base(3), "the checkpoint came first");
            }
            world.append(&[2000]).unwrap();
            world.settle().unwrap();
            world.trim(base(4)).unwrap();
            world.crash().unwrap_or_else(|violation| panic!("operation {nth}, seed {seed}: {violation}"));
            assert_eq!(world.trimmed, base(4));
        }
    }
}

#[test]
fn a_trim_that_can_only_be_read_costs_no_crash_the_log() {
    for seed in 0..30 {
        // The checkpoint that trims is written, its flush fails, and the process ends.
        let world = long_on(Disk::new(seed), options(), 3);
        world.disk.fail_flush(1);
        world.opened.log.trim(base(2)).expect_err("the flush fails");
        let killed = world.disk.kill();
        for nth in 1..10 {
            let cut_short = killed.kill();
            cut_short.power_off_at(nth);
            drop(world.open(&cut_short));
            let opened = world.open(&cut_short.crash());
            let opened = opened.unwrap_or_else(|error| panic!("seed {seed}, cut {nth}: {error}"));
            assert!([base(0), base(2)].contains(&opened.log.frontiers().trimmed));
        }
    }
}

#[test]
fn a_long_file_is_given_back_piece_by_piece_and_a_crash_in_between_does_no_harm() {
    let options = Options { segment_bytes: 20 << 20, undurable_bytes_max: 1 << 30, ..options() };
    let mut world = World::new(Disk::new(1), options);
    let base = PhysicalOffset::new(2 * (20 << 20));
    while world.frontiers().durable_end < base {
        world.append(&[1 << 20]).unwrap();
        world.settle().unwrap();
    }
    let whole = world.disk.kill();
    let before = whole.operations();
    let opened = support::open(&whole, &world.clock, &world.options).unwrap();
    opened.log.trim(base).unwrap();
    drop(opened);
    let operations = whole.operations() - before;
    for nth in 1..=operations {
        let disk = world.disk.kill();
        disk.power_off_at(nth);
        if let Ok(opened) = support::open(&disk, &world.clock, &world.options) {
            opened.log.trim(base).expect_err("the power is off");
        }
        let opened = support::open(&disk.crash(), &world.clock, &world.options).unwrap();
        let beginning = opened.log.frontiers().trimmed;
        assert!([PhysicalOffset::ZERO, base].contains(&beginning), "cut at operation {nth}: {beginning}");
        assert!(opened.log.scan(beginning).all(|group| group.is_ok()), "cut at operation {nth}");
    }
    // Who reads meanwhile is told that it is gone, not that it is short.
    let file = world.disk.open(&segment::segment_name(PhysicalOffset::ZERO)).unwrap();
    let first = world.units[0].records[0].at;
    world.trim(base).unwrap();
    assert!(file.len().unwrap() <= 8 << 20, "most of it went before the name did");
    assert!(matches!(world.opened.log.record_at(first), Err(ReadError::Trimmed { .. })));
}

#[test]
fn a_trim_without_space_for_its_checkpoints_is_as_if_it_had_not_been() {
    for nth in [1, 2] {
        let mut world = long(3);
        world.disk.refuse_write(nth);
        let refused = world.trim(base(2)).unwrap_err();
        assert!(matches!(refused, TrimError::NoSpace(_)), "{refused}");
        assert_eq!(world.frontiers().trimmed, PhysicalOffset::ZERO);
        let pin =
            world.opened.log.pin(base(1), Duration::from_secs(60), "who was told that it is kept").unwrap();
        world.append(&[100]).unwrap();
        world.close().unwrap();
        assert!(!pin.is_lost());
        assert_eq!(world.frontiers().trimmed, PhysicalOffset::ZERO, "write {nth} was refused");
        assert_eq!(segment_files(&world.disk), [base(0), base(1), base(2), base(3)]);
        world.check_records().unwrap();

        // What is tried again is done, and stays.
        world.disk.refuse_write(nth);
        world.trim(base(2)).unwrap_err();
        assert_eq!(world.trim(base(2)).unwrap(), base(2));
        world.crash().unwrap();
        assert_eq!(world.frontiers().trimmed, base(2));
    }
}

#[test]
fn a_file_that_cannot_be_removed_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let files = Directory::open(directory.path()).unwrap();
    let mut opened =
        CommitLog::open(Arc::new(files.clone()), Arc::new(SystemClock::new()), options(), ()).unwrap();
    while opened.log.frontiers().durable_end < base(3) {
        opened
            .log
            .append(&[NewRecord { kind: KIND, head: &[], rest: &[&[7; 3000]] }], |(), _, _| ())
            .unwrap();
        while opened.writer.step() == Step::Worked {}
    }
    // A directory in its place, as an operator's mistake.
    let path = directory.path().join(segment::segment_name(base(1)));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let failed = opened.log.trim(base(2)).unwrap_err();
    assert!(matches!(failed, TrimError::Remains { trimmed, .. } if trimmed == base(2)), "{failed}");
    assert_eq!(opened.log.frontiers().trimmed, base(2), "readers are told all the same");
    assert!(opened.log.stopped().is_none());
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(opened.log.trim(base(0)).unwrap(), base(2));
    assert_eq!(segment_files(&files)[0], base(2));
}

#[test]
fn readers_beside_a_trim_get_the_record_or_are_told() {
    for kind in usable() {
        let root = temporary();
        let files = Arc::new(directory(&root, kind));
        let options = Options { tail_bytes: 0, ..options() };
        let Opened { log, writer, housekeeper, groups, .. } =
            CommitLog::open(files, Arc::new(SystemClock::new()), options, ()).unwrap();
        drop(groups);
        let machines = [thread::spawn(|| writer.run()), thread::spawn(|| housekeeper.run())];
        let mut records = Vec::new();
        for _ in 0..400 {
            let record = NewRecord { kind: KIND, head: &[], rest: &[&[7; 3000]] };
            let appended = log.append(&[record], |(), _, _| ()).unwrap();
            log.durable().wait_blocking(appended.end).unwrap();
            records.push(appended.start);
        }
        let done = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (log, records, done) = (log.clone(), records.clone(), Arc::clone(&done));
                thread::spawn(move || {
                    let mut told = 0;
                    // Once more after the last trim, however slow the machine is.
                    while told == 0 || !done.load(Ordering::Relaxed) {
                        for &at in &records {
                            match log.record_at(at) {
                                Ok(record) => assert_eq!(record.payload().len(), 3000),
                                Err(ReadError::Trimmed { trimmed, .. }) => {
                                    assert!(at < trimmed);
                                    told += 1;
                                }
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                    told
                })
            })
            .collect();
        let last = log.frontiers().durable_end.get() / SEGMENT_BYTES;
        for index in 1..=last {
            log.trim(base(index)).unwrap();
            log.record_at(records[records.len() - 1]).unwrap();
        }
        assert!(matches!(log.record_at(records[0]), Err(ReadError::Trimmed { .. })));
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
        log.close();
        log.wait_stopped();
        machines.into_iter().for_each(|machine| machine.join().unwrap());
    }
}
