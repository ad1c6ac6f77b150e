//! How much readers may take from the disk while groups are being written.
//!
//! A replay reads as fast as it is let, and takes a processor, the disk's queue and the memory bus from those who
//! append. Neither of them can be told to wait for the other by the system, so the replay is slowed here: not at all
//! while nobody appends.

use std::time::Duration;

use crate::offset::PhysicalOffset;
use crate::sync::Mutex;

/// Shares out what may be read, in the order in which it is asked for: each reader gets its turn.
pub(super) struct Budget {
    bytes_per_second: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When what has been shared out is used up.
    used_until: Duration,
    /// The written end when it was last seen to move, and when that was.
    seen: (PhysicalOffset, Duration),
    /// It is at least this late, say those who have waited: by a clock that stands still nobody's turn would come.
    now_min: Duration,
}

/// When a reader may go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// How long to wait for it.
    pub(super) pause: Duration,
    /// What the time is then.
    at: Duration,
}

/// For so long after the last group the log counts as being written to.
const BUSY: Duration = Duration::from_millis(50);
/// What has not been used of so much time may be used at once.
const BURST: Duration = Duration::from_millis(10);
/// Nobody waits longer, however much others have taken.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Who looks up a record does not wait.
const FREE_BYTES_MAX: u64 = 16 << 10;

impl Budget {
    pub(super) fn new(bytes_per_second: u64, written_end: PhysicalOffset) -> Self {
        let state = State { seen: (written_end, Duration::ZERO), ..State::default() };
        Self { bytes_per_second: bytes_per_second.max(1), state: Mutex::new(state) }
    }

    /// Takes so much out of the budget of a log that has been written up to `written_end`, and returns when it may be
    /// read. Who has waited for that says so with [`Self::waited`].
    pub(super) fn spend(&self, bytes: u64, written_end: PhysicalOffset, now: Duration) -> Turn {
        if bytes <= FREE_BYTES_MAX {
            return Turn::default();
        }
        let state = &mut *self.state.lock();
        let now = now.max(state.now_min);
        if written_end != state.seen.0 {
            state.seen = (written_end, now);
        } else if now.saturating_sub(state.seen.1) > BUSY {
            return Turn::default();
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(WAIT_MAX);
        let from = state.used_until.max(now.saturating_sub(BURST));
        state.used_until = (from + cost).min(now + WAIT_MAX);
        Turn { pause: state.used_until.saturating_sub(now), at: state.used_until }
    }

    /// Notes that a reader has waited for its turn.
    pub(super) fn waited(&self, turn: Turn) {
        let state = &mut *self.state.lock();
        state.now_min = state.now_min.max(turn.at);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(offset: u64) -> PhysicalOffset {
        PhysicalOffset::new(offset)
    }

    #[test]
    fn nobody_waits_while_nobody_appends() {
        let budget = Budget::new(MIB, at(7));
        for second in 1..100 {
            assert_eq!(budget.spend(MIB, at(7), Duration::from_secs(second)).pause, Duration::ZERO);
        }
    }

    #[test]
    fn readers_share_the_rate_while_groups_are_written() {
        let budget = Budget::new(100 * MIB, at(0));
        let (mut now, mut read) = (Duration::from_secs(1), 0);
        let end = now + Duration::from_secs(2);
        for group in 1.. {
            if now >= end {
                break;
            }
            now += budget.spend(MIB / 4, at(group), now).pause;
            read += MIB / 4;
        }
        assert!((190 * MIB..210 * MIB).contains(&read), "{read}");
        // Behind the last group it is over.
        budget.spend(MIB, at(u64::MAX), now);
        let later = budget.spend(MIB, at(u64::MAX), now + Duration::from_millis(60));
        assert_eq!(later.pause, Duration::ZERO);
    }

    #[test]
    fn a_lookup_does_not_wait_and_nobody_waits_for_ever() {
        let budget = Budget::new(MIB, at(0));
        for group in 1..100 {
            assert!(budget.spend(100 * MIB, at(group), Duration::ZERO).pause <= WAIT_MAX);
        }
        assert_eq!(budget.spend(4096, at(100), Duration::ZERO).pause, Duration::ZERO);
    }

    #[test]
    fn waits_do_not_grow_by_a_clock_that_stands_still() {
        let budget = Budget::new(100 * MIB, at(0));
        let mut waited = Duration::ZERO;
        for group in 1..=100 {
            let turn = budget.spend(MIB, at(group), Duration::ZERO);
            waited += turn.pause;
            budget.waited(turn);
        }
        assert!((900..=1100).contains(&waited.as_millis()), "{waited:?}");
    }
}
