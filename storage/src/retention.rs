//! How long a log is kept: by age, by size, and by what the disk has left; and the pins that hold some of it.
//!
//! ```text
//!  segments ──► too old, too much? ──► not what a pin holds ──┐
//!           └─► disk too full? ──────► pins yield ────────────┴──► cut ──► trim
//! ```
//!
//! Only whole segments go, oldest first, and never the newest. Nothing holds them for ever: a pin ends with its
//! lease, and does not count where the disk is too full.

use std::time::Duration;

use crate::catalogue::SegmentInfo;
use crate::device::Space;
use crate::offset::PhysicalOffset;

pub use pin::{LEASE_MAX, PINS_MAX, Pin, PinError, PinInfo, PinLost};

pub(crate) mod pin;

/// What is to be kept of a log. The default keeps all of it; fields may be added in any release.
///
/// ```
/// use skylark_storage::Retention;
///
/// // Three days, at most 100 GiB, and less where the disk would be fuller than 85 %.
/// let retention = Retention::default().by_age(3 * 24 * 60 * 60 * 1000).by_size(100 << 30).by_disk(85);
/// assert_eq!(retention.bytes_max, Some(100 << 30));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// A segment goes once its newest record is older than this, in milliseconds of the wall clock. Store times never go
    /// back (see [`Clock::wall_ms`](crate::Clock::wall_ms)): after a jump of the clock ahead and back segments stay for
    /// longer, by as much as it jumped.
    pub age_ms: Option<u64>,
    /// The oldest segments go while all of them take more than this together.
    pub bytes_max: Option<u64>,
    /// The disk watermark, in percent: while more of the file system is used the oldest segments go, whatever their
    /// age and whoever has pinned them. Without one, nothing but leases ends what pins hold.
    pub clean_percent: Option<u8>,
}

/// Where a log may begin, as [`CommitLog::cut`](crate::CommitLog::cut) finds it and
/// [`CommitLog::decide_cut`](crate::CommitLog::decide_cut) decides it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// At the base of a segment; `None` when all that is there is to be kept.
    pub to: Option<PhysicalOffset>,
    /// What keeps more than age and size ask for.
    pub held_back: Option<HeldBack>,
    /// What the disk said about its space. Not asked when there is no watermark, and `None` too when it cannot tell.
    pub space: Option<Space>,
}

/// A pin that keeps segments which would go by age or size.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldBack {
    /// Where the log would begin without pins.
    pub to: PhysicalOffset,
    /// The pin that holds the oldest of these segments.
    pub by: PinInfo,
}

/// What [`CommitLog::apply_retention`](crate::CommitLog::apply_retention) did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retained {
    /// Where the log begins.
    pub trimmed: PhysicalOffset,
    /// How many segments were given up.
    pub segments: usize,
    /// What these took on the disk.
    pub freed_bytes: u64,
    /// The pins that lost what they held, because the disk was too full.
    pub overtaken: Vec<PinInfo>,
    /// What keeps more than age and size ask for.
    pub held_back: Option<HeldBack>,
}

impl Retention {
    /// The same, with this for [`Self::age_ms`].
    #[must_use]
    pub fn by_age(self, age_ms: u64) -> Self {
        Self { age_ms: Some(age_ms), ..self }
    }

    /// The same, with this for [`Self::bytes_max`].
    #[must_use]
    pub fn by_size(self, bytes_max: u64) -> Self {
        Self { bytes_max: Some(bytes_max), ..self }
    }

    /// The same, with this for [`Self::clean_percent`].
    #[must_use]
    pub fn by_disk(self, clean_percent: u8) -> Self {
        Self { clean_percent: Some(clean_percent), ..self }
    }

    /// Where the log may begin: at the base of one of `segments`, which are all of them, oldest first.
    ///
    /// What a trim would free counts as freed. The newest segment stays whatever happens.
    fn cut(&self, segments: &[SegmentInfo], now_ms: u64, space: Option<Space>, pins: &[PinInfo]) -> Cut {
        let oldest = segments.first().map_or(PhysicalOffset::ZERO, |oldest| oldest.base);
        // What lies below is lost already.
        let holding = pins.iter().filter(|pin| pin.is_holding() && pin.from >= oldest);
        let holding = holding.min_by_key(|pin| pin.from);
        let mut stored: u64 = segments.iter().map(|segment| segment.stored_bytes).sum();
        let mut left = space;
        let (mut to, mut without_pins) = (None, None);
        for pair in segments.windows(2) {
            let [segment, next] = pair else { break };
            // Its newest record is not younger than the next segment.
            let is_old = self.age_ms.is_some_and(|age_ms| now_ms.saturating_sub(next.created_at) > age_ms);
            let is_much = self.bytes_max.is_some_and(|max| stored > max);
            let is_tight = self
                .clean_percent
                .zip(left)
                .is_some_and(|(clean_percent, left)| left.used_percent() > f64::from(clean_percent));
            if !is_old && !is_much && !is_tight {
                break;
            }
            stored -= segment.stored_bytes;
            if let Some(left) = &mut left {
                left.available_bytes += segment.stored_bytes;
            }
            without_pins = Some(next.base);
            if is_tight || holding.is_none_or(|pin| pin.from >= next.base) {
                to = without_pins;
            }
        }
        let held_back = holding.cloned().zip(without_pins).filter(|_| to != without_pins);
        Cut { to, held_back: held_back.map(|(by, to)| HeldBack { to, by }), space }
    }
}

/// What the log knows when it is asked for a cut.
pub(crate) struct Situation {
    pub(crate) segments: Vec<SegmentInfo>,
    /// The log cannot begin behind this.
    pub(crate) limit: PhysicalOffset,
    pub(crate) now_ms: u64,
    pub(crate) space: Option<Space>,
    pub(crate) now: Duration,
}

impl Situation {
    fn cut(&self, retention: &Retention, pins: &[PinInfo]) -> Cut {
        let durable = self.segments.iter().take_while(|segment| segment.base <= self.limit).count();
        retention.cut(&self.segments[..durable], self.now_ms, self.space, pins)
    }
}

impl pin::Pins {
    /// Finds the cut.
    pub(crate) fn cut(&self, retention: &Retention, situation: &Situation) -> Cut {
        situation.cut(retention, &self.list())
    }

    /// Finds the cut, and grants no pin below it from now until the next decision: what is about to go cannot be held
    /// any more.
    pub(crate) fn decide_cut(&self, retention: &Retention, situation: &Situation) -> Cut {
        self.decide(situation.now, |pins| {
            let cut = situation.cut(retention, pins);
            (cut.to, cut)
        })
    }
}

#[cfg(test)]
mod tests;
