//! Members of groups.

use serde::{Deserialize, Serialize};

use crate::header::FieldError;
use crate::json::{self, lenient};

header_fields! {
    /// A client goes: code 35. Go never sends it; C++ sends the group it is not in as empty text.
    UnregisterClient<'a> {
        /// The client.
        client_id: &'a str = "clientID",
        /// The group it produced for.
        producer_group: Option<&'a str> = "producerGroup",
        /// The group it consumed for.
        consumer_group: Option<&'a str> = "consumerGroup",
    }
}

header_fields! {
    /// Who consumes for a group: code 38, answered with a [`ConsumerList`], or 1 if nobody does. The same field
    /// in the other direction, one-way: the members of a group have changed, code 40.
    ConsumerGroup<'a> {
        /// The group.
        consumer_group: &'a str = "consumerGroup",
    }
}

/// The clients that consume for a group; clients sort them themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerList {
    /// Their ids.
    #[serde(deserialize_with = "lenient::or_default")]
    pub consumer_id_list: Vec<String>,
}

impl ConsumerList {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("consumer list", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}
