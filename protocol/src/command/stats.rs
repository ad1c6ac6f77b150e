//! Figures of topics and groups.
//!
//! Tables by queue have the queue, a JSON object, for a key. Only RocketMQ's own readers take that, and newer
//! ones take nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::locks::MessageQueue;
use crate::header::FieldError;
use crate::json::{self, lenient};

/// A topic's queues: what answers code 202, a [`TopicRequest`](super::topics::TopicRequest).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicStatsTable {
    /// The queues.
    #[serde(deserialize_with = "lenient::object_keys")]
    pub offset_table: BTreeMap<MessageQueue, TopicOffset>,
    /// Messages stored per second.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic_put_tps: f64,
}

/// A queue's ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicOffset {
    /// When its last message was stored, milliseconds since 1970; 0 if it has none.
    #[serde(deserialize_with = "lenient::integer")]
    pub last_update_timestamp: u64,
    /// The ordinal of its next message.
    #[serde(deserialize_with = "lenient::integer")]
    pub max_offset: u64,
    /// The ordinal of its first.
    #[serde(deserialize_with = "lenient::integer")]
    pub min_offset: u64,
}

impl TopicStatsTable {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table of a topic's queues", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = br#"{"offsetTable":"#.to_vec();
        json::write_object_keys(&self.offset_table, &mut body);
        body.extend_from_slice(br#","topicPutTps":"#);
        json::write(&self.topic_put_tps, &mut body);
        body.push(b'}');
        body
    }
}

header_fields! {
    /// How far a group is: code 208, answered with [`ConsumeStats`].
    ConsumeStatsRequest<'a> {
        /// The group.
        consumer_group: &'a str = "consumerGroup",
        /// Only this topic.
        topic: Option<&'a str> = "topic",
        /// Only these topics, whether the group subscribes to them or not; leads `topic`.
        topic_list: Option<&'a str> = "topicList",
    }
}

impl<'a> ConsumeStatsRequest<'a> {
    /// The topics of `topicList`; none if it names none.
    pub fn topics(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let list = self.topic_list.unwrap_or_default();
        list.split(';').map(str::trim).filter(|topic| !topic.is_empty())
    }
}

/// How far a group is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeStats {
    /// Messages consumed per second.
    #[serde(deserialize_with = "lenient::or_default")]
    pub consume_tps: f64,
    /// The queues.
    #[serde(deserialize_with = "lenient::object_keys")]
    pub offset_table: BTreeMap<MessageQueue, ConsumeOffset>,
}

/// How far a group is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeOffset {
    /// The ordinal of the queue's next message.
    #[serde(deserialize_with = "lenient::integer")]
    pub broker_offset: i64,
    /// Next ordinal to consume.
    #[serde(deserialize_with = "lenient::integer")]
    pub consumer_offset: i64,
    /// When the last message consumed was stored; 0 if it is not there.
    #[serde(deserialize_with = "lenient::integer")]
    pub last_timestamp: i64,
    /// Next ordinal to pull.
    #[serde(deserialize_with = "lenient::integer")]
    pub pull_offset: i64,
}

impl ConsumeStats {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table of a group's queues", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.write(&mut body);
        body
    }

    fn write(&self, body: &mut Vec<u8>) {
        body.extend_from_slice(br#"{"consumeTps":"#);
        json::write(&self.consume_tps, body);
        body.extend_from_slice(br#","offsetTable":"#);
        json::write_object_keys(&self.offset_table, body);
        body.push(b'}');
    }
}

header_fields! {
    /// How far all groups are: code 317, answered with [`BrokerConsumeStats`].
    BrokerConsumeStatsRequest {
        /// Only topics whose messages are ordered.
        is_order: bool = "isOrder",
    }
}

/// How far all groups are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerConsumeStats {
    /// The broker, `ip:port`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub broker_addr: String,
    /// A map for each group, with that group alone; for each of its topics one table.
    #[serde(deserialize_with = "lenient::or_default")]
    pub consume_stats_list: Vec<BTreeMap<String, Vec<ConsumeStats>>>,
    /// Messages not consumed.
    #[serde(deserialize_with = "lenient::integer")]
    pub total_diff: i64,
    /// Of them those that were pulled.
    #[serde(deserialize_with = "lenient::integer")]
    pub total_inflight_diff: i64,
}

impl BrokerConsumeStats {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table of all groups' queues", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = br#"{"brokerAddr":"#.to_vec();
        json::write(&self.broker_addr, &mut body);
        body.extend_from_slice(br#","consumeStatsList":["#);
        for (index, groups) in self.consume_stats_list.iter().enumerate() {
            separate(index, &mut body);
            body.push(b'{');
            for (index, (group, topics)) in groups.iter().enumerate() {
                separate(index, &mut body);
                json::write(group, &mut body);
                body.extend_from_slice(b":[");
                for (index, stats) in topics.iter().enumerate() {
                    separate(index, &mut body);
                    stats.write(&mut body);
                }
                body.push(b']');
            }
            body.push(b'}');
        }
        body.extend_from_slice(br#"],"totalDiff":"#);
        json::write(&self.total_diff, &mut body);
        body.extend_from_slice(br#","totalInflightDiff":"#);
        json::write(&self.total_inflight_diff, &mut body);
        body.push(b'}');
        body
    }
}

fn separate(index: usize, body: &mut Vec<u8>) {
    if index > 0 {
        body.push(b',');
    }
}

header_fields! {
    /// A figure of the broker: code 315, answered with [`BrokerStatsData`], or 1 if there is none of the name
    /// and key.
    BrokerStatsRequest<'a> {
        /// The figure: `TOPIC_PUT_NUMS`, `GROUP_GET_NUMS` and so on.
        name: &'a str = "statsName",
        /// Of what: a topic, `topic@group`, the cluster.
        key: &'a str = "statsKey",
    }
}

/// A figure over the last minute, hour and day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerStatsData {
    /// Over a day.
    #[serde(deserialize_with = "lenient::or_default")]
    pub stats_day: BrokerStatsItem,
    /// Over an hour.
    #[serde(deserialize_with = "lenient::or_default")]
    pub stats_hour: BrokerStatsItem,
    /// Over a minute.
    #[serde(deserialize_with = "lenient::or_default")]
    pub stats_minute: BrokerStatsItem,
}

/// A figure over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerStatsItem {
    /// The sum by how often something was added.
    #[serde(deserialize_with = "lenient::or_default")]
    pub avgpt: f64,
    /// The sum.
    #[serde(deserialize_with = "lenient::integer")]
    pub sum: i64,
    /// The sum by seconds.
    #[serde(deserialize_with = "lenient::or_default")]
    pub tps: f64,
}

impl BrokerStatsData {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("figure", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}
