//! Requests and their times by leg: what a server's own metrics would say, from one clock for both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shadow_engine::exchange::{Exchange, Leg, Protocol, Response, Status};

/// Upper bounds of the buckets in seconds: those that OpenTelemetry advises for
/// `http.server.request.duration`.
pub const BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// What a client may have made up.
const OTHER: &str = "_OTHER";

/// The methods of RFC 9110 and RFC 5789: those that OpenTelemetry knows.
const METHODS: [&str; 9] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Different Redis commands that are told apart.
const COMMANDS: usize = 300;

/// Both legs, in the order of labels.
pub const LEGS: [Leg; 2] = [Leg::Production, Leg::Shadow];

/// A leg's label.
#[must_use]
pub const fn label(leg: Leg) -> &'static str {
    match leg {
        Leg::Production => "production",
        Leg::Shadow => "shadow",
    }
}

/// Times, spread over buckets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Times {
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Times {
    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.counts[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += time;
    }

    /// The sum of all.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Each bucket's upper bound with its own count; the last bound is infinite.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        BOUNDS.into_iter().chain([f64::MAX]).zip(self.counts).collect()
    }
}

/// What a request was answered with, as labels.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Answer {
    /// `true` for the shadow.
    is_shadow: bool,
    /// HTTP's method, or Redis' command.
    pub method: Arc<str>,
    /// The status code; 0 for an answer without one.
    pub status: u16,
}

impl Answer {
    /// Who answered.
    #[must_use]
    pub const fn leg(&self) -> Leg {
        if self.is_shadow { Leg::Shadow } else { Leg::Production }
    }
}

/// The counts of a run.
#[derive(Clone, Debug, Default)]
pub struct Legs {
    /// How many requests were answered, by what.
    pub answers: BTreeMap<Answer, u64>,
    /// How long answers took, by endpoint: production's and the shadow's.
    pub times: BTreeMap<Arc<str>, [Times; 2]>,
    /// Time from a request's capture until it was sent to the shadow.
    pub lag: Times,
    methods: BTreeMap<Box<str>, Arc<str>>,
}

/// Different answers that are told apart; the rest have no status.
const ANSWERS: usize = 2_000;

impl Legs {
    /// Counts an exchange. `endpoint` is one of a bounded number.
    pub fn add(&mut self, exchange: &Exchange, endpoint: &Arc<str>) {
        let method = self.method(exchange.protocol, &exchange.request.method);
        for (leg, answer) in LEGS.into_iter().zip([&exchange.production, &exchange.shadow]) {
            let Ok(response) = answer else { continue };
            let is_shadow = leg == Leg::Shadow;
            let status = status(response);
            let mut answer = Answer { is_shadow, method: Arc::clone(&method), status };
            if self.answers.len() >= ANSWERS && !self.answers.contains_key(&answer) {
                answer.status = 0;
            }
            *self.answers.entry(answer).or_default() += 1;
            // Names are shared: an entry costs no copy of one.
            let times = self.times.entry(Arc::clone(endpoint)).or_default();
            times[usize::from(is_shadow)].add(response.duration());
            if is_shadow {
                self.lag.add(response.asked_at.since(exchange.request.at));
            }
        }
    }

    fn method(&mut self, protocol: Protocol, method: &str) -> Arc<str> {
        let is_known = match protocol {
            Protocol::Http1 | Protocol::Http2 => METHODS.contains(&method),
            Protocol::Redis => {
                self.methods.contains_key(method)
                    || method.len() <= 32 && self.methods.len() < COMMANDS
            }
        };
        let method = if is_known { method } else { OTHER };
        if let Some(known) = self.methods.get(method) {
            return Arc::clone(known);
        }
        let known = Arc::<str>::from(method);
        self.methods.insert(method.into(), Arc::clone(&known));
        known
    }
}

/// The status code that a client saw; 0 where the protocol has none.
fn status(response: &Response) -> u16 {
    match response.status {
        Status::Http(code) => code,
        Status::Grpc(_) => 200,
        Status::Redis(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{exchange, response};
    use shadow_engine::exchange::Unpaired;

    #[test]
    fn each_leg_is_counted_for_itself() {
        let mut legs = Legs::default();
        let endpoint = Arc::from("GET /a");
        let slow = exchange("/a", Ok(response(200, "", 4)), Ok(response(500, "", 30)));
        let lost = exchange("/a", Ok(response(200, "", 6)), Err(Unpaired::Closed));
        legs.add(&slow, &endpoint);
        legs.add(&lost, &endpoint);
        let answers: Vec<_> = legs
            .answers
            .iter()
            .map(|(answer, count)| (label(answer.leg()), &*answer.method, answer.status, *count))
            .collect();
        assert_eq!(answers, [("production", "GET", 200, 2), ("shadow", "GET", 500, 1)]);
        let [production, shadow] = &legs.times["GET /a"];
        assert_eq!((production.count(), shadow.count()), (2, 1));
        assert_eq!(production.sum(), Duration::from_millis(10));
        assert_eq!(production.buckets()[0], (0.005, 1));
        assert_eq!(production.buckets()[1], (0.01, 1));
        assert_eq!(shadow.buckets()[3], (0.05, 1));
        assert_eq!(legs.lag.count(), 1);
    }

    #[test]
    fn methods_that_clients_make_up_are_one() {
        let mut legs = Legs::default();
        for number in 0..1_000 {
            let mut exchange = exchange("/a", Ok(response(200, "", 1)), Err(Unpaired::Lost));
            exchange.request.method = format!("MADE-UP-{number}").into();
            legs.add(&exchange, &Arc::from("other"));
            exchange.protocol = Protocol::Redis;
            legs.add(&exchange, &Arc::from("other"));
        }
        assert!(legs.answers.len() <= COMMANDS + 1, "{}", legs.answers.len());
        let other = legs.answers.iter().find(|(answer, _)| &*answer.method == OTHER);
        assert!(other.is_some_and(|(_, count)| *count >= 1_000));
    }
}
