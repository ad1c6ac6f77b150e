//! Published offsets, and who waits for them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};

use smallvec::SmallVec;

use crate::offset::PhysicalOffset;
use crate::poison::Stopped;
use crate::sync::{AtomicU64, Doorbell, Mutex, Ordering, fence};

/// An end that only grows: one writer, any number of readers, and whoever waits until it gets somewhere.
///
/// A waiter is woken once: when the frontier has reached its offset, or when the log stops. Where many are reached
/// at once, those who are awake already help to wake the others, so that whoever moves the frontier can go on.
#[derive(Clone)]
pub struct Frontier {
    shared: Arc<Shared>,
}

/// A place among the waiters of a frontier. Dropping it gives the place up.
#[derive(Default)]
pub struct Registration {
    place: Option<(Arc<Shared>, Place)>,
}

/// Ordered by offset, so that those who can be woken come first; the number tells equal offsets apart.
type Place = (u64, u64);

struct Shared {
    end: AtomicU64,
    /// The lowest offset that anybody waits for, so that publishing to nobody takes no lock.
    nearest: AtomicU64,
    waiters: Mutex<Waiters>,
    /// Rung when somebody begins to wait: whoever moves this frontier may be in no hurry otherwise.
    asked: Option<Arc<Doorbell>>,
}

#[derive(Default)]
struct Waiters {
    table: BTreeMap<Place, Waker>,
    next_number: u64,
    stopped: Option<Stopped>,
}

/// How many wakers are taken out under the lock at a time.
const WOKEN_AT_A_TIME: usize = 32;
/// How many the owner of a frontier wakes who is in a hurry.
const WOKEN_TO_HELP: usize = if cfg!(loom) { 1 } else { 4 };
/// How many everybody wakes who was woken.
const WOKEN_BY_EACH: usize = if cfg!(loom) { 1 } else { 2 };
/// Nobody waits.
const NOBODY: u64 = u64::MAX;

impl Frontier {
    pub(crate) fn new(end: PhysicalOffset, asked: Option<Arc<Doorbell>>) -> Self {
        let shared = Shared {
            end: AtomicU64::new(end.get()),
            nearest: AtomicU64::new(NOBODY),
            waiters: Mutex::new(Waiters::default()),
            asked,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Where the frontier stands.
    pub fn get(&self) -> PhysicalOffset {
        // Acquire: whoever sees this offset also sees the bytes below it.
        PhysicalOffset::new(self.shared.end.load(Ordering::Acquire))
    }

    /// Ready once everything below `end` lies below the frontier; until then `waker` takes the place of whatever
    /// `registration` held before, here or at another frontier.
    ///
    /// # Errors
    /// When the log has stopped short of `end`.
    pub fn wait(
        &self,
        registration: &mut Registration,
        end: PhysicalOffset,
        waker: &Waker,
    ) -> Poll<Result<(), Stopped>> {
        registration.cancel();
        if self.get() >= end {
            return Poll::Ready(Ok(()));
        }
        let place = {
            let mut waiters = self.shared.waiters.lock();
            if let Some(stopped) = &waiters.stopped {
                // It may have got there before it stopped.
                let is_reached = self.get() >= end;
                return Poll::Ready(if is_reached { Ok(()) } else { Err(stopped.clone()) });
            }
            let place = (end.get(), waiters.next_number);
            waiters.next_number += 1;
            waiters.table.insert(place, waker.clone());
            self.shared.note_nearest(&waiters);
            place
        };
        registration.place = Some((Arc::clone(&self.shared), place));
        // SeqCst, as in `advance`: either this load sees the new end, or the publisher's look at `nearest` comes later
        // than the store above and sees that somebody waits.
        fence(Ordering::SeqCst);
        if self.shared.end.load(Ordering::Acquire) >= end.get() {
            registration.cancel();
            return Poll::Ready(Ok(()));
        }
        if let Some(asked) = &self.shared.asked {
            asked.ring();
        }
        Poll::Pending
    }

    /// Sleeps until everything below `end` lies below the frontier.
    ///
    /// # Errors
    /// When the log has stopped short of `end`.
    pub fn wait_blocking(&self, end: PhysicalOffset) -> Result<(), Stopped> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut registration = Registration::default();
        loop {
            if let Poll::Ready(outcome) = self.wait(&mut registration, end, &waker) {
                return outcome;
            }
            thread::park();
        }
    }

    /// Moves the end, for readers; [`Self::wake`] is due afterwards.
    pub(crate) fn advance(&self, end: PhysicalOffset) {
        debug_assert!(self.get() <= end, "a frontier only grows");
        // Release, which `get` relies on; the fence stands between this store and every later look at `nearest`.
        self.shared.end.store(end.get(), Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// Wakes everybody whom the frontier has reached; how many that were.
    pub(crate) fn wake(&self) -> usize {
        let mut woken = 0;
        loop {
            match self.shared.wake_some(WOKEN_AT_A_TIME) {
                0 => return woken,
                more => woken += more,
            }
        }
    }

    /// Wakes the first of those whom the frontier has reached, who wake the others as soon as they ask where the
    /// frontier stands or give up. As they may take their time, [`Self::wake`] is due before the caller rests.
    pub(crate) fn begin_to_wake(&self) {
        self.shared.wake_some(WOKEN_TO_HELP);
    }

    /// How many the frontier has reached and nobody has woken.
    pub(crate) fn reached(&self) -> usize {
        let end = self.shared.end.load(Ordering::Relaxed);
        if self.shared.nearest.load(Ordering::SeqCst) > end {
            return 0;
        }
        self.shared.waiters.lock().table.range(..=(end, u64::MAX)).count()
    }

    /// Whether somebody waits for an offset at or below `end`.
    pub(crate) fn is_awaited(&self, end: PhysicalOffset) -> bool {
        self.shared.nearest.load(Ordering::SeqCst) <= end.get()
    }

    /// Whether anybody waits for an offset that a log gets to.
    pub(crate) fn has_waiters(&self) -> bool {
        self.shared.nearest.load(Ordering::SeqCst) != NOBODY
    }

    /// Fails everybody who waits, now and later, for what the frontier has not reached.
    pub(crate) fn stop(&self, reason: &Stopped) {
        let table = {
            let mut waiters = self.shared.waiters.lock();
            waiters.stopped.get_or_insert_with(|| reason.clone());
            let table = std::mem::take(&mut waiters.table);
            self.shared.note_nearest(&waiters);
            table
        };
        table.into_values().for_each(Waker::wake);
    }
}

/// A frontier of one's own, for whoever follows the log and has others wait for it, as a fold does. Only its owner
/// can move it; the log's own are moved by the log alone.
#[derive(Debug)]
pub struct OwnFrontier(Frontier);

impl OwnFrontier {
    /// A frontier that stands at `end`.
    pub fn new(end: PhysicalOffset) -> Self {
        Self(Frontier::new(end, None))
    }

    /// Moves the end and wakes everybody it has reached. One caller at a time, and never back.
    pub fn publish(&self, end: PhysicalOffset) {
        self.0.advance(end);
        self.0.wake();
    }

    /// Fails everybody who waits, now and later, for what the frontier has not reached.
    pub fn stop(&self, reason: &Stopped) {
        self.0.stop(reason);
    }
}

impl Deref for OwnFrontier {
    type Target = Frontier;

    fn deref(&self) -> &Frontier {
        &self.0
    }
}

impl Shared {
    /// Wakes so many of those whom the frontier has reached; how many there were.
    fn wake_some(&self, max: usize) -> usize {
        let end = self.end.load(Ordering::SeqCst);
        if self.nearest.load(Ordering::SeqCst) > end {
            return 0;
        }
        let reached = {
            let mut waiters = self.waiters.lock();
            let reached = waiters.take_reached(end, max);
            self.note_nearest(&waiters);
            reached
        };
        let woken = reached.len();
        // Outside the lock: a waker runs code of its owner.
        reached.into_iter().for_each(Waker::wake);
        woken
    }

    fn note_nearest(&self, waiters: &Waiters) {
        let nearest = waiters.table.first_key_value().map_or(NOBODY, |(place, _)| place.0);
        self.nearest.store(nearest, Ordering::SeqCst);
    }
}

impl Waiters {
    fn take_reached(&mut self, end: u64, max: usize) -> SmallVec<[Waker; WOKEN_AT_A_TIME]> {
        let mut reached = SmallVec::new();
        while reached.len() < max
            && let Some(first) = self.table.first_entry().filter(|first| first.key().0 <= end)
        {
            reached.push(first.remove());
        }
        reached
    }
}

impl Registration {
    /// Gives the place up: its waker is not woken any more.
    pub fn cancel(&mut self) {
        if let Some((shared, place)) = self.place.take() {
            let (waker, reached) = {
                let mut waiters = shared.waiters.lock();
                let waker = waiters.table.remove(&place);
                let reached = waiters.take_reached(shared.end.load(Ordering::SeqCst), WOKEN_BY_EACH);
                shared.note_nearest(&waiters);
                (waker, reached)
            };
            // Outside the lock: a waker runs code of its owner, and dropping one may drop a task, and with it
            // another registration.
            reached.into_iter().for_each(Waker::wake);
            drop(waker);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Frontier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Frontier").field(&self.get().get()).finish()
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registration").field(&self.place.as_ref().map(|(_, place)| place.0)).finish()
    }
}

#[cfg(all(test, loom))]
mod loom_model;
#[cfg(test)]
mod tests;
