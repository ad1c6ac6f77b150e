//! Who consumes which queues, and by which requests, where the broker decides it.

use serde::{Deserialize, Serialize};

use super::heartbeat::MessageModel;
use super::locks::MessageQueue;
use crate::header::FieldError;
use crate::json::{self, lenient};

constants! {
    /// By which requests a group gets its messages.
    RequestMode {
        /// By pulls.
        #[default]
        Pull = "PULL",
        /// By pops.
        Pop = "POP",
    }
}

/// Which queues a client is to consume: the body of code 400, answered with [`Assignments`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueryAssignment {
    /// The client.
    #[serde(deserialize_with = "lenient::or_default")]
    pub client_id: String,
    /// Its group.
    #[serde(deserialize_with = "lenient::or_default")]
    pub consumer_group: String,
    /// Whether the members of the group share the messages.
    pub message_model: MessageModel,
    /// By what rule: `AVG` or `AVG_BY_CIRCLE`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub strategy_name: String,
    /// The topic.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic: String,
}

/// The queues of a client; none at all if nothing is known, so that it keeps what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Assignments {
    /// The queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_queue_assignments: Option<Vec<Assignment>>,
}

/// A queue of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Assignment {
    /// Which one; number -1 stands for all of the broker's.
    #[serde(deserialize_with = "lenient::or_default")]
    pub message_queue: MessageQueue,
    /// How it gets its messages.
    pub mode: RequestMode,
}

/// How a group gets a topic's messages: the body of code 401.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SetRequestMode {
    /// The group.
    #[serde(deserialize_with = "lenient::or_default")]
    pub consumer_group: String,
    /// How.
    pub mode: RequestMode,
    /// How many other members' queues each may pop from; all if it is not above 0.
    #[serde(deserialize_with = "lenient::integer")]
    pub pop_share_queue_num: i32,
    /// The topic.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic: String,
}

macro_rules! bodies {
    ($($kind:ident = $what:literal;)*) => {
        $(
            impl $kind {
                /// Reads a body.
                ///
                /// # Errors
                /// When it is none.
                pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
                    json::read(body).map_err(|error| FieldError::body($what, error))
                }

                /// Writes the body.
                pub fn encode(&self) -> Vec<u8> {
                    json::to_vec(self)
                }
            }
        )*
    };
}

bodies! {
    QueryAssignment = "query for an assignment";
    Assignments = "list of assignments";
    SetRequestMode = "request mode";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_those_of_java() {
        let asked = br#"{"clientId":"c","consumerGroup":"G","messageModel":"CLUSTERING","strategyName":"AVG","topic":"T"}"#;
        let query = QueryAssignment::decode(asked).unwrap();
        assert_eq!((&*query.client_id, query.message_model), ("c", MessageModel::Clustering));
        assert_eq!(query.encode(), asked);

        let answered = br#"{"messageQueueAssignments":[{"messageQueue":{"brokerName":"broker-a","queueId":-1,"topic":"T"},"mode":"POP"}]}"#;
        let assignments = Assignments::decode(answered).unwrap();
        assert_eq!(assignments.encode(), answered);
        assert_eq!(Assignments::default().encode(), b"{}");

        let set = br#"{"consumerGroup":"G","mode":"POP","popShareQueueNum":-1,"topic":"T"}"#;
        let mode = SetRequestMode::decode(set).unwrap();
        assert_eq!((mode.mode, mode.pop_share_queue_num), (RequestMode::Pop, -1));
        assert_eq!(mode.encode(), set);
    }
}
