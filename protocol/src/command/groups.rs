//! Subscription groups and their configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::register::DataVersion;
use crate::header::FieldError;
use crate::json::{self, lenient};

header_fields! {
    /// Deletes a group: code 207.
    DeleteGroup<'a> {
        /// The group.
        group: &'a str = "groupName",
        /// Whether its offsets go too.
        clean_offset: bool = "cleanOffset",
    }
}

header_fields! {
    /// Names a group: code 352 is answered with its [`SubscriptionGroupConfig`], 343 with the topics it consumes,
    /// a [`TopicList`](super::route::TopicList).
    GroupRequest<'a> {
        /// The group.
        group: &'a str = "group",
    }
}

/// A group's configuration on a broker; also the body of code 200, which creates or changes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionGroupConfig {
    /// Settings by name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub attributes: BTreeMap<String, String>,
    /// Which broker of a name to consume from.
    #[serde(deserialize_with = "lenient::integer")]
    pub broker_id: i64,
    /// Whether it may broadcast.
    #[serde(deserialize_with = "lenient::boolean")]
    pub consume_broadcast_enable: bool,
    /// Whether it may consume.
    #[serde(deserialize_with = "lenient::boolean")]
    pub consume_enable: bool,
    /// Whether it may start at the first message.
    #[serde(deserialize_with = "lenient::boolean")]
    pub consume_from_min_enable: bool,
    /// Whether it consumes in order.
    #[serde(deserialize_with = "lenient::boolean")]
    pub consume_message_orderly: bool,
    /// How long a message may take to consume.
    #[serde(deserialize_with = "lenient::integer")]
    pub consume_timeout_minute: i32,
    /// The group.
    #[serde(deserialize_with = "lenient::or_default")]
    pub group_name: String,
    /// How delays between retries grow; passed through.
    pub group_retry_policy: Value,
    /// Whether it belongs to a unit, and so on.
    #[serde(deserialize_with = "lenient::integer")]
    pub group_sys_flag: i32,
    /// Whether members are told of changes.
    #[serde(deserialize_with = "lenient::boolean")]
    pub notify_consumer_ids_changed_enable: bool,
    /// How often a message is tried again before it becomes a dead letter.
    #[serde(deserialize_with = "lenient::integer")]
    pub retry_max_times: i32,
    /// Queues of its retry topic.
    #[serde(deserialize_with = "lenient::integer")]
    pub retry_queue_nums: i32,
    /// What it subscribes to; passed through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data_set: Option<Value>,
    /// Which broker of a name to consume from when it lags.
    #[serde(deserialize_with = "lenient::integer")]
    pub which_broker_when_consume_slowly: i64,
}

impl Default for SubscriptionGroupConfig {
    /// As in Java.
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: serde_json::json!({"type": "CUSTOMIZED"}),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

impl SubscriptionGroupConfig {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none, or does not name the group.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let config: Self =
            json::read(body).map_err(|error| FieldError::body("group configuration", error))?;
        if config.group_name.is_empty() {
            return Err(FieldError::Missing { field: "groupName" });
        }
        Ok(config)
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// Creates or changes groups: the body of code 225.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupConfigList {
    /// The groups.
    #[serde(deserialize_with = "lenient::or_default")]
    pub group_config_list: Vec<SubscriptionGroupConfig>,
}

impl GroupConfigList {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none, or does not name a group.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let list: Self =
            json::read(body).map_err(|error| FieldError::body("list of group configurations", error))?;
        if list.group_config_list.iter().any(|config| config.group_name.is_empty()) {
            return Err(FieldError::Missing { field: "groupName" });
        }
        Ok(list)
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

header_fields! {
    /// All groups, or a page of them in the order of their names: code 201, answered with [`AllGroupsResponse`]
    /// and a [`GroupConfigTable`]. The dashboard asks without fields.
    AllGroupsRequest<'a> {
        /// Index of the first.
        from: Option<i32> = "groupSeq",
        /// JSON of the [`DataVersion`] of the pages before; with another one the first page is wanted again.
        data_version: Option<&'a str> = "dataVersion",
        /// Most groups wanted.
        limit: Option<i32> = "maxGroupNum",
    }
}

header_fields! {
    /// What answers code 201 with a page; without it the body has all.
    AllGroupsResponse {
        /// How many there are.
        total: i32 = "totalGroupNum",
    }
}

/// A broker's groups. Readers want all three parts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupConfigTable {
    /// Their version.
    #[serde(deserialize_with = "lenient::or_default")]
    pub data_version: DataVersion,
    /// What a group must not do with a topic: bits, by group and topic.
    #[serde(deserialize_with = "lenient::or_default")]
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    /// Groups by name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub subscription_group_table: BTreeMap<String, SubscriptionGroupConfig>,
}

impl GroupConfigTable {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table of groups", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}
