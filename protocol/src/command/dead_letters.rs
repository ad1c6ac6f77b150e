//! What operators do with dead letters. RocketMQ has none of these requests.

use serde::{Deserialize, Serialize};

use crate::header::FieldError;
use crate::json;

header_fields! {
    /// Which dead letters there are: code 60010. The answer is [`DeadLetters`].
    ListDeadLetters<'a> {
        /// Those of this group only.
        group: Option<&'a str> = "group",
    }
}

header_fields! {
    /// Dead letters are sent again, code 60011, or given up for good, code 60012. The answer is
    /// [`SettledDeadLetters`]. Those that were settled before are passed over.
    SettleDeadLetters<'a> {
        /// Whose.
        group: &'a str = "group",
        /// Number of the queue of the group's dead letter topic.
        queue_id: i32 = "queueId",
        /// Those with this offset or a higher one.
        begin: u64 = "beginOffset",
        /// Those with a lower offset than this.
        end: u64 = "endOffset",
        /// So many at most.
        limit: i32 = "limit",
        /// To the group's retry topic, so that no other group gets them once more.
        to_group: bool = "toGroup",
    }
}

/// Dead letters, by group and queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeadLetters {
    /// Each queue of each dead letter topic.
    pub queues: Vec<DeadLetterQueue>,
}

/// A queue of a dead letter topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeadLetterQueue {
    /// Whose dead letters.
    pub group: String,
    /// Their topic.
    pub topic: String,
    /// Number of the queue.
    pub queue_id: u32,
    /// The lowest offset that can be read.
    pub min_offset: u64,
    /// The offset that the next dead letter gets.
    pub max_offset: u64,
    /// How many of those between were neither sent again nor given up.
    pub waiting: u64,
    /// When the first of them was stored, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<i64>,
    /// When the last one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<i64>,
    /// Where they are: first offset, and the one behind the last. Not all, if there are very many such stretches.
    pub stretches: Vec<(u64, u64)>,
}

/// What became of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SettledDeadLetters {
    /// Those that were sent again, or given up, by this request.
    pub settled: Vec<SettledDeadLetter>,
    /// Those for which it could not be done.
    pub failed: Vec<FailedDeadLetter>,
    /// Where to ask on, if there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A dead letter that is none any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SettledDeadLetter {
    /// Its offset in its queue.
    pub queue_offset: u64,
    /// Its offset message id; empty if it was given up.
    pub message_id: String,
    /// The topic that it went to; empty if it was given up.
    pub topic: String,
}

/// A dead letter that stays one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FailedDeadLetter {
    /// Its offset in its queue.
    pub queue_offset: u64,
    /// Why.
    pub reason: String,
}

impl DeadLetters {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of dead letters", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

impl SettledDeadLetters {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of settled dead letters", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}
