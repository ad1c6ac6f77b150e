//! How far groups are behind, and why: 60020 and 60021, our own.

use serde::{Deserialize, Serialize};

use crate::header::FieldError;
use crate::json;

header_fields! {
    /// An operator asks how far groups are behind: code 60020, answered with a [`LagPage`].
    ListLag<'a> {
        /// This group only.
        group: Option<&'a str> = "group",
        /// This topic only.
        topic: Option<&'a str> = "topic",
        /// Only queues that hold messages nobody fetches.
        stuck: bool = "stuck",
        /// Where to go on: as the page before says.
        from_group: Option<&'a str> = "fromGroup",
        /// Where to go on within that group.
        from_topic: Option<&'a str> = "fromTopic",
    }
}

/// Groups and queues, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LagPage {
    /// Each queue of a group's topics.
    pub rows: Vec<QueueLag>,
    /// The group to ask on from, if there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_group: Option<String>,
    /// The topic of that group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_topic: Option<String>,
}

/// How far a group is in a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueLag {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The queue.
    pub queue: u32,
    /// Where the group goes on, if it has committed anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<u64>,
    /// One behind the newest message's offset.
    pub end: u64,
    /// Messages that are there and not committed.
    pub lag: u64,
    /// The client that asked last, or that has locked the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Milliseconds since somebody of the group asked for messages; none if nobody has since the broker started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_ms_ago: Option<u64>,
    /// Why nothing moves; none if something does, or there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_because: Option<String>,
}

impl LagPage {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table of groups' lags", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// What the watchdog has noticed lately, oldest first: the answer to 60021, which has no fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LagEvents {
    /// The latest thousand.
    pub events: Vec<LagEvent>,
    /// How many there were altogether since the broker started.
    pub total: u64,
    /// Queues that are stuck.
    pub stuck: u64,
}

/// A queue got stuck, or moves again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LagEvent {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The queue.
    pub queue: u32,
    /// Messages that were there and not committed.
    pub lag: u64,
    /// Why nothing moved; none if something does again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_because: Option<String>,
}

impl LagEvents {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of stuck queues", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}
