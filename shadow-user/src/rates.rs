//! How much a shadow is asked to take, and how that is written.

use std::fmt;
use std::num::NonZeroU64;

use shadow_engine::Quota;

use crate::setting::{Wrong, decimal, wrong};

/// Bounds toward each shadow; none where nothing is given.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rates {
    /// Sessions that are begun.
    pub sessions: Option<Rate>,
    /// HTTP/1 requests that are sent.
    pub requests: Option<Rate>,
    /// What all packets take.
    pub bandwidth: Option<Bandwidth>,
}

/// So many a second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate(NonZeroU64);

/// Bits a second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bandwidth(NonZeroU64);

/// A packet of 1,500 octets takes a fifth of a second of it.
const LEAST_BANDWIDTH: u64 = 64_000;

/// By powers of 1,000, as tc(8) has them.
const UNITS: [(&str, u64); 4] =
    [("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("kbit/s", 1_000), ("bit/s", 1)];

impl Rates {
    /// The same for an engine.
    #[must_use]
    pub fn quota(&self) -> Quota {
        Quota {
            sessions: self.sessions.map(|rate| rate.0),
            requests: self.requests.map(|rate| rate.0),
            bandwidth: self.bandwidth.map(|bandwidth| bandwidth.0),
        }
    }
}

impl Rate {
    /// How many a second.
    #[must_use]
    pub const fn per_second(self) -> u64 {
        self.0.get()
    }

    /// A rate as `50/s`, or `none`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Option<Self>, Wrong> {
        let remedy = "give a number per second, as 50/s, or none";
        if text == "none" {
            return Ok(None);
        }
        let Some(number) = text.strip_suffix("/s") else {
            return wrong("is no number per second", remedy);
        };
        match number.trim().parse::<u64>().map(NonZeroU64::new) {
            Ok(Some(rate)) => Ok(Some(Self(rate))),
            Ok(None) => wrong("lets nothing through", "give 1/s or more, or pause the mirror"),
            Err(_) => wrong("is no whole number per second", remedy),
        }
    }
}

impl Bandwidth {
    /// Bits a second.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0.get()
    }

    /// A bandwidth as `100Mbit/s`, or `none`.
    ///
    /// # Errors
    /// When it is neither, or less than a mirror can live with.
    pub fn parse(text: &str) -> Result<Option<Self>, Wrong> {
        let remedy = "give bits per second, as 100Mbit/s, 1.5Gbit/s or 500kbit/s, or none";
        if text == "none" {
            return Ok(None);
        }
        let unit = UNITS.iter().find_map(|(unit, factor)| {
            let at = text.len().checked_sub(unit.len())?;
            let (number, end) = (text.get(..at)?, text.get(at..)?);
            end.eq_ignore_ascii_case(unit).then_some((number.trim(), *factor))
        });
        let Some((number, factor)) = unit else { return wrong("has no unit of bits", remedy) };
        let Some((whole, part)) = decimal(number).filter(|(_, part)| part.len() <= 9) else {
            return wrong("is no number of bits per second", remedy);
        };
        // Nine digits: exact for the largest unit.
        let billionths = format!("{part:0<9}").parse::<u64>().unwrap_or_default();
        let part = billionths * factor / 1_000_000_000;
        let whole = whole.parse::<u64>().ok();
        let bits = whole.and_then(|whole| whole.checked_mul(factor)?.checked_add(part));
        match bits.and_then(NonZeroU64::new) {
            Some(bits) if bits.get() >= LEAST_BANDWIDTH => Ok(Some(Self(bits))),
            None if bits.is_none() => wrong("is more than can be counted", remedy),
            _ => wrong("is too little for a mirror", "give 64kbit/s or more, or pause the mirror"),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.bits();
        let (unit, factor) = UNITS
            .into_iter()
            .find(|(_, factor)| bits.is_multiple_of(*factor))
            .unwrap_or(("bit/s", 1));
        write!(f, "{}{unit}", bits / factor)
    }
}

/// A bound as its flag takes it.
#[must_use]
pub fn written(bound: Option<impl fmt::Display>) -> String {
    bound.map_or_else(|| "none".to_owned(), |bound| bound.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_numbers_per_second() {
        for (text, expected) in
            [("1/s", "1/s"), ("5000/s", "5000/s"), ("50 /s", "50/s"), ("none", "none")]
        {
            assert_eq!(written(Rate::parse(text).expect("good")), expected);
        }
        for (text, expected) in [
            ("50", "is no number per second"),
            ("50/m", "is no number per second"),
            ("/s", "is no whole number per second"),
            ("0.5/s", "is no whole number per second"),
            ("-1/s", "is no whole number per second"),
            ("0/s", "lets nothing through"),
        ] {
            assert_eq!(Rate::parse(text).expect_err("refused").0, expected, "{text}");
        }
    }

    #[test]
    fn bandwidths_are_bits_per_second() {
        for (text, bits, expected) in [
            ("100Mbit/s", 100_000_000, "100Mbit/s"),
            ("1.5Gbit/s", 1_500_000_000, "1500Mbit/s"),
            ("0.064 mbit/s", 64_000, "64kbit/s"),
            ("123456bit/s", 123_456, "123456bit/s"),
            ("1.000000001Gbit/s", 1_000_000_001, "1000000001bit/s"),
        ] {
            let bandwidth = Bandwidth::parse(text).expect("good").expect("some");
            assert_eq!((bandwidth.bits(), bandwidth.to_string()), (bits, expected.to_owned()));
        }
        assert_eq!(Bandwidth::parse("none"), Ok(None));
        for (text, expected) in [
            ("100", "has no unit of bits"),
            ("100MB/s", "has no unit of bits"),
            ("100Mbit", "has no unit of bits"),
            ("µ", "has no unit of bits"),
            ("Mbit/s", "is no number of bits per second"),
            ("1.Mbit/s", "is no number of bits per second"),
            ("-1Mbit/s", "is no number of bits per second"),
            ("1.0000000001Gbit/s", "is no number of bits per second"),
            ("99999999999999Gbit/s", "is more than can be counted"),
            ("63kbit/s", "is too little for a mirror"),
            ("0Mbit/s", "is too little for a mirror"),
        ] {
            assert_eq!(Bandwidth::parse(text).expect_err("refused").0, expected, "{text}");
        }
    }
}
