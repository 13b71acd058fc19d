//! Which segments are ours. The daemon fills these maps and may change them at any time.

#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key by value is a second copy of it on a stack of 512 bytes"
)]

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use shadow_common::{
    Address, GuardMode, GuardRule, MAX_OWN_ADDRESSES, MAX_SERVICES, MAX_SHADOWS, PORT_WORDS,
    ServiceKey, ShadowKey,
};

use crate::parse::{Packet, Ports};

/// One bit per port that any service has: most packets need no look further than this.
#[map]
static SERVICE_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// The mirrored addresses and ports.
#[map]
static SERVICES: HashMap<ServiceKey, u8> = HashMap::with_max_entries(MAX_SERVICES, 0);

/// One bit per port that any shadow has.
#[map]
static SHADOW_PORTS: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// The shadows, and where the mirror awaits their answers.
#[map]
static SHADOWS: HashMap<ShadowKey, GuardRule> = HashMap::with_max_entries(MAX_SHADOWS, 0);

/// This host's addresses.
#[map]
static OWN_ADDRESSES: HashMap<Address, u8> = HashMap::with_max_entries(MAX_OWN_ADDRESSES, 0);

/// Whether a segment goes to a mirrored service.
#[inline(always)]
pub fn to_service(packet: &mut Packet) -> bool {
    let port = packet.ports.destination;
    if !has_port(&SERVICE_PORTS, port) {
        return false;
    }
    let mut key = ServiceKey { address: Address::ANY_V6, port, reserved: [0; 2] };
    packet.destination(&mut key.address);
    if SERVICES.get_ptr(&key).is_some() {
        return true;
    }
    key.address = packet.any();
    SERVICES.get_ptr(&key).is_some()
}

/// Whether a service has this port: most packets need no look further than this.
#[inline(always)]
pub fn is_service_port(port: [u8; 2]) -> bool {
    has_port(&SERVICE_PORTS, port)
}

/// Whether a shadow has this port.
#[inline(always)]
pub fn is_shadow_port(port: [u8; 2]) -> bool {
    has_port(&SHADOW_PORTS, port)
}

/// Whether a segment goes from a shadow to the mirror.
#[inline(always)]
pub fn from_shadow(packet: &mut Packet) -> bool {
    let Ports { source, destination } = packet.ports;
    let Some(rule) = rule(source, |address| packet.source(address)) else { return false };
    let mut local = Address::ANY_V6;
    packet.destination(&mut local);
    admits(rule, &local, destination)
}

/// Whether a fragment without ports may be of a packet from a shadow to the address of another.
#[inline(always)]
pub fn fragment_from_shadow(packet: &mut Packet) -> bool {
    packet.ports = Ports::default();
    from_shadow(packet)
}

/// Whether a segment goes from the mirror to a shadow; from the address of another when `Foreign`.
#[inline(always)]
pub fn to_shadow(packet: &mut Packet) -> Option<GuardMode> {
    let Ports { source, destination } = packet.ports;
    let rule = rule(destination, |address| packet.destination(address))?;
    let mut local = Address::ANY_V6;
    packet.source(&mut local);
    if !admits(rule, &local, source) {
        None
    } else if rule.mode == GuardMode::Foreign as u32 {
        Some(GuardMode::Foreign)
    } else {
        Some(GuardMode::Own)
    }
}

/// The rule of a shadow, whose address is written by `address`.
#[inline(always)]
fn rule(port: [u8; 2], address: impl FnOnce(&mut Address)) -> Option<&'static GuardRule> {
    if !has_port(&SHADOW_PORTS, port) {
        return None;
    }
    let mut key = ShadowKey { address: Address::ANY_V6, port, reserved: [0; 2] };
    address(&mut key.address);
    // SAFETY: the daemon replaces values whole, and a rule torn in between is read for one packet.
    unsafe { SHADOWS.get(&key) }
}

/// Whether the mirror's end of a connection is one of the rule's.
#[inline(always)]
fn admits(rule: &GuardRule, local: &Address, port: [u8; 2]) -> bool {
    if rule.mode == GuardMode::Foreign as u32 {
        return OWN_ADDRESSES.get_ptr(local).is_none();
    }
    let port = u16::from_be_bytes(port);
    // By words: comparing bytes takes a loop, or much of the stack.
    let expected: &[u32; 4] = bytemuck::cast_ref(&rule.local);
    let found: &[u32; 4] = bytemuck::cast_ref(local);
    port >= rule.port_min
        && port <= rule.port_max
        && expected[0] == found[0]
        && expected[1] == found[1]
        && expected[2] == found[2]
        && expected[3] == found[3]
}

#[inline(always)]
fn has_port(ports: &Array<u64>, port: [u8; 2]) -> bool {
    let port = u32::from(u16::from_be_bytes(port));
    match ports.get(port >> 6) {
        Some(word) => word >> (port & 63) & 1 != 0,
        None => false,
    }
}
