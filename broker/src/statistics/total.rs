//! A total of the broker: its rates, and what it was in the mornings.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::window::{Over, Series, Window};

/// Windows of the three rates, in samples: 10 seconds, a minute, ten minutes.
const WINDOWS: [usize; 3] = [1, 6, 60];
const DAY_MS: u64 = 86_400_000;

/// Something that is counted, with its size.
#[derive(Debug)]
pub struct Counter {
    total: AtomicU64,
    bytes: AtomicU64,
    history: Mutex<History>,
}

#[derive(Debug)]
struct History {
    series: Series<1>,
    /// Time and total, newest last.
    samples: VecDeque<(Duration, u64)>,
    day: u64,
    this_morning: u64,
    yesterday_morning: u64,
}

impl Counter {
    /// A total of zero.
    pub(super) fn new(now: Duration) -> Self {
        let history = History {
            series: Series::new(now),
            samples: VecDeque::new(),
            day: 0,
            this_morning: 0,
            yesterday_morning: 0,
        };
        Self { total: AtomicU64::new(0), bytes: AtomicU64::new(0), history: Mutex::new(history) }
    }

    /// Counts `count` more, of so many bytes together.
    pub fn add(&self, count: u64, bytes: u64) {
        // Relaxed: figures for people, which order nothing.
        self.total.fetch_add(count, Ordering::Relaxed);
        if bytes > 0 {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Counted since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes since the start.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The total when this day (UTC) began, or counting did.
    pub fn at_this_morning(&self) -> u64 {
        self.history.lock().this_morning
    }

    /// The total when the day before began, or counting did.
    pub fn at_yesterday_morning(&self) -> u64 {
        self.history.lock().yesterday_morning
    }

    /// Mean rates per second over ten seconds, a minute and ten minutes, or since the start if that is later.
    pub fn rates(&self) -> [f64; 3] {
        let history = self.history.lock();
        WINDOWS.map(|samples| {
            let newest = history.samples.back();
            let oldest = history.samples.iter().rev().nth(samples).or(history.samples.front());
            match (oldest, newest) {
                #[expect(clippy::cast_precision_loss, reason = "a rate for display")]
                (Some((began, from)), Some((ended, to))) if ended > began => {
                    (to - from) as f64 / (*ended - *began).as_secs_f64()
                }
                _ => 0.0,
            }
        })
    }

    /// How the total grew over a window.
    pub fn over(&self, window: Window, now: Duration) -> Over<1> {
        self.history.lock().series.over(window, now, [self.total()])
    }

    /// Takes a sample; `wall_ms` tells days apart.
    pub(super) fn sample(&self, now: Duration, wall_ms: u64) {
        let total = self.total();
        let mut history = self.history.lock();
        history.series.sample(now, [total]);
        history.samples.push_back((now, total));
        if history.samples.len() > WINDOWS[2] + 1 {
            history.samples.pop_front();
        }
        if history.day != wall_ms / DAY_MS {
            history.day = wall_ms / DAY_MS;
            history.yesterday_morning = history.this_morning;
            history.this_morning = total;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_means_over_their_window() {
        let counter = Counter::new(Duration::ZERO);
        counter.sample(Duration::ZERO, 0);
        for second in 1..=60 {
            counter.add(if second > 50 { 100 } else { 10 }, 0);
            if second % 10 == 0 {
                counter.sample(Duration::from_secs(second), 0);
            }
        }
        assert_eq!(counter.rates(), [100.0, 25.0, 25.0]);
    }

    #[test]
    fn mornings_are_remembered_for_two_days() {
        let counter = Counter::new(Duration::ZERO);
        counter.add(5, 50);
        counter.sample(Duration::ZERO, DAY_MS);
        counter.add(2, 20);
        counter.sample(Duration::from_secs(86_400), 2 * DAY_MS);
        assert_eq!((counter.at_yesterday_morning(), counter.at_this_morning()), (5, 7));
        assert_eq!((counter.total(), counter.bytes()), (7, 70));
    }
}
