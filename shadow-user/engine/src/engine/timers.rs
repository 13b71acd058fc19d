//! When which flow wants to be looked at again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Instant;

/// Names a flow; the generation tells it from an earlier one in the same place.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct FlowId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A queue of deadlines: O(log n) to add and to take.
///
/// Entries are never moved. A flow whose deadline has become later lets its
/// entry come up and then adds the new one, so a busy flow adds an entry for
/// each timer that fires and not for each packet.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BinaryHeap<Reverse<(Instant, FlowId)>>,
}

impl Timers {
    pub(crate) fn add(&mut self, deadline: Instant, flow: FlowId) {
        self.queue.push(Reverse((deadline, flow)));
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// The next flow whose deadline has passed.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, FlowId)> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop().map(|Reverse(entry)| entry)
    }
}
