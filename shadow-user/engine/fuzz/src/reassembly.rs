//! Any sequence of segments: the reassembler agrees, step by step, with a plain
//! model of what Linux does.

use shadow_engine::reassembly::{End, Outcome, QueueError, Reassembler};
use shadow_engine::seq::SeqNum;
use shadow_engine::time::Instant;
use shadow_engine::wire::{Flags, Segment};

/// A segment as the model keeps it: positions count from the initial `rcv.nxt`,
/// and `end` counts FIN.
#[derive(Clone, Debug)]
struct Held {
    begin: i64,
    end: i64,
    data: Vec<u8>,
}

/// The receive side of a kernel, with a list and no cleverness.
#[derive(Debug, Default)]
pub struct Model {
    rcv_nxt: i64,
    queue: Vec<Held>,
    /// What the application reads.
    pub stream: Vec<u8>,
    fin: bool,
    reset: bool,
}

impl Model {
    fn insert(&mut self, begin: i64, data: &[u8], fin: bool) {
        let held =
            Held { begin, end: begin + data.len() as i64 + i64::from(fin), data: data.to_vec() };
        if self.fin || held.end <= self.rcv_nxt {
            return;
        }
        if begin <= self.rcv_nxt {
            self.read(&held);
            while let Some(first) = self.queue.first().cloned()
                && first.begin <= self.rcv_nxt
                && !self.fin
            {
                self.queue.remove(0);
                self.read(&first);
            }
        } else if !self.queue.iter().any(|old| old.begin <= held.begin && held.end <= old.end) {
            self.queue.retain(|old| old.begin < held.begin || held.end < old.end);
            self.queue.push(held);
            self.queue.sort_by_key(|held| held.begin);
        }
    }

    /// Whether a segment that would wait gives an octet, or FIN, or nothing (behind
    /// FIN) where another that waits gives something else.
    fn contradicts(&self, begin: i64, data: &[u8], fin: bool) -> bool {
        let end = begin + data.len() as i64;
        self.queue.iter().any(|held| {
            let held_end = held.begin + held.data.len() as i64;
            let held_fin = held.end > held_end;
            let differs = (begin.max(held.begin)..end.min(held_end))
                .any(|at| data[(at - begin) as usize] != held.data[(at - held.begin) as usize]);
            differs
                || fin && held_end > end
                || held_fin && end > held_end
                || fin && held_fin && end != held_end
        })
    }

    fn read(&mut self, held: &Held) {
        if held.end <= self.rcv_nxt {
            return;
        }
        let data_end = held.begin + held.data.len() as i64;
        self.stream.extend(held.data.iter().skip((self.rcv_nxt - held.begin) as usize));
        self.rcv_nxt = held.end;
        if held.end > data_end {
            self.fin = true;
            self.queue.clear();
        }
    }

    fn reset(&mut self, at: i64) {
        let edge = self.queue.last().map(|held| held.end);
        if at == self.rcv_nxt || Some(at) == edge || self.fin && at == self.rcv_nxt - 1 {
            self.reset = true;
        }
    }
}

/// What the reassembler counts for each waiting segment beside its data.
const SEGMENT_COST: usize = 96;

/// Steps of an input; more would only be slow.
const MAX_STEPS: usize = 300;

/// Checks one input: five bytes of set-up, then four per segment.
pub fn check(input: &[u8]) {
    let Some((&[mode, a, b, c, d], steps)) = input.split_first_chunk() else { return };
    let limit = if mode & 1 == 0 { 1 << 20 } else { 1000 };
    // Whether segments agree about the stream's bytes.
    let honest = mode & 2 != 0;
    let start = SeqNum::new(u32::from_be_bytes([a, b, c, d]));
    let mut reassembler = Reassembler::new(start, limit);
    let mut model = Model::default();
    let mut stream = Vec::new();
    let mut ack = SeqNum::new(77);

    for (step, &[kind, place, len, ack_step]) in
        steps.as_chunks::<4>().0.iter().take(MAX_STEPS).enumerate()
    {
        let scale = [1, 16, 300, 1 << 24][usize::from(kind >> 6)];
        let begin = model.rcv_nxt + i64::from(place.cast_signed()) * scale;
        let data: Vec<u8> = (0..i64::from(len))
            .map(|at| match honest {
                true => (begin + at).wrapping_mul(31) as u8,
                // Four in five steps agree.
                false => u8::from(step % 5 == 4),
            })
            .collect();
        // One in eight carries what is rare.
        let rare = kind & 0b11_1000 == 0;
        let flags = Flags {
            ack: !(rare && kind & 4 != 0),
            fin: rare && kind & 1 != 0,
            rst: rare && kind & 2 != 0,
            ..Flags::default()
        };
        let acknowledges = ack + u32::from(ack_step >> 1);
        let segment = Segment {
            seq: start + begin as u32,
            ack: acknowledges,
            flags,
            payload: &data,
            ..Segment::default()
        };
        let now = Instant::from_nanos(step as u64);
        let mut order = Vec::new();
        let outcome = reassembler.insert(&segment, now, &mut |delivery| {
            assert!(!delivery.bytes.is_empty());
            assert!(delivery.captured_at <= now);
            order.push(delivery.ack);
            stream.extend_from_slice(delivery.bytes);
        });

        let ended = model.reset;
        match outcome {
            Err(QueueError::Overflow { limit }) => assert_eq!(limit, 1000, "step {step}"),
            Err(QueueError::Ambiguous) => {
                assert!(model.contradicts(begin, &data, flags.fin), "step {step}");
            }
            Ok(_) if ended => assert_eq!(outcome, Ok(Outcome::AfterEnd)),
            Ok(_) if flags.rst => model.reset(begin),
            Ok(_) if !flags.ack => assert_eq!(outcome, Ok(Outcome::AckMissing)),
            Ok(Outcome::OutOfWindow) => {
                assert!((begin - model.rcv_nxt).abs() >= 1 << 30);
            }
            Ok(_) => {
                if !matches!(outcome, Ok(Outcome::Duplicate)) {
                    ack = acknowledges;
                }
                if !data.is_empty() || flags.fin {
                    if begin > model.rcv_nxt && !model.fin {
                        assert!(!model.contradicts(begin, &data, flags.fin), "step {step}");
                    }
                    model.insert(begin, &data, flags.fin);
                }
            }
        }
        assert_eq!(stream, model.stream, "step {step}: {segment:?} {outcome:?}");
        assert_eq!(reassembler.delivered(), stream.len() as u64);
        if !model.reset {
            assert_eq!(reassembler.rcv_nxt(), start + model.rcv_nxt as u32);
            let hole = !model.queue.is_empty();
            assert_eq!(reassembler.hole_since().is_some(), hole, "step {step}");
            let held: usize = model.queue.iter().map(|held| held.data.len() + SEGMENT_COST).sum();
            assert_eq!(reassembler.memory(), held, "step {step}");
        }
        assert!(reassembler.memory() <= limit);
        assert_eq!(
            reassembler.finished(),
            if model.reset { Some(End::Reset) } else { model.fin.then_some(End::Fin) }
        );
    }
    if honest {
        let expected: Vec<u8> =
            (0..stream.len() as i64).map(|at| at.wrapping_mul(31) as u8).collect();
        assert_eq!(stream, expected);
    }
}
