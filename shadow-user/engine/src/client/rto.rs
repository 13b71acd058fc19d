//! The retransmission timeout (RFC 6298).

use std::time::Duration;

/// RFC 6298, 2.1: "Until a round-trip time (RTT) measurement has been made for a segment sent
/// between the sender and receiver, the sender SHOULD set RTO <- 1 second".
const INITIAL: Duration = Duration::from_secs(1);

/// RFC 6298, 5.7: after a SYN was retransmitted without a measurement.
const AFTER_SYN_LOSS: Duration = Duration::from_secs(3);

/// Least margin above SRTT. RFC 6298, 2.4 says "Whenever RTO is computed, if it is less than 1
/// second, then the RTO SHOULD be rounded up to 1 second"; Linux (`TCP_RTO_MIN`) takes
/// SRTT + max(200 ms, 4 RTTVAR), which is above every delayed acknowledgment that it meets
/// (RFC 8961 allows it), and so does this client: it stands in for clients that run such stacks.
const MIN_MARGIN: Duration = Duration::from_millis(200);

/// RFC 6298, 2.5: "A maximum value MAY be placed on RTO provided it is at least 60 seconds."
const MAX: Duration = Duration::from_secs(60);

/// SRTT, RTTVAR and back-off. Small, since every idle connection keeps it.
#[derive(Clone, Debug)]
pub(super) struct Rto {
    /// Microseconds; meaningful once something was measured.
    srtt: u32,
    rttvar: u32,
    measured: bool,
    /// The SYN was sent more than once and nothing was measured.
    syn_lost: bool,
    backoff: u8,
}

fn micros(micros: u32) -> Duration {
    Duration::from_micros(micros.into())
}

impl Rto {
    pub fn new() -> Self {
        Self { srtt: 0, rttvar: 0, measured: false, syn_lost: false, backoff: 0 }
    }

    /// Smoothed round-trip time.
    pub fn srtt(&self) -> Option<Duration> {
        self.measured.then(|| micros(self.srtt))
    }

    /// How often the timer expired since something was acknowledged.
    pub fn backoff(&self) -> u8 {
        self.backoff
    }

    /// RTO with back-off.
    pub fn get(&self) -> Duration {
        let base = if self.measured {
            // RFC 6298, 2.3: "RTO <- SRTT + max (G, K*RTTVAR)", K = 4.
            micros(self.srtt) + (micros(self.rttvar) * 4).max(MIN_MARGIN)
        } else if self.syn_lost {
            AFTER_SYN_LOSS
        } else {
            INITIAL
        };
        // RFC 6298, 5.5: "The host MUST set RTO <- RTO * 2 ("back off the timer")."
        base.saturating_mul(1 << self.backoff.min(16)).min(MAX)
    }

    /// Takes a measurement of a segment that was sent once (or is told apart by its timestamp).
    pub fn sample(&mut self, rtt: Duration) {
        let rtt = u32::try_from(rtt.min(MAX).as_micros()).unwrap_or(u32::MAX);
        if self.measured {
            // RFC 6298, 2.3: "RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|" and then
            // "SRTT <- (1 - alpha) * SRTT + alpha * R'", alpha = 1/8, beta = 1/4.
            self.rttvar = self.rttvar - self.rttvar / 4 + self.srtt.abs_diff(rtt) / 4;
            self.srtt = self.srtt - self.srtt / 8 + rtt / 8;
        } else {
            // RFC 6298, 2.2: "SRTT <- R, RTTVAR <- R/2".
            (self.srtt, self.rttvar, self.measured) = (rtt, rtt / 2, true);
        }
    }

    /// The timer expired.
    pub fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Something new was acknowledged. RFC 6298, 5 lets the next measurement end the back-off;
    /// without timestamps that can be far away on a lossy path, so, as in Linux, progress
    /// ends it.
    pub fn progress(&mut self) {
        self.backoff = 0;
    }

    /// The handshake is complete.
    pub fn established(&mut self) {
        // RFC 6298, 5.7: "If the timer expires awaiting the ACK of a SYN segment and the TCP
        // implementation is using an RTO less than 3 seconds, the RTO MUST be re-initialized to
        // 3 seconds when data transmission begins".
        self.syn_lost = self.backoff > 0 && !self.measured;
        self.backoff = 0;
    }
}
