//! Long polls: pulls that found nothing and wait for a message.
//!
//! A parked pull is an entry here and nothing else: no task, no thread, no timer of its own. Dispatch wakes it when
//! a message it wants arrives, [`Parking::expire`] when its time is over; both by mail to its connection, which
//! evaluates the pull once more and answers.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skylark_index::QueueId;
use skylark_protocol::transport::Mailbox;

use crate::context::Connection;
use crate::handlers::pull::Pull;
use crate::membership::ConnectionId;
use crate::session::Mail;

/// Parked pulls beyond this wait a second at the most, so that clients do not spin.
pub const PARKED_MAX: usize = 100_000;
/// How long a pull waits beyond the bound.
pub const CROWDED_WAIT: Duration = Duration::from_secs(1);

/// One connection's share: a consumer has one pull per queue.
pub const PARKED_PER_CONNECTION_MAX: usize = 16_384;

/// Every parked pull of a broker. Its lock is innermost: nothing else is locked or woken under it.
///
/// Memory: at most twice [`PARKED_MAX`] entries.
#[derive(Default)]
pub struct Parking {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    parked: HashMap<u64, Parked>,
    by_queue: HashMap<QueueId, BTreeSet<u64>>,
    by_deadline: BTreeSet<(Duration, u64)>,
    by_connection: HashMap<ConnectionId, BTreeSet<u64>>,
}

struct Parked {
    pull: Box<Pull>,
    deadline: Duration,
    connection: ConnectionId,
    mailbox: Arc<Mailbox<Mail>>,
}

impl Parking {
    /// Parks a pull until `now + wait`; returns its name, for [`Parking::take_back`].
    ///
    /// # Errors
    /// Gives the pull back when there is no room, for this connection or at all.
    pub fn park(
        &self,
        mut pull: Box<Pull>,
        connection: &Connection,
        now: Duration,
        wait: Duration,
    ) -> Result<u64, Box<Pull>> {
        let mut inner = self.inner.lock();
        let share = inner.by_connection.get(&connection.id).map_or(0, BTreeSet::len);
        if inner.parked.len() >= 2 * PARKED_MAX || share >= PARKED_PER_CONNECTION_MAX {
            return Err(pull);
        }
        let wait = if inner.parked.len() >= PARKED_MAX { wait.min(CROWDED_WAIT) } else { wait };
        let id = inner.next_id;
        inner.next_id += 1;
        let deadline = now + wait;
        pull.until = Some(deadline);
        inner.by_queue.entry(pull.queue).or_default().insert(id);
        inner.by_deadline.insert((deadline, id));
        inner.by_connection.entry(connection.id).or_default().insert(id);
        let mailbox = Arc::clone(&connection.mailbox);
        inner.parked.insert(id, Parked { pull, deadline, connection: connection.id, mailbox });
        Ok(id)
    }

    /// Takes a pull out again, unless it was woken already.
    pub fn take_back(&self, id: u64) -> Option<Box<Pull>> {
        self.inner.lock().remove(id).map(|parked| parked.pull)
    }

    /// Wakes the pulls that want one of these new messages, given as (queue, tag hash), or may do so. Those that do not in
    /// the end are parked again, for the rest of their time.
    pub fn arrived(&self, messages: &[(QueueId, i32)]) {
        let woken: Vec<Parked> = {
            let mut inner = self.inner.lock();
            if inner.parked.is_empty() {
                return;
            }
            let mut wanted = Vec::new();
            for (queue, tag_hash) in messages {
                let Some(waiting) = inner.by_queue.get(queue) else { continue };
                let wants = |id: &&u64| inner.parked[*id].pull.selection.may_match(*tag_hash);
                wanted.extend(waiting.iter().filter(wants).copied());
            }
            wanted.into_iter().filter_map(|id| inner.remove(id)).collect()
        };
        post(woken);
    }

    /// Wakes the pulls that wait for messages of these queues, though there is none.
    pub fn wake(&self, queues: impl IntoIterator<Item = QueueId>) {
        let woken: Vec<Parked> = {
            let mut inner = self.inner.lock();
            let of = |queue| inner.by_queue.get(&queue).into_iter().flatten().copied();
            let waiting: Vec<u64> = queues.into_iter().flat_map(of).collect();
            waiting.into_iter().filter_map(|id| inner.remove(id)).map(Parked::released).collect()
        };
        post(woken);
    }

    /// Wakes the pulls whose time is over.
    pub fn expire(&self, now: Duration) {
        let woken: Vec<Parked> = {
            let mut inner = self.inner.lock();
            let due: Vec<u64> = inner.by_deadline.range(..=(now, u64::MAX)).map(|(_, id)| *id).collect();
            due.into_iter().filter_map(|id| inner.remove(id)).map(Parked::released).collect()
        };
        post(woken);
    }

    /// Forgets the pulls of a connection that is gone.
    pub fn disconnect(&self, connection: ConnectionId) {
        let mut inner = self.inner.lock();
        for id in inner.by_connection.get(&connection).cloned().unwrap_or_default() {
            inner.remove(id);
        }
    }
}

impl Parked {
    /// Whatever is found, the pull is answered.
    fn released(mut self) -> Self {
        self.pull.until = None;
        self
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Parked> {
        let parked = self.parked.remove(&id)?;
        self.by_deadline.remove(&(parked.deadline, id));
        forget(&mut self.by_queue, parked.pull.queue, id);
        forget(&mut self.by_connection, parked.connection, id);
        Some(parked)
    }
}

fn forget<K: Hash + Eq>(table: &mut HashMap<K, BTreeSet<u64>>, key: K, id: u64) {
    if let Entry::Occupied(mut entry) = table.entry(key) {
        entry.get_mut().remove(&id);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}

fn post(woken: Vec<Parked>) {
    for Parked { pull, mailbox, .. } in woken {
        // A mailbox that takes no mail belongs to a connection that is gone, or about to be closed for not
        // keeping up; either way nobody waits for this answer.
        mailbox.post(Mail::Pull(pull)).ok();
    }
}
