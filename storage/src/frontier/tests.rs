use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::poison::Cause;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Waiter {
    woken: Arc<Woken>,
    registration: Registration,
}

impl Waiter {
    fn at(frontier: &Frontier, end: u64) -> (Self, Poll<Result<(), Stopped>>) {
        let mut waiter = Self { woken: Arc::default(), registration: Registration::default() };
        let outcome = waiter.wait(frontier, end);
        (waiter, outcome)
    }

    fn wait(&mut self, frontier: &Frontier, end: u64) -> Poll<Result<(), Stopped>> {
        let waker = Waker::from(Arc::clone(&self.woken));
        frontier.wait(&mut self.registration, PhysicalOffset::new(end), &waker)
    }

    fn woken(&self) -> usize {
        self.woken.0.load(Ordering::Relaxed)
    }
}

fn frontier() -> OwnFrontier {
    OwnFrontier::new(PhysicalOffset::new(100))
}

#[test]
fn what_is_reached_needs_no_waiting() {
    let (_, outcome) = Waiter::at(&frontier(), 100);
    assert!(matches!(outcome, Poll::Ready(Ok(()))));
}

#[test]
fn exactly_those_who_are_reached_are_woken() {
    let frontier = frontier();
    let waiters: Vec<_> = [101, 150, 150, 151, 200].map(|end| Waiter::at(&frontier, end).0).into();
    frontier.publish(PhysicalOffset::new(150));
    let woken: Vec<_> = waiters.iter().map(Waiter::woken).collect();
    assert_eq!(woken, [1, 1, 1, 0, 0]);
    frontier.publish(PhysicalOffset::new(1000));
    let woken: Vec<_> = waiters.iter().map(Waiter::woken).collect();
    assert_eq!(woken, [1, 1, 1, 1, 1]);
}

#[test]
fn a_stop_fails_those_who_wait_and_not_what_was_reached() {
    let frontier = frontier();
    let (mut waiter, _) = Waiter::at(&frontier, 101);
    frontier.stop(&Stopped::Poisoned { at: PhysicalOffset::new(100), cause: Cause::Callback });
    assert_eq!(waiter.woken(), 1);
    assert!(matches!(waiter.wait(&frontier, 101), Poll::Ready(Err(Stopped::Poisoned { .. }))));
    assert!(matches!(waiter.wait(&frontier, 100), Poll::Ready(Ok(()))));
    // The first reason stays.
    frontier.stop(&Stopped::Closed);
    assert!(matches!(waiter.wait(&frontier, 101), Poll::Ready(Err(Stopped::Poisoned { .. }))));
}

#[test]
fn a_registration_can_move_to_another_frontier() {
    let (first, second) = (frontier(), frontier());
    let (mut waiter, _) = Waiter::at(&first, 101);
    assert!(waiter.wait(&second, 101).is_pending());
    first.publish(PhysicalOffset::new(101));
    assert_eq!(waiter.woken(), 0);
    second.publish(PhysicalOffset::new(101));
    assert_eq!(waiter.woken(), 1);
}

#[test]
fn a_sleeping_thread_is_woken() {
    let frontier = frontier();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| frontier.wait_blocking(PhysicalOffset::new(300)));
        for end in 101..=300 {
            frontier.publish(PhysicalOffset::new(end));
        }
        assert!(waiting.join().expect("waiting does not panic").is_ok());
    });
}

#[test]
fn those_who_are_woken_wake_the_others() {
    let frontier = frontier();
    let mut waiters: Vec<_> = (0..20).map(|_| Waiter::at(&frontier, 150).0).collect();
    let out_of_reach = Waiter::at(&frontier, 151).0;
    frontier.advance(PhysicalOffset::new(150));
    frontier.begin_to_wake();
    let woken = |waiters: &[Waiter]| waiters.iter().filter(|waiter| waiter.woken() > 0).count();
    assert_eq!(woken(&waiters), WOKEN_TO_HELP);
    // By asking again, by giving up, or by waiting for something else.
    assert!(waiters[0].wait(&frontier, 150).is_ready());
    waiters[1].registration.cancel();
    assert!(waiters[2].wait(&frontier, 500).is_pending());
    assert_eq!(woken(&waiters), WOKEN_TO_HELP + 3 * WOKEN_BY_EACH);
    // Those who never ask hold nobody up for longer than until the owner rests.
    frontier.wake();
    assert_eq!(woken(&waiters), waiters.len());
    assert_eq!(out_of_reach.woken(), 0);
}
