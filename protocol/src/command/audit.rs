//! Who moved which offset, and when.

use serde::{Deserialize, Serialize};

use crate::header::FieldError;
use crate::json::{self, lenient};

header_fields! {
    /// Which offsets operators have moved: code 60013, which RocketMQ does not have. The answer is [`OffsetTrail`].
    AuditOffsets<'a> {
        /// Moves from this number on.
        from: u64 = "from",
        /// So many at most.
        limit: i32 = "limit",
        /// Those of this group only.
        group: Option<&'a str> = "group",
        /// Those in this topic only.
        topic: Option<&'a str> = "topic",
    }
}

/// Moves of offsets, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OffsetTrail {
    /// Those that were asked for.
    pub moves: Vec<OffsetsMoved>,
    /// Where to ask on, if there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A move of a group in a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OffsetsMoved {
    /// Moves are numbered, from 0 on.
    pub number: u64,
    /// When, in milliseconds since 1970.
    #[serde(deserialize_with = "lenient::integer")]
    pub timestamp: i64,
    /// The code of the request that did it.
    pub code: i32,
    /// Where that came from.
    pub address: String,
    /// What the client calls itself, if it had said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// From where to where, by queue.
    pub queues: Vec<QueueMoved>,
}

/// A move in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueMoved {
    /// Which.
    pub queue_id: u32,
    /// The offset before; none if the group had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The offset from then on; none if it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

impl OffsetTrail {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of moved offsets", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}
