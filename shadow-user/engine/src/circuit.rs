//! Whether the shadow is worth a new session.

use crate::time::{Duration, Instant};

/// Connections in a row that must fail before the circuit opens.
const THRESHOLD: u32 = 8;

/// How long the circuit stays open at first; doubled by every probe that fails.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest that it stays open.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A circuit breaker over connections to one shadow.
///
/// ```text
///             THRESHOLD failures in a row
///    CLOSED ────────────────────────────► OPEN ◄────┐
///      ▲                                   │ wait   │ the probe fails:
///      │ the probe is established          ▼ over   │ wait twice as long
///      └────────────────────────────── HALF-OPEN ───┘
/// ```
///
/// The probe is the next flow of a real client: nothing is invented for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Circuit {
    /// Sessions are begun.
    Closed { failures: u32 },
    /// None is begun before `until`.
    Open { until: Instant, wait: Duration },
    /// One was begun, and its outcome is awaited.
    HalfOpen { wait: Duration },
}

impl Default for Circuit {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Circuit {
    /// Whether a session may be begun `now`; its outcome is to be reported.
    pub(crate) fn admits(&mut self, now: Instant) -> bool {
        match *self {
            Self::Closed { .. } => true,
            Self::Open { until, wait } if now >= until => {
                *self = Self::HalfOpen { wait };
                true
            }
            Self::Open { .. } | Self::HalfOpen { .. } => false,
        }
    }

    /// A session's handshake was completed.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A session's handshake failed: refused, unanswered or unreachable. True when this opens the circuit.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        let wait = match *self {
            Self::Closed { failures } if failures + 1 < THRESHOLD => {
                *self = Self::Closed { failures: failures + 1 };
                return false;
            }
            Self::Closed { .. } => FIRST_WAIT,
            Self::HalfOpen { wait } => (wait * 2).min(LONGEST_WAIT),
            // One that was begun before the circuit opened.
            Self::Open { .. } => return false,
        };
        *self = Self::Open { until: now + wait, wait };
        true
    }

    /// A session was given up before the outcome of its handshake was known.
    pub(crate) fn abandoned(&mut self, now: Instant) {
        if let Self::HalfOpen { wait } = *self {
            *self = Self::Open { until: now, wait };
        }
    }

    /// Whether new sessions are refused.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self, Self::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn opened() -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 1..THRESHOLD {
            assert!(!circuit.failed(at(0)));
        }
        assert!(circuit.failed(at(0)));
        circuit
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let mut circuit = Circuit::default();
        for _ in 0..3 * THRESHOLD {
            assert!(!circuit.failed(at(0)));
            circuit.succeeded();
        }
        assert!(circuit.admits(at(0)));
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_is_let_through() {
        let mut circuit = opened();
        assert!(!circuit.admits(at(999)));
        assert!(circuit.admits(at(1_000)));
        assert!(!circuit.admits(at(1_000)), "one probe at a time");
        circuit.succeeded();
        assert!(circuit.admits(at(1_001)));
    }

    #[test]
    fn failed_probes_back_off_up_to_a_bound() {
        let mut circuit = opened();
        let mut now = at(1_000);
        for wait in [2, 4, 8, 16, 30, 30] {
            assert!(circuit.admits(now));
            assert!(circuit.failed(now));
            let until = now + Duration::from_secs(wait);
            assert!(!circuit.admits(until - Duration::from_millis(1)));
            now = until;
        }
    }

    #[test]
    fn an_abandoned_probe_leaves_its_place_to_the_next() {
        let mut circuit = opened();
        assert!(circuit.admits(at(1_000)));
        circuit.abandoned(at(1_500));
        assert!(circuit.is_open());
        assert!(circuit.admits(at(1_500)));
    }

    #[test]
    fn stragglers_do_not_prolong_it() {
        let mut circuit = opened();
        assert!(!circuit.failed(at(900)));
        assert!(circuit.admits(at(1_000)));
    }
}
