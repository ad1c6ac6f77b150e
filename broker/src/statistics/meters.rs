//! What is counted of a topic, and of each group that reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};

use super::window::{Over, Series, Window};
use crate::membership::ConnectionId;

/// Totals that only grow, and what windows remember of them.
#[derive(Debug)]
pub struct Meter<const N: usize> {
    totals: [AtomicU64; N],
    series: Mutex<Series<N>>,
}

impl<const N: usize> Meter<N> {
    fn new(now: Duration) -> Self {
        Self { totals: [const { AtomicU64::new(0) }; N], series: Mutex::new(Series::new(now)) }
    }

    fn add(&self, growth: [u64; N]) {
        for (total, growth) in self.totals.iter().zip(growth) {
            if growth > 0 {
                // Relaxed: figures for people, which order nothing.
                total.fetch_add(growth, Ordering::Relaxed);
            }
        }
    }

    /// One of the totals.
    pub fn total(&self, total: usize) -> u64 {
        self.totals[total].load(Ordering::Relaxed)
    }

    fn totals(&self) -> [u64; N] {
        self.totals.each_ref().map(|total| total.load(Ordering::Relaxed))
    }

    fn sample(&self, now: Duration) {
        self.series.lock().sample(now, self.totals());
    }

    /// How the totals have changed over a window.
    pub fn over(&self, window: Window, now: Duration) -> Over<N> {
        self.series.lock().over(window, now, self.totals())
    }

    fn is_idle(&self, now: Duration, idle_max: Duration) -> bool {
        let unchanged = self.series.lock().unchanged_since(self.totals());
        unchanged.is_some_and(|since| since + idle_max <= now)
    }
}

/// What is counted of a topic.
#[derive(Debug)]
pub struct TopicMeter {
    /// Whether the topic is the broker's own.
    pub is_system: bool,
    /// See the constants.
    pub puts: Meter<3>,
    groups: RwLock<HashMap<Box<str>, Arc<Reads>, RandomState>>,
}

impl TopicMeter {
    /// Sends, in [`TopicMeter::puts`].
    pub const CALLS: usize = 0;
    /// Messages, in [`TopicMeter::puts`].
    pub const MESSAGES: usize = 1;
    /// Bytes of messages, in [`TopicMeter::puts`].
    pub const BYTES: usize = 2;

    pub(super) fn new(is_system: bool, now: Duration) -> Self {
        Self { is_system, puts: Meter::new(now), groups: RwLock::default() }
    }

    pub(super) fn put(&self, messages: u64, bytes: u64) {
        self.puts.add([1, messages, bytes]);
    }

    pub(super) fn reads(&self, group: &str) -> Option<Arc<Reads>> {
        self.groups.read().get(group).cloned()
    }

    /// The group's counters, and whether they were made for this call.
    pub(super) fn reads_or_new(&self, group: &str, now: Duration) -> (Arc<Reads>, bool) {
        let mut groups = self.groups.write();
        let before = groups.len();
        let new = || Arc::new(Reads::new(self.is_system, now));
        let reads = Arc::clone(groups.entry(group.into()).or_insert_with(new));
        (reads, groups.len() > before)
    }

    pub(super) fn reads_count(&self) -> usize {
        self.groups.read().len()
    }

    /// Whether there was something to forget.
    pub(super) fn forget(&self, group: &str) -> bool {
        self.groups.write().remove(group).is_some()
    }

    /// Takes samples; says how many groups were forgotten because they had been idle for so long.
    pub(super) fn sample(&self, now: Duration, idle_max: Duration) -> usize {
        self.puts.sample(now);
        let mut idle = false;
        for reads in self.groups.read().values() {
            reads.meter.sample(now);
            idle |= reads.meter.is_idle(now, idle_max);
        }
        if !idle {
            return 0;
        }
        let mut groups = self.groups.write();
        let before = groups.len();
        groups.retain(|_, reads| !reads.meter.is_idle(now, idle_max));
        before - groups.len()
    }

    pub(super) fn is_idle(&self, now: Duration, idle_max: Duration) -> bool {
        self.puts.is_idle(now, idle_max) && self.groups.read().is_empty()
    }
}

/// What is counted of a group that reads a topic.
#[derive(Debug)]
pub struct Reads {
    /// Whether the topic is the broker's own.
    pub is_system: bool,
    /// See the constants.
    pub meter: Meter<5>,
    /// What was asked for last.
    asked: Mutex<AskedAll>,
}

/// What a group's consumers asked of a queue last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Where the latest pull got to; 0 if there was none.
    pub next: u64,
    /// When they asked, and over which connection.
    pub last: Option<(Duration, ConnectionId)>,
}

/// What they asked of a topic.
#[derive(Debug, Default)]
struct AskedAll {
    /// By queue.
    queues: Vec<Asked>,
    /// The latest pop from whichever queue has something.
    any: Option<(Duration, ConnectionId)>,
}

impl Reads {
    /// Pulls that gave messages, in [`Reads::meter`].
    pub const CALLS: usize = 0;
    /// Messages, in [`Reads::meter`].
    pub const MESSAGES: usize = 1;
    /// Bytes of messages, in [`Reads::meter`].
    pub const BYTES: usize = 2;
    /// Milliseconds that pulls waited for the disk, in [`Reads::meter`].
    pub const WAITED_MS: usize = 3;
    /// Messages sent back, in [`Reads::meter`].
    pub const SENT_BACK: usize = 4;

    fn new(is_system: bool, now: Duration) -> Self {
        Self { is_system, meter: Meter::new(now), asked: Mutex::default() }
    }

    /// Somebody asks for messages of this queue, or of any. The queue has to be one of the topic's: memory is taken for
    /// all below it, 40 bytes each.
    pub fn asked(&self, queue: Option<u32>, now: Duration, by: ConnectionId) {
        let mut asked = self.asked.lock();
        match queue {
            Some(queue) => asked.queue(queue).last = Some((now, by)),
            None => asked.any = Some((now, by)),
        }
    }

    /// A pull of this queue got as far as `offset`. The queue has to be one of the topic's.
    pub fn pulled(&self, queue: u32, offset: u64) {
        self.asked.lock().queue(queue).next = offset;
    }

    /// What was asked of this queue last.
    pub fn last_asked(&self, queue: u32) -> Asked {
        let asked = self.asked.lock();
        let known = asked.queues.get(queue as usize).copied().unwrap_or_default();
        Asked { last: known.last.max(asked.any), ..known }
    }

    /// Where the latest pull of this queue got to; 0 if there was none.
    pub fn pull_offset(&self, queue: u32) -> u64 {
        self.last_asked(queue).next
    }

    pub(super) fn got(&self, messages: u64, bytes: u64, waited: Duration) {
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        self.meter.add([1, messages, bytes, waited_ms, 0]);
    }

    pub(super) fn sent_back(&self) {
        self.meter.add([0, 0, 0, 0, 1]);
    }
}

impl AskedAll {
    fn queue(&mut self, queue: u32) -> &mut Asked {
        let at = queue as usize;
        if at >= self.queues.len() {
            self.queues.resize(at + 1, Asked::default());
        }
        &mut self.queues[at]
    }
}
