//! Finding messages, and looking into a consume queue.

use serde::{Deserialize, Serialize};

use super::heartbeat::Subscription;
use crate::header::FieldError;
use crate::json::{self, lenient};

header_fields! {
    /// Messages by key: code 12. Answered with [`QueryResponse`] and stored messages, one behind the other, or
    /// 22. Whoever asks looks at the keys again, because hashes of keys collide.
    QueryMessage<'a> {
        /// The topic.
        topic: &'a str = "topic",
        /// One of a message's business keys, or its unique one.
        key: &'a str = "key",
        /// Most messages wanted; counts only for business keys.
        max_messages: i32 = "maxNum",
        /// First time of storing, milliseconds since 1970.
        begin_timestamp: i64 = "beginTimestamp",
        /// Last time of storing.
        end_timestamp: i64 = "endTimestamp",
        /// Whether the key is a unique one.
        unique: bool = "_UNIQUE_KEY_QUERY",
    }
}

header_fields! {
    /// What answers code 12: how far the index goes.
    QueryResponse {
        /// When the last message that is indexed was stored.
        index_last_timestamp: u64 = "indexLastUpdateTimestamp",
        /// Where it is.
        index_last_physical_offset: u64 = "indexLastUpdatePhyoffset",
    }
}

header_fields! {
    /// The message at a place of the commit log: code 33. Answered with one stored message, or 1.
    ViewMessage<'a> {
        /// The topic it is expected to have.
        topic: Option<&'a str> = "topic",
        /// Where it begins, as its offset message id says.
        physical_offset: u64 = "offset",
    }
}

header_fields! {
    /// Entries of a consume queue: code 321, answered with [`ConsumeQueueEntries`], or 1 if there is no such
    /// queue.
    ConsumeQueueRequest<'a> {
        /// The topic.
        topic: &'a str = "topic",
        /// The queue.
        queue_id: i32 = "queueId",
        /// Ordinal of the first.
        index: i64 = "index",
        /// How many.
        count: i32 = "count",
        /// The group whose subscription is told too.
        consumer_group: Option<&'a str> = "consumerGroup",
    }
}

/// Entries of a consume queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeQueueEntries {
    /// What an expression of the group was compiled to, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_data: Option<String>,
    /// The ordinal of the queue's next message.
    #[serde(deserialize_with = "lenient::integer")]
    pub max_queue_index: u64,
    /// The ordinal of its first.
    #[serde(deserialize_with = "lenient::integer")]
    pub min_queue_index: u64,
    /// The entries.
    #[serde(deserialize_with = "lenient::or_default")]
    pub queue_data: Vec<ConsumeQueueEntry>,
    /// What the group subscribes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_data: Option<Subscription>,
}

impl ConsumeQueueEntries {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of entries of a consume queue", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// An entry of a consume queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeQueueEntry {
    /// Bits of compiled expressions, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_map: Option<String>,
    /// Whether the group's expression selects the message.
    #[serde(deserialize_with = "lenient::boolean")]
    pub eval: bool,
    /// An extended entry, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend_data_json: Option<String>,
    /// Why the expression could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg: Option<String>,
    /// Where the message is in the commit log.
    #[serde(deserialize_with = "lenient::integer")]
    pub physic_offset: u64,
    /// How many bytes it has.
    #[serde(deserialize_with = "lenient::integer")]
    pub physic_size: u32,
    /// Hash of its tags; of a delayed message the time it is due.
    #[serde(deserialize_with = "lenient::integer")]
    pub tags_code: i64,
}
