//! Whether the shadow answered as production did: verdicts, differences by field, and what of
//! them is noise.
//!
//! Pure functions of an [`Exchange`](crate::exchange::Exchange) and the rules of a run. Bodies are
//! decoded and parsed here, so none of this is done on the thread that packets go through.

mod verdict;

pub use verdict::{Comparison, Difference, Kind, Verdict};
