//! Which timers are next: those of segments in memory, and those of sealed ones, which are read ahead.

use std::collections::VecDeque;
use std::ops::Range;

use skylark_index::{SealedError, SealedSegments, Timer, TimerKey};
use skylark_storage::PhysicalOffset;

use crate::broker::Broker;
use crate::folds::timers::Watermark;

/// Above every key.
pub(super) const LAST: TimerKey = TimerKey { due: u64::MAX, at: PhysicalOffset::new(u64::MAX) };

/// What is next, ascending.
pub(super) enum Upcoming {
    /// Behind their turn, by position.
    Late(Vec<Timer>),
    /// By key.
    InTurn {
        timers: Vec<Timer>,
        /// Nothing else that is pending has a key that is not above it. Whatever has a higher one may have fired, and
        /// was not looked at.
        complete_to: TimerKey,
    },
}

/// How many timers are looked at together. No limit changes what fires, or in which order: only how often memory and
/// files are asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For firing.
    pub(super) turn: usize,
    /// For a trim: each look goes through whole segments.
    pub(super) carry: usize,
}

/// Looks for what is next.
#[derive(Default)]
pub(super) struct Schedule {
    pub(super) limits: Limits,
    /// Below it no timer is late.
    clear_to: PhysicalOffset,
    ahead: Ahead,
}

/// What is known of the timers of one source whose turn is still to come.
///
/// Invariant: every pending timer of the source whose key is not above `complete_to` is among `timers`. What lies above
/// is unknown, so that nothing above it may fire: the watermark would count what was never seen as fired.
///
/// A look asks the source once. After a clock was ahead, any number of timers that have fired may lie between the mark
/// and the next one that has not: they are passed as the clock comes to them, and no look waits for all of them.
struct Known {
    /// Ascending.
    timers: VecDeque<Timer>,
    complete_to: TimerKey,
}

/// The next timers of sealed segments: asking them for each step would read files each time.
#[derive(Default)]
struct Ahead {
    /// Where the sealed segments ended when they were asked, and what they said.
    asked: Option<(PhysicalOffset, Known)>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { turn: 1024, carry: 65_536 }
    }
}

impl Schedule {
    /// What is next among the timers below `applied`, which the index has to have: it may have more. Whatever has to
    /// fire before the last of them is among them, and whatever is due by now unless there are many: then more is
    /// known at the next look.
    ///
    /// # Errors
    /// When a file cannot be asked, or is missing until it is built again: a timer in it could be passed over.
    pub(super) fn look(
        &mut self,
        broker: &Broker,
        mark: &Watermark,
        applied: PhysicalOffset,
        now_ms: u64,
    ) -> Result<Upcoming, SealedError> {
        let limit = self.limits.turn;
        let unclear = self.clear_to.max(mark.covered()).max(mark.floor())..applied;
        let index = broker.index.read();
        let late_in_memory = index.late_timers(unclear.clone(), mark.through(), limit);
        let mut in_memory = Known::nothing(mark);
        in_memory.read_on(mark, applied, now_ms, limit, |after| Ok(index.timers(after, u64::MAX, limit)))?;
        let sealed = index.sealed();
        drop(index);

        let late = by_position(&sealed, unclear, mark.through(), limit, late_in_memory)?;
        if !late.is_empty() {
            return Ok(Upcoming::Late(late));
        }
        self.clear_to = applied;
        let ahead = self.ahead.look(&sealed, mark, applied, now_ms, limit)?;
        let (timers, complete_to) = in_memory.merged(ahead, applied);
        Ok(Upcoming::InTurn { timers, complete_to })
    }

    /// Another turn begins: what was behind its turn is in it, and was not read ahead.
    pub(super) fn turn_again(&mut self) {
        self.ahead = Ahead::default();
    }

    /// Pending timers within `places`, by position, and where to look for more if there may be any.
    ///
    /// # Errors
    /// As for [`look`](Self::look).
    pub(super) fn pending_within(
        &self,
        broker: &Broker,
        mark: &Watermark,
        places: Range<PhysicalOffset>,
    ) -> Result<(Vec<Timer>, Option<PhysicalOffset>), SealedError> {
        let limit = self.limits.carry;
        let index = broker.index.read();
        let in_memory = index.late_timers(places.clone(), LAST, limit);
        let sealed = index.sealed();
        drop(index);
        let mut found = by_position(&sealed, places, LAST, limit, in_memory)?;
        // The last one that was found, whether it is pending or not: behind it there may be others that are.
        let more = found.last().filter(|_| found.len() == limit).map(|last| last.key.at.advance(1));
        found.retain(|timer| mark.is_pending(timer.key));
        Ok((found, more))
    }
}

impl Known {
    /// Nothing that has yet to fire is known.
    fn nothing(mark: &Watermark) -> Self {
        Self { timers: VecDeque::new(), complete_to: mark.through() }
    }

    /// Asks the source, which gives `limit` timers behind a key, ascending, if no pending one below `applied` is known,
    /// and the clock has come to where what is known ends.
    fn read_on(
        &mut self,
        mark: &Watermark,
        applied: PhysicalOffset,
        now_ms: u64,
        limit: usize,
        timers: impl FnOnce(TimerKey) -> Result<Vec<Timer>, SealedError>,
    ) -> Result<(), SealedError> {
        // What has fired is known as well; what became visible behind its turn is late, and found as such.
        self.complete_to = self.complete_to.max(mark.through());
        self.timers.retain(|timer| timer.key > mark.through() && mark.is_pending(timer.key));
        // Behind the mark there is always a look, which says what to wait for.
        let is_reached = self.complete_to.due <= now_ms || self.complete_to == mark.through();
        let has_some = self.timers.iter().any(|timer| timer.key.at < applied);
        if self.complete_to < LAST && is_reached && !has_some {
            let found = timers(self.complete_to)?;
            // The last one that was found, whether it is pending or not: behind it there may be others that are.
            let last = found.last().filter(|_| found.len() >= limit);
            self.complete_to = last.map_or(LAST, |last| last.key);
            self.timers.extend(found.into_iter().filter(|timer| mark.is_pending(timer.key)));
        }
        Ok(())
    }

    /// The timers below `applied` of both sources, ascending, as far as both are known, and how far that is.
    fn merged(&self, other: &Self, applied: PhysicalOffset) -> (Vec<Timer>, TimerKey) {
        let complete_to = self.complete_to.min(other.complete_to);
        let both = self.timers.iter().chain(&other.timers);
        let mut merged: Vec<Timer> =
            both.filter(|timer| timer.key.at < applied && timer.key <= complete_to).copied().collect();
        merged.sort_unstable();
        (merged, complete_to)
    }
}

impl Ahead {
    /// What is known of the sealed segments, read on if that is nothing below `applied`.
    fn look(
        &mut self,
        sealed: &SealedSegments,
        mark: &Watermark,
        applied: PhysicalOffset,
        now_ms: u64,
        limit: usize,
    ) -> Result<&Known, SealedError> {
        let known = self.asked.take().filter(|(end, _)| *end == sealed.end()).map(|(_, known)| known);
        let mut known = known.unwrap_or_else(|| Known::nothing(mark));
        known.read_on(mark, applied, now_ms, limit, |after| sealed.timers(after, u64::MAX, limit))?;
        Ok(&self.asked.insert((sealed.end(), known)).1)
    }
}

/// The first `limit` timers within `places` whose keys are not above `until`, by position: those of sealed segments,
/// then those in memory, which are given.
fn by_position(
    sealed: &SealedSegments,
    places: Range<PhysicalOffset>,
    until: TimerKey,
    limit: usize,
    in_memory: Vec<Timer>,
) -> Result<Vec<Timer>, SealedError> {
    if places.start >= sealed.end() {
        return Ok(in_memory);
    }
    let mut found = sealed.late_timers(places, until, limit)?;
    found.extend(in_memory);
    found.truncate(limit);
    Ok(found)
}

#[cfg(test)]
mod tests;
