//! Transactions: half messages become messages, or nothing, or are asked about.
//!
//! ```text
//!                              ┌── 37: [halves ended | message] ──► log
//!  send ──► half message ──► open ──► due: [halves checked] ──► log, then 39 to a producer of the group
//!                              └── asked too often: [halves ended | message for an operator] ──► log
//! ```
//!
//! | to change…                                       | open               |
//! |--------------------------------------------------|--------------------|
//! | which transactions are open, and how that is kept| [`folds::halves`]  |
//! | who may end one, and when one is asked about     | `open`             |
//! | what is done about those that are due            | `engine`           |
//! | what a half message becomes                      | `message`          |
//! | what producers and operators may ask for         | [`handlers::transactions`] |
//!
//! Promises, and why they hold:
//!
//! - **Once.** A transaction ends by one record, in one unit with the message it brings; whoever appends that record
//!   has claimed the transaction before, and nobody else can until the folds have applied it, or it was not appended.
//! - **By its producers.** The half message has to lie exactly where the request says, or have lain there first, and
//!   belong to the producer's group.
//! - **Not for ever.** A producer of the group is asked at most so many times; the count is in the log before the
//!   question is on its way. What nobody answers goes to [`system::HALF_EXPIRED_TOPIC`], where an operator finds it. A
//!   round in which no producer of the group is connected is no question: the transaction waits for one, but not longer
//!   than messages are kept.
//!
//! One unit of the engine's is on its way at a time, as with timers.
//!
//! Lock order: the engine's lock comes before those of the broker's other parts, that of the open transactions behind
//! the catalog's; under it nothing is appended, because dispatch, which makes room, needs it.
//!
//! [`folds::halves`]: crate::folds::halves
//! [`handlers::transactions`]: crate::handlers::transactions
//! [`system::HALF_EXPIRED_TOPIC`]: crate::system::HALF_EXPIRED_TOPIC

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use skylark_storage::PhysicalOffset;

use crate::broker::Broker;
use crate::engine::{Bell, Next};
use crate::folds::halves::{HalvesEnded, OpenHalf, Outcome};
use crate::folds::{Event, FoldError, Halves};
use crate::timers::{Carried, CarryError};

use engine::Engine;
use open::Open;

mod engine;
pub mod message;
mod open;

/// How transactions are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionPolicy {
    /// Half messages are taken.
    pub allowed: bool,
    /// A producer is first asked this long after its half message was stored, in milliseconds.
    pub timeout_ms: u64,
    /// And again after this long.
    pub check_interval_ms: u64,
    /// So often at most.
    pub checks_max: u32,
    /// Transactions that may be open; further half messages are refused.
    pub open_max: u64,
}

impl Default for TransactionPolicy {
    /// As with RocketMQ, which has no bound of what is open.
    fn default() -> Self {
        Self {
            allowed: true,
            timeout_ms: 6_000,
            check_interval_ms: 30_000,
            checks_max: 15,
            open_max: 2_000_000,
        }
    }
}

/// The open transactions, and what is done about them.
pub struct Transactions {
    open: Mutex<Open>,
    /// How many are open, as of the folds.
    count: AtomicU64,
    engine: Mutex<Engine>,
    bell: Bell,
}

/// What became of an open transaction that somebody wants to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is open.
    Open(OpenHalf),
    /// Its half message is being carried forward; look again once more was applied.
    Moving,
    /// It has ended, is about to, or never was.
    Gone,
}

/// The right to end a transaction, which nobody else has meanwhile. Given back when dropped.
pub struct Claim<'a> {
    of: &'a Transactions,
    at: Option<PhysicalOffset>,
}

impl Claim<'_> {
    /// The record that ends it was appended: the folds take the claim away.
    pub fn keep(mut self) {
        self.at = None;
    }

    /// The same, where the record lets nobody see anything of it.
    pub fn keep_withdrawn(mut self) {
        if let Some(at) = self.at.take() {
            self.of.open.lock().withdraw(at);
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            self.of.open.lock().release(at);
        }
    }
}

impl Transactions {
    /// Transactions that go on from a snapshot's fold.
    pub fn new(folded: Halves, policy: TransactionPolicy) -> Self {
        Self {
            count: AtomicU64::new(folded.len() as u64),
            open: Mutex::new(Open::new(folded, policy)),
            engine: Mutex::default(),
            bell: Bell::default(),
        }
    }

    /// Applies a record, at `now_ms` by the clock: from the dispatcher's thread only.
    ///
    /// # Errors
    /// When it contradicts those before it.
    pub fn apply(&self, event: &Event<'_>, now_ms: u64) -> Result<(), FoldError> {
        let mut open = self.open.lock();
        open.apply(event, now_ms)?;
        // Relaxed: a bound for senders, which may be a few behind.
        self.count.store(open.folded().len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The fold: written by the dispatcher.
    pub fn folded(&self) -> MappedMutexGuard<'_, Halves> {
        MutexGuard::map(self.open.lock(), Open::folded_mut)
    }

    /// How many transactions are open.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// What became of the transaction whose half message lies at this place, or lay there first; and its group.
    pub fn standing(&self, place: PhysicalOffset) -> (Standing, String) {
        let open = self.open.lock();
        let standing = open.standing(place);
        let group = match &standing {
            Standing::Open(found) => open.folded().group(&found.half).to_owned(),
            Standing::Moving | Standing::Gone => String::new(),
        };
        (standing, group)
    }

    /// Whether consumers will get nothing of the transaction whose half message lies at this place, or lay there first,
    /// and that is in the log, but not applied yet.
    pub fn is_withdrawn(&self, place: PhysicalOffset) -> bool {
        self.open.lock().is_withdrawn(place)
    }

    /// What these ends withdraw: to be asked before they are applied.
    pub fn withdrawn_by(&self, ended: &HalvesEnded) -> Vec<u64> {
        let withdrawn = ended.ended.iter().filter(|ended| ended.outcome != Outcome::Committed);
        let mut withdrawn = withdrawn.map(|ended| ended.at).peekable();
        if withdrawn.peek().is_none() {
            return Vec::new();
        }
        let open = self.open.lock();
        let origin = |at| Some(open.folded().at(PhysicalOffset::new(at))?.origin.get());
        withdrawn.filter_map(origin).collect()
    }

    /// Takes the right to end the transaction whose half message lies here, if it is open and nobody has it.
    pub fn claim(&self, at: PhysicalOffset) -> Option<Claim<'_>> {
        self.open.lock().claim(at).then_some(Claim { of: self, at: Some(at) })
    }

    /// Does what there is to do at this moment, and says what to wait for. Reads the disk for messages that have left
    /// memory.
    pub fn step(&self, broker: &Broker) -> Next {
        self.engine.lock().step(broker, &self.open)
    }

    /// Steps until the log stops, or [`close`](Self::close).
    pub fn run(&self, broker: &Broker) {
        self.bell.run(broker, || self.step(broker));
    }

    /// Lets [`run`](Self::run) return.
    pub fn close(&self) {
        self.bell.close();
    }

    /// Appends again one unit of those half messages of open transactions that lie below `below`, so that the log can
    /// be trimmed to there: to be called as [`TimerEngine::carry_forward`].
    ///
    /// # Errors
    /// See [`CarryError`]; try again later, but for a log that has stopped.
    ///
    /// [`TimerEngine::carry_forward`]: crate::timers::TimerEngine::carry_forward
    pub fn carry_forward(&self, broker: &Broker, below: PhysicalOffset) -> Result<Carried, CarryError> {
        self.engine.lock().carry_forward(broker, &self.open, below)
    }
}
