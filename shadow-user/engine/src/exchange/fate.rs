//! What became of a request on its way to the shadow.

use std::collections::VecDeque;

/// How a request was edited.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It was left out: production alone answers it, and it is no exchange of the mirror.
    LeftOut,
    /// It was sent in this form.
    Sent {
        /// The head that was sent, its empty line included, where it is another.
        head: Option<Box<[u8]>>,
        /// The body that was sent, transfer coding removed, where it is another.
        body: Option<Vec<u8>>,
    },
}

/// What became of the requests that are read next.
#[derive(Debug, Default)]
pub(super) struct Fates(VecDeque<Fate>);

impl Fates {
    pub fn extend(&mut self, fates: impl Iterator<Item = Fate>) {
        self.0.extend(fates);
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
        let octets = |fate: &Fate| match fate {
            Fate::LeftOut => 0,
            Fate::Sent { head, body } => {
                head.as_ref().map_or(0, |head| head.len()) + body.as_ref().map_or(0, Vec::capacity)
            }
        };
        self.0.capacity() * size_of::<Fate>() + self.0.iter().map(octets).sum::<usize>()
    }
}
