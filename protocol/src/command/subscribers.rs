//! Which groups consume which topics, and how long they have been waiting.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::heartbeat::Subscription;
use super::locks::MessageQueue;
use crate::header::FieldError;
use crate::json::{self, lenient};

/// Names of groups: what answers code 300, a [`TopicRequest`](super::topics::TopicRequest).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupList {
    /// The names.
    #[serde(deserialize_with = "lenient::or_default")]
    pub group_list: BTreeSet<String>,
}

impl GroupList {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of groups", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

header_fields! {
    /// What a group selects of a topic: code 345, answered with [`SubscriptionOfGroup`]. How long its messages
    /// wait: code 303, answered with [`ConsumeTimeSpans`].
    SubscriptionRequest<'a> {
        /// The group.
        group: &'a str = "group",
        /// The topic; not optional in 303.
        topic: Option<&'a str> = "topic",
    }
}

/// What a group selects of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionOfGroup {
    /// The group.
    #[serde(deserialize_with = "lenient::or_default")]
    pub group: String,
    /// Nothing if nobody consumes for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<Subscription>,
    /// The topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

impl SubscriptionOfGroup {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("subscription", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// How long a topic's messages wait for a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumeTimeSpans {
    /// One for each queue.
    #[serde(rename = "consumeTimeSpanSet", deserialize_with = "lenient::or_default")]
    pub spans: Vec<QueueTimeSpan>,
}

impl ConsumeTimeSpans {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of time spans", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// How long a queue's messages wait for a group. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueTimeSpan {
    /// When the message before the next to be consumed was stored.
    #[serde(rename = "consumeTimeStamp", deserialize_with = "lenient::integer")]
    pub consume_timestamp: i64,
    /// For how many milliseconds the next message has been waiting; 0 if there is none.
    #[serde(rename = "delayTime", deserialize_with = "lenient::integer")]
    pub delay_ms: i64,
    /// When the last message was stored.
    #[serde(rename = "maxTimeStamp", deserialize_with = "lenient::integer")]
    pub max_timestamp: i64,
    /// The queue.
    #[serde(rename = "messageQueue", deserialize_with = "lenient::or_default")]
    pub queue: MessageQueue,
    /// When the first message was stored.
    #[serde(rename = "minTimeStamp", deserialize_with = "lenient::integer")]
    pub min_timestamp: i64,
}
