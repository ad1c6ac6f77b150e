//! Delays: how long a message waits that asks for a level or a time, and what is made of it meanwhile.
//!
//! A message with a level lies in [`system::SCHEDULE_TOPIC`], in the queue of its level, one with a time in
//! [`system::TIMER_TOPIC`]. Its properties say where it belongs and when it is due. The due time is fixed here, once, from
//! the clock: what the levels mean later, or in another broker's configuration, changes nothing about a message that
//! waits.

use std::borrow::Cow;
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

/// What a message's properties say about when it is to be delivered, as they stand there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The delay level; none below 1.
    pub level: i32,
    seconds: Option<&'a str>,
    ms: Option<&'a str>,
    at_ms: Option<&'a str>,
    /// It has waited already: a consumer sends on what it got.
    has_waited: bool,
    is_recall: bool,
    /// It says where a message belongs that waits, which is for this broker to say.
    is_placed: bool,
    /// Whatever else it says.
    exactly_ms: Option<u64>,
    /// It was taken once, whatever may be taken by now: refusing it would lose it.
    was_taken: bool,
}

/// How long a message is to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    None,
    /// As long as messages of this level do.
    Level(i32),
    /// Until this time, in milliseconds since 1970.
    Until(u64),
}

/// A message asks for a time that it cannot get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "timer message illegal, the delay time should not be bigger than the max delay {delay_ms_max}ms; or if set del \
     msg, the delay time should be bigger than the current time: {what}"
)]
pub struct IllegalDelay {
    what: &'static str,
    delay_ms_max: u64,
}

impl<'a> Asked<'a> {
    /// A message for a level.
    pub fn level(level: i32) -> Self {
        Self { level, ..Self::default() }
    }

    /// A message that is to wait for so many milliseconds, whatever it says itself.
    pub fn exactly(delay_ms: u64) -> Self {
        Self { exactly_ms: Some(delay_ms), ..Self::default() }
    }

    /// The same of a message that was taken already: it may wait beyond all bounds.
    #[must_use]
    pub fn of_taken(self) -> Self {
        Self { was_taken: true, ..self }
    }

    /// What the properties of a message say that was taken already.
    pub fn of(properties: Properties<'a>) -> Self {
        let mut asked = Self::default().of_taken();
        for (name, value) in properties.iter() {
            match name {
                properties::DELAY => asked.level = value.parse().unwrap_or(0),
                _ => asked.see(name, value),
            }
        }
        asked
    }

    /// Takes a property down, if it says something here. Of equal ones the last counts.
    pub fn see(&mut self, name: &str, value: &'a str) {
        match name {
            properties::TIMER_DELAY_SEC => self.seconds = Some(value),
            properties::TIMER_DELAY_MS => self.ms = Some(value),
            properties::TIMER_DELIVER_MS => self.at_ms = Some(value),
            properties::TIMER_OUT_MS => self.has_waited = true,
            properties::TIMER_DEL_UNIQKEY => self.is_recall = true,
            properties::REAL_TOPIC | properties::REAL_QID => self.is_placed = true,
            _ => {}
        }
    }

    /// Whether the message asks for a level or a time, be it one that has passed.
    pub fn is_to_wait(&self) -> bool {
        self.level > 0 || self.is_for_a_time()
    }

    /// Whether the message asks for a time, in one of RocketMQ's three ways, and not for a level, which goes before.
    pub fn is_for_a_time(&self) -> bool {
        let asks = self.seconds.or(self.ms).or(self.at_ms).is_some();
        asks && self.level <= 0 && !self.has_waited
    }

    /// How long the message is to wait, if it was taken at `now_ms` and may wait for `delay_ms_max` at most. A time that
    /// has passed is no time to wait for.
    ///
    /// # Errors
    /// When the time is no number or too far ahead, or the message is RocketMQ's way to recall another one.
    pub fn wait(&self, now_ms: u64, delay_ms_max: u64) -> Result<Wait, IllegalDelay> {
        if let Some(delay_ms) = self.exactly_ms {
            // A millisecond more, as below.
            let due_ms = now_ms.saturating_add(delay_ms).saturating_add(1);
            return Ok(if delay_ms == 0 { Wait::None } else { Wait::Until(due_ms) });
        }
        let illegal = |what| IllegalDelay { what, delay_ms_max };
        if self.is_recall {
            return Err(illegal("a message is recalled by its handle, with code 370"));
        }
        if self.level > 0 {
            return Ok(Wait::Level(self.level));
        }
        if !self.is_for_a_time() {
            return Ok(Wait::None);
        }
        let number = |text: &str| text.parse::<i64>().map_err(|_| illegal("the time is no number"));
        // The clock shows whole milliseconds: only a millisecond more is as long as was asked for.
        let after = |delay_ms: i64| match u64::try_from(delay_ms) {
            Ok(0) | Err(_) => 0,
            Ok(delay_ms) => now_ms.saturating_add(delay_ms).saturating_add(1),
        };
        let due_ms = match (self.seconds, self.ms, self.at_ms) {
            (Some(seconds), _, _) => after(number(seconds)?.saturating_mul(1000)),
            (None, Some(ms), _) => after(number(ms)?),
            (None, None, at_ms) => u64::try_from(number(at_ms.unwrap_or_default())?).unwrap_or(0),
        };
        if due_ms <= now_ms {
            return Ok(Wait::None);
        }
        if due_ms - now_ms > delay_ms_max.saturating_add(1) && !self.was_taken {
            return Err(illegal("it is beyond that"));
        }
        Ok(Wait::Until(due_ms))
    }
}

/// Where a delayed message waits, and with which properties.
pub struct Delayed<'a> {
    /// The topic of the messages that wait as it does.
    pub topic: &'static str,
    /// Its queue there.
    pub queue: QueueId,
    /// That queue's number.
    pub queue_id: u32,
    /// When it is due, in milliseconds since 1970.
    pub due_ms: u64,
    /// Its properties, without what would be taken for what delivery needs.
    pub properties: Cow<'a, [u8]>,
    /// What is added to them, with what delivery needs.
    pub added_properties: Vec<u8>,
}

/// How long a message is to wait that is taken at this moment.
///
/// # Errors
/// When it asks for a time that it cannot get.
pub fn wait(broker: &Broker, asked: &Asked<'_>) -> Result<Wait, Refusal> {
    let wait = asked.wait(broker.clock.wall_ms(), broker.policy.delay_ms_max);
    wait.map_err(|error| Refusal::new(ResponseCode::MESSAGE_ILLEGAL, error.to_string()))
}

/// What becomes of a message for queue `queue_id` of `topic` that asks to wait: nothing if it need not. A level above
/// the highest counts as the highest. `asked` is what `properties` say, or a level that goes before them; `added` are
/// those that this broker adds.
///
/// # Errors
/// When it asks for a time that it cannot get, too much waits already, or there is no queue to wait in.
pub fn delay<'a>(
    broker: &Broker,
    (topic, queue_id): (&str, u32),
    asked: &Asked<'_>,
    properties: &'a [u8],
    added: &[u8],
) -> Result<Option<Delayed<'a>>, Refusal> {
    let (waits_in, number, level, due_ms) = match wait(broker, asked)? {
        Wait::None => return Ok(None),
        Wait::Level(level) => {
            let Some((level, delay_ms)) = broker.policy.delay_levels.get(level) else { return Ok(None) };
            // A millisecond more, as above.
            let due_ms = broker.clock.wall_ms().saturating_add(delay_ms).saturating_add(1);
            (system::SCHEDULE_TOPIC, level - 1, Some(level), due_ms)
        }
        Wait::Until(due_ms) => (system::TIMER_TOPIC, 0, None, due_ms),
    };
    if !asked.was_taken
        && let Some(why) = broker.timers.refusal()
    {
        return Err(Refusal::new(ResponseCode::SYSTEM_ERROR, why));
    }
    let catalog = broker.catalog.read();
    let queue = catalog.queues(waits_in).and_then(|queues| queues.get(number as usize));
    let queue = queue.copied().ok_or_else(|| {
        Refusal::new(ResponseCode::SYSTEM_ERROR, "the queues of delayed messages are not made yet; try again")
    })?;
    drop(catalog);
    // What nearly all senders say stays as it is: bytes are added, none are moved.
    let is_set_here = level.is_some() || asked.exactly_ms.is_some();
    let properties = if is_set_here || asked.is_placed {
        properties::rewrite(properties, if is_set_here { &ALL_SET_HERE } else { &PLACE }, &[]).into()
    } else {
        properties.into()
    };
    let mut text = itoa::Buffer::new();
    let mut added_properties = Vec::with_capacity(added.len() + topic.len() + DELIVERY_BYTES_MAX);
    added_properties.extend_from_slice(added);
    if let Some(level) = level {
        properties::write(properties::DELAY, text.format(level), &mut added_properties);
    }
    properties::write(properties::REAL_TOPIC, topic, &mut added_properties);
    properties::write(properties::REAL_QID, text.format(queue_id), &mut added_properties);
    properties::write(properties::TIMER_OUT_MS, text.format(due_ms), &mut added_properties);
    Ok(Some(Delayed { topic: waits_in, queue, queue_id: number, due_ms, properties, added_properties }))
}

/// Where a message that waits belongs.
const PLACE: [&str; 2] = [properties::REAL_TOPIC, properties::REAL_QID];
/// With a level, or where somebody else says how long, the other ways to ask do not count, and are not passed on.
const ALL_SET_HERE: [&str; 7] = [
    properties::REAL_TOPIC,
    properties::REAL_QID,
    properties::TIMER_OUT_MS,
    properties::DELAY,
    properties::TIMER_DELAY_SEC,
    properties::TIMER_DELAY_MS,
    properties::TIMER_DELIVER_MS,
];
/// What delivery needs takes no more, but for the topic.
const DELIVERY_BYTES_MAX: usize = 96;

/// When a message that waits is due, in milliseconds since 1970, by its [`properties::TIMER_OUT_MS`].
pub fn due_ms(out_ms: &str) -> Option<u64> {
    out_ms.parse().ok()
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

    const NOW_MS: u64 = 1_700_000_000_000;

    fn wait(asked: &[(&str, &str)]) -> Result<Wait, &'static str> {
        let mut all = Asked::default();
        asked.iter().for_each(|(name, value)| match *name {
            "DELAY" => all.level = value.parse().unwrap(),
            name => all.see(name, value),
        });
        all.wait(NOW_MS, 1_000_000).map_err(|error| error.what)
    }

    #[test]
    fn a_message_waits_as_rocketmq_reads_its_properties() {
        let until = |ms: u64| Ok(Wait::Until(NOW_MS + ms));
        let (past, now, soon) = ("1699999999999", "1700000000000", "1700000000001");
        for (asked, expected) in [
            (&[][..], Ok(Wait::None)),
            (&[("TIMER_DELAY_SEC", "7")], until(7001)),
            (&[("TIMER_DELAY_MS", "7")], until(8)),
            (&[("TIMER_DELAY_MS", "+7")], until(8)),
            (&[("TIMER_DELIVER_MS", soon)], until(1)),
            (&[("TIMER_DELAY_MS", "7"), ("TIMER_DELAY_MS", "9")], until(10)),
            // Seconds go before milliseconds, these before a time, a level before all.
            (&[("TIMER_DELIVER_MS", soon), ("TIMER_DELAY_MS", "7"), ("TIMER_DELAY_SEC", "1")], until(1001)),
            (&[("TIMER_DELIVER_MS", soon), ("TIMER_DELAY_MS", "7")], until(8)),
            (&[("DELAY", "3"), ("TIMER_DELAY_SEC", "x")], Ok(Wait::Level(3))),
            (&[("DELAY", "-1"), ("TIMER_DELAY_MS", "7")], until(8)),
            // What has passed is delivered at once, and so is what has waited already.
            (&[("TIMER_DELAY_SEC", "0")], Ok(Wait::None)),
            (&[("TIMER_DELAY_SEC", "-5")], Ok(Wait::None)),
            (&[("TIMER_DELAY_MS", "-9223372036854775808")], Ok(Wait::None)),
            (&[("TIMER_DELIVER_MS", past)], Ok(Wait::None)),
            (&[("TIMER_DELIVER_MS", now)], Ok(Wait::None)),
            (&[("TIMER_DELIVER_MS", "-1")], Ok(Wait::None)),
            (&[("TIMER_DELAY_SEC", "7"), ("TIMER_OUT_MS", past)], Ok(Wait::None)),
            // The longest delay is a thousand seconds here.
            (&[("TIMER_DELAY_SEC", "1000")], until(1_000_001)),
            (&[("TIMER_DELAY_MS", "1000001")], Err("it is beyond that")),
            (&[("TIMER_DELAY_SEC", "9223372036854775807")], Err("it is beyond that")),
            (&[("TIMER_DELIVER_MS", "9223372036854775807")], Err("it is beyond that")),
            (&[("TIMER_DELAY_SEC", "1.5")], Err("the time is no number")),
            (&[("TIMER_DELAY_MS", " 7")], Err("the time is no number")),
            (&[("TIMER_DELIVER_MS", "9223372036854775808")], Err("the time is no number")),
            (&[("TIMER_DEL_UNIQKEY", "t+U")], Err("a message is recalled by its handle, with code 370")),
        ] {
            assert_eq!(wait(asked), expected, "{asked:?}");
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
