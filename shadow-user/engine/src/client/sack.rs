//! The scoreboard: which octets in flight arrived, which are lost (RFC 6675, RFC 6582).
//!
//! Everything is octets of sequence space, not segments, so that a changed path MTU or a
//! shrunken window needs no bookkeeping. RFC 6675's HighRxt, SetPipe, IsLost and NextSeg are
//! here; without SACK the same pipe is computed from duplicate acknowledgments.

use crate::seq::SeqNum;

use super::resent::Resent;

/// RFC 6675, 2: "DupThresh: ... the number of duplicate acknowledgments required to trigger
/// a retransmission", 3 in RFC 5681.
pub(super) const DUP_THRESH: u32 = 3;

/// More blocks than that are not remembered: what is beyond is sent once more, and a peer
/// that selects every other octet cannot make the mirror's memory and time its own.
const MAX_BLOCKS: usize = 256;

/// Ranges of sequence space: sorted, disjoint, not touching.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<(SeqNum, SeqNum)>);

impl Ranges {
    /// Octets of `[from, to)` that are in no range.
    fn missing(&self, from: SeqNum, to: SeqNum) -> u32 {
        let mut missing = octets(from, to);
        for &(left, right) in &self.0 {
            missing = missing.saturating_sub(octets(later(left, from), earlier(right, to)));
        }
        missing
    }

    /// Whether all of `[from, to)` is in a range.
    pub fn covers(&self, from: SeqNum, to: SeqNum) -> bool {
        self.0.iter().any(|&(left, right)| left.before_or_at(from) && right.after_or_at(to))
    }

    /// Octets in ranges from `from` on.
    pub fn above(&self, from: SeqNum) -> u32 {
        let above = self.0.iter().rev().take_while(|range| range.1.after(from));
        above.map(|&(left, right)| octets(later(left, from), right)).sum()
    }
}

/// What is known about `[SND.UNA, SND.NXT)`.
#[derive(Debug)]
pub(super) struct Scoreboard {
    /// Selectively acknowledged.
    sacked: Ranges,
    /// Retransmissions of this recovery.
    resent: Option<Box<Resent>>,
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

/// The later of two numbers.
pub(super) fn later(a: SeqNum, b: SeqNum) -> SeqNum {
    if a.after(b) { a } else { b }
}

/// The earlier of two numbers.
pub(super) fn earlier(a: SeqNum, b: SeqNum) -> SeqNum {
    if a.before(b) { a } else { b }
}

impl Scoreboard {
    pub fn new(una: SeqNum) -> Self {
        Self {
            sacked: Ranges::default(),
            resent: None,
            high_rxt: una,
            lost_until: una,
            departed: 0,
        }
    }

    /// Heap octets held.
    pub fn memory(&self) -> usize {
        self.sacked.0.capacity() * size_of::<(SeqNum, SeqNum)>()
            + self.resent.as_ref().map_or(0, |resent| size_of::<Resent>() + resent.memory())
    }

    pub fn is_empty(&self) -> bool {
        self.sacked.0.is_empty()
    }

    /// The end of the highest block.
    pub fn highest(&self) -> Option<SeqNum> {
        self.sacked.0.last().map(|block| block.1)
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
        let blocks = &mut self.sacked.0;
        let first = blocks.partition_point(|&(_, end)| end.before(left));
        let last = blocks.partition_point(|&(start, _)| start.before_or_at(right));
        let mut known = 0;
        for &(start, end) in &blocks[first..last] {
            known += octets(later(start, left), earlier(end, right));
        }
        if known == total {
            return 0;
        }
        if first == last && blocks.len() >= MAX_BLOCKS {
            return 0;
        }
        if first < last {
            left = earlier(left, blocks[first].0);
            right = later(right, blocks[last - 1].1);
        }
        blocks.splice(first..last, [(left, right)]);
        total - known
    }

    /// SND.UNA moved.
    pub fn advance(&mut self, una: SeqNum) {
        let blocks = &mut self.sacked.0;
        let gone = blocks.partition_point(|&(_, end)| end.before_or_at(una));
        blocks.drain(..gone);
        if let Some(first) = blocks.first_mut() {
            first.0 = later(first.0, una);
        } else {
            *blocks = Vec::new();
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
        self.sacked = Ranges::default();
        self.resent = None;
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
        for &(left, right) in self.sacked.0.iter().rev() {
            blocks += 1;
            bytes += octets(left, right);
            if blocks >= DUP_THRESH || bytes > (DUP_THRESH - 1) * smss {
                return later(left, self.lost_until);
            }
        }
        self.lost_until
    }

    fn lost_again(&self) -> &[(SeqNum, SeqNum)] {
        self.resent.as_ref().map_or(&[], |resent| resent.lost())
    }

    /// A recovery begins or ends.
    pub fn forget_resent(&mut self) {
        self.resent = None;
    }

    /// `[start, end)` is sent again in a recovery. With SACK it is followed until it arrives.
    pub fn resend(&mut self, start: SeqNum, end: SeqNum, nxt: SeqNum, sack: bool) {
        self.high_rxt = later(self.high_rxt, end);
        if sack {
            self.resent.get_or_insert_default().push(start, end, nxt);
        }
    }

    /// Looks for retransmissions that were lost; see [`Resent::update`].
    pub fn update_resent(&mut self, una: SeqNum, smss: u32) -> bool {
        self.resent.as_mut().is_some_and(|resent| resent.update(una, &self.sacked, smss))
    }

    /// RFC 6675, 4, NextSeg (4): the highest range that is not SACKed.
    pub fn last_hole(&self, una: SeqNum, nxt: SeqNum) -> Option<(SeqNum, SeqNum)> {
        let (start, end) = match self.sacked.0.last() {
            Some(&(left, right)) if right == nxt => {
                let below = self.sacked.0.iter().rev().nth(1).map_or(una, |range| range.1);
                (later(below, una), left)
            }
            Some(&(_, right)) => (right, nxt),
            None => (una, nxt),
        };
        Some((start, end)).filter(|range| range.0.before(range.1))
    }

    /// RFC 6675, 4, SetPipe: octets that are in the network. "If IsLost (S1) returns false: Pipe
    /// is incremented by 1 octet. If S1 <= HighRxt: Pipe is incremented by 1 octet."
    ///
    /// Without SACK, what duplicate acknowledgments report is taken off. RFC 6582's inflated
    /// window is the same sum written on the other side: "cwnd + n*SMSS against FlightSize".
    pub fn pipe(&self, una: SeqNum, nxt: SeqNum, smss: u32) -> u32 {
        let edge = later(earlier(self.lost_edge(smss), nxt), una);
        let gone = self.lost_again().iter().map(|&(from, to)| self.sacked.missing(from, to));
        let gone = gone.sum::<u32>() + self.departed;
        (self.sacked.missing(edge, nxt) + self.sacked.missing(una, self.high_rxt))
            .saturating_sub(gone)
    }

    /// RFC 6675, 4, NextSeg (1): the first range that is lost and was not retransmitted.
    pub fn next_lost(&self, una: SeqNum, smss: u32) -> Option<(SeqNum, SeqNum)> {
        // What was lost twice is the oldest.
        let again = self.lost_again().iter().find_map(|&(from, to)| self.hole(from, to));
        again.or_else(|| self.hole(later(self.high_rxt, una), self.lost_edge(smss)))
    }

    /// RFC 6675, 4, NextSeg (3): the first range below the highest block that was not
    /// retransmitted, lost or not.
    pub fn next_hole(&self, una: SeqNum) -> Option<(SeqNum, SeqNum)> {
        self.hole(later(self.high_rxt, una), self.highest()?)
    }

    /// The first range of `[from, to)` that is not SACKed.
    pub fn hole(&self, from: SeqNum, to: SeqNum) -> Option<(SeqNum, SeqNum)> {
        let mut start = from;
        for &(left, right) in &self.sacked.0 {
            if right.before_or_at(start) {
                continue;
            }
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
        assert_eq!(board.sacked.0, [(seq(100), seq(400))]);
        assert_eq!(board.select((seq(100), seq(400)), seq(0), seq(10_000)), 0);
        assert_eq!(board.select((seq(400), seq(500)), seq(0), seq(10_000)), 100);
        assert_eq!(board.sacked.0, [(seq(100), seq(500))]);
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
