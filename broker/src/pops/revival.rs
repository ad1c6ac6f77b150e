//! What becomes of popped messages that nobody acknowledges: they go to the retry topic of their group and topic, from
//! which the next pops take them.

use std::sync::Arc;

use skylark_index::QueueId;
use skylark_protocol::message::StoredMessage;
use skylark_storage::{AppendError, PhysicalOffset};
use tracing::{error, warn};

use crate::broker::Broker;
use crate::changes::{ChangeError, ControlRecord};
use crate::engine::Next;
use crate::folds::pops::{BATCH_MAX, BatchKey, PopsSettled, Settled, SettledQueue};
use crate::folds::topics::{TopicConfig, TopicPut};
use crate::names;

use super::PopEngine;
use super::live::{Due, Place};
use super::unit::{self, Draft, Original};

/// Messages in a unit.
const MESSAGES_MAX: usize = 256;
/// Bytes of a unit with more than one message: a flush, and a stage for senders, is not to be long.
const BYTES_MAX: usize = 1 << 20;
/// What a message may take more than the one it was, with its share of the control record and the filling.
const BESIDE_BYTES_MAX: usize = 512;
/// Batches looked at together for those of one group.
const LOOKED_AT_MAX: usize = 4096;

/// The engine's own state. It is volatile: all of it follows from the log.
#[derive(Default)]
pub(super) struct Revival {
    /// Behind the last unit that was appended.
    in_flight: PhysicalOffset,
    /// What failed last, so that it is reported once.
    trouble: Option<String>,
}

/// A message whose time is over.
struct Late {
    place: Arc<Place>,
    key: BatchKey,
    bit: usize,
    offset: u64,
}

impl Revival {
    /// Brings back what is visible again, as much of one group's as a unit holds. Also says how many messages nobody will
    /// get.
    pub(super) fn step(&mut self, broker: &Broker, engine: &PopEngine) -> (Next, u64) {
        if broker.applied.get() < self.in_flight {
            return (Next::Applied(self.in_flight), 0);
        }
        let late = match look(broker, engine) {
            Ok(late) => late,
            Err(next) => {
                self.trouble = None;
                return (next, 0);
            }
        };
        if let Some(why) = broker.archive.refusal() {
            return (self.troubled(why.to_string()), 0);
        }
        match self.revive(broker, engine, &late) {
            Ok((next, undeliverable)) => {
                self.trouble = None;
                if undeliverable > 0 {
                    warn!(
                        undeliverable,
                        "popped messages were dropped: they were trimmed, their topics are gone, or they are damaged"
                    );
                }
                (next, undeliverable)
            }
            Err(next) => (next, 0),
        }
    }

    /// Appends a unit of messages that come back. Also says how many nobody will get.
    fn revive(&mut self, broker: &Broker, engine: &PopEngine, late: &[Late]) -> Result<(Next, u64), Next> {
        let max_bytes = BYTES_MAX.min(usize::try_from(broker.log.unit_bytes_max()).unwrap_or(usize::MAX));
        let mut left_bytes = max_bytes;
        let mut read = Vec::new();
        for late in late {
            let Place { topic, queue, .. } = &*late.place;
            let original = match unit::read(broker, topic, *queue, late.offset) {
                Ok(original) => original,
                Err(unit::Unread::Index(error)) => {
                    broker.unreadable(&error);
                    return Err(self.troubled(error.to_string()));
                }
                Err(error) => return Err(self.troubled(error.to_string())),
            };
            if let Original::Found(payload) = &original {
                let bytes = payload.len() + BESIDE_BYTES_MAX;
                if bytes > left_bytes && !read.is_empty() {
                    break;
                }
                left_bytes = left_bytes.saturating_sub(bytes);
            }
            read.push((late, original));
        }
        let retries = self.retry_topics(broker, read.iter().map(|(late, _)| &*late.place))?;

        // From here to the record nobody else decides what is in flight.
        let mut live = engine.live();
        let now_ms = broker.clock.wall_ms();
        let mut drafts = Vec::new();
        let (mut record, mut gone) = (Vec::<SettledQueue>::new(), 0);
        let group = &*late[0].place.group;
        for ((late, original), retry) in read.iter().zip(&retries) {
            let Place { group, topic, queue } = &*late.place;
            // Acknowledged, prolonged or reset while it was read.
            let batch = live.queue(group, topic, *queue).and_then(|state| state.batch(late.key));
            let is_late =
                batch.is_some_and(|batch| batch.pending >> late.bit & 1 == 1 && batch.visible_at <= now_ms);
            if !is_late {
                continue;
            }
            note(&mut record, topic, *queue, late);
            let parsed = match original {
                Original::Found(payload) => StoredMessage::parse(payload),
                Original::Gone => {
                    gone += 1;
                    continue;
                }
            };
            match (parsed, retry) {
                (Ok((message, _)), (topic, id)) => {
                    drafts.push(Draft::new(topic, *id, message, late.key.popped_at));
                }
                (Err(error), _) => {
                    error!(topic = &**topic, queue, offset = late.offset, %error, "a popped message cannot be understood");
                    gone += 1;
                }
            }
        }
        if record.is_empty() {
            return Ok((Next::Now, 0));
        }
        let record = PopsSettled { group: group.to_owned(), queues: record };
        let control = ControlRecord::of(&record);
        let mut appended = unit::append(broker, &control, &drafts);
        if let ([draft], Err(AppendError::TooLarge { unit_bytes, max_bytes })) = (&*drafts, &appended) {
            // It fitted when it was sent, so this log's units have become smaller. It must not hold up the others.
            let topic = draft.topic;
            error!(
                topic,
                unit_bytes, max_bytes, "a popped message is too large for the log; nobody will get it again"
            );
            appended = unit::append(broker, &control, &[]);
        }
        match appended {
            Ok((end, messages)) => {
                live.settled(&record, end);
                let queues = record.queues.iter().map(|queue| (&*queue.topic, queue.queue));
                live.commit(broker, group, queues);
                self.in_flight = end;
                Ok((Next::Now, gone + (drafts.len() - messages) as u64))
            }
            Err(AppendError::Poisoned { .. } | AppendError::Closed) => Err(Next::Stopped),
            // Room is made by dispatch, which applies groups.
            Err(AppendError::Backpressure { .. }) => Err(Next::Applied(broker.applied.get().advance(1))),
            Err(error) => Err(self.troubled(error.to_string())),
        }
    }

    /// Where each message comes back to. What is missing is made first.
    fn retry_topics<'a>(
        &mut self,
        broker: &Broker,
        places: impl Iterator<Item = &'a Place>,
    ) -> Result<Vec<(String, QueueId)>, Next> {
        let topics: Vec<String> =
            places.map(|place| names::pop_retry_topic(&place.group, &place.topic)).collect();
        let catalog = broker.catalog.read();
        let find = |topic: &String| Some((topic.clone(), *catalog.queues(topic)?.first()?));
        if let Some(found) = topics.iter().map(find).collect() {
            return Ok(found);
        }
        drop(catalog);
        let changed = broker.change(|catalog| {
            let mut missing: Vec<&String> =
                topics.iter().filter(|topic| catalog.topics.queues(topic) == 0).collect();
            missing.sort();
            missing.dedup();
            let put = |topic: &String| {
                ControlRecord::of(&TopicPut { topic: topic.clone(), config: TopicConfig::with_queues(1) })
            };
            missing.into_iter().map(put).collect()
        });
        Err(match changed {
            Ok(Some(end)) => Next::Applied(end),
            Ok(None) => Next::Now,
            Err(ChangeError::Unsettled { until }) => Next::Applied(until),
            Err(ChangeError::Refused(AppendError::Poisoned { .. } | AppendError::Closed)) => Next::Stopped,
            Err(error) => self.troubled(error.to_string()),
        })
    }

    /// Reports what stands in the way, unless it did before.
    fn troubled(&mut self, why: String) -> Next {
        if self.trouble.as_ref() != Some(&why) {
            warn!(why, "popped messages that nobody acknowledged have to wait");
            self.trouble = Some(why);
        }
        Next::Later
    }
}

/// What is visible again of the group that has waited longest; if nothing is, what to wait for.
fn look(broker: &Broker, engine: &PopEngine) -> Result<Vec<Late>, Next> {
    let mut live = engine.live();
    let now_ms = broker.clock.wall_ms();
    let (mut late, mut over): (Vec<Late>, Vec<Due>) = (Vec::new(), Vec::new());
    for due in live.due(now_ms).take(LOOKED_AT_MAX) {
        let Place { group, topic, queue } = &*due.place;
        let state = live.queue(group, topic, *queue);
        let batch =
            state.and_then(|state| state.batch(due.key)).filter(|batch| batch.visible_at == due.visible_at);
        let Some(batch) = batch else {
            over.push(due.clone());
            continue;
        };
        if late.first().is_some_and(|first| first.place.group != *group) {
            continue;
        }
        for bit in (0..BATCH_MAX).filter(|bit| batch.pending >> bit & 1 == 1) {
            let (place, offset) = (Arc::clone(&due.place), batch.offsets.at(bit));
            late.push(Late { place, key: due.key, bit, offset });
        }
        if late.len() >= MESSAGES_MAX {
            break;
        }
    }
    over.iter().for_each(|due| live.forget(due));
    let first = live.first_due().map(|due| due.visible_at);
    drop(live);
    // Queues that are consumed in order have their next messages given out; they are not brought back.
    engine.wake(broker, over.iter().map(|due| (&*due.place.topic, due.place.queue)));
    if !late.is_empty() {
        return Ok(late);
    }
    Err(match first {
        _ if !over.is_empty() => Next::Now,
        Some(visible_at) => Next::Due(visible_at),
        None => Next::Arrival,
    })
}

/// Adds a message to what a record says.
fn note(record: &mut Vec<SettledQueue>, topic: &str, queue: u32, late: &Late) {
    let known = record.iter_mut().find(|known| known.topic == topic && known.queue == queue);
    let known = match known {
        Some(known) => known,
        None => {
            record.push(SettledQueue { topic: topic.to_owned(), queue, settled: Vec::new() });
            record.last_mut().expect("one was pushed above")
        }
    };
    match known.settled.iter_mut().find(|settled| settled.key == late.key) {
        Some(settled) => settled.mask |= 1 << late.bit,
        None => known.settled.push(Settled { key: late.key, mask: 1 << late.bit, again: None }),
    }
}
