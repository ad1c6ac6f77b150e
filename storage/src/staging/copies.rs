//! Counts the copies into a group that go on outside the append lock.

use std::sync::Arc;

use crate::sync::{Condvar, Mutex};

/// How many copies into one group are open. A closed group gets no more, so the count then falls to zero.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    open: Mutex<usize>,
    none_open: Condvar,
}

/// One open copy; it ends when this drops.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Copies>);

impl Copies {
    /// Opens a copy. Only under the append lock, while the group is open.
    pub(crate) fn begin(self: &Arc<Self>) -> Ticket {
        *self.open.lock() += 1;
        Ticket(Arc::clone(self))
    }

    /// Waits until no copy is open. What the copies wrote happened before this returns: each ends under the lock.
    pub(crate) fn wait(&self) {
        let mut open = self.open.lock();
        while *open > 0 {
            open = self.none_open.wait(open);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.0.open.lock();
        *open -= 1;
        if *open == 0 {
            self.0.none_open.notify_all();
        }
    }
}
