//! Which delayed messages have been delivered or recalled, and what waits.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use skylark_index::TimerKey;
use skylark_storage::{Kind, PhysicalOffset};

use super::fold::{Event, Fold, FoldError};
use super::kinds::{self, Change};
use super::payload::Payload;

/// How often firing may have begun again behind a clock that was set back, at once: those count that the clock has not
/// caught up with, and of which the log has something left. Beyond that, what was sent after the clock was set back once
/// more waits for what is before it in the log.
pub const TURNS_MAX: usize = 64;

/// Says of every timer in the log whether it has fired. A timer is a delayed message where it waits; its key is when it is
/// due, then where it lies.
///
/// ```text
///        floor      covered of an     covered
///                   earlier turn
///  ────────┼──────────────┼──────────────┼──────────────────►  position in the log
///   dead   │ fired if its │ fired if its │ pending; *late* if
///          │ key ≤ its    │ key ≤        │ its key ≤ through
///          │ through      │ through      │
/// ```
///
/// Timers fire in the order of their keys, so one key tells nearly all. A timer that was not yet visible when others
/// with higher keys fired is behind them: it is late, and `covered` tells it from those that fired in time.
///
/// A clock that was ahead, and is set back, leaves a high `through` behind, and whatever is sent from then on is late without
/// being due. Then another *turn* begins: the two numbers are kept for what lies before `covered`, and what lies behind is
/// fired by its keys again, from the clock's time on. Once `through` reaches that of an earlier turn, they are one.
///
/// Invariant: what has fired stays so, and neither `covered` nor `floor` goes back. Of two turns the later one has the higher
/// `covered`, or the same, and the lower `through`.
///
/// Memory: three numbers, and two for each earlier turn, of which there are [`TURNS_MAX`] at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The highest key that has fired in this turn: due time and position.
    through: (u64, u64),
    /// Timers below this position, and behind those of earlier turns, have fired if their key is not above `through`.
    covered: u64,
    /// Timers below this position were appended again, and their copies count, or are gone with the log's old end.
    floor: u64,
    /// By `covered`.
    earlier: Vec<Turn>,
}

/// What a turn takes in a record, at most: three numbers of up to ten bytes, of which the due time, in milliseconds since
/// 1970, has six.
const TURN_BYTES_MAX: u64 = 26;
/// What all turns take in a record, at most.
pub const TURNS_BYTES_MAX: u64 = TURNS_MAX as u64 * TURN_BYTES_MAX;

/// What holds for the timers below a position, and behind those of turns before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Turn {
    through: (u64, u64),
    covered: u64,
}

/// Why no other turn begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTurn {
    /// The clock is not behind what has fired.
    Needless,
    /// There are [`TURNS_MAX`] that are not over.
    TooMany,
}

impl Watermark {
    /// Whether the timer with this key has yet to fire.
    pub fn is_pending(&self, key: TimerKey) -> bool {
        let at = key.at.get();
        at >= self.floor && self.through_at(at).is_none_or(|through| (key.due, at) > through)
    }

    /// The highest key that has fired in this turn.
    pub fn through(&self) -> TimerKey {
        TimerKey { due: self.through.0, at: PhysicalOffset::new(self.through.1) }
    }

    /// Behind which position timers are late if their key is not above [`through`](Self::through).
    pub fn covered(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.covered)
    }

    /// Below which position timers are dead.
    pub fn floor(&self) -> PhysicalOffset {
        PhysicalOffset::new(self.floor)
    }

    /// The mark once every timer below `covered` whose key is not above `through` has fired.
    #[must_use]
    pub fn fired(mut self, through: TimerKey, covered: PhysicalOffset) -> Self {
        (self.through, self.covered) = ((through.due, through.at.get()), covered.get());
        while self.earlier.pop_if(|turn| turn.through <= self.through).is_some() {}
        self
    }

    /// The mark once every pending timer below `floor` was appended again.
    #[must_use]
    pub fn carried(mut self, floor: PhysicalOffset) -> Self {
        self.floor = floor.get();
        self.earlier.retain(|turn| turn.covered > self.floor);
        self
    }

    /// The mark, which says the same of every timer that is left, once the log begins at `trimmed`: what was pending below
    /// was appended again before.
    #[must_use]
    pub fn trimmed(self, trimmed: PhysicalOffset) -> Self {
        let floor = self.floor().max(trimmed);
        self.carried(floor)
    }

    /// The mark, which says the same of every timer, once another turn has begun: of those behind `covered` only the ones
    /// that are due by now are late.
    ///
    /// # Errors
    /// See [`NoTurn`].
    pub fn next_turn(mut self, now_ms: u64) -> Result<Self, NoTurn> {
        let through = (now_ms, u64::MAX);
        if through >= self.through {
            return Err(NoTurn::Needless);
        }
        let begun = self.earlier.last().map_or(0, |turn| turn.covered).max(self.floor);
        // Nothing has fired in a turn that is as long as that.
        if self.covered > begun {
            if self.earlier.len() >= TURNS_MAX {
                return Err(NoTurn::TooMany);
            }
            self.earlier.push(Turn { through: self.through, covered: self.covered });
        }
        self.through = through;
        Ok(self)
    }

    /// How many earlier turns are not over.
    pub fn earlier_turns(&self) -> usize {
        self.earlier.len()
    }

    /// The highest key that has fired of those that lie where `at` does, if any has.
    fn through_at(&self, at: u64) -> Option<(u64, u64)> {
        let turn = self.earlier.partition_point(|turn| turn.covered <= at);
        let now = (at < self.covered).then_some(self.through);
        self.earlier.get(turn).map(|turn| turn.through).or(now)
    }

    /// Whether all that has fired by this mark has by `next`, too.
    fn precedes(&self, next: &Self) -> bool {
        // Keys decrease from turn to turn, so that the last position of one tells for all of its own.
        let is_kept = |turn: Turn| {
            let last = turn.covered.checked_sub(1).filter(|last| *last >= next.floor);
            last.is_none_or(|last| next.through_at(last).is_some_and(|through| through >= turn.through))
        };
        let descends =
            |(turn, later): (Turn, Turn)| turn.through > later.through && turn.covered <= later.covered;
        self.covered <= next.covered
            && self.floor <= next.floor
            && next.turns().zip(next.turns().skip(1)).all(descends)
            && self.turns().all(is_kept)
    }

    fn turns(&self) -> impl Iterator<Item = Turn> {
        let Self { through, covered, ref earlier, .. } = *self;
        earlier.iter().copied().chain([Turn { through, covered }])
    }
}

/// Timers fired: the messages behind this record, in one unit with it, are what they were delayed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimersFired {
    /// The mark from now on.
    pub mark: Watermark,
    /// What fired. One whose topic is gone has no message behind the record.
    pub fired: Vec<FiredTimer>,
    /// Bytes of their records, together.
    pub bytes: u64,
}

/// A timer that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiredTimer {
    /// Where the delayed message lay.
    pub at: u64,
    /// Its delay level; 0 if it asked for a time.
    pub level: u32,
    /// Its number in the queue of the messages that wait as it did.
    pub queue_offset: u64,
}

/// The log's beginning is to be trimmed: the messages behind this record, in one unit with it, are those delayed ones
/// that would go with it, again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimersCarried {
    /// The mark from now on.
    pub mark: Watermark,
    /// How many there were. Of one that cannot be read there is no message behind the record.
    pub messages: u64,
    /// Bytes of their records, together.
    pub bytes: u64,
}

/// Timers were recalled: they will not fire. All are of one topic and have one unique key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimersRecalled {
    /// The topic that the messages were for; for people.
    pub topic: String,
    /// Their unique key; for people.
    pub unique_key: String,
    /// Due time and place of each.
    pub timers: Vec<(u64, u64)>,
    /// Bytes of their records, together.
    pub bytes: u64,
}

impl Payload for TimersFired {
    const KIND: Kind = kinds::TIMERS_FIRED;
    const VERSION: u8 = 3;
}

impl Payload for TimersCarried {
    const KIND: Kind = kinds::TIMERS_CARRIED;
    const VERSION: u8 = 3;
}

impl Payload for TimersRecalled {
    const KIND: Kind = kinds::TIMERS_RECALLED;
    const VERSION: u8 = 1;
}

/// Messages that wait for their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// How many there are.
    pub messages: u64,
    /// Bytes of their records, together.
    pub bytes: u64,
}

/// Which timers have fired, what waits, and for the tools how far each level has been delivered.
///
/// Memory: the mark and two numbers, about 20 bytes for each delay level, and about 30 for each timer that was recalled until its
/// time has passed; nothing for a pending message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    mark: Watermark,
    delivered: BTreeMap<u32, u64>,
    pending: Pending,
    /// Due time and place.
    recalled: BTreeSet<(u64, u64)>,
}

impl Timers {
    /// Which timers have fired.
    pub fn mark(&self) -> Watermark {
        self.mark.clone()
    }

    /// Behind the last message of this delay level that was delivered.
    pub fn delivered(&self, level: u32) -> u64 {
        self.delivered.get(&level).copied().unwrap_or(0)
    }

    /// What waits. A message that was appended again counts once.
    pub fn pending(&self) -> Pending {
        self.pending
    }

    /// Whether the timer with this key was recalled. Known until its time has passed.
    pub fn is_recalled(&self, key: TimerKey) -> bool {
        self.recalled.contains(&(key.due, key.at.get()))
    }

    /// How many recalled timers are known.
    pub fn recalled(&self) -> usize {
        self.recalled.len()
    }

    fn advance(&mut self, at: PhysicalOffset, mark: Watermark) -> Result<(), FoldError> {
        if !self.mark.precedes(&mark) {
            return Err(FoldError::TimersBack { at, known: self.mark.clone(), found: mark });
        }
        self.mark = mark;
        Ok(())
    }

    fn left(&mut self, messages: u64, bytes: u64) {
        let Pending { messages: known, bytes: known_bytes } = self.pending;
        self.pending =
            Pending { messages: known.saturating_sub(messages), bytes: known_bytes.saturating_sub(bytes) };
    }

    /// Forgets the recalled timers whose time has passed: nobody asks for them again.
    fn forget_recalled(&mut self) {
        let Watermark { through, .. } = self.mark;
        if self.recalled.first().is_none_or(|first| *first > through) {
            return;
        }
        let later = self.recalled.split_off(&(through.0, through.1.saturating_add(1)));
        let passed = std::mem::replace(&mut self.recalled, later);
        // Those that became visible behind their turn are asked for yet.
        let key = |(due, at)| TimerKey { due, at: PhysicalOffset::new(at) };
        self.recalled.extend(passed.into_iter().filter(|timer| self.mark.is_pending(key(*timer))));
    }
}

impl Fold for Timers {
    const SNAPSHOT_VERSION: Option<u8> = Some(1);

    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        match &event.change {
            Change::Waiting(Pending { messages, bytes }) => {
                self.pending.messages += messages;
                self.pending.bytes += bytes;
                Ok(())
            }
            Change::TimersFired(TimersFired { mark, fired, bytes }) => {
                self.advance(event.at, mark.clone())?;
                self.left(fired.len() as u64, *bytes);
                for timer in fired.iter().filter(|timer| timer.level > 0) {
                    let delivered = self.delivered.entry(timer.level).or_default();
                    *delivered = timer.queue_offset.saturating_add(1).max(*delivered);
                }
                self.forget_recalled();
                Ok(())
            }
            Change::TimersCarried(TimersCarried { mark, messages, bytes }) => {
                self.advance(event.at, mark.clone())?;
                self.left(*messages, *bytes);
                Ok(())
            }
            Change::TimersRecalled(TimersRecalled { timers, bytes, .. }) => {
                self.recalled.extend(timers);
                self.left(timers.len() as u64, *bytes);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
