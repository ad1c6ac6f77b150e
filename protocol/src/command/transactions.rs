//! Transactions: ending them, asking producers about them, and what operators do with those that are stuck.

use serde::{Deserialize, Serialize};

use crate::header::FieldError;
use crate::json::{self, lenient};

header_fields! {
    /// A producer ends a transaction: code 37, usually one-way.
    EndTransaction<'a> {
        /// The topic the message is for; clients before 5.0 leave it out.
        topic: Option<&'a str> = "topic",
        /// The producer's group: that of the half message.
        producer_group: &'a str = "producerGroup",
        /// Number of the half message in its queue.
        queue_offset: u64 = "tranStateTableOffset",
        /// Where the half message is in the commit log.
        physical_offset: u64 = "commitLogOffset",
        /// How it ends: see [`EndTransaction::COMMIT`] and [`EndTransaction::ROLLBACK`].
        outcome: i32 = "commitOrRollback",
        /// Whether this answers a check, rather than the send.
        from_check: bool = "fromTransactionCheck",
        /// The client's name of the message.
        message_id: Option<&'a str> = "msgId",
        /// The same.
        transaction_id: Option<&'a str> = "transactionId",
    }
}

impl EndTransaction<'_> {
    /// The producer does not know yet; it will be asked.
    pub const UNKNOWN: i32 = 0;
    /// Consumers get the message.
    pub const COMMIT: i32 = 8;
    /// Nobody gets it.
    pub const ROLLBACK: i32 = 12;
}

header_fields! {
    /// The broker asks a producer how a transaction ended: code 39, one-way. Behind it comes the message, with its own
    /// topic and queue. The answer is an [`EndTransaction`] with the offsets of this.
    CheckTransactionState<'a> {
        /// The topic of half messages.
        topic: Option<&'a str> = "topic",
        /// Number of the half message in its queue.
        queue_offset: u64 = "tranStateTableOffset",
        /// Where the half message is in the commit log.
        physical_offset: u64 = "commitLogOffset",
        /// The client's name of the message.
        message_id: Option<&'a str> = "msgId",
        /// The same.
        transaction_id: Option<&'a str> = "transactionId",
        /// Offset message id of the half message.
        offset_message_id: Option<&'a str> = "offsetMsgId",
        /// The broker's name.
        broker_name: Option<&'a str> = "bname",
    }
}

header_fields! {
    /// An operator has a transaction checked anew: code 323.
    ResumeCheck<'a> {
        /// The topic; not looked at.
        topic: Option<&'a str> = "topic",
        /// Offset message id of the half message, or of what became of it when it was given up.
        message_id: &'a str = "msgId",
    }
}

header_fields! {
    /// What transactions are open: code 60001, which RocketMQ does not have. The answer is [`OpenTransactions`].
    ListTransactions<'a> {
        /// Those whose half message is not before this place in the commit log; or that of the half message which lay
        /// here first.
        from: u64 = "from",
        /// So many at most.
        limit: i32 = "limit",
        /// Those of this producer group only.
        producer_group: Option<&'a str> = "producerGroup",
    }
}

/// Transactions that are open, by the places of their half messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OpenTransactions {
    /// How many are open altogether.
    #[serde(deserialize_with = "lenient::integer")]
    pub open: i64,
    /// Those that were asked for.
    pub transactions: Vec<OpenTransaction>,
    /// Where to ask on, if there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// A transaction that is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OpenTransaction {
    /// Offset message id of the half message, by which it is committed or rolled back.
    pub message_id: String,
    /// Where the half message is in the commit log.
    pub physical_offset: u64,
    /// Number of the half message in its queue.
    pub queue_offset: u64,
    /// The client's name of the message.
    pub transaction_id: String,
    /// Who is asked about it.
    pub producer_group: String,
    /// The topic the message is for.
    pub topic: String,
    /// Milliseconds of the producer's clock when it was sent.
    #[serde(deserialize_with = "lenient::integer")]
    pub born_timestamp: i64,
    /// How often a producer was asked.
    pub checks: u32,
}

impl OpenTransactions {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("list of transactions", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}
