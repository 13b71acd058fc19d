//! Retransmissions on their way, and which of them were lost again.
//!
//! RFC 6675 leaves a lost retransmission to the retransmission timer: 200 ms and a collapsed
//! window for one segment, on a LAN the time of hundreds of round trips. Here DupThresh is counted
//! in order of transmission, the idea of RFC 8985 (RACK) without its clock: a retransmission is
//! lost when more than (DupThresh - 1) * SMSS octets that were sent after it have arrived.

use std::collections::VecDeque;

use crate::seq::SeqNum;

use super::sack::{DUP_THRESH, Ranges};

/// A retransmission.
#[derive(Debug)]
struct Again {
    start: SeqNum,
    end: SeqNum,
    /// SND.NXT when it was sent: whatever lies above was sent after it.
    mark: SeqNum,
    /// Counts retransmissions.
    order: u32,
    /// Octets of later retransmissions that have arrived.
    overtaken: u32,
}

/// The retransmissions of one recovery.
#[derive(Debug, Default)]
pub(super) struct Resent {
    /// In order of transmission.
    flying: VecDeque<Again>,
    /// Lost again and not sent again yet.
    lost: Vec<(SeqNum, SeqNum)>,
    /// The next retransmission's number.
    order: u32,
    /// Retransmissions below this number belong to a loss that congestion control has heard of.
    accounted: u32,
}

impl Resent {
    /// Heap octets held.
    pub fn memory(&self) -> usize {
        self.flying.capacity() * size_of::<Again>()
            + self.lost.capacity() * size_of::<(SeqNum, SeqNum)>()
    }

    /// What was lost again and not sent again.
    pub fn lost(&self) -> &[(SeqNum, SeqNum)] {
        &self.lost
    }

    /// `[start, end)` is sent again while SND.NXT is `nxt`.
    pub fn push(&mut self, start: SeqNum, end: SeqNum, nxt: SeqNum) {
        for range in &mut self.lost {
            // It is always the first hole that is sent: what lies below it has arrived.
            if start.before(range.1) && end.after(range.0) {
                range.0 = end;
            }
        }
        self.lost.retain(|range| range.0.before(range.1));
        self.flying.push_back(Again { start, end, mark: nxt, order: self.order, overtaken: 0 });
        self.order = self.order.wrapping_add(1);
    }

    /// Takes what `[una, …)` and `sacked` say. True when a retransmission turns out lost that was
    /// sent after the last such loss (RFC 5681, 4.3: another indication of congestion).
    pub fn update(&mut self, una: SeqNum, sacked: &Ranges, smss: u32) -> bool {
        if self.flying.is_empty() {
            return false;
        }
        // What arrived overtook everything that was sent before it: from the back.
        let mut arrived = 0_u32;
        let mut congested = false;
        for index in (0..self.flying.len()).rev() {
            let again = &mut self.flying[index];
            if again.end.before_or_at(una) || sacked.covers(again.start, again.end) {
                arrived = arrived.saturating_add(again.end.get().wrapping_sub(again.start.get()));
                self.flying.remove(index);
                continue;
            }
            again.overtaken = again.overtaken.saturating_add(arrived);
            let later = again.overtaken.saturating_add(sacked.above(again.mark));
            if later > (DUP_THRESH - 1) * smss {
                if again.order.wrapping_sub(self.accounted).cast_signed() >= 0 {
                    congested = true;
                }
                self.lost.push((again.start, again.end));
                self.flying.remove(index);
            }
        }
        if congested {
            self.accounted = self.order;
        }
        self.lost.retain_mut(|range| {
            if range.0.before(una) {
                range.0 = una;
            }
            range.0.before(range.1)
        });
        self.lost.sort_by(|a, b| a.0.distance(b.0).cmp(&0));
        congested
    }
}
