//! Topics and their configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::header::FieldError;
use crate::json::{self, lenient};

/// Bits of a topic's permission.
pub mod perm {
    /// Other topics may be modelled after it.
    pub const INHERIT: i32 = 0x1;
    /// Producers may choose it.
    pub const WRITE: i32 = 0x2;
    /// Consumers may pull from it.
    pub const READ: i32 = 0x4;
}

header_fields! {
    /// Creates or changes a topic: code 17.
    UpdateTopic<'a> {
        /// The topic.
        topic: &'a str = "topic",
        /// Not used by brokers.
        default_topic: Option<&'a str> = "defaultTopic",
        /// Queues that consumers see.
        read_queue_nums: i32 = "readQueueNums",
        /// Queues that producers see.
        write_queue_nums: i32 = "writeQueueNums",
        /// See [`perm`].
        perm: i32 = "perm",
        /// `SINGLE_TAG` or `MULTI_TAG`.
        topic_filter_type: Option<&'a str> = "topicFilterType",
        /// Whether it belongs to a unit, and so on.
        topic_sys_flag: Option<i32> = "topicSysFlag",
        /// Whether its messages are ordered across brokers.
        order: bool = "order",
        /// Changes of its attributes: `+name=value` or `-name`, separated by commas.
        attributes: Option<&'a str> = "attributes",
        /// Whether to do it even if the name is not valid.
        force: bool = "force",
    }
}

header_fields! {
    /// Names a topic: code 215 deletes it, 351 is answered with its [`TopicConfig`], 202 with its
    /// [`TopicStatsTable`](super::stats::TopicStatsTable), 300 with the groups that consume it, a
    /// [`GroupList`](super::subscribers::GroupList).
    TopicRequest<'a> {
        /// The topic.
        topic: &'a str = "topic",
    }
}

/// A topic's configuration on a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfig {
    /// Settings by name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub attributes: BTreeMap<String, String>,
    /// Whether its messages are ordered across brokers.
    #[serde(deserialize_with = "lenient::boolean")]
    pub order: bool,
    /// See [`perm`].
    #[serde(deserialize_with = "lenient::integer")]
    pub perm: i32,
    /// Queues that consumers see.
    #[serde(deserialize_with = "lenient::integer")]
    pub read_queue_nums: i32,
    /// `SINGLE_TAG` or `MULTI_TAG`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic_filter_type: String,
    /// The topic.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic_name: String,
    /// Bit 0: it belongs to a unit. Bit 1: it has subscribers in units.
    #[serde(deserialize_with = "lenient::integer")]
    pub topic_sys_flag: i32,
    /// Queues that producers see.
    #[serde(deserialize_with = "lenient::integer")]
    pub write_queue_nums: i32,
}

impl Default for TopicConfig {
    /// As in Java: 16 queues, readable and writable.
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            order: false,
            perm: perm::READ | perm::WRITE,
            read_queue_nums: 16,
            topic_filter_type: "SINGLE_TAG".to_owned(),
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: 16,
        }
    }
}

impl TopicConfig {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("topic configuration", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// Creates or changes topics: the body of code 18. Names of attributes bear a sign, as in code 17.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfigList {
    /// The topics.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic_config_list: Vec<TopicConfig>,
}

impl TopicConfigList {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none, or does not name a topic.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let list: Self =
            json::read(body).map_err(|error| FieldError::body("list of topic configurations", error))?;
        if list.topic_config_list.iter().any(|config| config.topic_name.is_empty()) {
            return Err(FieldError::Missing { field: "topicName" });
        }
        Ok(list)
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

header_fields! {
    /// All topics, or a page of them in the order of their names: code 21, answered with [`AllTopicsResponse`]
    /// and a [`TopicConfigTable`](super::register::TopicConfigTable). Brokers before 5.3.1 ask without fields.
    AllTopicsRequest<'a> {
        /// Index of the first.
        from: Option<i32> = "topicSeq",
        /// JSON of the [`DataVersion`](super::register::DataVersion) of the pages before; with another one the
        /// first page is wanted again.
        data_version: Option<&'a str> = "dataVersion",
        /// Most topics wanted.
        limit: Option<i32> = "maxTopicNum",
    }
}

header_fields! {
    /// What answers code 21 with a page; without it the body has all.
    AllTopicsResponse {
        /// How many there are.
        total: i32 = "totalTopicNum",
    }
}
