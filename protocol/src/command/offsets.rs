//! Offsets of consumers and of queues.

use crate::header::{FieldError, Header};

header_fields! {
    /// Where a group goes on: code 14. Answered with [`OffsetResponse`], or 22.
    QueryConsumerOffset<'a> {
        /// Who consumes.
        consumer_group: &'a str = "consumerGroup",
        /// The topic.
        topic: &'a str = "topic",
        /// The queue.
        queue_id: i32 = "queueId",
        /// Whether 0 may stand for nothing stored; it may unless this says no.
        zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }
}

header_fields! {
    /// Where a group goes on from now: code 15.
    UpdateConsumerOffset<'a> {
        /// Who consumes.
        consumer_group: &'a str = "consumerGroup",
        /// The topic.
        topic: &'a str = "topic",
        /// The queue.
        queue_id: i32 = "queueId",
        /// Next ordinal to consume.
        commit_offset: i64 = "commitOffset",
    }
}

/// Which of several candidates a search by time gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Boundary {
    /// The first message stored at the time or later.
    #[default]
    Lower,
    /// The last message stored at the time or earlier.
    Upper,
}

/// An ordinal by time of storing: code 29. Answered with [`OffsetResponse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchOffset<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The queue.
    pub queue_id: i32,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Which end is meant.
    pub boundary: Boundary,
}

impl<'a> SearchOffset<'a> {
    /// Reads the header's fields.
    ///
    /// # Errors
    /// When one is missing or is not what it has to be.
    pub fn decode(header: &'a Header<'_>) -> Result<Self, FieldError> {
        let fields = &header.fields;
        let upper = fields.get("boundaryType").is_some_and(|boundary| boundary.eq_ignore_ascii_case("UPPER"));
        Ok(Self {
            topic: fields.required("topic")?,
            queue_id: fields.number("queueId")?,
            timestamp: fields.number("timestamp")?,
            boundary: if upper { Boundary::Upper } else { Boundary::Lower },
        })
    }

    /// The fields to send.
    pub fn fields(&self) -> super::FieldList<'_> {
        let boundary = match self.boundary {
            Boundary::Lower => "LOWER",
            Boundary::Upper => "UPPER",
        };
        super::FieldList::from_slice(&[
            ("topic", self.topic.into()),
            ("queueId", self.queue_id.into()),
            ("timestamp", self.timestamp.into()),
            ("boundaryType", boundary.into()),
        ])
    }
}

header_fields! {
    /// A queue: codes 30 (the ordinal of its next message), 31 (of its first) and 32 (when the first was
    /// stored). 30 and 31 are answered with [`OffsetResponse`], 32 with [`TimestampResponse`].
    QueueRequest<'a> {
        /// The topic.
        topic: &'a str = "topic",
        /// The queue.
        queue_id: i32 = "queueId",
    }
}

header_fields! {
    /// An ordinal.
    OffsetResponse {
        /// The ordinal.
        offset: u64 = "offset",
    }
}

header_fields! {
    /// A time.
    TimestampResponse {
        /// Milliseconds since 1970, or −1 for none.
        timestamp: i64 = "timestamp",
    }
}
