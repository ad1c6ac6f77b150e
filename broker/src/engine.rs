//! How the broker's engines run: each on a thread of its own, in steps, until the log stops.
//!
//! A step decides, and says what to wait for; this waits. Tests make the steps themselves.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use skylark_storage::PhysicalOffset;

use crate::broker::Broker;

/// The clock is looked at again after this long, whatever it said: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// After a failed read, or where indexes are being rebuilt.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// What an engine waits for after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There may be more to do.
    Now,
    /// The folds have applied everything before this position.
    Applied(PhysicalOffset),
    /// It is this late, in milliseconds since 1970, or something arrives.
    Due(u64),
    /// Something arrives: nothing is known that is due at any time.
    Arrival,
    /// Something failed, and may not in a while.
    Later,
    /// Nothing: the log takes no more.
    Stopped,
}

/// Ends an engine's sleep.
#[derive(Default)]
pub struct Bell {
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Default)]
struct State {
    /// When the first of those is due that arrived since the engine last looked.
    earliest_ms: Option<u64>,
    /// It sleeps, or last did, for something that is due then: what is due later need not wake it.
    sleeps_until_ms: u64,
    is_closed: bool,
}

impl Bell {
    /// Steps until the log stops, or [`close`](Self::close).
    pub fn run(&self, broker: &Broker, mut step: impl FnMut() -> Next) {
        loop {
            {
                let mut state = self.state.lock();
                if state.is_closed {
                    return;
                }
                // Before the look, so that whatever arrives during it ends the sleep behind it.
                state.earliest_ms = None;
            }
            match step() {
                Next::Now => {}
                Next::Applied(end) => {
                    if broker.applied.wait_blocking(end).is_err() {
                        return;
                    }
                }
                Next::Due(due_ms) => {
                    let left = Duration::from_millis(due_ms.saturating_sub(broker.clock.wall_ms()));
                    self.sleep(left.min(LOOK_AGAIN), due_ms);
                }
                Next::Arrival => self.sleep(LOOK_AGAIN, u64::MAX),
                Next::Later => self.sleep(TRY_AGAIN, 0),
                Next::Stopped => return,
            }
        }
    }

    /// Something arrived that is due then.
    pub fn arrived(&self, due_ms: u64) {
        let mut state = self.state.lock();
        state.earliest_ms = Some(state.earliest_ms.map_or(due_ms, |earliest| earliest.min(due_ms)));
        let wakes = due_ms < state.sleeps_until_ms;
        drop(state);
        if wakes {
            self.rung.notify_all();
        }
    }

    /// Lets [`run`](Self::run) return.
    pub fn close(&self) {
        self.state.lock().is_closed = true;
        self.rung.notify_all();
    }

    /// Sleeps for so long, or until something arrives that is due before `due_ms`.
    fn sleep(&self, time: Duration, due_ms: u64) {
        let mut state = self.state.lock();
        state.sleeps_until_ms = due_ms;
        let sleeps = |state: &mut State| {
            !state.is_closed && state.earliest_ms.is_none_or(|earliest| earliest >= due_ms)
        };
        self.rung.wait_while_for(&mut state, sleeps, time);
    }
}
