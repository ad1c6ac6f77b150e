//! Long polls: pops that found nothing and wait for a message.
//!
//! Unlike a parked pull, which waits for one queue, a pop waits for all queues of a topic and its retries, and of the many
//! that wait for the same ones a message concerns one. So pops wait by what they ask for, first come, first served, and
//! it is that which is known by queue. Whoever is woken evaluates its pop once more, and is parked again for the rest of
//! its time if another was faster.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skylark_index::QueueId;

use crate::handlers::pop::Pop;
use crate::membership::ConnectionId;
use crate::session::Mail;

/// Pops that wait, at most.
pub const WAITING_MAX: usize = 100_000;
/// Pops that wait for the same topic, group and queue, at most.
pub const WAITING_PER_KEY_MAX: usize = 1024;
/// Queues that they wait for, at most; each is counted once for all that ask for the same.
const LINKS_MAX: usize = 1_000_000;

/// Every pop that waits. Its lock is innermost: nothing else is locked or woken under it.
///
/// Memory: a few hundred bytes for each, at most [`WAITING_MAX`]; about 100 bytes for each queue that is waited for, at
/// most a million of them.
#[derive(Default)]
pub struct Polling {
    inner: Mutex<Inner>,
}

/// What those ask for that wait together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The topic.
    pub topic: Box<str>,
    /// Who asks.
    pub group: Box<str>,
    /// The queue; none for any.
    pub queue: Option<u32>,
    /// Whether they only want to know.
    pub notifies: bool,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    waiting: HashMap<u64, Waiting>,
    by_key: HashMap<Arc<Key>, Together>,
    by_queue: HashMap<QueueId, BTreeSet<Arc<Key>>>,
    by_deadline: BTreeSet<(Duration, u64)>,
    by_connection: HashMap<ConnectionId, BTreeSet<u64>>,
    links: usize,
}

struct Waiting {
    pop: Box<Pop>,
    key: Arc<Key>,
    deadline: Duration,
}

/// Those who wait for the same, the longest first.
#[derive(Default)]
struct Together {
    ids: BTreeSet<u64>,
    queues: BTreeSet<QueueId>,
}

impl Polling {
    /// Lets a pop wait for these queues until its deadline; returns its name, for [`take_back`](Self::take_back).
    ///
    /// # Errors
    /// Gives the pop back when there is no room.
    pub fn park(&self, pop: Box<Pop>, queues: &[QueueId], deadline: Duration) -> Result<u64, Box<Pop>> {
        let key = pop.key();
        let mut inner = self.inner.lock();
        let known = inner.by_key.get_key_value(&key).map(|(key, _)| Arc::clone(key));
        let together = known.as_ref().and_then(|key| inner.by_key.get(key));
        let (count, new_links) = together.map_or((0, queues.len()), |together| {
            (together.ids.len(), queues.iter().filter(|queue| !together.queues.contains(queue)).count())
        });
        if inner.waiting.len() >= WAITING_MAX
            || count >= WAITING_PER_KEY_MAX
            || inner.links + new_links > LINKS_MAX
        {
            return Err(pop);
        }
        let key = known.unwrap_or_else(|| Arc::new(key));
        let id = inner.next_id;
        inner.next_id += 1;
        inner.links += new_links;
        for queue in queues {
            inner.by_queue.entry(*queue).or_default().insert(Arc::clone(&key));
        }
        let together = inner.by_key.entry(Arc::clone(&key)).or_default();
        together.ids.insert(id);
        together.queues.extend(queues.iter().copied());
        inner.by_deadline.insert((deadline, id));
        inner.by_connection.entry(pop.connection).or_default().insert(id);
        inner.waiting.insert(id, Waiting { pop, key, deadline });
        Ok(id)
    }

    /// Takes a pop out again, unless it was woken already.
    pub fn take_back(&self, id: u64) -> Option<Box<Pop>> {
        self.inner.lock().remove(id).map(|waiting| waiting.pop)
    }

    /// How many pops wait for this.
    pub fn count(&self, key: &Key) -> usize {
        self.inner.lock().by_key.get(key).map_or(0, |together| together.ids.len())
    }

    /// For each of these new messages, given as (queue, tag hash), wakes one pop of each group that may want it, and all
    /// who want to know.
    pub fn arrived(&self, messages: &[(QueueId, i32)]) {
        let woken: Vec<Waiting> = {
            let mut inner = self.inner.lock();
            if inner.waiting.is_empty() {
                return;
            }
            let mut woken = Vec::new();
            for (queue, tag_hash) in messages {
                let Some(keys) = inner.by_queue.get(queue) else { continue };
                for key in keys.clone() {
                    inner.wake(&key, |pop| pop.may_want(*queue, *tag_hash), &mut woken);
                }
            }
            woken
        };
        post(woken);
    }

    /// Wakes a pop of each group that waits for these queues, and all who want to know.
    pub fn wake_queues(&self, queues: &[QueueId]) {
        let woken: Vec<Waiting> = {
            let mut inner = self.inner.lock();
            let mut woken = Vec::new();
            for queue in queues {
                let Some(keys) = inner.by_queue.get(queue) else { continue };
                for key in keys.clone() {
                    inner.wake(&key, |_| true, &mut woken);
                }
            }
            woken
        };
        post(woken);
    }

    /// Wakes another pop that waits for the same: there is more than one could take.
    pub fn wake_next(&self, key: &Key) {
        let woken: Vec<Waiting> = {
            let mut inner = self.inner.lock();
            let mut woken = Vec::new();
            let known = inner.by_key.get_key_value(key).map(|(key, _)| Arc::clone(key));
            if let Some(key) = known {
                inner.wake(&key, |_| true, &mut woken);
            }
            woken
        };
        post(woken);
    }

    /// Wakes all that wait for this topic, or for one whose retries it holds: its queues may be others by now.
    pub fn wake_topic(&self, topic: &str) {
        let woken: Vec<Waiting> = {
            let mut inner = self.inner.lock();
            let concerned = inner.waiting.iter().filter(|(_, waiting)| waiting.pop.reads(topic));
            let concerned: Vec<u64> = concerned.map(|(id, _)| *id).collect();
            concerned.into_iter().filter_map(|id| inner.remove(id)).collect()
        };
        post(woken);
    }

    /// Wakes the pops whose time is over.
    pub fn expire(&self, now: Duration) {
        let woken: Vec<Waiting> = {
            let mut inner = self.inner.lock();
            let due: Vec<u64> = inner.by_deadline.range(..=(now, u64::MAX)).map(|(_, id)| *id).collect();
            due.into_iter().filter_map(|id| inner.remove(id)).collect()
        };
        post(woken);
    }

    /// Forgets the pops of a connection that is gone.
    pub fn disconnect(&self, connection: ConnectionId) {
        let mut inner = self.inner.lock();
        for id in inner.by_connection.get(&connection).cloned().unwrap_or_default() {
            inner.remove(id);
        }
    }
}

impl Inner {
    fn remove(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.by_deadline.remove(&(waiting.deadline, id));
        if let Entry::Occupied(mut entry) = self.by_connection.entry(waiting.pop.connection) {
            entry.get_mut().remove(&id);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        if let Entry::Occupied(mut entry) = self.by_key.entry(Arc::clone(&waiting.key)) {
            entry.get_mut().ids.remove(&id);
            if entry.get().ids.is_empty() {
                let Together { queues, .. } = entry.remove();
                self.links -= queues.len();
                for queue in queues {
                    self.unlink(queue, &waiting.key);
                }
            }
        }
        Some(waiting)
    }

    fn unlink(&mut self, queue: QueueId, key: &Arc<Key>) {
        if let Entry::Occupied(mut entry) = self.by_queue.entry(queue) {
            entry.get_mut().remove(key);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    /// Takes out the one that has waited longest of those that want something; all of them where they only want to know.
    fn wake(&mut self, key: &Arc<Key>, wants: impl Fn(&Pop) -> bool, woken: &mut Vec<Waiting>) {
        let Some(together) = self.by_key.get(key) else { return };
        let wanting =
            together.ids.iter().filter(|id| self.waiting.get(id).is_some_and(|waiting| wants(&waiting.pop)));
        let ids: Vec<u64> = wanting.take(if key.notifies { usize::MAX } else { 1 }).copied().collect();
        woken.extend(ids.into_iter().filter_map(|id| self.remove(id)));
    }
}

fn post(woken: Vec<Waiting>) {
    for Waiting { pop, .. } in woken {
        let mailbox = Arc::clone(&pop.mailbox);
        // A mailbox that takes no mail belongs to a connection that is gone, or about to be closed for not
        // keeping up; either way nobody waits for this answer.
        mailbox.post(Mail::Pop(pop)).ok();
    }
}
