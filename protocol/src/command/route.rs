//! What nameservers tell.
//!
//! Keys are written in alphabetic order and without white space: Go cuts route data by hand, and a blank before
//! a broker's id makes it the leader's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::topics::TopicConfig;
use crate::header::FieldError;
use crate::json::{self, lenient};

header_fields! {
    /// Where a topic is: code 105, answered with [`TopicRouteData`] or 17.
    RouteRequest<'a> {
        /// The topic.
        topic: &'a str = "topic",
        /// Whether the client cannot read Java's unquoted keys; nothing here writes those.
        accept_standard_json_only: Option<bool> = "acceptStandardJsonOnly",
    }
}

/// Where a topic is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicRouteData {
    /// The brokers that have it.
    #[serde(deserialize_with = "lenient::or_default")]
    pub broker_datas: Vec<BrokerData>,
    /// Of the obsolete filter servers. Written even if empty.
    #[serde(deserialize_with = "lenient::or_default")]
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// The queues of an ordered topic, `broker:n;broker:n`. Left out if there are none: producers take their
    /// queues only from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_topic_conf: Option<String>,
    /// Its queues on each broker.
    #[serde(deserialize_with = "lenient::or_default")]
    pub queue_datas: Vec<QueueData>,
    /// Where the queues of a static topic are, by broker; passed through. Left out of other topics' routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_queue_mapping_by_broker: Option<BTreeMap<String, Value>>,
}

impl TopicRouteData {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("route", error))
    }

    /// Writes the body, in the form that every client reads.
    pub fn encode(&self) -> Vec<u8> {
        json::to_ascii_vec(self)
    }
}

/// The brokers of one name: a leader, id 0, and its followers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerData {
    /// Address by id.
    #[serde(deserialize_with = "lenient::or_default")]
    pub broker_addrs: BTreeMap<i64, String>,
    /// The name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub broker_name: String,
    /// The cluster.
    #[serde(deserialize_with = "lenient::or_default")]
    pub cluster: String,
    /// Whether a follower may stand in for the leader.
    #[serde(deserialize_with = "lenient::boolean")]
    pub enable_acting_master: bool,
    /// The zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone_name: Option<String>,
}

/// The queues of a topic on the brokers of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueData {
    /// The brokers' name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub broker_name: String,
    /// See [`perm`](super::topics::perm).
    #[serde(deserialize_with = "lenient::integer")]
    pub perm: i32,
    /// Queues that consumers see.
    #[serde(deserialize_with = "lenient::integer")]
    pub read_queue_nums: i32,
    /// Bit 0: the topic belongs to a unit. Bit 1: it has subscribers in units.
    #[serde(alias = "topicSynFlag", deserialize_with = "lenient::integer")]
    pub topic_sys_flag: i32,
    /// Queues that producers see.
    #[serde(deserialize_with = "lenient::integer")]
    pub write_queue_nums: i32,
}

impl QueueData {
    /// What a broker's configuration of a topic says of its queues.
    pub fn new(broker_name: &str, config: &TopicConfig) -> Self {
        Self {
            broker_name: broker_name.to_owned(),
            perm: config.perm,
            read_queue_nums: config.read_queue_nums,
            topic_sys_flag: config.topic_sys_flag,
            write_queue_nums: config.write_queue_nums,
        }
    }
}

/// All brokers: what answers code 106.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClusterInfo {
    /// Brokers by name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub broker_addr_table: BTreeMap<String, BrokerData>,
    /// Names of brokers by cluster.
    #[serde(deserialize_with = "lenient::or_default")]
    pub cluster_addr_table: BTreeMap<String, BTreeSet<String>>,
}

impl ClusterInfo {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("cluster", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// Names of topics: what answers codes 206, 224, 304 and 311 to 313.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicList {
    /// A broker to ask for its system topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_addr: Option<String>,
    /// The names.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic_list: Vec<String>,
}

impl TopicList {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of topics", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// The brokers of one name: what answers code 901.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerMemberGroup {
    /// Address by id.
    #[serde(deserialize_with = "lenient::or_default")]
    pub broker_addrs: BTreeMap<i64, String>,
    /// The name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub broker_name: String,
    /// The cluster.
    #[serde(deserialize_with = "lenient::or_default")]
    pub cluster: String,
}

impl BrokerMemberGroup {
    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(&BTreeMap::from([("brokerMemberGroup", self)]))
    }
}

header_fields! {
    /// Names brokers: codes 205 and 327, answered with how many topics it touched.
    BrokerNameRequest<'a> {
        /// The name.
        broker_name: &'a str = "brokerName",
    }
}

header_fields! {
    /// Names a cluster: code 224.
    ClusterRequest<'a> {
        /// The cluster.
        cluster: &'a str = "cluster",
    }
}

header_fields! {
    /// Names the brokers of one name: code 901.
    MemberGroupRequest<'a> {
        /// The cluster.
        cluster: &'a str = "clusterName",
        /// The name.
        broker_name: &'a str = "brokerName",
    }
}

header_fields! {
    /// Forgets a topic: code 216.
    DeleteTopicRequest<'a> {
        /// The topic.
        topic: &'a str = "topic",
        /// Only on the brokers of this cluster.
        cluster: Option<&'a str> = "clusterName",
    }
}
