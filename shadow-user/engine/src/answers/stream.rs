//! Production's byte stream, put together from segments that were captured where they left.
//!
//! No network lies between production and the capture, so that segments come in order but for
//! those that production sends again, or that two CPUs record at once. What the ring had no room
//! for leaves a hole for good.
//!
//! A segment waits also until the client's stream has come as far as the segment acknowledges: it
//! may answer what the mirror has not read yet, since requests and answers come through rings of
//! their own.

use std::collections::VecDeque;

use crate::exchange::Piece;
use crate::seq::SeqNum;
use crate::time::Instant;

/// The largest window there can be: 2^16 scaled by 14 (RFC 7323, 2.3), octets.
const MAX_WINDOW: u32 = 1 << 30;

/// Octets that wait, bookkeeping included; what is more is not worth its memory.
const MAX_WAITING: usize = 256 << 10;

/// What a segment costs besides its octets.
const SEGMENT_COST: usize = size_of::<Waiting>();

/// A segment of production's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// SEG.SEQ.
    pub(crate) seq: SeqNum,
    /// SEG.ACK, where there is one.
    pub(crate) ack: Option<SeqNum>,
    /// Its octets, or how many of them were left out.
    pub(crate) piece: Piece<'a>,
    /// It has FIN or RST.
    pub(crate) ends: bool,
    /// When it was captured.
    pub(crate) at: Instant,
}

/// What comes out, in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next<'a> {
    /// The next stretch.
    Piece(Piece<'a>),
    /// FIN or RST.
    End,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// It moved the stream on, waits, or was known.
    Used,
    /// Further away than any window reaches: of another connection.
    OutOfWindow,
    /// Too much waits: the stream cannot be followed.
    Overflow,
}

/// The stream.
#[derive(Debug)]
pub(crate) struct Stream {
    nxt: SeqNum,
    offset: u64,
    waiting: VecDeque<Waiting>,
    memory: usize,
    /// Since when something waits.
    since: Instant,
    ended: bool,
}

#[derive(Debug)]
struct Waiting {
    seq: SeqNum,
    ack: Option<SeqNum>,
    octets: Octets,
    ends: bool,
    at: Instant,
}

#[derive(Debug)]
enum Octets {
    Here(Box<[u8]>),
    LeftOut(u64),
}

impl Waiting {
    fn answer(&self) -> Answer<'_> {
        let piece = match &self.octets {
            Octets::Here(octets) => Piece::Bytes(octets),
            Octets::LeftOut(count) => Piece::Skipped(*count),
        };
        Answer { seq: self.seq, ack: self.ack, piece, ends: self.ends, at: self.at }
    }

    fn cost(&self) -> usize {
        SEGMENT_COST
            + match &self.octets {
                Octets::Here(octets) => octets.len(),
                Octets::LeftOut(_) => 0,
            }
    }
}

impl Answer<'_> {
    fn len(&self) -> u32 {
        // Bounded by the IP packet.
        match self.piece {
            Piece::Bytes(bytes) => bytes.len() as u32,
            Piece::Skipped(count) => u32::try_from(count).unwrap_or(u32::MAX),
        }
    }
}

impl Stream {
    /// A stream whose first octet has the number `first`.
    pub(crate) fn new(first: SeqNum) -> Self {
        Self {
            nxt: first,
            offset: 0,
            waiting: VecDeque::new(),
            memory: 0,
            since: Instant::NEVER,
            ended: false,
        }
    }

    /// The number of the next octet.
    pub(crate) fn nxt(&self) -> SeqNum {
        self.nxt
    }

    /// Octets that came out.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Since when something waits behind a hole, or for the client's stream.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        (self.since != Instant::NEVER).then_some(self.since)
    }

    /// Heap octets.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Takes a segment; `heard` is the number up to which the client's stream is known, `None` when
    /// that no longer matters.
    pub(crate) fn insert(
        &mut self,
        answer: &Answer<'_>,
        heard: Option<SeqNum>,
        deliver: &mut impl FnMut(Next<'_>, Instant),
    ) -> Taken {
        if answer.seq.distance(self.nxt).unsigned_abs() >= MAX_WINDOW {
            return Taken::OutOfWindow;
        }
        if self.ended || self.is_old(answer) {
            return Taken::Used;
        }
        if answer.seq.before_or_at(self.nxt) && is_heard(answer.ack, heard) {
            self.take(answer, deliver);
            self.advance(heard, deliver);
            return Taken::Used;
        }
        let known = |one: &Waiting| one.seq == answer.seq && one.answer().len() >= answer.len();
        if self.waiting.iter().any(|one| known(one) && one.ends == answer.ends) {
            return Taken::Used;
        }
        let octets = match answer.piece {
            Piece::Bytes(bytes) => Octets::Here(bytes.into()),
            Piece::Skipped(count) => Octets::LeftOut(count),
        };
        let Answer { seq, ack, ends, at, .. } = *answer;
        let waiting = Waiting { seq, ack, octets, ends, at };
        self.memory += waiting.cost();
        self.since = self.since.min(at);
        self.waiting.push_back(waiting);
        if self.memory > MAX_WAITING { Taken::Overflow } else { Taken::Used }
    }

    /// Delivers what waited for the client's stream, which has come to `heard`.
    pub(crate) fn advance(
        &mut self,
        heard: Option<SeqNum>,
        deliver: &mut impl FnMut(Next<'_>, Instant),
    ) {
        if self.waiting.is_empty() {
            return;
        }
        let mut moved = false;
        while let Some(index) = self.waiting.iter().position(|one| {
            self.ended || one.seq.before_or_at(self.nxt) && is_heard(one.ack, heard)
        }) {
            let Some(one) = self.waiting.remove(index) else { break };
            self.memory -= one.cost();
            self.take(&one.answer(), deliver);
            moved = true;
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
            self.since = Instant::NEVER;
        } else if moved {
            // Another hole, which has its own time.
            self.since = self.waiting.iter().map(|one| one.at).min().unwrap_or(Instant::NEVER);
        }
    }

    /// Nothing more is expected.
    pub(crate) fn give_up(&mut self) {
        self.waiting = VecDeque::new();
        self.memory = 0;
        self.since = Instant::NEVER;
        self.ended = true;
    }

    /// Moves over what is new in a segment that begins at or before `nxt`.
    fn take(&mut self, answer: &Answer<'_>, deliver: &mut impl FnMut(Next<'_>, Instant)) {
        if self.ended || self.is_old(answer) {
            return;
        }
        // Not after `nxt`, so the distance is not negative.
        let known = self.nxt.distance(answer.seq).unsigned_abs();
        let new = answer.len() - known;
        let piece = match answer.piece {
            Piece::Bytes(bytes) => Piece::Bytes(bytes.get(known as usize..).unwrap_or_default()),
            Piece::Skipped(_) => Piece::Skipped(new.into()),
        };
        self.nxt += new;
        self.offset += u64::from(new);
        if new != 0 {
            deliver(Next::Piece(piece), answer.at);
        }
        if answer.ends {
            self.ended = true;
            deliver(Next::End, answer.at);
        }
    }

    /// Whether nothing in a segment is new.
    fn is_old(&self, answer: &Answer<'_>) -> bool {
        let end = answer.seq + answer.len();
        if answer.ends { end.before(self.nxt) } else { end.before_or_at(self.nxt) }
    }
}

fn is_heard(ack: Option<SeqNum>, heard: Option<SeqNum>) -> bool {
    match (ack, heard) {
        (Some(ack), Some(heard)) => ack.before_or_at(heard),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARD: Option<SeqNum> = Some(SeqNum::new(500));

    /// What came out: octets, those left out as `.`, and `|` for the end.
    struct Run {
        stream: Stream,
        out: Vec<u8>,
    }

    impl Run {
        fn new(first: u32) -> Self {
            Self { stream: Stream::new(SeqNum::new(first)), out: Vec::new() }
        }

        fn insert(&mut self, seq: u32, ack: u32, piece: Piece<'_>, ends: bool) -> Taken {
            let Self { stream, out } = self;
            let answer = Answer {
                seq: SeqNum::new(seq),
                ack: Some(SeqNum::new(ack)),
                piece,
                ends,
                at: Instant::from_nanos(u64::from(ack)),
            };
            stream.insert(&answer, HEARD, &mut |next, _| write(out, next))
        }

        fn bytes(&mut self, seq: u32, bytes: &str) -> Taken {
            self.insert(seq, 500, Piece::Bytes(bytes.as_bytes()), false)
        }

        fn hear(&mut self, heard: u32) {
            let Self { stream, out } = self;
            stream.advance(Some(SeqNum::new(heard)), &mut |next, _| write(out, next));
        }

        #[track_caller]
        fn gives(&self, text: &str) {
            assert_eq!(String::from_utf8_lossy(&self.out), text);
        }
    }

    fn write(out: &mut Vec<u8>, next: Next<'_>) {
        match next {
            Next::Piece(Piece::Bytes(bytes)) => out.extend(bytes),
            Next::Piece(Piece::Skipped(count)) => out.extend(vec![b'.'; count as usize]),
            Next::End => out.push(b'|'),
        }
    }

    #[test]
    fn segments_that_are_sent_again_add_nothing() {
        for first in [7, u32::MAX - 3] {
            let at = |ahead: u32| first.wrapping_add(ahead);
            let mut run = Run::new(first);
            run.bytes(at(0), "abcd");
            run.bytes(at(0), "abcd");
            run.bytes(at(2), "cdef");
            run.insert(at(4), 500, Piece::Skipped(4), false);
            run.bytes(at(6), "gh");
            run.insert(at(8), 500, Piece::Bytes(b"i"), true);
            run.insert(at(8), 500, Piece::Bytes(b"i"), true);
            run.bytes(at(9), "beyond the end");
            run.gives("abcdef..i|");
            assert_eq!(run.stream.memory(), 0);
        }
    }

    #[test]
    fn a_hole_keeps_back_what_is_behind_it() {
        let mut run = Run::new(u32::MAX);
        run.bytes(1, "cd");
        run.bytes(1, "cd");
        run.insert(5, 500, Piece::Bytes(b""), true);
        run.insert(3, 500, Piece::Skipped(2), false);
        run.gives("");
        assert_eq!(run.stream.waits_since(), Some(Instant::from_nanos(500)));
        run.bytes(u32::MAX, "ab");
        run.gives("abcd..|");
        assert_eq!((run.stream.waits_since(), run.stream.memory()), (None, 0));
    }

    #[test]
    fn an_answer_waits_for_what_it_answers() {
        let mut run = Run::new(0);
        run.insert(0, 501, Piece::Bytes(b"late"), false);
        run.bytes(4, " and behind");
        run.gives("");
        run.hear(500);
        run.gives("");
        run.hear(501);
        run.gives("late and behind");
        assert_eq!(run.stream.waits_since(), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut run = Run::new(0);
        let big = "x".repeat(60_000);
        let taken: Vec<_> = (0..5).map(|n| run.bytes(10 + n * 60_000, &big)).collect();
        assert_eq!(taken[3..], [Taken::Used, Taken::Overflow]);
        run.stream.give_up();
        assert_eq!(run.stream.memory(), 0);
        assert_eq!(run.bytes(0, "x"), Taken::Used);
        run.gives("");
    }

    #[test]
    fn another_connections_numbers_are_out_of_the_window() {
        let mut run = Run::new(0);
        assert_eq!(run.bytes(1 << 30, "x"), Taken::OutOfWindow);
        assert_eq!(run.bytes(1 << 31, "x"), Taken::OutOfWindow);
        assert_eq!(run.bytes(u32::MAX - 10, "an old one"), Taken::Used);
        run.gives("");
    }
}
