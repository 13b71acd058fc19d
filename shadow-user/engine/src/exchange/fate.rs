//! What became of a request on its way to the shadow.

use std::collections::VecDeque;

/// What an editor of requests does with one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It is left out: production alone answers it, and it is no exchange of the mirror.
    LeftOut,
    /// It is sent, in whatever form.
    Sent,
}

/// What became of the requests that are read next.
#[derive(Debug, Default)]
pub(super) struct Fates(VecDeque<Fate>);

impl Fates {
    pub fn push(&mut self, fate: Fate) {
        self.0.push_back(fate);
    }

    pub fn pop(&mut self) -> Option<Fate> {
        let fate = self.0.pop_front();
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
        fate
    }

    /// Heap octets.
    pub fn memory(&self) -> usize {
        self.0.capacity() * size_of::<Fate>()
    }
}
