//! Suppression of duplicates: a message that its producer sends again is acknowledged as it was, and stored once.
//!
//! ```text
//!  send ──► known? ── no ──► log, as a unique message ──► dispatch ──► folds::duplicates
//!             │ ▲                   │                                          │
//!             │ └───────────────────┴──────────────── floor, and at a start ◄──┘
//!             └── yes ──► answer of the first, once that is durable
//! ```
//!
//! It is for topics and producer groups that say so, by their attribute [`ATTRIBUTE`]; what it costs others is a look
//! at that. A message is the same as another if topic, client's key and body are: a producer's own retry sends all
//! three again, to whichever queue. So does an application that sends the same object twice, whose key stays with it;
//! where that is meant to be two messages, the topic must not ask for suppression.
//!
//! Promises, and why they hold:
//!
//! - **Once.** Whether a message is known, and that it was appended, is decided under one lock for each fingerprint,
//!   so two connections cannot both be the first. What is known runs ahead of the fold of [`duplicates`], which has what
//!   is visible and says what has left the window. A restart begins with the fold at the log's end.
//! - **No acknowledgement without a message.** What the log refuses is not known afterwards. A repetition waits for
//!   the same place to be durable as the first, and fails as that does.
//! - **Bounded.** See [`WindowLimits`]: what is older, or further back, is stored again.
//!
//! What the broker itself appends is never looked up and never known: retries, dead letters, delayed messages when they
//! are due, half messages when they are committed. The delayed or half message is, as one of the topic it is for. So a
//! repetition of one that was recalled is acknowledged, and stays recalled: a retry that comes late must not bring it
//! back. A repetition's recall handle names the time of the first, which alone waits.
//!
//! A half message that was rolled back or given up counts no more once the log says so, since the producer that sends it
//! again is about to commit it, and there would be nothing to commit. Until that is folded, the transactions know.
//!
//! Lock order: a fingerprint's lock comes before that of the open transactions, the fold's and the log's append lock.
//! Dispatch, which makes room for appends, takes no fingerprint's.
//!
//! [`duplicates`]: crate::folds::duplicates
//! [`WindowLimits`]: crate::folds::duplicates::WindowLimits

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use skylark_index::Entry;
use skylark_protocol::message::{MessageParts, properties};
use skylark_storage::{AppendError, Kind, LogId, PhysicalOffset};
use tracing::warn;

use crate::append::{Stamped, Stored};
use crate::broker::Broker;
use crate::folds::duplicates::{Fingerprint, Sent, SentMessage, SentPlace, WindowLimits};
use crate::folds::kinds;
use crate::folds::{Change, DuplicateWindow, Event, Fold, FoldError};
use crate::indexing::Indexed;
use crate::system;

use known::Known;

pub mod known;

/// The attribute of a topic, or of a producer group, that says what becomes of messages that are sent again.
pub const ATTRIBUTE: &str = "skylark.duplicates";
/// They are not stored again.
pub const SUPPRESS: &str = "suppress";
/// They are stored again: as if the attribute was not there.
pub const STORE: &str = "store";

/// A window that reaches back less than this, in milliseconds, holds fewer messages than its users need: a producer tries
/// for some seconds, and a restart is to fit in.
const REACH_MIN_MS: u64 = 60_000;

/// Fingerprints are spread over so many locks.
const SHARDS: usize = 64;

/// What is known to have been sent.
///
/// Memory: up to 118 bytes for each message of the window, its part in the fold included, 145 while it grows.
pub struct Suppression {
    /// As of what was dispatched.
    pub folded: Mutex<DuplicateWindow>,
    /// As of the log's appended end, in parts by fingerprint. What has left the fold goes when the part is used.
    known: Box<[Mutex<Known>]>,
    /// Messages below this place have left the window: published by the dispatcher.
    floor: AtomicU64,
    /// Whether it was said that the window reaches back too little.
    is_short: AtomicBool,
    log_id: LogId,
    suppressed: AtomicU64,
}

/// A message that is in the log: this one, or the first of those that are the same.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Where it lies.
    pub stored: Stored,
    /// The queue that its sender is told.
    pub queue_id: u32,
    /// When it is due, in milliseconds since 1970, if it waits for a time, and that is known.
    pub due_ms: Option<u64>,
    /// Whether it was sent before, and nothing was appended this time.
    pub is_repeated: bool,
}

/// A message that is to be appended unless it is known.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// What tells it from others; absent for one of those that never are known.
    pub fingerprint: Option<Fingerprint>,
    /// The topic it is sent to.
    pub topic: &'a str,
    /// The queue that its sender asks for.
    pub queue_id: u32,
    /// When it is due, in milliseconds since 1970, if it waits for a time.
    pub due_ms: Option<u64>,
}

impl Suppression {
    /// What is known where folding begins. The rest follows by [`restore`](Self::restore).
    pub fn new(folded: DuplicateWindow, log_id: LogId) -> Self {
        Self {
            floor: AtomicU64::new(folded.floor()),
            folded: Mutex::new(folded),
            known: (0..SHARDS).map(|_| Mutex::default()).collect(),
            is_short: AtomicBool::new(false),
            log_id,
            suppressed: AtomicU64::new(0),
        }
    }

    /// Knows what the fold does, at the end of the log, before anything is appended.
    pub fn restore(&self) {
        for message in self.folded.lock().iter().filter(|message| !message.is_withdrawn()) {
            self.known[shard(message.fingerprint)].lock().push(*message, 0);
        }
    }

    /// Folds messages whose records are of those that are not to be stored again.
    ///
    /// # Errors
    /// When the fold does not take them.
    pub fn apply(&self, messages: impl Iterator<Item = Event<'static>>) -> Result<(), FoldError> {
        let mut folded = self.folded.lock();
        for message in messages {
            folded.apply(&message)?;
        }
        self.publish(&folded);
        Ok(())
    }

    /// Folds a record of the broker's own state.
    ///
    /// # Errors
    /// When the fold does not take it.
    pub fn apply_change(&self, event: &Event<'_>) -> Result<(), FoldError> {
        let mut folded = self.folded.lock();
        folded.apply(event)?;
        self.publish(&folded);
        Ok(())
    }

    fn publish(&self, folded: &DuplicateWindow) {
        // Relaxed: what is below it leaves now or a moment later.
        self.floor.store(folded.floor(), Ordering::Relaxed);
        let Some(reach_ms) = folded.reach_ms().filter(|reach_ms| *reach_ms < REACH_MIN_MS) else { return };
        // Once is enough to know; how it stands since is among the broker's figures.
        if !self.is_short.swap(true, Ordering::Relaxed) {
            let messages = folded.len();
            warn!(
                reach_ms,
                messages,
                "the window of duplicates is full after less than a minute: what producers send again later is stored \
                 again; `--duplicate-window-messages` makes room for more"
            );
        }
    }

    /// Messages that lie below this have left the window.
    fn floor(&self) -> u64 {
        // Relaxed: see where it is published.
        self.floor.load(Ordering::Relaxed)
    }

    /// The fingerprint of a message of this topic.
    pub fn fingerprint(&self, topic: &str, unique_key: &str, parts: &MessageParts<'_>) -> Fingerprint {
        let (body_crc, body_bytes) = (parts.body_crc(), parts.body().len());
        Fingerprint::new(self.log_id, &Sent { topic, unique_key, body_crc, body_bytes })
    }

    /// What the fold is told of a message that lies in a record of the kind [`kinds::UNIQUE_MESSAGE`].
    pub fn sent(&self, indexed: &Indexed<'_>) -> Event<'static> {
        let Indexed { ref message, entry, due, .. } = *indexed;
        let (mut topic, mut queue) = (message.topic, message.queue_id);
        if system::holds_for_others(topic) {
            let [real_topic, real_queue] =
                message.properties().pick([properties::REAL_TOPIC, properties::REAL_QID]);
            topic = real_topic.unwrap_or(topic);
            queue = real_queue.and_then(|id| id.parse().ok()).unwrap_or(queue);
        }
        let unique_key = indexed.unique_key.unwrap_or_default();
        let (body_crc, body_bytes) = (message.body_crc, message.body.len());
        let sent = Sent { topic, unique_key, body_crc, body_bytes };
        let fingerprint = Fingerprint::new(self.log_id, &sent);
        let due = due.filter(|_| message.topic == system::TIMER_TOPIC);
        let wait_ms = wait_ms(due, entry.stored_at);
        let Entry { physical_offset: at, stored_at, queue_offset, .. } = entry;
        let place = SentPlace { fingerprint, queue, queue_offset, wait_ms };
        Event { at, stored_at, change: Change::Sent(place) }
    }

    /// Appends a message unless it is known.
    ///
    /// # Errors
    /// As `append`, which is told what kind of record to append. The message is not known then.
    pub fn once(
        &self,
        broker: &Broker,
        message: Sending<'_>,
        append: impl FnOnce(Kind) -> Result<Stored, AppendError>,
    ) -> Result<Accepted, AppendError> {
        let Sending { fingerprint, topic, queue_id, due_ms } = message;
        let accepted = |stored| Accepted { stored, queue_id, due_ms, is_repeated: false };
        let Some(fingerprint) = fingerprint else { return append(kinds::MESSAGE).map(accepted) };
        let mut shard = self.known[shard(fingerprint)].lock();
        if let Some(first) = self.find(broker, &shard, fingerprint, topic) {
            self.count(1);
            return Ok(first);
        }
        let accepted = accepted(append(kinds::UNIQUE_MESSAGE)?);
        shard.push(sent(fingerprint, &accepted), self.floor());
        Ok(accepted)
    }

    /// Locks what is known of several messages together, those of a batch; `None` stands for one that never is.
    pub fn batch(&self, fingerprints: &[Option<Fingerprint>]) -> Batch<'_> {
        let mut wanted = [false; SHARDS];
        fingerprints.iter().flatten().for_each(|fingerprint| wanted[shard(*fingerprint)] = true);
        // All batches take them in this order.
        let wanted = (0..SHARDS).filter(|shard| wanted[*shard]);
        let shards = wanted.map(|shard| (shard, self.known[shard].lock())).collect();
        Batch { suppression: self, shards }
    }

    /// How many messages were not stored again since the start.
    pub fn suppressed(&self) -> u64 {
        // Relaxed: a figure for people.
        self.suppressed.load(Ordering::Relaxed)
    }

    fn count(&self, messages: u64) {
        // Relaxed: a figure for people.
        self.suppressed.fetch_add(messages, Ordering::Relaxed);
    }

    /// The message that was sent before.
    fn find(
        &self,
        broker: &Broker,
        shard: &Known,
        fingerprint: Fingerprint,
        topic: &str,
    ) -> Option<Accepted> {
        let first = shard.find(fingerprint, self.floor())?;
        // First: it leaves the window before its transaction is gone.
        if broker.transactions.is_withdrawn(PhysicalOffset::new(first.at)) {
            return None;
        }
        let folded = self.folded.lock();
        let WindowLimits { messages_max, age_max_ms } = folded.limits();
        let is_gone = messages_max == 0 || folded.is_gone(topic, first.at) || folded.is_withdrawn(first.at);
        drop(folded);
        if is_gone || broker.clock.wall_ms().saturating_sub(first.stored_at) > age_max_ms {
            return None;
        }
        let SentMessage { queue_offset, at: physical_offset, stored_at, queue, wait_ms, .. } = first;
        let stamped = Stamped { queue_offset, physical_offset, stored_at };
        // Frontiers move by whole groups: one that is behind the record's beginning is behind its end.
        let end = PhysicalOffset::new(physical_offset).advance(1);
        let due_ms = (wait_ms > 0).then(|| stored_at.saturating_add(wait_ms.into()));
        Some(Accepted { stored: Stored { stamped, end }, queue_id: queue, due_ms, is_repeated: true })
    }
}

/// What is known of the messages of a batch, until they are appended.
pub struct Batch<'a> {
    suppression: &'a Suppression,
    shards: Vec<(usize, MutexGuard<'a, Known>)>,
}

impl Batch<'_> {
    /// The message that was sent before, if it was.
    pub fn find(&self, broker: &Broker, fingerprint: Fingerprint, topic: &str) -> Option<Accepted> {
        let (_, shard) = self.shards.iter().find(|(number, _)| *number == shard(fingerprint))?;
        self.suppression.find(broker, shard, fingerprint, topic)
    }

    /// A message was appended.
    pub fn push(&mut self, fingerprint: Fingerprint, accepted: &Accepted) {
        let shards = self.shards.iter_mut();
        for (_, shard) in shards.filter(|(number, _)| *number == shard(fingerprint)) {
            shard.push(sent(fingerprint, accepted), self.suppression.floor());
        }
    }

    /// So many messages were not stored again.
    pub fn count(&self, messages: u64) {
        self.suppression.count(messages);
    }
}

fn sent(fingerprint: Fingerprint, accepted: &Accepted) -> SentMessage {
    let Accepted { stored: Stored { stamped, .. }, queue_id: queue, due_ms, .. } = *accepted;
    let Stamped { queue_offset, physical_offset: at, stored_at } = stamped;
    SentMessage { fingerprint, at, stored_at, queue_offset, queue, wait_ms: wait_ms(due_ms, stored_at) }
}

/// For how long a message waits behind the moment at which it was stored, in milliseconds; 0 for one that does not, and
/// for one that waits for longer than 49 days, which the number cannot say.
fn wait_ms(due_ms: Option<u64>, stored_at: u64) -> u32 {
    due_ms.and_then(|due_ms| u32::try_from(due_ms.saturating_sub(stored_at)).ok()).unwrap_or(0)
}

fn shard(fingerprint: Fingerprint) -> usize {
    // The table in the shard goes by other bits.
    usize::try_from(fingerprint.short() >> 32).unwrap_or_default() % SHARDS
}

/// Whether the attribute may have this value.
pub fn is_attribute_value(value: &str) -> bool {
    matches!(value, SUPPRESS | STORE)
}

/// Whether messages to a topic, or of a producer group, with these attributes are not to be stored again.
pub fn is_asked_for(attributes: &BTreeMap<String, String>) -> bool {
    attributes.get(ATTRIBUTE).is_some_and(|value| value == SUPPRESS)
}
