//! How many messages come and go: counters, and the rates the tools show.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Samples are taken this often, in milliseconds.
const SAMPLE_MS: u64 = 10_000;
/// Windows of the three rates, in samples: 10 seconds, a minute, ten minutes.
const WINDOWS: [usize; 3] = [1, 6, 60];
const DAY_MS: u64 = 86_400_000;

/// The broker's counters.
#[derive(Debug)]
pub struct Rates {
    /// When counting began, in milliseconds since 1970.
    pub started_ms: u64,
    /// Messages stored.
    pub puts: Counter,
    /// Messages handed out.
    pub gets: Counter,
}

/// Something that is counted, with its size.
#[derive(Debug, Default)]
pub struct Counter {
    total: AtomicU64,
    bytes: AtomicU64,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct History {
    /// Time and total, newest last.
    samples: VecDeque<(u64, u64)>,
    day: u64,
    this_morning: u64,
    yesterday_morning: u64,
}

impl Rates {
    /// Counters at zero.
    pub fn new(now_ms: u64) -> Self {
        let rates = Self { started_ms: now_ms, puts: Counter::default(), gets: Counter::default() };
        rates.sample(now_ms);
        rates
    }

    /// Takes a sample, if one is due.
    pub fn sample(&self, now_ms: u64) {
        self.puts.sample(now_ms);
        self.gets.sample(now_ms);
    }
}

impl Counter {
    /// Counts `count` more, of so many bytes together.
    pub fn add(&self, count: u64, bytes: u64) {
        // Relaxed: figures for people, which order nothing.
        self.total.fetch_add(count, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
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
                (Some((from_ms, from)), Some((to_ms, to))) if to_ms > from_ms => {
                    (to - from) as f64 * 1000.0 / (to_ms - from_ms) as f64
                }
                _ => 0.0,
            }
        })
    }

    fn sample(&self, now_ms: u64) {
        let total = self.total();
        let mut history = self.history.lock();
        let due = history.samples.back().is_none_or(|(last, _)| now_ms >= last + SAMPLE_MS);
        if !due {
            return;
        }
        history.samples.push_back((now_ms, total));
        if history.samples.len() > WINDOWS[2] + 1 {
            history.samples.pop_front();
        }
        if history.day != now_ms / DAY_MS {
            history.day = now_ms / DAY_MS;
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
        let rates = Rates::new(0);
        for second in 1..=60 {
            rates.puts.add(if second > 50 { 100 } else { 10 }, 0);
            rates.sample(second * 1000);
        }
        assert_eq!(rates.puts.rates(), [100.0, 25.0, 25.0]);
    }

    #[test]
    fn mornings_are_remembered_for_two_days() {
        let rates = Rates::new(0);
        rates.gets.add(5, 50);
        rates.sample(DAY_MS);
        rates.gets.add(2, 20);
        rates.sample(2 * DAY_MS);
        assert_eq!((rates.gets.at_yesterday_morning(), rates.gets.at_this_morning()), (5, 7));
        assert_eq!((rates.gets.total(), rates.gets.bytes()), (7, 70));
    }
}
