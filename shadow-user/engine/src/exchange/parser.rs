//! What a protocol has to tell.

use std::fmt::Debug;

use super::Leg;
use super::fate::Fate;
use super::pairs::Pairs;
use crate::time::Instant;

/// A protocol: finds the requests in a client's stream and the responses in each leg's, and hands
/// them to [`Pairs`]. Every cutting of a stream into pieces comes to the same.
pub(super) trait Parser: Debug + Send {
    /// The client's next octets.
    fn requested(&mut self, bytes: &[u8], at: Instant, pairs: &mut Pairs);

    /// What became of the first whole request of which that was not known; false when there is none.
    fn decided(&mut self, _fate: Fate, _pairs: &mut Pairs) -> bool {
        false
    }

    /// The leg's next octets. Gives how many were read: what is left answers no request that was
    /// seen so far, and is pushed again behind the next one.
    fn answered(&mut self, leg: Leg, bytes: &[u8], at: Instant, pairs: &mut Pairs) -> usize;

    /// The leg's next octets were not captured. Gives how many of them the present body has.
    fn skipped(&mut self, leg: Leg, octets: u64, at: Instant, pairs: &mut Pairs) -> u64;

    /// The leg has closed: what that delimits is whole. [`Pairs::end`] follows.
    fn closed(&mut self, leg: Leg, at: Instant, pairs: &mut Pairs);

    /// The leg cannot be followed any further, or is over, as `pairs` knows: its state is of no more
    /// use.
    fn give_up(&mut self, leg: Leg, pairs: &Pairs);

    /// Whether responses come in the order of their requests, so that octets which came before a
    /// request cannot answer it and may be dropped.
    fn holds_order(&self) -> bool;

    /// Whether the leg stands between responses: what it said so far is whole answers. Asked where
    /// responses have no order; the others need not know.
    fn is_between(&self, _leg: Leg) -> bool {
        false
    }

    /// Octets of the leg's stream, from where it stands, of which only the number matters.
    fn skippable(&self, leg: Leg) -> u64;

    /// Heap octets.
    fn memory(&self) -> usize;
}
