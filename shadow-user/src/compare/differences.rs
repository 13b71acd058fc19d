//! How often fields differed, and how much of that was noise.

use std::collections::BTreeMap;
use std::sync::Arc;

use shadow_engine::compare::{Comparison, Kind};

/// How often fields differed in one way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Differed {
    /// All in all.
    pub raw: u64,
    /// Of these, explained by noise.
    pub noise: u64,
}

/// The counts of a run: by endpoint, of which there is a bounded number, and kind.
#[derive(Clone, Debug, Default)]
pub struct Differences(BTreeMap<Arc<str>, BTreeMap<Kind, Differed>>);

impl Differences {
    /// Counts what a comparison found.
    pub fn add(&mut self, comparison: &Comparison) {
        if comparison.differences.is_empty() {
            return;
        }
        let kinds = self.0.entry(Arc::clone(&comparison.endpoint)).or_default();
        for difference in &comparison.differences {
            let counts = kinds.entry(difference.kind).or_default();
            counts.raw += 1;
            counts.noise += u64::from(difference.noise);
        }
    }

    /// Of the `count` endpoints that differ most: endpoint, kind, counts.
    pub fn most(&self, count: usize) -> impl Iterator<Item = (&Arc<str>, Kind, Differed)> {
        let mut endpoints: Vec<_> = self.0.iter().collect();
        let raw = |kinds: &BTreeMap<Kind, Differed>| kinds.values().map(|it| it.raw).sum::<u64>();
        // Stable: equals stay in the order of their names.
        endpoints.sort_by_key(|(_, kinds)| std::cmp::Reverse(raw(kinds)));
        endpoints.into_iter().take(count).flat_map(|(endpoint, kinds)| {
            kinds.iter().map(move |(kind, counts)| (endpoint, *kind, *counts))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::comparison;
    use shadow_engine::compare::Verdict;

    #[test]
    fn the_worst_come_first_and_noise_is_a_part_of_all() {
        let mut differences = Differences::default();
        let noisy = ("body.id", Kind::Primitive, true);
        let real = ("body.a", Kind::Primitive, false);
        let mut little = comparison(Verdict::Body, &[("body.b", Kind::Type, false)]);
        little.endpoint = "GET /a".into();
        differences.add(&little);
        differences.add(&comparison(Verdict::Body, &[noisy, real]));
        differences.add(&comparison(Verdict::Match, &[noisy]));
        differences.add(&comparison(Verdict::Match, &[]));
        let most: Vec<_> =
            differences.most(1).map(|(name, kind, it)| (&**name, kind, it.raw, it.noise)).collect();
        assert_eq!(most, [("GET /items/{id}", Kind::Primitive, 3, 2)]);
        assert_eq!(differences.most(9).count(), 2);
    }
}
