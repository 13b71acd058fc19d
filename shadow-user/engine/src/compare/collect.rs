//! Collects the differences of one exchange, within bounds.

use std::sync::Arc;

use super::noise::NoisyFields;
use super::{Difference, Kind, Opaque};

/// Differences found so far.
pub(super) struct Collector<'a> {
    noise: Option<&'a NoisyFields>,
    max: usize,
    value: usize,
    pub differences: Vec<Difference>,
    pub more: usize,
    /// Whether any difference counts, those beyond the bound included.
    pub counts: bool,
    pub opaque: Option<Opaque>,
}

impl<'a> Collector<'a> {
    /// Keeps up to `max` differences with values of up to `value` octets.
    pub fn new(noise: Option<&'a NoisyFields>, max: usize, value: usize) -> Self {
        Self { noise, max, value, differences: Vec::new(), more: 0, counts: false, opaque: None }
    }

    /// Adds a difference; a second one of the same path and kind is the same difference.
    pub fn add(
        &mut self,
        path: &str,
        kind: Kind,
        production: Option<&[u8]>,
        shadow: Option<&[u8]>,
    ) {
        if self.differences.iter().any(|known| known.kind == kind && &*known.path == path) {
            return;
        }
        let noise = self.noise.is_some_and(|noise| noise.contains(path, kind));
        self.counts |= !noise;
        if self.differences.len() >= self.max {
            self.more += 1;
            return;
        }
        self.differences.push(Difference {
            path: Arc::from(path),
            kind,
            production: production.map(|value| cut(value, self.value)),
            shadow: shadow.map(|value| cut(value, self.value)),
            noise,
        });
    }
}

/// A value for people: cut to a bound, and what is no UTF-8 replaced.
fn cut(value: &[u8], max: usize) -> Box<str> {
    if value.len() <= max {
        return String::from_utf8_lossy(value).into();
    }
    let mut end = max;
    while end > 0 && max - end < 3 && value[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    let mut text = String::from_utf8_lossy(&value[..end]).into_owned();
    text.push('…');
    text.into()
}
