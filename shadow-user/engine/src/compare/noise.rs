//! What differs between two servers of one version, and says nothing about the shadow.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Kind;

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
        matches!(kind, Kind::Primitive | Kind::Order) && !matches!(path, "status" | "body")
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
