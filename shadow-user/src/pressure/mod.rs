//! The host comes first: while it is under pressure, less is mirrored.
//!
//! [`Gauges`] says once a second what the host and the mirror itself are at, [`Governor`] what follows
//! of it, and the worker does it. [`Limit`]s are the user's.

mod backlog;
mod gauges;
mod governor;

use std::fmt;

use shadow_common::counters;
use shadow_engine::books::Tally;

pub use gauges::{Beyond, Gauges};
pub use governor::{Governor, Step};

use crate::setting::{Parsed, wrong};

counters! {
    /// What there may be too much of.
    Pressure {
        /// The mirror's own use of processors.
        Cpu = "cpu",
        /// Time in which something on this host had to wait for a processor.
        Stall = "stall",
        /// Time that one processor spends in software interrupts.
        Softirq = "softirq",
        /// Connections that production has not accepted yet.
        AcceptQueue = "accept_queue",
    }
}

/// A share that may not be exceeded, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit(Option<f64>);

impl Limit {
    /// Never exceeded.
    pub const OFF: Self = Self(None);

    /// A percentage such as `50%` up to `max`, or `off`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str, max: u32) -> Parsed<Self> {
        if text == "off" {
            return Ok(Self::OFF);
        }
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match number {
            Some(percent) if percent > 0.0 && percent <= f64::from(max) => {
                Ok(Self(Some(percent / 100.0)))
            }
            _ => {
                wrong("is no limit", format!("give more than 0% and up to {max}%, as 50%, or off"))
            }
        }
    }

    /// As a ratio; none when it is off.
    #[must_use]
    pub const fn ratio(self) -> Option<f64> {
        self.0
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("off"),
            Some(ratio) => write!(f, "{}%", (ratio * 1e6).round() / 1e4),
        }
    }
}

/// The limits that hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Of the mirror's own processor time, as a share of one.
    pub cpu: Limit,
    /// Of the time in which something on this host has to wait for a processor. With it the other
    /// gauges of the host are off.
    pub pressure: Limit,
}

impl Limits {
    /// Of `cpu`, in percent: as many as processors there may be.
    pub const MAX_CPU: u32 = 100_000;
    /// Of `pressure`, in percent.
    pub const MAX_PRESSURE: u32 = 100;
}

impl Default for Limits {
    /// None.
    fn default() -> Self {
        Self { cpu: Limit::OFF, pressure: Limit::OFF }
    }
}

/// What pressure has come to so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Eased {
    /// The part of the sample that is left, 0 to 1.
    pub share: f64,
    /// How often it was made smaller, by the first reason.
    pub shrunk: Tally<Pressure>,
    /// How often it was made larger again.
    pub returned: u64,
}

impl Default for Eased {
    fn default() -> Self {
        Self { share: 1.0, shrunk: Tally::default(), returned: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_percentage_or_off() {
        for (text, ratio) in [("50%", Some(0.5)), ("0.5 %", Some(0.005)), ("off", None)] {
            assert_eq!(Limit::parse(text, 100).expect("a limit").ratio(), ratio, "{text}");
        }
        assert_eq!(Limit::parse("12.5%", 100).expect("a limit").to_string(), "12.5%");
        assert_eq!(Limit::OFF.to_string(), "off");
        for text in ["50", "0%", "-1%", "101%", "NaN%", "inf%", "", "on"] {
            let (what, remedy) = Limit::parse(text, 100).expect_err(text);
            assert_eq!(what, "is no limit");
            assert_eq!(remedy, "give more than 0% and up to 100%, as 50%, or off");
        }
    }
}
