//! The flows whose answers are copied. The tap adds them, in the kernel, so that an entry is there
//! before production can have answered; the daemon says how much of their answers is wanted.

#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key by value is a second copy of it on a stack of 512 bytes"
)]

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::TcContext;
use shadow_common::{Address, FlowKey, FlowRule, MAX_TRACKED, Wanted};

use crate::parse::{Packet, Ports};

// The size stands in for the loader's.
#[map]
static FLOWS: LruHashMap<FlowKey, FlowRule> = LruHashMap::with_max_entries(MAX_TRACKED, 0);

/// Not zero when answers are compared. Set by the loader: otherwise the verifier takes out what
/// depends on it.
#[unsafe(no_mangle)]
static COMPARING: u8 = 0;

/// Whether answers are compared.
#[inline(always)]
pub fn are_wanted() -> bool {
    // SAFETY: a valid, aligned value; read so that the compiler does not take the zero for granted.
    unsafe { core::ptr::read_volatile(&raw const COMPARING) != 0 }
}

/// Notes the flow of a client's packet of `len` bytes, when it carries data: only that is answered.
/// A SYN alone adds nothing, so that a flood of them does not drive out flows.
///
/// Not inlined: the key has no room on the caller's stack.
#[inline(never)]
pub fn note(ctx: &TcContext, packet: &mut Packet, len: u32) {
    let Some(head) = packet.tcp(ctx) else { return };
    let has_data = packet.headers_len(&head) < len;
    if !has_data && !head.is_syn() {
        return;
    }
    let Ports { source, destination } = packet.ports;
    let mut key = FlowKey {
        client: Address::ANY_V6,
        production: Address::ANY_V6,
        client_port: source,
        production_port: destination,
    };
    packet.source(&mut key.client);
    packet.destination(&mut key.production);
    match FLOWS.get_ptr_mut(&key) {
        // Another connection: a range of the old one's numbers means nothing in it.
        // SAFETY: a map value, written as the word that it begins with.
        Some(rule) if head.is_syn() => unsafe {
            (&raw mut (*rule).wanted).write_volatile(Wanted::All as u32);
        },
        Some(_) => {}
        // Another CPU may have been faster.
        None if has_data => {
            let _ = FLOWS.insert(&key, &FlowRule::ALL, u64::from(BPF_NOEXIST));
        }
        None => {}
    }
}

/// A new connection with these ends is not mirrored: nothing is copied by what an earlier one left.
#[inline(always)]
pub fn forget(key: &FlowKey) {
    if are_wanted() {
        let _ = FLOWS.remove(key);
    }
}

/// What is wanted of a packet of production's: `None` when it is of no flow that is noted.
#[inline(always)]
pub fn rule(packet: &mut Packet) -> Option<&'static FlowRule> {
    let Ports { source, destination } = packet.ports;
    let mut key = FlowKey {
        client: Address::ANY_V6,
        production: Address::ANY_V6,
        client_port: destination,
        production_port: source,
    };
    packet.destination(&mut key.client);
    packet.source(&mut key.production);
    // SAFETY: the daemon replaces values whole; of the tap's write, one word, either state is good.
    unsafe { FLOWS.get(&key) }
}
