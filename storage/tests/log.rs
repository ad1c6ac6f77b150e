//! What the log promises while nothing breaks, and what it says when something does.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use skylark_storage::device::simulated::Disk;
use skylark_storage::segment::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, segment_name};
use skylark_storage::{
    AppendError, Cause, Files, Kind, NewRecord, OpenError, Options, PhysicalOffset, ReadError, Registration,
    Step, Stopped, TailPolicy,
};

use support::{HEAD_BYTES, KIND, SEGMENT_BYTES, World, options};

/// Counts how often it is woken.
#[derive(Default)]
struct Count(std::sync::atomic::AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn world() -> World {
    World::new(Disk::new(1), options())
}

#[test]
fn an_append_is_acknowledged_once_its_group_is_flushed() {
    let mut world = world();
    world.append(&[100]).unwrap();
    let end = world.units[0].end;
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut registration = Registration::default();
    assert!(world.opened.log.durable().wait(&mut registration, end, &waker).is_pending());
    assert_eq!(world.step_writer(), Ok(Step::Worked));
    assert_eq!(count.get(), 1);
    assert!(matches!(world.opened.log.durable().wait(&mut registration, end, &waker), Poll::Ready(Ok(()))));
    assert_eq!(world.step_writer(), Ok(Step::Idle));
}

#[test]
fn a_registration_is_woken_once_and_only_for_its_last_wait() {
    let mut world = world();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut registration = Registration::default();
    for _ in 0..3 {
        world.append(&[10]).unwrap();
        let end = world.units.last().unwrap().end;
        let waiting = world.opened.log.durable().wait(&mut registration, end, &waker);
        assert!(waiting.is_pending());
    }
    world.settle().unwrap();
    assert_eq!(count.get(), 1);
    let beyond = world.frontiers().appended_end.advance(1);
    assert!(world.opened.log.durable().wait(&mut registration, beyond, &waker).is_pending());
    drop(registration);
    world.append(&[10]).unwrap();
    world.settle().unwrap();
    assert_eq!(count.get(), 1, "a registration that is gone is not woken");
}

#[test]
fn units_of_one_write_share_a_group() {
    let mut world = world();
    for _ in 0..5 {
        world.append(&[10, 20]).unwrap();
    }
    world.settle().unwrap();
    let log = &world.opened.log;
    let groups: Vec<_> = log.scan(PhysicalOffset::ZERO).map(Result::unwrap).collect();
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].records().count(), 11, "ten records and the epoch's");
}

#[test]
fn small_groups_share_blocks_and_large_ones_do_not() {
    let starts = |tail: TailPolicy, rest_bytes: usize| -> Vec<u64> {
        let segment_bytes = 4 << 20;
        let mut world = World::new(Disk::new(1), Options { tail, segment_bytes, ..options() });
        for _ in 0..3 {
            world.append(&[rest_bytes]).unwrap();
            world.settle().unwrap();
        }
        world.opened.log.scan(PhysicalOffset::ZERO).map(|group| group.unwrap().start.get()).collect()
    };
    let packed = starts(TailPolicy::PackOrPad, 100);
    assert!(packed[1..].iter().all(|start| !start.is_multiple_of(4096)));
    let large = starts(TailPolicy::PackOrPad, 70_000);
    assert!(large.iter().all(|start| start.is_multiple_of(4096)));
    let padded = starts(TailPolicy::Pad, 100);
    assert!(padded.iter().all(|start| start.is_multiple_of(4096)));
}

#[test]
fn full_staging_is_told_with_its_numbers_and_passes() {
    let mut world = World::new(Disk::new(1), Options { undurable_bytes_max: 10_000, ..options() });
    let refused = loop {
        if let Err(error) = world.append(&[1000]) {
            break error;
        }
    };
    let AppendError::Backpressure { staged_bytes, limit_bytes } = refused else { panic!("{refused}") };
    assert_eq!(limit_bytes, 10_000);
    assert!(staged_bytes <= limit_bytes && staged_bytes + 1100 > limit_bytes);
    // Durable is not enough: what nobody has folded yet is still in memory.
    let group = loop {
        world.opened.writer.step();
        if let Some(group) = world.opened.groups.try_next() {
            break group;
        }
    };
    assert!(matches!(world.append(&[1000]), Err(AppendError::Backpressure { .. })));
    world.opened.groups.done(&group);
    world.append(&[1000]).expect("there is room again");
    world.append(&[8000]).expect("there is room for it too");
}

#[test]
fn a_unit_larger_than_the_limit_is_taken_when_nothing_is_staged() {
    let mut world = World::new(Disk::new(1), Options { undurable_bytes_max: 1000, ..options() });
    world.settle().unwrap();
    world.append(&[5000]).expect("waiting would not help");
    world.settle().unwrap();
    world.append(&[5000]).expect("the one before is done");
}

#[test]
fn a_unit_that_no_segment_holds_is_refused_with_both_numbers() {
    let mut world = world();
    let max_bytes = world.opened.log.unit_bytes_max();
    let before = world.frontiers();
    let refused = world.append(&[usize::try_from(SEGMENT_BYTES).unwrap()]).unwrap_err();
    assert!(
        matches!(refused, AppendError::TooLarge { unit_bytes, max_bytes: max } if unit_bytes > max && max == max_bytes)
    );
    assert_eq!(world.frontiers(), before);
    let largest = usize::try_from(max_bytes).unwrap() - 32 - HEAD_BYTES;
    for _ in 0..3 {
        world.append(&[largest]).expect("the limit itself fits, in a segment of its own");
        world.settle().unwrap();
    }
    world.check_records().unwrap();
    world.close().unwrap();
}

#[test]
fn a_panic_in_the_callback_poisons_and_leaves_no_half_record() {
    let mut world = world();
    world.append(&[100]).unwrap();
    let unit = [NewRecord { kind: KIND, head: &[0; HEAD_BYTES], rest: &[] }; 2];
    let log = world.opened.log.clone();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let outcome = log.append(&unit, |_, place, _| assert_eq!(place.index, 0, "the second record panics"));
        drop(outcome);
    }));
    assert!(panicked.is_err());
    assert!(matches!(
        log.append(&unit, |_, _, _| ()),
        Err(AppendError::Poisoned { cause: Cause::Callback, .. })
    ));
    assert_eq!(world.step_writer(), Ok(Step::Stopped));
    drop(log);
    world.crash().unwrap();
}

#[test]
fn nobody_reads_beyond_what_is_visible() {
    let mut world = world();
    world.append(&[100]).unwrap();
    let at = world.units[0].records[0].at;
    let log = world.opened.log.clone();
    assert!(matches!(log.record_at(at), Err(ReadError::NotVisible { .. })));
    assert!(log.read_hot(at, 32).is_none());
    assert!(matches!(log.read_cold(at, 32), Err(ReadError::NotVisible { .. })));
    assert_eq!(log.scan(PhysicalOffset::ZERO).count(), 0);
    world.settle().unwrap();
    assert!(log.read_hot(at, 32).is_some());
    let visible_bytes = u32::try_from(log.visible().get().since(at)).unwrap();
    assert!(log.read_hot(at, visible_bytes).is_some());
    assert!(log.read_hot(at, visible_bytes + 1).is_none());
    assert!(log.read_cold(at, visible_bytes + 1).is_err());
    assert!(matches!(log.record_at(PhysicalOffset::new(u64::MAX)), Err(ReadError::NotVisible { .. })));
}

#[test]
fn only_a_record_of_the_user_is_given_by_offset() {
    let mut world = world();
    world.append(&[500]).unwrap();
    world.settle().unwrap();
    let log = &world.opened.log;
    let at = world.units[0].records[0].at;
    assert_eq!(log.record_at(at).unwrap().fields.kind, KIND);
    assert!(matches!(log.record_at(at.advance(8)), Err(ReadError::NotARecord { .. })));
    assert!(matches!(log.record_at(at.advance(1)), Err(ReadError::NotARecord { .. })));
    let epoch = log.epochs()[0].start;
    assert!(matches!(log.record_at(epoch), Err(ReadError::Internal { kind: Kind::EPOCH, .. })));
}

#[test]
fn old_bytes_leave_memory_and_stay_in_the_files() {
    let mut world = World::new(Disk::new(1), Options { tail_bytes: 0, ..options() });
    for _ in 0..30 {
        world.append(&[9000]).unwrap();
        world.settle().unwrap();
    }
    let first = world.units[0].records[0].at;
    let last = world.units[29].records[0].at;
    assert!(world.opened.log.read_hot(first, 32).is_none());
    assert!(world.opened.log.read_hot(last, 32).is_some());
    world.check_records().unwrap();
}

#[test]
fn memory_in_readers_hands_is_not_used_again() {
    let mut world = World::new(Disk::new(1), Options { tail_bytes: 0, ..options() });
    world.append(&[5000]).unwrap();
    world.settle().unwrap();
    let pinned = world.opened.log.read_hot(world.units[0].records[0].at, 5000).unwrap();
    let before = pinned.to_vec();
    for _ in 0..60 {
        world.append(&[20_000]).unwrap();
        world.settle().unwrap();
    }
    assert_eq!(pinned, before);
}

#[test]
fn store_time_never_decreases_and_a_segment_lives_a_day() {
    let mut world = world();
    world.append(&[10]).unwrap();
    world.settle().unwrap();
    world.clock.advance(Duration::from_secs(25 * 60 * 60));
    world.append(&[10]).unwrap();
    world.settle().unwrap();
    assert_eq!(world.units[1].records[0].at.get() / SEGMENT_BYTES, 1, "a new segment after a day");
    world.close().unwrap();
}

#[test]
fn every_opening_is_an_epoch() {
    let mut world = world();
    for expected in 1..5_u32 {
        let epochs = world.opened.log.epochs();
        assert_eq!(epochs.len(), usize::try_from(expected).unwrap());
        assert!(epochs.is_sorted_by(|a, b| a.epoch < b.epoch && a.start < b.start));
        world.append(&[10]).unwrap();
        world.close().unwrap();
    }
}

#[test]
fn a_closed_log_takes_nothing_and_is_found_clean() {
    let mut world = world();
    world.append(&[10]).unwrap();
    world.opened.log.close();
    assert!(matches!(world.append(&[10]), Err(AppendError::Closed)));
    world.settle().unwrap();
    assert!(matches!(world.opened.log.wait_stopped(), Stopped::Closed));
    assert!(world.opened.groups.next_blocking().is_none());
    world.crash().unwrap();
    assert!(world.opened.recovery.clean);
    assert_eq!(world.units.len(), 1);
}

#[test]
fn segments_of_an_impossible_length_are_refused_with_both_bounds() {
    for segment_bytes in [SEGMENT_BYTES_MIN - 4096, SEGMENT_BYTES_MIN + 8, SEGMENT_BYTES_MAX + 4096] {
        let options = Options { segment_bytes, ..options() };
        let refused = World::try_new(Disk::new(1), options).err().unwrap().to_string();
        for number in [segment_bytes, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX] {
            assert!(refused.contains(&number.to_string()), "{refused}");
        }
    }
    let options = Options { segment_bytes: SEGMENT_BYTES_MAX, ..options() };
    let mut world = World::new(Disk::new(1), options);
    world.append(&[100]).unwrap();
    world.settle().unwrap();
    world.crash().unwrap();
    // The log keeps its own, whatever is asked for.
    world.options.segment_bytes = SEGMENT_BYTES_MAX + 1;
    world.close().unwrap();
}

#[test]
fn a_directory_in_use_is_refused() {
    let world = world();
    let second = support::open(&world.disk, &world.clock, &options());
    assert!(matches!(second.err(), Some(OpenError::Locked { .. })));
}

#[test]
fn an_idle_log_writes_a_checkpoint() {
    let mut world = world();
    world.append(&[5000]).unwrap();
    world.settle().unwrap();
    while world.step_housekeeper() == Step::Worked {}
    world.clock.advance(Duration::from_millis(250));
    assert_eq!(world.step_housekeeper(), Step::Worked);
    world.crash().unwrap();
    assert_eq!(world.opened.recovery.scanned_bytes, 0, "the checkpoint is at the log's end");
}

#[test]
fn a_sealed_segment_is_cut_and_the_next_is_prepared_under_its_name() {
    let next = "log/00000000000000065536.seg";
    let mut world = world();
    world.append(&[30_000]).unwrap();
    world.settle().unwrap();
    assert!(world.disk.open(next).is_err());
    assert_eq!(world.step_housekeeper(), Step::Worked);
    assert!(world.disk.list("log").unwrap().contains(&"spare".to_owned()), "not named before it is filled");
    while world.step_housekeeper() == Step::Worked {}
    assert!(!world.disk.list("log").unwrap().contains(&"spare".to_owned()));
    let length = |world: &support::World, name: &str| world.disk.open(name).unwrap().len().unwrap();
    assert_eq!(length(&world, next), SEGMENT_BYTES);
    world.append(&[40_000]).unwrap();
    world.settle().unwrap();
    while world.step_housekeeper() == Step::Worked {}
    let sealed_bytes = length(&world, "log/00000000000000000000.seg");
    assert!(sealed_bytes < 40_000);
    assert!(sealed_bytes.is_multiple_of(4096), "a cut writes no block again");
    assert_eq!(length(&world, next), SEGMENT_BYTES);
    world.close().unwrap();
}

/// Whoever sealed it knew where it ends, and is gone.
#[test]
fn a_sealed_segment_that_no_opening_has_cut_is_cut_by_the_next() {
    let length = |world: &World, index: u64| {
        let name = segment_name(PhysicalOffset::new(index * SEGMENT_BYTES));
        world.disk.open(&name).unwrap().len().unwrap()
    };
    let ends: [fn(&mut World); 3] =
        [|world| world.crash().unwrap(), |world| world.kill().unwrap(), |world| world.close().unwrap()];
    for end in ends {
        let mut world = world();
        // The first segment is full to its last block, the second nearly empty.
        world.append(&[60_000, 100]).unwrap();
        world.append(&[1000, 100]).unwrap();
        world.settle().unwrap();
        while world.step_housekeeper() == Step::Worked {}
        world.clock.advance(Duration::from_secs(25 * 60 * 60));
        world.append(&[100]).unwrap();
        world.settle().unwrap();
        assert_eq!(world.frontiers().durable_end.align_down(SEGMENT_BYTES).get(), 2 * SEGMENT_BYTES);
        assert!(length(&world, 1) > 8192, "it is sealed, and nobody has cut it");
        end(&mut world);
        while world.step_housekeeper() == Step::Worked {}
        assert_eq!([0, 1].map(|index| length(&world, index)), [SEGMENT_BYTES, 8192]);
        let segments = world.opened.log.segments();
        assert_eq!(
            segments[..2].iter().map(|segment| segment.stored_bytes).sum::<u64>(),
            SEGMENT_BYTES + 8192
        );
        world.check_records().unwrap();
        world.crash().unwrap();
    }
}

#[test]
fn a_roll_to_a_prepared_segment_asks_nothing_of_the_disk_but_its_groups() {
    let mut world = world();
    let mut rolls = 0;
    for _ in 0..60 {
        world.append(&[4000]).unwrap();
        let (base, before) =
            (world.frontiers().durable_end.align_down(SEGMENT_BYTES), world.disk.operations());
        let mut groups = 0;
        while world.step_writer().unwrap() == Step::Worked {
            groups += 1;
        }
        assert_eq!(world.disk.operations() - before, 2 * groups, "a write and a flush for each group");
        rolls += u64::from(world.frontiers().durable_end.align_down(SEGMENT_BYTES) > base);
        while world.step_housekeeper() == Step::Worked {}
    }
    assert!(rolls > 2);
    world.close().unwrap();
}

#[test]
fn a_segment_that_was_prepared_is_taken_over_by_the_next_opening() {
    let mut world = world();
    for round in 0..12 {
        while world.frontiers().appended_end.get() % SEGMENT_BYTES < 40_000 {
            world.append(&[4000]).unwrap();
            world.settle().unwrap();
        }
        while world.step_housekeeper() == Step::Worked {}
        match round % 3 {
            0 => world.crash().unwrap(),
            1 => world.kill().unwrap(),
            _ => world.close().unwrap(),
        }
        let next = world.frontiers().durable_end.align_up(SEGMENT_BYTES);
        assert_eq!(world.opened.recovery.removed, Vec::<String>::new());
        world.append(&[30_000]).unwrap();
        let before = world.disk.operations();
        world.settle().unwrap();
        // The opening's own group, and the record's in two segments.
        assert!(world.disk.operations() - before <= 6, "nothing had to be prepared");
        assert!(world.frontiers().durable_end > next);
    }
}

#[test]
fn groups_and_chunks_end_at_eight_mebibytes_and_nothing_is_lost_between() {
    for tail in [TailPolicy::PackOrPad, TailPolicy::Pad] {
        let segment_bytes = 40 << 20;
        let undurable_bytes_max = 128 << 20;
        let mut world =
            World::new(Disk::new(1), Options { tail, segment_bytes, undurable_bytes_max, ..options() });
        // Of all sizes up to the limit, several to a group, and more than a segment in all.
        for round in 0..24_usize {
            world.append(&[round * 170_000, 100, round * 777]).unwrap();
            if round % 4 == 3 {
                world.settle().unwrap();
            }
        }
        world.settle().unwrap();
        let lengths: Vec<_> =
            world.opened.log.scan(PhysicalOffset::ZERO).map(|group| group.unwrap().bytes.len()).collect();
        assert!(lengths.iter().all(|&length| length <= 8 << 20), "{lengths:?}");
        assert!(lengths.iter().any(|&length| length > 5 << 20), "{lengths:?}");
        assert!(world.frontiers().durable_end.get() > segment_bytes);
        world.check_records().unwrap();
        world.crash().unwrap();
        assert_eq!(world.units.len(), 24);
        world.close().unwrap();
    }
}

#[test]
fn small_groups_cross_from_chunk_to_chunk() {
    let mut world =
        World::new(Disk::new(1), Options { segment_bytes: 64 << 20, tail_bytes: 1 << 20, ..options() });
    for round in 0..3000_usize {
        world.append(&[5000 + round % 4000]).unwrap();
        world.settle().unwrap();
    }
    assert!(world.frontiers().durable_end.get() > 2 * (8 << 20));
    world.check_records().unwrap();
    world.crash().unwrap();
    assert_eq!(world.units.len(), 3000);
}

#[test]
fn a_group_that_ends_with_its_segment_and_was_only_readable_is_made_durable() {
    for seed in 0..40 {
        let mut world = World::new(Disk::new(seed), options());
        let largest = usize::try_from(world.opened.log.unit_bytes_max()).unwrap() - 32 - HEAD_BYTES;
        world.append(&[100]).unwrap();
        world.append(&[largest]).unwrap();
        world.close().unwrap();
        // There is room for a padding record and nothing else; its flush fails, and the process ends.
        world.disk.fail_flush(1);
        world.settle().unwrap();
        assert_eq!(world.frontiers().durable_end.get() % SEGMENT_BYTES, SEGMENT_BYTES - 48);
        world.kill().unwrap();
        assert_eq!(world.frontiers().durable_end.get() % SEGMENT_BYTES, 0, "what can be read is kept");
        world.append(&[100]).unwrap();
        world.settle().unwrap();
        world.crash().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

#[test]
fn an_opening_that_finds_no_room_for_its_epoch_seals_the_segment_first() {
    // How many operations the reopened log performs until its first append is durable; each may be the last.
    for cut in 1..20 {
        let mut world = world();
        let largest = usize::try_from(world.opened.log.unit_bytes_max()).unwrap() - 32 - HEAD_BYTES;
        world.append(&[100]).unwrap();
        world.append(&[largest]).unwrap();
        world.close().unwrap();
        world.disk.power_off_at(cut);
        world.append(&[100]).unwrap();
        world.settle().unwrap();
        assert_eq!(
            world.frontiers().appended_end.get() / SEGMENT_BYTES,
            2,
            "the largest unit filled a segment"
        );
        world.crash().unwrap();
        world.append(&[100]).unwrap();
        world.settle().unwrap();
        world.close().unwrap();
        let epochs: Vec<_> =
            world.opened.log.scan(PhysicalOffset::ZERO).map(|group| group.unwrap().epoch).collect();
        assert!(epochs.is_sorted());
    }
}
