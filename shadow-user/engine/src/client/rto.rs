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

/// SRTT, RTTVAR and back-off.
#[derive(Clone, Debug)]
pub(super) struct Rto {
    /// SRTT and RTTVAR; `None` before the first measurement.
    rtt: Option<(Duration, Duration)>,
    initial: Duration,
    backoff: u8,
}

impl Rto {
    pub fn new() -> Self {
        Self { rtt: None, initial: INITIAL, backoff: 0 }
    }

    /// Smoothed round-trip time.
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.map(|(srtt, _)| srtt)
    }

    /// How often the timer expired since something was acknowledged.
    pub fn backoff(&self) -> u8 {
        self.backoff
    }

    /// RTO with back-off.
    pub fn get(&self) -> Duration {
        let base = match self.rtt {
            // RFC 6298, 2.3: "RTO <- SRTT + max (G, K*RTTVAR)", K = 4.
            Some((srtt, rttvar)) => srtt + (rttvar * 4).max(MIN_MARGIN),
            None => self.initial,
        };
        // RFC 6298, 5.5: "The host MUST set RTO <- RTO * 2 ("back off the timer")."
        base.saturating_mul(1 << self.backoff.min(16)).min(MAX)
    }

    /// Takes a measurement of a segment that was sent once (or is told apart by its timestamp).
    pub fn sample(&mut self, rtt: Duration) {
        self.rtt = Some(match self.rtt {
            // RFC 6298, 2.2: "SRTT <- R, RTTVAR <- R/2".
            None => (rtt, rtt / 2),
            // RFC 6298, 2.3: "RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|" and then
            // "SRTT <- (1 - alpha) * SRTT + alpha * R'", alpha = 1/8, beta = 1/4.
            Some((srtt, rttvar)) => {
                (srtt * 7 / 8 + rtt / 8, rttvar * 3 / 4 + srtt.abs_diff(rtt) / 4)
            }
        });
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
        if self.backoff > 0 && self.rtt.is_none() {
            self.initial = AFTER_SYN_LOSS;
        }
        self.backoff = 0;
    }
}
