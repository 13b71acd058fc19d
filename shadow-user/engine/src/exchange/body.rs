//! A body on its way through.

use std::hash::Hasher;

use twox_hash::XxHash64;

use super::{Body, Depth, Limits};

/// Counts a body, and keeps and hashes it where bodies are compared.
#[derive(Debug)]
pub(super) struct BodyDraft {
    len: u64,
    kept: Vec<u8>,
    bound: usize,
    hash: Option<XxHash64>,
}

impl BodyDraft {
    /// Of no octets yet.
    pub fn new(limits: &Limits) -> Self {
        let whole = limits.depth == Depth::Body;
        Self {
            len: 0,
            kept: Vec::new(),
            bound: if whole { limits.body } else { 0 },
            hash: whole.then(|| XxHash64::with_seed(0)),
        }
    }

    /// The next octets.
    pub fn push(&mut self, octets: &[u8]) {
        self.len += octets.len() as u64;
        let Some(hash) = &mut self.hash else { return };
        hash.write(octets);
        let free = self.bound - self.kept.len();
        self.kept.extend_from_slice(octets.get(..free).unwrap_or(octets));
    }

    /// So many octets were not captured; only where bodies are counted alone.
    pub fn skip(&mut self, octets: u64) {
        self.len += octets;
        self.hash = None;
    }

    /// No more comes.
    pub fn finish(self) -> Body {
        let mut kept = self.kept;
        kept.shrink_to_fit();
        Body { len: self.len, kept, hash: self.hash.map(|hash| hash.finish()) }
    }

    /// Heap octets.
    pub fn memory(&self) -> usize {
        self.kept.capacity()
    }
}
