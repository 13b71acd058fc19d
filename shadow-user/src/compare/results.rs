//! What comparisons came to, counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use shadow_engine::compare::{Comparison, Kind, Verdict};
use shadow_engine::exchange::Exchange;
use strum::IntoEnumIterator as _;

use super::legs::status;

/// Pairs of statuses that are told apart; the rest are one, of 0 and 0.
const STATUSES: usize = 400;

/// One count for each verdict.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Verdicts([u64; 7]);

impl Verdicts {
    fn add(&mut self, verdict: Verdict) {
        self.0[verdict as usize] += 1;
    }

    /// How often it was the verdict.
    #[must_use]
    pub const fn get(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    /// Each verdict's count, those that did not come up too.
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        Verdict::iter().map(|verdict| (verdict, self.get(verdict)))
    }

    /// All exchanges.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Exchanges in which the shadow behaved otherwise.
    #[must_use]
    pub fn mismatches(&self) -> u64 {
        let mismatches = self.iter().filter(|(verdict, _)| verdict.is_mismatch());
        mismatches.map(|(_, count)| count).sum()
    }

    /// Exchanges whose legs were brought together.
    #[must_use]
    pub fn paired(&self) -> u64 {
        self.total() - self.get(Verdict::Unpaired)
    }
}

/// How often a field differed in a way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Differences {
    /// All in all.
    pub raw: u64,
    /// Of these, explained by noise.
    pub noise: u64,
}

/// The counts of a run.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Of all endpoints together.
    pub verdicts: Verdicts,
    /// By endpoint.
    pub endpoints: BTreeMap<Arc<str>, Verdicts>,
    /// Production's status and the shadow's, of exchanges that both answered.
    pub statuses: BTreeMap<(u16, u16), u64>,
    /// Differences by endpoint and kind.
    pub differences: BTreeMap<Arc<str>, BTreeMap<Kind, Differences>>,
}

impl Results {
    /// Counts an exchange.
    pub fn add(&mut self, exchange: &Exchange, comparison: &Comparison) {
        let Comparison { endpoint, verdict, differences, .. } = comparison;
        self.verdicts.add(*verdict);
        self.endpoints.entry(Arc::clone(endpoint)).or_default().add(*verdict);
        if let (Ok(production), Ok(shadow)) = (&exchange.production, &exchange.shadow) {
            let pair = (status(production), status(shadow));
            let is_known = self.statuses.len() < STATUSES || self.statuses.contains_key(&pair);
            *self.statuses.entry(if is_known { pair } else { (0, 0) }).or_default() += 1;
        }
        if differences.is_empty() {
            return;
        }
        let kinds = self.differences.entry(Arc::clone(endpoint)).or_default();
        for difference in differences {
            let counts = kinds.entry(difference.kind).or_default();
            counts.raw += 1;
            counts.noise += u64::from(difference.noise);
        }
    }

    /// The endpoints with the most mismatches, worst first, at most `count`; none without any.
    #[must_use]
    pub fn worst(&self, count: usize) -> Vec<(&Arc<str>, &Verdicts)> {
        let mut worst: Vec<_> =
            self.endpoints.iter().filter(|(_, verdicts)| verdicts.mismatches() != 0).collect();
        // Stable: equals stay in the order of their names.
        worst.sort_by_key(|(_, verdicts)| std::cmp::Reverse(verdicts.mismatches()));
        worst.truncate(count);
        worst
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{comparison, exchange, response};
    use shadow_engine::exchange::Unpaired;

    #[test]
    fn every_exchange_is_counted_once() {
        let mut results = Results::default();
        let same = exchange("/a", Ok(response(200, "", 1)), Ok(response(200, "", 1)));
        let other = exchange("/a", Ok(response(200, "", 1)), Ok(response(500, "", 1)));
        let lost = exchange("/a", Ok(response(200, "", 1)), Err(Unpaired::Lost));
        results.add(&same, &comparison(Verdict::Match, &[("body.id", Kind::Primitive, true)]));
        results.add(&other, &comparison(Verdict::Status, &[("status", Kind::Primitive, false)]));
        results.add(&lost, &comparison(Verdict::Unpaired, &[]));
        let Results { verdicts, statuses, differences, .. } = &results;
        assert_eq!((verdicts.total(), verdicts.paired(), verdicts.mismatches()), (3, 2, 1));
        assert_eq!(statuses, &[((200, 200), 1), ((200, 500), 1)].into());
        let found = differences["GET /items/{id}"][&Kind::Primitive];
        assert_eq!(found, Differences { raw: 2, noise: 1 });
        assert_eq!(results.worst(3).len(), 1);
        assert_eq!(verdicts.iter().count(), 7);
    }

    #[test]
    fn a_hostile_shadow_does_not_grow_the_matrix() {
        let mut results = Results::default();
        for code in 0..1_000 {
            let exchange = exchange("/a", Ok(response(200, "", 1)), Ok(response(code, "", 1)));
            results.add(&exchange, &comparison(Verdict::Status, &[]));
        }
        assert!(results.statuses.len() <= STATUSES + 1);
        assert_eq!(results.statuses.values().sum::<u64>(), 1_000);
    }
}
