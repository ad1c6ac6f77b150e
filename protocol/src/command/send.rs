//! Sending messages.

use super::{FieldList, FieldValue};
use crate::code::RequestCode;
use crate::header::{FieldError, Header, number};
use crate::outgoing::Value;

/// A message, or a batch of them, to be stored: codes 10 and 324 with long names of fields, 310, 320 and 325
/// with names of one letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRequest<'a> {
    /// Who sends.
    pub producer_group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The topic after which to model one that does not exist.
    pub default_topic: &'a str,
    /// How many queues to give it.
    pub default_topic_queue_nums: i32,
    /// The queue; below 0 any.
    pub queue_id: i32,
    /// See [`sys_flag`](crate::message::sys_flag).
    pub sys_flag: i32,
    /// Milliseconds of the producer's clock.
    pub born_timestamp: i64,
    /// The application's flag.
    pub flag: i32,
    /// The properties' text; empty for none.
    pub properties: &'a str,
    /// How often the message was consumed in vain.
    pub reconsume_times: i32,
    /// Whether the topic belongs to a unit.
    pub unit_mode: bool,
    /// When to give up, if this is a retry.
    pub max_reconsume_times: Option<i32>,
    /// Whether the body is a [batch](crate::message::batch). This counts, not the code: C++ sends batches as 310.
    pub batch: bool,
    /// The broker's name.
    pub broker_name: Option<&'a str>,
    /// The message's body, or the batch.
    pub body: &'a [u8],
}

/// The names of the fields: long, short.
const NAMES: [(&str, &str); 14] = [
    ("producerGroup", "a"),
    ("topic", "b"),
    ("defaultTopic", "c"),
    ("defaultTopicQueueNums", "d"),
    ("queueId", "e"),
    ("sysFlag", "f"),
    ("bornTimestamp", "g"),
    ("flag", "h"),
    ("properties", "i"),
    ("reconsumeTimes", "j"),
    ("unitMode", "k"),
    ("maxReconsumeTimes", "l"),
    ("batch", "m"),
    ("bname", "n"),
];

/// Whether a request with this code names its fields with one letter.
fn has_short_names(code: RequestCode) -> bool {
    matches!(
        code,
        RequestCode::SEND_MESSAGE_V2 | RequestCode::SEND_BATCH_MESSAGE | RequestCode::SEND_REPLY_MESSAGE_V2
    )
}

impl<'a> SendRequest<'a> {
    /// Reads a request of any of the codes.
    ///
    /// # Errors
    /// When a field is missing or is not what it has to be. It is named as it is on the wire.
    pub fn decode(header: &'a Header<'_>, body: &'a [u8]) -> Result<Self, FieldError> {
        let short = has_short_names(header.request_code());
        // One pass, because this is done for every message.
        let mut values: [Option<&'a str>; NAMES.len()] = [None; NAMES.len()];
        for (name, value) in header.fields.iter() {
            let index = match (short, name.as_bytes()) {
                (true, &[letter @ b'a'..=b'n']) => Some(usize::from(letter - b'a')),
                (true, _) => None,
                (false, _) => NAMES.iter().position(|(long, _)| *long == name),
            };
            if let Some(index) = index {
                values[index] = Some(value);
            }
        }
        let name = |index: usize| if short { NAMES[index].1 } else { NAMES[index].0 };
        let text = |index: usize| values[index].ok_or(FieldError::Missing { field: name(index) });
        let integer = |index: usize| number::<i32>(name(index), text(index)?);
        let given = |index: usize| values[index].filter(|value| !value.is_empty());
        let optional = |index: usize| given(index).map(|value| number::<i32>(name(index), value)).transpose();
        let flag = |index: usize| values[index].is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(Self {
            producer_group: text(0)?,
            topic: text(1)?,
            default_topic: text(2)?,
            default_topic_queue_nums: integer(3)?,
            queue_id: integer(4)?,
            sys_flag: integer(5)?,
            born_timestamp: number(name(6), text(6)?)?,
            flag: integer(7)?,
            properties: values[8].unwrap_or_default(),
            reconsume_times: optional(9)?.unwrap_or(0),
            unit_mode: flag(10),
            max_reconsume_times: optional(11)?,
            batch: flag(12),
            broker_name: values[13],
            body,
        })
    }

    /// The fields to send with a request of this code; `body` goes behind them.
    pub fn fields(&self, code: RequestCode) -> FieldList<'_> {
        let values = [
            Some(self.producer_group.into()),
            Some(self.topic.into()),
            Some(self.default_topic.into()),
            Some(self.default_topic_queue_nums.into()),
            Some(self.queue_id.into()),
            Some(self.sys_flag.into()),
            Some(self.born_timestamp.into()),
            Some(self.flag.into()),
            Some(Value::Text(self.properties)).filter(|_| !self.properties.is_empty()),
            Some(self.reconsume_times.into()),
            Some(self.unit_mode.into()),
            self.max_reconsume_times.value(),
            Some(self.batch.into()),
            self.broker_name.value(),
        ];
        let short = has_short_names(code);
        let names = NAMES.iter().map(|names| if short { names.1 } else { names.0 });
        names.zip(values).filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

header_fields! {
    /// What answers a send, with codes 0, 10, 11 and 12.
    SendResponse<'a> {
        /// Offset message id; of a batch all of them, separated by commas.
        message_id: &'a str = "msgId",
        /// The queue it went to.
        queue_id: i32 = "queueId",
        /// Its ordinal there; of a batch the first's.
        queue_offset: u64 = "queueOffset",
        /// The unique key.
        transaction_id: Option<&'a str> = "transactionId",
        /// The broker's region.
        region: Option<&'a str> = "MSG_REGION",
        /// Whether traces are wanted; Go takes a missing one for no.
        trace_on: bool = "TRACE_ON",
    }
}
