//! Which delayed messages have been delivered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skylark_index::TimerKey;
use skylark_storage::{Kind, PhysicalOffset};

use super::fold::{Event, Fold, FoldError};
use super::kinds::{self, Change};
use super::payload::Payload;

/// Three positions that say of every timer in the log whether it has fired. A timer is a delayed message where it
/// waits; its key is when it is due, then where it lies.
///
/// ```text
///        floor              covered
///  ────────┼───────────────────┼──────────────────►  position in the log
///   dead   │ fired if its key  │ pending; *late* if
///          │ ≤ through         │ its key ≤ through
/// ```
///
/// Timers fire in the order of their keys, so one key tells nearly all. A timer that was not yet visible when others
/// with higher keys fired is behind them: it is late, and `covered` tells it from those that fired in time.
///
/// Invariant: none of the three goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The highest key that has fired: due time and position.
    through: (u64, u64),
    /// Timers below this position have fired if their key is not above `through`.
    covered: u64,
    /// Timers below this position were appended again, and their copies count.
    floor: u64,
}

impl Watermark {
    /// Whether the timer with this key has yet to fire.
    pub fn is_pending(&self, key: TimerKey) -> bool {
        let at = key.at.get();
        at >= self.floor && (at >= self.covered || (key.due, at) > self.through)
    }

    /// The highest key that has fired.
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
    pub fn fired(self, through: TimerKey, covered: PhysicalOffset) -> Self {
        Self { through: (through.due, through.at.get()), covered: covered.get(), ..self }
    }

    /// The mark once every pending timer below `floor` was appended again.
    #[must_use]
    pub fn carried(self, floor: PhysicalOffset) -> Self {
        Self { floor: floor.get(), ..self }
    }

    fn precedes(&self, next: &Self) -> bool {
        self.through <= next.through && self.covered <= next.covered && self.floor <= next.floor
    }
}

/// Timers fired: the messages behind this record, in one unit with it, are what they were delayed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimersFired {
    /// The mark from now on.
    pub mark: Watermark,
    /// What fired. One whose topic is gone has no message behind the record.
    pub fired: Vec<FiredTimer>,
}

/// A timer that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiredTimer {
    /// Where the delayed message lay.
    pub at: u64,
    /// In which queue of the topic of delayed messages.
    pub queue: u32,
    /// Its number there.
    pub queue_offset: u64,
}

/// The log's beginning is to be trimmed: the messages behind this record, in one unit with it, are those delayed ones
/// that would go with it, again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimersCarried {
    /// The mark from now on.
    pub mark: Watermark,
}

impl Payload for TimersFired {
    const KIND: Kind = kinds::TIMERS_FIRED;
    const VERSION: u8 = 1;
}

impl Payload for TimersCarried {
    const KIND: Kind = kinds::TIMERS_CARRIED;
    const VERSION: u8 = 1;
}

/// Which timers have fired, and for the tools how far each queue of delayed messages has been delivered.
///
/// Memory: three positions, and about 20 bytes for each queue of delayed messages; nothing for a pending message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    mark: Watermark,
    delivered: BTreeMap<u32, u64>,
}

impl Timers {
    /// Which timers have fired.
    pub fn mark(&self) -> Watermark {
        self.mark
    }

    /// Behind the last message that was delivered out of this queue of delayed messages.
    pub fn delivered(&self, queue: u32) -> u64 {
        self.delivered.get(&queue).copied().unwrap_or(0)
    }

    fn advance(&mut self, at: PhysicalOffset, mark: Watermark) -> Result<(), FoldError> {
        if !self.mark.precedes(&mark) {
            return Err(FoldError::TimersBack { at, known: self.mark, found: mark });
        }
        self.mark = mark;
        Ok(())
    }
}

impl Fold for Timers {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        match &event.change {
            Change::TimersFired(TimersFired { mark, fired }) => {
                self.advance(event.at, *mark)?;
                for timer in fired {
                    let delivered = self.delivered.entry(timer.queue).or_default();
                    *delivered = timer.queue_offset.saturating_add(1).max(*delivered);
                }
                Ok(())
            }
            Change::TimersCarried(TimersCarried { mark }) => self.advance(event.at, *mark),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
