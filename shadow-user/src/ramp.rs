//! A sample that grows from next to nothing to its share.

use std::time::Duration;

use shadow_engine::time::Instant;

use crate::choice::Sample;

/// Shares on the way: as fine as anybody will notice.
const STEPS: u32 = 1_000;

/// The shortest time between two of them.
const SHORTEST_STEP: Duration = Duration::from_millis(50);

/// A sample on its way.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    began: Instant,
    lasts: Duration,
    to: Sample,
    next: Instant,
}

impl Ramp {
    /// Begins `now`, and is at `to` when it has lasted so long.
    #[must_use]
    pub const fn new(to: Sample, lasts: Duration, now: Instant) -> Self {
        Self { began: now, lasts, to, next: now }
    }

    /// Where it goes.
    #[must_use]
    pub const fn to(&self) -> Sample {
        self.to
    }

    /// When [`Self::share`] is worth a look.
    #[must_use]
    pub const fn due(&self) -> Instant {
        self.next
    }

    /// The share that is due `now`, and the time of the next one set.
    pub fn share(&mut self, now: Instant) -> Sample {
        self.next = now + (self.lasts / STEPS).max(SHORTEST_STEP);
        self.to.part(now.since(self.began).div_duration_f64(self.lasts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_grows_evenly_from_next_to_nothing_to_its_share() {
        let at = |seconds: u64| Instant::from_nanos((100 + seconds) * 1_000_000_000);
        let to = Sample::parse("10%").expect("a share");
        let mut ramp = Ramp::new(to, Duration::from_secs(600), at(0));
        for (seconds, share) in
            [(0, "0.0000001%"), (1, "0.0166666%"), (60, "1%"), (300, "5%"), (599, "9.9833333%")]
        {
            assert_eq!(ramp.share(at(seconds)).to_string(), share, "{seconds} s");
            assert_eq!(ramp.due().since(at(seconds)), Duration::from_millis(600));
        }
        for seconds in [600, 601, 1_000_000] {
            assert_eq!(ramp.share(at(seconds)), to);
        }
        let mut short = Ramp::new(Sample::WHOLE, Duration::from_nanos(1), at(0));
        assert_eq!(short.share(at(1)), Sample::WHOLE);
        assert_eq!(short.due().since(at(1)), SHORTEST_STEP);
    }
}
