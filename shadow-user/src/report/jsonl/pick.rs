//! Which exchanges are reported.

use shadow_engine::compare::Verdict;

/// Which verdicts are reported.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Only {
    /// Every one.
    #[default]
    All,
    /// Those of a shadow that behaved otherwise than production.
    Mismatch,
}

/// A share of all, from just above 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(f64);

impl Share {
    /// All.
    pub const WHOLE: Self = Self(1.0);

    /// None when it is no share, or none at all.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self(share))
    }
}

/// Picks exchanges, without chance: the same exchanges in the same order give the same report.
#[derive(Clone, Debug)]
pub struct Pick {
    only: Only,
    share: Share,
    seen: u64,
}

/// 2^64 divided by the golden ratio: its multiples fall as evenly as can be, and in step with no
/// rhythm of the traffic.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Pick {
    /// `share` of what `only` leaves.
    #[must_use]
    pub const fn new(only: Only, share: Share) -> Self {
        Self { only, share, seen: 0 }
    }

    /// Whether the next exchange is reported.
    pub fn take(&mut self, verdict: Verdict) -> bool {
        if self.only == Only::Mismatch && !verdict.is_mismatch() {
            return false;
        }
        let place = self.seen.wrapping_mul(STEP) as f64 / 2_f64.powi(64);
        self.seen = self.seen.wrapping_add(1);
        place < self.share.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pick: &mut Pick, verdicts: impl Iterator<Item = Verdict>) -> Vec<bool> {
        verdicts.map(|verdict| pick.take(verdict)).collect()
    }

    #[test]
    fn a_share_is_that_share_and_the_same_each_time() {
        for (share, expected) in [(0.01, 1_000_i64), (0.5, 50_000), (1.0, 100_000)] {
            let verdicts = || std::iter::repeat_n(Verdict::Match, 100_000);
            let pick = Pick::new(Only::All, Share::new(share).expect("a share"));
            let first = taken(&mut pick.clone(), verdicts());
            let count = first.iter().filter(|taken| **taken).count() as i64;
            assert!((count - expected).abs() <= 2, "{count} of {expected}");
            assert_eq!(first, taken(&mut pick.clone(), verdicts()));
        }
    }

    #[test]
    fn a_rhythm_in_the_traffic_is_not_followed() {
        let mut pick = Pick::new(Only::All, Share::new(0.01).expect("a share"));
        let all = taken(&mut pick, std::iter::repeat_n(Verdict::Match, 100_000));
        let hundredth = all.iter().step_by(100).filter(|taken| **taken).count();
        assert!((5..=20).contains(&hundredth), "{hundredth} of 1000, not all and not none");
    }

    #[test]
    fn only_mismatches_are_what_they_say() {
        let mut pick = Pick::new(Only::Mismatch, Share::WHOLE);
        let verdicts = [Verdict::Match, Verdict::Status, Verdict::Unpaired, Verdict::Missing];
        assert_eq!(taken(&mut pick, verdicts.into_iter()), [false, true, false, true]);
        assert!(Share::new(0.0).is_none() && Share::new(1.1).is_none());
    }
}
