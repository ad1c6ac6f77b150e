//! All offsets a broker keeps, as its followers ask for them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::register::DataVersion;
use crate::header::FieldError;
use crate::json::{self, lenient};

/// Offsets of all groups: what answers code 43.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerOffsets {
    /// Their version.
    #[serde(deserialize_with = "lenient::or_default")]
    pub data_version: DataVersion,
    /// Next ordinal to consume, by `topic@group` and queue.
    #[serde(deserialize_with = "lenient::or_default")]
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
}

impl ConsumerOffsets {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table of consumers' offsets", error))
    }

    /// Writes the body, with bare numbers for keys as Java does.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = br#"{"dataVersion":"#.to_vec();
        json::write(&self.data_version, &mut body);
        body.extend_from_slice(br#","offsetTable":{"#);
        for (index, (name, offsets)) in self.offset_table.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            json::write(name, &mut body);
            body.push(b':');
            json::write_object_keys(offsets, &mut body);
        }
        body.extend_from_slice(b"}}");
        body
    }
}

/// How far the delivery of delayed messages is: what answers code 45.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DelayOffsets {
    /// Their version.
    #[serde(deserialize_with = "lenient::or_default")]
    pub data_version: DataVersion,
    /// Next ordinal to deliver, by level.
    #[serde(deserialize_with = "lenient::or_default")]
    pub offset_table: BTreeMap<i32, i64>,
}

impl DelayOffsets {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table of levels' offsets", error))
    }

    /// Writes the body, with bare numbers for keys as Java does.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = br#"{"dataVersion":"#.to_vec();
        json::write(&self.data_version, &mut body);
        body.extend_from_slice(br#","offsetTable":"#);
        json::write_object_keys(&self.offset_table, &mut body);
        body.push(b'}');
        body
    }
}
