//! The log on real files against a count of records, under random appends, steps, ends and openings, each of them by
//! whichever device comes next.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use skylark_storage::device::DeviceKind;
use skylark_storage::{Opened, Options, PhysicalOffset, Step, Visibility};

use super::workload::{self, Counts};
use crate::{STARTS, temporary, usable};

const ACTS: u32 = 250;
const SEEDS: u64 = 4;

/// What is appended, and to what.
#[derive(Clone, Copy, Debug)]
enum Scale {
    /// Many records in the smallest segments there are.
    Small,
    /// Groups of hundreds of KiB, from memory that is used again and again.
    Large,
}

fn options(scale: Scale, visibility: Visibility) -> Options {
    let segment_bytes = match scale {
        Scale::Small => 64 << 10,
        Scale::Large => 1 << 20,
    };
    Options { segment_bytes, tail_bytes: 0, visibility, ..Options::default() }
}

fn record_bytes(scale: Scale, random: &mut SmallRng) -> usize {
    match (scale, random.random_range(0..10)) {
        (Scale::Small, 0) => random.random_range(9000..40_000),
        (Scale::Small, 1..4) => random.random_range(300..9000),
        (Scale::Large, 0..4) => random.random_range(60_000..400_000),
        _ => random.random_range(0..300),
    }
}

fn settle(opened: &mut Opened<Counts>) {
    while opened.writer.step() == Step::Worked {}
    while let Some(group) = opened.groups.try_next() {
        opened.groups.done(&group);
    }
}

/// Plays on one directory; the device of each opening is the next in turn.
fn play(kinds: &[DeviceKind], seed: u64, scale: Scale, visibility: Visibility) {
    let temporary = temporary();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut turn = usize::try_from(seed).unwrap();
    let mut next_device = || {
        turn += 1;
        kinds[turn % kinds.len()]
    };
    let mut opened = workload::open(temporary.path(), next_device(), 1, &options(scale, visibility));
    // Of each record, where it ends.
    let mut ends: Vec<PhysicalOffset> = Vec::new();
    for act in 0..ACTS {
        match random.random_range(0..40) {
            0..20 => {
                let bytes = record_bytes(scale, &mut random);
                let (number, appended) = workload::append(&opened.log, 0, bytes).unwrap();
                assert_eq!(number as usize, ends.len());
                ends.push(appended.end);
            }
            20..34 => settle(&mut opened),
            34..37 => while opened.housekeeper.step() == Step::Worked {},
            what => {
                let is_closed = what == 37;
                if is_closed {
                    opened.log.close();
                    settle(&mut opened);
                }
                // What was written stays readable when a process ends without closing.
                let kept = opened.log.frontiers().written_end;
                let nobody_starts = STARTS.read();
                drop(opened);
                opened = workload::open(temporary.path(), next_device(), 1, &options(scale, visibility));
                drop(nobody_starts);
                let found = workload::counts(&opened.log, 1)[0] as usize;
                let expected = ends.iter().take_while(|end| **end <= kept).count();
                let context = format!("{kinds:?}, seed {seed}, {scale:?}, {visibility:?}, act {act}");
                assert_eq!(found, if is_closed { ends.len() } else { expected }, "{context}");
                assert_eq!(opened.recovery.clean, is_closed, "{context}");
                ends.truncate(found);
            }
        }
        assert!(opened.log.stopped().is_none(), "{:?}", opened.log.stopped());
    }
}

#[test]
fn the_log_is_what_was_written_on_every_device() {
    for kind in usable() {
        for seed in 0..SEEDS {
            play(&[kind], seed, Scale::Small, Visibility::Durable);
        }
        play(&[kind], SEEDS, Scale::Small, Visibility::Written);
        play(&[kind], SEEDS + 1, Scale::Large, Visibility::Durable);
        play(&[kind], SEEDS + 2, Scale::Large, Visibility::Written);
    }
}

#[test]
fn a_log_that_one_device_wrote_is_continued_by_another() {
    let kinds = usable();
    for seed in 0..SEEDS {
        let visibility = if seed % 2 == 0 { Visibility::Durable } else { Visibility::Written };
        play(&kinds, seed, if seed < 3 { Scale::Small } else { Scale::Large }, visibility);
    }
}
