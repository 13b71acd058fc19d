//! What differs between two servers of one version, and says nothing about the shadow.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Kind;
use super::rules::RuleError;

/// From when on a field that differs is more than noise (Diffy's rule): when it differs more often
/// from the shadow than between two servers of production's version, and the difference of the two
/// counts is above a share of their sum, and above a share of all exchanges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Of the sum of both counts.
    pub relative: f64,
    /// Of all exchanges.
    pub absolute: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { relative: 0.20, absolute: 0.000_3 }
    }
}

impl Thresholds {
    /// Reads `20%,0.03%`: the share of the sum of both counts, and that of all exchanges.
    ///
    /// # Errors
    ///
    /// It is not two shares.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let share = |part: &str| -> Option<f64> {
            let percent: f64 = part.trim().strip_suffix('%')?.trim().parse().ok()?;
            (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
        };
        text.split_once(',')
            .and_then(|(relative, absolute)| {
                Some(Self { relative: share(relative)?, absolute: share(absolute)? })
            })
            .ok_or_else(|| {
                RuleError::new(
                    "--noise-threshold",
                    text,
                    "not two shares",
                    "write two of 0% to 100%, such as 20%,0.03%",
                )
            })
    }

    /// Whether a field that differs in `raw` of `total` exchanges is shown, given that it differs in
    /// `noise` of as many between servers of production's version.
    #[must_use]
    pub fn shows(&self, raw: u64, noise: u64, total: u64) -> bool {
        if raw <= noise || total == 0 {
            return false;
        }
        let above = (raw - noise) as f64;
        above / (raw + noise) as f64 > self.relative && above / total as f64 > self.absolute
    }
}

/// The fields that differ by chance, by endpoint: their differences are reported and do not count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Noise {
    endpoints: BTreeMap<Arc<str>, NoisyFields>,
}

/// One endpoint's noisy fields: by path, a bit for each kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct NoisyFields(BTreeMap<Arc<str>, u8>);

impl NoisyFields {
    /// Whether a difference of this field is noise.
    pub fn contains(&self, path: &str, kind: Kind) -> bool {
        self.0.get(path).is_some_and(|kinds| kinds & bit(kind) != 0)
    }
}

const fn bit(kind: Kind) -> u8 {
    1 << kind as u8
}

impl Noise {
    /// Whether a field's differences may be noise at all: never a field that is missing, extra or
    /// of another type, an array's length, or a root value (`status`, `body`).
    #[must_use]
    pub fn may_be(path: &str, kind: Kind) -> bool {
        matches!(kind, Kind::Primitive | Kind::Order)
            && !matches!(path, "status" | "header" | "body")
    }

    /// Takes a field's differences for noise from now on; one that may never be is left out.
    pub fn insert(&mut self, endpoint: &Arc<str>, path: &Arc<str>, kind: Kind) {
        if Self::may_be(path, kind) {
            let fields = self.endpoints.entry(Arc::clone(endpoint)).or_default();
            *fields.0.entry(Arc::clone(path)).or_default() |= bit(kind);
        }
    }

    /// Whether a field's differences are noise.
    #[must_use]
    pub fn contains(&self, endpoint: &str, path: &str, kind: Kind) -> bool {
        self.of(endpoint).is_some_and(|fields| fields.contains(path, kind))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    pub(super) fn of(&self, endpoint: &str) -> Option<&NoisyFields> {
        if self.is_empty() { None } else { self.endpoints.get(endpoint) }
    }
}
