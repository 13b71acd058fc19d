//! The guard: copies what the shadow answers to the mirror, so that it can be dropped, and
//! what routers report about the mirror's own packets.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::warn;
use shadow_common::{GuardCounter, GuardMode, RecordKind};

use crate::parse::{BadLength, Found, Packet, Report};
use crate::ring::Lost;
use crate::{counter, glance, parse, ring, select};

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

/// The same for a packet that leaves.
///
/// When a neighbour does not answer, the kernel tells the sender of the packet: by its source
/// address that is a client, who knows of no such packet.
#[inline(always)]
pub fn guard_out(ctx: &TcContext) -> Option<GuardCounter> {
    if glance::rules_out(ctx, |_| false) {
        return None;
    }
    let mut packet = Packet::new();
    let Found::Icmp = parse::headers(ctx, &mut packet) else { return None };
    let GuardMode::Foreign = about_the_mirror(ctx, &packet)? else { return None };
    let outcome = match copy(ctx, &mut packet) {
        GuardCounter::Captured => GuardCounter::IcmpForeign,
        _ => GuardCounter::IcmpForeignLost,
    };
    counter::add(outcome);
    Some(outcome)
}

#[inline(always)]
fn capture(ctx: &TcContext) -> Option<GuardCounter> {
    if glance::rules_out(ctx, |ports| select::is_shadow_port(ports.source)) {
        return None;
    }
    let mut packet = Packet::new();
    let report = match parse::headers(ctx, &mut packet) {
        Found::Segment if select::from_shadow(&mut packet) => None,
        // To this host a later fragment comes to nothing, since the first one is dropped here; but
        // to another it would be forwarded.
        Found::Fragment if select::fragment_from_shadow(&mut packet) => {
            return Some(GuardCounter::Fragment);
        }
        Found::Icmp => Some(about_the_mirror(ctx, &packet)?),
        // Without ports nothing else is the shadow's: a packet whose headers do not parse, the
        // kernel drops itself.
        Found::Segment | Found::Other | Found::Fragment | Found::Malformed | Found::Short => {
            return None;
        }
    };
    let outcome = copy(ctx, &mut packet);
    let is_copied = matches!(outcome, GuardCounter::Captured);
    Some(match report {
        None => outcome,
        Some(GuardMode::Own) if is_copied => GuardCounter::Icmp,
        Some(GuardMode::Own) => GuardCounter::IcmpLost,
        Some(GuardMode::Foreign) if is_copied => GuardCounter::IcmpForeign,
        Some(GuardMode::Foreign) => GuardCounter::IcmpForeignLost,
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

/// Whether an ICMP message is an error about a packet of the mirror, and to whom it then goes.
///
/// Not inlined: the packet that it quotes has no room on the caller's stack.
#[inline(never)]
fn about_the_mirror(ctx: &TcContext, icmp: &Packet) -> Option<GuardMode> {
    let mut quoted = Packet::new();
    let report = parse::quoted(ctx, icmp, &mut quoted)?;
    match select::to_shadow(&mut quoted)? {
        // The mirror has no use for other errors, and to this host they do no harm.
        GuardMode::Own if !matches!(report, Report::Undeliverable) => None,
        mode => Some(mode),
    }
}
