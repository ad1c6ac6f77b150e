//! Key–value configuration on the nameserver.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::header::FieldError;
use crate::json::{self, lenient};

header_fields! {
    /// Sets a key: code 100.
    PutKv<'a> {
        /// The namespace.
        namespace: &'a str = "namespace",
        /// The key.
        key: &'a str = "key",
        /// The value.
        value: &'a str = "value",
    }
}

header_fields! {
    /// Reads a key: code 101, answered with [`KvValue`] or 22. Removes it: 102.
    KvKey<'a> {
        /// The namespace.
        namespace: &'a str = "namespace",
        /// The key.
        key: &'a str = "key",
    }
}

header_fields! {
    /// The value of a key.
    KvValue<'a> {
        /// The value.
        value: Option<&'a str> = "value",
    }
}

header_fields! {
    /// Reads a namespace: code 219, answered with a [`KvTable`] or 22.
    KvNamespace<'a> {
        /// The namespace.
        namespace: &'a str = "namespace",
    }
}

/// Namespace of the queues of ordered topics: a broker is told of them when it registers.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Names and texts, such as a namespace or what a broker says of itself (code 28).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KvTable {
    /// The entries.
    #[serde(deserialize_with = "lenient::or_default")]
    pub table: BTreeMap<String, String>,
}

impl KvTable {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}
