//! Long polls: pulls that found nothing and wait for a message.
//!
//! A parked pull is an entry here and nothing else: no task, no thread, no timer of its own. Dispatch wakes it when
//! a message it wants arrives, [`Parking::expire`] when its time is over; both by mail to its connection, which
//! evaluates the pull once more and answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skylark_index::QueueId;
use skylark_protocol::transport::Mailbox;

use crate::handlers::pull::Pull;
use crate::session::Mail;

/// Parked pulls beyond this wait a second at the most, so that clients do not spin.
pub const PARKED_MAX: usize = 100_000;
/// How long a pull waits beyond the bound.
pub const CROWDED_WAIT: Duration = Duration::from_secs(1);

/// Every parked pull of a broker.
///
/// Memory: at most twice [`PARKED_MAX`] entries. An entry of a closed connection stays until its deadline.
#[derive(Default)]
pub struct Parking {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    parked: HashMap<u64, Parked>,
    by_queue: HashMap<QueueId, Vec<u64>>,
    by_deadline: BTreeMap<(Duration, u64), ()>,
}

struct Parked {
    pull: Box<Pull>,
    deadline: Duration,
    mailbox: Arc<Mailbox<Mail>>,
}

impl Parking {
    /// Parks a pull until `now + wait`; returns its name, for [`Parking::take_back`].
    ///
    /// # Errors
    /// Gives the pull back when there is no room at all.
    pub fn park(
        &self,
        pull: Box<Pull>,
        mailbox: &Arc<Mailbox<Mail>>,
        now: Duration,
        wait: Duration,
    ) -> Result<u64, Box<Pull>> {
        let mut inner = self.inner.lock();
        if inner.parked.len() >= 2 * PARKED_MAX {
            return Err(pull);
        }
        let wait = if inner.parked.len() >= PARKED_MAX { wait.min(CROWDED_WAIT) } else { wait };
        let id = inner.next_id;
        inner.next_id += 1;
        let (queue, deadline) = (pull.queue, now + wait);
        inner.by_queue.entry(queue).or_default().push(id);
        inner.by_deadline.insert((deadline, id), ());
        inner.parked.insert(id, Parked { pull, deadline, mailbox: Arc::clone(mailbox) });
        Ok(id)
    }

    /// Takes a pull out again, unless it was woken already.
    pub fn take_back(&self, id: u64) -> Option<Box<Pull>> {
        self.inner.lock().remove(id).map(|parked| parked.pull)
    }

    /// Wakes the pulls that want one of these new messages, given as (queue, tag hash).
    pub fn arrived(&self, messages: &[(QueueId, i32)]) {
        let woken: Vec<Parked> = {
            let mut inner = self.inner.lock();
            if inner.parked.is_empty() {
                return;
            }
            let mut wanted = Vec::new();
            for (queue, tag_hash) in messages {
                let Some(waiting) = inner.by_queue.get(queue) else { continue };
                wanted
                    .extend(waiting.iter().filter(|id| inner.parked[id].pull.filter.matches_hash(*tag_hash)));
            }
            wanted.into_iter().filter_map(|id| inner.remove(id)).collect()
        };
        post(woken);
    }

    /// Wakes the pulls whose time is over.
    pub fn expire(&self, now: Duration) {
        let woken: Vec<Parked> = {
            let mut inner = self.inner.lock();
            let due: Vec<u64> =
                inner.by_deadline.range(..=(now, u64::MAX)).map(|((_, id), ())| *id).collect();
            due.into_iter().filter_map(|id| inner.remove(id)).collect()
        };
        post(woken);
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Parked> {
        let parked = self.parked.remove(&id)?;
        self.by_deadline.remove(&(parked.deadline, id));
        if let Some(waiting) = self.by_queue.get_mut(&parked.pull.queue) {
            waiting.retain(|other| *other != id);
            if waiting.is_empty() {
                self.by_queue.remove(&parked.pull.queue);
            }
        }
        Some(parked)
    }
}

fn post(woken: Vec<Parked>) {
    for Parked { pull, mailbox, .. } in woken {
        // A mailbox that takes no mail belongs to a connection that is gone, or about to be closed for not
        // keeping up; either way nobody waits for this answer.
        mailbox.post(Mail::Pull(pull)).ok();
    }
}
