//! The timer engine: delivers delayed messages once they are due.
//!
//! ```text
//!  index: (due, position) ──► schedule: what is next ──► unit: [timers fired | messages] ──► log
//!                                       ▲                                                    │
//!                                       └── watermark: what has fired ◄──────────────────────┘
//! ```
//!
//! | to change…                                     | open               |
//! |------------------------------------------------|--------------------|
//! | which timers have fired, and how that is kept  | [`folds::timers`]  |
//! | which timer is next                            | `schedule`         |
//! | what a due message looks like, and its unit    | `unit`             |
//! | how long a level is, how a message comes here  | [`delay`]          |
//! | when to look again                             | this file          |
//!
//! Promises, and why they hold:
//!
//! - **Once.** A message and the record that its timer has fired are one unit of the log, so that a restart keeps both
//!   or neither. One engine appends such records, and its own watermark is that of the log's *appended* end: what the
//!   folds have applied meanwhile does not matter to it.
//! - **Not early, by the broker's wall clock.** A clock that is set back delays what waits, and what is sent until it
//!   has caught up, by as much as it was set back; one that is set forward lets fire what it says is due.
//! - **Late, not lost.** What became due while the broker was down, or becomes visible behind its turn, fires at once.
//!
//! A delayed message outlives its topic: if one of that name exists when it is due, it is delivered there, even if the
//! topic was deleted and made anew meanwhile, as with Apache.
//!
//! One unit is on its way at a time: the engine goes on when the folds have applied it, so that a million timers that
//! are due together take no more of the log's room than a unit, and senders do not wait for them.
//!
//! [`delay`]: crate::delay
//! [`folds::timers`]: crate::folds::timers

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use skylark_index::SealedError;
use skylark_storage::{AppendError, PhysicalOffset, ReadError};

use crate::broker::Broker;
use crate::folds::Timers;
use crate::system;

use engine::Engine;

mod engine;
mod schedule;
mod unit;

/// The clock is looked at again after this long, whatever it said: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// After a failed read, or where indexes are being rebuilt.
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// Delivers what is due, and appends again what a trim would take.
///
/// Lock order: the engine's lock comes before those of the broker's other parts.
#[derive(Default)]
pub struct TimerEngine {
    /// The fold: written by the dispatcher.
    pub folded: Mutex<Timers>,
    engine: Mutex<Engine>,
    bell: Mutex<Bell>,
    rung: Condvar,
    undeliverable: AtomicU64,
}

/// What ends the engine's sleep.
#[derive(Default)]
struct Bell {
    /// When the first of the timers is due that came since the engine last looked.
    earliest_ms: Option<u64>,
    is_closed: bool,
}

/// What the engine waits for after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There may be more to do.
    Now,
    /// The folds have applied everything before this position.
    Applied(PhysicalOffset),
    /// It is this late, in milliseconds since 1970, or a timer arrives.
    Due(u64),
    /// A timer arrives: none is known.
    Arrival,
    /// Something failed, and may not in a while.
    Later,
    /// Nothing: the log takes no more.
    Stopped,
}

/// What became of a step of [`TimerEngine::carry_forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// There is more to be appended again.
    Some {
        /// Everything so far lies before this.
        end: PhysicalOffset,
    },
    /// Nothing is left that a trim would lose, once everything before `end` is durable and applied.
    All {
        /// Everything lies before this.
        end: PhysicalOffset,
    },
}

/// Why timers could not be appended again. Those that were are, and the rest still lies where it did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CarryError {
    /// The log has no room for them just now.
    #[error("the log has no room just now: {0}")]
    NoRoom(#[source] AppendError),
    /// The folds have not come that far.
    #[error("not every timer is indexed yet")]
    NotApplied,
    /// An index file did not answer. One that is damaged or gone is built again meanwhile.
    #[error("{0}")]
    Index(#[source] SealedError),
    /// A delayed message could not be read just now.
    #[error("{0}")]
    Read(#[source] ReadError),
    /// The log takes no more.
    #[error("the log has stopped")]
    Stopped,
}

impl TimerEngine {
    /// An engine that goes on from a snapshot's fold.
    pub fn new(folded: Timers) -> Self {
        Self { folded: Mutex::new(folded), ..Self::default() }
    }

    /// Does what there is to do at this moment, and says what to wait for. Reads the disk for messages that have left
    /// memory.
    pub fn step(&self, broker: &Broker) -> Next {
        let mut engine = self.engine.lock();
        // Before the look, so that whoever arrives during it ends the sleep behind it.
        self.bell.lock().earliest_ms = None;
        let (next, undeliverable) = engine.step(broker);
        // Relaxed: a figure for people.
        self.undeliverable.fetch_add(undeliverable, Ordering::Relaxed);
        next
    }

    /// Steps until the log stops, or [`close`](Self::close).
    pub fn run(&self, broker: &Broker) {
        while !self.bell.lock().is_closed {
            match self.step(broker) {
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

    /// Appends again one unit of those pending timers that lie below `below`, so that the log can be trimmed to there:
    /// call it until it says that these were all, wait until the last end is durable and applied, and trim. Timers
    /// fire meanwhile; a copy that does so leaves nothing behind.
    ///
    /// # Errors
    /// See [`CarryError`]; try again later, but for a log that has stopped.
    pub fn carry_forward(&self, broker: &Broker, below: PhysicalOffset) -> Result<Carried, CarryError> {
        let (carried, undeliverable) = self.engine.lock().carry_forward(broker, below);
        // Relaxed: a figure for people.
        self.undeliverable.fetch_add(undeliverable, Ordering::Relaxed);
        carried
    }

    /// Looks at no more timers together than this, from here on: where the limit is reached all the time, tests see
    /// what happens at it.
    pub fn look_at_most(&self, timers: usize) {
        self.engine.lock().look_at_most(timers);
    }

    /// Timers were applied, of which the first is due then.
    pub fn arrived(&self, due_ms: u64) {
        let mut bell = self.bell.lock();
        bell.earliest_ms = Some(bell.earliest_ms.map_or(due_ms, |earliest| earliest.min(due_ms)));
        drop(bell);
        self.rung.notify_all();
    }

    /// Lets [`run`](Self::run) return.
    pub fn close(&self) {
        self.bell.lock().is_closed = true;
        self.rung.notify_all();
    }

    /// Due messages that nobody can get: their topic is gone, or they cannot be read. Counted since the start.
    pub fn undeliverable(&self) -> u64 {
        self.undeliverable.load(Ordering::Relaxed)
    }

    /// How far each level has been delivered: level, offset of the next message to deliver, and of the next to come.
    /// Levels that were never used are left out.
    pub fn progress(&self, broker: &Broker) -> Vec<(u32, u64, u64)> {
        let catalog = broker.catalog.read();
        let index = broker.index.read();
        let folded = self.folded.lock();
        let queues = (0..).zip(catalog.queues(system::SCHEDULE_TOPIC).unwrap_or_default());
        let levels = queues.map(|(number, queue)| {
            let range = index.range(*queue);
            // What was trimmed was delivered, or appended again.
            (number + 1, folded.delivered(number).max(range.start), range.end)
        });
        levels.filter(|(_, _, end)| *end > 0).collect()
    }

    /// Sleeps for so long, or until a timer arrives that is due before `due_ms`.
    fn sleep(&self, time: Duration, due_ms: u64) {
        let mut bell = self.bell.lock();
        let sleeps =
            |bell: &mut Bell| !bell.is_closed && bell.earliest_ms.is_none_or(|earliest| earliest >= due_ms);
        self.rung.wait_while_for(&mut bell, sleeps, time);
    }
}
