use std::sync::Arc;

use super::*;

const HOUR_MS: u64 = 3_600_000;

fn at(offset: u64) -> PhysicalOffset {
    PhysicalOffset::new(offset)
}

/// Segments of 100 bytes, created an hour after each other.
fn segments(count: u64) -> Vec<SegmentInfo> {
    let segment =
        |number| SegmentInfo { base: at(number * 100), created_at: number * HOUR_MS, stored_bytes: 100 };
    (0..count).map(segment).collect()
}

fn space(available_bytes: u64) -> Option<Space> {
    Some(Space { total_bytes: 1000, available_bytes })
}

fn pin(from: u64) -> PinInfo {
    PinInfo { holder: Arc::from("a reader"), from: at(from), expires_in: LEASE_MAX, is_lost: false }
}

#[test]
fn what_is_older_than_its_age_goes() {
    let retention = Retention { age_ms: Some(72 * HOUR_MS), ..Retention::default() };
    let cut = |now_ms| retention.cut(&segments(4), now_ms, None, &[]).to;
    assert_eq!(cut(73 * HOUR_MS), None);
    assert_eq!(cut(73 * HOUR_MS + 1), Some(at(100)));
    assert_eq!(cut(74 * HOUR_MS + 1), Some(at(200)));
    assert_eq!(cut(1000 * HOUR_MS), Some(at(300)), "the newest stays");
    assert_eq!(cut(0), None, "a clock that was set back deletes nothing");
}

#[test]
fn size_and_disk_take_the_oldest_first() {
    let by_size = Retention { bytes_max: Some(250), ..Retention::default() };
    assert_eq!(by_size.cut(&segments(4), 0, None, &[]).to, Some(at(200)));
    let by_disk = Retention { clean_percent: Some(85), ..Retention::default() };
    let cut = |segments: &[SegmentInfo], left| by_disk.cut(segments, 0, space(left), &[]).to;
    // 5 % are left; the second trim brings that to 25 %.
    assert_eq!(cut(&segments(4), 50), Some(at(100)));
    assert_eq!(cut(&segments(4), 150), None);
    assert_eq!(cut(&segments(4), 0), Some(at(200)));
    assert_eq!(cut(&segments(1), 0), None);
    assert_eq!(by_disk.cut(&segments(4), 0, None, &[]).to, None, "of an unknown disk nothing is known");
}

#[test]
fn the_default_keeps_everything() {
    assert_eq!(Retention::default().cut(&segments(9), u64::MAX, space(0), &[]).to, None);
}

#[test]
fn age_and_size_stop_at_a_pin_and_the_disk_does_not() {
    let much = Retention { bytes_max: Some(100), ..Retention::default() };
    for (from, expected) in [(0, None), (99, None), (100, Some(at(100))), (299, Some(at(200)))] {
        let cut = much.cut(&segments(4), 0, None, &[pin(900), pin(from)]);
        assert_eq!(cut.to, expected, "pinned from {from}");
        assert_eq!(cut.held_back, Some(HeldBack { to: at(300), by: pin(from) }));
    }
    let cut = much.cut(&segments(4), 0, None, &[pin(300)]);
    assert_eq!((cut.to, cut.held_back), (Some(at(300)), None), "nothing that is to go is pinned");

    let both = Retention { clean_percent: Some(85), ..much };
    let cut = both.cut(&segments(4), 0, space(0), &[pin(0)]);
    assert_eq!(cut.to, Some(at(200)), "as far as the disk asks for, and no further");
    assert_eq!(cut.held_back.map(|held_back| held_back.to), Some(at(300)));
}

#[test]
fn a_pin_that_has_expired_or_is_lost_holds_nothing() {
    let much = Retention { bytes_max: Some(100), ..Retention::default() };
    let expired = PinInfo { expires_in: Duration::ZERO, ..pin(0) };
    let lost = PinInfo { is_lost: true, ..pin(0) };
    let later: Vec<_> = segments(4).split_off(1);
    for (segments, pin) in [(segments(4), expired), (segments(4), lost), (later, pin(0))] {
        let cut = much.cut(&segments, 0, None, &[pin]);
        assert_eq!((cut.to, cut.held_back), (Some(at(300)), None));
    }
}
