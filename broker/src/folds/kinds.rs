//! Which kinds of records a broker's log holds.
//!
//! | number | record             | payload                                                   | folded into              |
//! |-------:|--------------------|-----------------------------------------------------------|--------------------------|
//! |   0–15 | storage's own      |                                                           |                          |
//! |     16 | message            | RocketMQ's store encoding                                 | index, heads, timers     |
//! |     17 | topic put          | [`TopicPut`]                                              | topics                   |
//! |     18 | topic deleted      | [`TopicDeleted`]                                          | topics, offsets, POP     |
//! |     19 | group put          | [`GroupPut`]                                              | groups                   |
//! |     20 | group deleted      | [`GroupDeleted`]                                          | groups, offsets, POP     |
//! |     21 | offsets committed  | [`OffsetsCommitted`]                                      | offsets                  |
//! |     22 | queue head set     | [`HeadSet`]                                               | index, heads             |
//! |     23 | timers fired       | [`TimersFired`]                                           | timers                   |
//! |     24 | timers carried     | [`TimersCarried`]                                         | timers                   |
//! |     25 | lock owners        | [`LocksChanged`]                                          | lock owners              |
//! |     26 | offsets reset      | [`OffsetsReset`]                                          | offsets, POP state       |
//! |     27 | configuration      | [`KvChanged`]                                             | key–value configuration  |
//! |     28 | transactions ended | [`HalvesEnded`]                                           | halves, duplicate window |
//! |     29 | halves carried     | [`HalvesCarried`]                                         | halves                   |
//! |     30 | halves checked     | [`HalvesChecked`]                                         | halves                   |
//! |     31 | timers recalled    | [`TimersRecalled`]                                        | timers                   |
//! |     34 | messages popped    | [`MessagesPopped`]                                        | POP state                |
//! |     35 | pops settled       | [`PopsSettled`]                                           | POP state                |
//! |     36 | request mode set   | [`RequestModeSet`]                                        | request modes            |
//! |     37 | offsets moved      | [`OffsetsMoved`]                                          | audit trail              |
//! |     38 | letters settled    | [`DeadLettersSettled`]                                    | dead letters, trail      |
//! |     40 | unique message     | as 16; the same is not stored again                       | as 16, duplicate window  |
//! |     41 | window limits      | [`WindowLimits`]                                          | duplicate window         |
//! |     44 | light message      | as 16; in light queues as well                            | as 16                    |
//! |     45 | both               | as 40 and 44                                              | as 40 and 44             |
//!
//! Numbers are never given twice. Every payload but those of messages begins with a version byte; see [`payload`].
//!
//! [`payload`]: super::payload

use skylark_storage::Kind;

use super::audit::OffsetsMoved;
use super::dead_letters::DeadLettersSettled;
use super::duplicates::{SentPlace, WindowLimits};
use super::groups::{GroupDeleted, GroupPut};
use super::halves::{HalfPlace, HalvesCarried, HalvesChecked, HalvesEnded};
use super::heads::{HeadSet, MessagePlace};
use super::kv::KvChanged;
use super::locks::LocksChanged;
use super::offsets::{OffsetsCommitted, OffsetsReset};
use super::payload::{Payload, PayloadError};
use super::pops::{MessagesPopped, PopsSettled};
use super::request_modes::RequestModeSet;
use super::timers::{Pending, TimersCarried, TimersFired, TimersRecalled};
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
/// Transactions were committed, rolled back or given up.
pub const HALVES_ENDED: Kind = Kind::new(28);
/// Half messages were appended again before the log's beginning was trimmed.
pub const HALVES_CARRIED: Kind = Kind::new(29);
/// Producers are asked how transactions ended.
pub const HALVES_CHECKED: Kind = Kind::new(30);
/// Delayed messages were recalled.
pub const TIMERS_RECALLED: Kind = Kind::new(31);
/// A group popped messages.
pub const MESSAGES_POPPED: Kind = Kind::new(34);
/// Popped messages were acknowledged, given up, or are to stay invisible for longer.
pub const POPS_SETTLED: Kind = Kind::new(35);
/// A tool has said by which requests a group gets a topic's messages.
pub const REQUEST_MODE_SET: Kind = Kind::new(36);
/// An operator has moved groups: says who.
pub const OFFSETS_MOVED: Kind = Kind::new(37);
/// An operator has sent dead letters again, or given them up.
pub const DEAD_LETTERS_SETTLED: Kind = Kind::new(38);

/// A message of which its producer's repetitions are not stored. But for that it is a message like others.
pub const UNIQUE_MESSAGE: Kind = Kind::new(40);
/// The window of what is known to be a repetition holds so much.
pub const WINDOW_LIMITS: Kind = Kind::new(41);

/// A message that lies in light queues as well: its properties say in which, and where.
pub const LIGHT_MESSAGE: Kind = Kind::new(44);
/// One of which its producer's repetitions are not stored either.
pub const UNIQUE_LIGHT_MESSAGE: Kind = Kind::new(45);

/// Whether records of this kind hold messages.
pub fn is_message(kind: Kind) -> bool {
    kind == MESSAGE || is_unique(kind) || is_light(kind)
}

/// Whether records of this kind hold messages of which repetitions are not stored.
pub fn is_unique(kind: Kind) -> bool {
    matches!(kind, UNIQUE_MESSAGE | UNIQUE_LIGHT_MESSAGE)
}

/// Whether records of this kind hold messages that lie in light queues as well.
pub fn is_light(kind: Kind) -> bool {
    matches!(kind, LIGHT_MESSAGE | UNIQUE_LIGHT_MESSAGE)
}

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
        HALVES_ENDED => "transactions-ended",
        HALVES_CARRIED => "halves-carried",
        HALVES_CHECKED => "halves-checked",
        TIMERS_RECALLED => "timers-recalled",
        MESSAGES_POPPED => "messages-popped",
        POPS_SETTLED => "pops-settled",
        REQUEST_MODE_SET => "request-mode-set",
        OFFSETS_MOVED => "offsets-moved",
        DEAD_LETTERS_SETTLED => "dead-letters-settled",
        UNIQUE_MESSAGE => "unique-message",
        WINDOW_LIMITS => "window-limits",
        LIGHT_MESSAGE => "light-message",
        UNIQUE_LIGHT_MESSAGE => "unique-light-message",
        _ => return None,
    })
}

/// What a record says to the folds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A message took its place in a queue. Who folds the log parses messages anyway, and hands this on.
    Message(MessagePlace<'a>),
    /// The same message is a half one: its transaction is open.
    Half(HalfPlace<'a>),
    /// Messages took their places that wait for their time: all of those between two other records, or of a group.
    Waiting(Pending),
    /// The same message must not be stored again.
    Sent(SentPlace),
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
    /// See [`HALVES_ENDED`].
    HalvesEnded(HalvesEnded),
    /// Those of the transactions of [`HALVES_ENDED`] of which consumers get nothing, by where their half messages lay
    /// first. Comes before that.
    Withdrawn(Vec<u64>),
    /// See [`HALVES_CARRIED`].
    HalvesCarried(HalvesCarried),
    /// See [`HALVES_CHECKED`].
    HalvesChecked(HalvesChecked),
    /// See [`TIMERS_RECALLED`].
    TimersRecalled(TimersRecalled),
    /// See [`MESSAGES_POPPED`].
    MessagesPopped(MessagesPopped),
    /// See [`POPS_SETTLED`].
    PopsSettled(PopsSettled),
    /// See [`REQUEST_MODE_SET`].
    RequestModeSet(RequestModeSet),
    /// See [`OFFSETS_MOVED`].
    OffsetsMoved(OffsetsMoved),
    /// See [`DEAD_LETTERS_SETTLED`].
    DeadLettersSettled(DeadLettersSettled),
    /// See [`WINDOW_LIMITS`].
    WindowLimits(WindowLimits),
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
            HALVES_ENDED => Self::HalvesEnded(Payload::decode(payload)?),
            HALVES_CARRIED => Self::HalvesCarried(Payload::decode(payload)?),
            HALVES_CHECKED => Self::HalvesChecked(Payload::decode(payload)?),
            TIMERS_RECALLED => Self::TimersRecalled(Payload::decode(payload)?),
            MESSAGES_POPPED => Self::MessagesPopped(Payload::decode(payload)?),
            POPS_SETTLED => Self::PopsSettled(Payload::decode(payload)?),
            REQUEST_MODE_SET => Self::RequestModeSet(Payload::decode(payload)?),
            OFFSETS_MOVED => Self::OffsetsMoved(Payload::decode(payload)?),
            DEAD_LETTERS_SETTLED => Self::DeadLettersSettled(Payload::decode(payload)?),
            WINDOW_LIMITS => Self::WindowLimits(Payload::decode(payload)?),
            _ => return Err(PayloadError::UnknownKind { kind: kind.get() }),
        })
    }
}
