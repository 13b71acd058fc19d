//! The send side: SND variables and the send buffer.

use std::collections::VecDeque;

use crate::seq::SeqNum;

/// RFC 9293, 3.3.1: the send sequence space, and what of the stream was written, released
/// and acknowledged (stream octets).
///
/// ```text
///   0         acknowledged        sent        released        written
///   ├──────────────┼───────────────┼─────────────┼───────────────┤ FIN
///               snd.una         snd.nxt
/// ```
#[derive(Debug)]
pub(super) struct Snd {
    /// ISS.
    pub iss: SeqNum,
    /// SND.UNA: oldest unacknowledged sequence number.
    pub una: SeqNum,
    /// SND.NXT: next sequence number that was never sent.
    pub nxt: SeqNum,
    /// SND.WND, scaled, octets.
    pub wnd: u32,
    /// SND.WL1: SEG.SEQ of the last window update.
    pub wl1: SeqNum,
    /// SND.WL2: SEG.ACK of the last window update.
    pub wl2: SeqNum,
    /// MAX.SND.WND (RFC 5961, 5).
    pub max_wnd: u32,
    /// Shift of the peer's window field: Snd.Wind.Shift (RFC 7323, 2.3).
    pub shift: u8,
    /// The peer's MSS option.
    pub mss: u16,
    /// Whether every octet was written: FIN follows.
    pub closing: bool,
    /// Whether FIN was sent.
    pub fin_sent: bool,
    /// Whether FIN was acknowledged.
    pub fin_acknowledged: bool,
    acknowledged: u64,
    released: u64,
    written: u64,
    buffer: VecDeque<u8>,
}

impl Snd {
    pub fn new(iss: SeqNum, mss: u16) -> Self {
        Self {
            iss,
            una: iss,
            nxt: iss,
            wnd: 0,
            wl1: SeqNum::default(),
            wl2: SeqNum::default(),
            max_wnd: 0,
            shift: 0,
            mss,
            closing: false,
            fin_sent: false,
            fin_acknowledged: false,
            acknowledged: 0,
            released: 0,
            written: 0,
            buffer: VecDeque::new(),
        }
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub fn released(&self) -> u64 {
        self.released
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    /// Heap octets held.
    pub fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.buffer.extend(bytes);
        self.written += bytes.len() as u64;
    }

    pub fn release(&mut self, upto: u64) {
        self.released = self.released.max(upto.min(self.written));
    }

    /// Gives the buffer back; the counts stay.
    pub fn clear(&mut self) {
        self.buffer = VecDeque::new();
    }

    /// FlightSize: octets of sequence space sent and not acknowledged.
    pub fn flight(&self) -> u32 {
        self.nxt.get().wrapping_sub(self.una.get())
    }

    /// Data octets sent and not acknowledged: the flight without SYN and FIN.
    fn data_in_flight(&self) -> u32 {
        // Only before the SYN is acknowledged: 4 GiB later SND.UNA passes ISS again.
        if self.una == self.iss && self.acknowledged == 0 {
            return 0;
        }
        self.flight() - u32::from(self.fin_sent && !self.fin_acknowledged)
    }

    /// The right edge of the peer's window.
    pub fn window_edge(&self) -> SeqNum {
        self.una + self.wnd
    }

    /// RFC 9293, 3.8.6.2.1: "U = SND.UNA + SND.WND - SND.NXT", zero when the window shrank.
    pub fn usable(&self) -> u32 {
        self.wnd.saturating_sub(self.flight())
    }

    /// Data octets that were released and never sent.
    pub fn unsent(&self) -> u64 {
        self.released.saturating_sub(self.acknowledged + u64::from(self.data_in_flight()))
    }

    /// Whether FIN may follow once `more` further octets are sent.
    pub fn fin_after(&self, more: u32) -> bool {
        self.closing
            && !self.fin_sent
            && self.released == self.written
            && self.unsent() == u64::from(more)
    }

    /// Whether there is anything new to send: RFC 9293's D is not zero.
    pub fn has_unsent(&self) -> bool {
        self.unsent() > 0 || self.fin_after(0)
    }

    /// Data octets from `seq` on, at most `len`; `seq` is not before SND.UNA.
    pub fn slices(&self, seq: SeqNum, len: u32) -> [&[u8]; 2] {
        let start = (seq.get().wrapping_sub(self.una.get()) as usize).min(self.buffer.len());
        let end = start.saturating_add(len as usize).min(self.buffer.len());
        let (front, back) = self.buffer.as_slices();
        let middle = front.len();
        [
            &front[start.min(middle)..end.min(middle)],
            &back[start.saturating_sub(middle)..end.saturating_sub(middle)],
        ]
    }

    /// Takes note that `[seq, seq + len)` of data, and FIN, were sent.
    pub fn sent(&mut self, seq: SeqNum, len: u32, fin: bool) {
        let end = seq + len + u32::from(fin);
        self.fin_sent |= fin;
        if end.after(self.nxt) {
            self.nxt = end;
        }
    }

    /// Splits `[seq, end)` of what was sent into data octets and FIN.
    pub fn data_and_fin(&self, seq: SeqNum, end: SeqNum) -> (u32, bool) {
        let len = end.get().wrapping_sub(seq.get());
        let fin = self.fin_sent && !self.fin_acknowledged && end == self.nxt;
        (len - u32::from(fin), fin)
    }

    /// The SYN was acknowledged.
    pub fn synchronize(&mut self) {
        self.una = self.iss + 1;
        self.nxt = self.una;
    }

    /// SND.UNA moves to `ack`, which is after it and not after SND.NXT. Returns the octets
    /// of sequence space acknowledged.
    pub fn acknowledge(&mut self, ack: SeqNum) -> u32 {
        let acked = ack.get().wrapping_sub(self.una.get());
        let fin = self.fin_sent && !self.fin_acknowledged && ack == self.nxt;
        self.fin_acknowledged |= fin;
        let data = acked - u32::from(fin);
        self.buffer.drain(..(data as usize).min(self.buffer.len()));
        self.acknowledged += u64::from(data);
        self.una = ack;
        self.trim();
        acked
    }

    /// Gives memory back: an idle connection holds none.
    fn trim(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = VecDeque::new();
        } else if self.buffer.capacity() > 64 * 1024
            && self.buffer.len() < self.buffer.capacity() / 8
        {
            self.buffer.shrink_to(self.buffer.len() * 2);
        }
    }
}
