//! The guard: copies what the shadow answers to the mirror, so that it can be dropped.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::warn;
use shadow_common::{GuardCounter, RecordKind};

use crate::parse::BadLength;
use crate::ring::Lost;
use crate::{counter, parse, ring, select};

/// What became of a packet; `None` when it is none of ours and goes on.
#[inline(always)]
pub fn guard(ctx: &TcContext) -> Option<GuardCounter> {
    let outcome = capture(ctx)?;
    let first = counter::add(outcome);
    if first && matches!(outcome, GuardCounter::Oversize) {
        warn!(ctx, "guard: a packet of {} bytes is too long to be read", ctx.len());
    }
    Some(outcome)
}

#[inline(always)]
fn capture(ctx: &TcContext) -> Option<GuardCounter> {
    // Without ports nothing is the shadow's: a packet whose headers do not parse, the kernel
    // drops itself; a later fragment comes to nothing, since the first one is dropped here.
    let Ok(segment) = parse::segment(ctx) else { return None };
    if !select::from_shadow(&segment) {
        return None;
    }
    if segment.fragment {
        return Some(GuardCounter::Fragment);
    }
    let packet_len = match segment.packet_len(ctx) {
        Ok(packet_len) => packet_len,
        Err(BadLength::Oversize) => return Some(GuardCounter::Oversize),
        Err(BadLength::Malformed) => return Some(GuardCounter::Malformed),
    };
    Some(match ring::copy(ctx, RecordKind::Reply, segment.origin, segment.offset, packet_len) {
        Ok(()) => GuardCounter::Captured,
        Err(Lost::RingFull) => GuardCounter::RingFull,
        Err(Lost::Oversize) => GuardCounter::Oversize,
        Err(Lost::Unreadable) => GuardCounter::Unreadable,
    })
}
