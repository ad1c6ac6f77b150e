use super::*;

fn key(due: u64, at: u64) -> TimerKey {
    TimerKey { due, at: PhysicalOffset::new(at) }
}

fn mark(through: TimerKey, covered: u64, floor: u64) -> Watermark {
    Watermark::default().fired(through, PhysicalOffset::new(covered)).carried(PhysicalOffset::new(floor))
}

fn apply(timers: &mut Timers, change: Change<'_>) -> Result<(), FoldError> {
    timers.apply(&Event { at: PhysicalOffset::new(64), stored_at: 0, change })
}

fn fired(mark: Watermark, fired: &[(u32, u64)]) -> Change<'static> {
    let fired = fired.iter().map(|&(queue, queue_offset)| FiredTimer { at: 0, queue, queue_offset });
    Change::TimersFired(TimersFired { mark, fired: fired.collect() })
}

#[test]
fn fired_and_carried_timers_have_these_bytes() {
    let fired = TimersFired {
        mark: mark(key(300, 5), 6, 1),
        fired: vec![FiredTimer { at: 5, queue: 2, queue_offset: 200 }],
    };
    #[rustfmt::skip]
    let bytes = [
        1,                  // version
        0xac, 0x02, 5,      // through: due at 300, at position 5
        6, 1,               // covered, floor
        1,                  // one timer
        5, 2, 0xc8, 0x01,   // from position 5, queue 2, offset 200
    ];
    assert_eq!(fired.encode(), bytes);
    assert_eq!(Change::decode(kinds::TIMERS_FIRED, &bytes), Ok(Change::TimersFired(fired)));

    let carried = TimersCarried { mark: mark(key(300, 5), 6, 9) };
    let bytes = [1, 0xac, 0x02, 5, 6, 9];
    assert_eq!(carried.encode(), bytes);
    assert_eq!(Change::decode(kinds::TIMERS_CARRIED, &bytes), Ok(Change::TimersCarried(carried)));
}

#[test]
fn three_positions_tell_what_is_pending() {
    let mark = mark(key(1000, 50), 80, 20);
    for (key, pending, why) in [
        (key(5000, 10), false, "below the floor its copy counts"),
        (key(900, 30), false, "it fired in time"),
        (key(1000, 50), false, "it fired last"),
        (key(1000, 51), true, "equal due times fire by position"),
        (key(5000, 30), true, "it is not its turn"),
        (key(900, 79), false, "covered"),
        (key(900, 80), true, "late"),
        (key(5000, 90), true, "not due"),
    ] {
        assert_eq!(mark.is_pending(key), pending, "{key:?}: {why}");
    }
    assert!(Watermark::default().is_pending(key(1, 0)));
}

#[test]
fn what_fired_stays_so() {
    let mut timers = Timers::default();
    let first = mark(key(1000, 50), 80, 0);
    apply(&mut timers, fired(first, &[(2, 7), (2, 5), (0, 0)])).unwrap();
    assert_eq!((timers.delivered(2), timers.delivered(0), timers.delivered(1)), (8, 1, 0));
    let second = first.carried(PhysicalOffset::new(60));
    apply(&mut timers, Change::TimersCarried(TimersCarried { mark: second })).unwrap();
    assert_eq!(timers.mark(), second);
    for back in [first, mark(key(999, 99), 80, 60), mark(key(1000, 50), 79, 60)] {
        let error = FoldError::TimersBack { at: PhysicalOffset::new(64), known: second, found: back };
        assert_eq!(apply(&mut timers, fired(back, &[(2, 9)])), Err(error));
        assert_eq!((timers.mark(), timers.delivered(2)), (second, 8), "nothing has changed");
    }
}
