//! Whether the shadow answered as production did: verdicts, differences by field, and what of
//! them is noise.
//!
//! Pure functions of an [`Exchange`](crate::exchange::Exchange) and the rules of a run. Bodies are
//! decoded and parsed here, so none of this is done on the thread that packets go through.

mod body;
mod collect;
mod comparer;
pub(crate) mod content;
mod endpoint;
mod fail_on;
mod fields;
mod header;
pub(crate) mod ignore;
pub(crate) mod json;
mod latency;
mod learnt;
mod noise;
pub(crate) mod path;
mod redis;
mod rules;
mod tally;
#[cfg(test)]
mod tests;
mod verdict;

pub use comparer::Comparer;
pub use content::decoded;
pub use endpoint::{Endpoints, OTHER, Route};
pub use fail_on::{FailOn, Metric};
pub use ignore::Ignore;
pub use latency::Latency;
pub use learnt::{Learnt, LearntEndpoint, LearntError, LearntField};
pub use noise::{Noise, Thresholds};
pub use path::{JsonPath, JsonPathError};
pub use rules::{Bounds, COMPARING, RuleError, Rules, Slower};
pub use tally::{EndpointTally, Example, FieldTally, Tallies, TallyBounds};
pub use verdict::{Comparison, Difference, Kind, Opaque, Verdict};
