//! Pins: who still needs old segments, and for how long.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::frontier::Frontier;
use crate::offset::PhysicalOffset;
use crate::sync::Mutex;

/// No lease is longer. Whoever needs more renews.
pub const LEASE_MAX: Duration = Duration::from_secs(3600);
/// So many pins may exist at a time.
pub const PINS_MAX: usize = 1024;

/// Holds the log from a place on: while its lease lasts, trims by age and by size stop at the segment that holds the
/// place. Dropped, it holds nothing any more.
///
/// It yields where the disk is too full, and to an explicit [`CommitLog::trim`](crate::CommitLog::trim): then
/// [`Self::is_lost`] says so, and reads below say [`ReadError::Trimmed`](crate::ReadError::Trimmed). Pins are kept in
/// memory alone: an opening begins with none.
pub struct Pin {
    pins: Arc<Pins>,
    number: u64,
}

/// What there is to know about a pin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinInfo {
    /// Who holds it, for a person.
    pub holder: Arc<str>,
    /// Everything from here on is held.
    pub from: PhysicalOffset,
    /// What is left of its lease; zero when that has expired.
    pub expires_in: Duration,
    /// Some of what it held was given up.
    pub is_lost: bool,
}

/// Why a pin was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The log begins behind the place, or is about to.
    #[error("offset {from} cannot be pinned: what lies below {kept} is given up")]
    Trimmed {
        /// What was to be held.
        from: PhysicalOffset,
        /// The first byte that can be.
        kept: PhysicalOffset,
    },
    /// It could hold up trims for too long.
    #[error("a lease of {lease:?} is too long for a pin; at most {LEASE_MAX:?}, to be renewed")]
    LeaseTooLong {
        /// What was asked for.
        lease: Duration,
    },
    /// Somebody does not let go of theirs.
    #[error("there are {PINS_MAX} pins already")]
    TooMany,
}

/// A pin does not hold any more what it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pin at {from} was overtaken: the log begins at {trimmed}")]
#[non_exhaustive]
pub struct PinLost {
    /// What it held.
    pub from: PhysicalOffset,
    /// Where the log begins.
    pub trimmed: PhysicalOffset,
}

/// The pins of a log. Taken before no other lock.
pub(crate) struct Pins {
    clock: Arc<dyn Clock>,
    /// Where the log begins.
    trimmed: Frontier,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    held: BTreeMap<u64, Held>,
    next_number: u64,
    /// Below it retention has decided against pins, though the log may not be trimmed there yet.
    floor: PhysicalOffset,
}

struct Held {
    holder: Arc<str>,
    from: PhysicalOffset,
    lease: Duration,
    expires_at: Duration,
}

impl Pins {
    pub(crate) fn new(clock: Arc<dyn Clock>, trimmed: Frontier) -> Arc<Self> {
        Arc::new(Self { clock, trimmed, table: Mutex::new(Table::default()) })
    }

    pub(crate) fn pin(
        self: &Arc<Self>,
        from: PhysicalOffset,
        lease: Duration,
        holder: &str,
    ) -> Result<Pin, PinError> {
        if lease > LEASE_MAX {
            return Err(PinError::LeaseTooLong { lease });
        }
        let expires_at = self.clock.monotonic().saturating_add(lease);
        let mut table = self.table.lock();
        let kept = self.trimmed.get().max(table.floor);
        if from < kept {
            return Err(PinError::Trimmed { from, kept });
        }
        if table.held.len() >= PINS_MAX {
            return Err(PinError::TooMany);
        }
        let number = table.next_number;
        table.next_number += 1;
        table.held.insert(number, Held { holder: holder.into(), from, lease, expires_at });
        drop(table);
        Ok(Pin { pins: Arc::clone(self), number })
    }

    pub(crate) fn list(&self) -> Vec<PinInfo> {
        let now = self.clock.monotonic();
        let table = self.table.lock();
        self.infos(&table, now)
    }

    /// Lets `decide` look at the pins and say where the log may begin: no pin below is granted until the next
    /// decision.
    pub(super) fn decide<R>(
        &self,
        now: Duration,
        decide: impl FnOnce(&[PinInfo]) -> (Option<PhysicalOffset>, R),
    ) -> R {
        let mut table = self.table.lock();
        let (to, answer) = decide(&self.infos(&table, now));
        table.floor = to.unwrap_or(PhysicalOffset::ZERO);
        answer
    }

    fn infos(&self, table: &Table, now: Duration) -> Vec<PinInfo> {
        let trimmed = self.trimmed.get();
        table.held.values().map(|held| held.info(now, trimmed)).collect()
    }

    /// Gives `f` the pin, and where the latest cut may begin the log.
    fn with<R>(&self, number: u64, f: impl FnOnce(&mut Held, PhysicalOffset) -> R) -> R {
        let table = &mut *self.table.lock();
        f(table.held.get_mut(&number).expect("a pin is in the table until it is dropped"), table.floor)
    }
}

impl Held {
    fn info(&self, now: Duration, trimmed: PhysicalOffset) -> PinInfo {
        PinInfo {
            holder: Arc::clone(&self.holder),
            from: self.from,
            expires_in: self.expires_at.saturating_sub(now),
            is_lost: self.from < trimmed,
        }
    }
}

impl PinInfo {
    /// Whether trims by age and size stop for it.
    pub fn is_holding(&self) -> bool {
        !self.is_lost && self.expires_in > Duration::ZERO
    }
}

impl Pin {
    /// What it holds, for how long.
    pub fn info(&self) -> PinInfo {
        let now = self.pins.clock.monotonic();
        let trimmed = self.pins.trimmed.get();
        self.pins.with(self.number, |held, _| held.info(now, trimmed))
    }

    /// Lets go of what lies below `from`, and renews the lease: whoever gets on is alive. A place further back than
    /// the pin's own changes nothing but the lease.
    ///
    /// # Errors
    /// When the log begins behind the place by now. The pin stays lost until it is moved far enough.
    pub fn advance(&self, from: PhysicalOffset) -> Result<(), PinLost> {
        let now = self.pins.clock.monotonic();
        let (from, floor) = self.pins.with(self.number, |held, floor| {
            held.from = held.from.max(from);
            held.expires_at = now.saturating_add(held.lease);
            (held.from, floor)
        });
        // After the lease, so that a decision behind this line sees it; one that was taken before goes on.
        let trimmed = self.pins.trimmed.get().max(floor);
        if from < trimmed { Err(PinLost { from, trimmed }) } else { Ok(()) }
    }

    /// Begins the lease anew, as if it had not expired.
    ///
    /// # Errors
    /// When the log was trimmed behind the pin's place.
    pub fn renew(&self) -> Result<(), PinLost> {
        self.advance(PhysicalOffset::ZERO)
    }

    /// Whether some of what it held was given up: the disk was too full, its lease had expired, or somebody trimmed
    /// the log there.
    pub fn is_lost(&self) -> bool {
        self.info().is_lost
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.table.lock().held.remove(&self.number);
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pin").field(&self.info()).finish()
    }
}
