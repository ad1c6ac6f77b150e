//! Which kinds of records a broker's log holds.
//!
//! | number | record             | payload                                                   | folded into              |
//! |-------:|--------------------|-----------------------------------------------------------|--------------------------|
//! |   0–15 | storage's own      |                                                           |                          |
//! |     16 | message            | RocketMQ's store encoding                                 | index, heads             |
//! |     17 | topic put          | [`TopicPut`]                                              | topics                   |
//! |     18 | topic deleted      | [`TopicDeleted`]                                          | topics, offsets          |
//! |     19 | group put          | [`GroupPut`]                                              | groups                   |
//! |     20 | group deleted      | [`GroupDeleted`]                                          | groups, offsets          |
//! |     21 | offsets committed  | [`OffsetsCommitted`]                                      | offsets                  |
//! |     22 | queue head set     | [`HeadSet`]                                               | index, heads             |
//! |     23 | timers fired       | [`TimersFired`]                                           | timers                   |
//! |     24 | timers carried     | [`TimersCarried`]                                         | timers                   |
//! |     25 | lock owners        | [`LocksChanged`]                                          | lock owners              |
//! |     26 | offsets reset      | [`OffsetsReset`]                                          | offsets                  |
//! |     27 | configuration      | [`KvChanged`]                                             | key–value configuration  |
//!
//! Numbers are never given twice. Every payload but a message's begins with a version byte; see [`payload`].
//!
//! [`payload`]: super::payload

use skylark_storage::Kind;

use super::groups::{GroupDeleted, GroupPut};
use super::heads::{HeadSet, MessagePlace};
use super::kv::KvChanged;
use super::locks::LocksChanged;
use super::offsets::{OffsetsCommitted, OffsetsReset};
use super::payload::{Payload, PayloadError};
use super::timers::{TimersCarried, TimersFired};
use super::topics::{TopicDeleted, TopicPut};

/// A message.
pub const MESSAGE: Kind = Kind::new(16);
/// A topic was created or changed.
pub const TOPIC_PUT: Kind = Kind::new(17);
/// A topic was deleted.
pub const TOPIC_DELETED: Kind = Kind::new(18);
/// A subscription group was created or changed.
pub const GROUP_PUT: Kind = Kind::new(19);
/// A subscription group was deleted.
pub const GROUP_DELETED: Kind = Kind::new(20);
/// Groups have consumed up to these offsets.
pub const OFFSETS_COMMITTED: Kind = Kind::new(21);
/// A queue goes on at a higher offset.
pub const HEAD_SET: Kind = Kind::new(22);
/// Delayed messages were delivered.
pub const TIMERS_FIRED: Kind = Kind::new(23);
/// Delayed messages were appended again before the log's beginning was trimmed.
pub const TIMERS_CARRIED: Kind = Kind::new(24);
/// Queues have been locked for a consumer, or released.
pub const LOCKS_CHANGED: Kind = Kind::new(25);
/// An operator moved a group in a topic.
pub const OFFSETS_RESET: Kind = Kind::new(26);
/// A tool has changed the configuration of the nameserver that the broker hosts.
pub const KV_CHANGED: Kind = Kind::new(27);

/// What tools call a kind; `None` for one that is not the broker's.
pub fn name(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        MESSAGE => "message",
        TOPIC_PUT => "topic-put",
        TOPIC_DELETED => "topic-deleted",
        GROUP_PUT => "group-put",
        GROUP_DELETED => "group-deleted",
        OFFSETS_COMMITTED => "offsets-committed",
        HEAD_SET => "queue-head-set",
        TIMERS_FIRED => "timers-fired",
        TIMERS_CARRIED => "timers-carried",
        LOCKS_CHANGED => "lock-owners",
        OFFSETS_RESET => "offsets-reset",
        KV_CHANGED => "configuration",
        _ => return None,
    })
}

/// What a record says to the folds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A message took its place in a queue. Who folds the log parses messages anyway, and hands this on.
    Message(MessagePlace<'a>),
    /// See [`TOPIC_PUT`].
    TopicPut(TopicPut),
    /// See [`TOPIC_DELETED`].
    TopicDeleted(TopicDeleted),
    /// See [`GROUP_PUT`].
    GroupPut(GroupPut),
    /// See [`GROUP_DELETED`].
    GroupDeleted(GroupDeleted),
    /// See [`OFFSETS_COMMITTED`].
    OffsetsCommitted(OffsetsCommitted),
    /// See [`HEAD_SET`].
    HeadSet(HeadSet),
    /// See [`TIMERS_FIRED`].
    TimersFired(TimersFired),
    /// See [`TIMERS_CARRIED`].
    TimersCarried(TimersCarried),
    /// See [`LOCKS_CHANGED`].
    LocksChanged(LocksChanged),
    /// See [`OFFSETS_RESET`].
    OffsetsReset(OffsetsReset),
    /// See [`KV_CHANGED`].
    KvChanged(KvChanged),
}

impl Change<'static> {
    /// Reads a control record.
    ///
    /// # Errors
    /// When the kind is not one of a control record, the payload's version is not known, or its bytes are not sound.
    pub fn decode(kind: Kind, payload: &[u8]) -> Result<Self, PayloadError> {
        Ok(match kind {
            TOPIC_PUT => Self::TopicPut(Payload::decode(payload)?),
            TOPIC_DELETED => Self::TopicDeleted(Payload::decode(payload)?),
            GROUP_PUT => Self::GroupPut(Payload::decode(payload)?),
            GROUP_DELETED => Self::GroupDeleted(Payload::decode(payload)?),
            OFFSETS_COMMITTED => Self::OffsetsCommitted(Payload::decode(payload)?),
            HEAD_SET => Self::HeadSet(Payload::decode(payload)?),
            TIMERS_FIRED => Self::TimersFired(Payload::decode(payload)?),
            TIMERS_CARRIED => Self::TimersCarried(Payload::decode(payload)?),
            LOCKS_CHANGED => Self::LocksChanged(Payload::decode(payload)?),
            OFFSETS_RESET => Self::OffsetsReset(Payload::decode(payload)?),
            KV_CHANGED => Self::KvChanged(Payload::decode(payload)?),
            _ => return Err(PayloadError::UnknownKind { kind: kind.get() }),
        })
    }
}
