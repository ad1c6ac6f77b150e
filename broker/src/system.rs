//! Topics and groups that belong to the broker: what exists from the first start, and what users may not touch.
//!
//! Names, queue numbers and permissions are those of RocketMQ 5.3.3 with its default configuration.

use std::collections::{BTreeMap, BTreeSet};

use crate::folds::groups::GroupConfig;
use crate::folds::topics::{Perm, TopicConfig};

/// The region that messages and answers name.
pub const REGION: &str = "DefaultRegion";
/// New topics are made after this one, if it exists.
pub const AUTO_CREATE_TOPIC: &str = "TBW102";
/// Delayed messages wait here, a queue per level.
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// Messages with a due time wait here.
pub const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
/// Messages of open transactions.
pub const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// What became of them.
pub const HALF_OUTCOME_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Messages of transactions that nobody ever resolved.
pub const HALF_EXPIRED_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";

const BENCHMARK_TOPIC: &str = "BenchmarkTest";
const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
const OFFSET_MOVED_TOPIC: &str = "OFFSET_MOVED_EVENT";
const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
const CHECKPOINT_TOPIC: &str = "CHECKPOINT_TOPIC";
const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";

/// Topics of the broker's own to which clients may not send.
const CLOSED_TOPICS: [&str; 6] =
    [SCHEDULE_TOPIC, HALF_TOPIC, HALF_OUTCOME_TOPIC, HALF_EXPIRED_TOPIC, SELF_TEST_TOPIC, OFFSET_MOVED_TOPIC];

/// Groups that exist from the first start, each with the default settings.
pub const INITIAL_GROUPS: [&str; 8] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_RMQ_SYS_TRANS",
];

/// The topics of the broker's own, of which some carry its name or its cluster's.
#[derive(Clone, Debug)]
pub struct SystemTopics {
    initial: BTreeMap<String, TopicConfig>,
    names: BTreeSet<String>,
}

impl SystemTopics {
    /// The topics of the broker of this name in this cluster, where there are so many delay levels.
    /// [`AUTO_CREATE_TOPIC`] exists, with `auto_create_queues`, if topics are made by being sent to.
    pub fn new(cluster: &str, broker: &str, auto_create_queues: Option<u32>, delay_levels: u32) -> Self {
        let open = Perm::READ_WRITE.with(Perm::INHERIT);
        let mut initial = BTreeMap::new();
        let mut put = |name: &str, queues, perm| {
            initial.insert(name.to_owned(), TopicConfig { perm, ..TopicConfig::with_queues(queues) });
        };
        // The order matters where a cluster and a broker have the same name: the broker's topic counts.
        put(SELF_TEST_TOPIC, 1, Perm::READ_WRITE);
        if let Some(queues) = auto_create_queues {
            put(AUTO_CREATE_TOPIC, queues, open);
        }
        put(BENCHMARK_TOPIC, 1024, Perm::READ_WRITE);
        put(cluster, 16, open);
        put(broker, 1, open);
        put(OFFSET_MOVED_TOPIC, 1, Perm::READ_WRITE);
        put(SCHEDULE_TOPIC, delay_levels, Perm::READ_WRITE);
        put(&format!("{cluster}_REPLY_TOPIC"), 1, Perm::READ_WRITE);
        put(&format!("{SYSTEM_TOPIC_PREFIX}REVIVE_LOG_{cluster}"), 8, Perm::READ_WRITE);
        put(&format!("{SYSTEM_TOPIC_PREFIX}SYNC_BROKER_MEMBER_{broker}"), 1, Perm::INHERIT);
        put(HALF_TOPIC, 1, Perm::READ_WRITE);
        put(HALF_OUTCOME_TOPIC, 1, Perm::READ_WRITE);
        put(TIMER_TOPIC, 1, Perm::READ_WRITE);

        let reserved =
            [AUTO_CREATE_TOPIC, TRACE_TOPIC, HALF_EXPIRED_TOPIC, CHECKPOINT_TOPIC].map(str::to_owned);
        let names = initial.keys().cloned().chain(reserved).collect();
        Self { initial, names }
    }

    /// The same with the topic that clients send their traces to.
    #[must_use]
    pub fn with_traces(mut self) -> Self {
        self.initial.insert(TRACE_TOPIC.to_owned(), TopicConfig::with_queues(1));
        self
    }

    /// The topics that exist from the first start, sorted by name; one that the log does not know is put there.
    pub fn initial(&self) -> impl ExactSizeIterator<Item = (&str, &TopicConfig)> {
        self.initial.iter().map(|(name, config)| (name.as_str(), config))
    }

    /// The topics to be put where `known` says what exists: those that are missing, and that of delayed messages where
    /// levels were added to the configuration. Of levels that were taken away the queues stay: messages wait in them.
    pub fn to_put(&self, known: impl Fn(&str) -> Option<u32>) -> impl Iterator<Item = (&str, &TopicConfig)> {
        self.initial().filter(move |(name, config)| match known(name) {
            Some(queues) => *name == SCHEDULE_TOPIC && queues < config.write_queues,
            None => true,
        })
    }

    /// The names that a request for the system topics lists, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether users may neither create, change nor delete the topic.
    pub fn contains(&self, topic: &str) -> bool {
        self.names.contains(topic) || topic.starts_with(SYSTEM_TOPIC_PREFIX)
    }
}

/// Whether messages wait for their time in the topic of this name.
pub fn holds_timers(topic: &str) -> bool {
    topic == SCHEDULE_TOPIC || topic == TIMER_TOPIC
}

/// Whether messages lie in this topic that are for another, which they name.
pub fn holds_for_others(topic: &str) -> bool {
    holds_timers(topic) || topic == HALF_TOPIC
}

/// Whether clients may send to a topic of this name.
pub fn may_send_to(topic: &str) -> bool {
    !CLOSED_TOPICS.contains(&topic) && !topic.starts_with(SYSTEM_TOPIC_PREFIX)
}

/// What each of [`INITIAL_GROUPS`] is.
pub fn initial_group() -> GroupConfig {
    GroupConfig::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_start_has_what_rocketmq_has() {
        let topics = SystemTopics::new("DefaultCluster", "broker-a", Some(8), 18);
        let found: Vec<(&str, u32, u8)> =
            topics.initial().map(|(name, config)| (name, config.write_queues, config.perm.0)).collect();
        assert_eq!(
            found,
            [
                ("BenchmarkTest", 1024, 6),
                ("DefaultCluster", 16, 7),
                ("DefaultCluster_REPLY_TOPIC", 1, 6),
                ("OFFSET_MOVED_EVENT", 1, 6),
                ("RMQ_SYS_TRANS_HALF_TOPIC", 1, 6),
                ("RMQ_SYS_TRANS_OP_HALF_TOPIC", 1, 6),
                ("SCHEDULE_TOPIC_XXXX", 18, 6),
                ("SELF_TEST_TOPIC", 1, 6),
                ("TBW102", 8, 7),
                ("broker-a", 1, 7),
                ("rmq_sys_REVIVE_LOG_DefaultCluster", 8, 6),
                ("rmq_sys_SYNC_BROKER_MEMBER_broker-a", 1, 1),
                ("rmq_sys_wheel_timer", 1, 6),
            ]
        );
        assert!(topics.initial().all(|(_, config)| config.read_queues == config.write_queues));
        let closed = SystemTopics::new("DefaultCluster", "broker-a", None, 18);
        assert!(closed.initial().all(|(name, _)| name != AUTO_CREATE_TOPIC));
        assert!(closed.contains(AUTO_CREATE_TOPIC), "the name stays reserved");
    }

    #[test]
    fn added_delay_levels_get_their_queues() {
        let topics = SystemTopics::new("C", "B", None, 20);
        let put = |queues| -> Vec<_> {
            let known = |name: &str| if name == SCHEDULE_TOPIC { Some(queues) } else { Some(0) };
            topics.to_put(known).map(|(name, config)| (name, config.read_queues)).collect()
        };
        assert_eq!((put(18), put(20), put(25)), (vec![(SCHEDULE_TOPIC, 20)], vec![], vec![]));
        assert_eq!(topics.to_put(|_| None).count(), topics.initial().len());
    }

    #[test]
    fn a_cluster_may_be_called_like_its_broker() {
        let topics = SystemTopics::new("one", "one", Some(8), 18);
        assert_eq!(topics.initial().find(|(name, _)| *name == "one").unwrap().1.write_queues, 1);
    }

    #[test]
    fn users_keep_off_system_topics() {
        let topics = SystemTopics::new("C", "B", Some(8), 18);
        for name in
            ["C", "B", "C_REPLY_TOPIC", "TRANS_CHECK_MAX_TIME_TOPIC", "CHECKPOINT_TOPIC", "rmq_sys_anything"]
        {
            assert!(topics.contains(name), "{name}");
        }
        assert!(!topics.contains("orders") && !topics.contains("RMQ_SYS_ANYTHING"));
        assert!(may_send_to("orders") && may_send_to(AUTO_CREATE_TOPIC) && !may_send_to(SCHEDULE_TOPIC));
        assert_eq!(topics.names().len(), 17 - 1, "TBW102 exists and is reserved");
    }
}
