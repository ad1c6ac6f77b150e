//! The log against a list of records, under random appends, steps, crashes and restarts.

mod support;

use std::time::Duration;

use proptest::prelude::*;
use skylark_storage::device::simulated::Disk;
use skylark_storage::{AppendError, PhysicalOffset, TailPolicy};

use support::{Acknowledge, SEGMENT_BYTES, Violation, World, options};

#[derive(Clone, Debug)]
enum Act {
    Append(Vec<usize>),
    StepWriter,
    StepHousekeeper,
    Wait(u64),
    /// This many segments below the newest durable one.
    Trim(u64),
    Crash,
    Kill,
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    let length = prop_oneof![8 => 0..300_usize, 2 => 300..9000_usize, 1 => 9000..40_000_usize];
    prop_oneof![
        12 => prop::collection::vec(length, 1..4).prop_map(Act::Append),
        8 => Just(Act::StepWriter),
        2 => Just(Act::StepHousekeeper),
        1 => (0..500_u64).prop_map(Act::Wait),
        1 => (0..3_u64).prop_map(Act::Trim),
        1 => Just(Act::Crash),
        1 => Just(Act::Kill),
        1 => Just(Act::Close),
    ]
}

fn play(seed: u64, tail: TailPolicy, acts: &[Act]) -> Result<(), Violation> {
    let disk = Disk::new(seed);
    disk.set_tears_destroy(tail == TailPolicy::Pad);
    let mut world = World::new(disk, skylark_storage::Options { tail, ..options() });
    world.acknowledge = Acknowledge::Durable;
    for act in acts {
        match act {
            Act::Append(rest_bytes) => match world.append(rest_bytes) {
                Ok(()) | Err(AppendError::TooLarge { .. }) => {}
                Err(error) => return Err(error.to_string()),
            },
            Act::StepWriter => {
                world.step_writer()?;
            }
            Act::StepHousekeeper => {
                world.step_housekeeper();
            }
            Act::Trim(kept) => {
                let end = world.frontiers().durable_end.get().saturating_sub(1);
                let to = end.saturating_sub(kept * SEGMENT_BYTES);
                world.trim(PhysicalOffset::new(to)).map_err(|error| error.to_string())?;
            }
            Act::Wait(ms) => world.clock.advance(Duration::from_millis(*ms)),
            Act::Crash => world.crash()?,
            Act::Kill => world.kill()?,
            Act::Close => world.close()?,
        }
    }
    world.check_records()?;
    world.close()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_prefix_of_what_was_appended(
        seed: u64,
        pads: bool,
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let tail = if pads { TailPolicy::Pad } else { TailPolicy::PackOrPad };
        play(seed, tail, &acts).map_err(TestCaseError::fail)?;
    }
}
