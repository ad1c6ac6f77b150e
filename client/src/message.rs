//! Messages as applications write and read them.

use std::io::Read;
use std::net::SocketAddr;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use skylark_protocol::message::{
    MessageError, OffsetMessageId, Properties, StoredMessage, properties, sys_flag,
};

use crate::route::Queue;

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The topic, which the broker creates if it may.
    pub topic: String,
    /// The body, 1 byte to 4 MiB.
    pub body: Bytes,
    /// The application's flag, which no broker looks at.
    pub flag: i32,
    properties: Vec<(String, String)>,
}

impl Message {
    /// A message without properties.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), body: body.into(), flag: 0, properties: Vec::new() }
    }

    /// Gives it a tag, by which consumers select.
    #[must_use]
    pub fn tag(self, tag: &str) -> Self {
        self.property(properties::TAGS, tag)
    }

    /// Gives it keys, separated by spaces, by which it can be looked up.
    #[must_use]
    pub fn keys(self, keys: &str) -> Self {
        self.property(properties::KEYS, keys)
    }

    /// Gives it a property, in place of one of the same name.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.retain(|(known, _)| known != name);
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its properties as they are sent, with a unique key if it has none. Returns the key too.
    pub(crate) fn encode_properties(
        &self,
        unique_key: &str,
    ) -> Result<(Vec<u8>, String), UnwritableProperty> {
        let mut bytes = Vec::with_capacity(128);
        let mut key = None;
        for (name, value) in &self.properties {
            if name.is_empty() || !properties::is_writable(name) || !properties::is_writable(value) {
                return Err(UnwritableProperty { name: name.clone() });
            }
            properties::write(name, value, &mut bytes);
            if name == properties::UNIQ_KEY {
                key = Some(value.clone());
            }
        }
        let key = key.unwrap_or_else(|| {
            properties::write(properties::UNIQ_KEY, unique_key, &mut bytes);
            unique_key.to_owned()
        });
        Ok((bytes, key))
    }
}

/// A property whose name or value the encoding cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("property {name:?} has no name, or holds the control characters 1 or 2, which separate properties")]
pub struct UnwritableProperty {
    /// Its name.
    pub name: String,
}

/// The body compressed, with the bits that say so, if that makes it smaller.
pub(crate) fn compress(body: &[u8]) -> Option<(Bytes, i32)> {
    let mut compressed = Vec::with_capacity(body.len() / 2);
    let mut encoder = ZlibEncoder::new(body, Compression::new(ZLIB_LEVEL));
    encoder.read_to_end(&mut compressed).ok()?;
    let flags = sys_flag::COMPRESSED | ZLIB;
    (compressed.len() < body.len()).then(|| (Bytes::from(compressed), flags))
}

/// Java's level.
const ZLIB_LEVEL: u32 = 5;
/// The algorithm's number in [`sys_flag::COMPRESSION`]; older clients leave it 0.
const ZLIB: i32 = 0x300;
/// A body larger than any a broker takes was not made by a client.
const INFLATED_BYTES_MAX: u64 = 64 << 20;

/// A message from a broker.
#[derive(Clone, Debug)]
pub struct Received {
    /// Where it was. A retried message's queue is the retry topic's.
    pub queue: Queue,
    /// Its ordinal in that queue.
    pub queue_offset: u64,
    /// Where the broker has it.
    pub physical_offset: u64,
    /// The topic it was sent to.
    pub topic: String,
    /// The body as it was sent.
    pub body: Bytes,
    /// The application's flag.
    pub flag: i32,
    /// Milliseconds of the producer's clock when it was sent.
    pub born_timestamp: i64,
    /// Who sent it, as the broker saw it.
    pub born_host: SocketAddr,
    /// Milliseconds of the broker's clock when it was stored.
    pub store_timestamp: u64,
    /// How often it was consumed in vain.
    pub reconsume_times: i32,
    /// The id that tells the broker where to find it.
    pub offset_message_id: OffsetMessageId,
    properties: Bytes,
}

impl Received {
    /// Reads one message of a pull's answer, sharing its memory.
    pub(crate) fn new(
        stored: &StoredMessage<'_>,
        body: &Bytes,
        queue: &Queue,
    ) -> Result<Self, UnreadableMessage> {
        if !stored.body_is_intact() {
            return Err(UnreadableMessage::Checksum { queue_offset: stored.queue_offset });
        }
        let topic = stored.properties().get(properties::RETRY_TOPIC).unwrap_or(stored.topic);
        Ok(Self {
            queue: queue.clone(),
            queue_offset: stored.queue_offset,
            physical_offset: stored.physical_offset,
            topic: topic.to_owned(),
            body: inflate(stored, body)?,
            flag: stored.flag,
            born_timestamp: stored.born_timestamp,
            born_host: stored.born_host,
            store_timestamp: stored.store_timestamp,
            reconsume_times: stored.reconsume_times,
            offset_message_id: stored.offset_message_id(),
            properties: body.slice_ref(stored.properties),
        })
    }

    /// A property's value.
    pub fn property(&self, name: &str) -> Option<&str> {
        Properties::new(&self.properties).get(name)
    }

    /// All properties, in the order they were written.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        Properties::new(&self.properties).iter()
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.property(properties::TAGS)
    }

    /// The keys, separated by spaces.
    pub fn keys(&self) -> Option<&str> {
        self.property(properties::KEYS)
    }

    /// The key that the sender gave it and nobody else.
    pub fn unique_key(&self) -> Option<&str> {
        self.property(properties::UNIQ_KEY)
    }
}

/// Why a message cannot be given to the application.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnreadableMessage {
    /// The broker's bytes are no message.
    #[error(transparent)]
    Malformed(#[from] MessageError),
    /// The body is not what was stored.
    #[error("the body at queue offset {queue_offset} does not match its checksum")]
    Checksum {
        /// Which message.
        queue_offset: u64,
    },
    /// The body does not decompress, or not with what this client knows.
    #[error("the body at queue offset {queue_offset} is compressed in a way this client cannot read")]
    Compression {
        /// Which message.
        queue_offset: u64,
    },
}

fn inflate(stored: &StoredMessage<'_>, body: &Bytes) -> Result<Bytes, UnreadableMessage> {
    if stored.sys_flag & sys_flag::COMPRESSED == 0 {
        return Ok(body.slice_ref(stored.body));
    }
    let unreadable = UnreadableMessage::Compression { queue_offset: stored.queue_offset };
    if !matches!(stored.sys_flag & sys_flag::COMPRESSION, 0 | ZLIB) {
        return Err(unreadable);
    }
    let mut inflated = Vec::with_capacity(stored.body.len() * 4);
    match ZlibDecoder::new(stored.body).take(INFLATED_BYTES_MAX).read_to_end(&mut inflated) {
        Ok(_) => Ok(Bytes::from(inflated)),
        Err(_not_zlib) => Err(unreadable),
    }
}
