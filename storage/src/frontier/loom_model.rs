//! Waiting, giving up and publishing in every order: whoever is reached is woken, whoever else gives up.

use std::sync::Arc;

use loom::thread;

use super::*;

/// A waker that remembers.
#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(1, Ordering::SeqCst);
    }
}

/// Somebody who waits, and is asked later.
struct Waiter {
    woken: Arc<Woken>,
    registration: Registration,
    is_pending: bool,
}

impl Waiter {
    fn at(frontier: &Frontier, end: u64) -> Self {
        let woken = Arc::new(Woken(AtomicU64::new(0)));
        let mut registration = Registration::default();
        let waker = Waker::from(Arc::clone(&woken));
        let outcome = frontier.wait(&mut registration, PhysicalOffset::new(end), &waker);
        Self { woken, registration, is_pending: outcome.is_pending() }
    }

    /// What a task does that was woken: it asks again.
    fn ask_if_woken(&mut self, frontier: &Frontier, end: u64) {
        if self.is_pending && self.woken.0.load(Ordering::SeqCst) == 1 {
            let outcome = frontier.wait(&mut self.registration, PhysicalOffset::new(end), Waker::noop());
            assert!(outcome.is_ready(), "nobody is woken too early");
            self.is_pending = false;
        }
    }

    fn check(&self) {
        assert!(!self.is_pending || self.woken.0.load(Ordering::SeqCst) == 1, "somebody sleeps on");
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn loom_who_is_reached_is_woken() {
    check(|| {
        let frontier = Frontier::new(PhysicalOffset::ZERO, None);
        let waiters = [1, 2].map(|end| {
            let frontier = frontier.clone();
            thread::spawn(move || Waiter::at(&frontier, end))
        });
        frontier.advance(PhysicalOffset::new(1));
        frontier.begin_to_wake();
        frontier.advance(PhysicalOffset::new(2));
        frontier.wake();
        waiters.into_iter().for_each(|waiter| waiter.join().expect("no thread panics").check());
    });
}

/// Without the owner's help: those who are woken, or give up, wake the others.
#[test]
fn loom_who_is_woken_wakes_the_next_even_by_giving_up() {
    check(|| {
        let frontier = Frontier::new(PhysicalOffset::ZERO, None);
        let mut first = Waiter::at(&frontier, 1);
        let mut last = Waiter::at(&frontier, 1);
        let gives_up = Waiter::at(&frontier, 1);
        let owner = {
            let frontier = frontier.clone();
            thread::spawn(move || {
                frontier.advance(PhysicalOffset::new(1));
                frontier.begin_to_wake();
            })
        };
        let leaver = thread::spawn(move || drop(gives_up));
        first.ask_if_woken(&frontier, 1);
        owner.join().expect("no thread panics");
        leaver.join().expect("no thread panics");
        first.ask_if_woken(&frontier, 1);
        last.ask_if_woken(&frontier, 1);
        first.check();
        last.check();
    });
}

#[test]
fn loom_a_stop_reaches_everybody() {
    check(|| {
        let frontier = Frontier::new(PhysicalOffset::ZERO, None);
        let waiter = {
            let frontier = frontier.clone();
            thread::spawn(move || Waiter::at(&frontier, 1))
        };
        frontier.stop(&Stopped::Closed);
        waiter.join().expect("no thread panics").check();
    });
}

#[test]
fn loom_who_was_reached_is_not_told_of_a_stop() {
    check(|| {
        let frontier = Frontier::new(PhysicalOffset::ZERO, None);
        let waiter = {
            let frontier = frontier.clone();
            thread::spawn(move || {
                let mut registration = Registration::default();
                let told = frontier.wait(&mut registration, PhysicalOffset::new(1), Waker::noop());
                assert!(!matches!(told, Poll::Ready(Err(_))), "the frontier was there before it stopped");
            })
        };
        frontier.advance(PhysicalOffset::new(1));
        frontier.wake();
        frontier.stop(&Stopped::Closed);
        waiter.join().expect("no thread panics");
    });
}
