//! Pins beside what they should hold, and what a policy may give up past them.

use std::time::Duration;

use skylark_storage::retention::Retained;
use skylark_storage::{Clock, Files, PhysicalOffset, Pin, PinError, Retention, SegmentInfo, TrimError};

use super::{SEGMENT_BYTES, Violation, World};

/// The pins of an opening.
#[derive(Default)]
pub struct Pins {
    held: Vec<Held>,
    /// Nothing below is granted, because a policy has decided so.
    floor: PhysicalOffset,
}

struct Held {
    pin: Pin,
    from: PhysicalOffset,
    lease: Duration,
    expires_at: Duration,
}

/// What is known when a policy is applied.
struct Before {
    segments: Vec<SegmentInfo>,
    now_ms: u64,
    available_bytes: u64,
    total_bytes: u64,
    /// What the oldest pin holds from.
    held_from: Option<PhysicalOffset>,
}

/// Whether a policy asks for a segment, and whether that is for the disk's sake.
#[derive(PartialEq)]
enum Wanted {
    No,
    Unpinned,
    Anyway,
}

impl Pins {
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Asks for a pin, which is granted where nothing has been given up; whether it was.
    pub fn pin(&mut self, world: &World, from: PhysicalOffset, lease: Duration) -> Result<bool, Violation> {
        let kept = self.kept(world);
        match world.opened.log.pin(from, lease, "a life") {
            Ok(pin) if from >= kept => {
                let expires_at = world.clock.monotonic() + lease;
                self.held.push(Held { pin, from, lease, expires_at });
                Ok(true)
            }
            Err(PinError::Trimmed { kept: told, .. }) if from < kept && told == kept => Ok(false),
            outcome => Err(format!("a pin at {from}, where the log is kept from {kept}: {outcome:?}")),
        }
    }

    /// Moves a pin on.
    pub fn advance(&mut self, world: &World, index: usize, to: PhysicalOffset) -> Result<(), Violation> {
        let kept = self.kept(world);
        let held = &mut self.held[index];
        held.from = held.from.max(to);
        held.expires_at = world.clock.monotonic() + held.lease;
        let outcome = held.pin.advance(to);
        if outcome.is_ok() == (held.from >= kept) {
            return Ok(());
        }
        Err(format!("a pin moves to {}, where the log is kept from {kept}: {outcome:?}", held.from))
    }

    /// Lets go of a pin.
    pub fn drop(&mut self, index: usize) {
        self.held.swap_remove(index);
    }

    /// Every pin says of itself what it should.
    pub fn check(&self, world: &World) -> Result<(), Violation> {
        let (now, trimmed) = (world.clock.monotonic(), world.frontiers().trimmed);
        for Held { pin, from, expires_at, .. } in &self.held {
            let info = pin.info();
            let expires_in = expires_at.saturating_sub(now);
            if (info.from, info.expires_in, info.is_lost) != (*from, expires_in, *from < trimmed) {
                return Err(format!("{info:?}, not from {from} for {expires_in:?}, of a log from {trimmed}"));
            }
        }
        let listed = world.opened.log.pins().len();
        if listed == self.held.len() { Ok(()) } else { Err(format!("{listed} pins are listed")) }
    }

    /// Applies a policy, and holds what it gives up against what it should. Asking first changes nothing.
    pub fn retain(
        &mut self,
        world: &mut World,
        retention: &Retention,
    ) -> Result<Option<Retained>, Violation> {
        let space = world.disk.space().map_err(|error| error.to_string())?;
        let now = world.clock.monotonic();
        let (trimmed, end) = (world.frontiers().trimmed, world.frontiers().durable_end);
        let last = PhysicalOffset::new(end.get().saturating_sub(1)).align_down(SEGMENT_BYTES);
        let mut segments = world.opened.log.segments();
        segments.retain(|segment| segment.base <= last);
        let holding = self.held.iter().filter(|held| held.from >= trimmed && held.expires_at > now);
        let before = Before {
            segments,
            now_ms: world.clock.wall_ms(),
            available_bytes: space.available_bytes,
            total_bytes: space.total_bytes,
            held_from: holding.map(|held| held.from).min(),
        };
        let cut = world.opened.log.cut(retention);
        let goes = before.goes(retention);
        let expected = if goes == 0 { None } else { Some(before.segments[goes].base) };
        if cut.to != expected || world.opened.log.cut(retention) != cut {
            return Err(format!("{retention:?} asks for {:?}, not {expected:?}", cut.to));
        }
        self.check(world)?;
        let outcome = world.retain(retention);
        self.floor = cut.to.unwrap_or(PhysicalOffset::ZERO);
        self.check(world)?;
        match outcome {
            Ok(retained) if retained.trimmed == self.kept(world) && retained.segments == goes => {
                Ok(Some(retained))
            }
            Err(TrimError::Remains { .. } | TrimError::Stopped(_)) if world.is_faulty => Ok(None),
            Err(TrimError::NoSpace(_)) if world.is_refused => Ok(None),
            outcome => Err(format!("{retention:?}, which asks for {expected:?}, came to {outcome:?}")),
        }
    }

    /// Nothing below can be pinned.
    fn kept(&self, world: &World) -> PhysicalOffset {
        self.floor.max(world.frontiers().trimmed)
    }
}

impl Before {
    /// How many segments go.
    fn goes(&self, retention: &Retention) -> usize {
        let last = self.segments.len().saturating_sub(1);
        let wanted: Vec<Wanted> = (0..last).map(|index| self.wanted(retention, index)).collect();
        let asked = wanted.iter().take_while(|wanted| **wanted != Wanted::No).count();
        let is_free = |index: usize| self.held_from.is_none_or(|from| from >= self.segments[index + 1].base);
        // What goes takes what is older with it.
        let goes = |index: &usize| wanted[*index] == Wanted::Anyway || is_free(*index);
        (0..asked).rev().find(goes).map_or(0, |newest| newest + 1)
    }

    /// Whether a policy asks for this segment, once the older ones are gone.
    fn wanted(&self, retention: &Retention, index: usize) -> Wanted {
        let sum = |segments: &[SegmentInfo]| segments.iter().map(|segment| segment.stored_bytes).sum::<u64>();
        let used = self.total_bytes
            - self.available_bytes
            - sum(&self.segments[..index]).min(self.total_bytes - self.available_bytes);
        let is_tight = retention.clean_percent.is_some_and(|percent| {
            u128::from(used) * 100 > u128::from(self.total_bytes) * u128::from(percent)
        });
        let is_much = retention.bytes_max.is_some_and(|max| sum(&self.segments[index..]) > max);
        let newest_ms = self.segments[index + 1].created_at;
        let is_old = retention.age_ms.is_some_and(|age_ms| newest_ms + age_ms < self.now_ms);
        match (is_tight, is_much || is_old) {
            (true, _) => Wanted::Anyway,
            (false, true) => Wanted::Unpinned,
            (false, false) => Wanted::No,
        }
    }
}
