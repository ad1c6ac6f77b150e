//! How long messages are kept: by age, by size, and by what the disk has left.

use skylark_storage::device::Space;
use skylark_storage::{PhysicalOffset, SegmentInfo};

/// What the operator wants kept, and how full the disk may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A segment goes once its newest record is older than this, in milliseconds.
    pub age_ms: u64,
    /// The oldest segments go while all take more than this together.
    pub bytes_max: Option<u64>,
    /// The oldest segments go, whatever their age, while more of the disk is used, in percent.
    pub clean_percent: u8,
    /// Sends are refused while more of the disk is used, in percent.
    pub refuse_percent: u8,
}

impl Retention {
    /// Where the log may begin, as far as age, size and disk go: at the base of one of `segments`, which are all of
    /// them, oldest first. `None` when all is to be kept.
    ///
    /// What a trim would free counts as freed. The newest segment stays whatever happens.
    pub fn cut(&self, segments: &[SegmentInfo], now_ms: u64, space: Option<Space>) -> Option<PhysicalOffset> {
        let mut stored: u64 = segments.iter().map(|segment| segment.stored_bytes).sum();
        let mut available = space.map(|space| space.available_bytes);
        let mut cut = None;
        for pair in segments.windows(2) {
            let [oldest, next] = pair else { break };
            // Its newest record is not younger than the next segment.
            let is_old = now_ms.saturating_sub(next.created_at) > self.age_ms;
            let is_much = self.bytes_max.is_some_and(|max| stored > max);
            let is_tight = space.zip(available).is_some_and(|(space, available_bytes)| {
                used_percent(Space { available_bytes, ..space }) > f64::from(self.clean_percent)
            });
            if !is_old && !is_much && !is_tight {
                break;
            }
            stored -= oldest.stored_bytes;
            available = available.map(|bytes| bytes + oldest.stored_bytes);
            cut = Some(next.base);
        }
        cut
    }

    /// Why sends are refused, if they are.
    pub fn refusal(&self, space: Space) -> Option<String> {
        let used = used_percent(space);
        (used > f64::from(self.refuse_percent)).then(|| {
            format!(
                "the disk is {used:.1} % full, and sends are refused above {} %: {} of {} bytes are left",
                self.refuse_percent, space.available_bytes, space.total_bytes
            )
        })
    }
}

/// How much of a disk is used, in percent.
#[expect(clippy::cast_precision_loss, reason = "a ratio, compared with whole percents")]
pub fn used_percent(space: Space) -> f64 {
    if space.total_bytes == 0 {
        return 0.0;
    }
    100.0 - space.available_bytes as f64 * 100.0 / space.total_bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn retention() -> Retention {
        Retention { age_ms: 72 * HOUR_MS, bytes_max: None, clean_percent: 85, refuse_percent: 90 }
    }

    /// Segments of 100 bytes, created an hour after each other.
    fn segments(count: u64) -> Vec<SegmentInfo> {
        let segment = |number| SegmentInfo {
            base: PhysicalOffset::new(number * 100),
            created_at: number * HOUR_MS,
            stored_bytes: 100,
        };
        (0..count).map(segment).collect()
    }

    fn space(available_bytes: u64) -> Option<Space> {
        Some(Space { total_bytes: 1000, available_bytes })
    }

    #[test]
    fn what_is_older_than_its_age_goes() {
        let (retention, four) = (retention(), segments(4));
        assert_eq!(retention.cut(&four, 73 * HOUR_MS, None), None);
        let cut = |now_ms| retention.cut(&four, now_ms, None).map(PhysicalOffset::get);
        assert_eq!(cut(73 * HOUR_MS + 1), Some(100));
        assert_eq!(cut(74 * HOUR_MS + 1), Some(200));
        assert_eq!(cut(1000 * HOUR_MS), Some(300), "the newest stays");
        assert_eq!(cut(0), None, "a clock that was set back deletes nothing");
    }

    #[test]
    fn size_and_disk_take_the_oldest_first() {
        let by_size = Retention { bytes_max: Some(250), ..retention() };
        assert_eq!(by_size.cut(&segments(4), 0, None), Some(PhysicalOffset::new(200)));
        // 5 % are left; the second trim brings that to 25 %.
        assert_eq!(retention().cut(&segments(4), 0, space(50)), Some(PhysicalOffset::new(100)));
        assert_eq!(retention().cut(&segments(4), 0, space(150)), None);
        assert_eq!(retention().cut(&segments(4), 0, space(0)), Some(PhysicalOffset::new(200)));
        assert_eq!(retention().cut(&segments(1), 0, space(0)), None);
    }

    #[test]
    fn a_full_disk_refuses_with_its_numbers() {
        assert_eq!(retention().refusal(Space { total_bytes: 1000, available_bytes: 100 }), None);
        let why = retention().refusal(Space { total_bytes: 1000, available_bytes: 99 }).unwrap();
        assert_eq!(
            why,
            "the disk is 90.1 % full, and sends are refused above 90 %: 99 of 1000 bytes are left"
        );
    }
}
