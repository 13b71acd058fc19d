//! What a service manager is told (sd_notify(3)): that the mirror has begun, that it
//! lives, and that it ends. Without one nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::http;

/// How often it is looked whether there is something to say, at least.
const OFTEN: Duration = Duration::from_millis(250);

/// The service manager that started this process, if there is one.
#[derive(Debug)]
pub struct Supervisor {
    ticks: Option<Interval>,
    watched: bool,
    ready: bool,
}

impl Supervisor {
    /// What the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    #[must_use]
    pub fn from_environment() -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        let ticks = std::env::var_os("NOTIFY_SOCKET").map(|_| {
            // sd_watchdog_enabled(3) wants half the time; a quarter survives a late tick.
            let often = watchdog.map_or(OFTEN, |limit| OFTEN.min(limit / 4));
            let mut ticks = interval(often.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self { ticks, watched: watchdog.is_some(), ready: false }
    }

    /// Waits until [`Supervisor::tell`] is due; for ever without a service manager.
    pub async fn tick(&mut self) {
        match &mut self.ticks {
            Some(ticks) => {
                ticks.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Says that the mirror is ready and alive, as far as the worker's last snapshot, of this
    /// age, shows it: a worker that hangs is not covered for.
    pub fn tell(&mut self, age: Duration, status: &str) {
        let messages = self.due(age, status);
        if !messages.is_empty() {
            send(&messages);
        }
    }

    fn due<'a>(&mut self, age: Duration, status: &'a str) -> Vec<NotifyState<'a>> {
        let mut messages = Vec::new();
        if age > http::STALE {
            return messages;
        }
        if !self.ready {
            self.ready = true;
            messages.extend([NotifyState::Ready, NotifyState::Status(status)]);
        }
        if self.watched {
            messages.push(NotifyState::Watchdog);
        }
        messages
    }

    /// Says that the end has begun.
    pub fn stopping(&self, status: &str) {
        if self.ticks.is_some() {
            send(&[NotifyState::Stopping, NotifyState::Status(status)]);
        }
    }
}

/// A service manager that is gone does not end the mirror.
fn send(messages: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(messages) {
        tracing::debug!("NOTIFY_SOCKET: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_worker_that_publishes_is_ready_and_alive() {
        let mut supervisor = Supervisor { ticks: None, watched: true, ready: false };
        let (fresh, stale) = (Duration::from_millis(200), Duration::from_secs(3));
        let mut said = |age| {
            let due = supervisor.due(age, "mirroring");
            due.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(said(stale).is_empty());
        assert_eq!(said(fresh), ["READY=1", "STATUS=mirroring", "WATCHDOG=1"]);
        assert_eq!(said(fresh), ["WATCHDOG=1"]);
        assert!(said(stale).is_empty());
        assert_eq!(said(fresh), ["WATCHDOG=1"]);
        supervisor.watched = false;
        assert!(supervisor.due(fresh, "mirroring").is_empty());
    }
}
