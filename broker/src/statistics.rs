//! How many messages come and go: the figures the tools show.
//!
//! | to change…                                     | open      |
//! |------------------------------------------------|-----------|
//! | what is counted of a topic, of a group in it   | `meters`  |
//! | totals of the broker, and their rates          | `total`   |
//! | how long it takes to store a message           | `latency` |
//! | what a minute, an hour and a day remember      | `window`  |
//!
//! Figures for people: they order nothing, and a restart begins them anew. Counting takes a look-up by the topic's
//! name and a few additions, no allocation but at the first message of a topic or a group.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use crate::system::SystemTopics;

pub mod latency;
pub mod meters;
pub mod total;
pub mod window;

pub use latency::Latencies;
pub use meters::{Asked, Reads, TopicMeter};
pub use total::Counter;
pub use window::{Over, Window};

/// Samples are taken this often.
pub const SAMPLED_EVERY: Duration = Duration::from_secs(10);
/// What nobody has used for this long is forgotten: it would show zeros in every window.
const IDLE_MAX: Duration = Duration::from_secs(25 * 3600);
/// Pairs of topic and group beyond this are not counted one by one.
const READS_MAX: usize = 100_000;

/// The broker's counters. Locks in here are innermost: nothing outside is locked under them.
///
/// Memory: about a kibibyte for each topic with messages in the last day, twice that for each group of readers of
/// it, at most 100,000 of those. Topics are counted only if they exist, so there are no more than that.
pub struct Statistics {
    /// When counting began, in milliseconds since 1970.
    pub started_ms: u64,
    /// Messages stored.
    pub puts: Counter,
    /// Of these, the ones in topics of the broker's own.
    pub system_puts: Counter,
    /// Messages handed out.
    pub gets: Counter,
    /// Of these, the ones from topics of the broker's own.
    pub system_gets: Counter,
    /// Sends that the log did not take, though they were in order.
    pub failed_puts: Counter,
    /// Pulls that gave messages.
    pub found: Counter,
    /// Pulls that gave none.
    pub missed: Counter,
    /// Messages put aside to be delivered later.
    pub delayed: Counter,
    /// Of these, the ones delivered.
    pub fired: Counter,
    /// How long messages took to become durable.
    pub put_latencies: Latencies,
    /// How long after their time delayed messages could be consumed.
    pub fire_lags: Latencies,
    waited_ms_max: AtomicU64,
    behind_bytes_max: AtomicU64,
    topics: RwLock<HashMap<Box<str>, Arc<TopicMeter>, RandomState>>,
    reads: AtomicUsize,
    system_topics: SystemTopics,
    sampled: Mutex<Option<Duration>>,
}

impl Statistics {
    /// Counters at zero.
    pub fn new(now: Duration, wall_ms: u64, system_topics: SystemTopics) -> Self {
        let statistics = Self {
            started_ms: wall_ms,
            puts: Counter::new(now),
            system_puts: Counter::new(now),
            gets: Counter::new(now),
            system_gets: Counter::new(now),
            failed_puts: Counter::new(now),
            found: Counter::new(now),
            missed: Counter::new(now),
            delayed: Counter::new(now),
            fired: Counter::new(now),
            put_latencies: Latencies::default(),
            fire_lags: Latencies::default(),
            waited_ms_max: AtomicU64::new(0),
            behind_bytes_max: AtomicU64::new(0),
            topics: RwLock::default(),
            reads: AtomicUsize::new(0),
            system_topics,
            sampled: Mutex::new(None),
        };
        statistics.sample(now, wall_ms);
        statistics
    }

    /// Messages were stored in a topic: so many by one request, of so many bytes together.
    pub fn put(&self, topic: &str, messages: u64, bytes: u64) {
        self.puts.add(messages, bytes);
        self.with_topic(topic, |meter| {
            if meter.is_system {
                self.system_puts.add(messages, bytes);
            }
            meter.put(messages, bytes);
        });
    }

    /// A consumer sent a message of this topic back.
    pub fn sent_back(&self, topic: &str, group: &str) {
        if let Some(reads) = self.reads(topic, group) {
            reads.sent_back();
        }
    }

    /// Where to count what a group reads of a topic; none beyond the bound of pairs.
    pub fn reads(&self, topic: &str, group: &str) -> Option<Arc<Reads>> {
        self.with_topic(topic, |meter| {
            meter.reads(group).or_else(|| {
                // Relaxed: a bound that is kept roughly is good enough.
                if self.reads.load(Ordering::Relaxed) >= READS_MAX {
                    return None;
                }
                let (reads, is_new) = meter.reads_or_new(group, self.latest_sample());
                self.reads.fetch_add(usize::from(is_new), Ordering::Relaxed);
                Some(reads)
            })
        })
    }

    /// Whether every pair of topic and group is counted: there is a bound of pairs.
    pub fn counts_all(&self) -> bool {
        self.reads.load(Ordering::Relaxed) < READS_MAX
    }

    /// A pull was answered: with messages, of so many bytes together, after so long a wait for the disk.
    pub fn got(&self, reads: Option<&Reads>, messages: u64, bytes: u64, waited: Duration) {
        self.found.add(1, 0);
        self.gets.add(messages, bytes);
        if !waited.is_zero() {
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            self.waited_ms_max.fetch_max(waited_ms, Ordering::Relaxed);
        }
        if let Some(reads) = reads {
            if reads.is_system {
                self.system_gets.add(messages, bytes);
            }
            reads.got(messages, bytes, waited);
        }
    }

    /// The longest that a pull waited for the disk, in milliseconds.
    pub fn waited_ms_max(&self) -> u64 {
        self.waited_ms_max.load(Ordering::Relaxed)
    }

    /// So many bytes are visible and not applied.
    pub fn behind(&self, bytes: u64) {
        self.behind_bytes_max.fetch_max(bytes, Ordering::Relaxed);
    }

    /// The most bytes that were ever found visible and not applied.
    pub fn behind_bytes_max(&self) -> u64 {
        self.behind_bytes_max.load(Ordering::Relaxed)
    }

    /// A pull found nothing.
    pub fn got_nothing(&self) {
        self.missed.add(1, 0);
    }

    /// What is known of a topic, if anything was stored in it or read from it lately.
    pub fn topic(&self, topic: &str) -> Option<Arc<TopicMeter>> {
        self.topics.read().get(topic).cloned()
    }

    /// What a group is known to have read of a topic.
    pub fn known_reads(&self, topic: &str, group: &str) -> Option<Arc<Reads>> {
        self.topic(topic)?.reads(group)
    }

    /// A topic was deleted, and with it what was counted.
    pub fn forget_topic(&self, topic: &str) {
        if let Some(meter) = self.topics.write().remove(topic) {
            self.reads.fetch_sub(meter.reads_count(), Ordering::Relaxed);
        }
    }

    /// A group was deleted, and with it what was counted.
    pub fn forget_group(&self, group: &str) {
        let forgotten = self.topics.read().values().filter(|meter| meter.forget(group)).count();
        self.reads.fetch_sub(forgotten, Ordering::Relaxed);
    }

    /// Takes a sample if one is due, and forgets what has been idle for a day. `wall_ms` tells days apart.
    pub fn sample(&self, now: Duration, wall_ms: u64) {
        {
            let mut sampled = self.sampled.lock();
            if sampled.is_some_and(|last| now < last + SAMPLED_EVERY) {
                return;
            }
            *sampled = Some(now);
        }
        let (all, system) = ([&self.puts, &self.gets], [&self.system_puts, &self.system_gets]);
        let rest = [&self.found, &self.missed, &self.delayed, &self.fired];
        all.into_iter().chain(system).chain(rest).for_each(|counter| counter.sample(now, wall_ms));
        // Senders look their topic up meanwhile: only what has to go is taken out under the exclusive lock.
        let meters: Vec<_> = self.topics.read().values().cloned().collect();
        let mut idle = false;
        for meter in meters {
            let forgotten = meter.sample(now, IDLE_MAX);
            self.reads.fetch_sub(forgotten, Ordering::Relaxed);
            idle |= meter.is_idle(now, IDLE_MAX);
        }
        if idle {
            self.topics.write().retain(|_, meter| !meter.is_idle(now, IDLE_MAX));
        }
    }

    fn with_topic<R>(&self, topic: &str, f: impl FnOnce(&TopicMeter) -> R) -> R {
        if let Some(meter) = self.topics.read().get(topic) {
            return f(meter);
        }
        let is_system = self.system_topics.contains(topic);
        let since = self.latest_sample();
        let mut topics = self.topics.write();
        let meter = topics.entry(topic.into()).or_insert_with(|| Arc::new(TopicMeter::new(is_system, since)));
        f(meter)
    }

    /// The beginning of what is counted from now on: near enough for a rate, and no look at a clock.
    fn latest_sample(&self) -> Duration {
        self.sampled.lock().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
