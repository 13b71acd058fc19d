//! How long captured packets waited before the engine took them.

use std::time::Duration;

/// Upper bounds of the buckets, microseconds; beyond the last there is one more.
pub const BOUNDS_MICROS: [u64; 14] = [
    20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000,
];

/// A histogram of waiting times.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lag {
    counts: [u64; BOUNDS_MICROS.len() + 1],
    sum: Duration,
    max: Duration,
}

impl Lag {
    /// Counts one packet.
    pub fn add(&mut self, lag: Duration) {
        let micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.counts[bucket] += 1;
        self.sum += lag;
        self.max = self.max.max(lag);
    }

    /// The longest wait.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// The sum of all waits.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// How many packets were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bucket's upper bound in seconds with its own count; the last bound is infinite.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_MICROS.iter().map(|bound| *bound as f64 / 1e6);
        bounds.chain([f64::MAX]).zip(self.counts).collect()
    }

    /// A wait that `share` (0 to 1) of the packets did not exceed: the bucket's bound, but
    /// never more than the maximum.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut passed = 0;
        for (bound, count) in BOUNDS_MICROS.iter().zip(self.counts) {
            passed += count;
            if passed >= wanted {
                return Duration::from_micros(*bound).min(self.max);
            }
        }
        self.max
    }

    /// What was counted after `earlier`, with the maximum of all.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (count, before) in difference.counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        difference.sum = self.sum.saturating_sub(earlier.sum);
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_of_buckets() {
        let mut lag = Lag::default();
        assert_eq!(lag.quantile(0.99), Duration::ZERO);
        for micros in [10, 20, 150, 150, 180, 190, 195, 199, 200, 2_500_000] {
            lag.add(Duration::from_micros(micros));
        }
        assert_eq!(lag.count(), 10);
        assert_eq!(lag.quantile(0.2), Duration::from_micros(20));
        assert_eq!(lag.quantile(0.5), Duration::from_micros(200));
        assert_eq!(lag.quantile(0.9), Duration::from_micros(200));
        assert_eq!(lag.quantile(1.0), Duration::from_micros(2_500_000));
        assert_eq!(lag.buckets().last().map(|(_, count)| *count), Some(1));
        let earlier = lag.clone();
        lag.add(Duration::from_micros(1));
        assert_eq!(lag.since(&earlier).count(), 1);
    }
}
