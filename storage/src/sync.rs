//! The locks and atomics of the concurrent core: the real ones, or loom's where loom explores the interleavings.
//!
//! Everything that threads share in this crate is built from these, so that one switch (`--cfg loom`) puts it
//! under the model checker.

use std::sync::OnceLock;
use std::thread::{self, Thread};

#[cfg(not(loom))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub(crate) type MutexGuard<'a, T> = parking_lot::MutexGuard<'a, T>;
#[cfg(loom)]
pub(crate) type MutexGuard<'a, T> = loom::sync::MutexGuard<'a, T>;

/// loom's mutex without the poisoning that its threads never see.
#[cfg(loom)]
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(loom)]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("no thread of a model panics while it holds a lock")
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// Gives a lock back to whoever has waited longest: a thread that takes it again and again would otherwise keep others
/// out for as long.
#[cfg(not(loom))]
pub(crate) fn unlock_fair<T>(guard: MutexGuard<'_, T>) {
    MutexGuard::unlock_fair(guard);
}

/// Gives a lock back.
#[cfg(loom)]
pub(crate) fn unlock_fair<T>(guard: MutexGuard<'_, T>) {
    drop(guard);
}

/// A condition that threads wait for under a [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(#[cfg(not(loom))] parking_lot::Condvar, #[cfg(loom)] loom::sync::Condvar);

impl Condvar {
    /// Gives the lock back until somebody notifies. May also return without cause.
    #[cfg(not(loom))]
    pub(crate) fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(&mut guard);
        guard
    }

    /// Gives the lock back until somebody notifies.
    #[cfg(loom)]
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.0.wait(guard).expect("no thread of a model panics while it holds a lock")
    }

    /// Wakes everybody who waits.
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Wakes the one thread that sleeps behind it. A ring while it is awake lets its next sleep end at once.
#[derive(Debug, Default)]
pub(crate) struct Doorbell(OnceLock<Thread>);

impl Doorbell {
    /// From now on rings wake the calling thread.
    pub(crate) fn listen(&self) {
        self.0.get_or_init(thread::current);
    }

    /// Wakes the listener, if there is one.
    pub(crate) fn ring(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}
