//! The clock that capture times are taken from.

use rustix::time::{ClockId, clock_gettime};
use shadow_engine::time::Instant;

/// Now, on the clock of [`shadow_common::RecordHeader::captured_at`] (`CLOCK_MONOTONIC`, ns).
#[must_use]
pub fn now() -> Instant {
    let now = clock_gettime(ClockId::Monotonic);
    // Time since boot: neither part is negative, and nanoseconds last 584 years.
    Instant::from_nanos(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned())
}
