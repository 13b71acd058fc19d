//! The tap: copies what clients send to production.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::warn;
use shadow_common::{RecordKind, TapCounter};

use crate::parse::{BadLength, Skip};
use crate::ring::Lost;
use crate::{counter, parse, ring, select};

/// What became of a packet; `None` when it is none of ours.
#[inline(always)]
pub fn tap(ctx: &TcContext) -> Option<TapCounter> {
    let outcome = capture(ctx)?;
    let first = counter::add(outcome);
    if first && matches!(outcome, TapCounter::Oversize) {
        warn!(ctx, "tap: a packet of {} bytes is too long to be mirrored", ctx.len());
    }
    Some(outcome)
}

#[inline(always)]
fn capture(ctx: &TcContext) -> Option<TapCounter> {
    let segment = match parse::segment(ctx) {
        Ok(segment) => segment,
        Err(Skip::NotTcp) => return None,
        Err(Skip::Fragment) => return Some(TapCounter::Fragment),
        Err(Skip::Malformed) => return Some(TapCounter::Malformed),
    };
    if !select::to_service(&segment) {
        return None;
    }
    if segment.fragment {
        return Some(TapCounter::Fragment);
    }
    let packet_len = match segment.packet_len(ctx) {
        Ok(packet_len) => packet_len,
        Err(BadLength::Oversize) => return Some(TapCounter::Oversize),
        Err(BadLength::Malformed) => return Some(TapCounter::Malformed),
    };
    Some(match ring::copy(ctx, RecordKind::Request, segment.origin, segment.offset, packet_len) {
        Ok(()) => TapCounter::Captured,
        Err(Lost::RingFull) => TapCounter::RingFull,
        Err(Lost::Oversize) => TapCounter::Oversize,
        Err(Lost::Unreadable) => TapCounter::Unreadable,
    })
}
