//! How answers are compared in a run.

use std::time::Duration;

use super::endpoint::Route;
use super::header::HeaderRules;
use super::path::JsonPath;
use super::{Endpoints, Ignore};

/// A flag's value that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{flag} {value}: {what}; {remedy}")]
pub struct RuleError {
    /// The flag, dashes included.
    pub flag: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong.
    pub what: String,
    /// What the user can do about it.
    pub remedy: String,
}

impl RuleError {
    pub(crate) fn new(
        flag: &'static str,
        value: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { flag, value: value.to_owned(), what: what.into(), remedy: remedy.into() }
    }
}

/// When an equal answer is `slower`: it took longer than production's by this share of
/// production's time, and by this time; whichever is more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slower {
    /// A share of production's time: 1.0 allows twice the time.
    pub share: f64,
    /// A time below which no difference counts.
    pub least: Duration,
}

impl Default for Slower {
    fn default() -> Self {
        Self { share: 1.0, least: Duration::from_millis(100) }
    }
}

impl Slower {
    /// Reads `100%+50ms` (or either alone), or `off`: the share of production's time and the least
    /// difference, in `us`, `ms` or `s`.
    ///
    /// # Errors
    ///
    /// It is not of that form.
    pub fn parse(text: &str) -> Result<Option<Self>, RuleError> {
        let error = |what| {
            RuleError::new("--slower", text, what, "write such as 100%+50ms, 50%, 20ms or off")
        };
        if text == "off" {
            return Ok(None);
        }
        let mut slower = Self { share: 0.0, least: Duration::ZERO };
        for part in text.split('+') {
            let part = part.trim();
            let number = part.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(part.len());
            let (number, unit) = part.split_at(number);
            let number: f64 = number.parse().map_err(|_| error("not a number with a unit"))?;
            let seconds = match unit {
                "%" => {
                    slower.share = number / 100.0;
                    continue;
                }
                "us" | "µs" => number / 1e6,
                "ms" => number / 1e3,
                "s" => number,
                _ => return Err(error("no unit")),
            };
            slower.least = Duration::try_from_secs_f64(seconds)
                .map_err(|_| error("longer than a clock runs"))?;
        }
        Ok(Some(slower))
    }

    /// Whether the shadow took too long.
    #[must_use]
    pub fn applies(&self, production: Duration, shadow: Duration) -> bool {
        let over = shadow.saturating_sub(production);
        over > self.least && over.as_secs_f64() > production.as_secs_f64() * self.share
    }
}

/// How much of an answer is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Differences named of one exchange; more are counted.
    pub differences: usize,
    /// Octets of a value in a difference.
    pub value: usize,
    /// Octets of one body behind its content coding.
    pub decoded: usize,
    /// Content codings applied to one body.
    pub codings: usize,
    /// Levels of a JSON value; below, it is compared as text.
    pub depth: usize,
    /// Octets of JSON parsed for one exchange, again at each level; then the rest is compared as text.
    pub work: usize,
    /// Endpoints; exchanges of more go to [`OTHER`](super::OTHER).
    pub endpoints: usize,
}

/// What comparing one exchange takes besides the exchange within the default bounds, octets: the
/// values of two arrays or objects that fill their bodies, or brotli's largest window (RFC 7932, 9.1),
/// which is filled before any of it comes out.
pub const COMPARING: usize = 32 << 20;

impl Default for Bounds {
    fn default() -> Self {
        Self {
            differences: 64,
            value: 200,
            decoded: 1 << 20,
            codings: 3,
            depth: 64,
            work: 16 << 20,
            endpoints: 500,
        }
    }
}

/// How answers are compared in a run.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) headers: HeaderRules,
    pub(super) json: Vec<JsonPath>,
    pub(super) routes: Vec<Route>,
    /// When an equal answer is `slower`; never, if none.
    pub slower: Option<Slower>,
    /// How much is looked at.
    pub bounds: Bounds,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            headers: HeaderRules::default(),
            json: Vec::new(),
            routes: Vec::new(),
            slower: Some(Slower::default()),
            bounds: Bounds::default(),
        }
    }
}

impl Rules {
    /// Leaves something out.
    pub fn ignore(&mut self, ignore: Ignore) {
        match ignore {
            Ignore::Header(name) => self.headers.ignore(name),
            Ignore::Json(path) => self.json.push(path),
            Ignore::Query(name) => self.headers.ignore_query(name),
        }
    }

    /// Groups endpoints by a rule of the user's.
    ///
    /// # Errors
    ///
    /// A rule given before covers the same paths.
    pub fn route(&mut self, route: Route) -> Result<(), RuleError> {
        self.routes.push(route);
        let refused = Endpoints::new(&self.routes, 0).err();
        if refused.is_some() {
            self.routes.pop();
        }
        refused.map_or(Ok(()), Err)
    }
}
