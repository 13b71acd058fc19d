//! The congestion window (RFC 5681 with RFC 6928, byte counting of RFC 3465).
//!
//! Reno and not CUBIC (RFC 9438): the mirror shares its link with production, whose stack
//! most likely runs CUBIC; the copy should be the one that yields.

use std::time::Duration;

/// cwnd and ssthresh, octets.
#[derive(Clone, Debug)]
pub(super) struct Congestion {
    cwnd: u32,
    ssthresh: u32,
    /// Octets acknowledged in congestion avoidance that did not grow cwnd yet.
    counted: u32,
    /// Whether cwnd was what kept data back.
    limited: bool,
}

/// RFC 6928, 2: "min (10*MSS, max (2*MSS, 14600))".
fn initial_window(smss: u32) -> u32 {
    (10 * smss).min((2 * smss).max(14600))
}

impl Congestion {
    pub fn new() -> Self {
        // RFC 5681, 3.1: "The initial value of ssthresh SHOULD be set arbitrarily high".
        Self { cwnd: 0, ssthresh: u32::MAX, counted: 0, limited: false }
    }

    pub fn cwnd(&self) -> u32 {
        self.cwnd
    }

    pub fn ssthresh(&self) -> u32 {
        self.ssthresh
    }

    /// The handshake is complete.
    pub fn established(&mut self, smss: u32, syn_lost: bool) {
        // RFC 5681, 3.1: "if the SYN or SYN/ACK is lost, the initial window used by a sender
        // after a correctly transmitted SYN MUST be one segment consisting of at most SMSS
        // bytes."
        self.cwnd = if syn_lost { smss } else { initial_window(smss) };
    }

    /// Says whether cwnd kept data back since the last acknowledgment: an unused window
    /// is not validated and must not grow (RFC 7661, 4.3).
    pub fn set_limited(&mut self, limited: bool) {
        self.limited = limited;
    }

    /// `acked` octets were acknowledged outside fast recovery.
    pub fn acknowledged(&mut self, acked: u32, smss: u32, after_timeout: bool) {
        if !self.limited {
            return;
        }
        if self.cwnd < self.ssthresh {
            // RFC 3465, 2.2 and 2.3: cwnd grows by what was acknowledged, at most L = 2 SMSS,
            // and at most 1 SMSS in the slow start after a timeout.
            let limit = if after_timeout { smss } else { 2 * smss };
            self.cwnd = self.cwnd.saturating_add(acked.min(limit));
        } else {
            // RFC 3465, 2.1: one SMSS for each cwnd of acknowledged octets.
            self.counted = self.counted.saturating_add(acked);
            if self.counted >= self.cwnd {
                self.counted -= self.cwnd;
                self.cwnd = self.cwnd.saturating_add(smss);
            }
        }
    }

    /// RFC 5681, 3.1 (4): "ssthresh = max (FlightSize / 2, 2*SMSS)".
    fn halve(&mut self, flight: u32, smss: u32) {
        self.ssthresh = (flight / 2).max(2 * smss);
        self.counted = 0;
    }

    /// Fast retransmit: loss was concluded from acknowledgments. RFC 6675, 5 (4.2): "ssthresh
    /// = cwnd = (FlightSize / 2)".
    pub fn lost(&mut self, flight: u32, smss: u32) {
        self.halve(flight, smss);
        self.cwnd = self.ssthresh;
    }

    /// A retransmission was lost. RFC 5681, 4.3: "Loss in two successive windows of data, or the
    /// loss of a retransmission, should be taken as two indications of congestion and, therefore,
    /// cwnd (and ssthresh) MUST be lowered twice in this case."
    pub fn lost_again(&mut self, smss: u32) {
        self.halve(self.cwnd, smss);
        self.cwnd = self.cwnd.min(self.ssthresh);
    }

    /// Fast recovery is over. RFC 6582, 3.2 (3), option 1: "set cwnd to min (ssthresh, max
    /// (FlightSize, SMSS) + SMSS)", which keeps a burst away.
    pub fn recovered(&mut self, flight: u32, smss: u32) {
        self.cwnd = self.ssthresh.min(flight.max(smss).saturating_add(smss));
    }

    /// The retransmission timer expired.
    pub fn timed_out(&mut self, flight: u32, smss: u32, first: bool) {
        // RFC 5681, 3.1: "when a TCP sender detects segment loss using the retransmission timer
        // and the given segment has already been retransmitted by way of the retransmission
        // timer at least once, the value of ssthresh is held constant."
        if first {
            self.halve(flight, smss);
        }
        // RFC 5681, 3.1: "upon a timeout cwnd MUST be set to no more than the loss window, LW,
        // which equals 1 full-sized segment".
        self.cwnd = smss;
    }

    /// Data is about to be sent after nothing was in flight for `idle`.
    pub fn idle(&mut self, idle: Duration, rto: Duration, smss: u32) {
        // RFC 5681, 4.1: "a TCP SHOULD set cwnd to no more than RW before beginning transmission
        // if the TCP has not sent data in an interval exceeding the retransmission timeout."
        if idle > rto {
            self.cwnd = self.cwnd.min(initial_window(smss));
        }
    }
}
