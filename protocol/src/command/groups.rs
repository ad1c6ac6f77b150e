//! Subscription groups and their configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Asks for a group's [`SubscriptionGroupConfig`]: code 352.
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
