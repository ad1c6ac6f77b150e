//! Changing a group's offsets from outside, and asking its clients for theirs.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::locks::MessageQueue;
use crate::header::FieldError;
use crate::json::{self, lenient};

header_fields! {
    /// Resets a group's offsets: code 222, from a tool to the broker, answered with [`ResetOffsets`]. Code 220,
    /// one-way from the broker to a consumer, with [`ResetOffsets`] as its body.
    ResetOffset<'a> {
        /// The group.
        group: &'a str = "group",
        /// The topic.
        topic: &'a str = "topic",
        /// The queue; below 0 or not given, all of them. See [`ResetOffset::queue`].
        queue_id: Option<i32> = "queueId",
        /// The ordinal; below 0 or not given, the time counts. See [`ResetOffset::target`].
        offset: Option<i64> = "offset",
        /// Milliseconds since 1970; −1 for the end of the queues.
        timestamp: i64 = "timestamp",
        /// Whether offsets may be moved forward too.
        force: bool = "isForce",
    }
}

/// Where a reset leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTarget {
    /// To this ordinal.
    Offset(u64),
    /// To the first message stored at this time or later, milliseconds since 1970.
    Time(u64),
    /// Behind the last message.
    End,
}

impl ResetOffset<'_> {
    /// The queue, unless all are meant.
    pub fn queue(&self) -> Option<u32> {
        self.queue_id.and_then(|id| u32::try_from(id).ok())
    }

    /// Where the reset leads.
    pub fn target(&self) -> ResetTarget {
        match self.offset.and_then(|offset| u64::try_from(offset).ok()) {
            Some(offset) => ResetTarget::Offset(offset),
            None => u64::try_from(self.timestamp).map_or(ResetTarget::End, ResetTarget::Time),
        }
    }
}

/// Offsets by queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResetOffsets {
    /// Next ordinal to consume, by queue.
    #[serde(deserialize_with = "in_either_form")]
    pub offset_table: BTreeMap<MessageQueue, i64>,
}

/// An offset of a queue, as C++ writes it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct QueueOffset {
    #[serde(deserialize_with = "lenient::or_default")]
    broker_name: String,
    #[serde(deserialize_with = "lenient::integer")]
    offset: i64,
    #[serde(deserialize_with = "lenient::integer")]
    queue_id: i32,
    #[serde(deserialize_with = "lenient::or_default")]
    topic: String,
}

impl ResetOffsets {
    /// Reads a body in either form.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table of offsets", error))
    }

    /// Writes the body as Java and Go read it, with queues for keys.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = br#"{"offsetTable":"#.to_vec();
        json::write_object_keys(&self.offset_table, &mut body);
        body.push(b'}');
        body
    }

    /// Writes the body as C++ reads it, as a list.
    pub fn encode_for_cpp(&self) -> Vec<u8> {
        let offsets = self.offset_table.iter().map(|(queue, &offset)| QueueOffset {
            broker_name: queue.broker_name.clone(),
            offset,
            queue_id: queue.queue_id,
            topic: queue.topic.clone(),
        });
        json::to_vec(&BTreeMap::from([("offsetTable", offsets.collect::<Vec<_>>())]))
    }
}

fn in_either_form<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<MessageQueue, i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        List(Vec<QueueOffset>),
        Table(#[serde(deserialize_with = "lenient::object_keys")] BTreeMap<MessageQueue, i64>),
        Null(()),
    }

    Ok(match Form::deserialize(deserializer)? {
        Form::Table(table) => table,
        Form::Null(()) => BTreeMap::new(),
        Form::List(offsets) => offsets
            .into_iter()
            .map(|QueueOffset { broker_name, offset, queue_id, topic }| {
                (MessageQueue { broker_name, queue_id, topic }, offset)
            })
            .collect(),
    })
}

header_fields! {
    /// What offsets a group's clients have: code 223, from a tool to the broker, and 221, from the broker to a
    /// client. Both are answered with [`ConsumerStatus`].
    ConsumerStatusRequest<'a> {
        /// The topic.
        topic: &'a str = "topic",
        /// The group.
        group: &'a str = "group",
        /// Only the client that calls itself so.
        client: Option<&'a str> = "clientAddr",
    }
}

/// Offsets of a group's clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerStatus {
    /// By client and queue: what answers code 223.
    #[serde(deserialize_with = "tables_by_client")]
    pub consumer_table: BTreeMap<String, BTreeMap<MessageQueue, i64>>,
    /// By queue: what answers code 221.
    #[serde(deserialize_with = "lenient::object_keys")]
    pub message_queue_table: BTreeMap<MessageQueue, i64>,
}

impl ConsumerStatus {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("table of clients' offsets", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = br#"{"consumerTable":{"#.to_vec();
        for (index, (client, offsets)) in self.consumer_table.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            json::write(client, &mut body);
            body.push(b':');
            json::write_object_keys(offsets, &mut body);
        }
        body.extend_from_slice(br#"},"messageQueueTable":"#);
        json::write_object_keys(&self.message_queue_table, &mut body);
        body.push(b'}');
        body
    }
}

fn tables_by_client<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, BTreeMap<MessageQueue, i64>>, D::Error> {
    #[derive(Deserialize)]
    struct Table(#[serde(deserialize_with = "lenient::object_keys")] BTreeMap<MessageQueue, i64>);

    let tables: BTreeMap<String, Table> = lenient::or_default(deserializer)?;
    Ok(tables.into_iter().map(|(client, Table(offsets))| (client, offsets)).collect())
}

header_fields! {
    /// Gives a group another group's offsets: code 314.
    CloneOffsets<'a> {
        /// Whose offsets.
        source_group: &'a str = "srcGroup",
        /// Who gets them.
        target_group: &'a str = "destGroup",
        /// Only of this topic.
        topic: Option<&'a str> = "topic",
        /// Whether the target is known to be without members.
        offline: bool = "offline",
    }
}
