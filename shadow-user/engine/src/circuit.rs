//! Whether the shadow is worth a new session.

use crate::time::{Duration, Instant};

/// Failures in a row that open the circuit.
const THRESHOLD: u32 = 8;

/// How long the circuit stays open at first; doubled by every probe that fails.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest that it stays open.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A probe that was connected and has met neither an answer nor a failure for so long is a client with
/// nothing to say, or of a protocol without answers: no sign of a shadow that is down.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a session tells of its shadow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sign {
    /// The handshake was completed. The kernel does that, also for a service that hangs.
    Connected,
    /// The handshake failed: refused, unanswered or unreachable.
    Unconnected,
    /// The shadow has answered as far as was waited for, or has taken a whole stream
    /// that needed no answer.
    Answered,
    /// The shadow has not answered in time, has stopped to acknowledge, or has reset the session.
    Unanswered,
}

/// Whether a session may be begun.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Admission {
    Granted,
    /// Granted to find out whether the shadow is back; its end is to be reported.
    Probe,
    Refused,
}

/// A circuit breaker over sessions with one shadow.
///
/// ```text
///             THRESHOLD failures in a row
///    CLOSED ────────────────────────────► OPEN ◄────┐
///      ▲                                   │ wait   │ the probe fails:
///      │ the probe succeeds                ▼ over   │ wait twice as long
///      └────────────────────────────── HALF-OPEN ───┘
/// ```
///
/// The probe is the next flow of a real client: nothing is invented for it. Where connections
/// failed, a connection is its success; where answers did, only an answer is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Circuit {
    /// Sessions are begun. The failures in a row of each kind.
    Closed { unconnected: u32, unanswered: u32 },
    /// None is begun before `until`.
    Open { until: Instant, wait: Duration, fault: Fault },
    /// One was begun, and its outcome is awaited.
    HalfOpen { since: Instant, wait: Duration, fault: Fault },
}

/// Why a circuit is open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Unconnected,
    Unanswered,
}

impl Default for Circuit {
    fn default() -> Self {
        Self::Closed { unconnected: 0, unanswered: 0 }
    }
}

impl Circuit {
    /// Whether a session may be begun `now`.
    pub(crate) fn admits(&mut self, now: Instant) -> Admission {
        match *self {
            Self::Closed { .. } => Admission::Granted,
            Self::Open { until, wait, fault } if now >= until => {
                *self = Self::HalfOpen { since: now, wait, fault };
                Admission::Probe
            }
            Self::HalfOpen { since, .. } if now >= since + PATIENCE => {
                *self = Self::default();
                Admission::Granted
            }
            Self::Open { .. } | Self::HalfOpen { .. } => Admission::Refused,
        }
    }

    /// Takes what a session tells, a probe or not. True when this opens the circuit.
    pub(crate) fn hear(&mut self, sign: Sign, probe: bool, now: Instant) -> bool {
        let failed = match sign {
            Sign::Answered => {
                *self = Self::default();
                return false;
            }
            Sign::Connected => {
                match self {
                    Self::Closed { unconnected, .. } => *unconnected = 0,
                    Self::Open { fault, .. } | Self::HalfOpen { fault, .. } => {
                        if *fault == Fault::Unconnected {
                            *self = Self::default();
                        }
                    }
                }
                return false;
            }
            Sign::Unconnected => Fault::Unconnected,
            Sign::Unanswered => Fault::Unanswered,
        };
        let (wait, fault) = match self {
            Self::Closed { unconnected, unanswered } => {
                let count = match failed {
                    Fault::Unconnected => unconnected,
                    Fault::Unanswered => unanswered,
                };
                *count += 1;
                if *count < THRESHOLD {
                    return false;
                }
                (FIRST_WAIT, failed)
            }
            Self::HalfOpen { wait, .. } if probe => ((*wait * 2).min(LONGEST_WAIT), failed),
            // One that was begun before the circuit opened.
            Self::HalfOpen { .. } | Self::Open { .. } => return false,
        };
        *self = Self::Open { until: now + wait, wait, fault };
        true
    }

    /// A probe has ended; if its outcome is still unknown, the next may try.
    pub(crate) fn probe_ended(&mut self, now: Instant) {
        if let Self::HalfOpen { wait, fault, .. } = *self {
            *self = Self::Open { until: now, wait, fault };
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

    const FAILURES: [Sign; 2] = [Sign::Unconnected, Sign::Unanswered];

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn opened(by: Sign) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 1..THRESHOLD {
            assert!(!circuit.hear(by, false, at(0)));
        }
        assert!(circuit.hear(by, false, at(0)));
        circuit
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        for (failure, success) in [
            (Sign::Unconnected, Sign::Connected),
            (Sign::Unconnected, Sign::Answered),
            (Sign::Unanswered, Sign::Answered),
        ] {
            let mut circuit = Circuit::default();
            for _ in 0..3 * THRESHOLD {
                assert!(!circuit.hear(failure, false, at(0)));
                circuit.hear(success, false, at(0));
            }
            assert_eq!(circuit.admits(at(0)), Admission::Granted);
        }
    }

    #[test]
    fn a_service_that_hangs_behind_a_kernel_that_connects_opens_it() {
        let mut circuit = Circuit::default();
        let mut opened = 0;
        for _ in 0..THRESHOLD {
            circuit.hear(Sign::Connected, false, at(0));
            opened += u32::from(circuit.hear(Sign::Unanswered, false, at(0)));
        }
        assert_eq!(opened, 1);
        assert_eq!(circuit.admits(at(1_000)), Admission::Probe);
        circuit.hear(Sign::Connected, true, at(1_001));
        assert!(circuit.is_open(), "a connection proves nothing here");
        circuit.hear(Sign::Answered, true, at(1_002));
        assert!(!circuit.is_open());
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_is_let_through() {
        for failure in FAILURES {
            let mut circuit = opened(failure);
            assert_eq!(circuit.admits(at(999)), Admission::Refused);
            assert_eq!(circuit.admits(at(1_000)), Admission::Probe);
            assert_eq!(circuit.admits(at(1_000)), Admission::Refused, "one probe at a time");
            circuit.hear(Sign::Answered, true, at(1_001));
            assert_eq!(circuit.admits(at(1_001)), Admission::Granted);
        }
    }

    #[test]
    fn failed_probes_back_off_up_to_a_bound() {
        let mut circuit = opened(Sign::Unconnected);
        let mut now = at(1_000);
        for wait in [2, 4, 8, 16, 30, 30] {
            assert_eq!(circuit.admits(now), Admission::Probe);
            assert!(circuit.hear(Sign::Unanswered, true, now));
            let until = now + Duration::from_secs(wait);
            assert_eq!(circuit.admits(until - Duration::from_millis(1)), Admission::Refused);
            now = until;
        }
    }

    #[test]
    fn a_probe_that_ends_without_an_outcome_leaves_its_place_to_the_next() {
        let mut circuit = opened(Sign::Unconnected);
        assert_eq!(circuit.admits(at(1_000)), Admission::Probe);
        circuit.probe_ended(at(1_500));
        assert!(circuit.is_open());
        assert_eq!(circuit.admits(at(1_500)), Admission::Probe);
    }

    #[test]
    fn a_probe_without_anything_to_say_does_not_keep_it_open_for_ever() {
        let mut circuit = opened(Sign::Unanswered);
        assert_eq!(circuit.admits(at(1_000)), Admission::Probe);
        circuit.hear(Sign::Connected, true, at(1_001));
        assert_eq!(circuit.admits(at(30_999)), Admission::Refused);
        assert_eq!(circuit.admits(at(31_000)), Admission::Granted);
        assert!(!circuit.is_open());
    }

    #[test]
    fn stragglers_do_not_prolong_it() {
        let mut circuit = opened(Sign::Unconnected);
        assert!(!circuit.hear(Sign::Unconnected, false, at(900)));
        assert_eq!(circuit.admits(at(1_000)), Admission::Probe);
        assert!(!circuit.hear(Sign::Unconnected, false, at(1_001)));
        circuit.hear(Sign::Connected, true, at(1_002));
        assert!(!circuit.is_open());
    }
}
