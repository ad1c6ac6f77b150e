//! Who is connected, as tools ask for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::heartbeat::{ConsumeFrom, ConsumeType, MessageModel, Subscription};
use crate::header::{FieldError, Language};
use crate::json::{self, lenient};

/// A client's connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Connection {
    /// Where it connects from, `ip:port`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub client_addr: String,
    /// What it calls itself.
    #[serde(deserialize_with = "lenient::or_default")]
    pub client_id: String,
    /// What it is written in.
    pub language: Language,
    /// Ordinal of its version.
    #[serde(deserialize_with = "lenient::integer")]
    pub version: i32,
}

/// Who consumes for a group, and what: what answers code 203, a
/// [`ConsumerGroup`](super::membership::ConsumerGroup). Nobody is 206.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerConnection {
    /// The connections; tools take none for a group that is not there.
    #[serde(deserialize_with = "lenient::or_default")]
    pub connection_set: Vec<Connection>,
    /// Where a queue starts of which no offset is stored.
    pub consume_from_where: ConsumeFrom,
    /// How it consumes.
    pub consume_type: ConsumeType,
    /// Whether its members share the messages.
    pub message_model: MessageModel,
    /// What it consumes, by topic.
    #[serde(deserialize_with = "lenient::or_default")]
    pub subscription_table: BTreeMap<String, Subscription>,
}

impl ConsumerConnection {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of a group's connections", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

header_fields! {
    /// Who produces for a group: code 204, answered with [`ProducerConnection`], or 1 if nobody does.
    ProducerGroup<'a> {
        /// The group.
        producer_group: &'a str = "producerGroup",
    }
}

/// Who produces for a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProducerConnection {
    /// The connections.
    #[serde(deserialize_with = "lenient::or_default")]
    pub connection_set: Vec<Connection>,
}

impl ProducerConnection {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of a group's connections", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// All producers by group: what answers code 328.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProducerTable {
    /// By group.
    #[serde(deserialize_with = "lenient::or_default")]
    pub data: BTreeMap<String, Vec<ProducerInfo>>,
}

impl ProducerTable {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table of producers", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// A producer's connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProducerInfo {
    /// What it calls itself.
    #[serde(deserialize_with = "lenient::or_default")]
    pub client_id: String,
    /// What it is written in.
    pub language: Language,
    /// When it last said that it is there, milliseconds since 1970.
    #[serde(deserialize_with = "lenient::integer")]
    pub last_update_timestamp: i64,
    /// Where it connects from, `ip:port`.
    #[serde(rename = "remoteIP", deserialize_with = "lenient::or_default")]
    pub remote_address: String,
    /// Ordinal of its version.
    #[serde(deserialize_with = "lenient::integer")]
    pub version: i32,
}
