//! How long messages took from the log's taking them to their being durable.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Four buckets for each doubling, from a microsecond to ten hours.
const BUCKETS: usize = 140;
/// RocketMQ's coarse buckets: their ends in milliseconds, exclusive, and their names.
const COARSE: [(u64, &str); 13] = [
    (1, "[<=0ms]"),
    (10, "[0~10ms]"),
    (50, "[10~50ms]"),
    (100, "[50~100ms]"),
    (200, "[100~200ms]"),
    (500, "[200~500ms]"),
    (1000, "[500ms~1s]"),
    (2000, "[1~2s]"),
    (3000, "[2~3s]"),
    (4000, "[3~4s]"),
    (5000, "[4~5s]"),
    (10_000, "[5~10s]"),
    (u64::MAX, "[10s~]"),
];

/// Durations, each rounded down by less than a quarter. They are counted since the start.
#[derive(Debug)]
pub struct Latencies {
    buckets: [AtomicU64; BUCKETS],
    max_us: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], max_us: AtomicU64::new(0) }
    }
}

impl Latencies {
    /// Counts one more.
    pub fn add(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // Relaxed: figures for people, which order nothing.
        self.buckets[bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.max_us.fetch_max(us, Ordering::Relaxed);
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> u64 {
        self.max_us.load(Ordering::Relaxed) / 1000
    }

    /// The duration in milliseconds that a share of them, from 0 to 1, did not exceed; 0 if there are none.
    #[expect(clippy::cast_precision_loss, reason = "a figure for display")]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let counts = self.counts();
        let total: u64 = counts.iter().sum();
        let mut seen = 0;
        let found = counts.iter().position(|count| {
            seen += count;
            *count > 0 && seen as f64 >= total as f64 * share
        });
        found.map_or(0.0, |bucket| start_us(bucket) as f64 / 1000.0)
    }

    /// How many fell into each of RocketMQ's buckets, as RocketMQ writes it.
    pub fn distribution(&self) -> String {
        let mut coarse = [0; COARSE.len()];
        for (at, count) in self.counts().into_iter().enumerate() {
            let ms = start_us(at) / 1000;
            let of = COARSE.iter().position(|(end, _)| ms < *end).expect("the last bucket has no end");
            coarse[of] += count;
        }
        let mut text = String::new();
        for ((_, name), count) in COARSE.iter().zip(coarse) {
            write!(text, "{name}:{count} ").expect("writing to memory does not fail");
        }
        text
    }

    fn counts(&self) -> [u64; BUCKETS] {
        self.buckets.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// The bucket of a duration.
fn bucket(us: u64) -> usize {
    if us < 4 {
        return usize::try_from(us).expect("below four");
    }
    let doubling = us.ilog2();
    let quarter = (us >> (doubling - 2)) & 3;
    (4 * (doubling as usize - 1) + usize::try_from(quarter).expect("below four")).min(BUCKETS - 1)
}

/// The shortest duration of a bucket.
fn start_us(bucket: usize) -> u64 {
    let (doubling, quarter) = (bucket / 4, bucket as u64 % 4);
    if doubling == 0 { quarter } else { (4 + quarter) << (doubling - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_meet_without_gaps_or_overlaps() {
        for at in 0..BUCKETS {
            assert_eq!(bucket(start_us(at)), at);
            if at > 0 {
                assert_eq!(bucket(start_us(at) - 1), at - 1);
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn shares_and_the_longest_are_told() {
        let latencies = Latencies::default();
        assert_eq!((latencies.quantile_ms(0.99), latencies.max_ms()), (0.0, 0));
        for _ in 0..99 {
            latencies.add(Duration::from_micros(100));
        }
        latencies.add(Duration::from_millis(70));
        assert!(latencies.quantile_ms(0.99) <= 0.1 && latencies.quantile_ms(0.999) > 50.0);
        assert_eq!(latencies.max_ms(), 70);
        let text = latencies.distribution();
        assert!(text.starts_with("[<=0ms]:99 [0~10ms]:0 [10~50ms]:0 [50~100ms]:1 "), "{text}");
        assert!(text.ends_with("[10s~]:0 "), "{text}");
    }
}
