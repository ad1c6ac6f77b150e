//! How far groups are, queue by queue, and why a queue does not move.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use skylark_protocol::command::heartbeat::MessageModel;

use crate::broker::Broker;
use crate::folds::topics::Perm;
use crate::membership::{ConnectionId, ConsumerGroup};
use crate::pops;
use crate::statistics::Asked;

/// A pull is held for 20 seconds at most, and asked again at once: after so long, nobody is at it.
const AT_IT: Duration = Duration::from_secs(30);

/// A group, as far as it concerns what it does not fetch.
pub struct Group<'a> {
    name: &'a str,
    /// Whether an operator lets it consume.
    consumes: bool,
    members: Option<ConsumerGroup>,
}

/// How far a group is in a queue.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The queue.
    pub queue: u32,
    /// Where the group goes on, if it has committed anything.
    pub committed: Option<u64>,
    /// One behind the newest message's offset.
    pub end: u64,
    /// Messages that are there and that the group is not done with.
    pub lag: u64,
    /// What it asked for last.
    pub asked: Asked,
}

/// Why a queue with messages does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// By an operator.
    GroupDisabled,
    /// By an operator.
    TopicUnreadable,
    /// Nobody of the group is connected.
    NoConsumer,
    /// Everything that is there was popped and is not acknowledged.
    InFlight {
        /// How many messages.
        messages: u64,
        /// Until the first of them comes back, if that is known.
        left: Option<Duration>,
    },
    /// A consumer holds fetched messages.
    NotCommitted {
        /// Which client.
        client: Option<String>,
        /// How many messages.
        messages: u64,
    },
    /// A client has locked the queue to consume in order, and does not fetch.
    Locked {
        /// Which client.
        client: Box<str>,
    },
    /// Somebody asked once.
    Silent {
        /// Which client.
        client: Option<String>,
        /// How long ago.
        since: Duration,
    },
    /// Nobody has asked since the broker started.
    NobodyAsked {
        /// How many consumers of the group are connected.
        consumers: usize,
    },
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |client: &Option<String>| client.clone().unwrap_or("a client that has left".to_owned());
        match self {
            Self::GroupDisabled => f.write_str("the group may not consume: consumeEnable is false"),
            Self::TopicUnreadable => f.write_str("the topic may not be read: its perm lacks 4"),
            Self::NoConsumer => f.write_str("no consumer of the group is connected"),
            Self::InFlight { messages, left: Some(left) } => {
                let seconds = left.as_secs();
                write!(f, "{messages} popped messages are not acknowledged; the first is back in {seconds} s")
            }
            Self::InFlight { messages, left: None } => {
                write!(f, "{messages} popped messages are not acknowledged")
            }
            Self::NotCommitted { client, messages } => {
                write!(f, "{} holds {messages} fetched messages and commits nothing", name(client))
            }
            Self::Locked { client } => write!(f, "{client} has locked the queue and does not fetch"),
            Self::Silent { client, since } => {
                write!(f, "{} asked {} s ago and not since", name(client), since.as_secs())
            }
            Self::NobodyAsked { consumers } => {
                write!(f, "none of {consumers} connected consumers has asked for the queue")
            }
        }
    }
}

impl<'a> Group<'a> {
    /// The group of this name; none if there is no such group.
    pub fn of(broker: &Broker, name: &'a str) -> Option<Self> {
        let consumes = broker.catalog.read().groups.get(name)?.consume;
        Some(Self { name, consumes, members: broker.membership.consumers(name) })
    }

    /// The topics that it reads: those its members subscribe to; of a group without members, those it has committed
    /// anything of; and those to which what it pops of them comes back.
    pub fn topics(&self, broker: &Broker) -> BTreeSet<String> {
        let mut topics = match &self.members {
            Some(members) if !members.subscriptions.is_empty() => {
                members.subscriptions.keys().map(|topic| topic.as_ref().to_owned()).collect()
            }
            _ => broker.offsets.lock().topics_of(self.name),
        };
        pops::add_retries(broker, self.name, &mut topics);
        topics
    }

    /// How far it is in each queue of a topic; nothing if there is no such topic.
    pub fn rows(&self, broker: &Broker, topic: &str) -> Vec<Row> {
        let reads = broker.statistics.known_reads(topic, self.name);
        let catalog = broker.catalog.read();
        let Some((config, queues)) = catalog.topic(topic) else { return Vec::new() };
        let index = broker.index.read();
        let offsets = broker.offsets.lock();
        let queues = queues.iter().take(config.read_queues as usize).zip(0..);
        let rows = queues.map(|(id, queue)| {
            let range = index.range(*id);
            let asked = reads.as_ref().map(|reads| reads.last_asked(queue)).unwrap_or_default();
            let committed = offsets.get(self.name, topic, queue);
            // Consumers of all messages keep their offsets to themselves.
            let position = if self.broadcasts() { Some(asked.next) } else { committed };
            // A queue of which nothing was committed begins with what is there, as long as nobody says otherwise.
            let lag = range.end.saturating_sub(position.unwrap_or(0).max(range.start));
            Row { queue, committed, end: range.end, lag, asked }
        });
        rows.collect()
    }

    fn broadcasts(&self) -> bool {
        self.members.as_ref().is_some_and(|members| members.model == MessageModel::Broadcasting)
    }

    /// What the client of a connection calls itself, while it is there.
    fn client(&self, connection: ConnectionId) -> Option<String> {
        let member = self.members.as_ref()?.members.get(&connection)?;
        Some(member.client_id.as_ref().to_owned())
    }

    /// The client that is at a queue.
    pub fn owner(&self, broker: &Broker, topic: &str, row: &Row) -> Option<String> {
        let asked = row.asked.last.and_then(|(_, connection)| self.client(connection));
        asked.or_else(|| {
            let (client, _) = broker.locks.holder(broker.clock.monotonic(), self.name, topic, row.queue)?;
            Some(client.into())
        })
    }

    /// Why a queue does not move; none if it does, or has no messages.
    pub fn blocked(&self, broker: &Broker, topic: &str, row: &Row) -> Option<Blocked> {
        if row.lag == 0 {
            return None;
        }
        if !self.consumes {
            return Some(Blocked::GroupDisabled);
        }
        let is_readable =
            |topic: &str| Some(broker.catalog.read().topics.get(topic)?.perm.allows(Perm::READ));
        if is_readable(topic) == Some(false) {
            return Some(Blocked::TopicUnreadable);
        }
        let now = broker.clock.monotonic();
        let since = row.asked.last.map(|(at, _)| now.saturating_sub(at));
        let is_at_it = since.is_some_and(|since| since < AT_IT);
        // Whoever pops or pulls without heartbeats is no member.
        if let Some(in_flight) = self.in_flight(broker, topic, row) {
            return Some(in_flight);
        }
        if is_at_it {
            return None;
        }
        let Some(members) = &self.members else { return Some(Blocked::NoConsumer) };
        let client = row.asked.last.and_then(|(_, connection)| self.client(connection));
        let held = row.asked.next.min(row.end).saturating_sub(row.committed.unwrap_or(0));
        if held > 0 && !self.broadcasts() && since.is_some() {
            return Some(Blocked::NotCommitted { client, messages: held });
        }
        if let Some((client, _)) = broker.locks.holder(now, self.name, topic, row.queue) {
            return Some(Blocked::Locked { client });
        }
        Some(match since {
            Some(since) => Blocked::Silent { client, since },
            None => Blocked::NobodyAsked { consumers: members.members.len() },
        })
    }

    /// Whether all that is there is popped: then a pop finds nothing, however often it asks.
    fn in_flight(&self, broker: &Broker, topic: &str, row: &Row) -> Option<Blocked> {
        let live = broker.pops.live();
        let queue = live.queue(self.name, topic, row.queue)?;
        let wall_ms = broker.clock.wall_ms();
        if let Some(order) = queue.order() {
            let until = order.blocked_until().filter(|until| *until > wall_ms)?;
            let left = Some(Duration::from_millis(until - wall_ms));
            return Some(Blocked::InFlight { messages: order.unacked().count_ones().into(), left });
        }
        if queue.in_flight() < row.lag {
            return None;
        }
        let first = queue.due().map(|(visible_at, _)| visible_at).min();
        let left = first.map(|at| Duration::from_millis(at.saturating_sub(wall_ms)));
        Some(Blocked::InFlight { messages: queue.in_flight(), left })
    }
}
