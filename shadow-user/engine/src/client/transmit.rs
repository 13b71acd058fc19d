//! What is sent next.

use crate::client::timer::Timer;
use crate::client::{Client, State};
use crate::seq::SeqNum;
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Options, SackBlocks, Segment, Timestamps};

use super::recovery::{Phase, TailProbe};
use super::sack::{earlier, later};

/// RFC 9293, 3.8.6.2.1: "The override timeout should be in the range 0.1 - 1.0 seconds."
const OVERRIDE: Duration = Duration::from_millis(200);

/// A segment to send: a header, and its data where it lies in the send buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Outgoing<'a> {
    /// The header; its `payload` is empty.
    pub segment: Segment<'a>,
    /// The data octets, in two parts.
    pub payload: [&'a [u8]; 2],
    /// Data octets of each segment but the last, where the payload is that of several.
    pub segment_size: u32,
}

impl Outgoing<'_> {
    /// Data octets.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload[0].len() + self.payload[1].len()
    }

    /// How many segments it is.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.payload_len().div_ceil(self.segment_size.max(1) as usize).max(1)
    }
}

/// A reset to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reset {
    pub seq: SeqNum,
    pub ack: Option<SeqNum>,
}

/// Something to send although windows or order say otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Force {
    /// The first segment not acknowledged, whatever cwnd is: fast retransmit and timeout.
    Head,
    /// A tail-loss probe, whatever cwnd is.
    Tail,
    /// One octet into a shut window, or less than a segment into a narrow one.
    Persist,
}

/// A range of sequence space to send.
#[derive(Clone, Copy, Debug)]
struct Text {
    seq: SeqNum,
    /// Data octets.
    len: u32,
    fin: bool,
    /// RFC 6675's rescue retransmission.
    rescue: bool,
}

impl Client {
    /// The next segment due, until `None`.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing<'_>> {
        self.poll_transmit_up_to(0, now)
    }

    /// The same, or as many segments in one as have new data and may go now, of up to `most` octets of data
    /// in all: for whoever cuts them up, as network cards do (TCP segmentation offload).
    pub fn poll_transmit_up_to(&mut self, most: u32, now: Instant) -> Option<Outgoing<'_>> {
        if let Some(reset) = self.reset_due.take() {
            return Some(self.reset(reset, now));
        }
        match self.state {
            State::Closed => None,
            State::SynSent if self.syn_due => Some(self.syn(now)),
            State::SynSent => None,
            _ => match self.next_text(most, now) {
                Some(text) => Some(self.text(text, now)),
                None if self.ack_due => Some(self.ack(now)),
                None => None,
            },
        }
    }

    /// Queues the reset of a synchronized connection.
    pub(super) fn send_reset(&mut self) {
        self.reset_due = Some(Reset { seq: self.snd.nxt, ack: Some(self.rcv.nxt) });
    }

    fn reset(&self, reset: Reset, now: Instant) -> Outgoing<'static> {
        let segment = Segment {
            seq: reset.seq,
            ack: reset.ack.unwrap_or_default(),
            flags: Flags { rst: true, ack: reset.ack.is_some(), ..Flags::default() },
            // RFC 7323, 3.2: TSopt "SHOULD be sent in an <RST> segment".
            options: Options { timestamps: self.timestamps_option(now), ..Options::default() },
            ..Segment::default()
        };
        Outgoing { segment, payload: [&[], &[]], segment_size: 0 }
    }

    fn syn(&mut self, now: Instant) -> Outgoing<'static> {
        self.syn_due = false;
        if self.snd.nxt == self.snd.iss {
            self.snd.nxt = self.snd.iss + 1;
            self.timed = Some((self.snd.nxt, now));
        }
        self.timers.set(Timer::Retransmit, now + self.rto.get());
        let offer = &self.config.offer;
        // RFC 9293, 3.7.1: what this end can receive: the real client's MSS, but not more than
        // fits the mirror's own link.
        let link = self.config.path_mtu.saturating_sub(self.config.ip_header() + 20);
        let options = Options {
            mss: Some(offer.mss.min(link)),
            window_scale: offer.window_scale.map(|shift| shift.min(14)),
            sack_permitted: offer.sack_permitted,
            timestamps: offer
                .timestamps
                .then(|| Timestamps { value: self.timestamp(now), echo_reply: 0 }),
            sack: SackBlocks::default(),
        };
        let segment = Segment {
            seq: self.snd.iss,
            flags: Flags { syn: true, ..Flags::default() },
            // RFC 7323, 2.2: "The window field in a segment where the SYN bit is set ... MUST NOT
            // be scaled."
            wnd: u16::try_from(self.rcv.wnd).unwrap_or(u16::MAX),
            options,
            ..Segment::default()
        };
        Outgoing { segment, payload: [&[], &[]], segment_size: 0 }
    }

    fn ack(&mut self, now: Instant) -> Outgoing<'static> {
        // RFC 9293, 3.10.7.4 sends <SEQ=SND.NXT>. When the peer has taken window back, that lies
        // beyond its edge and would not be acceptable there.
        let seq = earlier(self.snd.nxt, self.snd.window_edge());
        let segment = self.header(seq, now);
        self.acknowledgment_sent();
        Outgoing { segment, payload: [&[], &[]], segment_size: 0 }
    }

    /// Every acknowledgment rides on whatever is sent.
    fn acknowledgment_sent(&mut self) {
        self.ack_due = false;
        self.timers.stop(Timer::DelayedAck);
        self.rcv.acknowledged();
    }

    fn timestamps_option(&self, now: Instant) -> Option<Timestamps> {
        // RFC 7323, 3.2: "Once TSopt has been successfully negotiated ..., the TSopt MUST be sent
        // in every non-<RST> segment for the duration of the connection".
        self.timestamps
            .then(|| Timestamps { value: self.timestamp(now), echo_reply: self.rcv.ts_recent() })
    }

    fn sack_option(&self) -> SackBlocks {
        // RFC 2018, 3: "a SACK option ... with n blocks will have a length of 8*n+2 bytes"; 40
        // octets of options hold four, or three beside timestamps.
        let room = if self.timestamps { 3 } else { 4 };
        if self.sack { self.rcv.sack_blocks(room) } else { SackBlocks::default() }
    }

    fn header(&self, seq: SeqNum, now: Instant) -> Segment<'static> {
        Segment {
            seq,
            ack: self.rcv.nxt,
            flags: Flags { ack: true, ..Flags::default() },
            wnd: self.rcv.window_field(),
            options: Options {
                timestamps: self.timestamps_option(now),
                sack: self.sack_option(),
                ..Options::default()
            },
            ..Segment::default()
        }
    }

    fn text(&mut self, text: Text, now: Instant) -> Outgoing<'_> {
        let mut segment = self.header(text.seq, now);
        segment.flags.fin = text.fin;
        // RFC 9293, 3.9.1.2: "The TCP endpoint MUST set the PSH bit in the last buffered segment
        // (i.e., when there is no more queued data to be sent)".
        segment.flags.psh = text.len > 0 && (self.snd.unsent() == 0 || text.fin) && {
            let end = text.seq + text.len + u32::from(text.fin);
            end == self.snd.nxt
        };
        let segment_size = self.limit();
        self.acknowledgment_sent();
        Outgoing { segment, payload: self.snd.slices(text.seq, text.len), segment_size }
    }

    /// Chooses what occupies sequence space, and takes note of it as sent.
    fn next_text(&mut self, most: u32, now: Instant) -> Option<Text> {
        if let Some(text) = self.force.take().and_then(|force| self.forced(force)) {
            self.sent(text, now);
            return Some(text);
        }
        let smss = self.smss();
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        if una == nxt && self.snd.has_unsent() {
            self.congestion.idle(now.since(self.last_sent), self.rto.get(), smss);
        }
        // RFC 6675, 4, NextSeg: (1) what is lost, (2) what was never sent, (3) what may be lost.
        let lost = self.scoreboard.next_lost(una, smss).filter(|_| self.phase != Phase::Open);
        let candidate =
            lost.and_then(|hole| self.again(hole)).or_else(|| self.new_text(false)).or_else(|| {
                let recovering = matches!(self.phase, Phase::FastRecovery { .. });
                let hole = self.scoreboard.next_hole(una).filter(|_| recovering);
                hole.and_then(|hole| self.again(hole))
            });
        let candidate = candidate.or_else(|| self.rescue());
        // RFC 6675, 5 (C): "If cwnd - pipe >= 1 SMSS, the sender SHOULD transmit one or more
        // segments"; the segment at hand may be smaller.
        let cwnd = self.congestion.cwnd();
        let room = cwnd.saturating_sub(self.scoreboard.pipe(una, nxt, smss));
        let text = candidate.filter(|text| text.len.max(1) <= room);
        if let Some(text) = text {
            let text = self.longer(text, room.min(most));
            self.sent(text, now);
            return Some(text);
        }
        // RFC 7661 and Linux: in slow start a window half used may grow.
        let slow_start = cwnd < self.congestion.ssthresh();
        let half_used = slow_start && self.snd.flight() >= cwnd / 2;
        self.congestion.set_limited(candidate.is_some() || half_used);
        self.start_retransmission(now);
        self.start_persist(now);
        None
    }

    /// Most data octets of the next segment: SMSS less the SACK blocks that go with it.
    fn limit(&self) -> u32 {
        let blocks = self.sack_option().len() as u32;
        let option = if blocks == 0 { 0 } else { 4 + 8 * blocks };
        self.smss().saturating_sub(option).max(1)
    }

    /// A segment from the start of a hole, cut to size and to the peer's window.
    fn again(&self, (start, end): (SeqNum, SeqNum)) -> Option<Text> {
        let end = earlier(earlier(end, start + self.limit()), self.snd.window_edge());
        if !start.before(end) {
            return None;
        }
        let (len, fin) = self.snd.data_and_fin(start, end);
        Some(Text { seq: start, len, fin, rescue: false })
    }

    /// A segment of what was never sent, cut to size and to the peer's window; `anyway`
    /// says that silly-window avoidance waited long enough.
    fn new_text(&self, anyway: bool) -> Option<Text> {
        let limit = self.limit();
        let unsent = self.snd.unsent();
        let usable = self.snd.usable();
        let len = u32::try_from(unsent).unwrap_or(u32::MAX).min(limit).min(usable);
        let fin = self.snd.fin_after(len) && len < usable;
        if len == 0 && !fin {
            return None;
        }
        // RFC 9293, 3.8.6.2.1: send data
        // "(1) if a maximum-sized segment can be sent, i.e., if: min(D,U) >= Eff.snd.MSS;
        //  (2) or if the data is pushed and all queued data can be sent now, i.e., if:
        //      [SND.NXT = SND.UNA and] PUSHed and D <= U (the bracketed condition is imposed by
        //      the Nagle algorithm);
        //  (3) or if at least a fraction Fs of the maximum window can be sent, i.e., if:
        //      [SND.NXT = SND.UNA and] min(D,U) >= Fs * Max(SND.WND);
        //  (4) or if data is PUSHed and the override timeout occurs."
        // Nagle is off: the real client's stack has already decided which segments to send,
        // and a release is a push.
        let all = unsent <= u64::from(usable);
        let worthwhile = len >= limit || all || len >= self.snd.max_wnd / 2;
        (worthwhile || anyway).then_some(Text { seq: self.snd.nxt, len, fin, rescue: false })
    }

    /// A full segment of what was never sent, with those that would follow it: whole ones, and one that is not
    /// when it is the last of what is queued.
    fn longer(&self, text: Text, most: u32) -> Text {
        let limit = self.limit();
        if text.seq != self.snd.nxt || text.len < limit || text.fin {
            return text;
        }
        let (unsent, usable) = (self.snd.unsent(), self.snd.usable());
        let can = u32::try_from(unsent).unwrap_or(u32::MAX).min(usable).min(most);
        let len = if u64::from(can) == unsent { can } else { can - can % limit };
        if len <= text.len {
            return text;
        }
        Text { len, fin: self.snd.fin_after(len) && len < usable, ..text }
    }

    /// RFC 6675, 4, NextSeg (4): "we provide the opportunity for a single "rescue" retransmission
    /// per entry into loss recovery": "one segment of up to SMSS octets that MUST include the
    /// highest outstanding unSACKed sequence number".
    fn rescue(&self) -> Option<Text> {
        if !self.sack || !matches!(self.phase, Phase::FastRecovery { spent: false, .. }) {
            return None;
        }
        let (start, end) = self.scoreboard.last_hole(self.snd.una, self.snd.nxt)?;
        let start = later(later(start, end - self.limit()), self.scoreboard.high_rxt);
        self.again((start, end)).map(|text| Text { rescue: true, ..text })
    }

    fn forced(&mut self, force: Force) -> Option<Text> {
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        match force {
            Force::Head => self.scoreboard.hole(una, nxt).and_then(|hole| self.again(hole)),
            Force::Tail => {
                // RFC 8985, 7.3: "If an unsent segment exists AND the receive window has space for
                // it: Transmit the lowest-sequence unsent segment ... Else: Retransmit the
                // highest-sequence segment sent so far".
                let text = self
                    .new_text(false)
                    .or_else(|| self.again((later(una, nxt - self.limit()), nxt)))?;
                let end = text.seq + text.len + u32::from(text.fin);
                self.tail =
                    Some(TailProbe { end: later(end, nxt), retransmission: text.seq.before(nxt) });
                Some(text)
            }
            Force::Persist if self.snd.wnd > 0 => self.new_text(true),
            // RFC 9293, 3.8.6.1: "The sending TCP peer must regularly transmit at least one octet
            // of new data (if available), or retransmit to the receiving TCP peer even if the send
            // window is zero". The one octet beyond the window.
            Force::Persist if una != nxt => {
                let (len, fin) = self.snd.data_and_fin(una, una + 1);
                Some(Text { seq: una, len, fin, rescue: false })
            }
            Force::Persist if self.snd.unsent() > 0 => {
                Some(Text { seq: nxt, len: 1, fin: false, rescue: false })
            }
            Force::Persist => {
                self.snd.fin_after(0).then_some(Text { seq: nxt, len: 0, fin: true, rescue: false })
            }
        }
    }

    /// Takes note that `text` is sent now.
    fn sent(&mut self, text: Text, now: Instant) {
        let end = text.seq + text.len + u32::from(text.fin);
        let again = text.seq.before(self.snd.nxt);
        if again {
            // Karn's algorithm, RFC 6298, 3: "RTT samples MUST NOT be made using segments that
            // were retransmitted".
            self.timed = self.timed.filter(|&(timed, _)| !text.seq.before(timed));
            if text.rescue {
                // "... and RescueRxt set to RecoveryPoint. HighRxt MUST NOT be updated."
                if let Phase::FastRecovery { spent, .. } = &mut self.phase {
                    *spent = true;
                }
            } else if self.phase != Phase::Open {
                self.scoreboard.resend(text.seq, end, self.snd.nxt, self.sack);
            }
        } else if self.timed.is_none() {
            self.timed = Some((end, now));
        }
        if text.fin && !self.snd.fin_sent {
            self.state = self.state.send_fin();
        }
        self.snd.sent(text.seq, text.len, text.fin);
        self.last_sent = now;
        let reno = !self.sack && matches!(self.phase, Phase::FastRecovery { spent: true, .. });
        if again && text.seq == self.snd.una && !reno {
            self.timers.stop(Timer::Retransmit);
        }
        self.start_retransmission(now);
        self.start_tail_probe(now);
    }

    /// The retransmission timer, or the persist timer in its place when the window is shut.
    pub(super) fn start_retransmission(&mut self, now: Instant) {
        if self.snd.flight() == 0 {
            self.timers.stop(Timer::Retransmit);
            self.timers.stop(Timer::TailLoss);
            if !self.snd.has_unsent() {
                self.timers.stop(Timer::User);
            }
            return;
        }
        self.timers.start(Timer::User, now + self.config.user_timeout());
        if self.snd.wnd == 0 {
            self.timers.stop(Timer::Retransmit);
            self.timers.stop(Timer::TailLoss);
            self.shut(now);
        } else {
            // RFC 6298, 5.1: "Every time a packet containing data is sent (including a
            // retransmission), if the timer is not running, start it running so that it will
            // expire after RTO seconds".
            self.timers.start(Timer::Retransmit, now + self.rto.get());
        }
    }

    /// Starts the persist timer when only the peer's window keeps data back.
    fn start_persist(&mut self, now: Instant) {
        if self.snd.flight() > 0 || !self.snd.has_unsent() {
            return;
        }
        self.timers.start(Timer::User, now + self.config.user_timeout());
        if self.snd.wnd == 0 {
            self.shut(now);
        } else {
            self.timers.start(Timer::Persist, now + OVERRIDE);
        }
    }

    /// The window is shut, and there is something to send.
    fn shut(&mut self, now: Instant) {
        self.shut_since.get_or_insert(now);
        // RFC 9293, 3.8.6.1: "The transmitting host SHOULD send the first zero-window probe when
        // a zero window has existed for the retransmission timeout period ..., and SHOULD
        // increase exponentially the interval between successive probes."
        let interval = self.rto.get().saturating_mul(1 << self.persists.min(8));
        // Probes go out, and can be lost, well within the user timeout.
        let longest = Duration::from_secs(60).min(self.config.user_timeout() / 4);
        self.timers.start(Timer::Persist, now + interval.min(longest));
    }
}
