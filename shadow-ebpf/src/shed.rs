//! Whose packets are left out while the daemon does not keep up.
//!
//! A ring that is full takes what happens to find room: every large flow gets a hole, and none arrives
//! whole. So the fuller it is, the more flows are left out as a whole, always the same ones first, and
//! the others stay whole. Nothing is remembered: it is a function of the flow and of how full the ring is.

use shadow_common::{Address, place};

use crate::parse::Packet;
use crate::ring;

/// So that flows that are sampled are not the first to go: samples have other seeds.
const SEED: u64 = 0x5348_4144_4f57_5441;

/// Whether a client's packet is left out for the sake of other flows: the share of flows for which it
/// is grows from none while a quarter of the ring is free to all when none is.
#[inline(always)]
pub fn leaves_out(packet: &mut Packet) -> bool {
    let quarter = ring::requests_size() / 4;
    let waiting = ring::requests_waiting();
    waiting > 3 * quarter && quarter != 0 && is_among_first(packet, waiting - 3 * quarter, quarter)
}

/// Not inlined: the address has no room on the caller's stack.
#[inline(never)]
fn is_among_first(packet: &mut Packet, beyond: u64, quarter: u64) -> bool {
    let mut client = Address::ANY_V6;
    packet.source(&mut client);
    let place = place(SEED, &client, packet.ports.source);
    // A ring has less than 2^32 octets.
    u64::from(place) < (beyond << 32) / quarter
}
