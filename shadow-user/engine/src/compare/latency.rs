//! How long answers took.

use hdrhistogram::Histogram;

use crate::time::Duration;

/// Longer times count as this long, in microseconds: an hour.
const MAX_MICROS: u64 = 3_600_000_000;

/// The distribution of one leg's times.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u32>);

impl Latency {
    /// Empty. Times are told apart by two digits in an endpoint's distribution, and by three in the
    /// run's.
    pub(super) fn new(digits: u8) -> Self {
        let mut histogram = Histogram::new(digits)
            .unwrap_or_else(|_| unreachable!("two and three digits are within the crate's range"));
        histogram.auto(true);
        Self(histogram)
    }

    pub(super) fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(MAX_MICROS).clamp(1, MAX_MICROS);
        // It grows, so that no value is beyond it.
        let _ = self.0.record(micros);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        // The one error is a value beyond a histogram that must not grow.
        let _ = self.0.add(&other.0);
    }

    /// Times recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that a share of all answers (0 to 1) took at most; zero when there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(share))
    }

    /// The mean; zero when there is none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e6)
    }

    /// The longest; zero when there is none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    /// Every time that was recorded, as far as times are told apart, with its count; in order.
    pub fn recorded(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.0.iter_recorded().map(|step| {
            (Duration::from_micros(step.value_iterated_to()), step.count_since_last_iteration())
        })
    }

    /// How many took at most so long.
    #[must_use]
    pub fn up_to(&self, time: Duration) -> u64 {
        let micros = u64::try_from(time.as_micros()).unwrap_or(MAX_MICROS).min(MAX_MICROS);
        self.0.count_between(0, micros)
    }
}
