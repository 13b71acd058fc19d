//! The mirror's own ports toward a shadow (`--source self`).

use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Hands out the ports of a range, the one that has rested longest first.
#[derive(Debug)]
pub(crate) struct Ports {
    first: u16,
    free: VecDeque<u16>,
}

impl Ports {
    pub(crate) fn new(range: &RangeInclusive<u16>) -> Self {
        Self { first: *range.start(), free: range.clone().collect() }
    }

    /// The port that has been free for the longest time; none when all are in use.
    pub(crate) fn take(&mut self) -> Option<u16> {
        self.free.pop_front()
    }

    /// Gives a port back.
    pub(crate) fn give(&mut self, port: u16) {
        debug_assert!(!self.free.contains(&port) || self.free.len() > 64, "port given back twice");
        self.free.push_back(port);
    }

    /// The port's place in its range, as an index into tables of sessions; none outside of it.
    pub(crate) fn slot(&self, port: u16) -> Option<usize> {
        port.checked_sub(self.first).map(usize::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_rests_as_long_as_others_are_free() {
        let mut ports = Ports::new(&(10..=12));
        assert_eq!(ports.take(), Some(10));
        ports.give(10);
        assert_eq!([ports.take(), ports.take(), ports.take()], [Some(11), Some(12), Some(10)]);
        assert_eq!(ports.take(), None);
    }

    #[test]
    fn slots_begin_with_the_range() {
        let ports = Ports::new(&(10..=12));
        assert_eq!((ports.slot(9), ports.slot(10), ports.slot(12)), (None, Some(0), Some(2)));
    }
}
