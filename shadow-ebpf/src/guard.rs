//! The guard: copies what the shadow answers to the mirror, so that it can be dropped, and
//! what routers report about the mirror's own packets.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::warn;
use shadow_common::{GuardCounter, RecordKind};

use crate::parse::{BadLength, Found, Packet};
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
    let mut packet = Packet::new();
    let is_report = match parse::headers(ctx, &mut packet) {
        Found::Segment if select::from_shadow(&mut packet) => false,
        Found::Icmp if is_about_the_mirror(ctx, &packet) => true,
        // Without ports nothing is the shadow's: a packet whose headers do not parse, the kernel
        // drops itself; a later fragment comes to nothing, since the first one is dropped here.
        Found::Segment
        | Found::Icmp
        | Found::Other
        | Found::Fragment
        | Found::Malformed
        | Found::Short => return None,
    };
    let outcome = copy(ctx, &mut packet);
    Some(match outcome {
        GuardCounter::Captured if is_report => GuardCounter::Icmp,
        _ if is_report => GuardCounter::IcmpLost,
        outcome => outcome,
    })
}

#[inline(always)]
fn copy(ctx: &TcContext, packet: &mut Packet) -> GuardCounter {
    if packet.fragment {
        return GuardCounter::Fragment;
    }
    let len = match packet.len(ctx) {
        Ok(len) => len,
        Err(BadLength::Oversize) => return GuardCounter::Oversize,
        Err(BadLength::Malformed) => return GuardCounter::Malformed,
    };
    match ring::copy(ctx, RecordKind::Reply, packet, len) {
        Ok(()) => GuardCounter::Captured,
        Err(Lost::RingFull) => GuardCounter::RingFull,
        Err(Lost::Oversize) => GuardCounter::Oversize,
        Err(Lost::Unreadable) => GuardCounter::Unreadable,
    }
}

/// Whether an ICMP message is an error about a packet of the mirror.
///
/// Not inlined: the packet that it quotes has no room on the caller's stack.
#[inline(never)]
fn is_about_the_mirror(ctx: &TcContext, icmp: &Packet) -> bool {
    let mut quoted = Packet::new();
    parse::quoted(ctx, icmp, &mut quoted) && select::to_shadow(&mut quoted)
}
