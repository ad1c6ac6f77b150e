//! Heartbeats: who a client is and what it consumes.
//!
//! Java, Go, C++ and Node.js write them differently: enums by name or ordinal, numbers in strings, sets left
//! out. All of it is read. Hashes of tags in them are not: Go's and C++'s are wrong, so they are made from the
//! expression.

use serde::{Deserialize, Serialize, Serializer};

use crate::header::FieldError;
use crate::json::{self, lenient};
use crate::message::{NoTags, TagFilter};

/// Code 34: the body of a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Heartbeat {
    /// The client.
    #[serde(rename = "clientID", deserialize_with = "lenient::or_default")]
    pub client_id: String,
    /// The groups it consumes for.
    #[serde(rename = "consumerDataSet", deserialize_with = "lenient::or_default")]
    pub consumers: Vec<ConsumerData>,
    /// Not 0 if the client leaves out subscriptions that have not changed.
    #[serde(deserialize_with = "lenient::integer")]
    pub heartbeat_fingerprint: i32,
    /// The groups it produces for.
    #[serde(rename = "producerDataSet", deserialize_with = "lenient::or_default")]
    pub producers: Vec<ProducerData>,
    /// Whether this one leaves them out.
    #[serde(deserialize_with = "lenient::boolean")]
    pub without_sub: bool,
}

impl Heartbeat {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none, or does not name the client.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let heartbeat: Self = json::read(body).map_err(|error| FieldError::body("heartbeat", error))?;
        if heartbeat.client_id.is_empty() {
            return Err(FieldError::Missing { field: "clientID" });
        }
        Ok(heartbeat)
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

/// A group that the client produces for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProducerData {
    /// The group.
    #[serde(deserialize_with = "lenient::or_default")]
    pub group_name: String,
}

/// A group that the client consumes for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerData {
    /// Where a queue starts of which no offset is stored.
    pub consume_from_where: ConsumeFrom,
    /// How it consumes.
    pub consume_type: ConsumeType,
    /// The group.
    #[serde(deserialize_with = "lenient::or_default")]
    pub group_name: String,
    /// Whether its members share the messages.
    pub message_model: MessageModel,
    /// What it consumes.
    #[serde(rename = "subscriptionDataSet", deserialize_with = "lenient::or_default")]
    pub subscriptions: Vec<Subscription>,
    /// Whether it belongs to a unit.
    #[serde(deserialize_with = "lenient::boolean")]
    pub unit_mode: bool,
}

constants! {
    /// Where a queue starts of which no offset is stored.
    ConsumeFrom {
        /// At its end.
        #[default]
        LastOffset = "CONSUME_FROM_LAST_OFFSET",
        /// Deprecated; as [`ConsumeFrom::LastOffset`].
        LastOffsetAndMinWhenBootFirst = "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
        /// Deprecated; as [`ConsumeFrom::LastOffset`].
        MinOffset = "CONSUME_FROM_MIN_OFFSET",
        /// Deprecated; as [`ConsumeFrom::LastOffset`].
        MaxOffset = "CONSUME_FROM_MAX_OFFSET",
        /// At its beginning.
        FirstOffset = "CONSUME_FROM_FIRST_OFFSET",
        /// At a time.
        Timestamp = "CONSUME_FROM_TIMESTAMP",
    }
}

constants! {
    /// How a group consumes.
    ConsumeType {
        /// The application pulls.
        Actively = "CONSUME_ACTIVELY",
        /// The client pulls and pushes to the application.
        #[default]
        Passively = "CONSUME_PASSIVELY",
        /// The client pops.
        Pop = "CONSUME_POP",
    }
}

constants! {
    /// Whether the members of a group share the messages.
    MessageModel {
        /// Each gets all.
        Broadcasting = "BROADCASTING",
        /// They share them.
        #[default]
        Clustering = "CLUSTERING",
    }
}

/// A topic that a group consumes, and which of its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Subscription {
    /// Of the obsolete filter server.
    #[serde(deserialize_with = "lenient::boolean")]
    pub class_filter_mode: bool,
    /// `TAG`, `SQL92`, or nothing for tags.
    #[serde(deserialize_with = "lenient::or_default")]
    pub expression_type: String,
    /// The expression.
    #[serde(rename = "subString", deserialize_with = "lenient::or_default")]
    pub expression: String,
    /// Time of its last change: milliseconds, but nanoseconds from Go. Larger is newer.
    #[serde(rename = "subVersion", deserialize_with = "lenient::integer")]
    pub version: i64,
    /// The topic.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic: String,
}

impl Subscription {
    /// Whether the expression is one of tags.
    pub fn is_by_tags(&self) -> bool {
        is_by_tags(&self.expression_type)
    }

    /// The filter that the expression makes.
    ///
    /// # Errors
    /// When it names no tag.
    pub fn tag_filter(&self) -> Result<TagFilter, NoTags> {
        TagFilter::parse(Some(&self.expression))
    }
}

/// Whether an expression of this type is one of tags.
pub(crate) fn is_by_tags(expression_type: &str) -> bool {
    expression_type.is_empty() || expression_type.eq_ignore_ascii_case("TAG")
}

impl Serialize for Subscription {
    /// As Java writes it, with sets made from the expression.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            class_filter_mode: bool,
            code_set: Vec<i32>,
            expression_type: &'a str,
            sub_string: &'a str,
            sub_version: i64,
            tags_set: Vec<&'a str>,
            topic: &'a str,
        }

        let filter = if self.is_by_tags() { self.tag_filter().ok() } else { None };
        let tags = match &filter {
            Some(TagFilter::Tags(tags)) => tags.as_slice(),
            Some(TagFilter::All) | None => &[],
        };
        let wire = Wire {
            class_filter_mode: self.class_filter_mode,
            code_set: tags.iter().map(|(hash, _)| *hash).collect(),
            expression_type: if self.expression_type.is_empty() { "TAG" } else { &self.expression_type },
            sub_string: if self.expression.is_empty() { "*" } else { &self.expression },
            sub_version: self.version,
            tags_set: tags.iter().map(|(_, tag)| &**tag).collect(),
            topic: &self.topic,
        };
        wire.serialize(serializer)
    }
}

/// Code 46: whether the broker can serve a subscription. The body of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CheckClientConfig {
    /// The client.
    #[serde(deserialize_with = "lenient::or_default")]
    pub client_id: String,
    /// The group.
    #[serde(deserialize_with = "lenient::or_default")]
    pub group: String,
    /// The client's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The subscription.
    #[serde(rename = "subscriptionData", deserialize_with = "lenient::or_default")]
    pub subscription: Subscription,
}

impl CheckClientConfig {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("check of a subscription", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}
