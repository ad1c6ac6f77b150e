//! The way of a pull through its queue where that takes longer than a look: past messages that are not wanted, through
//! files, or by what messages themselves say.
//!
//! ```text
//!  session ── hot messages, few ──► found, or at the end: answered, or parked again
//!     │ more, or on disk
//!     ▼
//!  readers ── a step, behind other jobs ──► found, at the end, or a second is over: answered
//!     ▲                                │ nothing yet
//!     └────────────────────────────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use skylark_index::{Answer, Entry};
use skylark_protocol::transport::Outbox;
use skylark_storage::PhysicalOffset;
use skylark_storage::record::RECORD_HEADER_BYTES;

use super::{ANSWER_BYTES, EXAMINED_MAX, Found, Pull, Status, overtaken, unsettled};
use crate::broker::Broker;
use crate::context::{Connection, Refusal};
use crate::light;
use crate::readers::{self, Turn};

/// How long a pull goes on without finding anything. Then the client is told how far it came, so that it can commit that.
const SCAN_MAX: Duration = Duration::from_secs(1);
/// Bytes of messages that are read at once.
const BATCH_BYTES: u64 = 1 << 20;
/// Entries of the index that are looked up at once where messages are read.
const LOOKED_UP: usize = 1024;

/// Steps of an expression beyond which a worker does not evaluate it: each may go through all properties of a message, and
/// those have up to 32 KiB.
const WORKER_STEPS_MAX: usize = 128;

/// What a step may cost before it gives way to others.
struct Budget {
    entries: usize,
    /// Bytes of messages.
    bytes: u64,
    /// Bytes of properties times steps of the expression.
    work: usize,
}

impl Budget {
    /// Of a worker, which serves other connections as well.
    const WORKER: Self = Self { entries: 256, bytes: 256 << 10, work: 1 << 20 };
    /// Of a reader thread.
    const READER: Self = Self { entries: EXAMINED_MAX, bytes: 4 << 20, work: 32 << 20 };

    fn is_spent(&self) -> bool {
        self.entries == 0 || self.bytes == 0 || self.work == 0
    }
}

/// A pull on its way.
pub(super) struct Scan {
    pull: Pull,
    /// The first offset that was not looked at.
    next: u64,
    began: Duration,
    messages: Vec<Bytes>,
    /// Of records, with their headers.
    bytes: u64,
}

/// How far a step came.
enum Came {
    /// There is something to send.
    ToMessages,
    /// The queue ends, and there was nothing.
    ToEnd,
    /// There was nothing so far.
    Further,
    /// What follows is not in memory.
    ToDisk,
}

impl Scan {
    pub(super) fn new(broker: &Broker, pull: Pull, next: u64) -> Self {
        let began = broker.clock.monotonic();
        Self { pull, next, began, messages: Vec::new(), bytes: 0 }
    }

    /// Whether a worker may look at messages: if they are what it goes by, and none of them can take it long.
    pub(super) fn is_for_workers(&self) -> bool {
        self.pull.selection.steps().is_some_and(|steps| steps <= WORKER_STEPS_MAX)
    }

    /// Goes on in memory, as far as a worker may, then on a reader thread.
    pub(super) fn go_on_here(mut self, broker: &Broker, connection: &Connection, out: &mut Outbox) {
        let hot = |records: &[(PhysicalOffset, u32)]| -> Result<Option<Vec<Bytes>>, Refusal> {
            let hot = |(at, bytes): &(PhysicalOffset, u32)| {
                Some(broker.log.read_hot(*at, *bytes)?.slice(RECORD_HEADER_BYTES..))
            };
            Ok(records.iter().map(hot).collect())
        };
        let reply = self.pull.reply;
        match self.step(broker, Budget::WORKER, false, hot) {
            Ok(Came::Further | Came::ToDisk) => self.go_on_reading(broker, connection, out),
            Ok(Came::ToMessages) => self.answer(broker, out),
            Ok(Came::ToEnd) if self.pull.until.is_some() => {
                super::park_again(broker, Box::new(self.advanced()), connection, out);
            }
            Ok(Came::ToEnd) => self.answer(broker, out),
            Err(refusal) => reply.failure(out.buffer(), refusal.code, &refusal.remark),
        }
    }

    /// Goes on on reader threads, in turn with what else they have to do.
    pub(super) fn go_on_reading(mut self, broker: &Broker, connection: &Connection, out: &mut Outbox) {
        let reply = self.pull.reply;
        let submitted =
            broker.readers.take_turns(connection, reply, ANSWER_BYTES as u64, move |broker, out| {
                let read = |records: &[(PhysicalOffset, u32)]| readers::fetch(broker, records).map(Some);
                match self.step(broker, Budget::READER, true, read) {
                    Err(refusal) => overtaken(broker, reply, (self.pull.queue, self.next), refusal, out)
                        .map(|()| Turn::Written),
                    Ok(Came::ToEnd) if self.pull.until.is_some() => {
                        Ok(Turn::Parked(Box::new(self.advanced())))
                    }
                    Ok(Came::Further) if broker.clock.monotonic().saturating_sub(self.began) < SCAN_MAX => {
                        Ok(Turn::Again)
                    }
                    Ok(_) => {
                        self.answer(broker, out);
                        Ok(Turn::Written)
                    }
                }
            });
        if let Err(refusal) = submitted {
            reply.failure(out.buffer(), refusal.code, &refusal.remark);
        }
    }

    /// The pull as it goes on where nothing was found.
    fn advanced(&self) -> Pull {
        Pull { offset: i64::try_from(self.next).unwrap_or(i64::MAX), ..self.pull.clone() }
    }

    fn answer(&mut self, broker: &Broker, out: &mut Outbox) {
        let range = broker.index.read().range(self.pull.queue);
        let found: Found = self.pull.found(self.next, &range);
        self.pull.note(&found);
        if self.messages.is_empty() {
            broker.statistics.got_nothing();
            return found.respond(Status::NoneMatched, &[], out);
        }
        match &self.pull.light {
            Some(queue) => {
                found.respond(Status::Found, &light::renumbered(queue, self.messages.clone()), out)
            }
            None => found.respond(Status::Found, &self.messages, out),
        }
        let waited = broker.clock.monotonic().saturating_sub(self.began);
        self.pull.tally.got(broker, self.messages.len() as u64, self.bytes, waited);
    }

    /// Looks at what follows, and keeps what is wanted. `read` gives messages, or none if they are not in memory.
    ///
    /// # Errors
    /// When something cannot be read.
    fn step(
        &mut self,
        broker: &Broker,
        mut budget: Budget,
        may_block: bool,
        read: impl Fn(&[(PhysicalOffset, u32)]) -> Result<Option<Vec<Bytes>>, Refusal>,
    ) -> Result<Came, Refusal> {
        let queue = self.pull.queue;
        while !budget.is_spent() {
            let end = broker.index.read().range(queue).end;
            if self.next >= end {
                return Ok(if self.messages.is_empty() { Came::ToEnd } else { Came::ToMessages });
            }
            let limit = self.look_up_max().min(budget.entries);
            let answer = broker.index.read().entries(queue, self.next, limit).map(Iterator::collect);
            let entries: Vec<Entry> = match answer {
                Answer::Known(entries) => entries,
                Answer::Sealed(_) if !may_block => return Ok(self.came_to_disk()),
                Answer::Sealed(sealed) => {
                    sealed.entries(self.next, limit).map_err(|error| broker.unreadable(&error))?
                }
            };
            if entries.is_empty() {
                return Err(unsettled());
            }
            let mut rest = entries.as_slice();
            while !rest.is_empty() && !budget.is_spent() {
                let (batch, behind) = rest.split_at(self.batch(rest));
                rest = behind;
                if !self.take(batch, &mut budget, &read)? {
                    return Ok(self.came_to_disk());
                }
                if self.is_full(0) || self.next <= batch[batch.len() - 1].queue_offset {
                    return Ok(Came::ToMessages);
                }
            }
        }
        Ok(if self.messages.is_empty() { Came::Further } else { Came::ToMessages })
    }

    /// What was found is sent before anything is read from disk.
    fn came_to_disk(&self) -> Came {
        if self.messages.is_empty() { Came::ToDisk } else { Came::ToMessages }
    }

    fn look_up_max(&self) -> usize {
        if self.pull.selection.is_everything() {
            self.pull.messages_max - self.messages.len()
        } else if self.pull.selection.reads_messages() {
            LOOKED_UP
        } else {
            EXAMINED_MAX
        }
    }

    /// How many of these entries are looked at together: at least one.
    fn batch(&self, entries: &[Entry]) -> usize {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            if self.pull.selection.may_match(entry.tag_hash) {
                bytes += u64::from(entry.record_bytes);
            }
            bytes <= BATCH_BYTES
        };
        entries.iter().take_while(fits).count().max(1)
    }

    /// Takes a batch of entries, up to where the answer is full; says whether its messages could be read.
    fn take(
        &mut self,
        batch: &[Entry],
        budget: &mut Budget,
        read: impl Fn(&[(PhysicalOffset, u32)]) -> Result<Option<Vec<Bytes>>, Refusal>,
    ) -> Result<bool, Refusal> {
        let selection = Arc::clone(&self.pull.selection);
        let mut wanted: Vec<(PhysicalOffset, u32)> = batch
            .iter()
            .filter(|entry| selection.may_match(entry.tag_hash))
            .map(|entry| (entry.physical_offset, entry.record_bytes))
            .collect();
        if !selection.reads_messages() {
            wanted.truncate(self.room(&wanted));
        }
        let Some(bodies) = read(&wanted)? else { return Ok(false) };
        let mut bodies = bodies.into_iter();
        for entry in batch {
            budget.entries = budget.entries.saturating_sub(1);
            if selection.may_match(entry.tag_hash) {
                if self.is_full(entry.record_bytes) {
                    return Ok(true);
                }
                // What was not read any more has no room in the answer.
                let Some(body) = bodies.next() else { return Ok(true) };
                let (is_wanted, work) = selection.matches(&body);
                budget.bytes = budget.bytes.saturating_sub(entry.record_bytes.into());
                budget.work = budget.work.saturating_sub(work);
                if is_wanted {
                    self.bytes += u64::from(entry.record_bytes);
                    // Of all that was read this may be all that is sent: the rest must not stay in memory for it.
                    let copied = selection.reads_messages();
                    self.messages.push(if copied { Bytes::copy_from_slice(&body) } else { body });
                }
            }
            self.next = entry.queue_offset + 1;
        }
        Ok(true)
    }

    /// How many of these records the answer has room for, all of which are wanted.
    fn room(&self, wanted: &[(PhysicalOffset, u32)]) -> usize {
        let (mut count, mut bytes) = (self.messages.len(), self.bytes);
        let fits = |(_, record_bytes): &&(PhysicalOffset, u32)| {
            let fits = count < self.pull.messages_max
                && (count == 0 || bytes + u64::from(*record_bytes) <= ANSWER_BYTES as u64);
            count += 1;
            bytes += u64::from(*record_bytes);
            fits
        };
        wanted.iter().take_while(fits).count()
    }

    /// Whether a message of so many bytes would be too much.
    fn is_full(&self, record_bytes: u32) -> bool {
        let bytes = self.bytes + u64::from(record_bytes);
        self.messages.len() >= self.pull.messages_max
            || !self.messages.is_empty() && bytes > ANSWER_BYTES as u64
    }
}
