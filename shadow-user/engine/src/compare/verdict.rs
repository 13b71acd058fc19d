//! What a comparison comes to.

use std::sync::Arc;

/// The result for one exchange: of several that apply, the first in this order.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, strum::EnumIter)]
pub enum Verdict {
    /// The legs' messages could not be brought together; the exchange's reason says why.
    Unpaired,
    /// Production answered and the shadow never did.
    Missing,
    /// The status codes differ.
    Status,
    /// Header fields differ that are worth comparing.
    Headers,
    /// Bodies differ.
    Body,
    /// The same answer, but slower than the threshold allows.
    Slower,
    /// The same answer.
    Match,
}

impl Verdict {
    /// The label in reports and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unpaired => "unpaired",
            Self::Missing => "missing",
            Self::Status => "status",
            Self::Headers => "headers",
            Self::Body => "body",
            Self::Slower => "slower",
            Self::Match => "match",
        }
    }

    /// Whether the shadow behaved otherwise than production: all but `match` and `unpaired`.
    #[must_use]
    pub fn is_mismatch(self) -> bool {
        !matches!(self, Self::Match | Self::Unpaired)
    }
}

/// How a field differs, in Diffy's words.
#[derive(
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    serde::Deserialize,
    serde::Serialize,
    strum::EnumIter,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Production has the field and the shadow does not.
    Missing,
    /// The shadow has a field that production does not have.
    Extra,
    /// The values are of different types.
    Type,
    /// The values are of one type and differ.
    Primitive,
    /// The same elements in another order.
    Order,
    /// Arrays of different lengths.
    Length,
}

impl Kind {
    /// The label in reports and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Type => "type",
            Self::Primitive => "primitive",
            Self::Order => "order",
            Self::Length => "length",
        }
    }
}

/// One field that differs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Where: `status`, `header.content-type`, `body` (not looked into), or a path within it such as
    /// `body.items[].price`; array positions are folded.
    pub path: Arc<str>,
    /// How.
    pub kind: Kind,
    /// Production's value, cut to a bound.
    pub production: Option<Box<str>>,
    /// The shadow's value, cut to a bound.
    pub shadow: Option<Box<str>>,
    /// Whether the run's noise explains it, so that it does not count.
    pub noise: bool,
}

/// One exchange, compared.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Method and path template, such as `GET /users/{id}`.
    pub endpoint: Arc<str>,
    /// The result.
    pub verdict: Verdict,
    /// Every difference, up to a bound; noise too.
    pub differences: Vec<Difference>,
    /// Differences beyond the bound.
    pub more: usize,
    /// Why the bodies were compared by length and hash only, or as octets, where their content
    /// would have had more to say.
    pub opaque: Option<Opaque>,
}

/// Why a body that differs was not looked into.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, strum::EnumIter)]
pub enum Opaque {
    /// It is longer than what is kept of a body.
    NotKept,
    /// Decoded, it is longer than the bound: a decompression bomb, or just large.
    TooLong,
    /// Its content coding is not known, or coded too often.
    Coding,
    /// It is not what its content coding or its content type says.
    Malformed,
    /// Comparing it took more than the bound of work; the rest was compared as octets.
    Work,
}

impl Opaque {
    /// The label in reports and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotKept => "not-kept",
            Self::TooLong => "too-long",
            Self::Coding => "coding",
            Self::Malformed => "malformed",
            Self::Work => "work",
        }
    }
}
