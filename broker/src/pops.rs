//! POP: the broker decides which member of a group gets which message, and sees to it that what nobody acknowledges is
//! delivered again.
//!
//! ```text
//!  pop ──► live: [messages popped] ──► log ──► folded
//!  ack ──► live: [pops settled] ─────► log ──► folded
//!             │ due
//!             ▼
//!          revival: [pops settled | messages of the retry topic] ──► log ──► folded, index
//! ```
//!
//! | to change…                                      | open            |
//! |-------------------------------------------------|-----------------|
//! | what is kept of a popped message                | [`folds::pops`] |
//! | what is in flight as of the appended end        | `live`          |
//! | what becomes of what nobody acknowledged        | `revival`       |
//! | how a message comes to the retry topic          | `unit`          |
//! | long polls                                      | `polling`       |
//! | what a pop finds, and its answer                | [`handlers::pop`] |
//!
//! Promises, and why they hold:
//!
//! - **Delivered at least once.** A message is done with when a record says so: it was acknowledged, or lies in the retry
//!   topic, and that message and the record are one unit of the log. A pop is answered before its record is durable:
//!   if it is lost, so is what it says, and the messages are popped again.
//! - **An acknowledgement is kept.** It is answered once its record is durable, and the pop's lies before it.
//! - **Not to two at a time.** One lock orders all changes, and each record is appended under it, so that the log tells them
//!   in the order in which they were decided. The state they are decided on runs ahead of the folds.
//!
//! Time is the broker's wall clock: if it is set back, messages stay invisible for so much longer.
//!
//! [`folds::pops`]: crate::folds::pops
//! [`handlers::pop`]: crate::handlers::pop

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use skylark_storage::{AppendError, PhysicalOffset};

use crate::broker::Broker;
use crate::engine::{Bell, Next};
use crate::folds::Pops;
use crate::folds::pops::{Again, BATCH_MAX, BatchKey, PopsSettled, Settled, SettledQueue};
use crate::names;

pub use live::Live;
pub use polling::Polling;

use revival::Revival;

mod live;
pub mod polling;
mod revival;
mod unit;

/// Batches in flight beyond this keep pops from being served. Each takes about 250 bytes in the live state and the fold
/// together.
pub const BATCHES_MAX: usize = 1_000_000;
/// Batches that one group may have in flight, so that a group that acknowledges nothing leaves room for the others.
pub const BATCHES_PER_GROUP_MAX: usize = BATCHES_MAX / 4;
/// Messages of a queue that a group may have in flight; more are given out once some of them are acknowledged.
pub const IN_FLIGHT_MAX: u64 = 65_536;

/// Adds the topics that a group pops from besides `topics`, those it reads: what it did not acknowledge goes there, and its
/// members do not name them.
pub fn add_retries(broker: &Broker, group: &str, topics: &mut BTreeSet<String>) {
    let catalog = broker.catalog.read();
    let committed = broker.offsets.lock().topics_of(group);
    let retries = |topic: &String| {
        let retries = names::pop_retry_topic(group, topic);
        // Even if another group has a retry topic of this name.
        if committed.contains(&retries) { Some(retries) } else { catalog.pop_retry_topic(group, topic) }
    };
    let retries: Vec<String> = topics.iter().filter_map(retries).collect();
    topics.extend(retries);
}

/// What was popped, who waits for more, and what brings messages back.
///
/// Lock order: the engine's lock comes before the live state's, and that before those of the broker's other parts but
/// the order of commits.
#[derive(Default)]
pub struct PopEngine {
    /// The fold: written by the dispatcher.
    pub folded: Mutex<Pops>,
    /// Pops that wait.
    pub polling: Polling,
    live: Mutex<Live>,
    revival: Mutex<Revival>,
    bell: Bell,
    undeliverable: AtomicU64,
}

/// Messages of a batch, as a receipt names them.
pub struct Named<'a> {
    /// The topic they were read from.
    pub topic: &'a str,
    /// Their queue.
    pub queue: u32,
    /// Their batch.
    pub key: BatchKey,
    /// Which of its offsets.
    pub is_named: &'a dyn Fn(u64) -> bool,
}

/// What became of receipts that were used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What they say holds once everything before this is durable.
    pub end: PhysicalOffset,
    /// So many messages were in flight by them.
    pub messages: u32,
    /// When it was, in milliseconds since 1970: the time of the next receipt of what stays invisible.
    pub at_ms: u64,
}

impl PopEngine {
    /// An engine that goes on from a snapshot's fold.
    pub fn new(folded: Pops) -> Self {
        Self { folded: Mutex::new(folded), ..Self::default() }
    }

    /// Everything in the log was folded, up to `end`: decisions begin with that.
    pub fn restore(&self, end: PhysicalOffset) {
        *self.live.lock() = Live::new(self.folded.lock().clone(), end);
    }

    /// The state at the log's appended end, for as long as the guard lives.
    pub fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock()
    }

    /// Messages are done with, or stay invisible as `again` says. What is not in flight by its receipt is left as it
    /// is: it was acknowledged before, or its time was over.
    ///
    /// # Errors
    /// When the log does not take it; nothing has changed.
    pub fn settle(
        &self,
        broker: &Broker,
        group: &str,
        named: &[Named<'_>],
        again: Option<u64>,
    ) -> Result<Used, AppendError> {
        let mut live = self.live();
        // A batch must not have the name of the one it is taken out of.
        let latest = named.iter().map(|named| named.key.popped_at.saturating_add(1)).max().unwrap_or(0);
        let now_ms = broker.clock.wall_ms();
        let again = again.map(|invisible_ms| Again {
            popped_at: now_ms.max(latest),
            visible_at: now_ms.saturating_add(invisible_ms),
        });
        let at_ms = again.map_or(now_ms, |again| again.popped_at);
        let mut record = PopsSettled { group: group.to_owned(), queues: Vec::new() };
        let (mut messages, mut crowded) = (0, false);
        for Named { topic, queue, key, is_named } in named {
            let Some(state) = live.queue(group, topic, *queue) else { continue };
            let Some((offsets, pending)) = state.pending(*key) else { continue };
            let bits = (0..BATCH_MAX).filter(|&bit| pending >> bit & 1 == 1 && is_named(offsets.at(bit)));
            let mask = bits.fold(0_u32, |mask, bit| mask | 1 << bit);
            if mask == 0 {
                continue;
            }
            messages += mask.count_ones();
            crowded |= state.in_flight() >= IN_FLIGHT_MAX;
            let settled = vec![Settled { key: *key, mask, again }];
            record.queues.push(SettledQueue { topic: (*topic).to_owned(), queue: *queue, settled });
        }
        if messages == 0 {
            return Ok(Used { end: live.end(), messages, at_ms });
        }
        let end = broker.append_one(&record)?;
        live.settled(&record, end);
        let queues = record.queues.iter().map(|queue| (&*queue.topic, queue.queue));
        live.commit(broker, group, queues);
        let is_ordered = |queue: &SettledQueue| {
            live.queue(group, &queue.topic, queue.queue).is_some_and(|state| state.order().is_some())
        };
        let wakes = crowded || again.is_none() && record.queues.iter().any(is_ordered);
        drop(live);
        if let Some(again) = again {
            self.arrived(again.visible_at);
        }
        if wakes {
            self.wake(broker, record.queues.iter().map(|queue| (&*queue.topic, queue.queue)));
        }
        Ok(Used { end, messages, at_ms })
    }

    /// Wakes those who wait for these queues.
    fn wake<'a>(&self, broker: &Broker, queues: impl Iterator<Item = (&'a str, u32)>) {
        let catalog = broker.catalog.read();
        let ids = queues.filter_map(|(topic, queue)| catalog.queues(topic)?.get(queue as usize).copied());
        let ids: Vec<_> = ids.collect();
        drop(catalog);
        self.polling.wake_queues(&ids);
    }

    /// Does what there is to do at this moment, and says what to wait for. Reads the disk for messages that have left
    /// memory.
    pub fn step(&self, broker: &Broker) -> Next {
        let mut revival = self.revival.lock();
        let (next, undeliverable) = revival.step(broker, self);
        // Relaxed: a figure for people.
        self.undeliverable.fetch_add(undeliverable, Ordering::Relaxed);
        next
    }

    /// Steps until the log stops, or [`close`](Self::close).
    pub fn run(&self, broker: &Broker) {
        self.bell.run(broker, || self.step(broker));
    }

    /// Messages were popped that are visible again then.
    pub fn arrived(&self, visible_at: u64) {
        self.bell.arrived(visible_at);
    }

    /// Lets [`run`](Self::run) return.
    pub fn close(&self) {
        self.bell.close();
    }

    /// Messages whose time was over and that nobody can get again: they were trimmed, their topic is gone, or they cannot be
    /// read. Counted since the start.
    pub fn undeliverable(&self) -> u64 {
        self.undeliverable.load(Ordering::Relaxed)
    }
}
