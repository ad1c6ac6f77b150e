//! Which timers are next: those of segments in memory, and those of sealed ones, which are read ahead.

use std::collections::VecDeque;

use skylark_index::{SealedError, SealedSegments, Timer, TimerKey};
use skylark_storage::PhysicalOffset;

use crate::broker::Broker;
use crate::folds::timers::Watermark;

/// Timers looked at together.
pub(super) const LOOK_MAX: usize = 1024;
/// Timers of sealed segments that are read together for a trim: each reading goes through whole segments.
const CARRY_LOOK_MAX: usize = 65_536;

/// Above every key.
const LAST: TimerKey = TimerKey { due: u64::MAX, at: PhysicalOffset::new(u64::MAX) };

/// What is next, ascending.
pub(super) enum Upcoming {
    /// Behind their turn, by position.
    Late(Vec<Timer>),
    /// By key.
    InTurn(Vec<Timer>),
}

/// Looks for what is next.
#[derive(Default)]
pub(super) struct Schedule {
    /// Below it no timer is late.
    clear_to: PhysicalOffset,
    ahead: Ahead,
}

/// The next timers of sealed segments: asking them for each step would read files each time.
#[derive(Default)]
struct Ahead {
    /// Where the sealed segments ended when they were asked.
    end: Option<PhysicalOffset>,
    timers: VecDeque<Timer>,
    /// Others may follow behind this key; none do if there is none.
    until: Option<TimerKey>,
    was_asked: bool,
}

impl Schedule {
    /// What is next among the timers below `applied`, which the index has to have: it may have more.
    ///
    /// # Errors
    /// When a file cannot be asked, or is missing until it is built again: a timer in it could be passed over.
    pub(super) fn look(
        &mut self,
        broker: &Broker,
        mark: Watermark,
        applied: PhysicalOffset,
    ) -> Result<Upcoming, SealedError> {
        let from = self.clear_to.max(mark.covered()).max(mark.floor());
        let index = broker.index.read();
        let late_in_memory = index.late_timers(from, mark.through(), LOOK_MAX);
        let (in_memory, in_memory_until) =
            pending(mark, LOOK_MAX, |after| Ok(index.timers(after, u64::MAX, LOOK_MAX)))?;
        let sealed = index.sealed();
        drop(index);

        let is_visible = |timer: &Timer| timer.key.at < applied;
        let mut late = Vec::new();
        if from < sealed.end() {
            late = sealed.late_timers(from, mark.through(), LOOK_MAX)?;
        }
        late.extend(late_in_memory);
        late.truncate(LOOK_MAX);
        late.retain(is_visible);
        if !late.is_empty() {
            return Ok(Upcoming::Late(late));
        }
        self.clear_to = applied;
        self.ahead.refill(&sealed, mark)?;
        let mut next: Vec<Timer> = in_memory.into_iter().filter(is_visible).collect();
        next.extend(self.ahead.timers.iter());
        // Behind the last of those that were read of either kind there may be others: whoever fired what the other
        // kind has there would pass them over.
        if let Some(until) = in_memory_until.into_iter().chain(self.ahead.until).min() {
            next.retain(|timer| timer.key <= until);
        }
        next.sort_unstable();
        next.truncate(LOOK_MAX);
        Ok(Upcoming::InTurn(next))
    }

    /// Pending timers from `from` on and below `below`, by position, and where to look for more if there may be any.
    ///
    /// # Errors
    /// As for [`look`](Self::look).
    pub(super) fn pending_below(
        broker: &Broker,
        mark: Watermark,
        from: PhysicalOffset,
        below: PhysicalOffset,
    ) -> Result<(Vec<Timer>, Option<PhysicalOffset>), SealedError> {
        let index = broker.index.read();
        let in_memory = index.late_timers(from, LAST, CARRY_LOOK_MAX);
        let sealed = index.sealed();
        drop(index);
        let mut found =
            if from < sealed.end() { sealed.late_timers(from, LAST, CARRY_LOOK_MAX)? } else { Vec::new() };
        found.extend(in_memory);
        found.truncate(CARRY_LOOK_MAX);
        let last = found.last().filter(|last| found.len() == CARRY_LOOK_MAX && last.key.at < below);
        let more = last.map(|last| last.key.at.advance(1));
        found.retain(|timer| timer.key.at < below && mark.is_pending(timer.key));
        Ok((found, more))
    }
}

impl Ahead {
    fn refill(&mut self, sealed: &SealedSegments, mark: Watermark) -> Result<(), SealedError> {
        if self.end != Some(sealed.end()) {
            *self = Self { end: Some(sealed.end()), ..Self::default() };
        }
        self.timers.retain(|timer| mark.is_pending(timer.key));
        if self.timers.is_empty() && (self.until.is_some() || !self.was_asked) {
            let (timers, until) = pending(mark, LOOK_MAX, |after| sealed.timers(after, u64::MAX, LOOK_MAX))?;
            (self.timers, self.until, self.was_asked) = (timers.into(), until, true);
        }
        Ok(())
    }
}

/// The next pending timers of those that `timers` gives in batches of `batch`, ascending; none only if there are none.
/// Also says behind which key there may be others.
fn pending(
    mark: Watermark,
    batch: usize,
    timers: impl Fn(TimerKey) -> Result<Vec<Timer>, SealedError>,
) -> Result<(Vec<Timer>, Option<TimerKey>), SealedError> {
    let mut after = mark.through();
    loop {
        let mut found = timers(after)?;
        let last = found.last().filter(|_| found.len() == batch).map(|last| last.key);
        found.retain(|timer| mark.is_pending(timer.key));
        match last {
            Some(last) if found.is_empty() => after = last,
            last => return Ok((found, last)),
        }
    }
}
