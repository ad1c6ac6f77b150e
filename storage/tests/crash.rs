//! The power is cut at every single operation of a small workload with rolls. That the checker notices what is broken
//! is shown in `broken.rs`.

mod support;

use std::time::Duration;

use skylark_storage::device::simulated::Disk;
use skylark_storage::{Options, PhysicalOffset, Step, TailPolicy, TrimError, Visibility};

use support::{Acknowledge, Violation, World, options};

/// Appends through several segments, with steps between, a housekeeper that works now and then, and trims.
fn work(world: &mut World) -> Result<(), Violation> {
    for round in 0..24_usize {
        for unit in 0..=round % 3 {
            if world.append(&vec![40 + 700 * (round % 7); 1 + unit]).is_err() {
                return Ok(());
            }
        }
        if round % 8 == 5 && world.append(&[30_000]).is_err() {
            return Ok(());
        }
        if world.step_writer()? == Step::Stopped {
            return Ok(());
        }
        world.clock.advance(Duration::from_millis(150));
        // Now too seldom to be ready for a roll, now often enough.
        for _ in 0..=round / 2 % 8 {
            world.step_housekeeper();
        }
        if round % 6 == 5 {
            // All but the two newest segments. Where that fails the next opening shows what is left.
            let to = world.frontiers().durable_end.get().saturating_sub(2 * support::SEGMENT_BYTES);
            if let Err(refused @ TrimError::Beyond { .. }) = world.trim(PhysicalOffset::new(to)) {
                return Err(refused.to_string());
            }
        }
    }
    world.settle()
}

/// Runs the workload on a disk whose power goes off at the `nth` operation, then restarts until it runs once more.
fn run_with_cut(seed: u64, nth: u64, options: &Options) -> Result<(), Violation> {
    let disk = Disk::new(seed);
    disk.power_off_at(nth);
    let mut world = match World::try_new(disk.clone(), options.clone()) {
        Ok(world) => world,
        // Cut while the log was created: nothing was promised, and the next opening must do.
        Err(_) => World::try_new(disk.crash(), options.clone()).map_err(|error| error.to_string())?,
    };
    work(&mut world)?;
    // Cut again during the recovery from the first cut.
    let after = world.disk.crash();
    let again = after.clone();
    again.power_off_at(1 + nth % 7);
    drop(support::open(&again, &world.clock, options));
    world.reopen(again.crash())?;
    work(&mut world)?;
    world.crash()
}

fn operations(options: &Options) -> u64 {
    let disk = Disk::new(0);
    let mut world = World::new(disk.clone(), options.clone());
    work(&mut world).expect("nothing goes wrong on a sound disk");
    assert!(world.frontiers().durable_end.get() > 3 * support::SEGMENT_BYTES, "the workload rolls");
    assert!(world.trimmed.get() > 0, "the workload trims");
    disk.operations()
}

fn cut_everywhere(options: &Options) {
    for nth in 1..=operations(options) {
        for seed in 0..4 {
            let outcome = run_with_cut(seed, nth, options);
            assert_eq!(outcome, Ok(()), "seed {seed}, cut at operation {nth}");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_is_cut() {
    cut_everywhere(&options());
}

#[test]
fn nothing_acknowledged_is_lost_when_every_group_pads() {
    cut_everywhere(&Options { tail: TailPolicy::Pad, ..options() });
}

#[test]
fn nothing_durable_is_lost_when_flushes_come_late() {
    cut_everywhere(&Options { visibility: Visibility::Written, ..options() });
}

#[test]
fn what_was_written_survives_the_end_of_the_process() {
    let mut world = World::new(Disk::new(3), Options { visibility: Visibility::Written, ..options() });
    world.acknowledge = Acknowledge::Written;
    for _ in 0..40 {
        world.append(&[900, 10]).expect("the log takes appends");
        world.step_writer().expect("nothing goes wrong");
    }
    assert!(world.frontiers().durable_end < world.frontiers().written_end);
    world.kill().expect("a killed process loses nothing that it wrote");
}
