//! Rules of the module's doc, case by case. Long random sequences against a
//! model are the fuzz target's, replayed by the engine's `corpus` test.

use proptest::prelude::*;

use super::*;
use crate::seq::SeqNum;
use crate::time::Instant;
use crate::wire::{Flags, Segment, Timestamps};

const ACK: Flags = Flags { ack: true, urg: false, psh: false, rst: false, syn: false, fin: false };
const FIN: Flags = Flags { fin: true, ..ACK };
const RST: Flags = Flags { rst: true, ack: false, ..ACK };
const SYN: Flags = Flags { syn: true, ack: false, ..ACK };

/// Sequence number of the stream's first octet: the numbers wrap within.
const START: u32 = u32::MAX - 4;

/// A reassembler with what it delivered.
struct Bench {
    reassembler: Reassembler,
    stream: Vec<u8>,
    /// SEG.ACK and capture time of each delivery.
    deliveries: Vec<(u32, u64)>,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        Self::with_limit(1 << 20)
    }

    fn with_limit(limit: usize) -> Self {
        let reassembler = Reassembler::new(SeqNum::new(START), limit);
        Self { reassembler, stream: Vec::new(), deliveries: Vec::new(), now: 0 }
    }

    fn segment(&mut self, segment: &Segment<'_>) -> Result<Outcome, QueueError> {
        self.now += 1;
        let Self { reassembler, stream, deliveries, now } = self;
        reassembler.insert(segment, Instant::from_nanos(*now), &mut |delivery| {
            stream.extend_from_slice(delivery.bytes);
            deliveries.push((delivery.ack.get(), delivery.captured_at.as_nanos()));
        })
    }

    /// Inserts a segment at an offset of the stream, with ACK 100.
    fn at(&mut self, offset: i64, flags: Flags, payload: &[u8]) -> Outcome {
        self.try_at(offset, flags, payload).unwrap()
    }

    fn try_at(&mut self, offset: i64, flags: Flags, payload: &[u8]) -> Result<Outcome, QueueError> {
        let seq = SeqNum::new(START.wrapping_add(offset as u32));
        let ack = SeqNum::new(100);
        self.segment(&Segment { seq, ack, flags, payload, ..Segment::default() })
    }

    fn try_data(&mut self, offset: i64, payload: &str) -> Result<Outcome, QueueError> {
        self.try_at(offset, ACK, payload.as_bytes())
    }

    fn data(&mut self, offset: i64, payload: &str) -> Outcome {
        self.at(offset, ACK, payload.as_bytes())
    }

    fn stream(&self) -> &str {
        str::from_utf8(&self.stream).unwrap()
    }
}

#[test]
fn in_order() {
    let mut bench = Bench::new();
    assert_eq!(bench.at(0, ACK, b""), Outcome::Empty);
    assert_eq!(bench.data(0, "hello "), Outcome::Advanced);
    assert_eq!(bench.data(6, "world"), Outcome::Advanced);
    assert_eq!(bench.at(11, FIN, b""), Outcome::Advanced);
    assert_eq!(bench.stream(), "hello world");
    assert_eq!(bench.reassembler.finished(), Some(End::Fin));
    assert_eq!(bench.reassembler.rcv_nxt(), SeqNum::new(START) + 12);
    assert_eq!(bench.reassembler.delivered(), 11);
}

#[test]
fn a_hole_is_waited_for_and_closed() {
    let mut bench = Bench::new();
    assert_eq!(bench.data(3, "def"), Outcome::Queued);
    assert_eq!(bench.data(9, "jkl"), Outcome::Queued);
    assert_eq!(bench.reassembler.hole_since(), Some(Instant::from_nanos(1)));
    assert_eq!(bench.data(0, "abc"), Outcome::Advanced);
    assert_eq!(bench.stream(), "abcdef");
    assert_eq!(bench.reassembler.hole_since(), Some(Instant::from_nanos(2)));
    assert_eq!(bench.data(6, "ghi"), Outcome::Advanced);
    assert_eq!(bench.stream(), "abcdefghijkl");
    assert_eq!(bench.reassembler.hole_since(), None);
    assert_eq!(bench.reassembler.memory(), 0);
    // Each delivery keeps its own time: abc, def, ghi, jkl.
    assert_eq!(bench.deliveries, [(100, 3), (100, 1), (100, 4), (100, 2)]);
}

#[test]
fn a_hole_that_is_partly_filled_keeps_its_time() {
    let mut bench = Bench::new();
    bench.data(10, "z");
    bench.data(5, "y");
    assert_eq!(bench.reassembler.hole_since(), Some(Instant::from_nanos(1)));
}

#[test]
fn repetitions_and_probes_are_duplicates() {
    let mut bench = Bench::new();
    bench.data(0, "abcdef");
    assert_eq!(bench.data(0, "abcdef"), Outcome::Duplicate);
    assert_eq!(bench.data(2, "cd"), Outcome::Duplicate);
    assert_eq!(bench.at(5, ACK, b""), Outcome::Duplicate, "keep-alive");
    assert_eq!(bench.data(5, "f"), Outcome::Duplicate, "keep-alive with its octet");
    assert_eq!(bench.data(8, "ij"), Outcome::Queued);
    assert_eq!(bench.data(8, "ij"), Outcome::Duplicate);
    bench.at(6, FIN, b"gh");
    assert_eq!(bench.at(6, FIN, b"gh"), Outcome::Duplicate);
    assert_eq!(bench.at(8, FIN, b""), Outcome::Duplicate);
    assert_eq!(bench.stream(), "abcdefgh");
}

// Differing overlap: tcp_data_queue.

#[test]
fn delivered_bytes_stay() {
    let mut bench = Bench::new();
    bench.data(0, "aaaa");
    assert_eq!(bench.data(2, "bbbb"), Outcome::Advanced);
    assert_eq!(bench.stream(), "aaaabb");
}

#[test]
fn segment_in_order_wins_over_what_waits() {
    let mut bench = Bench::new();
    bench.data(2, "bbbb");
    bench.data(0, "aaaa");
    assert_eq!(bench.stream(), "aaaabb");
    bench.data(8, "cc");
    bench.data(6, "dddddd");
    assert_eq!(bench.stream(), "aaaabbdddddd");
}

// Overlap of what waits.

#[test]
fn overlap_that_agrees_is_joined() {
    // Each pair of pieces of "abcdefgh" that wait behind the first octet.
    let stream = "abcdefgh";
    for a in 1..8 {
        for b in a + 1..=8 {
            for c in 1..8 {
                for d in c + 1..=8 {
                    let mut bench = Bench::new();
                    bench.data(a as i64, &stream[a..b]);
                    bench.data(c as i64, &stream[c..d]);
                    bench.data(0, "a");
                    let end = match (a, c) {
                        (1, _) if c <= b => b.max(d),
                        (_, 1) if a <= d => b.max(d),
                        (1, _) => b,
                        (_, 1) => d,
                        _ => 1,
                    };
                    assert_eq!(bench.stream(), &stream[..end], "{a}..{b}, {c}..{d}");
                }
            }
        }
    }
}

#[test]
fn segment_within_one_that_waits_is_dropped() {
    let mut bench = Bench::new();
    bench.data(2, "cdef");
    for (offset, payload) in [(2, "cdef"), (2, "cd"), (3, "de"), (4, "ef")] {
        assert_eq!(bench.data(offset, payload), Outcome::Duplicate);
    }
}

#[test]
fn covered_segments_are_removed() {
    let mut bench = Bench::new();
    bench.data(3, "d");
    bench.data(5, "f");
    bench.data(8, "ijk");
    let before = bench.reassembler.memory();
    assert_eq!(bench.data(2, "cdefghi"), Outcome::Queued);
    assert!(bench.reassembler.memory() < before);
    bench.data(0, "ab");
    assert_eq!(bench.stream(), "abcdefghijk");
}

#[test]
fn overlap_that_contradicts_is_refused() {
    for (offset, payload) in [
        (2, "cdxf"),
        (2, "x"),
        (5, "x"),
        (1, "bcdx"),
        (1, "bx"),
        (4, "exgh"),
        (5, "xgh"),
        (1, "bcdefgx"),
    ] {
        let mut bench = Bench::new();
        bench.data(2, "cdef");
        bench.data(7, "h");
        let memory = bench.reassembler.memory();
        assert_eq!(bench.try_data(offset, payload), Err(QueueError::Ambiguous), "{payload}");
        assert_eq!(bench.reassembler.memory(), memory);
        bench.data(0, "ab");
        assert_eq!(bench.stream(), "abcdef");
    }
}

#[test]
fn contradiction_is_found_behind_the_nearest_segment() {
    // Both begin before the third, and only the first reaches no further.
    let mut bench = Bench::new();
    bench.data(2, "cdefgh");
    bench.data(4, "efghij");
    assert_eq!(bench.data(6, "ghijk"), Outcome::Queued);
    let mut bench = Bench::new();
    bench.data(2, "cdefg");
    bench.data(3, "defghi");
    bench.data(4, "efghijk");
    assert_eq!(bench.try_data(8, "ix"), Err(QueueError::Ambiguous));
}

#[test]
fn ends_that_contradict_are_refused() {
    // FIN has number 6.
    for (offset, flags, payload) in [
        (6, ACK, &b"g"[..]),
        (4, ACK, b"efg"),
        (9, ACK, b"x"),
        (2, FIN, b"cd"),
        (4, FIN, b""),
        (7, FIN, b""),
        (6, FIN, b"g"),
    ] {
        let mut bench = Bench::new();
        bench.at(3, FIN, b"def");
        assert_eq!(bench.try_at(offset, flags, payload), Err(QueueError::Ambiguous), "{offset}");
    }
    for (offset, payload) in [(6, &b""[..]), (2, b"cdef"), (5, b"f")] {
        let mut bench = Bench::new();
        bench.at(3, FIN, b"def");
        assert!(bench.try_at(offset, FIN, payload).is_ok(), "{offset}");
        bench.data(0, "abc");
        assert_eq!(bench.stream(), "abcdef");
        assert_eq!(bench.reassembler.finished(), Some(End::Fin));
    }
}

// FIN.

#[test]
fn fin_waits_for_its_hole() {
    let mut bench = Bench::new();
    assert_eq!(bench.at(6, FIN, b""), Outcome::Queued);
    assert_eq!(bench.reassembler.finished(), None);
    bench.data(0, "abc");
    assert_eq!(bench.at(3, ACK, b"def"), Outcome::Advanced);
    assert_eq!(bench.reassembler.finished(), Some(End::Fin));
    assert_eq!(bench.stream(), "abcdef");
}

#[test]
fn nothing_follows_fin() {
    let mut bench = Bench::new();
    assert_eq!(bench.data(8, "junk"), Outcome::Queued);
    bench.at(0, FIN, b"abc");
    assert_eq!(bench.reassembler.memory(), 0);
    assert_eq!(bench.data(4, "junk"), Outcome::AfterEnd);
    assert_eq!(bench.data(2, "cXY"), Outcome::AfterEnd);
    assert_eq!(bench.at(4, ACK, b""), Outcome::Empty, "the client still acknowledges");
    assert_eq!(bench.stream(), "abc");
}

#[test]
fn fin_on_known_data_counts() {
    let mut bench = Bench::new();
    bench.data(0, "abc");
    assert_eq!(bench.at(0, FIN, b"abc"), Outcome::Advanced);
    assert_eq!(bench.reassembler.finished(), Some(End::Fin));
    assert_eq!(bench.stream(), "abc");
}

// RST and SYN.

#[test]
fn rfc_5961_3_2_rst_only_with_the_exact_number() {
    let mut bench = Bench::new();
    bench.data(0, "abc");
    for offset in [0, 2, 4, 1000, 1 << 31] {
        assert_eq!(bench.at(offset, RST, b""), Outcome::ResetIgnored, "{offset}");
    }
    assert_eq!(bench.at(3, RST, b""), Outcome::Reset);
    assert_eq!(bench.reassembler.finished(), Some(End::Reset));
    assert_eq!(bench.data(3, "d"), Outcome::AfterEnd);
    assert_eq!(bench.stream(), "abc");
}

#[test]
fn rst_behind_what_waits() {
    let mut bench = Bench::new();
    bench.data(3, "def");
    bench.data(9, "jkl");
    assert_eq!(bench.at(6, RST, b""), Outcome::ResetIgnored);
    assert_eq!(bench.at(12, RST, b""), Outcome::Reset);
    assert_eq!(bench.reassembler.memory(), 0);
}

#[test]
fn rst_after_fin() {
    for offset in [3, 4] {
        let mut bench = Bench::new();
        bench.at(0, FIN, b"abc");
        assert_eq!(bench.at(5, RST, b""), Outcome::ResetIgnored);
        assert_eq!(bench.at(offset, RST, b""), Outcome::Reset);
        assert_eq!(bench.reassembler.finished(), Some(End::Reset));
    }
}

#[test]
fn rfc_5961_4_2_syn_is_ignored() {
    let mut bench = Bench::new();
    assert_eq!(bench.at(-1, SYN, b""), Outcome::SynIgnored);
    bench.data(0, "abc");
    assert_eq!(bench.at(3, SYN, b"x"), Outcome::SynIgnored);
    assert_eq!(bench.at(-1, SYN, b"abc"), Outcome::SynIgnored);
    assert_eq!(bench.stream(), "abc");
}

#[test]
fn rfc_7413_data_on_syn_waits_for_the_first_ack() {
    // Production took the data, or did not and gets it again.
    for taken in [true, false] {
        let mut bench = Bench::new();
        assert_eq!(bench.at(-1, SYN, b"abc"), Outcome::Queued);
        assert_eq!(bench.at(-1, SYN, b"abc"), Outcome::Duplicate);
        assert_eq!(bench.stream(), "");
        assert_eq!(bench.reassembler.hole_since(), None);
        if taken {
            assert_eq!(bench.at(3, ACK, b""), Outcome::Advanced);
        } else {
            assert_eq!(bench.at(0, ACK, b""), Outcome::Advanced);
            assert_eq!(bench.data(0, "abc"), Outcome::Duplicate);
        }
        assert_eq!(bench.data(3, "def"), Outcome::Advanced);
        assert_eq!(bench.stream(), "abcdef");
        assert_eq!(bench.deliveries[0], (100, 1));
    }
}

#[test]
fn rfc_7413_first_ack_carries_all_data_again() {
    let mut bench = Bench::new();
    bench.at(-1, SYN, b"abc");
    assert_eq!(bench.data(0, "abc"), Outcome::Advanced);
    assert_eq!(bench.data(0, "abcd"), Outcome::Advanced);
    assert_eq!(bench.stream(), "abcd");
}

// Windows, ACKs, timestamps.

#[test]
fn numbers_beyond_any_window() {
    let mut bench = Bench::new();
    assert_eq!(bench.data(1 << 30, "x"), Outcome::OutOfWindow);
    assert_eq!(bench.data(-(1 << 30), "x"), Outcome::OutOfWindow);
    assert_eq!(bench.data(1 << 31, "x"), Outcome::OutOfWindow);
    assert_eq!(bench.data((1 << 30) - 1, "x"), Outcome::Queued);
    assert_eq!(bench.data(-(1 << 30) + 1, "x"), Outcome::Duplicate);
}

#[test]
fn segments_need_a_possible_ack() {
    let mut bench = Bench::new();
    assert_eq!(bench.at(0, Flags::default(), b"x"), Outcome::AckMissing);
    let with_ack = |bench: &mut Bench, ack| {
        let (seq, ack) = (bench.reassembler.rcv_nxt(), SeqNum::new(ack));
        bench
            .segment(&Segment { seq, ack, flags: ACK, payload: b"x", ..Segment::default() })
            .unwrap()
    };
    assert_eq!(with_ack(&mut bench, 4_000_000_000), Outcome::Advanced);
    assert_eq!(bench.reassembler.acknowledged(), 0);
    assert_eq!(with_ack(&mut bench, 100), Outcome::Advanced);
    let wrapped = (1u64 << 32) + 100 - 4_000_000_000;
    assert_eq!(bench.reassembler.acknowledged(), wrapped);
    assert_eq!(with_ack(&mut bench, 50), Outcome::Advanced);
    assert_eq!(with_ack(&mut bench, 100 + (1 << 30)), Outcome::AckInvalid);
    assert_eq!(with_ack(&mut bench, 100u32.wrapping_sub(1 << 30)), Outcome::AckInvalid);
    assert_eq!(bench.reassembler.acknowledged(), wrapped);
    assert_eq!(bench.deliveries, [(4_000_000_000, 2), (100, 3), (50, 4)]);
}

#[test]
fn rfc_7323_5_3_old_timestamp_is_stale() {
    let mut bench = Bench::new();
    let with_time = |bench: &mut Bench, value, seconds: u64| {
        bench.now = seconds * 1_000_000_000;
        let mut segment = Segment {
            seq: bench.reassembler.rcv_nxt(),
            flags: ACK,
            payload: b"x",
            ..Segment::default()
        };
        segment.options.timestamps = Some(Timestamps { value, echo_reply: 0 });
        bench.segment(&segment).unwrap()
    };
    assert_eq!(with_time(&mut bench, 5000, 1), Outcome::Advanced);
    assert_eq!(with_time(&mut bench, 4000, 1), Outcome::Advanced, "not known to be left behind");
    assert_eq!(with_time(&mut bench, 6000, 3), Outcome::Advanced);
    assert_eq!(with_time(&mut bench, 4000, 3), Outcome::Stale);
    assert_eq!(bench.reassembler.delivered(), 3);
}

#[test]
fn urgent_data_stays_and_is_told() {
    let mut bench = Bench::new();
    assert!(!bench.reassembler.urgent());
    bench.at(0, Flags { urg: true, ..ACK }, b"abc");
    assert!(bench.reassembler.urgent());
    assert_eq!(bench.stream(), "abc");
}

// Bounds.

#[test]
fn what_waits_is_bounded() {
    let mut bench = Bench::with_limit(1000);
    assert_eq!(bench.at(1000, ACK, &[1; 600]), Outcome::Queued);
    let refused = bench.segment(&Segment {
        seq: SeqNum::new(START) + 10,
        ack: SeqNum::new(100),
        flags: ACK,
        payload: &[2; 600],
        ..Segment::default()
    });
    assert_eq!(refused, Err(QueueError::Overflow { limit: 1000 }));
    assert!(bench.reassembler.memory() <= 1000);
    // In order there is no limit.
    assert_eq!(bench.at(0, ACK, &[3; 5000]), Outcome::Advanced);
    assert_eq!(bench.reassembler.memory(), 0);
}

#[test]
fn single_bytes_cost_more_than_a_byte() {
    let mut bench = Bench::with_limit(10_000);
    let mut accepted = 0;
    for byte in 0..10_000u32 {
        let seq = SeqNum::new(START) + 2 + 2 * byte;
        let ack = SeqNum::new(100);
        let segment = Segment { seq, ack, flags: ACK, payload: b"x", ..Segment::default() };
        accepted += u32::from(bench.segment(&segment).is_ok());
    }
    assert!(accepted < 200, "{accepted}");
}

#[test]
fn stream_longer_than_the_sequence_space() {
    let mut reassembler = Reassembler::new(SeqNum::new(START), 1 << 20);
    let chunk = vec![7; 1 << 20];
    let mut total = 0u64;
    let mut seq = SeqNum::new(START);
    for round in 0..9_000u64 {
        let segment = |seq| Segment {
            seq,
            ack: SeqNum::new((round << 20) as u32),
            flags: ACK,
            payload: &chunk,
            ..Segment::default()
        };
        let mut deliver = |delivery: Delivery<'_>| total += delivery.bytes.len() as u64;
        let now = Instant::from_nanos(round);
        let inserted = reassembler.insert(&segment(seq), now, &mut deliver);
        assert_eq!(inserted, Ok(Outcome::Advanced));
        let again = reassembler.insert(&segment(seq), now, &mut deliver);
        assert_eq!(again, Ok(Outcome::Duplicate));
        seq += 1 << 20;
    }
    assert_eq!(total, 9_000 << 20);
    assert_eq!(reassembler.delivered(), total);
    assert_eq!(reassembler.acknowledged(), 8_999 << 20);
}

proptest! {
    /// However a stream is cut, repeated and shuffled, it comes out whole.
    #[test]
    fn shuffled_segments_give_the_stream(
        stream in prop::collection::vec(any::<u8>(), 1..500),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..60), 0..40),
        step in 1usize..50,
        seed in any::<u64>(),
    ) {
        // A cover of the whole stream, and any further pieces of it.
        let mut pieces: Vec<(usize, usize)> = (0..stream.len())
            .step_by(step)
            .map(|begin| (begin, (begin + step).min(stream.len())))
            .collect();
        for (begin, len) in cuts {
            let begin = begin.index(stream.len());
            pieces.push((begin, (begin + len).min(stream.len())));
        }
        let mut random = seed;
        for at in (1..pieces.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            pieces.swap(at, (random >> 33) as usize % (at + 1));
        }
        let mut bench = Bench::new();
        for (begin, end) in pieces {
            let flags = if end == stream.len() { FIN } else { ACK };
            bench.at(begin as i64, flags, &stream[begin..end]);
            prop_assert!(stream.starts_with(&bench.stream));
        }
        prop_assert_eq!(&bench.stream, &stream);
        prop_assert_eq!(bench.reassembler.finished(), Some(End::Fin));
        prop_assert_eq!(bench.reassembler.memory(), 0);
    }
}
