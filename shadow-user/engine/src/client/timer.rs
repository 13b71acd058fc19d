//! The timers of one connection.

use crate::time::Instant;

/// What a timer is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Timer {
    /// Nothing was acknowledged for too long (RFC 9293, 3.8.3).
    User,
    /// End of TIME-WAIT, or of patience in FIN-WAIT-2.
    Wait,
    /// Delayed acknowledgment (RFC 9293, 3.8.6.3).
    DelayedAck,
    /// Retransmission timeout (RFC 6298).
    Retransmit,
    /// Zero-window probe (RFC 9293, 3.8.6.1) and the override of silly-window avoidance.
    Persist,
    /// Tail-loss probe (RFC 8985, 7).
    TailLoss,
}

impl Timer {
    /// In the order in which timers due at the same time are handled.
    pub const ALL: [Self; 6] =
        [Self::User, Self::Wait, Self::DelayedAck, Self::Retransmit, Self::Persist, Self::TailLoss];
}

/// When each timer is due.
#[derive(Clone, Debug)]
pub(super) struct Timers([Instant; Timer::ALL.len()]);

/// The end of time stands for "not set".
const UNSET: Instant = Instant::from_nanos(u64::MAX);

impl Timers {
    pub fn new() -> Self {
        Self([UNSET; Timer::ALL.len()])
    }

    pub fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = at;
    }

    /// Sets a timer that is not running.
    pub fn start(&mut self, timer: Timer, at: Instant) {
        if !self.is_set(timer) {
            self.set(timer, at);
        }
    }

    pub fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = UNSET;
    }

    pub fn stop_all(&mut self) {
        *self = Self::new();
    }

    pub fn get(&self, timer: Timer) -> Option<Instant> {
        Some(self.0[timer as usize]).filter(|&at| at != UNSET)
    }

    pub fn is_set(&self, timer: Timer) -> bool {
        self.get(timer).is_some()
    }

    /// The earliest timer.
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().copied().min().filter(|&at| at != UNSET)
    }

    /// Stops `timer` and says so when it is due.
    pub fn expire(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.get(timer).is_some_and(|at| at <= now);
        if due {
            self.stop(timer);
        }
        due
    }
}
