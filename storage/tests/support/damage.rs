//! One flipped bit: what may become of a log, and what must not.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;
use skylark_storage::checkpoint::CHECKPOINT_NAME;
use skylark_storage::device::simulated::Disk;
use skylark_storage::group::GROUP_BYTES_MAX;
use skylark_storage::segment::segment_name;
use skylark_storage::{CommitLog, OpenError, Opened, Options, PhysicalOffset};

use super::{Expected, SEGMENT_BYTES, Violation, World, user_records};

/// Flips a bit of a log's files on `disk`, which is a state of the world's own; whether anybody reports it.
///
/// What was appended, and acknowledged up to `kept_end`, is served as it was, or reported, or cut because a tear would
/// look the same: nobody vouches for the newest group.
pub fn flip_somewhere(
    world: &World,
    disk: &Disk,
    kept_end: PhysicalOffset,
    rng: &mut Pcg64Mcg,
    tells: bool,
) -> Result<bool, Violation> {
    let trimmed = world.trimmed.get();
    let end = world.frontiers().appended_end.get().max(trimmed + 1);
    let (name, position, flipped_at) = if rng.random_bool(0.1) {
        (CHECKPOINT_NAME.to_owned(), rng.random_range(0..8192), None)
    } else {
        // A block further than the end, where zeros are.
        let at = rng.random_range(trimmed..end + 4096);
        let base = PhysicalOffset::new(at).align_down(SEGMENT_BYTES);
        (segment_name(base), at % SEGMENT_BYTES, Some(at))
    };
    if disk.flip_bit(&name, position, rng.random()).is_err() {
        return Ok(false);
    }
    if tells {
        println!("a bit of {name} flips, byte {position}");
    }
    let opened = match world.open(disk) {
        Ok(opened) => opened,
        Err(OpenError::Corrupt(damage)) => {
            if flipped_at
                .is_none_or(|at| damage.at.get() > at || at - damage.at.get() > u64::from(GROUP_BYTES_MAX))
            {
                return Err(format!("a bit flipped in {name}, byte {position}, but: {damage}"));
            }
            let options = Options { repair: true, ..world.options.clone() };
            let clock = std::sync::Arc::new(world.clock.clone());
            let repaired = CommitLog::open((world.wrap)(disk), clock, options, 0_u64)
                .map_err(|error| format!("cannot repair {damage}: {error}"))?;
            check(world, &repaired, kept_end.min(damage.at), flipped_at)?;
            return Ok(true);
        }
        Err(error) => return Err(format!("a bit flipped in {name}, byte {position}, but: {error}")),
    };
    // The group that it hits may be cut, and begins within a segment.
    let whole_end = flipped_at.map_or(u64::MAX, |at| at.saturating_sub(SEGMENT_BYTES));
    let damaged = check(world, &opened, kept_end.min(PhysicalOffset::new(whole_end)), flipped_at)?;
    Ok(damaged || opened.recovery.slot_damaged)
}

/// Holds what can be read against what was appended; whether a part of it is reported as damaged. Every unit that
/// ends at or below `kept_end` is there.
fn check(
    world: &World,
    opened: &Opened<u64>,
    kept_end: PhysicalOffset,
    flipped_at: Option<u64>,
) -> Result<bool, Violation> {
    let log = &opened.log;
    let begins = log.frontiers().trimmed;
    let mut expected =
        world.units.iter().flat_map(|unit| &unit.records).skip_while(|record| record.at < begins);
    let mut reported = false;
    let mut last_end = begins;
    for group in log.scan(begins) {
        let Ok(group) = group else {
            reported = true;
            break;
        };
        let found: Vec<Expected> = user_records(&group)?;
        if !found.iter().eq(expected.by_ref().take(found.len())) {
            return Err(format!("behind a flipped bit {group:?} holds other records than were appended"));
        }
        last_end = group.end;
    }
    let end = log.frontiers().durable_end;
    if !reported && last_end < end && !world.units.is_empty() && end.since(last_end) > SEGMENT_BYTES {
        return Err(format!("groups end at {last_end}, the log at {end}"));
    }
    for unit in &world.units {
        for record in unit.records.iter().filter(|record| record.at >= begins) {
            let stored_end = record.at.get() + (48 + record.rest.len()).next_multiple_of(8) as u64;
            let is_hit = flipped_at.is_some_and(|at| record.at.get() <= at && at < stored_end);
            match log.record_at(record.at) {
                Ok(read) if read.payload()[super::HEAD_BYTES..] != record.rest => {
                    return Err(format!("a flipped bit is served, in the record at {}", record.at));
                }
                Ok(_) => {}
                Err(_) if unit.end > end && unit.end > kept_end => {}
                Err(_) if unit.end > end => {
                    return Err(format!("a flipped bit at {flipped_at:?} cost the record at {}", record.at));
                }
                Err(_) if is_hit => reported = true,
                Err(error) => {
                    return Err(format!("a flipped bit elsewhere, at {flipped_at:?}, but: {error}"));
                }
            }
        }
    }
    Ok(reported)
}
