//! How much a shadow is asked to take: so many sessions, requests and bits a second.

use std::num::NonZeroU64;

use crate::books::{LeftOut, Skipped};
use crate::time::{Duration, Instant};

/// What may come at once after a time of rest. Small, so that the first seconds have no more than
/// the others; but longer than whoever hands over packets is kept from its processor now and then.
const BURST: Duration = Duration::from_millis(200);

/// How long packets may wait for the bandwidth without a pause before nothing more is taken on.
const LONGEST_BACKLOG: Duration = Duration::from_secs(1);

/// Whoever sends looks again this much later than it might: more than a packet is sent then.
const GATHER: Duration = Duration::from_millis(1);

const SECOND: u64 = 1_000_000_000;

/// Rates toward a shadow, each per second; none where there is no bound.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quota {
    /// Sessions that are begun.
    pub sessions: Option<NonZeroU64>,
    /// HTTP/1 requests of all sessions. What exceeds is left out, a request as a whole.
    pub requests: Option<NonZeroU64>,
    /// Bits of IP packets. They are sent later; when they come too late, sessions and requests are
    /// left out.
    pub bandwidth: Option<NonZeroU64>,
}

/// A token bucket, as the time at which what was taken is paid for (the generic cell rate algorithm,
/// ITU-T I.371, in its virtual scheduling form). May be overdrawn.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    rate: Option<NonZeroU64>,
    paid_at: Instant,
    /// What the division left over: billionths of a unit, so that no rate is missed by rounding.
    rest: u64,
}

impl Bucket {
    fn set_rate(&mut self, rate: Option<NonZeroU64>) {
        if self.rate != rate {
            *self = Self { rate, ..Self::default() };
        }
    }

    /// When something may be taken next.
    fn opens_at(&self) -> Instant {
        self.paid_at - BURST
    }

    fn is_open(&self, now: Instant) -> bool {
        self.rate.is_none() || self.opens_at() <= now
    }

    fn take(&mut self, units: u64, now: Instant) {
        let Some(rate) = self.rate else { return };
        let owed = u128::from(units) * u128::from(SECOND) + u128::from(self.rest);
        let rate = u128::from(rate.get());
        self.rest = (owed % rate) as u64;
        let nanos = u64::try_from(owed / rate).unwrap_or(u64::MAX);
        self.paid_at = self.paid_at.max(now) + Duration::from_nanos(nanos);
    }
}

/// What an engine has left of its quota.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    sessions: Bucket,
    requests: Bucket,
    bandwidth: Bucket,
    /// Since when packets have been waiting for the bandwidth, without a pause.
    behind_since: Option<Instant>,
}

impl Budget {
    pub(crate) fn new(quota: Quota) -> Self {
        let mut budget = Self::default();
        budget.set_quota(quota);
        budget
    }

    pub(crate) fn set_quota(&mut self, quota: Quota) {
        self.sessions.set_rate(quota.sessions);
        self.requests.set_rate(quota.requests);
        self.bandwidth.set_rate(quota.bandwidth);
        if quota.bandwidth.is_none() {
            self.behind_since = None;
        }
    }

    /// Takes a session from the quota.
    ///
    /// # Errors
    /// What stands against it.
    pub(crate) fn begin(&mut self, now: Instant) -> Result<(), Skipped> {
        if self.is_overdue(now) {
            return Err(Skipped::MaxBandwidth);
        }
        if !self.sessions.is_open(now) {
            return Err(Skipped::MaxRate);
        }
        self.sessions.take(1, now);
        Ok(())
    }

    /// Whether [`Self::ask`] may refuse.
    pub(crate) fn is_to_be_asked(&self, now: Instant) -> bool {
        self.requests.rate.is_some() || self.is_overdue(now)
    }

    /// Takes a request of an open session from the quota.
    ///
    /// # Errors
    /// What stands against it.
    pub(crate) fn ask(&mut self, now: Instant) -> Result<(), LeftOut> {
        if self.is_overdue(now) {
            return Err(LeftOut::MaxBandwidth);
        }
        if !self.requests.is_open(now) {
            return Err(LeftOut::MaxRequestRate);
        }
        self.requests.take(1, now);
        Ok(())
    }

    /// Whether packets are sent at a rate.
    pub(crate) fn paces(&self) -> bool {
        self.bandwidth.rate.is_some()
    }

    /// Whether a packet may be sent.
    pub(crate) fn lets_send(&self, now: Instant) -> bool {
        self.bandwidth.is_open(now)
    }

    /// A packet of so many octets is sent.
    pub(crate) fn sent(&mut self, octets: usize, now: Instant) {
        self.bandwidth.take(octets as u64 * 8, now);
    }

    /// Packets have to wait.
    pub(crate) fn is_behind(&mut self, now: Instant) {
        self.behind_since.get_or_insert(now);
    }

    /// None waits.
    pub(crate) fn has_caught_up(&mut self) {
        self.behind_since = None;
    }

    /// When those that wait may be sent.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.behind_since.map(|_| self.bandwidth.opens_at() + GATHER)
    }

    /// Whether packets have waited for too long.
    fn is_overdue(&self, now: Instant) -> bool {
        self.behind_since.is_some_and(|since| now.since(since) >= LONGEST_BACKLOG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(SECOND + micros * 1_000)
    }

    fn rate(rate: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(rate)
    }

    fn sessions(limit: u64) -> Quota {
        Quota { sessions: rate(limit), ..Quota::default() }
    }

    fn requests(limit: u64) -> Quota {
        Quota { requests: rate(limit), ..Quota::default() }
    }

    /// How many of what is offered at even distances are taken in 10 s.
    fn taken(offered_a_second: u64, mut take: impl FnMut(Instant) -> bool) -> u64 {
        let times = (0..10 * offered_a_second).map(|number| number * 1_000_000 / offered_a_second);
        times.filter(|time| take(at(*time))).count() as u64
    }

    #[test]
    fn rates_are_held_and_used() {
        for limit in [1_u64, 7, 100, 3_000] {
            for over in [1, 2, 10] {
                let mut budget = Budget::new(sessions(limit));
                let begun = taken(limit * over, |now| budget.begin(now).is_ok());
                let mut budget = Budget::new(requests(limit));
                let asked = taken(limit * over, |now| budget.ask(now).is_ok());
                // What is within is let be.
                let most = if over == 1 { 10 * limit } else { 10 * limit + limit / 5 + 1 };
                assert!((10 * limit..=most).contains(&begun), "{limit}/s: {begun} sessions");
                assert_eq!(asked, begun);
            }
        }
        let mut budget = Budget::new(Quota::default());
        assert_eq!(taken(5_000, |now| budget.begin(now).is_ok()), 50_000);
    }

    #[test]
    fn a_rest_is_no_credit_for_more_than_a_moment() {
        let mut budget = Budget::new(sessions(100));
        let mut begun = |from: u64| (0..100).filter(|_| budget.begin(at(from)).is_ok()).count();
        assert_eq!(begun(0), 21);
        assert_eq!(begun(1_000_000_000), 21);
    }

    #[test]
    fn bits_are_sent_at_their_rate_to_a_thousandth() {
        for limit in [64_000_u64, 10_000_000, 33_333_333_333] {
            let mut budget = Budget::new(Quota { bandwidth: rate(limit), ..Quota::default() });
            let mut send = |now: Instant, until: Instant| {
                let (mut now, mut octets) = (now, 0_u64);
                while now < until {
                    while budget.lets_send(now) {
                        budget.sent(1_500, now);
                        octets += 1_500;
                    }
                    now = budget.bandwidth.opens_at();
                }
                octets
            };
            // The burst is used up before it is measured.
            send(at(0), at(1_000_000));
            let (from, until) = (at(1_000_000), at(11_000_000));
            let found = send(from, until) as f64 * 8.0 / until.since(from).as_secs_f64();
            // A packet more or less at either end.
            let packets = 2.0 * 12_000.0 / 10.0;
            let off = (found - limit as f64).abs();
            assert!(off <= limit as f64 / 1_000.0 + packets, "{limit}: {found}");
        }
    }

    #[test]
    fn nothing_is_taken_on_while_packets_wait_for_long() {
        let mut budget = Budget::new(Quota { bandwidth: rate(64_000), ..Quota::default() });
        budget.is_behind(at(0));
        budget.is_behind(at(900_000));
        assert!(!budget.is_to_be_asked(at(999_999)));
        assert_eq!((budget.begin(at(999_999)), budget.ask(at(999_999))), (Ok(()), Ok(())));
        assert!(budget.is_to_be_asked(at(1_000_000)));
        assert_eq!(budget.begin(at(1_000_000)), Err(Skipped::MaxBandwidth));
        assert_eq!(budget.ask(at(1_000_000)), Err(LeftOut::MaxBandwidth));
        budget.has_caught_up();
        assert_eq!(budget.begin(at(1_000_001)), Ok(()));
    }

    #[test]
    fn another_rate_holds_at_once_and_the_same_changes_nothing() {
        let mut budget = Budget::new(sessions(1));
        assert_eq!(budget.begin(at(0)), Ok(()));
        budget.set_quota(sessions(1));
        assert_eq!(budget.begin(at(1)), Err(Skipped::MaxRate));
        budget.set_quota(sessions(1_000));
        assert_eq!(budget.begin(at(2)), Ok(()));
        budget.set_quota(Quota::default());
        assert!((0..1_000).all(|_| budget.begin(at(3)).is_ok()));
    }
}
