use super::*;

fn at(at: u64) -> PhysicalOffset {
    PhysicalOffset::new(at)
}

fn apply(halves: &mut Halves, at_: u64, stored_at: u64, change: Change<'_>) -> Result<(), FoldError> {
    halves.apply(&Event { at: at(at_), stored_at, change })
}

fn half(group: &str, queue_offset: u64) -> Change<'_> {
    Change::Half(HalfPlace { queue_offset, record_bytes: 200, group, immunity_s: 0 })
}

fn ended(at: u64, outcome: Outcome) -> Change<'static> {
    Change::HalvesEnded(HalvesEnded { ended: vec![HalfEnded { at, outcome }] })
}

fn carried(halves: &[u64]) -> Change<'static> {
    Change::HalvesCarried(HalvesCarried { halves: halves.to_vec() })
}

#[test]
fn records_about_half_messages_have_these_bytes() {
    let ended = HalvesEnded {
        ended: vec![
            HalfEnded { at: 300, outcome: Outcome::Committed },
            HalfEnded { at: 5, outcome: Outcome::RolledBack },
            HalfEnded { at: 6, outcome: Outcome::GivenUp },
        ],
    };
    #[rustfmt::skip]
    let bytes = [
        1,              // version
        3,              // three transactions
        0xac, 0x02, 0,  // that of the half message at 300 was committed
        5, 1,           // that at 5 rolled back
        6, 2,           // that at 6 given up
    ];
    assert_eq!(ended.encode(), bytes);
    assert_eq!(Change::decode(kinds::HALVES_ENDED, &bytes), Ok(Change::HalvesEnded(ended)));

    let carried = HalvesCarried { halves: vec![300, 5] };
    let bytes = [1, 2, 0xac, 0x02, 5];
    assert_eq!(carried.encode(), bytes);
    assert_eq!(Change::decode(kinds::HALVES_CARRIED, &bytes), Ok(Change::HalvesCarried(carried)));

    let checked = HalvesChecked { checked: vec![(300, 15)] };
    let bytes = [1, 1, 0xac, 0x02, 15];
    assert_eq!(checked.encode(), bytes);
    assert_eq!(Change::decode(kinds::HALVES_CHECKED, &bytes), Ok(Change::HalvesChecked(checked)));
}

#[test]
fn a_transaction_is_open_until_it_ends() {
    let mut halves = Halves::default();
    apply(&mut halves, 64, 7, half("g", 0)).unwrap();
    apply(&mut halves, 128, 8, half("h", 1)).unwrap();
    let found = halves.find(at(64)).unwrap();
    assert_eq!(
        (found.at, found.origin, found.half.queue_offset, found.half.since_ms),
        (at(64), at(64), 0, 7)
    );
    assert_eq!((halves.group(&found.half), halves.len()), ("g", 2));
    assert_eq!(halves.find(at(65)), None, "only exactly there");
    apply(&mut halves, 192, 9, ended(64, Outcome::Committed)).unwrap();
    assert_eq!(halves.find(at(64)), None);
    let twice = apply(&mut halves, 256, 9, ended(64, Outcome::RolledBack));
    assert_eq!(twice, Err(FoldError::NotOpen { at: at(256), half: at(64) }));
    apply(&mut halves, 320, 9, ended(128, Outcome::GivenUp)).unwrap();
    assert!(halves.is_empty() && halves.groups.numbers.is_empty());
    // Numbers of groups that are gone are given again.
    apply(&mut halves, 384, 9, half("i", 2)).unwrap();
    assert_eq!((halves.groups.known.len(), halves.group(&halves.at(at(384)).unwrap().half)), (2, "i"));
}

#[test]
fn a_copy_is_found_by_where_it_lies_and_where_it_lay_first() {
    let mut halves = Halves::default();
    for number in 0..3 {
        apply(&mut halves, 64 * (number + 1), 7, half("g", number)).unwrap();
    }
    apply(&mut halves, 256, 8, carried(&[64, 128])).unwrap();
    apply(&mut halves, 320, 8, half("g", 3)).unwrap();
    apply(&mut halves, 384, 8, half("g", 4)).unwrap();
    apply(&mut halves, 448, 8, carried(&[192, 320])).unwrap();
    apply(&mut halves, 512, 8, half("g", 5)).unwrap();
    apply(&mut halves, 576, 8, half("g", 6)).unwrap();
    assert_eq!(halves.len(), 3);
    let moved = halves.find(at(64)).unwrap();
    assert_eq!(
        (moved.at, moved.origin, moved.half.since_ms),
        (at(576), at(64), 7),
        "it waits no longer for that"
    );
    assert_eq!(halves.find(at(576)), Some(moved));
    assert_eq!(halves.find(at(320)), None, "a copy that was carried in its turn has no name");
    assert!(moved.is_called(at(64), 0) && moved.is_called(at(576), 6));
    assert!(!moved.is_called(at(64), 6) && !moved.is_called(at(576), 0));
    let lie: Vec<_> = halves.from(at(400)).map(|half| half.at.get()).collect();
    assert_eq!(lie, [512, 576], "the second copy lies below");
    let restored = Halves::restore(&halves.snapshot()).unwrap();
    assert_eq!(restored, halves);
    for place in [576, 384, 512] {
        apply(&mut halves, 640, 9, ended(place, Outcome::Committed)).unwrap();
    }
    assert!(halves.moved.is_empty() && halves.origins.is_empty() && halves.is_empty());
    let gone = apply(&mut halves, 704, 9, carried(&[64]));
    assert_eq!(gone, Err(FoldError::NotOpen { at: at(704), half: at(64) }));
}

#[test]
fn a_check_counts_unless_the_transaction_has_ended() {
    let mut halves = Halves::default();
    apply(&mut halves, 64, 7, half("g", 0)).unwrap();
    let checked = Change::HalvesChecked(HalvesChecked { checked: vec![(64, 3), (128, 1)] });
    apply(&mut halves, 128, 50, checked).unwrap();
    let half = halves.at(at(64)).unwrap().half;
    assert_eq!((half.checks, half.since_ms), (3, 50));
    assert_eq!(halves.len(), 1);
}
