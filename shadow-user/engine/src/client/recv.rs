//! The receive side: RCV variables, out-of-order octets and what is acknowledged.

use crate::seq::SeqNum;
use crate::time::{Duration, Instant};
use crate::wire::{SackBlocks, Segment, Timestamps};

/// RFC 7323, 5.5: "If a TCP connection has been idle for longer than 24 days", TS.Recent is
/// no longer valid.
const TS_RECENT_LIFE: Duration = Duration::from_secs(24 * 24 * 3600);

/// More out-of-order ranges than that are not kept (and so not SACKed): the peer sends them again.
const MAX_RANGES: usize = 64;

/// RFC 9293, 3.3.1: the receive sequence space.
#[derive(Debug)]
pub(super) struct Rcv {
    /// RCV.NXT.
    pub nxt: SeqNum,
    /// RCV.WND, octets. Constant: the mirror swallows what arrives in order, so the right
    /// edge moves with RCV.NXT, never shrinks (RFC 9293, 3.8.6: "SHLD-14") and needs no window
    /// updates; RFC 9293, 3.8.6.2.2's silly windows cannot arise.
    pub wnd: u32,
    /// Rcv.Wind.Shift (RFC 7323, 2.3).
    pub shift: u8,
    /// Stream octets delivered.
    pub received: u64,
    /// Segments with data that were not acknowledged yet.
    pub unacknowledged: u8,
    /// Last.ACK.sent (RFC 7323, 4.3).
    last_ack_sent: SeqNum,
    /// TS.Recent (RFC 7323, 4.3) and when it was stored.
    ts_recent: u32,
    ts_recent_at: Instant,
    /// Where the stream ends, once a FIN was seen within the window.
    fin: Option<SeqNum>,
    /// Octets beyond a hole: sorted, disjoint, not touching.
    ranges: Vec<Range>,
    /// Counts arrivals out of order, to tell which range is the most recent.
    arrivals: u32,
    /// A range that arrived twice, to be reported once (RFC 2883).
    duplicate: Option<(SeqNum, SeqNum)>,
}

/// Octets beyond a hole.
#[derive(Debug)]
struct Range {
    left: SeqNum,
    bytes: Vec<u8>,
    arrival: u32,
}

impl Range {
    fn right(&self) -> SeqNum {
        self.left + self.bytes.len() as u32
    }
}

/// What a segment's text did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Arrival {
    /// RFC 5681, 4.2: the segment is out of order, or fills a hole, or arrived before.
    pub acknowledge_now: bool,
    /// The peer's FIN was reached.
    pub fin: bool,
}

impl Rcv {
    /// Offers `limit` octets of window, as far as the window scale `shift` can say.
    pub fn new(limit: usize, shift: Option<u8>) -> Self {
        // RFC 7323, 2.3: "the shift count MUST be limited to 14".
        let shift = shift.unwrap_or(0).min(14);
        let most = u32::from(u16::MAX) << shift;
        let wnd = u32::try_from(limit).unwrap_or(u32::MAX).min(most) >> shift << shift;
        Self {
            nxt: SeqNum::default(),
            wnd: wnd.max(1 << shift),
            shift,
            received: 0,
            unacknowledged: 0,
            last_ack_sent: SeqNum::default(),
            ts_recent: 0,
            ts_recent_at: Instant::default(),
            fin: None,
            ranges: Vec::new(),
            arrivals: 0,
            duplicate: None,
        }
    }

    /// The peer's SYN arrived; `scaled` when both ends sent the window scale option.
    pub fn synchronize(&mut self, irs: SeqNum, scaled: bool) {
        self.nxt = irs + 1;
        self.last_ack_sent = self.nxt;
        if !scaled {
            self.shift = 0;
            self.wnd = self.wnd.min(u32::from(u16::MAX));
        }
    }

    /// Heap octets held.
    pub fn memory(&self) -> usize {
        self.ranges.capacity() * size_of::<Range>()
            + self.ranges.iter().map(|range| range.bytes.capacity()).sum::<usize>()
    }

    /// Forgets what is kept out of order.
    pub fn clear(&mut self) {
        self.ranges = Vec::new();
    }

    /// RFC 9293, 3.10.7.4: the four cases of segment acceptability.
    pub fn acceptable(&self, seg: &Segment<'_>) -> bool {
        let edge = self.nxt + self.wnd;
        let within = |seq: SeqNum| seq.after_or_at(self.nxt) && seq.before(edge);
        // RCV.WND is never zero here.
        if seg.is_empty() {
            // "RCV.NXT =< SEG.SEQ < RCV.NXT+RCV.WND"
            within(seg.seq)
        } else {
            // "RCV.NXT =< SEG.SEQ < RCV.NXT+RCV.WND or
            //  RCV.NXT =< SEG.SEQ+SEG.LEN-1 < RCV.NXT+RCV.WND"; and a segment that begins
            // before and ends beyond the window has octets in it as well.
            within(seg.seq)
                || within(seg.seq + (seg.len() - 1))
                || (seg.seq.before(self.nxt) && (seg.seq + seg.len()).after(edge))
        }
    }

    /// RFC 7323, 5.3 R1: whether PAWS refuses the timestamp.
    pub fn paws_refuses(&self, ts: Timestamps, now: Instant) -> bool {
        // "SEG.TSval < TS.Recent", unless TS.Recent is too old to say (5.5).
        ts.value.wrapping_sub(self.ts_recent).cast_signed() < 0
            && now.since(self.ts_recent_at) < TS_RECENT_LIFE
    }

    /// RFC 7323, 4.3 (2): "If: SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent then
    /// SEG.TSval is copied to TS.Recent; otherwise, it is ignored."
    pub fn note_timestamp(&mut self, ts: Timestamps, seq: SeqNum, now: Instant) {
        if !self.paws_refuses(ts, now) && seq.before_or_at(self.last_ack_sent) {
            self.set_timestamp(ts, now);
        }
    }

    /// Stores the SYN's timestamp.
    pub fn set_timestamp(&mut self, ts: Timestamps, now: Instant) {
        self.ts_recent = ts.value;
        self.ts_recent_at = now;
    }

    /// TSecr to send.
    pub fn ts_recent(&self) -> u32 {
        self.ts_recent
    }

    /// An acknowledgment of RCV.NXT was sent.
    pub fn acknowledged(&mut self) {
        self.last_ack_sent = self.nxt;
        self.unacknowledged = 0;
        self.duplicate = None;
    }

    /// The window field of a segment other than SYN.
    pub fn window_field(&self) -> u16 {
        // RFC 7323, 2.3: "SEG.WND = RCV.WND >> Rcv.Wind.Shift".
        u16::try_from(self.wnd >> self.shift).unwrap_or(u16::MAX)
    }

    /// The SACK blocks to send, at most `room`.
    pub fn sack_blocks(&self, room: usize) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        let room = room.min(SackBlocks::MAX);
        // RFC 2883, 4: "the first SACK block ... reports a duplicate contiguous sequence of data".
        if let Some((left, right)) = self.duplicate.filter(|_| room > 0) {
            blocks.push(left, right);
        }
        // RFC 2018, 4: "The first SACK block ... MUST specify the contiguous block of data
        // containing the segment which triggered this ACK", and "the SACK option SHOULD be filled
        // out by repeating the most recently reported SACK blocks".
        let mut below = u32::MAX;
        while blocks.len() < room {
            let Some(range) =
                self.ranges.iter().filter(|r| r.arrival < below).max_by_key(|r| r.arrival)
            else {
                break;
            };
            blocks.push(range.left, range.right());
            below = range.arrival;
        }
        blocks
    }

    /// Seventh and eighth step of RFC 9293, 3.10.7.4: text and FIN of an acceptable segment.
    /// What is in order is handed out; the rest is kept as far as it is within the window.
    pub fn text(&mut self, seg: &Segment<'_>, received: &mut impl FnMut(&[u8])) -> Arrival {
        let mut arrival = Arrival::default();
        let mut seq = if seg.flags.syn { seg.seq + 1 } else { seg.seq };
        let mut text = seg.payload;
        let end = seq + text.len() as u32;
        let edge = self.nxt + self.wnd;
        if seg.flags.fin && end.after_or_at(self.nxt) && end.before(edge) && self.fin.is_none() {
            self.end_at(end);
        }
        // "trimming off any portions that lie outside the window", or beyond the stream's end.
        let limit = match self.fin {
            Some(fin) if fin.before(edge) => fin,
            _ => edge,
        };
        if end.after(limit) {
            let keep = u32::try_from(limit.distance(seq)).unwrap_or(0);
            text = &text[..(keep as usize).min(text.len())];
        }
        if seq.before(self.nxt) {
            let old = (self.nxt.distance(seq).unsigned_abs() as usize).min(text.len());
            if old > 0 {
                self.duplicate = Some((seq, seq + old as u32));
                arrival.acknowledge_now = true;
            }
            text = &text[old..];
            seq = self.nxt;
        }
        if !text.is_empty() {
            if seq == self.nxt {
                // RFC 5681, 4.2: "A TCP receiver SHOULD send an immediate ACK when the incoming
                // segment fills in all or part of a gap in the sequence space."
                arrival.acknowledge_now |= !self.ranges.is_empty();
                self.unacknowledged = self.unacknowledged.saturating_add(1);
                self.deliver(text, received);
                self.deliver_ranges(received);
            } else {
                // RFC 5681, 4.2: "Out-of-order data segments SHOULD be acknowledged immediately".
                arrival.acknowledge_now = true;
                self.keep(seq, text);
            }
        }
        // RFC 9293, 3.10.7.4, eighth: "advance RCV.NXT over the FIN, and send an acknowledgment".
        if self.fin == Some(self.nxt) {
            self.nxt += 1;
            self.fin = None;
            arrival.fin = true;
        }
        if seg.flags.fin {
            arrival.acknowledge_now = true;
        }
        arrival
    }

    /// A segment arrived of which every octet was acknowledged before.
    pub fn note_duplicate(&mut self, seg: &Segment<'_>) {
        let end = seg.seq + seg.payload.len() as u32;
        if end.before_or_at(self.nxt) && end.after(seg.seq) {
            self.duplicate = Some((seg.seq, end));
        }
    }

    fn deliver(&mut self, bytes: &[u8], received: &mut impl FnMut(&[u8])) {
        self.nxt += bytes.len() as u32;
        self.received += bytes.len() as u64;
        received(bytes);
    }

    /// Hands out the ranges that have become in order.
    fn deliver_ranges(&mut self, received: &mut impl FnMut(&[u8])) {
        let ready = self.ranges.partition_point(|range| range.left.before_or_at(self.nxt));
        for range in self.ranges.drain(..ready).collect::<Vec<_>>() {
            let old = self.nxt.distance(range.left).unsigned_abs() as usize;
            if let Some(bytes) = range.bytes.get(old..).filter(|bytes| !bytes.is_empty()) {
                self.deliver(bytes, received);
            }
        }
        if self.ranges.is_empty() {
            self.ranges = Vec::new();
        }
    }

    /// The stream ends at `fin`: what was kept beyond it is nonsense.
    fn end_at(&mut self, fin: SeqNum) {
        self.fin = Some(fin);
        self.ranges.retain_mut(|range| {
            let keep = usize::try_from(fin.distance(range.left)).unwrap_or(0);
            range.bytes.truncate(keep);
            !range.bytes.is_empty()
        });
    }

    /// Keeps octets beyond a hole; of octets that arrive twice the first stay.
    fn keep(&mut self, seq: SeqNum, text: &[u8]) {
        let end = seq + text.len() as u32;
        // Ranges that overlap or touch [seq, end).
        let first = self.ranges.partition_point(|range| range.right().before(seq));
        let last = self.ranges.partition_point(|range| range.left.before_or_at(end));
        self.arrivals += 1;
        if first == last {
            if self.ranges.len() < MAX_RANGES {
                let range = Range { left: seq, bytes: text.to_vec(), arrival: self.arrivals };
                self.ranges.insert(first, range);
            }
            return;
        }
        let touched = &self.ranges[first];
        if touched.left.before_or_at(seq) && end.before_or_at(touched.right()) {
            self.duplicate = Some((seq, end));
            self.ranges[first].arrival = self.arrivals;
            return;
        }
        let mut rest: Vec<Range> = self.ranges.drain(first..last).collect();
        let mut merged = if rest[0].left.before_or_at(seq) {
            rest.remove(0)
        } else {
            Range { left: seq, bytes: Vec::new(), arrival: 0 }
        };
        merged.arrival = self.arrivals;
        let mut append = |from: SeqNum, bytes: &[u8]| {
            let old = usize::try_from(merged.right().distance(from)).unwrap_or(0);
            merged.bytes.extend_from_slice(bytes.get(old..).unwrap_or(&[]));
        };
        // Between two kept ranges the new text fills the gap; where both have an octet, the
        // kept one is appended first.
        for range in &rest {
            let gap = usize::try_from(range.left.distance(seq)).unwrap_or(0).min(text.len());
            append(seq, &text[..gap]);
            append(range.left, &range.bytes);
        }
        append(seq, text);
        self.ranges.insert(first, merged);
    }
}
