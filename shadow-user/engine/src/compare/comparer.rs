//! Compares exchanges, one after the other.

use std::sync::Arc;

use super::collect::Collector;
use super::rules::RuleError;
use super::{Comparison, Difference, Endpoints, Kind, Noise, Rules, Verdict, body, header};
use crate::exchange::{Exchange, Response, Status, Unpaired};

/// Compares a run's exchanges. Holds the rules and the names of endpoints, and nothing of the
/// exchanges: the same exchanges in the same order give the same comparisons.
#[derive(Clone, Debug)]
pub struct Comparer {
    rules: Rules,
    endpoints: Endpoints,
}

impl Comparer {
    /// With a run's rules.
    ///
    /// # Errors
    ///
    /// Two routes cover the same paths.
    pub fn new(rules: Rules) -> Result<Self, RuleError> {
        let endpoints = Endpoints::new(&rules.routes, rules.bounds.endpoints)?;
        Ok(Self { rules, endpoints })
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Compares the shadow's answer with production's.
    pub fn compare(&mut self, exchange: &Exchange, noise: &Noise) -> Comparison {
        let endpoint = self.endpoints.of(exchange);
        let bounds = &self.rules.bounds;
        let mut found = Collector::new(noise.of(&endpoint), bounds.differences, bounds.value);
        let verdict = match (&exchange.production, &exchange.shadow) {
            (Ok(production), Ok(shadow)) => self.judge(production, shadow, &mut found),
            (Ok(_), Err(Unpaired::Closed | Unpaired::Unparsable)) => Verdict::Missing,
            _ => Verdict::Unpaired,
        };
        Comparison {
            endpoint,
            verdict,
            differences: found.differences,
            more: found.more,
            opaque: found.opaque,
        }
    }

    /// The endpoint of an exchange, as [`Comparison::endpoint`] has it.
    pub fn endpoint(&mut self, exchange: &Exchange) -> Arc<str> {
        self.endpoints.of(exchange)
    }

    /// The differences of two answers with these rules, without regard to noise.
    #[must_use]
    pub fn differences(&self, production: &Response, shadow: &Response) -> Vec<Difference> {
        let bounds = &self.rules.bounds;
        let mut found = Collector::new(None, bounds.differences, bounds.value);
        self.judge(production, shadow, &mut found);
        found.differences
    }

    fn judge(
        &self,
        production: &Response,
        shadow: &Response,
        found: &mut Collector<'_>,
    ) -> Verdict {
        if production.status != shadow.status {
            // What else differs follows from this, and would only hide it.
            let (production, shadow) = (status(production.status), status(shadow.status));
            found.add(
                "status",
                Kind::Primitive,
                Some(production.as_bytes()),
                Some(shadow.as_bytes()),
            );
            return Verdict::Status;
        }
        header::compare("header", &production.head, &shadow.head, &self.rules.headers, found);
        header::compare(
            "trailer",
            &production.trailers,
            &shadow.trailers,
            &self.rules.headers,
            found,
        );
        let headers = std::mem::take(&mut found.counts);
        body::compare(production, shadow, &self.rules, found);
        if headers {
            Verdict::Headers
        } else if found.counts {
            Verdict::Body
        } else if self
            .rules
            .slower
            .is_some_and(|slower| slower.applies(production.duration(), shadow.duration()))
        {
            Verdict::Slower
        } else {
            Verdict::Match
        }
    }
}

/// A status as reports name it.
fn status(status: Status) -> String {
    match status {
        Status::Http(code) => code.to_string(),
        Status::Grpc(code) => format!("grpc {code}"),
        Status::Redis(kind) => match kind {
            b'+' => "simple string".into(),
            b'-' => "error".into(),
            b':' => "integer".into(),
            b'$' => "bulk string".into(),
            b'*' => "array".into(),
            b'_' => "null".into(),
            b'#' => "boolean".into(),
            b',' => "double".into(),
            b'(' => "big number".into(),
            b'!' => "bulk error".into(),
            b'=' => "verbatim string".into(),
            b'%' => "map".into(),
            b'~' => "set".into(),
            b'>' => "push".into(),
            other => format!("type {:?}", char::from(other)),
        },
    }
}
