//! Queue locks of ordered consumers.

use serde::{Deserialize, Serialize};

use crate::header::FieldError;
use crate::json::{self, lenient};

/// A queue of a topic on a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MessageQueue {
    /// The broker's name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub broker_name: String,
    /// The queue.
    #[serde(deserialize_with = "lenient::integer")]
    pub queue_id: i32,
    /// The topic.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic: String,
}

/// Asks for locks, code 41, answered with [`LockedQueues`]; or gives them back, code 42.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LockRequest {
    /// Who asks.
    #[serde(deserialize_with = "lenient::or_default")]
    pub client_id: String,
    /// For which group.
    #[serde(deserialize_with = "lenient::or_default")]
    pub consumer_group: String,
    /// Which queues.
    #[serde(rename = "mqSet", deserialize_with = "lenient::or_default")]
    pub queues: Vec<MessageQueue>,
    /// Whether the broker is to ask its followers too.
    #[serde(deserialize_with = "lenient::boolean")]
    pub only_this_broker: bool,
}

impl LockRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none, or does not say who asks and for which group.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let request: Self = json::read(body).map_err(|error| FieldError::body("lock request", error))?;
        for (field, text) in [("clientId", &request.client_id), ("consumerGroup", &request.consumer_group)] {
            if text.is_empty() {
                return Err(FieldError::Missing { field });
            }
        }
        Ok(request)
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// Which of the queues asked for the client now holds, exactly as it named them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockedQueues {
    /// The queues.
    #[serde(rename = "lockOKMQSet", deserialize_with = "lenient::or_default")]
    pub queues: Vec<MessageQueue>,
}

impl LockedQueues {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of locked queues", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}
