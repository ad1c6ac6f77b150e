//! The store encoding of a message: the bytes in the commit log, in pulls, and in what a broker pushes.
//!
//! Integers are big-endian. A host is its IP, 4 bytes or 16, and its port as `i32`; bits of the sysFlag tell
//! which. The columns give offsets with IPv4 hosts; each IPv6 host moves what follows by 12.
//!
//! | at | bytes | field                     | meaning                                               |
//! |---:|------:|---------------------------|-------------------------------------------------------|
//! |  0 |     4 | totalSize                 | of the whole, this field included                     |
//! |  4 |     4 | magic                     | `DAA320A7` v1, `DAA320AB` v2 (two-byte topic length)  |
//! |  8 |     4 | bodyCRC                   | [`body_crc`]                                          |
//! | 12 |     4 | queueId                   |                                                       |
//! | 16 |     4 | flag                      | the application's                                     |
//! | 20 |     8 | queueOffset               | filled in under the append lock                       |
//! | 28 |     8 | physicalOffset            | filled in under the append lock                       |
//! | 36 |     4 | sysFlag                   | [`sys_flag`]                                          |
//! | 40 |     8 | bornTimestamp             | ms, the producer's clock                              |
//! | 48 |     8 | bornHost                  |                                                       |
//! | 56 |     8 | storeTimestamp            | ms; filled in under the append lock; ends the head    |
//! | 64 |     8 | storeHost                 |                                                       |
//! | 72 |     4 | reconsumeTimes            |                                                       |
//! | 76 |     8 | preparedTransactionOffset |                                                       |
//! | 84 |   4+n | body                      | length, bytes                                         |
//! | 88+n | 1+t | topic                     | length, bytes                                         |
//! | 89+n+t | 2+p | properties              | length, bytes                                         |

use std::net::{IpAddr, SocketAddr};

use super::id::OffsetMessageId;
use super::properties::Properties;
use super::{body_crc, sys_flag};
use crate::java;

/// Magic of the encoding written here.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// Magic of the encoding with a two-byte topic length. Read, never written: no client but Java's 5.x can.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Largest body a stock broker takes.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a stock broker allows a record beyond its body.
pub const OVERHEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest topic of the v1 encoding as RocketMQ reads it.
pub const TOPIC_BYTES_MAX: usize = 127;
/// Longest properties: their length is an `i16`.
pub const PROPERTIES_BYTES_MAX: usize = 32_767;

/// First bytes of a stored message, which say in which queue it lies and where.
pub const PLACE_BYTES: usize = QUEUE_OFFSET_AT + 8;

const HEAD_BYTES: usize = 64;
const HEAD_BYTES_V6: usize = 76;
const BODY_CRC_AT: usize = 8;
const QUEUE_ID_AT: usize = 12;
const QUEUE_OFFSET_AT: usize = 20;
const PHYSICAL_OFFSET_AT: usize = 28;
/// Bytes of a record with IPv4 hosts beside body, topic and properties.
const FIXED_BYTES: usize = 91;

/// A stored message, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMessage<'a> {
    /// Checksum of the body, as stored.
    pub body_crc: u32,
    /// Queue within the topic.
    pub queue_id: u32,
    /// The application's flag.
    pub flag: i32,
    /// Ordinal in the queue.
    pub queue_offset: u64,
    /// Where the broker that stored it says it is.
    pub physical_offset: u64,
    /// See [`sys_flag`].
    pub sys_flag: i32,
    /// Milliseconds of the producer's clock.
    pub born_timestamp: i64,
    /// Who sent it.
    pub born_host: SocketAddr,
    /// Milliseconds of the broker's clock.
    pub store_timestamp: u64,
    /// The broker that stored it, as clients reach it.
    pub store_host: SocketAddr,
    /// How often it was consumed in vain.
    pub reconsume_times: i32,
    /// Where the half message of its transaction is, or 0.
    pub prepared_transaction_offset: i64,
    /// The body, compressed if the sender did so.
    pub body: &'a [u8],
    /// The topic.
    pub topic: &'a str,
    /// The properties' bytes.
    pub properties: &'a [u8],
}

/// Why bytes are no stored message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The bytes end, or the message says it ends, inside a field.
    #[error("the message ends inside its {field}")]
    Truncated {
        /// Which field.
        field: &'static str,
    },
    /// The fields end before the message says it does.
    #[error("the message says {total_bytes} bytes, its fields take {fields_bytes}")]
    Length {
        /// What it says.
        total_bytes: usize,
        /// What its fields take.
        fields_bytes: usize,
    },
    /// Neither of the known encodings.
    #[error("{0:08X} is no message's magic")]
    Magic(u32),
    /// A number that cannot be negative is.
    #[error("{field} is out of range: {found}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// What it holds.
        found: i64,
    },
    /// The topic is not UTF-8.
    #[error("the topic is not UTF-8")]
    Topic,
    /// A property that the broker has written does not say what it has to.
    #[error("its property {name} does not say what it has to")]
    Property {
        /// Which one.
        name: &'static str,
    },
}

impl<'a> StoredMessage<'a> {
    /// Reads the message at the start of `bytes` and tells how many bytes it takes.
    ///
    /// # Errors
    /// When there is none. The body's checksum is not looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, usize), MessageError> {
        let mut length = Reader { rest: bytes };
        let total = length.i32("totalSize")?;
        let total_bytes = usize::try_from(total)
            .map_err(|_| MessageError::OutOfRange { field: "totalSize", found: total.into() })?;
        let whole = bytes.get(..total_bytes).ok_or(MessageError::Truncated { field: "bytes" })?;
        let rest = whole.get(4..).ok_or(MessageError::Truncated { field: "totalSize" })?;
        let mut reader = Reader { rest };
        let magic = reader.u32("magic")?;
        if magic != MAGIC_V1 && magic != MAGIC_V2 {
            return Err(MessageError::Magic(magic));
        }
        let body_crc = reader.u32("bodyCRC")?;
        let queue_id = reader.i32("queueId")?;
        let flag = reader.i32("flag")?;
        let queue_offset = reader.unsigned("queueOffset")?;
        let physical_offset = reader.unsigned("physicalOffset")?;
        let sys_flag = reader.i32("sysFlag")?;
        let born_timestamp = reader.i64("bornTimestamp")?;
        let born_host = reader.host("bornHost", sys_flag & sys_flag::BORN_HOST_V6 != 0)?;
        let store_timestamp = reader.unsigned("storeTimestamp")?;
        let store_host = reader.host("storeHost", sys_flag & sys_flag::STORE_HOST_V6 != 0)?;
        let reconsume_times = reader.i32("reconsumeTimes")?;
        let prepared_transaction_offset = reader.i64("preparedTransactionOffset")?;
        let body_bytes = reader.i32("body")?;
        let body = reader.bytes("body", body_bytes)?;
        let topic_bytes = if magic == MAGIC_V1 {
            let [length] = reader.array("topic")?;
            i32::from(length)
        } else {
            reader.i16("topic")?.into()
        };
        let topic =
            std::str::from_utf8(reader.bytes("topic", topic_bytes)?).map_err(|_| MessageError::Topic)?;
        let properties_bytes = reader.i16("properties")?;
        let properties = reader.bytes("properties", properties_bytes.into())?;
        if !reader.rest.is_empty() {
            return Err(MessageError::Length { total_bytes, fields_bytes: total_bytes - reader.rest.len() });
        }
        let message = Self {
            body_crc,
            queue_id: u32::try_from(queue_id)
                .map_err(|_| MessageError::OutOfRange { field: "queueId", found: queue_id.into() })?,
            flag,
            queue_offset,
            physical_offset,
            sys_flag,
            born_timestamp,
            born_host,
            store_timestamp,
            store_host,
            reconsume_times,
            prepared_transaction_offset,
            body,
            topic,
            properties,
        };
        Ok((message, total_bytes))
    }

    /// The messages that stand one behind the other in `bytes`, as in the body of a pull's answer. Ends after
    /// the first error.
    pub fn parse_all(bytes: &'a [u8]) -> impl Iterator<Item = Result<Self, MessageError>> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let parsed = Self::parse(rest);
            rest = parsed.as_ref().map_or(&[], |&(_, bytes)| &rest[bytes..]);
            Some(parsed.map(|(message, _)| message))
        })
    }

    /// The properties, to iterate or look up.
    pub fn properties(&self) -> Properties<'a> {
        Properties::new(self.properties)
    }

    /// The tags, if there are any.
    pub fn tags(&self) -> Option<&'a str> {
        self.properties().get(super::properties::TAGS)
    }

    /// What the consume queue holds for its tags.
    pub fn tag_hash(&self) -> i32 {
        java::tag_hash(self.tags())
    }

    /// Whether the body is what its checksum was made of.
    pub fn body_is_intact(&self) -> bool {
        self.body_crc == body_crc(self.body)
    }

    /// The id made of where the message is.
    pub fn offset_message_id(&self) -> OffsetMessageId {
        OffsetMessageId { store_host: canonical(self.store_host), physical_offset: self.physical_offset }
    }
}

/// A message to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Queue within the topic.
    pub queue_id: u32,
    /// The application's flag.
    pub flag: i32,
    /// The sender's [`sys_flag`]; the bits of the hosts are set to what the hosts are.
    pub sys_flag: i32,
    /// Milliseconds of the producer's clock.
    pub born_timestamp: i64,
    /// Who sent it.
    pub born_host: SocketAddr,
    /// The broker, as clients reach it.
    pub store_host: SocketAddr,
    /// How often it was consumed in vain.
    pub reconsume_times: i32,
    /// Where the half message of its transaction is, or 0.
    pub prepared_transaction_offset: i64,
    /// The body.
    pub body: &'a [u8],
    /// The properties as the sender wrote them.
    pub properties: &'a [u8],
    /// Properties that the broker adds.
    pub added_properties: &'a [u8],
}

/// Why a message cannot be stored. The text says what the limit is and serves as the remark of response 13.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageRefused {
    /// RocketMQ has no empty messages.
    #[error("the message has no body")]
    EmptyBody,
    /// The body exceeds the limit.
    #[error("the message's body has {body_bytes} bytes, the limit is {body_bytes_max}")]
    BodyTooLarge {
        /// What it has.
        body_bytes: usize,
        /// The limit.
        body_bytes_max: usize,
    },
    /// The topic exceeds the limit.
    #[error("the topic has {topic_bytes} bytes, the limit is {TOPIC_BYTES_MAX}")]
    TopicTooLong {
        /// What it has.
        topic_bytes: usize,
    },
    /// The properties exceed the limit.
    #[error("the message's properties have {properties_bytes} bytes, the limit is {PROPERTIES_BYTES_MAX}")]
    PropertiesTooLong {
        /// What they have, with those the broker adds.
        properties_bytes: usize,
    },
    /// Java's numbers have a sign.
    #[error("queue {queue_id} is beyond the largest there can be")]
    QueueId {
        /// The queue.
        queue_id: u32,
    },
}

/// A message ready for a vectored append: the head, which is finished under the append lock, and the rest in
/// pieces, of which the body and the properties are still where they were.
#[derive(Clone, Debug)]
pub struct MessageParts<'a> {
    head: [u8; HEAD_BYTES_V6],
    head_bytes: usize,
    /// storeHost up to the body's length.
    middle: [u8; 36],
    middle_bytes: usize,
    body: &'a [u8],
    /// Topic with its length, and the properties' length.
    topic: [u8; 1 + TOPIC_BYTES_MAX + 2],
    topic_bytes: usize,
    properties: &'a [u8],
    separator: &'static [u8],
    added_properties: &'a [u8],
}

impl<'a> NewMessage<'a> {
    /// Encodes the message, except what only the append knows.
    ///
    /// # Errors
    /// When it breaks a limit.
    pub fn parts(&self, body_bytes_max: usize) -> Result<MessageParts<'a>, MessageRefused> {
        let body_bytes = self.body.len();
        if body_bytes == 0 {
            return Err(MessageRefused::EmptyBody);
        }
        let body_length = match i32::try_from(body_bytes) {
            Ok(length) if body_bytes <= body_bytes_max => length,
            _ => return Err(MessageRefused::BodyTooLarge { body_bytes, body_bytes_max }),
        };
        let topic_bytes = self.topic.len();
        let topic_length = match u8::try_from(topic_bytes) {
            Ok(length) if topic_bytes <= TOPIC_BYTES_MAX => length,
            _ => return Err(MessageRefused::TopicTooLong { topic_bytes }),
        };
        // A sender may leave out what ends its last property.
        let unfinished = self.properties.last().is_some_and(|&last| last != super::properties::PROPERTY_END);
        let separator: &[u8] = if unfinished && !self.added_properties.is_empty() {
            &[super::properties::PROPERTY_END]
        } else {
            &[]
        };
        let properties_bytes = self.properties.len() + separator.len() + self.added_properties.len();
        let properties_length = i16::try_from(properties_bytes)
            .map_err(|_| MessageRefused::PropertiesTooLong { properties_bytes })?;
        let queue_id =
            i32::try_from(self.queue_id).map_err(|_| MessageRefused::QueueId { queue_id: self.queue_id })?;

        let born_host = canonical(self.born_host);
        let store_host = canonical(self.store_host);
        let mut flags = self.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6);
        if born_host.is_ipv6() {
            flags |= sys_flag::BORN_HOST_V6;
        }
        if store_host.is_ipv6() {
            flags |= sys_flag::STORE_HOST_V6;
        }
        let hosts_beyond_v4 = 12 * (usize::from(born_host.is_ipv6()) + usize::from(store_host.is_ipv6()));
        let total_bytes = FIXED_BYTES + hosts_beyond_v4 + body_bytes + topic_bytes + properties_bytes;
        let total_length = i32::try_from(total_bytes)
            .map_err(|_| MessageRefused::BodyTooLarge { body_bytes, body_bytes_max })?;

        let mut head = Piece::<HEAD_BYTES_V6>::new();
        head.put(&total_length.to_be_bytes());
        head.put(&MAGIC_V1.to_be_bytes());
        head.put(&body_crc(self.body).to_be_bytes());
        head.put(&queue_id.to_be_bytes());
        head.put(&self.flag.to_be_bytes());
        head.put(&[0; 16]);
        head.put(&flags.to_be_bytes());
        head.put(&self.born_timestamp.to_be_bytes());
        head.put_host(born_host);
        head.put(&[0; 8]);
        let mut middle = Piece::<36>::new();
        middle.put_host(store_host);
        middle.put(&self.reconsume_times.to_be_bytes());
        middle.put(&self.prepared_transaction_offset.to_be_bytes());
        middle.put(&body_length.to_be_bytes());
        let mut topic = Piece::<{ 1 + TOPIC_BYTES_MAX + 2 }>::new();
        topic.put(&[topic_length]);
        topic.put(self.topic.as_bytes());
        topic.put(&properties_length.to_be_bytes());
        Ok(MessageParts {
            head: head.bytes,
            head_bytes: head.end,
            middle: middle.bytes,
            middle_bytes: middle.end,
            body: self.body,
            topic: topic.bytes,
            topic_bytes: topic.end,
            properties: self.properties,
            separator,
            added_properties: self.added_properties,
        })
    }
}

impl<'a> MessageParts<'a> {
    /// The same message with other added properties: some, and no longer than those it was encoded with.
    ///
    /// # Panics
    /// When they are longer, or there were none.
    #[must_use]
    pub fn with_added(&self, added: &'a [u8]) -> Self {
        let less = self.added_properties.len().checked_sub(added.len());
        let less = less.expect("what is added takes no more than what was encoded");
        assert!(!added.is_empty(), "a separator may stand in front of it");
        let mut parts = Self { added_properties: added, ..self.clone() };
        let total = i32::try_from(parts.len()).expect("shorter than what had a length");
        parts.head[..4].copy_from_slice(&total.to_be_bytes());
        let (topic, length) =
            parts.topic[..parts.topic_bytes].split_last_chunk_mut().expect("two bytes follow the topic");
        debug_assert!(!topic.is_empty());
        let less = i16::try_from(less).expect("less than what had a length");
        *length = (i16::from_be_bytes(*length) - less).to_be_bytes();
        parts
    }
}

#[expect(clippy::len_without_is_empty, reason = "a message is never empty")]
impl MessageParts<'_> {
    /// The head: up to and including storeTimestamp, with zeros where [`fill_head`] writes.
    pub fn head(&self) -> &[u8] {
        &self.head[..self.head_bytes]
    }

    /// What follows the head, in order.
    pub fn rest(&self) -> [&[u8]; 6] {
        [
            &self.middle[..self.middle_bytes],
            self.body,
            &self.topic[..self.topic_bytes],
            self.properties,
            self.separator,
            self.added_properties,
        ]
    }

    /// The body, as it was sent.
    pub fn body(&self) -> &[u8] {
        self.body
    }

    /// Checksum of the body, as it is stored.
    pub fn body_crc(&self) -> u32 {
        let crc = self.head[BODY_CRC_AT..].first_chunk().expect("the head is longer than its first fields");
        u32::from_be_bytes(*crc)
    }

    /// Bytes of the whole.
    pub fn len(&self) -> usize {
        self.head_bytes + self.rest().iter().map(|piece| piece.len()).sum::<usize>()
    }

    /// The whole in one piece, finished.
    pub fn to_vec(&self, queue_offset: u64, physical_offset: u64, store_timestamp: u64) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.len());
        whole.extend_from_slice(self.head());
        fill_head(&mut whole, queue_offset, physical_offset, store_timestamp);
        for piece in self.rest() {
            whole.extend_from_slice(piece);
        }
        whole
    }
}

/// Gives a stored message another place: that in a queue which holds it as well.
///
/// # Panics
/// When `head` is shorter than [`PLACE_BYTES`].
pub fn renumber(head: &mut [u8], queue_id: u32, queue_offset: u64) {
    head[QUEUE_ID_AT..QUEUE_ID_AT + 4].copy_from_slice(&queue_id.to_be_bytes());
    head[QUEUE_OFFSET_AT..QUEUE_OFFSET_AT + 8].copy_from_slice(&queue_offset.to_be_bytes());
}

/// Fills in what only the append knows. `head` is exactly what [`MessageParts::head`] gave.
///
/// # Panics
/// When `head` is shorter than a head.
pub fn fill_head(head: &mut [u8], queue_offset: u64, physical_offset: u64, store_timestamp: u64) {
    let store_timestamp_at = head.len() - 8;
    head[QUEUE_OFFSET_AT..QUEUE_OFFSET_AT + 8].copy_from_slice(&queue_offset.to_be_bytes());
    head[PHYSICAL_OFFSET_AT..PHYSICAL_OFFSET_AT + 8].copy_from_slice(&physical_offset.to_be_bytes());
    head[store_timestamp_at..].copy_from_slice(&store_timestamp.to_be_bytes());
}

/// The address with IPv4 in its own form: C++ and Node.js read only 4 bytes.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

const _: () = {
    assert!(HEAD_BYTES == 56 + 8);
    assert!(HEAD_BYTES_V6 == HEAD_BYTES + 12);
    // Head, storeHost to body length, topic length, properties length.
    assert!(FIXED_BYTES == HEAD_BYTES + (8 + 4 + 8 + 4) + 1 + 2);
    // A record's limit follows from those of its parts.
    assert!(FIXED_BYTES + 24 + TOPIC_BYTES_MAX + PROPERTIES_BYTES_MAX <= OVERHEAD_BYTES_MAX);
};

struct Piece<const N: usize> {
    bytes: [u8; N],
    end: usize,
}

impl<const N: usize> Piece<N> {
    fn new() -> Self {
        Self { bytes: [0; N], end: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        self.bytes[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    fn put_host(&mut self, host: SocketAddr) {
        match host.ip() {
            IpAddr::V4(ip) => self.put(&ip.octets()),
            IpAddr::V6(ip) => self.put(&ip.octets()),
        }
        self.put(&u32::from(host.port()).to_be_bytes());
    }
}

pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], MessageError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(MessageError::Truncated { field })?;
        self.rest = rest;
        Ok(*array)
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, MessageError> {
        self.array(field).map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, MessageError> {
        self.array(field).map(i32::from_be_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, MessageError> {
        self.array(field).map(u32::from_be_bytes)
    }

    fn i64(&mut self, field: &'static str) -> Result<i64, MessageError> {
        self.array(field).map(i64::from_be_bytes)
    }

    fn unsigned(&mut self, field: &'static str) -> Result<u64, MessageError> {
        let found = self.i64(field)?;
        u64::try_from(found).map_err(|_| MessageError::OutOfRange { field, found })
    }

    pub(crate) fn bytes(&mut self, field: &'static str, length: i32) -> Result<&'a [u8], MessageError> {
        let length =
            usize::try_from(length).map_err(|_| MessageError::OutOfRange { field, found: length.into() })?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(MessageError::Truncated { field })?;
        self.rest = rest;
        Ok(bytes)
    }

    fn host(&mut self, field: &'static str, v6: bool) -> Result<SocketAddr, MessageError> {
        let ip =
            if v6 { IpAddr::from(self.array::<16>(field)?) } else { IpAddr::from(self.array::<4>(field)?) };
        let port = self.i32(field)?;
        let port = u16::try_from(port).map_err(|_| MessageError::OutOfRange { field, found: port.into() })?;
        Ok(SocketAddr::new(ip, port))
    }
}

#[cfg(test)]
mod tests;
