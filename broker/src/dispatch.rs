//! Dispatch: durable groups become index entries, folds, and wake-ups.

use std::sync::Arc;

use skylark_index::{Entry, Extras, HeadError, Index, PushError, QueueId};
use skylark_protocol::message::MessageError;
use skylark_storage::{Chain, Epoch, Group, GroupQueue, PhysicalOffset, Record, Stopped};
use tracing::error;

use crate::broker::Broker;
use crate::folds::fold::{Event, Fold, FoldError};
use crate::folds::groups::GroupDeleted;
use crate::folds::heads::{HeadSet, Heads, MessagePlace};
use crate::folds::kinds::{self, Change};
use crate::folds::kv::KvChanged;
use crate::folds::offsets::OffsetsReset;
use crate::folds::payload::PayloadError;
use crate::folds::timers::Pending;
use crate::folds::topics::{TopicDeleted, TopicPut};
use crate::indexing::{Indexed, indexed};
use crate::names;
use crate::snapshots::SnapshotHead;
use crate::state;

/// Applies groups in order, from one thread.
pub struct Dispatcher {
    broker: Arc<Broker>,
    groups: GroupQueue,
    heads: Heads,
    messages: Vec<Taken>,
    /// The hashes of their keys, one message's behind the other's.
    keys: Vec<u32>,
    /// Those of `messages` that are not to be stored again.
    sent: Vec<Event<'static>>,
    /// Those of `messages` that are timers.
    waiting: Pending,
    /// When the first of the group's timers is due.
    first_due: Option<u64>,
    arrived: Vec<(QueueId, i32)>,
    /// Queues in which an operator has moved a group.
    moved: Vec<QueueId>,
    /// Queues of topics that are gone, to which the messages brought something.
    orphans: Vec<QueueId>,
    topics_changed: bool,
    /// Of the last group applied.
    epoch: Epoch,
    /// What the group behind the last one applied carries.
    chain: Option<Chain>,
}

/// A message taken apart, for the index.
struct Taken {
    queue: QueueId,
    entry: Entry,
    /// How many keys it has.
    keys: usize,
    /// When it is due, in milliseconds since 1970, if it is a timer.
    due: Option<u64>,
}

/// Why a record of the log could not be applied. Nothing behind it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// A message is none.
    #[error("the record at {at} is no message: {cause}")]
    Message {
        /// Where it lies.
        at: PhysicalOffset,
        /// What is wrong with it.
        cause: MessageError,
    },
    /// A message of a queue that no record before it has made.
    #[error("the message at {at} is for queue {queue} of {topic}, which does not exist")]
    NoQueue {
        /// Where it lies.
        at: PhysicalOffset,
        /// Its topic.
        topic: String,
        /// Its queue.
        queue: u32,
    },
    /// A message that is not the next one of its queue.
    #[error("the message at {at} does not follow: {cause}")]
    Order {
        /// Where it lies.
        at: PhysicalOffset,
        /// What would have followed.
        cause: PushError,
    },
    /// A queue that would go on at a lower offset.
    #[error("the record at {at} cannot set a queue's head: {cause}")]
    Head {
        /// Where it lies.
        at: PhysicalOffset,
        /// What is wrong with it.
        cause: HeadError,
    },
    /// A control record that cannot be understood.
    #[error("the record at {at} cannot be understood: {cause}")]
    Control {
        /// Where it lies.
        at: PhysicalOffset,
        /// What is wrong with it.
        cause: PayloadError,
    },
    /// A record that contradicts those before it.
    #[error("{0}")]
    Contradiction(#[from] FoldError),
}

impl Dispatcher {
    /// A dispatcher that goes on behind a record of `epoch`, with these heads.
    pub fn new(broker: Arc<Broker>, groups: GroupQueue, heads: Heads, epoch: Epoch) -> Self {
        Self {
            broker,
            groups,
            heads,
            messages: Vec::new(),
            keys: Vec::new(),
            sent: Vec::new(),
            waiting: Pending::default(),
            first_due: None,
            arrived: Vec::new(),
            moved: Vec::new(),
            orphans: Vec::new(),
            topics_changed: false,
            epoch,
            chain: None,
        }
    }

    /// Applies the next group, if there is one; says whether there was.
    ///
    /// # Errors
    /// When a record cannot be applied: the folds would part from the log, so the process must end.
    pub fn step(&mut self) -> Result<bool, ApplyError> {
        let Some(group) = self.groups.try_next() else { return Ok(false) };
        self.take(group)?;
        Ok(true)
    }

    /// Applies groups until the log is closed or stops.
    ///
    /// # Errors
    /// As for [`Dispatcher::step`].
    pub fn run(&mut self) -> Result<(), ApplyError> {
        while let Some(group) = self.groups.next_blocking() {
            self.take(group)?;
        }
        self.broker.applied.stop(&Stopped::Closed);
        self.broker.registered.stop(&Stopped::Closed);
        self.broker.topics_changed.stop(&Stopped::Closed);
        Ok(())
    }

    fn take(&mut self, group: Group) -> Result<(), ApplyError> {
        self.apply(&group)?;
        let end = group.end;
        // Room is made before waiters for it are woken.
        self.groups.done(&group);
        drop(group);
        self.published(end);
        self.broker.parking.arrived(&self.arrived);
        self.broker.pops.polling.arrived(&self.arrived);
        if let Some(due_ms) = self.first_due.take() {
            self.broker.timers.arrived(due_ms);
        }
        Ok(())
    }

    /// Applies a group that was read back at the start, and says how many records it has.
    ///
    /// # Errors
    /// When a record cannot be applied.
    pub fn replay(&mut self, group: &Group) -> Result<u64, ApplyError> {
        let records = self.apply(group)?;
        self.published(group.end);
        Ok(records)
    }

    /// Where queues go on, after what was applied so far.
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    fn published(&mut self, end: PhysicalOffset) {
        self.broker.applied.publish(end);
        self.broker.offsets.lock().settle(end);
        if std::mem::take(&mut self.topics_changed) {
            self.broker.topics_changed.publish(end);
        }
    }

    fn apply(&mut self, group: &Group) -> Result<u64, ApplyError> {
        self.arrived.clear();
        self.enter(group);
        let mut records = 0;
        for (at, record) in group.records() {
            records += 1;
            let fields = record.header.fields();
            match fields.kind {
                kind if kind.is_internal() => {}
                kind if kinds::is_message(kind) => self.message(at, &record)?,
                _ => {
                    // What lies before a change is applied before it.
                    self.flush()?;
                    let stored_at = group.created_at + u64::from(fields.stored_at_delta);
                    self.control(at, stored_at, &record)?;
                }
            }
        }
        self.flush()?;
        (self.epoch, self.chain) = (group.epoch, Some(group.chain));
        Ok(records)
    }

    /// Goes on to the group's segment. At the beginning of each but the log's first, all that was computed from those
    /// before is taken as a snapshot.
    fn enter(&mut self, group: &Group) {
        let broker = &*self.broker;
        let base = broker.log.segment_base(group.start);
        if broker.index.read().newest_segment().is_some_and(|newest| newest == base) {
            return;
        }
        broker
            .index
            .write()
            .begin_segment(base, group.created_at)
            .expect("groups are applied in the log's order");
        let Some(chain) = self.chain.filter(|_| base > broker.founded_on) else { return };
        let head = SnapshotHead {
            log_id: broker.log.log_id(),
            position: base,
            epoch: self.epoch,
            chain,
            oldest_segment: broker.log.frontiers().trimmed,
            epochs: broker.log.epochs(),
        };
        broker.archive.offer(state::snapshot(broker, &self.heads, head));
    }

    /// Takes a message apart, without a lock that senders or readers wait for.
    fn message(&mut self, at: PhysicalOffset, record: &Record<'_>) -> Result<(), ApplyError> {
        let message = indexed(at, record, &mut self.keys);
        let message = message.map_err(|cause| ApplyError::Message { at, cause })?;
        let Indexed { topic, queue: number, entry, keys, due, half, .. } = message;
        let catalog = self.broker.catalog.read();
        let queues = catalog.queues(topic);
        let queue = match queues.and_then(|queues| queues.get(number as usize).copied()) {
            Some(queue) => queue,
            None => {
                let orphan = orphaned(&self.broker, at, topic, number)?;
                self.orphans.push(orphan);
                orphan
            }
        };
        let place = MessagePlace { topic, queue: number, queue_offset: entry.queue_offset };
        let event = Event { at, stored_at: entry.stored_at, change: Change::Message(place) };
        self.heads.apply(&event)?;
        if let Some(due_ms) = due {
            self.waiting.messages += 1;
            self.waiting.bytes += u64::from(entry.record_bytes);
            self.first_due = Some(self.first_due.map_or(due_ms, |first| first.min(due_ms)));
        }
        if let Some(half) = half {
            let change = Change::Half(half);
            let event = Event { at, stored_at: entry.stored_at, change };
            self.broker.transactions.apply(&event, self.broker.clock.wall_ms())?;
        }
        if kinds::is_unique(record.header.fields().kind) {
            self.sent.push(self.broker.suppression.sent(&message));
        }
        self.messages.push(Taken { queue, entry, keys, due });
        for (name, queue_offset) in message.light {
            let queue = match catalog.queues(name).and_then(|queues| queues.first().copied()) {
                Some(queue) => queue,
                None => {
                    let orphan = orphaned(&self.broker, at, name, 0)?;
                    self.orphans.push(orphan);
                    orphan
                }
            };
            let change = Change::Message(MessagePlace { topic: name, queue: 0, queue_offset });
            self.heads.apply(&Event { at, stored_at: entry.stored_at, change })?;
            let entry = Entry { queue_offset, ..entry };
            self.messages.push(Taken { queue, entry, keys: 0, due: None });
        }
        Ok(())
    }

    /// Puts the messages taken apart so far into their queues.
    fn flush(&mut self) -> Result<(), ApplyError> {
        let Some(Taken { entry, .. }) = self.messages.last() else { return Ok(()) };
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.messages > 0 {
            let (at, stored_at) = (entry.physical_offset, entry.stored_at);
            self.broker.timers.apply(&Event { at, stored_at, change: Change::Waiting(waiting) })?;
        }
        if !self.sent.is_empty() {
            // At once: senders would wait for the memory that each of them looks at.
            self.broker.suppression.apply(self.sent.drain(..))?;
        }
        let mut index = self.broker.index.write();
        let mut keys = &self.keys[..];
        for Taken { queue, entry, keys: count, due } in self.messages.drain(..) {
            let at = entry.physical_offset;
            let (own, rest) = keys.split_at(count);
            keys = rest;
            let extras = Extras { keys: own, due };
            index.push(queue, entry, extras).map_err(|cause| ApplyError::Order { at, cause })?;
            self.arrived.push((queue, entry.tag_hash));
        }
        self.keys.clear();
        for queue in self.orphans.drain(..) {
            hide(&mut index, queue);
        }
        Ok(())
    }

    fn control(&mut self, at: PhysicalOffset, stored_at: u64, record: &Record<'_>) -> Result<(), ApplyError> {
        let change = Change::decode(record.header.fields().kind, record.payload);
        let change = change.map_err(|cause| ApplyError::Control { at, cause })?;
        let event = Event { at, stored_at, change };
        let broker = &*self.broker;
        let mut catalog = broker.catalog.write();
        catalog.topics.apply(&event)?;
        catalog.groups.apply(&event)?;
        catalog.lock_owners.apply(&event)?;
        catalog.kv.apply(&event)?;
        catalog.request_modes.apply(&event)?;
        broker.offsets.lock().folded.apply(&event)?;
        broker.timers.apply(&event)?;
        if let Change::HalvesEnded(ended) = &event.change {
            // First: whoever finds a transaction gone finds out whether its half message counts.
            let change = Change::Withdrawn(broker.transactions.withdrawn_by(ended));
            broker.suppression.apply_change(&Event { at, stored_at, change })?;
        }
        broker.transactions.apply(&event, broker.clock.wall_ms())?;
        broker.pops.folded.lock().apply(&event)?;
        broker.audit.trail.lock().apply(&event)?;
        broker.dead_letters.folded.lock().apply(&event)?;
        broker.suppression.apply_change(&event)?;
        self.heads.apply(&event)?;
        match &event.change {
            Change::TopicPut(TopicPut { topic, .. }) => {
                let mut index = broker.index.write();
                catalog.resolve(topic, &mut index);
                // An append that finds no room in the table would have to allocate under its lock.
                let queues = catalog.queues(topic).unwrap_or_default();
                broker.log.with_state(|state| queues.iter().for_each(|queue| state.raise(*queue, 0)));
                // Of light queues nameservers are not told.
                self.topics_changed |= !names::is_light(topic);
            }
            Change::TopicDeleted(TopicDeleted { topic }) => {
                let mut index = broker.index.write();
                // Offsets go on where they were, should the topic come back; what it held is below its minimum.
                catalog.queues(topic).unwrap_or_default().iter().for_each(|queue| hide(&mut index, *queue));
                catalog.resolve(topic, &mut index);
                self.topics_changed |= !names::is_light(topic);
            }
            Change::KvChanged(KvChanged { change }) => broker.hosted.apply(change),
            Change::OffsetsReset(OffsetsReset { topic, offsets, .. }) => {
                let queues = catalog.queues(topic).unwrap_or_default();
                let moved = offsets.iter().filter_map(|(number, _)| queues.get(*number as usize));
                self.moved.extend(moved);
            }
            Change::HeadSet(HeadSet { topic, queue, next }) => {
                let mut index = broker.index.write();
                let queue = index.register(topic, *queue);
                index.set_head(queue, *next).map_err(|cause| ApplyError::Head { at, cause })?;
                broker.log.with_state(|state| state.raise(queue, *next));
            }
            _ => {}
        }
        drop(catalog);
        match &event.change {
            Change::TopicDeleted(TopicDeleted { topic }) => {
                broker.pops.polling.wake_topic(topic);
                broker.locks.forget_topic(topic);
                broker.statistics.forget_topic(topic);
            }
            Change::GroupDeleted(GroupDeleted { group, .. }) => {
                broker.locks.forget_group(group);
                broker.statistics.forget_group(group);
            }
            // Consumers that wait there learn of it with their next pull.
            Change::OffsetsReset(_) => {
                broker.pops.polling.wake_queues(&self.moved);
                broker.parking.wake(self.moved.drain(..));
            }
            // Pops that wait for a topic without retries, or with fewer queues, wait for these as well.
            Change::TopicPut(TopicPut { topic, .. }) => broker.pops.polling.wake_topic(topic),
            _ => {}
        }
        Ok(())
    }
}

/// The queue of a message that was on its way into the log when its topic was deleted. It was acknowledged, so it
/// takes its place; but the topic's next life must not see it.
fn orphaned(broker: &Broker, at: PhysicalOffset, topic: &str, queue: u32) -> Result<QueueId, ApplyError> {
    let found = broker.index.read().lookup(topic, queue);
    found.ok_or_else(|| ApplyError::NoQueue { at, topic: topic.to_owned(), queue })
}

/// Hides what a queue holds; it goes on behind that.
fn hide(index: &mut Index, queue: QueueId) {
    let end = index.range(queue).end;
    index.set_head(queue, end).expect("a queue may go on where it is");
}

/// Runs a dispatcher on its thread; a record that cannot be applied ends the process, because what readers are told
/// would part from the log.
pub fn run_or_abort(mut dispatcher: Dispatcher) {
    if let Err(error) = dispatcher.run() {
        error!(%error, "dispatch failed; the process ends so that nothing wrong is served");
        std::process::abort();
    }
}
