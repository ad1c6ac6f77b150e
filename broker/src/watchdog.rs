//! Queues that hold messages nobody fetches: who should be at them, and what is in the way.
//!
//! Every [`ROUND`] all groups' queues are looked at, a bounded number with each tick. A queue is stuck that has messages
//! its group is not done with and that nobody of the group has asked for in [`SILENCE`], seen in two rounds, so that a
//! message which has just come in is no alarm. That is an event, and so is its end: both go to the log and are kept for
//! `skylark lag --events`.
//!
//! | to change…                                  | open       |
//! |---------------------------------------------|------------|
//! | how far a group is, and what is in the way  | [`rows`]   |
//! | what counts as stuck, and who is told       | this file  |

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use skylark_protocol::command::lag::{LagEvent, LagEvents};
use tracing::{info, warn};

use crate::broker::Broker;

pub mod rows;

use rows::{Group, Row};

/// All queues are looked at this often.
pub const ROUND: Duration = Duration::from_secs(5);
/// Messages that nobody has asked for in this time are stuck.
pub const SILENCE: Duration = Duration::from_secs(60);
/// Queues that are looked at with one tick, and those of the topic that goes beyond that.
const ROWS_MAX: usize = 2000;
/// Events that are kept.
const EVENTS_MAX: usize = 1000;
/// Lines in the log for one round: a thousand abandoned groups are no reason to fill a disk.
const LINES_MAX: usize = 20;

/// Watches over all groups. The lock of what it found is innermost; that of the round is the tick's own.
pub struct Watchdog {
    /// From when on silence counts: nothing is known of what was asked before.
    since: Duration,
    round: Mutex<Round>,
    found: Mutex<Found>,
}

/// What is left to look at.
#[derive(Default)]
struct Round {
    begins: Duration,
    groups: Vec<String>,
    /// Of the group that is being looked at.
    topics: Vec<String>,
    group: String,
    lines: usize,
}

/// Memory: an entry for each queue that is stuck.
#[derive(Default)]
struct Found {
    /// By group, topic and queue: whether it was told.
    stuck: BTreeMap<String, BTreeMap<String, BTreeMap<u32, bool>>>,
    events: VecDeque<LagEvent>,
    total: u64,
}

impl Watchdog {
    /// One that has seen nothing yet.
    pub fn new(now: Duration) -> Self {
        Self { since: now, round: Mutex::default(), found: Mutex::default() }
    }

    /// What was noticed lately.
    pub fn events(&self) -> LagEvents {
        let found = self.found.lock();
        let stuck = found.stuck.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values);
        LagEvents {
            events: found.events.iter().cloned().collect(),
            total: found.total,
            stuck: stuck.filter(|is_told| **is_told).count() as u64,
        }
    }

    /// Whether nobody has asked for what is in a queue for [`SILENCE`].
    pub fn is_stuck(&self, broker: &Broker, row: &Row) -> bool {
        let last = row.asked.last.map_or(self.since, |(at, _)| at.max(self.since));
        let is_known = row.asked.last.is_some() || broker.statistics.counts_all();
        row.lag > 0 && is_known && broker.clock.monotonic().saturating_sub(last) >= SILENCE
    }

    /// Goes on with the round, or begins the next one when it is time.
    pub fn step(&self, broker: &Broker) {
        let mut round = self.round.lock();
        if round.groups.is_empty() && round.topics.is_empty() && !self.begin(broker, &mut round) {
            return;
        }
        let mut rows = 0;
        while rows < ROWS_MAX {
            if round.topics.is_empty() {
                let Some(name) = round.groups.pop() else { break };
                let topics = Group::of(broker, &name).map(|group| group.topics(broker)).unwrap_or_default();
                self.found.lock().keep(&name, |topic| topics.contains(topic));
                round.topics = topics.into_iter().collect();
                round.group = name;
                // Groups without topics cost something too.
                rows += 1;
                continue;
            }
            let Some(topic) = round.topics.pop() else { break };
            let name = std::mem::take(&mut round.group);
            if let Some(group) = Group::of(broker, &name) {
                let all = group.rows(broker, &topic);
                rows += all.len().max(1);
                let stuck: Vec<_> = all.into_iter().filter(|row| self.is_stuck(broker, row)).collect();
                self.tell(broker, &mut round, &group, (&name, &topic), &stuck);
            }
            round.group = name;
        }
    }

    fn begin(&self, broker: &Broker, round: &mut Round) -> bool {
        let now = broker.clock.monotonic();
        if now < round.begins {
            return false;
        }
        if round.lines > LINES_MAX {
            let more = round.lines - LINES_MAX;
            warn!(
                more,
                "more queues have got stuck, or move again: `skylark lag --stuck` lists what is stuck"
            );
        }
        let groups = broker.catalog.read().groups.iter().map(|(group, _)| group.to_owned()).collect();
        *round = Round { begins: now + ROUND, groups, ..Round::default() };
        let mut found = self.found.lock();
        found.stuck.retain(|group, _| round.groups.binary_search(group).is_ok());
        true
    }

    /// Compares the queues of a topic that are stuck with those that were, and tells what changed.
    fn tell(
        &self,
        broker: &Broker,
        round: &mut Round,
        group: &Group<'_>,
        (name, topic): (&str, &str),
        stuck: &[Row],
    ) {
        let before = self.found.lock().replace(name, topic, stuck);
        let event = |queue, lag, blocked_because| LagEvent {
            at: broker.clock.wall_ms(),
            group: name.to_owned(),
            topic: topic.to_owned(),
            queue,
            lag,
            blocked_because,
        };
        for row in stuck.iter().filter(|row| before.get(&row.queue) == Some(&false)) {
            let blocked = group.blocked(broker, topic, row);
            let because = blocked.map_or("nobody asks for them".to_owned(), |blocked| blocked.to_string());
            round.lines += 1;
            if round.lines <= LINES_MAX {
                let (queue, lag) = (row.queue, row.lag);
                warn!(group = name, topic, queue, lag, because, "a queue holds messages that nobody fetches");
            }
            self.found.lock().note(event(row.queue, row.lag, Some(because)));
        }
        let is_stuck = |queue: &u32| stuck.iter().any(|row| row.queue == *queue);
        for (queue, _) in before.iter().filter(|(queue, is_told)| **is_told && !is_stuck(queue)) {
            round.lines += 1;
            if round.lines <= LINES_MAX {
                info!(group = name, topic, queue, "the queue moves again");
            }
            self.found.lock().note(event(*queue, 0, None));
        }
    }
}

impl Found {
    /// Forgets what a group does not read any more.
    fn keep(&mut self, group: &str, is_read: impl Fn(&str) -> bool) {
        if let Some(topics) = self.stuck.get_mut(group) {
            topics.retain(|topic, _| is_read(topic));
        }
    }

    /// Notes which queues are stuck, and returns which were, and whether that was told. What is stuck for the second
    /// time counts as told.
    fn replace(&mut self, group: &str, topic: &str, stuck: &[Row]) -> BTreeMap<u32, bool> {
        let before = self.stuck.get_mut(group).and_then(|topics| topics.remove(topic)).unwrap_or_default();
        if !stuck.is_empty() {
            let queues = stuck.iter().map(|row| (row.queue, before.contains_key(&row.queue)));
            let queues = queues.collect();
            self.stuck.entry(group.to_owned()).or_default().insert(topic.to_owned(), queues);
        }
        before
    }

    fn note(&mut self, event: LagEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.total += 1;
    }
}
