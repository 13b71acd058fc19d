//! Shadowtap's programs in the kernel, for TC: tap and guard at ingress, and the other half of each
//! at egress.
//!
//! This file turns named outcomes into verdicts, and decides nothing else.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "`#[classifier]` leaves the doc comments on a function inside")]

mod choose;
mod counter;
mod flows;
mod frame;
mod glance;
mod guard;
mod parse;
mod ring;
mod select;
mod shed;
mod tap;
mod tap_out;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use shadow_common::{GuardCounter, ResponseCounter, TapCounter};

/// "Go on with the next program": `TCX_NEXT` on TCX (kernel 6.6), `TC_ACT_UNSPEC` on clsact.
const NEXT: i32 = -1;
/// "Drop": `TCX_DROP` on TCX, `TC_ACT_SHOT` on clsact.
const DROP: i32 = 2;

/// Copies what clients send to production. Whatever happens, the packet goes on unchanged.
#[classifier]
pub fn tap(ctx: TcContext) -> i32 {
    match tap::tap(&ctx) {
        None
        | Some(
            TapCounter::Captured
            | TapCounter::RingFull
            | TapCounter::Oversize
            | TapCounter::Unreadable
            | TapCounter::Fragment
            | TapCounter::Malformed
            | TapCounter::SampledOut
            | TapCounter::Client
            | TapCounter::Paused,
        ) => NEXT,
    }
}

/// The tap at egress: copies what production answers. Whatever happens, the packet goes on unchanged.
#[classifier]
pub fn tap_out(ctx: TcContext) -> i32 {
    match tap_out::tap_out(&ctx) {
        None
        | Some(
            ResponseCounter::Captured
            | ResponseCounter::Abridged
            | ResponseCounter::RingFull
            | ResponseCounter::Oversize
            | ResponseCounter::Unreadable
            | ResponseCounter::Fragment
            | ResponseCounter::Malformed,
        ) => NEXT,
    }
}

/// Copies what the shadow answers to the mirror, and drops it. Any other packet goes on unchanged.
#[classifier]
pub fn guard(ctx: TcContext) -> i32 {
    verdict(guard::guard(&ctx))
}

/// The guard at egress: drops what this host itself would report to a client about a packet that
/// the mirror sent from the client's address. Any other packet goes on unchanged.
#[classifier]
pub fn guard_out(ctx: TcContext) -> i32 {
    verdict(guard::guard_out(&ctx))
}

#[inline(always)]
fn verdict(outcome: Option<GuardCounter>) -> i32 {
    match outcome {
        // What a router reports is the kernel's to know as well.
        None | Some(GuardCounter::Icmp | GuardCounter::IcmpLost) => NEXT,
        Some(
            GuardCounter::Captured
            | GuardCounter::RingFull
            | GuardCounter::Oversize
            | GuardCounter::Unreadable
            | GuardCounter::Fragment
            | GuardCounter::Malformed
            | GuardCounter::IcmpForeign
            | GuardCounter::IcmpForeignLost,
        ) => DROP,
    }
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

/// The helpers used here are open to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
