//! Whether the shadow answered as production did: verdicts, differences by field, and what of
//! them is noise.
//!
//! Pure functions of an [`Exchange`](crate::exchange::Exchange) and the rules of a run. Bodies are
//! decoded and parsed here, so none of this is done on the thread that packets go through.

mod body;
mod collect;
mod comparer;
mod content;
mod endpoint;
mod fields;
mod header;
mod ignore;
mod json;
mod noise;
mod path;
mod rules;
#[cfg(test)]
mod tests;
mod verdict;

pub use comparer::Comparer;
pub use endpoint::{Endpoints, OTHER, Route};
pub use ignore::Ignore;
pub use noise::Noise;
pub use path::JsonPath;
pub use rules::{Bounds, RuleError, Rules, Slower};
pub use verdict::{Comparison, Difference, Kind, Opaque, Verdict};
