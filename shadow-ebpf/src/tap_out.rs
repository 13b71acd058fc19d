//! The tap's other half: copies what production answers in mirrored flows.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::warn;
use shadow_common::{FlowRule, RecordKind, ResponseCounter, Wanted};

use crate::parse::{BadLength, Found, Packet};
use crate::ring::Lost;
use crate::{counter, flows, glance, parse, ring, select};

/// What became of a packet; `None` when it is none of ours, or carries nothing.
#[inline(always)]
pub fn tap_out(ctx: &TcContext) -> Option<ResponseCounter> {
    if glance::rules_out(ctx, |ports| select::is_service_port(ports.source)) {
        return None;
    }
    let mut packet = Packet::new();
    let Found::Segment = parse::headers(ctx, &mut packet) else { return None };
    if !select::is_service_port(packet.ports.source) {
        return None;
    }
    let rule = *flows::rule(&mut packet)?;
    if rule.wanted == Wanted::Nothing as u32 {
        return None;
    }
    let outcome = capture(ctx, &mut packet, rule)?;
    let first = counter::add(outcome);
    if first && matches!(outcome, ResponseCounter::Oversize) {
        warn!(ctx, "tap_out: a packet of {} bytes is too long to be compared", ctx.len());
    }
    Some(outcome)
}

#[inline(always)]
fn capture(ctx: &TcContext, packet: &mut Packet, rule: FlowRule) -> Option<ResponseCounter> {
    if packet.fragment {
        return Some(ResponseCounter::Fragment);
    }
    let len = match packet.len(ctx) {
        Ok(len) => len,
        Err(BadLength::Oversize) => return Some(ResponseCounter::Oversize),
        Err(BadLength::Malformed) => return Some(ResponseCounter::Malformed),
    };
    let Some(head) = packet.tcp(ctx) else { return Some(ResponseCounter::Unreadable) };
    let headers = packet.headers_len(&head);
    if headers > len {
        return Some(ResponseCounter::Malformed);
    }
    let payload = len - headers;
    if payload == 0 && !head.ends_stream() {
        return None;
    }
    let (kind, len, copied) = if payload != 0 && rule.leaves_out(head.seq(), payload) {
        (RecordKind::ResponseHeaders, headers, ResponseCounter::Abridged)
    } else {
        (RecordKind::Response, len, ResponseCounter::Captured)
    };
    Some(match ring::copy(ctx, kind, packet, len) {
        Ok(()) => copied,
        Err(Lost::RingFull) => ResponseCounter::RingFull,
        Err(Lost::Oversize) => ResponseCounter::Oversize,
        Err(Lost::Unreadable) => ResponseCounter::Unreadable,
    })
}
