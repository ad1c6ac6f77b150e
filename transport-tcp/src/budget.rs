//! The bound that all connections share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;

/// Bytes held by all connections together.
///
/// Memory for a frame is taken step by step as its bytes arrive, so a peer holds no more than it has sent twice
/// over, whatever it announces. Half-arrived frames may then use up the limit while each still needs more. That
/// cannot become a deadlock:
///
/// - A frame has a ticket, drawn when it first asks and kept until it is done. Who waits stands in line by
///   ticket, and the first in line takes what fits below the limit.
/// - If it does not fit, the first in line overdraws, unless another frame does so already. Who overdraws gets
///   every further step at once, and so waits for nobody but its own peer.
/// - Hence somebody in line always goes on, except while one frame overdraws. That one is done or loses its
///   connection before [`Limits::slow_frame`](crate::Limits::slow_frame) is over.
///
/// One frame at a time overdraws, so the limit is passed by the length of the longest frame at most.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
    /// How many wait, so that giving back costs no lock while nobody does.
    waiting: AtomicUsize,
    line: Mutex<Line>,
    next_ticket: AtomicU64,
}

#[derive(Debug, Default)]
struct Line {
    /// Who waits, by ticket.
    waiters: BTreeMap<u64, Waker>,
    /// A frame goes on above the limit.
    overdrawn: bool,
}

/// What became of asking for memory.
enum Asked {
    /// It was taken, below the limit.
    Taken,
    /// It was taken, and the asker is now the one that overdraws.
    Overdrawn,
    /// The asker stands in line.
    Waits,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
            next_ticket: AtomicU64::new(0),
        }
    }

    pub(crate) fn used(&self) -> usize {
        // Relaxed: an observation.
        self.used.load(Ordering::Relaxed)
    }

    /// Whether more is held than should be: a frame overdraws, or answers were longer than foreseen.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }

    /// Whether somebody waits for memory.
    pub(crate) fn is_awaited(&self) -> bool {
        // Relaxed: whoever misses it sees it the next time.
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn draw_ticket(&self) -> u64 {
        // Relaxed: only the order of the numbers counts.
        self.next_ticket.fetch_add(1, Ordering::Relaxed)
    }

    fn try_take(&self, bytes: usize) -> bool {
        // SeqCst, as in `give`: whoever has queued sees what was given back before, or the giver sees it queued.
        let take = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.try_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    /// Takes `bytes` whatever the limit.
    fn take(&self, bytes: usize) {
        // Relaxed: only giving back can let others go on.
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.wake_first();
        }
    }

    fn wake_first(&self) {
        let first = self.line.lock().waiters.first_key_value().map(|(_, waker)| waker.clone());
        if let Some(waker) = first {
            waker.wake();
        }
    }

    /// Takes `bytes` if it is the ticket's turn and they are there or may be overdrawn, else has it wait in line.
    fn take_in_turn(&self, ticket: u64, bytes: usize, cx: &Context<'_>) -> Asked {
        let asked = {
            let mut line = self.line.lock();
            line.waiters.insert(ticket, cx.waker().clone());
            self.waiting.store(line.waiters.len(), Ordering::SeqCst);
            let is_first = line.waiters.first_key_value().is_some_and(|(first, _)| *first == ticket);
            match is_first {
                false => Asked::Waits,
                true if self.try_take(bytes) => Asked::Taken,
                true if line.overdrawn => Asked::Waits,
                true => {
                    line.overdrawn = true;
                    self.take(bytes);
                    Asked::Overdrawn
                }
            }
        };
        if !matches!(asked, Asked::Waits) {
            self.leave(ticket);
        }
        asked
    }

    fn leave(&self, ticket: u64) {
        {
            let mut line = self.line.lock();
            line.waiters.remove(&ticket);
            self.waiting.store(line.waiters.len(), Ordering::SeqCst);
        }
        self.wake_first();
    }

    fn stop_overdrawing(&self) {
        self.line.lock().overdrawn = false;
        self.wake_first();
    }
}

/// What one connection holds of the budget. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    held: usize,
    /// The place in line of the frame that arrives, once it has asked for memory.
    ticket: Option<u64>,
    waiting: bool,
    overdraws: bool,
}

impl Share {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, held: 0, ticket: None, waiting: false, overdraws: false }
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Holds `bytes` from now on, whatever the limit: for what is there already.
    pub(crate) fn set(&mut self, bytes: usize) {
        if bytes > self.held {
            self.budget.take(bytes - self.held);
        } else if bytes < self.held {
            self.budget.give(self.held - bytes);
        }
        self.held = bytes;
    }

    /// Holds `bytes` for the frame that arrives, if it is its turn; else remembers the context's waker for when
    /// to ask again.
    pub(crate) fn grow(&mut self, bytes: usize, cx: &Context<'_>) -> bool {
        if bytes <= self.held {
            self.stop_waiting();
            return true;
        }
        let more = bytes - self.held;
        if self.overdraws {
            self.budget.take(more);
        } else {
            let ticket = *self.ticket.get_or_insert_with(|| self.budget.draw_ticket());
            let asked = self.budget.take_in_turn(ticket, more, cx);
            self.waiting = matches!(asked, Asked::Waits);
            self.overdraws = matches!(asked, Asked::Overdrawn);
        }
        if !self.waiting {
            self.held = bytes;
        }
        !self.waiting
    }

    /// Whether the frame that arrives has asked for memory.
    pub(crate) fn is_growing(&self) -> bool {
        self.ticket.is_some()
    }

    /// Whether it is this connection's frame that goes on above the limit.
    pub(crate) fn overdraws(&self) -> bool {
        self.overdraws
    }

    /// Leaves the line, so that the next in it can go on. The frame keeps its ticket, and with it its place for
    /// when it asks again.
    pub(crate) fn stop_waiting(&mut self) {
        if let Some(ticket) = self.ticket
            && std::mem::take(&mut self.waiting)
        {
            self.budget.leave(ticket);
        }
    }

    /// The frame that asked for memory is done or given up, and `bytes` are still held.
    pub(crate) fn frame_done(&mut self, bytes: usize) {
        self.stop_waiting();
        self.ticket = None;
        // First the memory, then the permission: in the other order the next frame would overdraw beside it.
        self.set(bytes);
        if std::mem::take(&mut self.overdraws) {
            self.budget.stop_overdrawing();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.frame_done(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(budget: &Arc<Budget>) -> Share {
        Share::new(Arc::clone(budget))
    }

    /// A frame that has passed the limit, so that no other may.
    fn overdrawing(budget: &Arc<Budget>) -> Share {
        let mut share = share(budget);
        assert!(share.grow(budget.limit + 1, &Context::from_waker(Waker::noop())) && share.overdraws());
        share
    }

    #[test]
    fn who_waited_first_is_served_first() {
        let cx = Context::from_waker(Waker::noop());
        let budget = Arc::new(Budget::new(100));
        let [mut a, mut b, mut c] = [overdrawing(&budget), share(&budget), share(&budget)];
        a.set(60);
        assert!(!b.grow(60, &cx));
        assert!(!c.grow(10, &cx), "c would fit, but b has waited longer");
        a.frame_done(0);
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
        let [mut a, mut b, mut c] = [overdrawing(&budget), share(&budget), share(&budget)];
        assert!(budget.is_exceeded());
        assert!(!b.grow(100, &cx));
        assert!(!c.grow(50, &cx));
        drop(b);
        a.set(50);
        assert!(c.grow(50, &cx));
    }

    #[test]
    fn who_leaves_the_line_gets_its_place_back() {
        let cx = Context::from_waker(Waker::noop());
        let budget = Arc::new(Budget::new(100));
        let [mut a, mut b, mut c] = [overdrawing(&budget), share(&budget), share(&budget)];
        assert!(!b.grow(60, &cx));
        assert!(!c.grow(60, &cx));
        b.stop_waiting();
        assert!(!b.grow(60, &cx));
        a.set(40);
        assert!(!c.grow(60, &cx));
        assert!(b.grow(60, &cx));
    }

    #[test]
    fn half_arrived_frames_complete_one_after_another_and_one_at_a_time_overdraws() {
        let cx = Context::from_waker(Waker::noop());
        let budget = Arc::new(Budget::new(100));
        let mut frames: Vec<_> = (0..10).map(|_| share(&budget)).collect();
        assert!(frames.iter_mut().all(|frame| frame.grow(10, &cx)));
        let mut done = 0;
        while done < frames.len() {
            let before = done;
            for frame in frames.iter_mut().filter(|frame| frame.is_growing()) {
                let steps = [20, 40, 80].into_iter().take_while(|bytes| frame.grow(*bytes, &cx)).count();
                assert!(budget.used() <= 100 + 80, "{budget:?}");
                if steps == 3 {
                    frame.frame_done(0);
                    done += 1;
                }
            }
            assert!(done > before, "{budget:?}");
        }
        assert_eq!(budget.used(), 0);
        assert!(!budget.is_awaited());
    }
}
