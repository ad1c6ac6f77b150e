//! The bound that all connections share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;

/// Bytes held by all connections together.
///
/// Memory for a frame is taken for the whole frame at once, in turn, before more of it is read: whoever has
/// taken some can finish without asking again, so the connections can never all wait for each other.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
    /// How many wait, so that giving back costs no lock while nobody does.
    waiting: AtomicUsize,
    waiters: Mutex<VecDeque<Waiter>>,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    waker: Waker,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
            next_id: AtomicU64::new(0),
        }
    }

    pub(crate) fn used(&self) -> usize {
        // Relaxed: an observation.
        self.used.load(Ordering::Relaxed)
    }

    /// Whether more is held than should be, because answers were longer than foreseen.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// Whether somebody waits for memory.
    pub(crate) fn is_awaited(&self) -> bool {
        // Relaxed: whoever misses it sees it the next time.
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn try_take(&self, bytes: usize) -> bool {
        // SeqCst, as in `give`: whoever has queued sees what was given back before, or the giver sees it queued.
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.try_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.wake_first();
        }
    }

    fn wake_first(&self) {
        let first = self.waiters.lock().front().map(|waiter| waiter.waker.clone());
        if let Some(waker) = first {
            waker.wake();
        }
    }

    /// Takes `bytes` if it is the caller's turn and they are there, else has it wait in line.
    fn take_in_turn(&self, id: u64, bytes: usize, cx: &Context<'_>) -> bool {
        let taken = {
            let mut waiters = self.waiters.lock();
            match waiters.iter_mut().find(|waiter| waiter.id == id) {
                Some(waiter) => waiter.waker.clone_from(cx.waker()),
                None => waiters.push_back(Waiter { id, waker: cx.waker().clone() }),
            }
            self.waiting.store(waiters.len(), Ordering::SeqCst);
            waiters.front().is_some_and(|first| first.id == id) && self.try_take(bytes)
        };
        if taken {
            self.leave(id);
        }
        taken
    }

    fn leave(&self, id: u64) {
        {
            let mut waiters = self.waiters.lock();
            waiters.retain(|waiter| waiter.id != id);
            self.waiting.store(waiters.len(), Ordering::SeqCst);
        }
        self.wake_first();
    }
}

/// What one connection holds of the budget. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    id: u64,
    held: usize,
    waiting: bool,
}

impl Share {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        // Relaxed: numbers only have to differ.
        let id = budget.next_id.fetch_add(1, Ordering::Relaxed);
        Self { budget, id, held: 0, waiting: false }
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Holds `bytes` from now on, whatever the limit: for what is there already.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes > self.held {
            // Relaxed: only giving back can let others go on.
            self.budget.used.fetch_add(bytes - self.held, Ordering::Relaxed);
        } else if bytes < self.held {
            self.budget.give(self.held - bytes);
        }
        self.held = bytes;
    }

    /// Holds `bytes` if they fit below the limit and nobody has waited longer; else remembers the context's
    /// waker for when to ask again.
    pub(crate) fn grow(&mut self, bytes: usize, cx: &Context<'_>) -> bool {
        if bytes > self.held {
            self.waiting = !self.budget.take_in_turn(self.id, bytes - self.held, cx);
            if self.waiting {
                return false;
            }
            self.held = bytes;
        }
        true
    }

    /// Whether the last growth has to wait.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Gives up waiting, so that the next in line can go on.
    pub(crate) fn stop_waiting(&mut self) {
        if std::mem::take(&mut self.waiting) {
            self.budget.leave(self.id);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
        self.stop_waiting();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(budget: &Arc<Budget>) -> Share {
        Share::new(Arc::clone(budget))
    }

    #[test]
    fn who_waited_first_is_served_first() {
        let cx = Context::from_waker(Waker::noop());
        let budget = Arc::new(Budget::new(100));
        let [mut a, mut b, mut c] = [share(&budget), share(&budget), share(&budget)];
        assert!(a.grow(60, &cx));
        assert!(!b.grow(60, &cx));
        assert!(!c.grow(10, &cx), "c would fit, but b has waited longer");
        a.set(0);
        assert!(!c.grow(10, &cx));
        assert!(b.grow(60, &cx));
        assert!(c.grow(10, &cx));
        drop((a, b, c));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_waiter_that_gives_up_lets_the_next_go_on() {
        let cx = Context::from_waker(Waker::noop());
        let budget = Arc::new(Budget::new(100));
        let [mut a, mut b, mut c] = [share(&budget), share(&budget), share(&budget)];
        a.set(120);
        assert!(budget.is_exceeded());
        assert!(!b.grow(100, &cx));
        assert!(!c.grow(50, &cx));
        drop(b);
        a.set(50);
        assert!(c.grow(50, &cx));
    }
}
