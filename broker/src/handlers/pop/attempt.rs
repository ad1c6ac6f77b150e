//! What a pop finds, and how it comes to own it.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use skylark_index::{Answer, Entry, QueueId};
use skylark_protocol::code::ResponseCode;
use skylark_storage::record::RECORD_HEADER_BYTES;
use skylark_storage::{AppendError, PhysicalOffset};

use crate::broker::Broker;
use crate::context::Refusal;
use crate::folds::pops::{MessagesPopped, Offsets, PopQueue, PoppedBatch};
use crate::handlers::offsets::starts_young;
use crate::pops::{BATCHES_MAX, BATCHES_PER_GROUP_MAX, IN_FLIGHT_MAX, Live};
use crate::progress::Reset;
use crate::readers;
use crate::selection::Selection;

use super::{ANSWER_BYTES, Kind, Pop, check_group, check_topic};

/// One of so many pops looks at retries first: they must not starve where there is always something new.
const RETRIES_FIRST: u32 = 5;
/// Messages that are read at once to find out whether they are wanted.
const READ_AT_ONCE: usize = 64;
/// Steps of an expression beyond which a worker does not evaluate it.
const WORKER_STEPS_MAX: usize = 128;

/// What a look came to.
pub(super) enum Attempt {
    /// These messages are the group's.
    Found(Found),
    /// There is nothing in these queues, which end there.
    Nothing(Vec<(Source, u64)>),
    /// There was nothing so far, and more to look at.
    Further,
    /// What is to be looked at is not in memory.
    ToDisk,
    /// Others took what was found.
    Moved,
    /// There is no room in the log.
    NoRoom,
}

/// Messages that a pop is answered with.
pub(super) struct Found {
    /// In milliseconds since 1970.
    pub(super) popped_at: u64,
    /// Messages that are left, more or less.
    pub(super) rest: u64,
    pub(super) queues: Vec<Given>,
    /// How long it was waited for the disk.
    pub(super) waited: Duration,
}

/// What is given out of a queue.
pub(super) struct Given {
    pub(super) is_retry: bool,
    pub(super) number: u32,
    /// Offset, the message, and how often it was given out before if that is known.
    pub(super) messages: Vec<(u64, Bytes, u32)>,
}

/// A queue that a pop looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) is_retry: bool,
    pub(super) number: u32,
    pub(super) queue: QueueId,
}

/// What a look may cost before it gives way to others.
pub(super) struct Budget {
    /// Entries of the index.
    entries: usize,
    /// Bytes of messages read to find out whether they are wanted.
    bytes: u64,
    /// Bytes of properties times steps of the expression.
    work: usize,
    may_block: bool,
}

impl Budget {
    /// Of a worker, which serves other connections as well.
    pub(super) fn worker() -> Self {
        Self { entries: 16_384, bytes: 256 << 10, work: 1 << 20, may_block: false }
    }

    /// Of a reader thread.
    pub(super) fn reader() -> Self {
        Self { entries: 16_384, bytes: 4 << 20, work: 32 << 20, may_block: true }
    }

    fn is_spent(&self) -> bool {
        self.entries == 0 || self.bytes == 0 || self.work == 0
    }
}

/// What was found in a queue from `from` on.
struct Taken {
    source: Source,
    from: u64,
    end: u64,
    /// Where the next look goes on.
    next: u64,
    picked: Vec<Picked>,
}

/// A message that is wanted.
struct Picked {
    offset: u64,
    at: PhysicalOffset,
    record_bytes: u32,
    /// If it had to be read.
    message: Option<Bytes>,
}

/// What an answer has room for.
struct Room {
    messages: usize,
    bytes: usize,
    is_empty: bool,
}

impl Room {
    fn takes(&self, record_bytes: u32) -> bool {
        self.messages > 0 && (self.is_empty || record_bytes as usize <= self.bytes)
    }

    fn take(&mut self, record_bytes: u32) {
        self.messages -= 1;
        self.bytes = self.bytes.saturating_sub(record_bytes as usize);
        self.is_empty = false;
    }
}

/// Looks at the queues of a pop in turn, and takes what it wants.
///
/// # Errors
/// When it may not be, or the disk refuses.
pub(super) fn attempt(broker: &Broker, pop: &Pop, mut budget: Budget) -> Result<Attempt, Refusal> {
    let sources = sources(broker, pop)?;
    let began = broker.clock.monotonic();
    let mut room = Room { messages: pop.messages_max, bytes: ANSWER_BYTES, is_empty: true };
    let mut looked = Vec::with_capacity(sources.len());
    let (mut seen, mut rest, mut is_partial) = (Vec::with_capacity(sources.len()), 0, false);
    for source in sources {
        let range = broker.index.read().range(source.queue);
        seen.push((source, range.end));
        let start = start(broker, &broker.pops.live(), pop, source, &range);
        let Some(from) = start.filter(|from| *from < range.end) else { continue };
        if pop.kind == Kind::Notification {
            let found =
                Found { popped_at: 0, rest: range.end - from, queues: Vec::new(), waited: Duration::ZERO };
            return Ok(Attempt::Found(found));
        }
        if room.messages == 0 || is_partial {
            rest += range.end - from;
            continue;
        }
        let mut taken = Taken { source, from, end: range.end, next: from, picked: Vec::new() };
        if !taken.look(broker, pop, &mut room, &mut budget)? {
            if room.is_empty && !budget.may_block {
                return Ok(Attempt::ToDisk);
            }
            is_partial = true;
        }
        is_partial |= budget.is_spent();
        looked.push(taken);
    }
    let messages: Option<Vec<Bytes>> = read(broker, &looked, &budget)?;
    let Some(messages) = messages else { return Ok(Attempt::ToDisk) };
    let committed = commit(broker, pop, looked, messages)?;
    Ok(match committed {
        Commit::Taken { popped_at, queues, left } => {
            let waited = if budget.may_block {
                broker.clock.monotonic().saturating_sub(began)
            } else {
                Duration::ZERO
            };
            Attempt::Found(Found { popped_at, rest: rest + left, queues, waited })
        }
        Commit::Nothing if is_partial => Attempt::Further,
        Commit::Nothing => Attempt::Nothing(seen),
        Commit::Moved => Attempt::Moved,
        Commit::NoRoom => Attempt::NoRoom,
    })
}

/// The queues of a pop, in the order in which it looks at them.
fn sources(broker: &Broker, pop: &Pop) -> Result<Vec<Source>, Refusal> {
    let catalog = broker.catalog.read();
    let queue_id = pop.queue.map_or(-1, |queue| i32::try_from(queue).unwrap_or(i32::MAX));
    check_topic(&catalog, &pop.topic, queue_id)?;
    check_group(&catalog, &pop.group)?;
    let of = |topic: &str, is_retry: bool| -> Vec<Source> {
        let Some((config, queues)) = catalog.topic(topic) else { return Vec::new() };
        let numbered = (0..config.read_queues).zip(queues.iter().copied());
        numbered.map(|(number, queue)| Source { is_retry, number, queue }).collect()
    };
    let mut sources = of(&pop.topic, false);
    let (turn, count) = (broker.any(), u32::try_from(sources.len()).unwrap_or(u32::MAX).max(1));
    match pop.queue {
        Some(only) => sources.retain(|source| source.number == only),
        None if !sources.is_empty() => {
            sources.rotate_left((turn % count) as usize);
        }
        None => {}
    }
    if pop.attempt.is_none() && pop.retry_topic != pop.topic {
        let mut retries = of(&pop.retry_topic, true);
        // Each queue is the first as often behind retries as before them.
        if (turn / count).is_multiple_of(RETRIES_FIRST) {
            retries.append(&mut sources);
            sources = retries;
        } else {
            sources.append(&mut retries);
        }
    }
    Ok(sources)
}

/// Where the pop goes on in a queue; none if it gets nothing from there for now.
fn start(broker: &Broker, live: &Live, pop: &Pop, source: Source, range: &Range<u64>) -> Option<u64> {
    let topic = if source.is_retry { &*pop.retry_topic } else { &*pop.topic };
    let (group, number) = (&*pop.group, source.number);
    let state = live.queue(group, topic, number);
    if state.is_some_and(|state| state.in_flight() >= IN_FLIGHT_MAX) {
        return None;
    }
    if let (Some(attempt), Some(order)) = (&pop.attempt, state.and_then(PopQueue::order))
        && order.blocks(attempt, broker.clock.wall_ms())
    {
        return None;
    }
    let mut progress = broker.offsets.lock();
    let committed = match progress.take_reset(group, topic, number) {
        // Dispatch wakes those who wait, once the folds have it.
        Reset::After(_) => return None,
        Reset::To(offset) => Some(offset),
        Reset::None => progress.get(group, topic, number),
    };
    drop(progress);
    let from = live.position(group, topic, number).max(committed).unwrap_or_else(|| {
        let is_last = pop.from_last && !source.is_retry && !starts_young(broker, topic, number);
        let from = if is_last { range.end.saturating_sub(1) } else { range.start };
        if pop.kind == Kind::Pop {
            broker.offsets.lock().commit(group, topic, number, from);
        }
        from
    });
    Some(from.clamp(range.start, range.end.max(range.start)))
}

impl Taken {
    /// Looks at what follows, and keeps what is wanted; says whether it could go on to the end of what there is room and
    /// budget for.
    fn look(
        &mut self,
        broker: &Broker,
        pop: &Pop,
        room: &mut Room,
        budget: &mut Budget,
    ) -> Result<bool, Refusal> {
        // What was selected once is wanted.
        let everything = Selection::Tags(skylark_protocol::message::TagFilter::All);
        let selection = if self.source.is_retry { &everything } else { &*pop.selection };
        if !budget.may_block && selection.steps().is_some_and(|steps| steps > WORKER_STEPS_MAX) {
            return Ok(false);
        }
        while self.next < self.end && room.messages > 0 && !budget.is_spent() {
            let limit = if selection.is_everything() {
                room.messages
            } else if selection.reads_messages() {
                READ_AT_ONCE
            } else {
                budget.entries
            };
            let limit = limit.min(budget.entries);
            let answer =
                broker.index.read().entries(self.source.queue, self.next, limit).map(Iterator::collect);
            let entries: Vec<Entry> = match answer {
                Answer::Known(entries) => entries,
                Answer::Sealed(_) if !budget.may_block => return Ok(false),
                Answer::Sealed(sealed) => {
                    sealed.entries(self.next, limit).map_err(|error| broker.unreadable(&error))?
                }
            };
            if entries.is_empty() {
                let remark = "where the queue begins is being looked up; try again";
                return Err(Refusal::new(ResponseCode::SYSTEM_BUSY, remark));
            }
            let mut messages = match selection.reads_messages() {
                false => Vec::new().into_iter(),
                true => match fetch(
                    broker,
                    entries.iter().map(|entry| (entry.physical_offset, entry.record_bytes)),
                    budget,
                )? {
                    Some(messages) => messages.into_iter(),
                    None => return Ok(false),
                },
            };
            for entry in entries {
                if entry.queue_offset >= self.end {
                    return Ok(true);
                }
                let message = messages.next();
                budget.entries = budget.entries.saturating_sub(1);
                if self.wants(selection, &entry, message.as_ref(), budget) {
                    // A batch must be near enough together to be told by a mask and its distances.
                    let first = self.picked.first().map_or(entry.queue_offset, |first| first.offset);
                    if !room.takes(entry.record_bytes) || u32::try_from(entry.queue_offset - first).is_err() {
                        room.messages = 0;
                        return Ok(true);
                    }
                    room.take(entry.record_bytes);
                    self.picked.push(Picked {
                        offset: entry.queue_offset,
                        at: entry.physical_offset,
                        record_bytes: entry.record_bytes,
                        // Of all that was read this may be all that is sent: the rest must not stay in memory for it.
                        message: message.map(|message| Bytes::copy_from_slice(&message)),
                    });
                }
                self.next = entry.queue_offset + 1;
                if room.messages == 0 || budget.is_spent() {
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }

    fn wants(
        &self,
        selection: &Selection,
        entry: &Entry,
        message: Option<&Bytes>,
        budget: &mut Budget,
    ) -> bool {
        if !selection.may_match(entry.tag_hash) {
            return false;
        }
        let Some(message) = message else { return true };
        let (is_wanted, work) = selection.matches(message);
        budget.bytes = budget.bytes.saturating_sub(entry.record_bytes.into());
        budget.work = budget.work.saturating_sub(work);
        is_wanted
    }
}

/// Reads messages; none if they are not in memory and the disk must not be waited for.
fn fetch(
    broker: &Broker,
    records: impl Iterator<Item = (PhysicalOffset, u32)>,
    budget: &Budget,
) -> Result<Option<Vec<Bytes>>, Refusal> {
    let records: Vec<_> = records.collect();
    let hot = |(at, bytes): &(PhysicalOffset, u32)| {
        Some(broker.log.read_hot(*at, *bytes)?.slice(RECORD_HEADER_BYTES..))
    };
    let hot: Option<Vec<Bytes>> = records.iter().map(hot).collect();
    match hot {
        Some(hot) => Ok(Some(hot)),
        None if !budget.may_block => Ok(None),
        None => readers::fetch(broker, &records).map(Some),
    }
}

/// The messages that were picked, in their order.
fn read(broker: &Broker, looked: &[Taken], budget: &Budget) -> Result<Option<Vec<Bytes>>, Refusal> {
    let picked = || looked.iter().flat_map(|taken| &taken.picked);
    let unread = picked().filter(|picked| picked.message.is_none());
    let Some(read) = fetch(broker, unread.map(|picked| (picked.at, picked.record_bytes)), budget)? else {
        return Ok(None);
    };
    let mut read = read.into_iter();
    Ok(picked().map(|picked| picked.message.clone().or_else(|| read.next())).collect())
}

/// What became of what was found.
enum Commit {
    Taken { popped_at: u64, queues: Vec<Given>, left: u64 },
    Nothing,
    Moved,
    NoRoom,
}

/// Makes what was found the group's, unless others were faster.
fn commit(broker: &Broker, pop: &Pop, looked: Vec<Taken>, messages: Vec<Bytes>) -> Result<Commit, Refusal> {
    let mut messages = messages.into_iter();
    let topic = |source: &Source| if source.is_retry { &*pop.retry_topic } else { &*pop.topic };
    let group = &*pop.group;
    // From here to the record nobody else decides what is in flight.
    let mut live = broker.pops.live();
    let popped_at = broker.clock.wall_ms();
    let visible_at = popped_at.saturating_add(pop.invisible_ms);
    let (mut queues, mut batches, mut left, mut is_moved) = (Vec::new(), Vec::new(), 0, false);
    for Taken { source, from, end, next, picked } in looked {
        let own: Vec<Bytes> = messages.by_ref().take(picked.len()).collect();
        let range = broker.index.read().range(source.queue);
        if start(broker, &live, pop, source, &range) != Some(from) {
            is_moved = true;
            continue;
        }
        left += end - next;
        if picked.is_empty() {
            if pop.kind == Kind::Pop {
                live.pass(group, topic(&source), source.number, next);
                live.commit(broker, group, [(topic(&source), source.number)]);
            }
            continue;
        }
        let offsets: Vec<u64> = picked.iter().map(|picked| picked.offset).collect();
        batches.push(PoppedBatch {
            topic: topic(&source).to_owned(),
            queue: source.number,
            offsets: Offsets::new(&offsets),
            next,
        });
        let messages = offsets.into_iter().zip(own).map(|(offset, message)| (offset, message, 0)).collect();
        queues.push(Given { is_retry: source.is_retry, number: source.number, messages });
    }
    if batches.is_empty() {
        return Ok(if is_moved { Commit::Moved } else { Commit::Nothing });
    }
    if pop.kind != Kind::Pop {
        return Ok(Commit::Taken { popped_at, queues, left });
    }
    let held = |of: usize, max: usize| of + batches.len() > max;
    if held(live.batches_of(group), BATCHES_PER_GROUP_MAX) || held(live.batches(), BATCHES_MAX) {
        let (batches, all) = (live.batches_of(group), live.batches());
        let remark = format!(
            "too many popped messages wait to be acknowledged: {batches} batches of the group '{group}', of \
             {BATCHES_PER_GROUP_MAX} that a group may have, and {all} of all groups, of {BATCHES_MAX}; acknowledge some \
             of them, or try again later"
        );
        return Err(Refusal::new(ResponseCode::SYSTEM_BUSY, remark));
    }
    let attempt = pop.attempt.as_deref().map(str::to_owned);
    let record = MessagesPopped { group: group.to_owned(), attempt, popped_at, visible_at, batches };
    let end = match broker.append_one(&record) {
        Ok(end) => end,
        Err(AppendError::Backpressure { .. }) => return Ok(Commit::NoRoom),
        Err(error) => return Err(Refusal::new(ResponseCode::SERVICE_NOT_AVAILABLE, error.to_string())),
    };
    live.popped(record, end);
    let topics = queues.iter().map(|given| if given.is_retry { &*pop.retry_topic } else { &*pop.topic });
    live.commit(broker, group, topics.zip(queues.iter().map(|given| given.number)));
    if pop.attempt.is_some() {
        for given in &mut queues {
            let order = live.queue(group, &pop.topic, given.number).and_then(PopQueue::order);
            for (offset, _, count) in &mut given.messages {
                *count = order.and_then(|order| order.count(*offset)).unwrap_or(0);
            }
        }
    }
    drop(live);
    broker.pops.arrived(visible_at);
    Ok(Commit::Taken { popped_at, queues, left })
}
