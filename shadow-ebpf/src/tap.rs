//! The tap: copies what clients send to production.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::warn;
use shadow_common::{RecordKind, TapCounter};

use crate::parse::{BadLength, Found, Packet};
use crate::ring::Lost;
use crate::{choose, counter, flows, glance, parse, ring, select, shed};

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
    if glance::rules_out(ctx, |ports| select::is_service_port(ports.destination)) {
        return None;
    }
    let mut packet = Packet::new();
    match parse::headers(ctx, &mut packet) {
        Found::Segment => {}
        Found::Icmp | Found::Other => return None,
        Found::Fragment => return Some(TapCounter::Fragment),
        Found::Malformed | Found::Short => return Some(TapCounter::Malformed),
    }
    if !select::to_service(&mut packet) {
        return None;
    }
    if let Some(passed) = choose::passed(ctx, &mut packet) {
        return Some(passed);
    }
    if packet.fragment {
        return Some(TapCounter::Fragment);
    }
    let len = match packet.len(ctx) {
        Ok(len) => len,
        Err(BadLength::Oversize) => return Some(TapCounter::Oversize),
        Err(BadLength::Malformed) => return Some(TapCounter::Malformed),
    };
    if shed::leaves_out(&mut packet) {
        return Some(TapCounter::RingFull);
    }
    let copied = ring::copy(ctx, RecordKind::Request, &packet, len);
    if flows::are_wanted() && copied.is_ok() {
        flows::note(ctx, &mut packet, len);
    }
    Some(match copied {
        Ok(()) => TapCounter::Captured,
        Err(Lost::RingFull) => TapCounter::RingFull,
        Err(Lost::Oversize) => TapCounter::Oversize,
        Err(Lost::Unreadable) => TapCounter::Unreadable,
    })
}
