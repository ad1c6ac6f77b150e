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
//! | how long a message waits, how it comes here    | [`delay`]          |
//! | how a message is found that is recalled        | [`recalls`]        |
//! | when to look again                             | [`crate::engine`]  |
//!
//! Promises, and why they hold:
//!
//! - **Once.** A message and the record that its timer has fired are one unit of the log, so that a restart keeps both
//!   or neither. One engine appends such records, and its own watermark is that of the log's *appended* end: what the
//!   folds have applied meanwhile does not matter to it.
//! - **Not early, by the broker's wall clock.** A clock that is set back delays what waits by as much as it was set back,
//!   and begins a turn in which what is sent from then on is due by itself; one that is set forward lets fire what it says
//!   is due.
//! - **Late, not lost.** What became due while the broker was down, or becomes visible behind its turn, fires at once.
//! - **Recalled for good.** A recall is a record, and the engine's lock decides whether it or the unit with the message
//!   comes first: see [`TimerEngine::recall`].
//!
//! A delayed message outlives its topic: if one of that name exists when it is due, it is delivered there, even if the
//! topic was deleted and made anew meanwhile, as with Apache.
//!
//! One unit is on its way at a time: the engine goes on when the folds have applied it, so that a million timers that
//! are due together take no more of the log's room than a unit, and senders do not wait for them.
//!
//! [`delay`]: crate::delay
//! [`recalls`]: crate::handlers::recalls
//! [`folds::timers`]: crate::folds::timers

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use skylark_index::{SealedError, Timer};
use skylark_protocol::command::recall::RecallHandle;
use skylark_storage::{AppendError, PhysicalOffset, ReadError};

use crate::broker::Broker;
use crate::engine::{Bell, Next};
use crate::folds::Timers;
use crate::folds::fold::{Event, Fold, FoldError};
use crate::folds::timers::Pending;
use crate::system;

use engine::Engine;

mod engine;
mod schedule;
mod unit;

/// Messages that were recalled and whose time has not passed, at most: each is remembered until then.
const RECALLED_MAX: usize = 1 << 20;

/// Delivers what is due, and appends again what a trim would take.
///
/// Lock order: the engine's lock comes before those of the broker's other parts.
#[derive(Default)]
pub struct TimerEngine {
    /// The fold: written by [`apply`](Self::apply).
    pub folded: Mutex<Timers>,
    /// What waits, in bytes, as the fold has it: for senders, who do not take its lock.
    pending_bytes: AtomicU64,
    engine: Mutex<Engine>,
    bell: Bell,
    undeliverable: AtomicU64,
    /// When the first of those was due that should have fired by now; 0 if there is none.
    overdue_since_ms: AtomicU64,
    /// What may wait, in bytes; 0 until the disk was looked at.
    pending_bytes_max: AtomicU64,
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

/// Why nothing was recalled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecallError {
    /// The log does not take it.
    #[error("{0}")]
    Append(#[source] AppendError),
    /// It is being appended again just now, and the copy was not seen yet.
    #[error("the message is just being appended again for a trim; try again")]
    Moving,
    /// Too many are remembered already.
    #[error(
        "{RECALLED_MAX} messages are recalled whose time has not passed, which is the limit; try again later"
    )]
    TooMany,
}

impl TimerEngine {
    /// An engine that goes on from a snapshot's fold.
    pub fn new(folded: Timers) -> Self {
        let pending_bytes = AtomicU64::new(folded.pending().bytes);
        Self { folded: Mutex::new(folded), pending_bytes, ..Self::default() }
    }

    /// Applies a change. For the dispatcher alone.
    ///
    /// # Errors
    /// When the change contradicts those before it.
    pub fn apply(&self, event: &Event<'_>) -> Result<(), FoldError> {
        let mut folded = self.folded.lock();
        folded.apply(event)?;
        // Relaxed: a bound for senders, which may be a few behind.
        self.pending_bytes.store(folded.pending().bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Does what there is to do at this moment, and says what to wait for. Reads the disk for messages that have left
    /// memory.
    pub fn step(&self, broker: &Broker) -> Next {
        let mut engine = self.engine.lock();
        let (next, undeliverable) = engine.step(broker);
        // Relaxed: a figure for people.
        self.undeliverable.fetch_add(undeliverable, Ordering::Relaxed);
        next
    }

    /// Steps until the log stops, or [`close`](Self::close).
    pub fn run(&self, broker: &Broker) {
        self.bell.run(broker, || self.step(broker));
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

    /// Sees to it that none of these messages is delivered, which the handle names; all of them that lie before `seen`.
    /// Says behind which record that is certain, or that none of them waits any more. Waits for a unit that is being
    /// read to be delivered.
    ///
    /// The engine's lock decides the race with firing: either the unit with the message is in the log before the
    /// recall, and this finds nothing, or no unit behind it has the message. Once the record is durable, a restart
    /// keeps it so.
    ///
    /// # Errors
    /// See [`RecallError`]; nothing has changed.
    pub fn recall(
        &self,
        broker: &Broker,
        timers: &[Timer],
        seen: PhysicalOffset,
        handle: &RecallHandle<'_>,
    ) -> Result<Option<PhysicalOffset>, RecallError> {
        self.engine.lock().recall(broker, timers, seen, handle)
    }

    /// How much of the disk's bytes may wait, from here on.
    pub fn limit_pending(&self, bytes_max: u64) {
        // Relaxed: a send that sees it late is one of those before.
        self.pending_bytes_max.store(bytes_max.max(1), Ordering::Relaxed);
    }

    /// How many bytes may wait, if that is known yet.
    pub fn pending_bytes_max(&self) -> Option<u64> {
        Some(self.pending_bytes_max.load(Ordering::Relaxed)).filter(|max| *max > 0)
    }

    /// Why no further message may wait, if too much does. What is on its way into the log is not counted yet.
    pub fn refusal(&self) -> Option<String> {
        let bytes_max = self.pending_bytes_max()?;
        if self.pending_bytes.load(Ordering::Relaxed) < bytes_max {
            return None;
        }
        let Pending { messages, bytes } = self.folded.lock().pending();
        Some(format!(
            "{messages} delayed messages wait and take {bytes} bytes; further ones are refused above {bytes_max} \
             (pending-disk-percent)"
        ))
    }

    /// For how long messages have been due that are not delivered, in milliseconds.
    pub fn behind_ms(&self, now_ms: u64) -> u64 {
        match self.overdue_since_ms.load(Ordering::Relaxed) {
            0 => 0,
            since_ms => now_ms.saturating_sub(since_ms),
        }
    }

    fn set_overdue_since(&self, due_ms: Option<u64>) {
        // Relaxed: a figure for people.
        self.overdue_since_ms.store(due_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// Looks at no more timers together than this, from here on: where the limit is reached all the time, tests see
    /// what happens at it.
    pub fn look_at_most(&self, timers: usize) {
        self.engine.lock().look_at_most(timers);
    }

    /// Timers were applied, of which the first is due then.
    pub fn arrived(&self, due_ms: u64) {
        self.bell.arrived(due_ms);
    }

    /// Lets [`run`](Self::run) return.
    pub fn close(&self) {
        self.bell.close();
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
            (number + 1, folded.delivered(number + 1).max(range.start), range.end)
        });
        levels.filter(|(_, _, end)| *end > 0).collect()
    }
}
