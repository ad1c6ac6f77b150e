use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::folds::fold::SnapshotError;

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
    let bytes = 100 * fired.len() as u64;
    let fired = fired.iter().map(|&(level, queue_offset)| FiredTimer { at: 0, level, queue_offset });
    Change::TimersFired(TimersFired { mark, fired: fired.collect(), bytes })
}

fn waiting(messages: u64, bytes: u64) -> Change<'static> {
    Change::Waiting(Pending { messages, bytes })
}

fn recalled(timers: &[(u64, u64)]) -> Change<'static> {
    let (topic, unique_key) = ("orders".to_owned(), "U".to_owned());
    let bytes = 100 * timers.len() as u64;
    Change::TimersRecalled(TimersRecalled { topic, unique_key, timers: timers.to_vec(), bytes })
}

#[test]
fn fired_carried_and_recalled_timers_have_these_bytes() {
    let fired = TimersFired {
        mark: mark(key(300, 5), 6, 1),
        fired: vec![FiredTimer { at: 5, level: 2, queue_offset: 200 }],
        bytes: 300,
    };
    #[rustfmt::skip]
    let bytes = [
        3,                  // version
        0xac, 0x02, 5,      // through: due at 300, at position 5
        6, 1, 0,            // covered, floor, no earlier turn
        1,                  // one timer
        5, 2, 0xc8, 0x01,   // from position 5, level 2, offset 200
        0xac, 0x02,         // of 300 bytes
    ];
    assert_eq!(fired.encode(), bytes);
    assert_eq!(Change::decode(kinds::TIMERS_FIRED, &bytes), Ok(Change::TimersFired(fired)));

    let turn = mark(key(300, 5), 6, 1).next_turn(3).unwrap().fired(key(4, 7), PhysicalOffset::new(8));
    let fired = TimersFired { mark: turn, fired: Vec::new(), bytes: 0 };
    let bytes = [
        3, 4, 7, 8, 1, // version, through, covered, floor
        1, 0xac, 0x02, 5, 6, // an earlier turn: through, covered
        0, 0, // nothing fired
    ];
    assert_eq!(fired.encode(), bytes);
    assert_eq!(Change::decode(kinds::TIMERS_FIRED, &bytes), Ok(Change::TimersFired(fired)));

    let carried = TimersCarried { mark: mark(key(300, 5), 6, 9), messages: 3, bytes: 300 };
    let bytes = [3, 0xac, 0x02, 5, 6, 9, 0, 3, 0xac, 0x02];
    assert_eq!(carried.encode(), bytes);
    assert_eq!(Change::decode(kinds::TIMERS_CARRIED, &bytes), Ok(Change::TimersCarried(carried)));

    let recalled = TimersRecalled {
        topic: "t".to_owned(),
        unique_key: "U1".to_owned(),
        timers: vec![(300, 5)],
        bytes: 300,
    };
    let bytes = [1, 1, b't', 2, b'U', b'1', 1, 0xac, 0x02, 5, 0xac, 0x02];
    assert_eq!(recalled.encode(), bytes);
    assert_eq!(Change::decode(kinds::TIMERS_RECALLED, &bytes), Ok(Change::TimersRecalled(recalled)));
}

#[test]
fn a_snapshot_has_these_bytes_and_another_version_is_refused() {
    let mut timers = Timers::default();
    apply(&mut timers, waiting(3, 300)).unwrap();
    apply(&mut timers, recalled(&[(5000, 60)])).unwrap();
    apply(&mut timers, fired(mark(key(300, 5), 6, 1), &[(2, 7)])).unwrap();
    #[rustfmt::skip]
    let bytes = [
        1,                       // version
        0xac, 0x02, 5, 6, 1, 0,  // through, covered, floor, no earlier turn
        1, 2, 8,                 // of level 2 all below 8
        1, 100,                  // what waits, and its bytes
        1, 0x88, 0x27, 60,       // recalled
    ];
    assert_eq!(timers.snapshot(), bytes);
    assert_eq!(Timers::restore(&bytes), Ok(timers));
    for found in [0, 2, 0xac] {
        let refused = Timers::restore(&[&[found], &bytes[1..]].concat());
        assert_eq!(refused, Err(SnapshotError::Version { found, known: 1 }));
    }
    assert_eq!(Timers::restore(&[]), Err(SnapshotError::Version { found: 0, known: 1 }));
    assert!(matches!(Timers::restore(&bytes[..5]), Err(SnapshotError::Malformed(_))));
}

#[test]
fn what_waits_is_counted() {
    let mut timers = Timers::default();
    let pending = |timers: &Timers| (timers.pending().messages, timers.pending().bytes);
    apply(&mut timers, waiting(1, 100)).unwrap();
    apply(&mut timers, waiting(2, 200)).unwrap();
    assert_eq!(pending(&timers), (3, 300));
    apply(&mut timers, fired(mark(key(1000, 50), 80, 0), &[(0, 7)])).unwrap();
    assert_eq!((pending(&timers), timers.delivered(0)), ((2, 200), 0), "a time is no level");
    apply(&mut timers, recalled(&[(5000, 60)])).unwrap();
    assert_eq!(pending(&timers), (1, 100));
    let mark = mark(key(1000, 50), 80, 90);
    apply(&mut timers, Change::TimersCarried(TimersCarried { mark, messages: 1, bytes: 100 })).unwrap();
    assert_eq!(pending(&timers), (0, 0));
    apply(&mut timers, waiting(1, 100)).unwrap();
    assert_eq!(pending(&timers), (1, 100), "the copy counts");
}

#[test]
fn recalled_timers_are_known_until_their_time_has_passed() {
    let mut timers = Timers::default();
    apply(&mut timers, recalled(&[(900, 30), (900, 85), (1000, 50), (1000, 51), (5000, 10)])).unwrap();
    assert!(timers.is_recalled(key(900, 30)) && !timers.is_recalled(key(900, 31)));
    apply(&mut timers, fired(mark(key(1000, 50), 80, 0), &[])).unwrap();
    let known = [(900, 30), (900, 85), (1000, 50), (1000, 51), (5000, 10)]
        .map(|(due, at)| timers.is_recalled(key(due, at)));
    assert_eq!(known, [false, true, false, true, true], "of those in their turn, and the late one");
    apply(&mut timers, fired(mark(key(5000, 10), 90, 0), &[])).unwrap();
    assert_eq!(timers.recalled(), 0);
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
    apply(&mut timers, fired(first.clone(), &[(2, 7), (2, 5), (1, 0)])).unwrap();
    assert_eq!((timers.delivered(2), timers.delivered(1), timers.delivered(3)), (8, 1, 0));
    let second = first.clone().carried(PhysicalOffset::new(60));
    apply(&mut timers, Change::TimersCarried(TimersCarried { mark: second.clone(), messages: 0, bytes: 0 }))
        .unwrap();
    assert_eq!(timers.mark(), second);
    for back in [first, mark(key(999, 99), 80, 60), mark(key(1000, 50), 79, 60)] {
        let error =
            FoldError::TimersBack { at: PhysicalOffset::new(64), known: second.clone(), found: back.clone() };
        assert_eq!(apply(&mut timers, fired(back, &[(2, 9)])), Err(error));
        assert_eq!((timers.mark(), timers.delivered(2)), (second.clone(), 8), "nothing has changed");
    }
}

/// A clock was ahead at 9000 and set back to 1000, and then to 500.
fn turns() -> Watermark {
    let ahead = mark(key(9000, 40), 80, 20);
    let back = ahead.next_turn(1000).unwrap().fired(key(1200, 90), PhysicalOffset::new(120));
    back.next_turn(500).unwrap().fired(key(600, 130), PhysicalOffset::new(140))
}

#[test]
fn each_turn_tells_what_has_fired_where_it_was() {
    let turns = turns();
    for (key, pending, why) in [
        (key(9000, 30), false, "in the first turn"),
        (key(9001, 30), true, "behind the first turn"),
        (key(1200, 85), false, "in the second turn"),
        (key(1201, 85), true, "behind the second turn"),
        (key(600, 125), false, "in the third turn"),
        (key(601, 125), true, "behind the third turn"),
        (key(1, 140), true, "late"),
        (key(1, 10), false, "below the floor"),
    ] {
        assert_eq!(turns.is_pending(key), pending, "{key:?}: {why}");
    }
    let caught_up = turns.clone().fired(key(1200, 90), PhysicalOffset::new(150));
    assert_eq!(caught_up.earlier.len(), 1, "the second turn and the third are one");
    assert_eq!(caught_up.fired(key(9000, 40), PhysicalOffset::new(150)), mark(key(9000, 40), 150, 20));
    let trimmed = turns.carried(PhysicalOffset::new(120));
    assert_eq!((trimmed.earlier.len(), trimmed.is_pending(key(601, 125))), (0, true));
}

#[test]
fn another_turn_changes_nothing_but_what_is_late() {
    let ahead = mark(key(9000, 40), 80, 20);
    assert_eq!(
        ahead.clone().next_turn(9000),
        Err(NoTurn::Needless),
        "nothing was due before that is not now"
    );
    let turn = ahead.clone().next_turn(1000).unwrap();
    assert!(ahead.precedes(&turn) && turn.precedes(&ahead), "by both the same timers have fired");
    assert_eq!(turn.clone().next_turn(500).unwrap().earlier.len(), 1, "nothing has fired in it");
    let mut known = mark(key(u64::MAX, 0), 1, 0);
    for turn in 1..=TURNS_MAX as u64 {
        let now_ms = 1000 - turn;
        let through = TimerKey { due: now_ms, at: PhysicalOffset::new(u64::MAX) };
        known = known.next_turn(now_ms).unwrap().fired(through, PhysicalOffset::new(1 + turn));
    }
    assert_eq!(known.next_turn(1), Err(NoTurn::TooMany));
}

#[test]
fn turns_whose_segments_are_gone_do_not_count() {
    let turns = turns();
    let left = turns.clone().trimmed(PhysicalOffset::new(100));
    assert_eq!((turns.earlier_turns(), left.earlier_turns()), (2, 1), "of the first one nothing is left");
    assert!(turns.precedes(&left), "a record may say so");
    for key in [key(1200, 100), key(1201, 119), key(600, 125), key(601, 125), key(1, 140)] {
        assert_eq!(left.is_pending(key), turns.is_pending(key), "{key:?}");
    }
    assert_eq!(left.clone().trimmed(PhysicalOffset::new(64)), left, "the log does not begin earlier again");
}

#[test]
fn all_turns_take_no_more_than_units_have_room_for() {
    let (start_ms, far) = (4_000_000_000_000, u64::MAX / 2);
    let bytes = |mark: &Watermark| postcard::to_allocvec(mark).unwrap().len() as u64;
    let mut known = mark(TimerKey { due: start_ms, at: PhysicalOffset::new(u64::MAX) }, far, 0);
    let one = bytes(&known);
    while let Ok(turn) = known.clone().next_turn(start_ms - 1 - known.earlier.len() as u64) {
        let through = turn.through();
        known = turn.fired(through, PhysicalOffset::new(far + known.earlier.len() as u64 + 1));
    }
    assert_eq!(known.earlier.len(), TURNS_MAX);
    // The count has a byte in any case.
    assert!(bytes(&known) <= one + TURNS_BYTES_MAX, "{} beside {one}", bytes(&known));
}

#[test]
fn what_fired_in_an_earlier_turn_stays_so() {
    let at = PhysicalOffset::new;
    let (known, later) = (turns(), turns().fired(key(1100, 141), at(160)));
    assert!(known.precedes(&known) && known.precedes(&later) && !later.precedes(&known));
    let first = mark(key(9000, 40), 80, 20);
    let forgotten = mark(key(600, 130), 140, 20);
    let shorter = first.clone().next_turn(700).unwrap().fired(key(800, 90), at(140));
    for back in [first, forgotten, shorter] {
        assert!(!known.precedes(&back), "{back:?}");
    }
    let mut ascending = known.clone();
    ascending.earlier.reverse();
    assert!(!known.precedes(&ascending));
}

/// What an engine does, in units of its own.
#[derive(Clone, Debug)]
enum Step {
    /// Timers that are due so long after the clock are sent.
    Send(Vec<u64>),
    /// The clock goes on, or is set back.
    Clock(i64),
    /// At most so many fire.
    Fire(usize),
    /// At most so many that wait in the first so many parts of a hundred of the log are appended again, and what is before
    /// them goes.
    Trim(u64, usize),
    /// What the engine has not put into a record is forgotten.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(1..100_u64, 1..6).prop_map(Step::Send),
        2 => (-150..150_i64).prop_map(Step::Clock),
        4 => (1..5_usize).prop_map(Step::Fire),
        1 => (0..100_u64, 1..5_usize).prop_map(|(part, count)| Step::Trim(part, count)),
        1 => Just(Step::Restart),
    ]
}

/// Every timer by itself, and the mark that tells the same in a few numbers.
#[derive(Default)]
struct Model {
    /// Those that are left, and whether each waits.
    timers: BTreeMap<TimerKey, bool>,
    mark: Watermark,
    /// The mark as the last record has it.
    recorded: Watermark,
    now_ms: u64,
    end: u64,
}

impl Model {
    fn waiting(&self, places: Range<u64>) -> Vec<TimerKey> {
        let waits = self.timers.iter().filter(|(_, waits)| **waits).map(|(key, _)| *key);
        waits.filter(|key| places.contains(&key.at.get())).collect()
    }

    fn send(&mut self, due: u64) {
        self.timers.insert(key(due, self.end), true);
        self.end += 1;
    }

    /// A record with this mark.
    fn record(&mut self, mark: Watermark) {
        assert!(self.recorded.precedes(&mark), "{:?} is followed by {mark:?}", self.recorded);
        (self.mark, self.recorded) = (mark.clone(), mark);
    }

    /// As the engine does it.
    fn fire(&mut self, count: usize) {
        let (covered, end) = (self.mark.covered().get(), PhysicalOffset::new(self.end));
        let mut late = self.waiting(covered..self.end);
        late.retain(|key| *key <= self.mark.through());
        late.sort_unstable_by_key(|key| key.at);
        if late.first().is_some_and(|first| first.due > self.now_ms)
            && let Ok(mark) = self.mark.clone().next_turn(self.now_ms)
        {
            self.mark = mark;
            return;
        }
        let are_late = !late.is_empty();
        let next = if are_late { late } else { self.waiting(0..self.end) };
        let due: Vec<_> = next.into_iter().take_while(|key| key.due <= self.now_ms).take(count).collect();
        let (mark, through) = (self.mark.clone(), self.mark.through());
        let Some(last) = due.last().copied() else {
            // What the clock has come to has fired, all of it.
            let passed =
                self.timers.keys().rfind(|key| !are_late && **key > through && key.due <= self.now_ms);
            self.mark = passed.map_or(mark.clone(), |passed| mark.fired(*passed, end));
            return;
        };
        self.record(if are_late { mark.fired(through, last.at.advance(1)) } else { mark.fired(last, end) });
        due.iter().for_each(|key| *self.timers.get_mut(key).unwrap() = false);
    }

    fn trim(&mut self, part: u64, count: usize) {
        let below = self.end * part / 100;
        let mut waiting = self.waiting(0..below);
        waiting.sort_unstable_by_key(|key| key.at);
        let is_all = waiting.len() <= count;
        waiting.truncate(count);
        if let Some(last) = waiting.last() {
            self.record(self.mark.clone().carried(last.at.advance(1)));
        }
        for old in waiting {
            self.timers.remove(&old);
            self.send(old.due);
        }
        if is_all {
            self.timers.retain(|key, _| key.at.get() >= below);
            self.mark = self.mark.clone().trimmed(PhysicalOffset::new(below));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mark_with_turns_tells_of_every_timer_whether_it_has_fired(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut model = Model { now_ms: 1000, ..Model::default() };
        for step in steps {
            match &step {
                Step::Send(delays) => delays.iter().for_each(|delay| model.send(model.now_ms + delay)),
                Step::Clock(by) => model.now_ms = model.now_ms.saturating_add_signed(*by),
                Step::Fire(count) => model.fire(*count),
                Step::Trim(part, count) => model.trim(*part, *count),
                Step::Restart => model.mark = model.recorded.clone(),
            }
            for (key, waits) in &model.timers {
                prop_assert_eq!(model.mark.is_pending(*key), *waits, "{:?} after {:?}", key, step);
            }
        }
    }
}
