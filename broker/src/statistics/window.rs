//! What a minute, an hour and a day remember of a few totals.

use std::collections::VecDeque;
use std::time::Duration;

/// A stretch of time up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// 60 to 70 seconds.
    Minute,
    /// 60 to 70 minutes.
    Hour,
    /// 24 to 25 hours.
    Day,
}

impl Window {
    /// All windows, shortest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// How often a sample is taken.
    const fn interval(self) -> Duration {
        match self {
            Self::Minute => super::SAMPLED_EVERY,
            Self::Hour => Duration::from_secs(600),
            Self::Day => Duration::from_secs(3600),
        }
    }

    /// How many are kept.
    const fn samples_max(self) -> usize {
        match self {
            Self::Minute | Self::Hour => 7,
            Self::Day => 25,
        }
    }
}

/// How some totals changed over a window, or since they began if that is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over<const N: usize> {
    /// The window's length; a second at least, so that the first moments make no absurd rates.
    pub elapsed: Duration,
    /// By how much each total grew.
    pub growth: [u64; N],
}

impl<const N: usize> Over<N> {
    /// Growth of one total per second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for display")]
    pub fn rate(&self, total: usize) -> f64 {
        self.growth[total] as f64 / self.elapsed.as_secs_f64()
    }

    /// Growth of one total for each growth of another by one; 0 if that has not grown.
    #[expect(clippy::cast_precision_loss, reason = "a mean for display")]
    pub fn mean(&self, total: usize, calls: usize) -> f64 {
        if self.growth[calls] == 0 { 0.0 } else { self.growth[total] as f64 / self.growth[calls] as f64 }
    }
}

/// Samples of totals that only grow.
#[derive(Debug)]
pub struct Series<const N: usize> {
    began: Duration,
    changed: Duration,
    latest: [u64; N],
    windows: [VecDeque<(Duration, [u64; N])>; 3],
}

impl<const N: usize> Series<N> {
    /// Totals that are zero now.
    pub fn new(now: Duration) -> Self {
        Self { began: now, changed: now, latest: [0; N], windows: [const { VecDeque::new() }; 3] }
    }

    /// Takes a sample for each window of which one is due.
    pub fn sample(&mut self, now: Duration, totals: [u64; N]) {
        if totals != self.latest {
            (self.latest, self.changed) = (totals, now);
        }
        for (window, samples) in Window::ALL.into_iter().zip(&mut self.windows) {
            let last = samples.back().map_or(self.began, |(at, _)| *at);
            if now < last + window.interval() {
                continue;
            }
            if samples.is_empty() {
                samples.push_back((self.began, [0; N]));
            }
            samples.push_back((now, totals));
            if samples.len() > window.samples_max() {
                samples.pop_front();
            }
        }
    }

    /// How the totals have changed over a window.
    pub fn over(&self, window: Window, now: Duration, totals: [u64; N]) -> Over<N> {
        let samples = &self.windows[window as usize];
        let (since, before) = samples.front().copied().unwrap_or((self.began, [0; N]));
        let mut growth = totals;
        growth.iter_mut().zip(before).for_each(|(total, before)| *total = total.saturating_sub(before));
        Over { elapsed: now.saturating_sub(since).max(Duration::from_secs(1)), growth }
    }

    /// Since when the totals have been what they are; `None` if they have changed since the latest sample.
    pub fn unchanged_since(&self, totals: [u64; N]) -> Option<Duration> {
        (totals == self.latest).then_some(self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_window_forgets_what_lies_before_it() {
        let mut series = Series::new(Duration::ZERO);
        let mut total = 0;
        let mut now = Duration::ZERO;
        // Three hours at one a second.
        while now < Duration::from_secs(3 * 3600) {
            now += super::super::SAMPLED_EVERY;
            total += 10;
            series.sample(now, [total]);
        }
        let growth = |window| series.over(window, now, [total]).growth[0];
        assert_eq!(Window::ALL.map(growth), [60, 3600, 3 * 3600]);
        let quiet = now + Duration::from_secs(3600);
        assert_eq!(series.unchanged_since([total]), Some(now));
        assert_eq!(series.unchanged_since([total + 1]), None);
        let over = series.over(Window::Minute, quiet, [total]);
        assert!(over.rate(0) < 0.1, "nothing came since: {over:?}");
    }

    #[test]
    fn the_first_moments_make_no_absurd_rates() {
        let series = Series::new(Duration::from_secs(5));
        let over = series.over(Window::Minute, Duration::from_millis(5001), [7]);
        assert_eq!((over.growth, over.rate(0)), ([7], 7.0));
    }
}
