//! Dispatch: durable groups become index entries, folds, and wake-ups.

use std::sync::Arc;

use skylark_index::{Entry, Extras, PushError, QueueId};
use skylark_protocol::message::{MessageError, StoredMessage};
use skylark_storage::record::RECORD_HEADER_BYTES;
use skylark_storage::{Group, GroupQueue, PhysicalOffset, Record, Stopped};
use tracing::error;

use crate::broker::Broker;
use crate::delay;
use crate::folds::fold::{Event, Fold, FoldError};
use crate::folds::heads::{Heads, MessagePlace};
use crate::folds::kinds::{self, Change};
use crate::folds::payload::PayloadError;
use crate::system;

/// Applies groups in order, from one thread.
pub struct Dispatcher {
    broker: Arc<Broker>,
    groups: GroupQueue,
    heads: Heads,
    messages: Vec<(QueueId, Entry, Option<u64>)>,
    /// When the first of the group's timers is due.
    first_due: Option<u64>,
    arrived: Vec<(QueueId, i32)>,
    topics_changed: bool,
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
    /// A dispatcher that has applied nothing yet.
    pub fn new(broker: Arc<Broker>, groups: GroupQueue) -> Self {
        Self {
            broker,
            groups,
            heads: Heads::default(),
            messages: Vec::new(),
            first_due: None,
            arrived: Vec::new(),
            topics_changed: false,
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
        self.broker.offsets.lock().overlay.settle(end);
        if std::mem::take(&mut self.topics_changed) {
            self.broker.topics_changed.publish(end);
        }
    }

    fn apply(&mut self, group: &Group) -> Result<u64, ApplyError> {
        self.arrived.clear();
        let mut records = 0;
        for (at, record) in group.records() {
            records += 1;
            let fields = record.header.fields();
            match fields.kind {
                kind if kind.is_internal() => {}
                kinds::MESSAGE => self.message(at, &record)?,
                _ => {
                    // What lies before a change is applied before it.
                    self.flush(group)?;
                    let stored_at = group.created_at + u64::from(fields.stored_at_delta);
                    self.control(at, stored_at, &record)?;
                }
            }
        }
        self.flush(group)?;
        Ok(records)
    }

    /// Takes a message apart, without a lock that senders or readers wait for.
    fn message(&mut self, at: PhysicalOffset, record: &Record<'_>) -> Result<(), ApplyError> {
        let parsed = StoredMessage::parse(record.payload);
        let (message, _) = parsed.map_err(|cause| ApplyError::Message { at, cause })?;
        let tag_hash = message.tag_hash();
        let catalog = self.broker.catalog.read();
        let queues = catalog.queues(message.topic);
        let queue = queues.and_then(|queues| queues.get(message.queue_id as usize).copied());
        let Some(queue) = queue else {
            let (topic, queue) = (message.topic.to_owned(), message.queue_id);
            return Err(ApplyError::NoQueue { at, topic, queue });
        };
        let record_bytes = record.payload.len() + RECORD_HEADER_BYTES;
        let place = MessagePlace {
            topic: message.topic,
            queue: message.queue_id,
            queue_offset: message.queue_offset,
        };
        self.heads.apply(&Event {
            at,
            stored_at: message.store_timestamp,
            change: Change::Message(place),
        })?;
        let entry = Entry {
            queue_offset: message.queue_offset,
            physical_offset: at,
            record_bytes: u32::try_from(record_bytes).expect("a record is below 8 MiB"),
            tag_hash,
            stored_at: message.store_timestamp,
        };
        let is_delayed = message.topic == system::SCHEDULE_TOPIC;
        let due = if is_delayed { delay::due_ms(message.properties()) } else { None };
        self.messages.push((queue, entry, due));
        Ok(())
    }

    /// Puts the messages taken apart so far into their queues.
    fn flush(&mut self, group: &Group) -> Result<(), ApplyError> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let base = self.broker.log.segment_base(group.start);
        let mut index = self.broker.index.write();
        if index.newest_segment().is_none_or(|newest| newest < base) {
            index.begin_segment(base, group.created_at).expect("groups are applied in the log's order");
        }
        for (queue, entry, due) in self.messages.drain(..) {
            let at = entry.physical_offset;
            self.first_due = due.into_iter().chain(self.first_due).min();
            let extras = Extras { due, ..Extras::default() };
            index.push(queue, entry, extras).map_err(|cause| ApplyError::Order { at, cause })?;
            self.arrived.push((queue, entry.tag_hash));
        }
        Ok(())
    }

    fn control(&mut self, at: PhysicalOffset, stored_at: u64, record: &Record<'_>) -> Result<(), ApplyError> {
        let change = Change::decode(record.header.fields().kind, record.payload);
        let change = change.map_err(|cause| ApplyError::Control { at, cause })?;
        let topic = match &change {
            Change::TopicPut(put) => Some(put.topic.clone()),
            Change::TopicDeleted(deleted) => Some(deleted.topic.clone()),
            _ => None,
        };
        let event = Event { at, stored_at, change };
        let broker = &*self.broker;
        let mut catalog = broker.catalog.write();
        catalog.topics.apply(&event)?;
        catalog.groups.apply(&event)?;
        broker.offsets.lock().folded.apply(&event)?;
        self.heads.apply(&event)?;
        broker.timers.folded.lock().apply(&event)?;
        if let Some(topic) = topic {
            let mut index = broker.index.write();
            catalog.resolve(&topic, &mut index);
            // An append that finds no room in the table would have to allocate under its lock.
            let queues = catalog.queues(&topic).unwrap_or_default();
            broker.log.with_state(|state| queues.iter().for_each(|queue| state.raise(*queue, 0)));
            self.topics_changed = true;
        }
        Ok(())
    }
}

/// Runs a dispatcher on its thread; a record that cannot be applied ends the process, because what readers are told
/// would part from the log.
pub fn run_or_abort(mut dispatcher: Dispatcher) {
    if let Err(error) = dispatcher.run() {
        error!(%error, "dispatch failed; the process ends so that nothing wrong is served");
        std::process::abort();
    }
}
