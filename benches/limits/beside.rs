//! Short windows of a contestant, each between two of what it is held against.
//!
//! A machine that others share is now fast, now slow, for seconds at a time, and a disk's cache goes the same ways. So
//! nothing is held against what was measured long before: the bare loops run right before and right after each window of a
//! contestant, which is kept open meanwhile, and a ratio is taken between neighbours.

use std::io;
use std::time::Duration;

use crate::support::load::{Outcome, Times};

/// How a contestant's time in a round is cut into windows.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// How many it gets.
    pub count: usize,
    /// One of them.
    pub contestant: Times,
    /// One of each bare loop in between.
    pub bare: Times,
}

impl Windows {
    /// For a contestant that is measured for `measured` in all.
    pub fn of(measured: Duration) -> Self {
        let each = measured / WINDOWS;
        let times = |measured: Duration| Times { warm: (measured / 4).max(WARM_MIN), measured };
        Self { count: WINDOWS as usize, contestant: times(each), bare: times(each / 2) }
    }

    /// For how long a contestant is at work in a round, warming up included.
    pub fn of_contestant(self) -> Duration {
        let Times { warm, measured } = self.contestant;
        (warm + measured) * WINDOWS + warm + WARM_MIN
    }
}

const WINDOWS: u32 = 3;
const WARM_MIN: Duration = Duration::from_millis(20);

/// The bare loops between two windows.
pub struct Bare {
    /// S, where there is a lone appender to be held against it.
    pub single: Option<Outcome>,
    /// B.
    pub bound: Outcome,
}

/// One window of a contestant, held against its neighbours.
#[derive(Clone, Copy, Debug)]
pub struct Ratios {
    /// Records a second, of B's.
    pub rate: f64,
    /// Processor time of a record, of B's.
    pub cpu: f64,
    /// Median latency, of S's.
    pub latency: Option<f64>,
}

/// What came of a contestant's windows in one round.
pub struct Turn {
    /// All of its windows as one.
    pub outcome: Outcome,
    /// Each of them.
    pub ratios: Vec<Ratios>,
    /// What ran in between.
    pub bare: Vec<Bare>,
}

/// Lets a contestant and the bare loops run in turn, the loops first and last. The contestant begins with a time that
/// does not count.
///
/// # Errors
/// When a bare loop fails.
pub fn take_turns(
    windows: Windows,
    mut bare: impl FnMut(Times) -> io::Result<Bare>,
    mut contestant: impl FnMut(Times) -> Outcome,
) -> io::Result<Turn> {
    contestant(Times { warm: windows.contestant.warm, measured: WARM_MIN });
    let mut between = vec![bare(windows.bare)?];
    let mut outcomes = Vec::new();
    let mut ratios = Vec::new();
    for _ in 0..windows.count {
        let outcome = contestant(windows.contestant);
        let after = bare(windows.bare)?;
        if let Some(before) = between.last() {
            ratios.push(Ratios::between(before, &outcome, &after));
        }
        between.push(after);
        outcomes.push(outcome);
    }
    Ok(Turn { outcome: Outcome::join(outcomes), ratios, bare: between })
}

impl Turn {
    /// A single window.
    pub fn between(before: Bare, outcome: Outcome, after: Bare) -> Self {
        let ratios = vec![Ratios::between(&before, &outcome, &after)];
        Self { outcome, ratios, bare: vec![before, after] }
    }
}

impl Ratios {
    fn between(before: &Bare, outcome: &Outcome, after: &Bare) -> Self {
        let mean = |of: fn(&Bare) -> f64| f64::midpoint(of(before), of(after));
        let latency = |bare: &Bare| bare.single.as_ref().map(|single| single.latencies.at_us(0.5));
        let single = latency(before).zip(latency(after)).map(|(before, after)| f64::midpoint(before, after));
        Self {
            rate: outcome.per_second() / mean(|bare| bare.bound.per_second()),
            cpu: outcome.cpu_us() / mean(|bare| bare.bound.cpu_us()),
            latency: single.map(|single| outcome.latencies.at_us(0.5) / single),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::samples::Samples;

    fn outcome(records: u64, latency_us: u64) -> Outcome {
        let mut samples = Samples::default();
        samples.push(Duration::from_micros(latency_us));
        let (elapsed, cpu) = (Duration::from_secs(1), Duration::from_micros(records * latency_us));
        Outcome { records, elapsed, cpu, latencies: samples.percentiles() }
    }

    #[test]
    fn a_window_is_held_against_its_neighbours() {
        // The machine doubles its speed on the way, for everybody.
        let mut speeds = [100, 100, 200, 200].into_iter();
        let bare = |_| {
            let speed = speeds.next().expect("there is one loop more than windows");
            Ok(Bare { single: Some(outcome(speed, 1000 / speed)), bound: outcome(speed, 1000 / speed) })
        };
        let mut own = [7, 50, 75, 100].into_iter();
        let contestant = |_| outcome(own.next().expect("one window does not count"), 10);
        let windows = Windows::of(Duration::from_secs(3));
        let turn = take_turns(windows, bare, contestant).expect("no loop fails");
        let rates: Vec<f64> = turn.ratios.iter().map(|ratios| ratios.rate).collect();
        assert_eq!(rates, [0.5, 0.5, 0.5]);
        let latencies: Vec<f64> = turn.ratios.iter().filter_map(|ratios| ratios.latency).collect();
        assert_eq!(latencies, [1.0, 10.0 / 7.5, 2.0]);
        assert_eq!(turn.outcome.records, 225);
    }
}
