use super::*;
use crate::folds::halves::{HalfEnded, HalfPlace, HalvesCarried, Outcome};

const POLICY: TransactionPolicy = TransactionPolicy {
    allowed: true,
    timeout_ms: 6_000,
    check_interval_ms: 30_000,
    checks_max: 2,
    open_max: 10,
};

fn at(at: u64) -> PhysicalOffset {
    PhysicalOffset::new(at)
}

fn open() -> Open {
    Open::new(Halves::default(), POLICY)
}

fn apply(open: &mut Open, at_: u64, stored_at: u64, change: Change<'_>) {
    open.apply(&Event { at: at(at_), stored_at, change }, stored_at).unwrap();
}

fn half(immunity_s: u32) -> Change<'static> {
    Change::Half(HalfPlace { queue_offset: 0, record_bytes: 200, group: "g", immunity_s })
}

/// Which are asked about, and which are given up.
fn due(open: &mut Open, now_ms: u64) -> (Vec<(u64, u32)>, Vec<u64>) {
    let presence = |group: &str| if group == "g" { Presence::There } else { Presence::Absent };
    let due = open.take_due(now_ms, 100, Some(1_000_000), presence);
    let asked = due.asked.iter().map(|(at, checks)| (at.get(), *checks)).collect();
    (asked, due.given_up.iter().map(|half| half.at.get()).collect())
}

fn checked(open: &mut Open, asked: &[(u64, u32)], now_ms: u64) {
    let checked = HalvesChecked { checked: asked.to_vec() };
    apply(open, 4096, now_ms, Change::HalvesChecked(checked));
}

#[test]
fn a_producer_is_asked_after_the_time_out_and_then_at_intervals() {
    let mut open = open();
    apply(&mut open, 64, 1_000, half(0));
    apply(&mut open, 128, 1_000, half(60));
    assert_eq!(open.next_ms(), Some(7_000));
    assert_eq!(due(&mut open, 6_999), (vec![], vec![]));
    assert_eq!(due(&mut open, 7_000), (vec![(64, 1)], vec![]));
    assert_eq!(due(&mut open, 7_000), (vec![], vec![]), "once");
    checked(&mut open, &[(64, 1)], 7_010);
    assert_eq!(due(&mut open, 37_009), (vec![], vec![]));
    assert_eq!(due(&mut open, 37_100), (vec![(64, 2)], vec![]));
    checked(&mut open, &[(64, 2)], 37_100);
    assert_eq!(due(&mut open, 61_000), (vec![(128, 1)], vec![]), "it asked for a minute");
    assert_eq!(due(&mut open, 67_100), (vec![], vec![64]), "it was asked as often as may be");
    assert!(!open.claim(at(64)), "it is about to be given up");
}

#[test]
fn what_was_stored_later_than_the_clock_shows_is_asked_about_after_the_time_out_all_the_same() {
    let mut open = open();
    let event = Event { at: at(64), stored_at: 7_200_000, change: half(0) };
    open.apply(&event, 1_000).unwrap();
    assert_eq!(due(&mut open, 6_999), (vec![], vec![]));
    assert_eq!(due(&mut open, 7_000), (vec![(64, 1)], vec![]));
    let checked = HalvesChecked { checked: vec![(64, 1)] };
    let event = Event { at: at(4096), stored_at: 7_200_000, change: Change::HalvesChecked(checked) };
    open.apply(&event, 7_000).unwrap();
    assert_eq!(due(&mut open, 36_900), (vec![], vec![]));
    assert_eq!(due(&mut open, 37_000), (vec![(64, 2)], vec![]));
    // The clock is set back once more, behind what was scheduled.
    let event = Event { at: at(128), stored_at: 7_200_000, change: half(0) };
    open.apply(&event, 7_200_000).unwrap();
    open.reschedule(40_000);
    assert_eq!(due(&mut open, 46_000), (vec![(128, 1)], vec![]));
}

#[test]
fn who_does_not_read_is_asked_later_and_nobody_about_more_than_fits() {
    let mut open = open();
    let busy = |open: &mut Open, now_ms| open.take_due(now_ms, 100, None, |_| Presence::Busy).asked.len();
    for number in 0..3 {
        let large = HalfPlace { queue_offset: number, record_bytes: 700 << 10, group: "g", immunity_s: 0 };
        apply(&mut open, 64 * number + 64, 1_000, Change::Half(large));
    }
    assert_eq!(busy(&mut open, 7_000), 0);
    assert_eq!(open.next_ms(), Some(8_000));
    assert_eq!(due(&mut open, 8_000), (vec![(64, 1), (128, 1)], vec![]));
    assert_eq!(due(&mut open, 8_000), (vec![(192, 1)], vec![]));
}

#[test]
fn without_a_producer_nothing_is_counted() {
    let mut open = open();
    apply(&mut open, 64, 1_000, half(0));
    let nobody = |open: &mut Open, now_ms| open.take_due(now_ms, 100, Some(1_000_000), |_| Presence::Absent);
    for round in 0..20 {
        let due = nobody(&mut open, 7_000 + round * 30_000);
        assert!(due.asked.is_empty() && due.given_up.is_empty());
    }
    assert_eq!(due(&mut open, 700_000), (vec![(64, 1)], vec![]), "one has come");
    checked(&mut open, &[(64, 1)], 700_000);
    assert_eq!(nobody(&mut open, 1_700_000).given_up.len(), 0);
    assert_eq!(
        nobody(&mut open, 1_730_001).given_up.len(),
        1,
        "none has come for as long as messages are kept"
    );
}

#[test]
fn one_ends_it_and_a_copy_waits_on() {
    let mut open = open();
    apply(&mut open, 64, 1_000, half(0));
    assert!(open.claim(at(64)));
    assert!(!open.claim(at(64)));
    assert_eq!(open.standing(at(64)), Standing::Gone);
    open.release(at(64));
    assert!(matches!(open.standing(at(64)), Standing::Open(_)));
    let (moving, others) = open.claim_below(at(100), |_| true);
    assert_eq!((moving.len(), others), (1, false));
    assert_eq!((open.standing(at(64)), open.claim(at(64))), (Standing::Moving, false));
    apply(&mut open, 128, 2_000, Change::HalvesCarried(HalvesCarried { halves: vec![64] }));
    apply(&mut open, 192, 2_000, half(0));
    assert!(matches!(open.standing(at(64)), Standing::Open(found) if found.at == at(192)));
    assert!(open.claims.is_empty());
    assert_eq!(due(&mut open, 7_000), (vec![(192, 1)], vec![]), "as if it had not moved");
    assert!(open.claim(at(192)));
    let (moving, others) = open.claim_below(at(200), |_| true);
    assert!(moving.is_empty() && others);
    let ended = HalvesEnded { ended: vec![HalfEnded { at: 192, outcome: Outcome::Committed }] };
    apply(&mut open, 256, 3_000, Change::HalvesEnded(ended));
    assert!(open.claims.is_empty() && open.folded().is_empty());
}

#[test]
fn what_was_withdrawn_is_until_that_is_applied() {
    let mut open = open();
    apply(&mut open, 64, 1_000, half(0));
    open.claim_below(at(100), |_| true);
    apply(&mut open, 128, 2_000, Change::HalvesCarried(HalvesCarried { halves: vec![64] }));
    apply(&mut open, 192, 2_000, half(0));
    assert!(open.claim(at(192)));
    assert!(!open.is_withdrawn(at(64)), "the log may not take the record");
    open.withdraw(at(192));
    assert!(open.is_withdrawn(at(64)) && open.is_withdrawn(at(192)));
    assert_eq!(open.standing(at(64)), Standing::Gone);
    let ended = HalvesEnded { ended: vec![HalfEnded { at: 192, outcome: Outcome::RolledBack }] };
    apply(&mut open, 256, 3_000, Change::HalvesEnded(ended));
    assert!(!open.is_withdrawn(at(64)));
    open.withdraw(at(192));
    assert!(open.claims.is_empty(), "whoever appended it comes late");
}

#[test]
fn the_schedule_forgets_what_has_ended() {
    let mut open = open();
    let rounds = 2 * TIDY_ABOVE as u64;
    for number in 0..rounds {
        apply(&mut open, number * 64, 1_000, half(3600));
        let ended = HalvesEnded { ended: vec![HalfEnded { at: number * 64, outcome: Outcome::Committed }] };
        apply(&mut open, number * 64, 1_000, Change::HalvesEnded(ended));
    }
    assert!(open.schedule.places <= TIDY_ABOVE + 10, "{}", open.schedule.places);
}
