//! The scoreboard: which octets in flight arrived, which are lost (RFC 6675, RFC 6582).
//!
//! Everything is octets of sequence space, not segments, so that a changed path MTU or a
//! shrunken window needs no bookkeeping. RFC 6675's HighRxt, SetPipe, IsLost and NextSeg are
//! here; without SACK the same pipe is computed from duplicate acknowledgments.

use crate::seq::SeqNum;

/// RFC 6675, 2: "DupThresh: ... the number of duplicate acknowledgments required to trigger
/// a retransmission", 3 in RFC 5681.
pub(super) const DUP_THRESH: u32 = 3;

/// More blocks than that are not remembered: what is beyond is sent once more, and a peer
/// that selects every other octet cannot make the mirror's memory and time its own.
const MAX_BLOCKS: usize = 256;

/// What is known about `[SND.UNA, SND.NXT)`.
#[derive(Debug)]
pub(super) struct Scoreboard {
    /// Selectively acknowledged, sorted, disjoint, not touching.
    sacked: Vec<(SeqNum, SeqNum)>,
    /// Retransmitted below it in this recovery: RFC 6675's HighRxt + 1.
    pub high_rxt: SeqNum,
    /// Presumed lost below it whatever the blocks say: after a timeout, for NewReno's
    /// first hole, and after the path MTU fell.
    pub lost_until: SeqNum,
    /// Octets that duplicate acknowledgments say have left the network; without SACK only.
    pub departed: u32,
}

fn octets(from: SeqNum, to: SeqNum) -> u32 {
    u32::try_from(to.distance(from)).unwrap_or(0)
}

fn later(a: SeqNum, b: SeqNum) -> SeqNum {
    if a.after(b) { a } else { b }
}

fn earlier(a: SeqNum, b: SeqNum) -> SeqNum {
    if a.before(b) { a } else { b }
}

impl Scoreboard {
    pub fn new(una: SeqNum) -> Self {
        Self { sacked: Vec::new(), high_rxt: una, lost_until: una, departed: 0 }
    }

    /// Heap octets held.
    pub fn memory(&self) -> usize {
        self.sacked.capacity() * size_of::<(SeqNum, SeqNum)>()
    }

    pub fn is_empty(&self) -> bool {
        self.sacked.is_empty()
    }

    /// The end of the highest block.
    pub fn highest(&self) -> Option<SeqNum> {
        self.sacked.last().map(|block| block.1)
    }

    /// Takes a block; returns how many octets of it are news.
    ///
    /// A block that is not within `(una, nxt]` is a DSACK (RFC 2883, 4: "the first SACK
    /// block ... below the cumulative acknowledgment"), stale, or nonsense, and is no news.
    pub fn select(&mut self, block: (SeqNum, SeqNum), una: SeqNum, nxt: SeqNum) -> u32 {
        let (mut left, mut right) = block;
        if !left.before(right) || left.before_or_at(una) || right.after(nxt) {
            return 0;
        }
        let total = octets(left, right);
        let first = self.sacked.partition_point(|&(_, end)| end.before(left));
        let last = self.sacked.partition_point(|&(start, _)| start.before_or_at(right));
        let mut known = 0;
        for &(start, end) in &self.sacked[first..last] {
            known += octets(later(start, left), earlier(end, right));
        }
        if known == total {
            return 0;
        }
        if first == last && self.sacked.len() >= MAX_BLOCKS {
            return 0;
        }
        if first < last {
            left = earlier(left, self.sacked[first].0);
            right = later(right, self.sacked[last - 1].1);
        }
        self.sacked.splice(first..last, [(left, right)]);
        total - known
    }

    /// SND.UNA moved.
    pub fn advance(&mut self, una: SeqNum) {
        let gone = self.sacked.partition_point(|&(_, end)| end.before_or_at(una));
        self.sacked.drain(..gone);
        if let Some(first) = self.sacked.first_mut() {
            first.0 = later(first.0, una);
        } else {
            self.sacked = Vec::new();
        }
        self.high_rxt = later(self.high_rxt, una);
        self.lost_until = later(self.lost_until, una);
    }

    /// Everything in flight is presumed lost and is sent again from `una` on. The blocks are
    /// forgotten.
    ///
    /// RFC 2018, 8: "After a retransmit timeout the data sender SHOULD turn off all of the
    /// SACKed bits, since the timeout might indicate that the data receiver has reneged."
    pub fn all_lost(&mut self, una: SeqNum, nxt: SeqNum) {
        self.sacked = Vec::new();
        self.departed = 0;
        self.high_rxt = una;
        self.lost_until = nxt;
    }

    /// RFC 6675, 4, IsLost: below the returned number every octet that was not SACKed is lost,
    /// since "either DupThresh discontiguous SACKed sequences have arrived above 'SeqNum' or
    /// more than (DupThresh - 1) * SMSS bytes with sequence numbers greater than 'SeqNum'
    /// have been SACKed".
    pub fn lost_edge(&self, smss: u32) -> SeqNum {
        let (mut blocks, mut bytes) = (0, 0_u32);
        for &(left, right) in self.sacked.iter().rev() {
            blocks += 1;
            bytes += octets(left, right);
            if blocks >= DUP_THRESH || bytes > (DUP_THRESH - 1) * smss {
                return later(left, self.lost_until);
            }
        }
        self.lost_until
    }

    /// Octets of `[from, to)` that are not SACKed.
    fn missing(&self, from: SeqNum, to: SeqNum) -> u32 {
        let mut missing = octets(from, to);
        for &(left, right) in &self.sacked {
            missing = missing.saturating_sub(octets(later(left, from), earlier(right, to)));
        }
        missing
    }

    /// RFC 6675, 4, SetPipe: octets that are in the network. "If IsLost (S1) returns false: Pipe
    /// is incremented by 1 octet. If S1 <= HighRxt: Pipe is incremented by 1 octet."
    ///
    /// Without SACK, what duplicate acknowledgments report is taken off. RFC 6582's inflated
    /// window is the same sum written on the other side: "cwnd + n*SMSS against FlightSize".
    pub fn pipe(&self, una: SeqNum, nxt: SeqNum, smss: u32) -> u32 {
        let edge = later(earlier(self.lost_edge(smss), nxt), una);
        (self.missing(edge, nxt) + self.missing(una, self.high_rxt)).saturating_sub(self.departed)
    }

    /// RFC 6675, 4, NextSeg (1): the first range that is lost and was not retransmitted.
    pub fn next_lost(&self, una: SeqNum, smss: u32) -> Option<(SeqNum, SeqNum)> {
        self.hole(later(self.high_rxt, una), self.lost_edge(smss))
    }

    /// RFC 6675, 4, NextSeg (3): the first range below the highest block that was not
    /// retransmitted, lost or not.
    pub fn next_hole(&self, una: SeqNum) -> Option<(SeqNum, SeqNum)> {
        self.hole(later(self.high_rxt, una), self.highest()?)
    }

    /// The first range of `[from, to)` that is not SACKed.
    pub fn hole(&self, from: SeqNum, to: SeqNum) -> Option<(SeqNum, SeqNum)> {
        let mut start = from;
        for &(left, right) in &self.sacked {
            if start.before(left) {
                return Some((start, earlier(left, to))).filter(|range| range.0.before(range.1));
            }
            start = later(start, right);
        }
        Some((start, to)).filter(|range| range.0.before(range.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(n: u32) -> SeqNum {
        SeqNum::new(0xffff_ff00) + n
    }

    fn board(blocks: &[(u32, u32)]) -> Scoreboard {
        let mut board = Scoreboard::new(seq(0));
        for &(left, right) in blocks {
            board.select((seq(left), seq(right)), seq(0), seq(10_000));
        }
        board
    }

    #[test]
    fn blocks_merge_and_count_news_once() {
        let mut board = board(&[(100, 200), (300, 400)]);
        assert_eq!(board.select((seq(150), seq(350)), seq(0), seq(10_000)), 100);
        assert_eq!(board.sacked, [(seq(100), seq(400))]);
        assert_eq!(board.select((seq(100), seq(400)), seq(0), seq(10_000)), 0);
        assert_eq!(board.select((seq(400), seq(500)), seq(0), seq(10_000)), 100);
        assert_eq!(board.sacked, [(seq(100), seq(500))]);
    }

    #[test]
    fn nonsense_and_dsack_are_no_news() {
        let mut board = board(&[]);
        for block in [(200, 100), (100, 100), (0, 50), (9_000, 10_001)] {
            assert_eq!(board.select((seq(block.0), seq(block.1)), seq(0), seq(10_000)), 0);
        }
        assert!(board.is_empty());
    }

    #[test]
    fn rfc6675_4_is_lost() {
        // Two segments above are not enough, more than two are.
        assert_eq!(board(&[(100, 300)]).lost_edge(100), seq(0));
        assert_eq!(board(&[(100, 301)]).lost_edge(100), seq(100));
        // Three blocks are, however small.
        assert_eq!(board(&[(100, 101), (200, 201), (300, 301)]).lost_edge(100), seq(100));
    }

    #[test]
    fn rfc6675_4_set_pipe_and_next_seg() {
        let mut board = board(&[(100, 200), (300, 600)]);
        // [0,100) and [200,300) are lost, 400 octets above are in flight.
        assert_eq!(board.pipe(seq(0), seq(1000), 100), 400);
        assert_eq!(board.next_lost(seq(0), 100), Some((seq(0), seq(100))));
        board.high_rxt = seq(100);
        assert_eq!(board.pipe(seq(0), seq(1000), 100), 500);
        assert_eq!(board.next_lost(seq(0), 100), Some((seq(200), seq(300))));
        board.high_rxt = seq(300);
        assert_eq!(board.next_lost(seq(0), 100), None);
        board.advance(seq(300));
        assert_eq!(board.pipe(seq(300), seq(1000), 100), 400);
    }
}
