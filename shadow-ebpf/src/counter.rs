//! What became of packets, counted per CPU.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use shadow_common::{Counter, GuardCounter, ResponseCounter, TapCounter};

#[map]
static TAP_COUNTERS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(TapCounter::ALL.len() as u32, 0);

#[map]
static GUARD_COUNTERS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(GuardCounter::ALL.len() as u32, 0);

#[map]
static RESPONSE_COUNTERS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(ResponseCounter::ALL.len() as u32, 0);

/// A counter enum with the map that holds its values.
pub trait Counted: Counter {
    /// The map, indexed by the enum.
    fn map() -> &'static PerCpuArray<u64>;
}

impl Counted for TapCounter {
    #[inline(always)]
    fn map() -> &'static PerCpuArray<u64> {
        &TAP_COUNTERS
    }
}

impl Counted for GuardCounter {
    #[inline(always)]
    fn map() -> &'static PerCpuArray<u64> {
        &GUARD_COUNTERS
    }
}

impl Counted for ResponseCounter {
    #[inline(always)]
    fn map() -> &'static PerCpuArray<u64> {
        &RESPONSE_COUNTERS
    }
}

/// Adds one. True when it was the first on this CPU: the moment for a log line.
#[inline(always)]
pub fn add<C: Counted>(counter: C) -> bool {
    let Some(value) = C::map().get_ptr_mut(counter.index()) else { return false };
    // SAFETY: the pointer is this CPU's own value, and no program of ours interrupts another.
    unsafe {
        *value += 1;
        *value == 1
    }
}
