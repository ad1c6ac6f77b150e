//! Latencies, all of them: no bucket rounds a percentile.

use std::time::Duration;

/// Latencies in nanoseconds, in the order they were taken.
#[derive(Debug, Default)]
pub struct Samples(Vec<u32>);

impl Samples {
    /// Room for so many before memory has to grow, which would be measured.
    pub fn with_capacity(samples: usize) -> Self {
        Self(Vec::with_capacity(samples))
    }

    /// Takes one more. Longer than four seconds counts as that.
    pub fn push(&mut self, latency: Duration) {
        self.0.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Takes those of another.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Sorts them.
    pub fn percentiles(mut self) -> Percentiles {
        self.0.sort_unstable();
        Percentiles(self.0)
    }
}

/// Latencies in order of length.
#[derive(Debug)]
pub struct Percentiles(Vec<u32>);

impl Percentiles {
    /// Of several measurements as one.
    pub fn join(parts: impl IntoIterator<Item = Self>) -> Self {
        Samples(parts.into_iter().flat_map(|part| part.0).collect()).percentiles()
    }

    /// The latency, in microseconds, that this share of them does not exceed; not a number when there are none.
    pub fn at_us(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let index = rank.saturating_sub(1).min(self.0.len().saturating_sub(1));
        self.0.get(index).map_or(f64::NAN, |nanoseconds| f64::from(*nanoseconds) / 1e3)
    }
}

/// The middle of some values, and how far they reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of values, if there are any. Values that are no number are left out.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_sample() {
        let mut samples = Samples::default();
        (1..=100).rev().for_each(|us| samples.push(Duration::from_micros(us)));
        let percentiles = samples.percentiles();
        assert_eq!([0.5, 0.99, 1.0].map(|share| percentiles.at_us(share)), [50.0, 99.0, 100.0]);
        assert!(Samples::default().percentiles().at_us(0.5).is_nan());
        let halves = [100..=199, 1..=99].map(|half: std::ops::RangeInclusive<u64>| {
            let mut samples = Samples::default();
            half.for_each(|us| samples.push(Duration::from_micros(us)));
            samples.percentiles()
        });
        assert_eq!(Percentiles::join(halves).at_us(0.5), 100.0);
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(spread(&[f64::NAN]), None);
    }
}
