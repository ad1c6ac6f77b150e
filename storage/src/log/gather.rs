//! Appending several units before anybody is woken, and writing them without waking anybody.

use std::fmt;
use std::marker::PhantomData;

use crate::log::{AppendError, Appended, CommitLog};
use crate::poison::Stopped;
use crate::staging::{NewRecord, Place};

/// While it lives, appends to the log wake no writer that sleeps; when it ends, whoever must be woken is.
///
/// For whoever has several units to append one after the other: they then share a group, and a wake-up. A writer
/// that is awake takes what is there as ever. Ends on the thread that it began on, and soon: other appends may
/// rely on it, so nothing is to be waited for meanwhile. One that takes long, or is forgotten, keeps them waiting for
/// 100 ms at most: then the writer looks by itself.
#[must_use = "it ends where it drops"]
pub struct Gather<'a, T: Send + 'static> {
    log: &'a CommitLog<T>,
    /// Bound to its thread, so that no task can hold one while it waits.
    _bound: PhantomData<*const ()>,
}

/// As [`Gather`], for whoever cannot borrow the log while it gathers: it begins and ends as often as its owner says.
///
/// Its owner ends it before it waits for anything: meanwhile appends of others may rely on it.
pub struct Gatherer<T: Send + 'static> {
    log: CommitLog<T>,
    gathers: bool,
}

/// Why a unit is not known to be durable.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// It was not appended.
    #[error(transparent)]
    Refused(#[from] AppendError),
    /// It was appended, and the log has stopped before it was known to be durable: whether it is there after the
    /// next opening is not known.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl<T: Send + 'static> CommitLog<T> {
    /// Begins to gather: see [`Gather`].
    pub fn gather(&self) -> Gather<'_, T> {
        self.front.gather();
        Gather { log: self, _bound: PhantomData }
    }

    /// Somebody who may gather: see [`Gatherer`].
    pub fn gatherer(&self) -> Gatherer<T> {
        Gatherer { log: self.clone(), gathers: false }
    }

    /// Appends a unit, as [`Self::append`] does, and returns once it is durable. Blocks: not for async threads. Where
    /// nobody else appends, the calling thread writes the unit itself, and no other thread has to wake up.
    ///
    /// # Errors
    /// When the unit is refused, or the log stops before the unit is durable.
    ///
    /// # Panics
    /// As [`Self::append`].
    pub fn append_durable(
        &self,
        unit: &[NewRecord<'_>],
        fill: impl FnMut(&mut T, Place, &mut [u8]),
    ) -> Result<Appended, CommitError> {
        let gather = self.gather();
        let appended = self.append(unit, fill)?;
        gather.write_here();
        self.durable().wait_blocking(appended.end)?;
        Ok(appended)
    }

    /// Sees to it that somebody writes what is staged.
    fn look_after(&self) {
        if self.front.look_after() {
            self.shared.writer_bell.ring();
        }
    }

    /// As [`Self::look_after`], but writes what nobody else takes part in.
    fn look_after_here(&self) {
        let rings = self.front.look_after_here(
            |press, group| press.is_alone(group),
            |press, group| {
                let mut is_written = false;
                self.shared.guard_thread("writer", || is_written = press.write_alone(&self.front, group));
                is_written
            },
        );
        if rings {
            self.shared.writer_bell.ring();
        }
        // Those who came while the group was under way are told here: no writer wakes up for them.
        self.shared.written.wake();
        self.shared.durable.wake();
    }
}

impl<T: Send + 'static> Gather<'_, T> {
    /// Ends it: a writer that sleeps is woken if there is something to write.
    pub fn release(self) {}

    /// Ends it, and writes and flushes what is staged on the calling thread, if that is little, nobody else takes part
    /// and the writer sleeps; otherwise as [`Self::release`]. The thread may be blocked for as long as a flush takes,
    /// so a runtime of async tasks needs another one.
    pub fn write_here(self) {
        let log = self.log;
        std::mem::forget(self);
        log.front.end_gathering();
        log.look_after_here();
    }
}

impl<T: Send + 'static> Drop for Gather<'_, T> {
    fn drop(&mut self) {
        self.log.front.end_gathering();
        self.log.look_after();
    }
}

impl<T: Send + 'static> Gatherer<T> {
    /// Begins to gather, unless it does already.
    pub fn begin(&mut self) {
        if !std::mem::replace(&mut self.gathers, true) {
            self.log.front.gather();
        }
    }

    /// Ends it, if it gathers, as [`Gather::release`] does.
    pub fn release(&mut self) {
        if std::mem::take(&mut self.gathers) {
            self.log.front.end_gathering();
            self.log.look_after();
        }
    }

    /// Ends it, if it gathers, as [`Gather::write_here`] does.
    pub fn write_here(&mut self) {
        if std::mem::take(&mut self.gathers) {
            self.log.front.end_gathering();
            self.log.look_after_here();
        }
    }
}

impl<T: Send + 'static> Drop for Gatherer<T> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<T: Send + 'static> fmt::Debug for Gatherer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gatherer").field("log", &self.log).field("gathers", &self.gathers).finish()
    }
}

impl<T: Send + 'static> fmt::Debug for Gather<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather").field("log", self.log).finish()
    }
}
