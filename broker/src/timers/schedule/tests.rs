use std::cell::Cell;

use super::*;

const LIMIT: usize = 8;
const FIRED: u64 = 10_000;

fn key(due: u64, at: u64) -> TimerKey {
    TimerKey { due, at: PhysicalOffset::new(at) }
}

/// A source of timers, ascending, that counts how often it is asked.
struct Source {
    timers: Vec<Timer>,
    asked: Cell<u64>,
}

impl Source {
    fn of(keys: impl Iterator<Item = TimerKey>) -> Self {
        let mut timers: Vec<Timer> = keys.map(|key| Timer { key, record_bytes: 100 }).collect();
        timers.sort_unstable();
        Self { timers, asked: Cell::new(0) }
    }

    fn behind(&self, after: TimerKey) -> Result<Vec<Timer>, SealedError> {
        self.asked.set(self.asked.get() + 1);
        let start = self.timers.partition_point(|timer| timer.key <= after);
        Ok(self.timers[start..].iter().take(LIMIT).copied().collect())
    }
}

/// A clock that was ahead let so many fire, one in each millisecond from 2000 on, and was set back to 1000. One was sent
/// since, for the time in the middle of theirs.
fn set_back() -> (Watermark, Source, Timer, PhysicalOffset) {
    let covered = PhysicalOffset::new(FIRED);
    let ahead = Watermark::default().fired(key(2000 + FIRED, 0), covered);
    let sent = key(2000 + FIRED / 2, FIRED);
    let source = Source::of((0..FIRED).map(|at| key(2000 + at, at)).chain([sent]));
    let sent = Timer { key: sent, record_bytes: 100 };
    (ahead.next_turn(1000).unwrap(), source, sent, covered.advance(1))
}

#[test]
fn a_look_asks_a_source_once_however_much_has_fired_ahead_of_the_clock() {
    let (mark, source, ..) = set_back();
    let applied = PhysicalOffset::new(FIRED + 1);
    let mut known = Known::nothing(&mark);
    for _ in 0..100 {
        known.read_on(&mark, applied, 1000, LIMIT, |after| source.behind(after)).unwrap();
        assert_eq!(
            (source.asked.get(), known.timers.len()),
            (1, 0),
            "nothing is due before the clock is there"
        );
    }
    assert_eq!(known.complete_to, key(2000 + LIMIT as u64 - 1, LIMIT as u64 - 1));
    known.read_on(&mark, applied, known.complete_to.due, LIMIT, |after| source.behind(after)).unwrap();
    assert_eq!(source.asked.get(), 2);
}

#[test]
fn what_waits_behind_what_has_fired_is_found_when_the_clock_is_there() {
    let (mark, source, sent, applied) = set_back();
    let (mut known, mut now_ms, mut looks) = (Known::nothing(&mark), 1000, 0);
    while known.timers.is_empty() {
        known.read_on(&mark, applied, now_ms, LIMIT, |after| source.behind(after)).unwrap();
        looks += 1;
        assert!(now_ms <= sent.key.due, "{now_ms}: nobody looked in time");
        now_ms = known.complete_to.due;
    }
    assert_eq!(known.timers, [sent]);
    assert!(looks <= 1 + FIRED / 2 / LIMIT as u64, "each of those before is passed once: {looks}");
}
