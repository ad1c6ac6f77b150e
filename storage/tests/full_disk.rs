//! What a disk that takes no more does to the log: as long as nothing was written in vain, it only waits.

mod support;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use skylark_storage::device::simulated::Disk;
use skylark_storage::{
    AppendError, Cause, CommitLog, Files, NewRecord, Opened, Options, PhysicalOffset, Step, Stopped,
    SystemClock, TrimError, Visibility, segment,
};

use support::{KIND, SEGMENT_BYTES, World, options};

const VISIBILITIES: [Visibility; 2] = [Visibility::Durable, Visibility::Written];
/// Longer than anybody pauses before trying again.
const A_WHILE: Duration = Duration::from_secs(2);

fn world(seed: u64, visibility: Visibility) -> World {
    World::new(Disk::new(seed), Options { visibility, undurable_bytes_max: 20_000, ..options() })
}

/// One round of everybody, in which time passes.
fn round(world: &mut World) {
    world.settle().expect("no promise is broken");
    while world.step_housekeeper() == Step::Worked {}
    world.clock.advance(A_WHILE);
    world.settle().expect("no promise is broken");
}

/// Appends until the log takes no more, and returns what it says then.
fn fill(world: &mut World) -> AppendError {
    for _ in 0..1000 {
        if let Err(refused) = world.append(&[3000]) {
            return refused;
        }
        round(world);
    }
    panic!("the disk has space");
}

fn held_back(world: &mut World, space_left: u64) {
    world.disk.set_space_left(Some(space_left));
    let refused = fill(world);
    assert!(matches!(refused, AppendError::NoSpace { .. }), "{refused}");
    assert!(world.opened.log.stopped().is_none());
}

#[test]
fn appends_go_on_within_what_is_prepared_and_are_then_held_back() {
    for visibility in VISIBILITIES {
        // Of the spare there is as much as fits, and the last bytes of the disk serve too.
        for space_left in [0, 4096, 8192, 20_000, 30_000, 50_000, 70_000] {
            let mut world = world(1, visibility);
            world.append(&[3000]).unwrap();
            world.settle().unwrap();
            held_back(&mut world, space_left);
            let (end, prepared) =
                (world.frontiers().durable_end.get(), SEGMENT_BYTES + space_left / 4096 * 4096);
            // The segment before is cut when it is sealed, which may give a block back.
            assert!(end <= prepared + 4096 && end + 8192 > prepared, "{end} of {prepared}");
            // However long it takes.
            for _ in 0..3 {
                round(&mut world);
                assert!(matches!(world.append(&[3000]), Err(AppendError::NoSpace { .. })));
            }
            world.check_records().unwrap();
        }
    }
}

#[test]
fn the_refusal_names_the_place_and_the_numbers() {
    let mut world = world(1, Visibility::Durable);
    world.append(&[3000]).unwrap();
    world.settle().unwrap();
    world.disk.set_space_left(Some(5000));
    let AppendError::NoSpace { directory, needed_bytes, available_bytes, staged_bytes } = fill(&mut world)
    else {
        panic!("the disk is full");
    };
    assert_eq!(&*directory, world.disk.describe());
    // A block or two: the rest of the group fitted.
    assert!((1..=8192).contains(&needed_bytes), "{needed_bytes}");
    assert_eq!(available_bytes, world.disk.space().unwrap().available_bytes);
    assert!(staged_bytes >= 3000, "{staged_bytes}");
    let refused = world.append(&[3000]).unwrap_err().to_string();
    for part in [&*directory, &needed_bytes.to_string(), &available_bytes.to_string()] {
        assert!(refused.contains(part), "{refused}");
    }
}

/// As on a disk that copies on write: a range that was prepared can be refused too.
#[test]
fn a_group_whose_write_was_refused_for_lack_of_space_is_written_again() {
    for visibility in VISIBILITIES {
        for seed in 0..40 {
            let mut world = world(seed, visibility);
            world.append(&[3000, 500]).unwrap();
            world.settle().unwrap();
            world.append(&[3000, 2000]).unwrap();
            let before = world.frontiers();
            world.disk.refuse_write(1);
            world.settle().unwrap();
            assert_eq!(world.frontiers(), before, "nobody is told anything");
            let refused = world.append(&[10]).unwrap_err();
            assert!(matches!(refused, AppendError::NoSpace { .. }), "{refused}");
            if seed % 2 == 0 {
                // What was written of it is a tear.
                world.crash().unwrap();
            }
            round(&mut world);
            world.append(&[700]).expect("the log goes on");
            round(&mut world);
            assert_eq!(world.frontiers().durable_end, world.frontiers().appended_end);
            world.check_records().unwrap();
            world.crash().unwrap();
        }
    }
}

/// Whatever the write was for: a group, a segment's zeros, a checkpoint, in each of its turns.
#[test]
fn a_write_that_is_refused_anywhere_is_waited_for() {
    for visibility in VISIBILITIES {
        for nth in 1..160 {
            let mut world = world(nth, visibility);
            world.disk.refuse_write(nth);
            for _ in 0..60 {
                match world.append(&[3000]) {
                    Ok(()) => {}
                    Err(AppendError::NoSpace { .. }) => world.clock.advance(A_WHILE),
                    Err(refused) => panic!("{refused}"),
                }
                round(&mut world);
            }
            let end = world.frontiers().durable_end.get();
            match world.trim(PhysicalOffset::new(end - SEGMENT_BYTES)) {
                Err(TrimError::NoSpace(_)) => {
                    assert_eq!(world.frontiers().trimmed.get(), 0);
                    if nth % 2 == 0 {
                        world.trim(PhysicalOffset::new(end - SEGMENT_BYTES)).expect("it can be tried again");
                    }
                }
                outcome => assert!(outcome.is_ok(), "{outcome:?}"),
            }
            assert!(world.opened.log.stopped().is_none(), "write {nth}");
            round(&mut world);
            assert_eq!(world.frontiers().durable_end, world.frontiers().appended_end);
            world.check_records().unwrap();
            world.crash().unwrap();
        }
    }
}

#[test]
fn closing_a_log_whose_write_was_refused_poisons_it_only_if_it_still_is() {
    for still in [false, true] {
        let mut world = world(1, Visibility::Durable);
        world.append(&[3000]).unwrap();
        world.settle().unwrap();
        world.append(&[3000]).unwrap();
        world.disk.refuse_write(1);
        world.step_writer().unwrap();
        if still {
            world.disk.refuse_write(1);
        }
        world.opened.log.close();
        world.settle().unwrap();
        let stopped = world.opened.log.wait_stopped();
        assert_eq!(matches!(stopped, Stopped::Poisoned { cause: Cause::Write(_), .. }), still, "{stopped}");
    }
}

#[test]
fn the_log_goes_on_by_itself_when_space_returns() {
    for visibility in VISIBILITIES {
        let mut world = world(1, visibility);
        held_back(&mut world, 20_000);
        world.disk.set_space_left(None);
        assert!(world.frontiers().durable_end < world.frontiers().appended_end);
        world.clock.advance(A_WHILE);
        world.settle().unwrap();
        while world.step_housekeeper() == Step::Worked {}
        for _ in 0..60 {
            world.append(&[3000]).expect("there is space again");
            round(&mut world);
        }
        assert_eq!(world.frontiers().durable_end, world.frontiers().appended_end);
        world.check_records().unwrap();
        world.close().unwrap();
    }
}

#[test]
fn nobody_tries_again_before_a_pause_is_over() {
    let mut world = world(1, Visibility::Durable);
    held_back(&mut world, 20_000);
    while world.step_housekeeper() == Step::Worked {}
    world.settle().unwrap();
    let tried = world.disk.operations();
    for _ in 0..10 {
        assert_eq!(world.step_housekeeper(), Step::Idle);
        assert_eq!(world.step_writer(), Ok(Step::Idle));
    }
    assert_eq!(world.disk.operations(), tried);
}

#[test]
fn closing_on_a_full_disk_ends() {
    for visibility in VISIBILITIES {
        let mut world = world(1, visibility);
        held_back(&mut world, 20_000);
        world.opened.log.close();
        // At once, whatever the pause.
        world.settle().unwrap();
        let stopped = world.opened.log.wait_stopped();
        assert!(matches!(stopped, Stopped::Poisoned { cause: Cause::Segment(_), .. }), "{stopped}");
        world.crash().unwrap();
    }
    // With nothing left to write there is nothing to lack.
    let mut world = world(1, Visibility::Durable);
    world.append(&[3000]).unwrap();
    world.settle().unwrap();
    world.disk.set_space_left(Some(0));
    world.close().unwrap();
}

#[test]
fn closing_when_space_has_returned_loses_nothing() {
    let mut world = world(1, Visibility::Durable);
    held_back(&mut world, 20_000);
    world.disk.set_space_left(None);
    world.close().unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails_on_a_full_disk() {
    for visibility in VISIBILITIES {
        for seed in 0..40 {
            let mut world = world(seed, visibility);
            held_back(&mut world, seed * 1500);
            if seed % 2 == 0 {
                world.disk.set_space_left(None);
                world.disk.power_off_at(1 + seed / 2);
                round(&mut world);
            }
            world.crash().unwrap();
            for _ in 0..30 {
                world.append(&[3000]).expect("the reopened log takes appends");
                round(&mut world);
            }
            world.crash().unwrap();
        }
    }
}

#[test]
fn a_log_opens_without_a_free_byte_and_goes_on_when_space_returns() {
    let mut ended_with_a_segment = 0;
    for visibility in VISIBILITIES {
        for seed in 0..60 {
            let mut world = world(seed, visibility);
            // Prepared by a second opening too, or in front of the place where a segment would have to be made.
            held_back(&mut world, seed % 20 * 1500);
            for round in 0..3 {
                let after = if (seed + round) % 3 == 0 { world.disk.kill() } else { world.disk.crash() };
                after.set_space_left(Some(0));
                let acknowledged_end = world.acknowledged_end;
                world.reopen(after).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
                assert!(world.frontiers().durable_end >= acknowledged_end);
                let durable_end = world.frontiers().durable_end.get();
                let next = segment::segment_name(PhysicalOffset::new(durable_end));
                if durable_end.is_multiple_of(SEGMENT_BYTES) && world.disk.open(&next).is_err() {
                    ended_with_a_segment += 1;
                }
                let refused = fill(&mut world);
                assert!(matches!(refused, AppendError::NoSpace { .. }), "{refused}");
                world.check_records().unwrap();
            }
            world.disk.set_space_left(None);
            round(&mut world);
            round(&mut world);
            assert_eq!(world.frontiers().durable_end, world.frontiers().appended_end, "it has gone on");
            for _ in 0..30 {
                world.append(&[3000]).expect("the log takes appends");
                round(&mut world);
            }
            world.close().unwrap();
        }
    }
    assert!(ended_with_a_segment > 5, "the hardest case occurs: {ended_with_a_segment}");
}

#[test]
fn a_log_that_was_closed_opens_without_a_free_byte() {
    for appends in 0..60 {
        let mut world = world(1, Visibility::Durable);
        for _ in 0..appends {
            world.append(&[3000]).unwrap();
            round(&mut world);
        }
        world.opened.log.close();
        world.settle().unwrap();
        let (end, after) = (world.frontiers().appended_end, world.disk.crash());
        after.set_space_left(Some(0));
        world.reopen(after).unwrap();
        assert_eq!(world.frontiers().durable_end, end);
        world.disk.set_space_left(None);
        world.append(&[3000]).unwrap();
        round(&mut world);
        world.close().unwrap();
    }
}

#[test]
fn the_power_may_fail_while_a_log_opens_without_a_free_byte() {
    for seed in 0..40 {
        let mut world = world(seed, Visibility::Durable);
        held_back(&mut world, seed * 1500);
        let full = world.disk.crash();
        for nth in 1..12 {
            let cut_short = full.kill();
            cut_short.set_space_left(Some(0));
            cut_short.power_off_at(nth);
            drop(support::open(&cut_short, &world.clock, &world.options));
            let after = cut_short.crash();
            after.set_space_left(Some(0));
            let mut opened = support::open(&after, &world.clock, &world.options).unwrap();
            assert!(opened.log.frontiers().durable_end >= world.acknowledged_end, "seed {seed}, cut {nth}");
            while opened.writer.step() == Step::Worked {}
            assert!(opened.log.stopped().is_none());
        }
    }
}

#[test]
fn a_full_disk_is_trimmed_and_the_log_goes_on() {
    for visibility in VISIBILITIES {
        let mut world = world(1, visibility);
        for _ in 0..60 {
            world.append(&[3000]).unwrap();
            round(&mut world);
        }
        held_back(&mut world, 0);
        assert_eq!(world.disk.space().unwrap().available_bytes, 0);
        // A reader has the files open that are to go.
        world.check_records().unwrap();
        let to = world.frontiers().durable_end.get() - SEGMENT_BYTES;
        let trimmed = world.trim(PhysicalOffset::new(to)).unwrap();
        assert!(
            world.disk.space().unwrap().available_bytes > trimmed.get() / 2,
            "nobody holds on to the files"
        );
        round(&mut world);
        round(&mut world);
        assert_eq!(world.frontiers().durable_end, world.frontiers().appended_end);
        world.append(&[3000]).unwrap();
        round(&mut world);
        world.crash().unwrap();
        assert_eq!(world.frontiers().trimmed, trimmed);
    }
}

/// In a segment that was begun without a spare, so that all but its first step is missing.
fn on_new_ground() -> World {
    let mut world = world(1, Visibility::Durable);
    while world.frontiers().durable_end.get() < SEGMENT_BYTES {
        world.append(&[5000]).expect("the log takes appends");
        world.settle().expect("no promise is broken");
    }
    assert_eq!(world.step_housekeeper(), Step::Worked, "the segment before is cut");
    world
}

#[test]
fn the_spare_gives_way_to_the_segment_in_use() {
    let mut world = on_new_ground();
    while world.frontiers().durable_end.get() < SEGMENT_BYTES * 5 / 4 + 3000 {
        world.append(&[3000]).unwrap();
        round(&mut world);
    }
    let next = segment::segment_name(PhysicalOffset::new(2 * SEGMENT_BYTES));
    let next_bytes = |world: &World| world.disk.open(&next).unwrap().len().unwrap();
    assert_eq!(next_bytes(&world), SEGMENT_BYTES, "all of the next segment is there, of this one a part");
    world.disk.set_space_left(Some(0));
    while next_bytes(&world) == SEGMENT_BYTES {
        world.append(&[3000]).unwrap();
        round(&mut world);
    }
    let drawn_bytes = SEGMENT_BYTES - next_bytes(&world);
    assert!(
        drawn_bytes <= SEGMENT_BYTES / 8,
        "{drawn_bytes} at once: what is not needed yet others could take"
    );
    held_back(&mut world, 0);
    let end = world.frontiers().durable_end.get();
    assert!(end > 2 * SEGMENT_BYTES - 8192, "the segment was used to its end: {end}");
    assert!(next_bytes(&world) < SEGMENT_BYTES, "it keeps its name, which a checkpoint holds, and no room");
    world.crash().unwrap();
    world.append(&[3000]).unwrap();
    round(&mut world);
    world.close().unwrap();
}

#[test]
fn filling_ahead_may_fail_and_is_tried_again() {
    let mut world = on_new_ground();
    world.disk.fail_write(1);
    assert_eq!(world.step_housekeeper(), Step::Idle);
    assert_eq!(world.step_housekeeper(), Step::Idle, "not at once");
    world.clock.advance(A_WHILE);
    while world.step_housekeeper() == Step::Worked {}
    let before = world.disk.operations();
    world.append(&[3000]).unwrap();
    world.settle().unwrap();
    assert_eq!(world.disk.operations(), before + 2, "a write and a flush: the ground was ready");
    world.crash().unwrap();
}

#[test]
fn a_failed_flush_of_the_segment_in_use_poisons_whoever_asked_for_it() {
    let mut world = on_new_ground();
    world.disk.fail_flush(1);
    assert_eq!(world.step_housekeeper(), Step::Stopped);
    assert!(matches!(world.opened.log.stopped(), Some(Stopped::Poisoned { cause: Cause::Segment(_), .. })));
    world.crash().unwrap();
}

#[test]
fn a_spare_whose_flush_failed_is_made_anew() {
    let mut world = world(1, Visibility::Durable);
    while world.frontiers().durable_end.get() < SEGMENT_BYTES / 2 {
        world.append(&[5000]).unwrap();
        world.settle().unwrap();
    }
    world.disk.fail_flush(2);
    while world.step_housekeeper() == Step::Worked {}
    world.clock.advance(A_WHILE);
    while world.step_housekeeper() == Step::Worked {}
    for _ in 0..40 {
        world.append(&[5000]).unwrap();
        round(&mut world);
    }
    world.close().unwrap();
}

/// With threads that sleep between their attempts, on the machine's clock.
#[test]
fn the_threads_of_a_log_wait_for_space_and_for_the_end() {
    let disk = Disk::new(1);
    let options = Options { undurable_bytes_max: 20_000, ..options() };
    let clock = Arc::new(SystemClock::new());
    let Opened { log, writer, housekeeper, groups, .. } =
        CommitLog::open(Arc::new(disk.clone()), clock, options, ()).unwrap();
    drop(groups);
    let machines = [thread::spawn(|| writer.run()), thread::spawn(|| housekeeper.run())];
    let append = || log.append(&[NewRecord { kind: KIND, head: &[], rest: &[&[7; 3000]] }], |(), _, _| ());
    let appended_until_held = || {
        disk.set_space_left(Some(0));
        let (mut last, mut moved_at) = (append().unwrap(), Instant::now());
        let mut durable_end = log.durable().get();
        while moved_at.elapsed() < Duration::from_millis(200) {
            match append() {
                Ok(appended) => last = appended,
                Err(AppendError::Backpressure { .. } | AppendError::NoSpace { .. }) => thread::yield_now(),
                Err(refused) => panic!("{refused}"),
            }
            if log.durable().get() > durable_end {
                (durable_end, moved_at) = (log.durable().get(), Instant::now());
            }
        }
        assert!(durable_end < last.end);
        last
    };
    let last = appended_until_held();
    disk.set_space_left(None);
    log.durable().wait_blocking(last.end).unwrap();
    appended_until_held();
    log.close();
    assert!(matches!(log.wait_stopped(), Stopped::Poisoned { cause: Cause::Segment(_), .. }));
    machines.into_iter().for_each(|machine| machine.join().unwrap());
}
