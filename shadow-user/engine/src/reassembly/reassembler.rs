//! The reassembler of one flow.

use super::paws::Paws;
use super::queue::{Queue, QueueError, Waiting};
use crate::seq::SeqNum;
use crate::time::Instant;
use crate::wire::Segment;

/// The largest window there can be: 2^16 scaled by 14 (RFC 7323, 2.3), octets.
const MAX_WINDOW: u32 = 1 << 30;

/// Bytes of the stream, next in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delivery<'a> {
    /// The bytes; never empty.
    pub bytes: &'a [u8],
    /// SEG.ACK of the segment that carried them: how much of production's answer
    /// the client had seen when it sent them. Bytes on a SYN have the client's
    /// first ACK.
    pub ack: SeqNum,
    /// When the segment that carried them was captured.
    pub captured_at: Instant,
}

/// What became of a segment.
#[derive(
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    PartialEq,
    strum::EnumCount,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// `rcv.nxt` advanced: bytes were delivered, or FIN came in order.
    Advanced,
    /// It waits behind a hole (or, with data on a SYN, for the first ACK).
    Queued,
    /// Nothing new: a retransmission, a keep-alive, a zero-window probe.
    Duplicate,
    /// Further from `rcv.nxt` than any window reaches.
    OutOfWindow,
    /// A pure ACK.
    Empty,
    /// A RST that production obeys.
    Reset,
    /// A RST that production does not obey (RFC 5961, 3.2).
    ResetIgnored,
    /// A SYN within the connection (RFC 5961, 4.2), or again, without data.
    SynIgnored,
    /// Without ACK (RFC 9293, 3.10.7.4, fifth: "if the ACK bit is off, drop").
    AckMissing,
    /// With an ACK of what production cannot have sent (RFC 5961, 5.2).
    AckInvalid,
    /// With a timestamp from before the numbers wrapped (RFC 7323, 5.3, R1).
    Stale,
    /// Behind FIN or RST.
    AfterEnd,
}

impl Outcome {
    /// The label in metrics and in the summary.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// How the client ended its stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// FIN, with every byte before it in order.
    Fin,
    /// RST; also after FIN.
    Reset,
}

/// Puts one client's segments in order. The module's doc has the rules.
///
/// Holds no heap memory while nothing waits behind a hole.
#[derive(Debug)]
pub struct Reassembler {
    queue: Queue,
    /// Octets of data delivered: the stream offset of `rcv_nxt`.
    delivered: u64,
    /// How far `ack` is behind the first ACK, octets.
    acknowledged: u64,
    hole_since: Instant,
    limit: usize,
    paws: Paws,
    rcv_nxt: SeqNum,
    /// The greatest SEG.ACK; meaningful once `ack_seen`.
    ack: SeqNum,
    ack_seen: bool,
    urgent: bool,
    end: Option<End>,
}

const _: () = assert!(size_of::<Reassembler>() <= 112);

impl Reassembler {
    /// Starts a stream at `rcv_nxt`: the client's initial sequence number plus
    /// one, or where the flow is joined. At most `limit` octets, bookkeeping
    /// included, wait behind holes.
    #[must_use]
    pub fn new(rcv_nxt: SeqNum, limit: usize) -> Self {
        Self {
            queue: Queue::default(),
            delivered: 0,
            acknowledged: 0,
            hole_since: Instant::default(),
            limit,
            paws: Paws::default(),
            rcv_nxt,
            ack: SeqNum::default(),
            ack_seen: false,
            urgent: false,
            end: None,
        }
    }

    /// Takes a captured segment. Bytes that are in order are delivered without a
    /// copy, followed by those that thereby came in order.
    ///
    /// The flow's own SYN need be given only if it carries data.
    ///
    /// # Errors
    /// [`QueueError`] when the segment would have to wait and cannot.
    pub fn insert(
        &mut self,
        segment: &Segment<'_>,
        captured_at: Instant,
        deliver: &mut impl FnMut(Delivery<'_>),
    ) -> Result<Outcome, QueueError> {
        if self.end == Some(End::Reset) {
            return Ok(Outcome::AfterEnd);
        }
        if segment.flags.rst {
            return Ok(self.reset(segment.seq));
        }
        if segment.flags.syn {
            return self.insert_syn(segment, captured_at);
        }
        if !segment.flags.ack {
            return Ok(Outcome::AckMissing);
        }
        if segment.seq.distance(self.rcv_nxt).unsigned_abs() >= MAX_WINDOW {
            return Ok(Outcome::OutOfWindow);
        }
        if self.paws.refuses(segment.options.timestamps, captured_at) {
            return Ok(Outcome::Stale);
        }
        if is_old(segment, self.rcv_nxt) {
            return Ok(Outcome::Duplicate);
        }
        if !self.acknowledge(segment.ack) {
            return Ok(Outcome::AckInvalid);
        }
        self.urgent |= segment.flags.urg;

        // What waited for nothing but an ACK: data on SYN.
        let mut advanced = self.drain(deliver);
        if segment.is_empty() {
            self.note_in_order(segment, captured_at);
        } else if self.end.is_some() {
            return Ok(Outcome::AfterEnd);
        } else if segment.seq.after(self.rcv_nxt) {
            return self.enqueue(segment, segment.seq, captured_at);
        } else if !is_old(segment, self.rcv_nxt) {
            self.note_in_order(segment, captured_at);
            // Not after rcv.nxt, so the distance is not negative.
            let known = self.rcv_nxt.distance(segment.seq).unsigned_abs() as usize;
            let bytes = segment.payload.get(known..).unwrap_or_default();
            self.advance(bytes, segment.ack, captured_at, deliver);
            if segment.flags.fin {
                self.finish();
            }
            self.drain(deliver);
            advanced = true;
        }
        Ok(if advanced { Outcome::Advanced } else { Outcome::Empty })
    }

    /// RCV.NXT: the next sequence number of the stream.
    #[must_use]
    pub fn rcv_nxt(&self) -> SeqNum {
        self.rcv_nxt
    }

    /// Octets of data delivered so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// How far the client's greatest acknowledgment is ahead of its first one:
    /// octets of production's answer that it has seen, counted past 2^32.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// When the segment behind the hole at `rcv.nxt` was captured (of several the
    /// first, while the hole stayed); `None` when there is no hole.
    #[must_use]
    pub fn hole_since(&self) -> Option<Instant> {
        let (offset, _) = self.queue.first()?;
        (offset > self.delivered).then_some(self.hole_since)
    }

    /// How the stream ended, if it has.
    #[must_use]
    pub fn finished(&self) -> Option<End> {
        self.end
    }

    /// Whether the client has sent urgent data.
    #[must_use]
    pub fn urgent(&self) -> bool {
        self.urgent
    }

    /// Heap octets held behind holes, bookkeeping included.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.queue.memory()
    }

    /// Obeys or ignores a RST as Linux does (`tcp_validate_incoming`).
    fn reset(&mut self, seq: SeqNum) -> Outcome {
        // RFC 5961, 3.2: "If the RST bit is set and the sequence number exactly
        // matches the next expected sequence number (RCV.NXT), then TCP MUST reset
        // the connection."
        let exact = seq == self.rcv_nxt;
        // Linux, with SACK: some stacks number a RST by what was last sent, behind a
        // hole. (Without SACK it asks again, and gets the exact number.)
        let behind_all = self.queue.right_edge().is_some_and(|edge| seq == self.seq_at(edge));
        // Linux (tcp_reset_check): others give it the number of their FIN.
        let at_fin = self.end == Some(End::Fin) && seq == self.rcv_nxt - 1;
        if exact || behind_all || at_fin {
            self.end = Some(End::Reset);
            self.queue.clear();
            Outcome::Reset
        } else {
            Outcome::ResetIgnored
        }
    }

    /// Keeps the data of the flow's own SYN (RFC 7413) for the first ACK.
    fn insert_syn(
        &mut self,
        segment: &Segment<'_>,
        captured_at: Instant,
    ) -> Result<Outcome, QueueError> {
        let first = segment.seq + 1;
        let own = first == self.rcv_nxt && !self.ack_seen;
        // Linux drops SYN with FIN on a listener (tcp_rcv_state_process).
        if own && !segment.flags.ack && !segment.flags.fin && !segment.payload.is_empty() {
            self.enqueue(segment, first, captured_at)
        } else {
            Ok(Outcome::SynIgnored)
        }
    }

    /// Lets a segment wait whose data begins at `first`.
    fn enqueue(
        &mut self,
        segment: &Segment<'_>,
        first: SeqNum,
        captured_at: Instant,
    ) -> Result<Outcome, QueueError> {
        let ahead = first.distance(self.rcv_nxt).unsigned_abs();
        let waiting = Waiting {
            data: segment.payload.into(),
            fin: segment.flags.fin,
            ack: segment.flags.ack.then_some(segment.ack),
            captured_at,
        };
        if self.hole_since().is_none() {
            self.hole_since = captured_at;
        }
        let offset = self.delivered + u64::from(ahead);
        let queued = self.queue.insert(offset, waiting, self.limit)?;
        Ok(if queued { Outcome::Queued } else { Outcome::Duplicate })
    }

    /// Delivers what waited and is now in order; whether there was anything.
    fn drain(&mut self, deliver: &mut impl FnMut(Delivery<'_>)) -> bool {
        let before = self.rcv_nxt;
        while let Some((offset, waiting)) = self.queue.pop_until(self.delivered) {
            let known = (self.delivered - offset) as usize;
            // Delivered meanwhile, FIN's own number included.
            if known >= waiting.data.len() + usize::from(waiting.fin) {
                continue;
            }
            let bytes = waiting.data.get(known..).unwrap_or_default();
            self.advance(bytes, waiting.ack.unwrap_or(self.ack), waiting.captured_at, deliver);
            if waiting.fin {
                self.finish();
            }
        }
        let advanced = self.rcv_nxt != before;
        if advanced && let Some((_, captured_at)) = self.queue.first() {
            self.hole_since = captured_at;
        }
        advanced
    }

    /// Moves over bytes that are next in order.
    fn advance(
        &mut self,
        bytes: &[u8],
        ack: SeqNum,
        captured_at: Instant,
        deliver: &mut impl FnMut(Delivery<'_>),
    ) {
        if !bytes.is_empty() {
            // A segment's data is bounded by the IP packet, far below 4 GiB.
            self.rcv_nxt += bytes.len() as u32;
            self.delivered += bytes.len() as u64;
            deliver(Delivery { bytes, ack, captured_at });
        }
    }

    /// Moves over the FIN that is next in order. Nothing can follow it.
    fn finish(&mut self) {
        self.rcv_nxt += 1;
        self.end = Some(End::Fin);
        self.queue.clear();
    }

    /// Notes SEG.ACK; false when production cannot have sent so much, or so little.
    fn acknowledge(&mut self, ack: SeqNum) -> bool {
        if !self.ack_seen {
            self.ack = ack;
            self.ack_seen = true;
            return true;
        }
        let distance = ack.distance(self.ack);
        if distance.unsigned_abs() >= MAX_WINDOW {
            return false;
        }
        if distance > 0 {
            self.ack = ack;
            self.acknowledged += u64::from(distance.unsigned_abs());
        }
        true
    }

    fn note_in_order(&mut self, segment: &Segment<'_>, captured_at: Instant) {
        if segment.seq.before_or_at(self.rcv_nxt) {
            self.paws.note(segment.options.timestamps, captured_at);
        }
    }

    /// The sequence number at a stream offset no further than a window ahead.
    fn seq_at(&self, offset: u64) -> SeqNum {
        self.rcv_nxt + (offset.wrapping_sub(self.delivered)) as u32
    }
}

/// Whether a segment ends before anything new: all of its sequence space is
/// known, or it has none and lies behind (a keep-alive: RFC 9293, 3.8.4).
fn is_old(segment: &Segment<'_>, rcv_nxt: SeqNum) -> bool {
    let end = segment.seq + segment.len();
    if segment.is_empty() { end.before(rcv_nxt) } else { end.before_or_at(rcv_nxt) }
}
