//! The append lock, and whose duty it is to write what was staged under it.
//!
//! ```text
//!              an append that nobody gathers, or a release: rings the writer
//!   asleep ──────────────────────────────────────────────────────────────────► awake
//!     ▲ │                                                                     │ ▲  │
//!     │ └── a release that is alone: writes the group where it is ──┐         ▼ │  │
//!     └───────────── nothing is staged any more ◄───────────────────┴── lingers ┘──┘
//! ```
//!
//! While somebody is awake appends ring nobody: whoever drives looks under the lock once more before it rests. While
//! the writer lingers, which it does for a limited time, whoever brings what it lingers for rings it.
//!
//! Appends that rely on somebody who gathers ring nobody either. Should that take long, or never end, they are not
//! lost: the writer's sleep is limited too, and when it ends the writer takes what is there, whoever gathers.

use crate::log::AppendError;
use crate::log::shared::Shared;
use crate::poison::{Cause, Stopped};
use crate::staging::{Closed, OpenGroup, Staging};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use crate::writer::Press;

/// What appenders and whoever writes for them share. `P` is what writes.
pub(crate) struct Front<T, P = Press> {
    /// The append lock. Whoever holds it may go on to take a frontier's lock or a checkpoint's, never the reverse.
    locked: Mutex<Locked<T>>,
    /// How many are gathering: each of them looks under the lock when it has ended.
    gatherers: AtomicU64,
    /// What writes, until the writer is gone. Taken before the append lock.
    pub(crate) press: Mutex<Option<P>>,
}

/// What the append lock protects.
pub(crate) struct Locked<T> {
    pub(super) state: T,
    pub(super) staging: Staging,
    /// A callback is running under the lock, or has panicked there.
    in_callback: bool,
    is_closing: bool,
    watch: Watch,
}

/// Whether somebody drives.
#[derive(Clone, Copy, Debug)]
enum Watch {
    /// Somebody does, and will look under the lock before it rests.
    Awake,
    /// Nobody does: who stages something sees to it that somebody will.
    Asleep,
    /// The writer waits a little for one of these.
    Lingers(Lingering),
}

/// What there is to write.
pub(crate) enum Taken {
    /// The next group.
    Group(Closed),
    /// Nothing is staged.
    Nothing,
    /// Nothing is staged, and nothing will be: the log is to be closed.
    NoMore,
}

/// What ends a lingering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lingering {
    /// So many more have come with something to append.
    pub(crate) arrivals: usize,
    /// So many bytes have been staged by this opening.
    pub(crate) staged_bytes: u64,
}

impl<T, P> Front<T, P> {
    pub(crate) fn new(state: T, staging: Staging, press: P) -> Self {
        let locked = Locked { state, staging, in_callback: false, is_closing: false, watch: Watch::Awake };
        Self { locked: Mutex::new(locked), gatherers: AtomicU64::new(0), press: Mutex::new(Some(press)) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Locked<T>> {
        self.locked.lock()
    }

    /// Somebody begins to gather.
    pub(super) fn gather(&self) {
        // SeqCst, here and below: an append that still counts this gatherer comes, in the order of the append
        // lock, before the look that the gatherer takes under it when it has ended.
        self.gatherers.fetch_add(1, Ordering::SeqCst);
    }

    /// Somebody has ended to gather, and is about to look under the append lock.
    pub(super) fn end_gathering(&self) {
        self.gatherers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether somebody gathers.
    pub(super) fn is_gathered(&self) -> bool {
        self.gatherers.load(Ordering::SeqCst) > 0
    }

    /// Whether the append that has just staged something is to ring: not if somebody else will look.
    pub(super) fn rings(&self, locked: &mut Locked<T>) -> bool {
        !self.is_gathered() && locked.is_due()
    }

    /// Sees to it that somebody writes what is staged; whether the caller is to ring the writer for that.
    pub(super) fn look_after(&self) -> bool {
        self.lock().is_due()
    }

    /// As [`Self::look_after`], but where nobody else takes part, `write` is called with the group; it says whether the
    /// group needs the writer no more.
    pub(super) fn look_after_here(
        &self,
        is_alone: impl FnOnce(&P, Option<&OpenGroup>) -> bool,
        write: impl FnOnce(&mut P, Closed) -> bool,
    ) -> bool {
        // Not waited for: whoever works there looks under the append lock before it rests.
        let mut press = self.press.try_lock();
        let mut locked = self.lock();
        let duty = locked.arrive();
        if duty != Duty::Drive {
            return duty == Duty::Ring;
        }
        let press = press.as_mut().and_then(|press| press.as_mut());
        let press = press
            .filter(|press| !self.is_gathered() && is_alone(press, locked.staging.lone_group().as_ref()));
        let Some((press, group)) = press.and_then(|press| Some((press, locked.take()?))) else {
            return true;
        };
        drop(locked);
        // What waits for space, or was staged meanwhile and has company, is the writer's.
        !write(press, group) || !self.may_sleep()
    }

    /// What the writer is to do next. Asked once, under one lock: nothing may be staged between an answer that nothing is
    /// and another that nothing will be.
    pub(crate) fn take(&self) -> Taken {
        let mut locked = self.lock();
        match locked.take() {
            Some(group) => Taken::Group(group),
            None if locked.is_closing && !locked.in_callback => Taken::NoMore,
            None => Taken::Nothing,
        }
    }

    /// Refuses appends from now on.
    pub(crate) fn close(&self) {
        self.lock().is_closing = true;
    }

    /// Whether the log is to be closed once nothing is staged.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().is_closing
    }

    /// Lets whoever drives rest, unless there is something to do already.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut locked = self.lock();
        let sleeps = !locked.staging.has_group() && !locked.is_closing;
        locked.watch = if sleeps { Watch::Asleep } else { Watch::Awake };
        sleeps
    }

    /// Lets the writer linger for a while, unless what it lingers for is there.
    pub(crate) fn may_linger(&self, wanted: impl FnOnce(&Staging) -> Lingering) -> bool {
        let mut locked = self.lock();
        let wanted = wanted(&locked.staging);
        let lingers =
            !locked.is_closing && wanted.arrivals > 0 && locked.staging.staged_bytes() < wanted.staged_bytes;
        locked.watch = if lingers { Watch::Lingers(wanted) } else { Watch::Awake };
        lingers
    }

    /// Ends a lingering; how many have not arrived.
    pub(crate) fn end_lingering(&self) -> usize {
        match std::mem::replace(&mut self.lock().watch, Watch::Awake) {
            Watch::Lingers(left) => left.arrivals,
            Watch::Awake | Watch::Asleep => 0,
        }
    }
}

/// What somebody has to do who has staged something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Somebody drives.
    None,
    /// The writer lingers, and has what it lingers for: ring it.
    Ring,
    /// Nobody drives: ring the writer, or do its work.
    Drive,
}

impl<T> Locked<T> {
    pub(super) fn check(&self, shared: &Shared) -> Result<(), AppendError> {
        match shared.stop.reason() {
            Some(Stopped::Poisoned { at, cause }) => {
                Err(AppendError::Poisoned { at: *at, cause: cause.clone() })
            }
            Some(Stopped::Closed) => Err(AppendError::Closed),
            None if self.is_closing => Err(AppendError::Closed),
            None => Ok(()),
        }
    }

    /// Whether the writer is to be rung for what is staged.
    pub(super) fn is_due(&mut self) -> bool {
        self.arrive() != Duty::None
    }

    /// Somebody has come, and staged all it has: what it has to do about it.
    fn arrive(&mut self) -> Duty {
        if !self.staging.has_group() {
            return Duty::None;
        }
        let (next, duty) = match self.watch {
            Watch::Awake => return Duty::None,
            Watch::Asleep => (Watch::Awake, Duty::Drive),
            Watch::Lingers(left)
                if left.arrivals <= 1 || self.staging.staged_bytes() >= left.staged_bytes =>
            {
                (Watch::Awake, Duty::Ring)
            }
            Watch::Lingers(left) => {
                (Watch::Lingers(Lingering { arrivals: left.arrivals - 1, ..left }), Duty::None)
            }
        };
        self.watch = next;
        duty
    }

    /// The next group to write.
    fn take(&mut self) -> Option<Closed> {
        // Behind a panicked callback stands a record without a header.
        if self.in_callback { None } else { self.staging.take() }
    }

    /// Runs what calls back into the user's code. A panic there poisons the log before the lock is free again.
    pub(super) fn call_back<R>(&mut self, shared: &Shared, f: impl FnOnce(&mut T, &mut Staging) -> R) -> R {
        struct Alarm<'a>(&'a Shared);
        impl Drop for Alarm<'_> {
            fn drop(&mut self) {
                self.0.poison(Cause::Callback);
            }
        }
        let alarm = Alarm(shared);
        self.in_callback = true;
        let outcome = f(&mut self.state, &mut self.staging);
        self.in_callback = false;
        std::mem::forget(alarm);
        outcome
    }
}

#[cfg(all(test, loom))]
mod loom_model;
