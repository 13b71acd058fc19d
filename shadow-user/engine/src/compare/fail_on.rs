//! Conditions under which a run has failed.

use std::fmt;

use strum::IntoEnumIterator as _;

use super::rules::RuleError;
use super::{EndpointTally, Tallies, Verdict};
use crate::time::Duration;

/// One value of `--fail-on`: `mismatch>0.1%`, `missing>0`, `p99>+20%`, `compared<1000`.
///
/// ```text
/// condition = metric ( ">" | ">=" | "<" | "<=" ) value
/// metric    = verdict | "mismatch" | "compared" | "p50" | "p90" | "p99" | "p999" | "mean"
/// verdict   = "match" | "status" | "headers" | "body" | "slower" | "missing" | "unpaired"
/// value     = number            counts
///           | number "%"        counts, as a share of the exchanges compared (unpaired: of all)
///           | time              times, the shadow's own
///           | ("+" | "-") number "%"    times, against production's
///           | ("+" | "-") time          times, against production's
/// time      = number ( "us" | "ms" | "s" )
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FailOn {
    text: String,
    metric: Metric,
    operator: Operator,
    value: Value,
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Exchanges with a verdict.
    Verdict(Verdict),
    /// Exchanges in which the shadow behaved otherwise.
    Mismatch,
    /// Exchanges that were compared.
    Compared,
    /// The time that a share of the answers took at most.
    Quantile(f64),
    /// The mean time.
    Mean,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operator {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Operator {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Above => left > right,
            Self::AtLeast => left >= right,
            Self::Below => left < right,
            Self::AtMost => left <= right,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Count(f64),
    /// 1.0 is all.
    Share(f64),
    /// Seconds.
    Time(f64),
    /// Above production's, as a share of it.
    OverShare(f64),
    /// Above production's, seconds.
    Over(f64),
}

impl FailOn {
    /// Reads a condition.
    ///
    /// # Errors
    ///
    /// It does not follow the grammar; the error says where.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let error = |at: &str, what: &str| {
            let read = text.len() - at.len();
            let at = text[..read].chars().count() + 1;
            RuleError::new(
                "--fail-on",
                text,
                format!("{what} at character {at}"),
                "write such as mismatch>0.1%, missing>0, p99>+20%, p99>250ms or compared<1000",
            )
        };
        let start = text.trim_start();
        let end = start.find(['>', '<', ' ', '=']).unwrap_or(start.len());
        let (name, rest) = start.split_at(end);
        let metric = Metric::named(name).ok_or_else(|| error(start, "unknown metric"))?;
        let rest = rest.trim_start();
        let operators = [
            (">=", Operator::AtLeast),
            ("<=", Operator::AtMost),
            (">", Operator::Above),
            ("<", Operator::Below),
        ];
        let (operator, rest) = operators
            .iter()
            .find_map(|(sign, operator)| Some((*operator, rest.strip_prefix(sign)?)))
            .ok_or_else(|| error(rest, "no > or <"))?;
        let start = rest.trim_start();
        let unsigned = start.trim_start_matches(['+', '-']);
        let sign = &start[..start.len() - unsigned.len()];
        let end =
            unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, unit) = unsigned.split_at(end);
        let number: f64 = number.parse().map_err(|_| error(unsigned, "no number"))?;
        let number = match sign {
            "" | "+" => number,
            "-" => -number,
            _ => return Err(error(start, "more than one sign")),
        };
        let seconds = match unit.trim() {
            "us" | "µs" => Some(number / 1e6),
            "ms" => Some(number / 1e3),
            "s" => Some(number),
            "" | "%" => None,
            _ => return Err(error(unit, "unknown unit")),
        };
        let percent = unit.trim() == "%";
        let value = match (metric.is_time(), sign, seconds) {
            (true, "", Some(seconds)) => Value::Time(seconds),
            (true, _, Some(seconds)) => Value::Over(seconds),
            (true, "", None) if percent => return Err(error(start, "no + before the share")),
            (true, _, None) if percent => Value::OverShare(number / 100.0),
            (true, ..) => return Err(error(unit, "no unit of time")),
            (false, "", None) if !percent => Value::Count(number),
            (false, "", None) if metric == Metric::Compared => {
                return Err(error(unit, "a share of itself"));
            }
            (false, "", None) => Value::Share(number / 100.0),
            (false, _, None) => return Err(error(start, "a sign before a count")),
            (false, _, Some(_)) => return Err(error(unit, "a time for a count")),
        };
        Ok(Self { text: text.to_owned(), metric, operator, value })
    }

    /// Why a run has failed, if it has: one line with the condition and what was measured. Where no
    /// answers were compared, no condition of times holds.
    #[must_use]
    pub fn reason(&self, tallies: &Tallies) -> Option<String> {
        let total = tallies.total();
        let measured = if self.metric.is_time() { self.times(total)? } else { self.counts(total)? };
        Some(format!("{self}: {measured}"))
    }

    fn counts(&self, total: &EndpointTally) -> Option<String> {
        let (count, of) = match self.metric {
            Metric::Verdict(Verdict::Unpaired) => {
                (total.verdict(Verdict::Unpaired), total.exchanges)
            }
            Metric::Verdict(verdict) => (total.verdict(verdict), total.compared()),
            Metric::Mismatch => (total.mismatches(), total.compared()),
            _ => (total.compared(), total.exchanges),
        };
        let holds = match self.value {
            Value::Share(share) => of > 0 && self.operator.holds(count as f64 / of as f64, share),
            Value::Count(bound) => self.operator.holds(count as f64, bound),
            _ => false,
        };
        let percent = count as f64 * 100.0 / of.max(1) as f64;
        holds.then(|| format!("{count} of {of} exchanges ({percent:.3} %)"))
    }

    fn times(&self, total: &EndpointTally) -> Option<String> {
        if total.shadow.count() == 0 {
            return None;
        }
        let times = match self.metric {
            Metric::Quantile(share) => {
                [&total.production, &total.shadow].map(|it| it.quantile(share))
            }
            _ => [&total.production, &total.shadow].map(|it| it.mean()),
        };
        let [production, shadow] = times.map(|time| time.as_secs_f64());
        let holds = match self.value {
            Value::Time(seconds) => self.operator.holds(shadow, seconds),
            Value::Over(seconds) => self.operator.holds(shadow - production, seconds),
            Value::OverShare(share) => self.operator.holds(shadow - production, production * share),
            _ => false,
        };
        let millis = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
        holds.then(|| {
            format!("{} in production, {} in the shadow", millis(times[0]), millis(times[1]))
        })
    }
}

impl fmt::Display for FailOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Metric {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "mismatch" => Self::Mismatch,
            "compared" => Self::Compared,
            "p50" => Self::Quantile(0.5),
            "p90" => Self::Quantile(0.9),
            "p99" => Self::Quantile(0.99),
            "p999" => Self::Quantile(0.999),
            "mean" => Self::Mean,
            _ => Self::Verdict(Verdict::iter().find(|verdict| verdict.label() == name)?),
        })
    }

    fn is_time(self) -> bool {
        matches!(self, Self::Quantile(_) | Self::Mean)
    }
}
