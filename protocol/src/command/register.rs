//! What brokers tell nameservers.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::topics::TopicConfig;
use crate::header::FieldError;
use crate::json::{self, lenient};

header_fields! {
    /// A broker is there: code 103, with a [`RegisterBrokerBody`].
    RegisterBroker<'a> {
        /// Its name.
        broker_name: &'a str = "brokerName",
        /// Where clients reach it.
        broker_addr: &'a str = "brokerAddr",
        /// Its cluster.
        cluster_name: &'a str = "clusterName",
        /// Where followers reach it.
        ha_server_addr: &'a str = "haServerAddr",
        /// 0 for a leader.
        broker_id: i64 = "brokerId",
        /// After how long without a sign it is taken for gone.
        heartbeat_timeout_ms: Option<i64> = "heartbeatTimeoutMillis",
        /// Whether a follower may stand in for the leader; brokers before 5.0 do not say.
        enable_acting_master: Option<bool> = "enableActingMaster",
        /// Whether the body is compressed.
        compressed: bool = "compressed",
        /// [`body_crc`](crate::message::body_crc) of the body as sent; 0 is not checked.
        body_crc32: Option<i32> = "bodyCrc32",
        /// Its zone.
        zone_name: Option<&'a str> = "__ZONE_NAME",
    }
}

header_fields! {
    /// What answers a registration; to a follower where its leader is. The body is the
    /// [`KvTable`](super::kv::KvTable) of ordered topics.
    RegisterBrokerResponse<'a> {
        /// Where followers reach the leader.
        ha_server_addr: Option<&'a str> = "haServerAddr",
        /// Where clients reach the leader.
        master_addr: Option<&'a str> = "masterAddr",
    }
}

header_fields! {
    /// A broker goes, code 104; or asks what is known of its topics, code 322 with its [`DataVersion`] as the
    /// body.
    BrokerIdentity<'a> {
        /// Its name.
        broker_name: &'a str = "brokerName",
        /// Where clients reach it.
        broker_addr: &'a str = "brokerAddr",
        /// Its cluster.
        cluster_name: &'a str = "clusterName",
        /// 0 for a leader.
        broker_id: i64 = "brokerId",
    }
}

header_fields! {
    /// What answers code 322; the body is the [`DataVersion`] known, if any.
    QueryDataVersionResponse {
        /// Whether the broker has other topics than known.
        changed: bool = "changed",
    }
}

header_fields! {
    /// A broker is still there: code 904.
    BrokerHeartbeat<'a> {
        /// Its name.
        broker_name: &'a str = "brokerName",
        /// Where clients reach it.
        broker_addr: &'a str = "brokerAddr",
        /// Its cluster.
        cluster_name: &'a str = "clusterName",
    }
}

/// Version of a broker's topics. Ordered by state version, counter, time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DataVersion {
    /// Grows with each change.
    #[serde(deserialize_with = "lenient::integer")]
    pub counter: i64,
    /// Grows with each change of leader.
    #[serde(deserialize_with = "lenient::integer")]
    pub state_version: i64,
    /// When it was changed.
    #[serde(deserialize_with = "lenient::integer")]
    pub timestamp: i64,
}

impl DataVersion {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(body: &[u8]) -> Result<Self, FieldError> {
        json::read(body).map_err(|error| FieldError::body("data version", error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }
}

impl Ord for DataVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |version: &Self| (version.state_version, version.counter, version.timestamp);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for DataVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A broker's topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfigTable {
    /// Their version.
    #[serde(deserialize_with = "lenient::or_default")]
    pub data_version: DataVersion,
    /// Version of the static topics, of which there are none here.
    #[serde(deserialize_with = "lenient::or_default")]
    pub mapping_data_version: DataVersion,
    /// Topics by name.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic_config_table: BTreeMap<String, TopicConfig>,
    /// Static topics; passed through.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic_queue_mapping_detail_map: BTreeMap<String, Value>,
    /// Static topics; passed through.
    #[serde(deserialize_with = "lenient::or_default")]
    pub topic_queue_mapping_info_map: BTreeMap<String, Value>,
}

/// The body of a registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RegisterBrokerBody {
    /// Of the obsolete filter servers.
    #[serde(deserialize_with = "lenient::or_default")]
    pub filter_server_list: Vec<String>,
    /// The broker's topics: all, or one that has changed.
    #[serde(rename = "topicConfigSerializeWrapper", deserialize_with = "lenient::or_default")]
    pub topics: TopicConfigTable,
}

impl RegisterBrokerBody {
    /// More than this many bytes are not inflated.
    pub const INFLATED_BYTES_MAX: u64 = 64 * 1024 * 1024;

    /// First version that sends this body; older ones send the topics alone.
    const VERSION_3_0_11: i32 = 37;
    /// First version whose compressed body ends in static topics.
    const VERSION_5_0_0: i32 = 413;

    /// Reads the body that a broker of this version sent. An empty one has no topics.
    ///
    /// # Errors
    /// When it is none, or inflates to more than [`RegisterBrokerBody::INFLATED_BYTES_MAX`].
    pub fn decode(body: &[u8], compressed: bool, version: i32) -> Result<Self, FieldError> {
        const WHAT: &str = "registration";
        if body.is_empty() {
            return Ok(Self::default());
        }
        // Apache's brokers 5.3 with `compressedRegister=true` compress and say that they did not.
        let compressed = compressed || body[0] == ZLIB_HEAD;
        let decoded = if version < Self::VERSION_3_0_11 {
            json::read(body).map(|topics| Self { topics, ..Self::default() })
        } else if compressed {
            return Self::inflate(body, version).map_err(|reason| FieldError::body(WHAT, reason));
        } else {
            json::read(body)
        };
        decoded.map_err(|error| FieldError::body(WHAT, error))
    }

    /// Writes the body.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }

    /// Writes the body compressed.
    pub fn encode_compressed(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        put_long(&json::to_vec(&self.topics.data_version), &mut plain);
        let count = u32::try_from(self.topics.topic_config_table.len()).expect("a broker has fewer topics");
        plain.extend_from_slice(&count.to_be_bytes());
        for config in self.topics.topic_config_table.values() {
            let TopicConfig {
                topic_name, read_queue_nums, write_queue_nums, perm, topic_filter_type, ..
            } = config;
            let attributes = String::from_utf8(json::to_vec(&config.attributes)).expect("JSON is UTF-8");
            let line = format!(
                "{topic_name} {read_queue_nums} {write_queue_nums} {perm} {topic_filter_type} {attributes}"
            );
            put_long(line.as_bytes(), &mut plain);
        }
        put_long(&json::to_vec(&self.filter_server_list), &mut plain);
        let mappings = self.topics.topic_queue_mapping_info_map.values();
        let count = u32::try_from(mappings.len()).expect("a broker has fewer topics");
        plain.extend_from_slice(&count.to_be_bytes());
        mappings.for_each(|mapping| put_long(&json::to_vec(mapping), &mut plain));
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        let written = encoder.write_all(&plain);
        written.and_then(|()| encoder.finish()).expect("writing to memory does not fail")
    }

    fn inflate(body: &[u8], version: i32) -> Result<Self, String> {
        let mut plain = Vec::new();
        let mut decoder = ZlibDecoder::new(body).take(Self::INFLATED_BYTES_MAX + 1);
        decoder.read_to_end(&mut plain).map_err(|error| error.to_string())?;
        if plain.len() as u64 > Self::INFLATED_BYTES_MAX {
            return Err(format!("it inflates to more than {} bytes", Self::INFLATED_BYTES_MAX));
        }
        let mut reader = Inflated { rest: &plain };
        let data_version = read_json(reader.long()?)?;
        let mut topic_config_table = BTreeMap::new();
        for _ in 0..reader.count()? {
            let config = read_topic(reader.long()?)?;
            topic_config_table.insert(config.topic_name.clone(), config);
        }
        let filter_server_list = read_json(reader.long()?)?;
        let mut topic_queue_mapping_info_map = BTreeMap::new();
        if version >= Self::VERSION_5_0_0 {
            for _ in 0..reader.count()? {
                let mapping: Value = read_json(reader.long()?)?;
                let topic = mapping.get("topic").and_then(Value::as_str).unwrap_or_default().to_owned();
                topic_queue_mapping_info_map.insert(topic, mapping);
            }
        }
        let topics = TopicConfigTable {
            data_version,
            topic_config_table,
            topic_queue_mapping_info_map,
            ..Default::default()
        };
        Ok(Self { filter_server_list, topics })
    }
}

/// How a zlib stream begins with the window that everybody uses, and JSON cannot.
const ZLIB_HEAD: u8 = 0x78;

fn put_long(bytes: &[u8], into: &mut Vec<u8>) {
    let length = u32::try_from(bytes.len()).expect("parts of a body are below 4 GiB");
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(bytes);
}

fn read_json<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    json::read(text).map_err(|error| error.to_string())
}

/// Reads `name readQueueNums writeQueueNums perm filterType attributesJson`.
fn read_topic(line: &[u8]) -> Result<TopicConfig, String> {
    let line = std::str::from_utf8(line).map_err(|_| "a topic is not UTF-8")?;
    let mut parts = line.splitn(6, ' ');
    let mut part = || parts.next().ok_or_else(|| format!("a topic has fewer than five parts: {line}"));
    let number = |text: &str| text.parse().map_err(|_| format!("a topic has {text:?} for a number: {line}"));
    let topic_name = part()?.to_owned();
    let read_queue_nums = number(part()?)?;
    let write_queue_nums = number(part()?)?;
    let perm = number(part()?)?;
    let topic_filter_type = part()?.to_owned();
    // Missing before 5.0, and Java passes over what it cannot read.
    let attributes =
        parts.next().and_then(|attributes| json::read(attributes.as_bytes()).ok()).unwrap_or_default();
    Ok(TopicConfig {
        attributes,
        perm,
        read_queue_nums,
        topic_filter_type,
        topic_name,
        write_queue_nums,
        ..TopicConfig::default()
    })
}

struct Inflated<'a> {
    rest: &'a [u8],
}

impl<'a> Inflated<'a> {
    fn count(&mut self) -> Result<usize, String> {
        let (count, rest) = self.rest.split_first_chunk().ok_or("it ends early")?;
        self.rest = rest;
        usize::try_from(i32::from_be_bytes(*count)).map_err(|_| "it has a negative length".to_owned())
    }

    fn long(&mut self) -> Result<&'a [u8], String> {
        let length = self.count()?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or("it ends early")?;
        self.rest = rest;
        Ok(bytes)
    }
}
