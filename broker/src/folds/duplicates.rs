//! Which messages were sent lately, so that one that is sent again is known.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use siphasher::sip128::SipHasher13;
use skylark_storage::{Kind, LogId};

use super::fold::{Event, Fold, FoldError};
use super::kinds::{self, Change};
use super::payload::Payload;
use super::topics::TopicDeleted;
use crate::names;

mod stored;

/// Deleted topics that are remembered. Their names are to take little beside the messages.
const DELETED_MAX: usize = 10_000;

/// What a fingerprint is made of beside names: checksum and length of the body, and where the topic ends.
const NUMBERS_BYTES: usize = 4 + 8 + 4;

/// What tells a message from any other: its topic, what its client calls it, and its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent<'a> {
    /// The topic it was sent to, wherever it lies.
    pub topic: &'a str,
    /// What its client calls it.
    pub unique_key: &'a str,
    /// Checksum of its body, as it was sent.
    pub body_crc: u32,
    /// Length of its body.
    pub body_bytes: usize,
}

/// 128 bits made of a [`Sent`].
///
/// SipHash under the log's id: the same for all replicas of a log, and nobody who does not know the id can make two
/// messages look the same. Of the 10^12 messages that go by a window of 200,000, one is mistaken for another with a
/// probability below 10^-20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u64; 2]);

impl Fingerprint {
    /// The fingerprint of a message in this log.
    pub fn new(log_id: LogId, sent: &Sent<'_>) -> Self {
        // In one piece: the hash takes eight bytes at a time, and pieces end in between.
        let bytes = NUMBERS_BYTES + sent.topic.len() + sent.unique_key.len();
        let (mut short, mut long) = ([0; 256], Vec::new());
        let whole = match short.get_mut(..bytes) {
            Some(whole) => whole,
            None => {
                long.resize(bytes, 0);
                &mut long
            }
        };
        let (numbers, names) = whole.split_at_mut(NUMBERS_BYTES);
        numbers[..4].copy_from_slice(&sent.body_crc.to_le_bytes());
        // Both are below 4 GiB by far; and a length that was cut would still be the same for the same message.
        numbers[4..12].copy_from_slice(&(sent.body_bytes as u64).to_le_bytes());
        numbers[12..].copy_from_slice(&(sent.topic.len() as u64).to_le_bytes()[..4]);
        let (topic, unique_key) = names.split_at_mut(sent.topic.len());
        topic.copy_from_slice(sent.topic.as_bytes());
        unique_key.copy_from_slice(sent.unique_key.as_bytes());
        let hash = SipHasher13::new_with_key(&log_id.to_bytes()).hash(whole);
        Self([hash.h1, hash.h2])
    }

    /// A fingerprint of this number, whatever it stands for.
    #[cfg(test)]
    pub(crate) const fn of(number: u64) -> Self {
        Self([number, !number])
    }

    /// Stands where that of a message was which does not count any more. None has it, but with a probability of 2^-128.
    const NONE: Self = Self([0; 2]);

    /// Half of its bits.
    pub const fn short(self) -> u64 {
        self.0[0]
    }

    /// The other half.
    pub const fn spread(self) -> u64 {
        self.0[1]
    }
}

/// A message took its place that must not be stored again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentPlace {
    /// Which.
    pub fingerprint: Fingerprint,
    /// The queue that its sender was told.
    pub queue: u32,
    /// Its number in the queue it lies in.
    pub queue_offset: u64,
    /// For how long it waits behind the moment at which it was stored, in milliseconds; 0 if it does not wait for a time,
    /// or not so that this can say it.
    pub wait_ms: u32,
}

/// How much the window holds from here on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowLimits {
    /// So many messages.
    pub messages_max: u32,
    /// Of these, those count that are no older, in milliseconds.
    pub age_max_ms: u64,
}

impl Default for WindowLimits {
    /// Producers try again for a few seconds; a restart, or another machine that takes over, is to fit in.
    fn default() -> Self {
        Self { messages_max: 200_000, age_max_ms: 600_000 }
    }
}

impl Payload for WindowLimits {
    const KIND: Kind = kinds::WINDOW_LIMITS;
    const VERSION: u8 = 1;
}

/// A message that was sent, as the window keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentMessage {
    /// Which.
    pub fingerprint: Fingerprint,
    /// Where its record lies.
    pub at: u64,
    /// When it was stored, in milliseconds since 1970.
    pub stored_at: u64,
    /// Its number in the queue it lies in.
    pub queue_offset: u64,
    /// The queue that its sender was told.
    pub queue: u32,
    /// For how long it waits behind the moment at which it was stored, in milliseconds; 0 if it does not wait for a time,
    /// or not so that this can say it.
    pub wait_ms: u32,
}

const _: () = assert!(size_of::<SentMessage>() == 48);

impl SentMessage {
    /// Whether nobody gets to see it, so that it does not count any more. It takes its room all the same.
    pub fn is_withdrawn(&self) -> bool {
        self.fingerprint == Fingerprint::NONE
    }
}

/// The messages whose repetitions are not stored, the latest so many.
///
/// Only messages that say so in their record's kind are in it, so what an operator switches on and off needs no look
/// here. A message that was trimmed stays: it was stored, and a repetition is none the less one.
/// What lay in a topic that was deleted does not count, since whoever sends it again means the topic's next life. Nor
/// does a half message of which nobody gets to see anything: whoever sends that again begins another transaction.
///
/// Messages leave it by their number alone. One that is too old stays, and whoever finds it looks at the clock: a clock
/// that is ahead for one message must not take all others along.
///
/// Nothing is looked up here: [`Known`] does that, which runs ahead of the fold.
///
/// Memory: 48 bytes for each message, a quarter more while it grows, and the names of 10,000 deleted topics at most. A
/// snapshot takes about 24 for each message.
///
/// [`Known`]: crate::suppression::known::Known
#[derive(Clone, Debug, Default)]
pub struct DuplicateWindow {
    limits: WindowLimits,
    /// In the log's order.
    messages: VecDeque<SentMessage>,
    /// What lies below has left the window. Follows from what was applied, and begins anew with a snapshot.
    floor: u64,
    /// Topics that were deleted, and where the log says so; as long as something in the window lies before that. If there
    /// are too many, what lies before the first of them leaves the window.
    deleted: BTreeMap<String, u64>,
    /// None of them was deleted before this place. Spares each message a look at all of them.
    deleted_from: u64,
}

impl DuplicateWindow {
    /// How much it holds at most.
    pub fn limits(&self) -> WindowLimits {
        self.limits
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// How far back it reaches, in milliseconds; absent while there is room for more messages.
    pub fn reach_ms(&self) -> Option<u64> {
        let is_full = self.messages.len() >= self.limits.messages_max as usize;
        let (oldest, newest) = (self.messages.front()?, self.messages.back()?);
        is_full.then(|| newest.stored_at.saturating_sub(oldest.stored_at))
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages it holds, in the log's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SentMessage> {
        self.messages.iter()
    }

    /// Messages that lie below this have left it.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether the topic that a message here was sent to was deleted since.
    pub fn is_gone(&self, topic: &str, at: u64) -> bool {
        self.deleted.get(topic).is_some_and(|deleted| at < *deleted)
    }

    /// Whether what lies here is a half message that was rolled back or given up.
    pub fn is_withdrawn(&self, at: u64) -> bool {
        self.number(at).is_some_and(|number| self.messages[number].is_withdrawn())
    }

    fn number(&self, at: u64) -> Option<usize> {
        self.messages.binary_search_by_key(&at, |message| message.at).ok()
    }

    fn push(&mut self, message: SentMessage) {
        if self.messages.len() == self.messages.capacity() {
            self.messages.reserve_exact(self.messages.len() / 4 + 64);
        }
        self.messages.push_back(message);
    }

    /// Lets go of what there is no room for, and of what lies below `below`.
    fn shrink(&mut self, below: u64) {
        let messages_max = self.limits.messages_max as usize;
        let is_over =
            |window: &Self, first: &SentMessage| window.messages.len() > messages_max || first.at < below;
        while let Some(first) = self.messages.front().copied().filter(|first| is_over(self, first)) {
            self.messages.pop_front();
            self.floor = first.at + 1;
        }
        let first_at = self.messages.front().map_or(u64::MAX, |first| first.at);
        if self.deleted_from < first_at {
            self.deleted.retain(|_, deleted| *deleted > first_at);
            self.deleted_from = self.first_deleted();
        }
    }

    fn first_deleted(&self) -> u64 {
        self.deleted.values().copied().min().unwrap_or(u64::MAX)
    }
}

impl Fold for DuplicateWindow {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        let (at, stored_at) = (event.at.get(), event.stored_at);
        match &event.change {
            Change::Sent(place) => {
                let SentPlace { fingerprint, queue, queue_offset, wait_ms } = *place;
                self.push(SentMessage { fingerprint, at, stored_at, queue_offset, queue, wait_ms });
                self.shrink(0);
            }
            Change::Withdrawn(halves) => {
                for number in halves.iter().filter_map(|at| self.number(*at)).collect::<Vec<_>>() {
                    self.messages[number].fingerprint = Fingerprint::NONE;
                }
            }
            Change::WindowLimits(limits) => {
                self.limits = *limits;
                self.shrink(0);
            }
            Change::TopicDeleted(TopicDeleted { topic })
                if !self.messages.is_empty() && !names::is_light(topic) =>
            {
                self.deleted.insert(topic.clone(), at);
                self.deleted_from = self.deleted_from.min(at);
                if self.deleted.len() > DELETED_MAX {
                    self.shrink(self.first_deleted());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
