//! SEGMENT ARRIVES (RFC 9293, 3.10.7).

use crate::client::{Client, Close, State};
use crate::time::{Duration, Instant};
use crate::wire::Segment;

use super::recovery::Selective;
use super::timer::Timer;
use super::transmit::Reset;

/// RFC 9293, 3.8.6.3: the delay "MUST be less than 0.5 seconds". Linux's least (`TCP_DELACK_MIN`).
const ACK_DELAY: Duration = Duration::from_millis(40);

impl Client {
    /// A segment from the shadow arrived. Its checksum was verified by the caller.
    ///
    /// Octets of the shadow's stream that are in order are handed to `received`, possibly in
    /// several pieces; octets beyond a hole are kept within the receive window.
    pub fn handle_segment(
        &mut self,
        segment: &Segment<'_>,
        now: Instant,
        received: &mut impl FnMut(&[u8]),
    ) {
        match self.state {
            State::Closed => self.arrives_closed(segment, now),
            State::SynSent => self.arrives_syn_sent(segment, now, received),
            _ => self.arrives_synchronized(segment, now, received),
        }
    }

    /// RFC 9293, 3.10.7.1.
    fn arrives_closed(&mut self, seg: &Segment<'_>, now: Instant) {
        // "An incoming segment containing a RST is discarded."
        if !seg.flags.rst {
            self.refuse(seg, now);
        }
    }

    /// "If the ACK bit is off: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>. If the ACK bit is on:
    /// <SEQ=SEG.ACK><CTL=RST>". Bounded like a challenge acknowledgment.
    fn refuse(&mut self, seg: &Segment<'_>, now: Instant) {
        if self.reset_due.is_none() && self.challenges.allow(now) {
            self.reset_due = Some(if seg.flags.ack {
                Reset { seq: seg.ack, ack: None }
            } else {
                Reset { seq: Default::default(), ack: Some(seg.seq + seg.len()) }
            });
        }
    }

    /// RFC 9293, 3.10.7.3.
    fn arrives_syn_sent(
        &mut self,
        seg: &Segment<'_>,
        now: Instant,
        received: &mut impl FnMut(&[u8]),
    ) {
        // First: "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set,
        // if so drop the segment and return)".
        let acceptable =
            seg.flags.ack && seg.ack.after(self.snd.iss) && seg.ack.before_or_at(self.snd.nxt);
        if seg.flags.ack && !acceptable {
            if !seg.flags.rst {
                self.refuse(seg, now);
            }
            return;
        }
        // Second: "If the RST bit is set: ... If the ACK was acceptable, then signal to the user
        // "error: connection reset", drop the segment, enter CLOSED state, delete TCB, and return.
        // Otherwise (no ACK), drop the segment and return."
        if seg.flags.rst {
            if acceptable {
                self.enter_closed(Close::Refused);
            }
            return;
        }
        // Fourth: the SYN bit. Without ACK it would be a simultaneous open, which is refused
        // (see `State`). Fifth: "if neither of the SYN or RST bits is set, then drop the segment".
        if !seg.flags.syn || !acceptable {
            return;
        }
        self.negotiate(seg, now);
        // "RCV.NXT is set to SEG.SEQ+1, IRS is set to SEG.SEQ. SND.UNA should be advanced to equal
        // SEG.ACK".
        self.snd.synchronize();
        let syn_lost = self.rto.backoff() > 0;
        if !syn_lost {
            self.measure(self.echo(seg), now);
        }
        // Otherwise the answer may be the peer's own retransmission, seconds after the SYN that it
        // echoes, and the RTO would be three times as many: here a timestamp is as ambiguous as a
        // number (Karn's algorithm, RFC 6298, 3).
        self.rto.established();
        self.congestion.established(self.smss(), syn_lost);
        // RFC 7323, 2.2: the window of a SYN is not scaled.
        self.snd.wnd = u32::from(seg.wnd);
        self.snd.max_wnd = self.snd.wnd;
        self.snd.wl1 = seg.seq;
        self.snd.wl2 = seg.ack;
        self.timers.stop(Timer::Retransmit);
        self.timers.stop(Timer::User);
        // "If SND.UNA > ISS ..., change the connection state to ESTABLISHED, form an ACK segment".
        self.state = State::Established;
        self.unreachable = false;
        self.syn_due = false;
        self.ack_due = true;
        self.events.connected = true;
        // "If there are other controls or text in the segment, then continue processing".
        self.text_arrives(seg, now, received);
    }

    /// Takes over what the SYN,ACK agrees to.
    fn negotiate(&mut self, seg: &Segment<'_>, now: Instant) {
        let offer = self.config.offer;
        let options = &seg.options;
        if let Some(mss) = options.mss {
            // Linux's TCP_MIN_SND_MSS: a smaller one would leave no room for data beside options.
            self.snd.mss = mss.max(48);
        }
        // RFC 7323, 2.2: "This option ... both sides MUST send Window Scale options in their <SYN>
        // segments to enable window scaling in either direction."
        let scale = offer.window_scale.and(options.window_scale);
        // RFC 7323, 2.3: "the TCP implementation ... MUST use 14 instead of the specified value".
        self.snd.shift = scale.unwrap_or(0).min(14);
        self.rcv.synchronize(seg.seq, scale.is_some());
        self.sack = offer.sack_permitted && options.sack_permitted;
        if let Some(ts) = options.timestamps.filter(|_| offer.timestamps) {
            self.timestamps = true;
            self.rcv.set_timestamp(ts, now);
        }
    }

    /// RFC 9293, 3.10.7.4: ESTABLISHED and later states.
    fn arrives_synchronized(
        &mut self,
        seg: &Segment<'_>,
        now: Instant,
        received: &mut impl FnMut(&[u8]),
    ) {
        // First: sequence number; before it PAWS and after it the RST bit.
        if !self.timestamp_acceptable(seg, now) {
            return;
        }
        if !self.rcv.acceptable(seg) {
            self.unacceptable(seg, now);
            return;
        }
        if seg.flags.rst {
            self.reset_arrives(seg, now);
            return;
        }
        // Fourth, RFC 5961, 4.2: "If the SYN bit is set, irrespective of the sequence number, TCP
        // endpoints MUST send an ACK (also referred to as challenge ACK) to the remote peer".
        if seg.flags.syn {
            self.challenge(now);
            return;
        }
        // Fifth: "if the ACK bit is off, drop the segment and return".
        if !seg.flags.ack {
            return;
        }
        // RFC 5961, 5.2: "The ACK value is considered acceptable only if it is in the range of
        // ((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT). All incoming segments whose ACK value
        // doesn't satisfy the above condition MUST be discarded and an ACK sent back."
        let oldest = self.snd.una - self.snd.max_wnd;
        if seg.ack.before(oldest) || seg.ack.after(self.snd.nxt) {
            self.challenge(now);
            return;
        }
        if let Some(ts) = seg.options.timestamps.filter(|_| self.timestamps) {
            self.rcv.note_timestamp(ts, seg.seq, now);
        }
        self.unreachable = false;
        self.acknowledgment_arrives(seg, now);
        if self.state == State::Closed {
            return;
        }
        // Sixth: the URG bit. The urgent pointer is not evaluated: urgent octets are part of the
        // stream (RFC 6093, 3.4 recommends inline delivery), and no one listens for the signal.
        self.text_arrives(seg, now, received);
    }

    /// RFC 7323, 5.3 R1, and 3.2 on segments that lack the option.
    fn timestamp_acceptable(&mut self, seg: &Segment<'_>, now: Instant) -> bool {
        if !self.timestamps || seg.flags.rst {
            // "the RST bit is not set": PAWS does not judge resets.
            return true;
        }
        match seg.options.timestamps {
            // "If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the
            // segment."
            None => false,
            // "Treat the segment as not acceptable: Send an acknowledgment in reply ... and drop
            // the segment."
            Some(ts) if self.rcv.paws_refuses(ts, now) => {
                self.unacceptable(seg, now);
                false
            }
            Some(_) => true,
        }
    }

    /// "If an incoming segment is not acceptable, an acknowledgment should be sent in reply
    /// (unless the RST bit is set, if so drop the segment and return)".
    fn unacceptable(&mut self, seg: &Segment<'_>, now: Instant) {
        if seg.flags.rst {
            return;
        }
        // A retransmission means that our acknowledgment was lost, and must be answered each
        // time; anything else is bounded, lest two ends acknowledge each other for ever.
        if !seg.is_empty() && !seg.flags.syn {
            self.rcv.note_duplicate(seg);
            self.ack_due = true;
        } else {
            self.challenge(now);
        }
        // TIME-WAIT: "the only thing that can arrive in this state is a retransmission of the
        // remote FIN. Acknowledge it, and restart the 2 MSL timeout."
        if seg.flags.fin && self.state == State::TimeWait {
            self.timers.set(Timer::Wait, now + self.config.time_wait());
        }
    }

    /// RFC 5961, 3.2.
    fn reset_arrives(&mut self, seg: &Segment<'_>, now: Instant) {
        // "If the RST bit is set and the sequence number exactly matches the next expected sequence
        // number (RCV.NXT), then TCP endpoints MUST reset the connection"; "... does not exactly
        // match the next expected sequence value, yet is within the current receive window, TCP
        // endpoints MUST send an acknowledgment (challenge ACK)."
        if seg.seq != self.rcv.nxt {
            self.challenge(now);
        } else if self.state == State::TimeWait {
            // Both streams were complete already.
            self.enter_closed(Close::Finished);
        } else {
            self.enter_closed(Close::Reset);
        }
    }

    fn challenge(&mut self, now: Instant) {
        if self.challenges.allow(now) {
            self.ack_due = true;
        }
    }

    /// Fifth step: the ACK field.
    fn acknowledgment_arrives(&mut self, seg: &Segment<'_>, now: Instant) {
        let (una, wnd) = (self.snd.una, self.snd.wnd);
        let window = u32::from(seg.wnd) << self.snd.shift;
        let selective = self.selective(seg);
        let newer = seg.ack.after(una);
        // "SND.UNA < SEG.ACK =< SND.NXT, then set SND.UNA <- SEG.ACK".
        let acked = if newer { self.snd.acknowledge(seg.ack) } else { 0 };
        if seg.ack.after_or_at(una) {
            // "If SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK), set SND.WND <-
            // SEG.WND, set SND.WL1 <- SEG.SEQ, and set SND.WL2 <- SEG.ACK." And, as in Linux, if
            // SND.UNA moved: the old window on the new left edge would reach further than the
            // peer offered.
            let newest = self.snd.wl1.before(seg.seq)
                || (self.snd.wl1 == seg.seq && self.snd.wl2.before_or_at(seg.ack));
            if newest || newer {
                self.snd.wnd = window;
                self.snd.max_wnd = self.snd.max_wnd.max(window);
                self.snd.wl1 = seg.seq;
                self.snd.wl2 = seg.ack;
                self.window_changed(wnd, now);
            }
        }
        if newer {
            self.acknowledged_new(acked, selective, self.echo(seg), now);
            if self.snd.fin_acknowledged {
                self.fin_acknowledged_now(now);
            }
        } else if seg.ack == una && self.snd.flight() > 0 {
            // RFC 5681, 2: a duplicate acknowledgment: "(a) the receiver of the ACK has outstanding
            // data, (b) the incoming acknowledgment carries no data, (c) the SYN and FIN bits are
            // both off, (d) the acknowledgment number is equal to the greatest acknowledgment
            // received on the given connection, and (e) the advertised window in the incoming
            // acknowledgment equals the advertised window in the last incoming acknowledgment."
            // RFC 6675, 2, with SACK: "a segment ... that carries a SACK block that identifies
            // previously unacknowledged and un-SACKed octets".
            let plain = seg.is_empty() && window == wnd && window > 0;
            if if self.sack { selective.news > 0 } else { plain } {
                self.acknowledged_again(selective);
            }
        } else if seg.ack == una && seg.is_empty() {
            self.tail_probe_duplicated();
        }
    }

    /// TSecr, where timestamps were agreed on.
    fn echo(&self, seg: &Segment<'_>) -> Option<u32> {
        seg.options.timestamps.filter(|_| self.timestamps).map(|ts| ts.echo_reply)
    }

    /// Takes the SACK blocks (RFC 2018, RFC 2883).
    fn selective(&mut self, seg: &Segment<'_>) -> Selective {
        let mut selective = Selective::default();
        if !self.sack || seg.options.sack.is_empty() || seg.ack.before(self.snd.una) {
            return selective;
        }
        let una = if seg.ack.after(self.snd.una) { seg.ack } else { self.snd.una };
        let mut blocks = seg.options.sack.iter();
        let (first, second) = (blocks.next(), blocks.next());
        // RFC 2883, 4: the first block reports a duplicate when it lies below the cumulative
        // acknowledgment, or within the second block.
        selective.duplicate = first.is_some_and(|(left, right)| {
            right.before_or_at(seg.ack)
                || second.is_some_and(|(from, to)| left.after_or_at(from) && right.before_or_at(to))
        });
        for block in seg.options.sack.iter() {
            selective.news += self.scoreboard.select(block, una, self.snd.nxt);
        }
        selective
    }

    /// SND.WND was set anew; it was `old`.
    fn window_changed(&mut self, old: u32, now: Instant) {
        if self.snd.wnd > old {
            self.timers.stop(Timer::Persist);
        }
        if self.snd.wnd > 0 {
            self.persists = 0;
            self.shut_since = None;
            if old == 0 && self.snd.flight() > 0 {
                // What was sent into the shut window was most likely thrown away.
                self.resend(now);
            }
        } else if self.shut_since.is_some() {
            // RFC 9293, 3.8.6.1: "As long as the receiving TCP peer continues to send
            // acknowledgments in response to the probe segments, the sending TCP peer MUST allow
            // the connection to stay open." Up to the limit that policy sets.
            self.timers.set(Timer::User, self.patience(now));
        }
        if self.snd.wnd == 0 && self.snd.flight() > 0 {
            self.start_retransmission(now);
        }
    }

    /// Our FIN was acknowledged.
    fn fin_acknowledged_now(&mut self, now: Instant) {
        self.state = self.state.fin_acknowledged();
        match self.state {
            State::FinWait2 => self.timers.set(Timer::Wait, now + self.config.fin_wait_timeout()),
            State::TimeWait => self.enter_time_wait(now),
            State::Closed => self.enter_closed(Close::Finished),
            _ => {}
        }
    }

    fn enter_time_wait(&mut self, now: Instant) {
        // "Start the time-wait timer, turn off the other timers".
        self.timers.stop_all();
        self.timers.set(Timer::Wait, now + self.config.time_wait());
    }

    /// Seventh and eighth step: text and FIN.
    fn text_arrives(&mut self, seg: &Segment<'_>, now: Instant, received: &mut impl FnMut(&[u8])) {
        if seg.payload.is_empty() && !seg.flags.fin {
            return;
        }
        if !matches!(self.state, State::Established | State::FinWait1 | State::FinWait2) {
            // "This should not occur since a FIN has been received from the remote side. Ignore
            // the segment text."
            return;
        }
        let arrival = self.rcv.text(seg, received);
        if self.state == State::FinWait2 {
            self.timers.set(Timer::Wait, now + self.config.fin_wait_timeout());
        }
        if arrival.fin {
            self.state = self.state.receive_fin();
            self.events.peer_closed = true;
            if self.state == State::TimeWait {
                self.enter_time_wait(now);
            }
        }
        // RFC 9293, 3.8.6.3: "an ACK SHOULD be generated for at least every second full-sized
        // segment". A longer one is several that the kernel joined (GRO).
        let joined = seg.payload.len() > usize::from(self.config.offer.mss);
        if arrival.acknowledge_now || self.rcv.unacknowledged >= 2 || joined {
            self.ack_due = true;
        } else if self.rcv.unacknowledged > 0 {
            self.timers.start(Timer::DelayedAck, now + ACK_DELAY);
        }
    }
}
