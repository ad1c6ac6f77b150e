//! Every rule that is broken on purpose is noticed: the lives of `seeds.rs`, on disks and openings that break one.
//!
//! | broken                                        | how                                  | here                |
//! |-----------------------------------------------|--------------------------------------|---------------------|
//! | flushes do nothing                            | files and device                     | table               |
//! | the result of a flush is ignored              | files and device                     | table               |
//! | recovery flushes without writing again        | files drop writes that change nothing | table              |
//! | what others write is left to the device       | files                                | table, [`what_others_have_written_is_not_the_devices_to_flush`] |
//! | directories are not synced                    | files                                | table               |
//! | a cut is not made durable                     | files                                | [`a_cut_that_is_not_durable_is_noticed`] |
//! | the epoch is not raised at an opening         | checkpoints are stored without       | table               |
//! | stale bytes testify                           | checkpoints are read without epochs  | [`bytes_of_an_earlier_life_have_no_say`] |
//! | stale bytes are served                        | what was cut comes back              | [`what_was_cut_and_comes_back_is_noticed`] |
//! | retention gives up what it should keep        | files say that they are full         | table               |
//! | half a unit is kept                           | torn groups are shortened            | table               |
//! | what is only appended is acknowledged         | the test's own reading               | table               |
//! | state ahead of the log is accepted            | a fold that does not ask             | [`state_ahead_of_the_log_is_told_by_the_chain`] |
//!
//! What a program makes of a snapshot that is ahead of its log is for its own tests to show.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use skylark_storage::device::simulated::Disk;
use skylark_storage::recovery::{Corruption, Evidence};
use skylark_storage::segment::segment_name;
use skylark_storage::{File, Files, OpenError, Options, PhysicalOffset, Step, Visibility};

use support::broken::{Rule, on};
use support::life::{Conduct, live};
use support::{Acknowledge, SEGMENT_BYTES, Violation, World, Wrap, options, sound};

/// A row of the table: what is broken, and what a violation of it reads like.
struct Row {
    what: &'static str,
    conduct: Conduct,
    /// Which the violations are among.
    says: &'static [&'static str],
    /// So many seeds are enough.
    seeds: u64,
}

fn row(what: &'static str, wrap: Wrap, says: &'static [&'static str], seeds: u64) -> Row {
    Row { what, conduct: Conduct { wrap, ..Conduct::SOUND }, says, seeds }
}

fn rows() -> Vec<Row> {
    const LOST: &[&str] = &["acknowledged up to", "cannot open", "closed at"];
    vec![
        row("flushes do nothing", |disk| on(disk, Rule::FlushesDoNothing), LOST, 60),
        row("failed flushes are believed", |disk| on(disk, Rule::FailedFlushesAreBelieved), LOST, 600),
        row("nothing is written again", |disk| on(disk, Rule::NothingIsWrittenAgain), LOST, 3000),
        row("segments are left to the device", |disk| on(disk, Rule::SegmentsAreLeftToTheDevice), LOST, 600),
        row("names are not flushed", |disk| on(disk, Rule::NamesAreNotFlushed), LOST, 60),
        row(
            "epochs are not raised",
            |disk| on(disk, Rule::EpochsAreNotRaised),
            &["was not raised", "cannot open"],
            60,
        ),
        row("pins are not respected", |disk| on(disk, Rule::SpaceIsMisread), &["asks for"], 60),
        row("half a group is kept", |disk| on(disk, Rule::HalfAGroupIsKept), &["only a part is there"], 3000),
        Row {
            what: "what is appended is acknowledged",
            conduct: Conduct { acknowledge: Acknowledge::Appended, ..Conduct::SOUND },
            says: &["acknowledged up to"],
            seeds: 60,
        },
    ]
}

fn violation(seed: u64, conduct: &Conduct) -> Option<Violation> {
    // A log may also stumble over what is broken.
    let lived = catch_unwind(AssertUnwindSafe(|| live(seed, conduct)));
    lived.unwrap_or_else(|_| Err("a panic".to_owned())).err()
}

#[test]
fn whatever_is_broken_is_noticed() {
    for Row { what, conduct, says, seeds } in rows() {
        let caught = (0..seeds).find_map(|seed| {
            let violation = violation(seed, &conduct)?;
            says.iter().any(|said| violation.contains(said)).then_some((seed, violation))
        });
        let (seed, violation) =
            caught.unwrap_or_else(|| panic!("{what}: nothing is noticed in {seeds} seeds"));
        println!("{what}: seed {seed}: {violation}");
        assert_eq!(self::violation(seed, &Conduct::SOUND), None, "{what}: seed {seed} is sound otherwise");
    }
}

/// Cuts what a power cut tore, and shows what the next power cut leaves of it.
fn what_was_cut(seed: u64, wrap: Wrap) -> Option<bool> {
    let disk = Disk::new(seed);
    let mut world =
        World::try_on(disk, Options { visibility: Visibility::Written, ..options() }, wrap).ok()?;
    for _ in 0..5 {
        world.append(&[3000, 3000]).ok()?;
        world.step_writer().ok()?;
    }
    let torn = world.disk.crash();
    let opened = world.open(&torn).ok()?;
    if opened.recovery.cut_bytes == 0 {
        return None;
    }
    let end = opened.log.frontiers().durable_end.get();
    let file = torn.crash().open(&segment_name(PhysicalOffset::ZERO)).ok()?;
    let mut behind = vec![0; usize::try_from(SEGMENT_BYTES - end).ok()?];
    file.read_at(end, &mut behind).ok()?;
    Some(behind.iter().all(|&byte| byte == 0))
}

#[test]
fn a_cut_that_is_not_durable_is_noticed() {
    let cuts = |wrap: Wrap| -> Vec<bool> { (0..300).filter_map(|seed| what_was_cut(seed, wrap)).collect() };
    let (kept_to, broken) = (cuts(sound), cuts(|disk| on(disk, Rule::CutsAreNotFlushed)));
    assert!(kept_to.len() > 30 && kept_to.iter().all(|&gone| gone), "what is cut stays cut");
    assert!(broken.contains(&false), "what was cut is back, and nobody has noticed");
}

/// Opens a log of which some could only be read, appends, and cuts the power: whether what was found is still there.
fn is_found_again(seed: u64, wrap: Wrap, narrow: bool) -> bool {
    let disk = Disk::new(seed);
    disk.set_flushes_narrow(narrow);
    let mut world = World::new(disk, Options { visibility: Visibility::Written, ..options() });
    world.append(&[9000, 9000]).expect("the log takes appends");
    world.settle().expect("no promise is broken");
    world.wrap = wrap;
    world.kill().expect("what was written is there");
    world.clock.advance(Duration::from_secs(1));
    world.append(&[100]).expect("the log takes appends");
    world.settle().expect("no promise is broken");
    world.crash().is_ok()
}

#[test]
fn what_others_have_written_is_not_the_devices_to_flush() {
    let leave: Wrap = |disk| on(disk, Rule::SegmentsAreLeftToTheDevice);
    let found = |wrap, narrow| (0..100).filter(|&seed| is_found_again(seed, wrap, narrow)).count();
    assert_eq!([found(sound, false), found(sound, true)], [100, 100]);
    assert_eq!(found(leave, false), 100, "a device that flushes the whole file hides it");
    assert!(found(leave, true) < 90, "it is not noticed");
}

fn first_segment(disk: &Disk) -> (Arc<dyn File>, Vec<u8>) {
    let file = disk.open(&segment_name(PhysicalOffset::ZERO)).expect("a log has a segment");
    let mut bytes = vec![0; usize::try_from(SEGMENT_BYTES).expect("segments of tests are small")];
    let read = file.read_at(0, &mut bytes).expect("the disk works");
    bytes.truncate(read);
    (file, bytes)
}

/// Puts bytes of the first segment, from `from` on, back to where they were.
fn bring_back(disk: &Disk, bytes: &[u8], from: PhysicalOffset) {
    let position = usize::try_from(from.get()).expect("in the first segment");
    let (file, _) = first_segment(disk);
    file.write_at(from.get(), &bytes[position..]).expect("the disk works");
    file.sync().expect("the disk works");
}

#[test]
fn bytes_of_an_earlier_life_have_no_say() {
    let reopened = |wrap: Wrap| {
        let mut world = World::new(Disk::new(3), Options { repair: true, ..options() });
        for _ in 0..12 {
            world.append(&[3000]).expect("the log takes appends");
            world.settle().expect("no promise is broken");
        }
        let (_, earlier) = first_segment(&world.disk);
        // What was durable is damaged, and the log repaired: it goes on from there.
        let damaged = world.disk.crash();
        damaged
            .flip_bit(&segment_name(PhysicalOffset::ZERO), world.units[4].records[0].at.get() + 40, 0)
            .expect("a byte of the log");
        let mut opened = world.open(&damaged).expect("what is damaged is given up");
        assert!(opened.recovery.repaired.is_some());
        while opened.writer.step() == Step::Worked {}
        let end = opened.log.frontiers().durable_end;
        // Groups that vouch for what was given up are there again.
        let after = damaged.crash();
        bring_back(&after, &earlier, end.align_up(4096));
        world.options.repair = false;
        world.wrap = wrap;
        world.open(&after).map(|opened| opened.recovery.end == end)
    };
    assert!(reopened(sound).expect("they are of an earlier life"));
    let broken = reopened(|disk| on(disk, Rule::EarlierLivesTestify)).err();
    assert!(matches!(
        broken,
        Some(OpenError::Corrupt(Corruption { evidence: Evidence::Witness { .. }, .. }))
    ));
}

/// A disk that brings back what was cut, and durably so: nothing in the log can tell it from what was never cut.
#[test]
fn what_was_cut_and_comes_back_is_noticed() {
    let mut noticed = 0;
    for seed in 0..100 {
        let mut world = World::new(Disk::new(seed), Options { visibility: Visibility::Written, ..options() });
        world.append(&[3000]).expect("the log takes appends");
        world.settle().expect("no promise is broken");
        world.clock.advance(Duration::from_secs(1));
        world.settle().expect("no promise is broken");
        let end = world.frontiers().durable_end;
        for _ in 0..3 {
            world.append(&[5000]).expect("the log takes appends");
            world.settle().expect("no promise is broken");
        }
        let (_, written) = first_segment(&world.disk);
        world.crash().expect("no promise is broken");
        // Nothing was left of it, and nothing has been written since.
        if world.units.len() == 1 {
            let after = world.disk.crash();
            bring_back(&after, &written, end.align_down(512));
            let violation = world.reopen(after).expect_err("units that were gone are back");
            assert!(violation.contains("never appended"), "{violation}");
            noticed += 1;
        }
    }
    assert!(noticed > 5, "{noticed}");
}

/// State that is folded from the log, as of some place in it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fold(Vec<(u64, Vec<u8>)>);

impl Fold {
    fn below(world: &World, end: PhysicalOffset) -> Self {
        let groups = world.opened.log.scan(PhysicalOffset::ZERO).map(|group| group.expect("a sound log"));
        let records = groups.flat_map(|group| support::user_records(&group).expect("sound records"));
        Self(records.filter(|record| record.at < end).map(|record| (record.at.get(), record.rest)).collect())
    }
}

fn append_until(world: &mut World, end: u64) {
    while world.frontiers().durable_end.get() < end {
        world.append(&[2000, 500]).expect("the log takes appends");
        world.settle().expect("no promise is broken");
    }
}

#[test]
fn state_ahead_of_the_log_is_told_by_the_chain() {
    for seed in 0..20 {
        let mut world = World::new(Disk::new(seed), options());
        append_until(&mut world, SEGMENT_BYTES + 9000 + seed * 1000);
        let then = world.disk.kill();
        append_until(&mut world, 2 * SEGMENT_BYTES + 9000);
        let base = PhysicalOffset::new(2 * SEGMENT_BYTES);
        let point = world.opened.log.chain_at(base).expect("a sound log").expect("the log has got there");
        let kept = Fold::below(&world, base);

        // The log has lost what the state has seen.
        let mut other = World::try_on(then, options(), sound).expect("a sound log");
        assert_eq!(other.opened.log.chain_at(base).expect("a sound log"), None);
        assert_ne!(Fold::below(&other, base), kept, "who took the state for the log's would be wrong");
        // Its end has got there, in another way: the offset alone does not tell.
        append_until(&mut other, 2 * SEGMENT_BYTES + 9000);
        assert_ne!(other.opened.log.chain_at(base).expect("a sound log"), Some(point));
        assert_ne!(Fold::below(&other, base), kept, "who compares offsets is wrong");

        world.crash().expect("no promise is broken");
        assert_eq!(world.opened.log.chain_at(base).expect("a sound log"), Some(point));
        assert_eq!(Fold::below(&world, base), kept);
    }
}
