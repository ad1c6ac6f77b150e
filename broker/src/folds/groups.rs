//! What subscription groups there are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skylark_storage::Kind;

use super::fold::{Event, Fold, FoldError};
use super::kinds::{self, Change};
use super::payload::Payload;
use super::version::DataVersion;

/// What a subscription group is, besides its name. The default is what a group gets that is created by its first
/// heartbeat or pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupConfig {
    /// Whether its consumers may pull.
    pub consume: bool,
    /// Kept for the tools.
    pub consume_from_min: bool,
    /// Whether its consumers may be broadcasting ones.
    pub broadcast: bool,
    /// Whether it consumes in order; for clients that ask the broker for their settings.
    pub orderly: bool,
    /// Queues of its retry topic.
    pub retry_queues: u32,
    /// How often a message is tried again before it becomes a dead letter.
    pub retry_times_max: i32,
    /// How long to wait before each of these times.
    pub retry_policy: RetryPolicy,
    /// Which broker of a set to read from.
    pub broker_id: u64,
    /// Which broker of a set to read from when far behind.
    pub broker_id_when_slow: u64,
    /// Whether consumers are told when others join or leave.
    pub notify_members: bool,
    /// Bits for the tools.
    pub sys_flag: i32,
    /// Minutes after which a push consumer gives a message back.
    pub consume_timeout_minutes: i32,
    /// What the group is known to subscribe to; for the tools.
    pub subscriptions: Option<Vec<Subscription>>,
    /// Attributes by name, without the signs they are changed with.
    pub attributes: BTreeMap<String, String>,
}

/// How long to wait before a message is tried again. Both tables may be there, `kind` says which counts; an absent
/// one stands for RocketMQ's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Which table counts.
    pub kind: RetryPolicyKind,
    /// Delays that grow by a factor.
    pub exponential: Option<ExponentialRetry>,
    /// Delays one by one, in milliseconds.
    pub customized: Option<Vec<i64>>,
}

/// Which table of a [`RetryPolicy`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetryPolicyKind {
    /// Delays that grow by a factor.
    Exponential,
    /// Delays one by one.
    #[default]
    Customized,
}

/// Delays that grow by a factor, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExponentialRetry {
    /// Before the first time.
    pub initial: i64,
    /// At most.
    pub max: i64,
    /// The factor.
    pub multiplier: i64,
}

/// A topic that a group subscribes to, as the tools state it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// The language of `expression`.
    pub expression_type: String,
    /// Which messages.
    pub expression: String,
    /// Of the expression.
    pub version: i64,
}

impl Default for ExponentialRetry {
    /// RocketMQ's own.
    fn default() -> Self {
        Self { initial: 5_000, max: 7_200_000, multiplier: 2 }
    }
}

impl RetryPolicy {
    /// How long a message waits, in milliseconds, that was tried again so often before; nothing if the policy does not
    /// say, which leaves it to RocketMQ's default, the broker's delay levels.
    ///
    /// RocketMQ's arithmetic: of a list, what stands there for the first retry is the third one, since the list stands for
    /// the delay levels, and a first retry waits for the third of these.
    pub fn delay_ms(&self, reconsume_times: i32) -> Option<u64> {
        let times = u32::try_from(reconsume_times).unwrap_or(0);
        let delay_ms = match self.kind {
            RetryPolicyKind::Exponential => {
                let ExponentialRetry { initial, max, multiplier } = self.exponential?;
                let grown = multiplier.saturating_pow(times.min(DOUBLINGS_MAX)).saturating_mul(initial);
                max.min(grown)
            }
            RetryPolicyKind::Customized => {
                let next = self.customized.as_ref()?;
                let at = times as usize + BEFORE_THE_FIRST_RETRY;
                *next.get(at).or(next.last())?
            }
        };
        Some(u64::try_from(delay_ms).unwrap_or(0).min(RETRY_MS_MAX))
    }
}

/// No retry waits for longer than a year, as no delay level does, whatever was stored before policies counted.
const RETRY_MS_MAX: u64 = 366 * 86_400_000;

/// Beyond so many retries delays grow no further.
const DOUBLINGS_MAX: u32 = 32;
/// Entries of a list of delays that no retry waits for.
const BEFORE_THE_FIRST_RETRY: usize = 2;

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            consume: true,
            consume_from_min: true,
            broadcast: true,
            orderly: false,
            retry_queues: 1,
            retry_times_max: 16,
            retry_policy: RetryPolicy::default(),
            broker_id: 0,
            broker_id_when_slow: 1,
            notify_members: true,
            sys_flag: 0,
            consume_timeout_minutes: 15,
            subscriptions: None,
            attributes: BTreeMap::new(),
        }
    }
}

/// A subscription group was created or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPut {
    /// Its name.
    pub group: String,
    /// What it is from now on.
    pub config: GroupConfig,
}

/// A subscription group was deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDeleted {
    /// Its name.
    pub group: String,
    /// Whether its offsets go too, or wait for a group of the same name.
    pub with_offsets: bool,
}

impl Payload for GroupPut {
    const KIND: Kind = kinds::GROUP_PUT;
    const VERSION: u8 = 1;
}

impl Payload for GroupDeleted {
    const KIND: Kind = kinds::GROUP_DELETED;
    const VERSION: u8 = 1;
}

/// The subscription groups, by name.
///
/// Memory: name, attributes, subscriptions and about 250 bytes for each group that exists; nothing for deleted ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    groups: BTreeMap<String, GroupConfig>,
    version: DataVersion,
}

impl Groups {
    /// What this group is, if it exists.
    pub fn get(&self, group: &str) -> Option<&GroupConfig> {
        self.groups.get(group)
    }

    /// All groups, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &GroupConfig)> {
        self.groups.iter().map(|(group, config)| (group.as_str(), config))
    }

    /// How often groups have changed. Putting what is there already, or deleting what is not, is no change.
    pub fn version(&self) -> DataVersion {
        self.version
    }
}

impl Fold for Groups {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        let changed = match &event.change {
            Change::GroupPut(GroupPut { group, config }) => {
                self.groups.insert(group.clone(), config.clone()).as_ref() != Some(config)
            }
            Change::GroupDeleted(GroupDeleted { group, .. }) => self.groups.remove(group).is_some(),
            _ => false,
        };
        if changed {
            self.version.bump(event.stored_at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
