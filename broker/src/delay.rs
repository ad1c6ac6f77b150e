//! Delay levels: how long a message of each level waits, and what is made of it meanwhile.
//!
//! A delayed message lies in [`system::SCHEDULE_TOPIC`], in the queue of its level, and says in its properties where
//! it belongs and when it is due. The due time is fixed here, once, from the clock: what the levels mean later, or in
//! another broker's configuration, changes nothing about a message that waits.

use std::fmt;
use std::str::FromStr;

use skylark_index::QueueId;
use skylark_protocol::code::ResponseCode;
use skylark_protocol::message::properties::{self, Properties};

use crate::broker::Broker;
use crate::context::Refusal;
use crate::system;

/// RocketMQ's own levels.
pub const LEVELS_DEFAULT: &str = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";

/// Levels, at most: each is a queue.
const LEVELS_MAX: usize = 256;
/// The longest delay.
const DELAY_MS_MAX: u64 = 366 * 24 * 3600 * 1000;

/// How long messages of each level wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayLevels {
    /// In milliseconds, level 1 first; never empty.
    delays_ms: Vec<u64>,
}

/// Why a text names no levels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LevelsError {
    /// There is none.
    #[error("names no level; RocketMQ's are `{LEVELS_DEFAULT}`")]
    Empty,
    /// There are more than 256.
    #[error("names {found} levels, there may be {LEVELS_MAX}")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// Not a number and a unit, or not between a second and a year.
    #[error("`{found}` is no delay: a number and s, m, h or d, such as 10s, up to 366d")]
    Delay {
        /// What stands there.
        found: String,
    },
}

impl FromStr for DelayLevels {
    type Err = LevelsError;

    fn from_str(text: &str) -> Result<Self, LevelsError> {
        let delays_ms: Vec<u64> = text.split_whitespace().map(delay_ms).collect::<Result<_, _>>()?;
        match delays_ms.len() {
            0 => Err(LevelsError::Empty),
            found if found > LEVELS_MAX => Err(LevelsError::TooMany { found }),
            _ => Ok(Self { delays_ms }),
        }
    }
}

fn delay_ms(text: &str) -> Result<u64, LevelsError> {
    let unit_ms = |unit| match unit {
        's' => Some(1000),
        'm' => Some(60_000),
        'h' => Some(3_600_000),
        'd' => Some(86_400_000),
        _ => None,
    };
    let parsed = text.char_indices().last().and_then(|(at, unit)| {
        let count: u64 = text[..at].parse().ok()?;
        count.checked_mul(unit_ms(unit)?).filter(|delay| (1..=DELAY_MS_MAX).contains(delay))
    });
    parsed.ok_or_else(|| LevelsError::Delay { found: text.to_owned() })
}

impl Default for DelayLevels {
    fn default() -> Self {
        LEVELS_DEFAULT.parse().expect("RocketMQ's levels are levels")
    }
}

impl fmt::Display for DelayLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, delay_ms) in self.delays_ms.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            let units = [(86_400_000, 'd'), (3_600_000, 'h'), (60_000, 'm'), (1000, 's')];
            let (unit_ms, unit) =
                units.into_iter().find(|(unit_ms, _)| delay_ms % unit_ms == 0).unwrap_or((1000, 's'));
            write!(f, "{separator}{}{unit}", delay_ms / unit_ms)?;
        }
        Ok(())
    }
}

impl DelayLevels {
    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::try_from(self.delays_ms.len()).expect("there are few levels")
    }

    /// The level that a message asking for `level` gets, and how long it waits; none below 1.
    fn get(&self, level: i32) -> Option<(u32, u64)> {
        let level = u32::try_from(level).ok().filter(|level| *level > 0)?.min(self.count());
        Some((level, self.delays_ms[level as usize - 1]))
    }
}

/// Where a delayed message waits, and with which properties.
pub struct Delayed {
    /// The queue of its level.
    pub queue: QueueId,
    /// That queue's number.
    pub queue_id: u32,
    /// Its properties, with what delivery needs.
    pub properties: Vec<u8>,
}

/// What becomes of a message for queue `queue_id` of `topic` that is to wait as `level` says: nothing if that is below
/// 1. A level above the highest counts as the highest.
///
/// # Errors
/// When there is no queue to wait in.
pub fn delay(
    broker: &Broker,
    topic: &str,
    queue_id: u32,
    level: i32,
    properties: &[u8],
) -> Result<Option<Delayed>, Refusal> {
    let Some((level, delay_ms)) = broker.policy.delay_levels.get(level) else { return Ok(None) };
    let queue_of_level = level - 1;
    let catalog = broker.catalog.read();
    let queue = catalog.queues(system::SCHEDULE_TOPIC).and_then(|queues| queues.get(queue_of_level as usize));
    let queue = queue.copied().ok_or_else(|| {
        Refusal::new(ResponseCode::SYSTEM_ERROR, "the queues of delayed messages are not made yet; try again")
    })?;
    drop(catalog);
    // The clock shows whole milliseconds: only a millisecond more is as long as was asked for.
    let due_ms = broker.clock.wall_ms().saturating_add(delay_ms).saturating_add(1);
    let (level, queue_text, due) = (level.to_string(), queue_id.to_string(), due_ms.to_string());
    let put = [
        (properties::DELAY, &*level),
        (properties::REAL_TOPIC, topic),
        (properties::REAL_QID, &*queue_text),
        (properties::TIMER_OUT_MS, &*due),
    ];
    let properties = properties::rewrite(properties, &[], &put);
    Ok(Some(Delayed { queue, queue_id: queue_of_level, properties }))
}

/// When a message of the topic of delayed messages is due, in milliseconds since 1970.
pub fn due_ms(properties: Properties<'_>) -> Option<u64> {
    properties.get(properties::TIMER_OUT_MS)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_written_as_rocketmq_writes_them() {
        let levels: DelayLevels = " 1s 90s  2h 1d ".parse().unwrap();
        assert_eq!(levels.delays_ms, [1000, 90_000, 7_200_000, 86_400_000]);
        assert_eq!(levels.to_string(), "1s 90s 2h 1d");
        assert_eq!(DelayLevels::default().to_string(), LEVELS_DEFAULT);
        assert_eq!(DelayLevels::default().count(), 18);
    }

    #[test]
    fn what_is_no_level_is_named() {
        let error = |text: &str| text.parse::<DelayLevels>().unwrap_err();
        assert_eq!(error(" "), LevelsError::Empty);
        assert_eq!(error(&"1s ".repeat(257)), LevelsError::TooMany { found: 257 });
        for found in ["1", "s", "0s", "-1s", "1w", "1.5h", "367d", "99999999999999999999d", "1é"] {
            assert_eq!(error(&format!("1s {found}")), LevelsError::Delay { found: found.to_owned() });
        }
    }

    #[test]
    fn a_level_above_the_highest_is_the_highest() {
        let levels: DelayLevels = "1s 5s".parse().unwrap();
        assert_eq!(
            [-1, 0, 1, 2, 3, i32::MAX].map(|level| levels.get(level)),
            [None, None, Some((1, 1000)), Some((2, 5000)), Some((2, 5000)), Some((2, 5000))]
        );
    }
}
