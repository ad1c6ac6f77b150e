//! What tools ask of a client through its broker.
//!
//! The broker passes the request's fields on as they came; only what it looks at or adds is described here.

use serde::{Deserialize, Serialize};

use crate::header::FieldError;
use crate::json::{self, lenient};

header_fields! {
    /// What a consumer says of itself: code 307. The answer's body is the client's.
    RunningInfoRequest<'a> {
        /// The group.
        consumer_group: &'a str = "consumerGroup",
        /// The client.
        client_id: &'a str = "clientId",
        /// Whether the stacks of its threads are wanted.
        stacks: bool = "jstackEnable",
    }
}

header_fields! {
    /// Has a consumer process a message: code 309. The broker puts the stored message behind it; the answer's
    /// body is a [`ConsumeResult`].
    ConsumeDirectly<'a> {
        /// The group.
        consumer_group: &'a str = "consumerGroup",
        /// The client.
        client_id: Option<&'a str> = "clientId",
        /// Offset message id of the message.
        message_id: Option<&'a str> = "msgId",
        /// The broker's name, which the broker adds.
        broker_name: Option<&'a str> = "brokerName",
        /// The topic.
        topic: Option<&'a str> = "topic",
        /// The topic's system flag, which the broker adds.
        topic_sys_flag: Option<i32> = "topicSysFlag",
        /// The group's system flag, which the broker adds.
        group_sys_flag: Option<i32> = "groupSysFlag",
    }
}

/// How a consumer processed a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeResult {
    /// Whether an orderly consumer commits by itself.
    #[serde(deserialize_with = "lenient::boolean")]
    pub auto_commit: bool,
    /// How it went.
    #[serde(rename = "consumeResult")]
    pub outcome: ConsumeOutcome,
    /// Whether it consumes in order.
    #[serde(deserialize_with = "lenient::boolean")]
    pub order: bool,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// How many milliseconds it took.
    #[serde(rename = "spentTimeMills", deserialize_with = "lenient::integer")]
    pub spent_ms: i64,
}

impl Default for ConsumeResult {
    /// As in Java.
    fn default() -> Self {
        Self { auto_commit: true, outcome: ConsumeOutcome::Success, order: false, remark: None, spent_ms: 0 }
    }
}

impl ConsumeResult {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("result of consuming", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

constants! {
    /// How processing a message went. Go says it by number.
    ConsumeOutcome {
        /// Done.
        #[default]
        Success = "CR_SUCCESS",
        /// To be tried again later.
        Later = "CR_LATER",
        /// Rolled back.
        Rollback = "CR_ROLLBACK",
        /// Committed.
        Commit = "CR_COMMIT",
        /// The application failed.
        Failed = "CR_THROW_EXCEPTION",
        /// The application said nothing.
        ReturnedNothing = "CR_RETURN_NULL",
    }
}
