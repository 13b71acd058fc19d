//! Loss recovery: what acknowledgments, duplicates and timeouts say about loss.

use crate::client::Client;
use crate::seq::SeqNum;
use crate::time::{Duration, Instant};

use super::sack::DUP_THRESH;
use super::timer::Timer;
use super::transmit::Force;

/// RFC 8985, 7.2: "WCDelAckT = 200 milliseconds".
const WORST_CASE_DELAYED_ACK: Duration = Duration::from_millis(200);

/// Which recovery is under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// None: RFC 5681's slow start or congestion avoidance.
    Open,
    /// Fast recovery (RFC 6675, RFC 6582) until `recover` is acknowledged. `spent` says that
    /// what is allowed once was done: with SACK the rescue retransmission, without it the
    /// restart of the retransmission timer by a partial acknowledgment.
    FastRecovery { recover: SeqNum, spent: bool },
    /// Everything up to `recover` is sent again, after a timeout or because the
    /// segments could not have arrived. No fast recovery begins before that is acknowledged.
    Resend { recover: SeqNum },
}

/// A tail-loss probe not yet accounted for (RFC 8985, 7.4).
#[derive(Clone, Copy, Debug)]
pub(super) struct TailProbe {
    /// TLP.end_seq: SND.NXT once the probe was sent.
    pub end: SeqNum,
    /// TLP.is_retrans.
    pub retransmission: bool,
}

/// What an acknowledgment of nothing new said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Selective {
    /// Octets that were not known to have arrived.
    pub news: u32,
    /// It reported something that arrived twice (RFC 2883).
    pub duplicate: bool,
}

impl Client {
    /// SND.UNA moved by `acked` octets.
    pub(super) fn acknowledged_new(
        &mut self,
        acked: u32,
        selective: Selective,
        echo: Option<u32>,
        now: Instant,
    ) {
        let una = self.snd.una;
        let smss = self.smss();
        let mut restart = true;
        self.measure(echo, now);
        self.rto.progress();
        self.duplicates = 0;
        self.scoreboard.advance(una);
        self.tail_probe_acknowledged(selective);
        match self.phase {
            Phase::Open => {
                self.scoreboard.departed = 0;
                self.congestion.acknowledged(acked, smss, false);
            }
            Phase::FastRecovery { recover, .. } if una.after_or_at(recover) => {
                self.congestion.recovered(self.snd.flight(), smss);
                self.end_recovery();
            }
            Phase::FastRecovery { .. } if self.sack => {}
            Phase::FastRecovery { recover, spent } => {
                // RFC 6582, 3.2 (3): "If this ACK does *not* acknowledge all of the data up to and
                // including recover, then this is a partial ACK. In this case, retransmit the first
                // unacknowledged segment. Deflate the congestion window by the amount of new data
                // acknowledged ... If the partial ACK acknowledges at least one SMSS of new data,
                // then add back SMSS bytes".
                self.scoreboard.departed =
                    self.scoreboard.departed.saturating_sub(acked.saturating_sub(smss));
                // "For the first partial ACK that arrives during fast recovery, also reset the
                // retransmit timer": many losses in one window end in a timeout and slow start
                // sooner than in one round trip each.
                restart = !spent;
                self.phase = Phase::FastRecovery { recover, spent: true };
                self.first_is_lost();
            }
            Phase::Resend { recover } => {
                self.congestion.acknowledged(acked, smss, true);
                if una.after_or_at(recover) {
                    self.end_recovery();
                }
            }
        }
        self.check_resent();
        if self.phase == Phase::Open && self.scoreboard.lost_edge(smss).after(una) {
            self.fast_retransmit();
        }
        // RFC 6298, 5.2 and 5.3: "When all outstanding data has been acknowledged, turn off the
        // retransmission timer"; "When an ACK is received that acknowledges new data, restart the
        // retransmission timer so that it will expire after RTO seconds".
        if restart {
            self.timers.stop(Timer::Retransmit);
        }
        self.timers.stop(Timer::TailLoss);
        self.timers.stop(Timer::User);
        if self.snd.flight() > 0 || self.snd.has_unsent() {
            self.timers.set(Timer::User, self.patience(now));
        }
        self.start_retransmission(now);
        self.start_tail_probe(now);
    }

    /// An acknowledgment of SND.UNA that RFC 5681 or RFC 6675 counts as a duplicate.
    pub(super) fn acknowledged_again(&mut self, selective: Selective) {
        let smss = self.smss();
        self.duplicates = self.duplicates.saturating_add(1);
        self.check_resent();
        match self.phase {
            Phase::Resend { .. } => return,
            Phase::Open | Phase::FastRecovery { .. } if !self.sack => {
                // Each duplicate says that one segment has left the network; the first one
                // cannot be among them. This is also RFC 3042's limited transmit: the first
                // two duplicates let one new segment each out.
                let most = self.snd.flight().saturating_sub(smss);
                self.scoreboard.departed = (self.scoreboard.departed + smss).min(most);
            }
            Phase::Open | Phase::FastRecovery { .. } => {}
        }
        if self.phase != Phase::Open {
            return;
        }
        // The probe was sent a round trip and more after everything below it, so what is
        // missing below it is lost: RFC 8985's time-based rule in the one case where counting
        // to DupThresh would have to wait for the retransmission timer.
        let probed = self.tail.is_some_and(|tail| {
            selective.news > 0
                && self.scoreboard.highest().is_some_and(|end| end.after_or_at(tail.end))
        });
        // RFC 6675, 5: "(1) If DupAcks >= DupThresh, go to step (4)"; "(2) If DupAcks < DupThresh
        // but IsLost (HighACK + 1) returns true ... go to step (4)".
        if self.duplicates >= DUP_THRESH
            || probed
            || self.scoreboard.lost_edge(smss).after(self.snd.una)
        {
            if probed {
                self.scoreboard.lost_until = self.scoreboard.highest().unwrap_or(self.snd.una);
            }
            self.fast_retransmit();
        }
    }

    /// RFC 6675, 5 (4); RFC 6582, 3.2 (2).
    fn fast_retransmit(&mut self) {
        // "(4.1) RecoveryPoint = HighData".
        self.phase = Phase::FastRecovery { recover: self.snd.nxt, spent: false };
        // "(4.2) ssthresh = cwnd = (FlightSize / 2)".
        self.congestion.lost(self.snd.flight(), self.smss());
        self.tail = None;
        self.timers.stop(Timer::TailLoss);
        self.scoreboard.forget_resent();
        // "(4.3) Retransmit the first data segment presumed dropped".
        self.first_is_lost();
    }

    /// The first segment in flight is to be sent again, whatever cwnd is.
    fn first_is_lost(&mut self) {
        let una = self.snd.una;
        let end = una + self.smss().min(self.snd.flight());
        self.scoreboard.high_rxt = una;
        if end.after(self.scoreboard.lost_until) {
            self.scoreboard.lost_until = end;
        }
        self.force = Some(Force::Head);
    }

    fn end_recovery(&mut self) {
        self.phase = Phase::Open;
        self.scoreboard.departed = 0;
        self.scoreboard.forget_resent();
    }

    /// Looks for retransmissions that were lost again.
    fn check_resent(&mut self) {
        let smss = self.smss();
        if self.scoreboard.update_resent(self.snd.una, smss) {
            self.congestion.lost_again(smss);
        }
    }

    /// RFC 6298, 5.4 to 5.6: the retransmission timer expired.
    pub(super) fn retransmission_timeout(&mut self) {
        if self.snd.flight() == 0 {
            return;
        }
        let first = self.rto.backoff() == 0;
        self.congestion.timed_out(self.snd.flight(), self.smss(), first);
        self.rto.back_off();
        self.all_again();
        // "(5.4) Retransmit the earliest segment that has not been acknowledged".
        self.force = Some(Force::Head);
    }

    /// Everything in flight is sent again as cwnd allows, the first segment at once.
    pub(super) fn resend(&mut self, now: Instant) {
        self.all_again();
        self.force = Some(Force::Head);
        self.timers.set(Timer::Retransmit, now + self.rto.get());
    }

    fn all_again(&mut self) {
        self.phase = Phase::Resend { recover: self.snd.nxt };
        self.scoreboard.all_lost(self.snd.una, self.snd.nxt);
        self.duplicates = 0;
        self.timed = None;
        self.tail = None;
        self.timers.stop(Timer::TailLoss);
    }

    /// Takes a round-trip time, one a round trip: RFC 6298, 3 asks for "at least once per RTT",
    /// and RFC 7323, appendix G warns of more.
    pub(super) fn measure(&mut self, echo: Option<u32>, now: Instant) {
        match self.timed {
            Some((end, sent)) if self.snd.una.after_or_at(end) => {
                self.rto.sample(now.since(sent));
                self.timed = None;
            }
            Some(_) => {}
            // RFC 7323, 4.1 (RTTM): "a TSecr value received in a segment MAY be used to update the
            // averaged RTT measurement only if the segment advances the left edge of the send
            // window". With a timestamp, a retransmission is no ambiguity.
            None => {
                if let Some(echo) = echo {
                    let millis = self.timestamp(now).wrapping_sub(echo);
                    let rtt = Duration::from_millis(u64::from(millis.max(1)));
                    if rtt <= self.config.user_timeout() {
                        self.rto.sample(rtt);
                    }
                }
            }
        }
    }

    /// RFC 8985, 7.2: schedules a loss probe.
    pub(super) fn start_tail_probe(&mut self, now: Instant) {
        self.timers.stop(Timer::TailLoss);
        // "the sender SHOULD schedule a PTO only if all of the following conditions are met:
        // 1. The connection supports SACK. 2. The connection has no SACKed sequences in the SACK
        // scoreboard. 3. The connection is not in loss recovery. 4. The most recently
        // transmitted data was not itself a TLP probe (TLP.end_seq not set)".
        if !self.sack
            || self.phase != Phase::Open
            || !self.scoreboard.is_empty()
            || self.tail.is_some()
            || self.snd.flight() == 0
            || self.snd.wnd == 0
        {
            return;
        }
        // "If SRTT is available: PTO = 2 * SRTT; if FlightSize is one segment: PTO +=
        // TLP.max_ack_delay. Else: PTO = 1 sec".
        let timeout = match self.rto.srtt() {
            Some(srtt) if self.snd.flight() <= self.smss() => srtt * 2 + WORST_CASE_DELAYED_ACK,
            Some(srtt) => srtt * 2,
            None => Duration::from_secs(1),
        };
        // "If Now() + PTO > TCP_RTO_expiration(): PTO = TCP_RTO_expiration() - Now()", in which
        // case the retransmission timer does the same work.
        let at = now + timeout;
        if self.timers.get(Timer::Retransmit).is_some_and(|rto| at < rto) {
            self.timers.set(Timer::TailLoss, at);
        }
    }

    /// RFC 8985, 7.4: whether the probe repaired a loss, which congestion control has to hear of.
    fn tail_probe_acknowledged(&mut self, selective: Selective) {
        let Some(tail) = self.tail else { return };
        let una = self.snd.una;
        if una.before(tail.end) {
            return;
        }
        if !tail.retransmission || selective.duplicate {
            // "TLP.is_retrans is false": nothing was repaired; or "a DSACK option ... covering
            // TLP.end_seq": both copies arrived.
            self.tail = None;
        } else if una.after(tail.end) {
            // "SEG.ACK > TLP.end_seq: ... the original was lost": "Invoke congestion response
            // equivalent to a fast recovery".
            self.tail = None;
            if self.phase == Phase::Open {
                self.congestion.lost(self.snd.flight(), self.smss());
            }
        }
    }

    /// RFC 8985, 7.4.2: "a duplicate ACK ... that acknowledges TLP.end_seq": both copies arrived.
    pub(super) fn tail_probe_duplicated(&mut self) {
        if self.tail.is_some_and(|tail| tail.end == self.snd.una) {
            self.tail = None;
        }
    }
}
