//! Exchanges with a shadow that wait until the baseline's of the same request was compared, so that
//! what differs there, too, is known as noise. Bounded: one that waits in vain is judged without.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use shadow_engine::exchange::Exchange;
use shadow_engine::time::Instant;

use crate::comparing::{self, Handed};

/// How long the baseline's may be behind the shadow's.
const PATIENCE: Duration = Duration::from_secs(2);

/// Requests that are remembered, waited for or seen.
const MAX_REQUESTS: usize = 8_192;

/// Octets of the exchanges that wait.
pub const MAX_WAITING: usize = 4 << 20;

/// One request, on whichever mirror: captures are the same for all.
type Request = (SocketAddr, SocketAddr, Instant, u64);

fn request(exchange: &Exchange) -> Request {
    let Exchange { client, server, number, request, .. } = exchange;
    (*client, *server, request.at, *number)
}

/// What is known of a request.
#[derive(Debug)]
enum Known {
    /// The baseline's exchange was compared.
    Compared,
    /// Shadows' exchanges that wait for it.
    Waits(Vec<Handed>),
}

/// Exchanges that wait, and requests that need not.
#[derive(Debug, Default)]
pub struct Waiting {
    known: HashMap<Request, Known>,
    /// In order, each once.
    queue: VecDeque<(Instant, Request)>,
    octets: usize,
}

impl Waiting {
    /// Takes a shadow's exchange; hands it back when it need not wait.
    pub fn take(&mut self, handed: Handed, now: Instant) -> Option<Handed> {
        let octets = comparing::memory(&handed.exchange);
        let request = request(&handed.exchange);
        match self.known.entry(request) {
            Entry::Occupied(mut known) => match known.get_mut() {
                Known::Compared => return Some(handed),
                Known::Waits(exchanges) => exchanges.push(handed),
            },
            Entry::Vacant(place) => {
                place.insert(Known::Waits(vec![handed]));
                self.queue.push_back((now + PATIENCE, request));
            }
        }
        self.octets += octets;
        None
    }

    /// The baseline's exchange was compared: those that have waited for it.
    pub fn release(&mut self, baseline: &Exchange, now: Instant) -> Vec<Handed> {
        let request = request(baseline);
        match self.known.insert(request, Known::Compared) {
            Some(Known::Waits(exchanges)) => self.let_go(exchanges),
            Some(Known::Compared) => Vec::new(),
            None => {
                self.queue.push_back((now + PATIENCE, request));
                Vec::new()
            }
        }
    }

    /// Those that have waited too long `now`, or for which there is no room.
    pub fn pop_due(&mut self, now: Instant) -> Option<Vec<Handed>> {
        let (deadline, request) = *self.queue.front()?;
        let is_crowded = self.queue.len() > MAX_REQUESTS || self.octets > MAX_WAITING;
        if now < deadline && !is_crowded {
            return None;
        }
        self.queue.pop_front();
        match self.known.remove(&request) {
            Some(Known::Waits(exchanges)) => Some(self.let_go(exchanges)),
            Some(Known::Compared) | None => Some(Vec::new()),
        }
    }

    /// When [`Self::pop_due`] has something.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.queue.front().map(|(deadline, _)| *deadline)
    }

    fn let_go(&mut self, exchanges: Vec<Handed>) -> Vec<Handed> {
        self.octets -=
            exchanges.iter().map(|handed| comparing::memory(&handed.exchange)).sum::<usize>();
        exchanges
    }
}

#[cfg(test)]
mod tests {
    use shadow_engine::exchange::Unpaired;

    use super::*;
    use crate::report::fixture;
    use crate::shadows::Role;

    fn of(number: u64) -> Exchange {
        let exchange = fixture::exchange("/", Err(Unpaired::Closed), Err(Unpaired::Closed));
        Exchange { number, ..exchange }
    }

    fn handed(number: u64) -> Handed {
        Handed { role: Role::Shadow, shadow: "10.0.0.9:80".into(), exchange: Box::new(of(number)) }
    }

    const NOW: Instant = Instant::from_nanos(1 << 40);

    #[test]
    fn whichever_comes_first_the_shadows_is_judged_after_the_baselines() {
        let mut waiting = Waiting::default();
        assert!(waiting.take(handed(1), NOW).is_none());
        assert!(waiting.take(handed(1), NOW).is_none(), "another shadow's");
        assert_eq!(waiting.release(&of(1), NOW).len(), 2);
        assert!(waiting.take(handed(1), NOW).is_some(), "known by now");
        assert!(waiting.release(&of(2), NOW).is_empty());
        assert!(waiting.take(handed(2), NOW).is_some());
        assert_eq!(waiting.octets, 0);
    }

    #[test]
    fn who_waits_in_vain_waits_no_longer_than_told() {
        let mut waiting = Waiting::default();
        assert!(waiting.take(handed(1), NOW).is_none());
        assert_eq!(waiting.next_due(), Some(NOW + PATIENCE));
        assert!(waiting.pop_due(NOW).is_none());
        assert_eq!(waiting.pop_due(NOW + PATIENCE).map(|exchanges| exchanges.len()), Some(1));
        assert!(waiting.pop_due(NOW + PATIENCE).is_none());
        assert!(waiting.take(handed(1), NOW).is_none(), "forgotten");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut waiting = Waiting::default();
        let mut left = 0;
        for number in 0..3 * MAX_REQUESTS as u64 {
            assert!(waiting.take(handed(number), NOW).is_none());
            while let Some(exchanges) = waiting.pop_due(NOW) {
                left += exchanges.len();
            }
            assert!(waiting.octets <= MAX_WAITING && waiting.queue.len() <= MAX_REQUESTS);
        }
        while let Some(exchanges) = waiting.pop_due(NOW + PATIENCE) {
            left += exchanges.len();
        }
        assert_eq!((left, waiting.octets), (3 * MAX_REQUESTS, 0));
        assert!(waiting.known.is_empty());
    }
}
