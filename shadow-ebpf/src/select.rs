//! Which segments are ours. The daemon fills these maps and may change them at any time.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use shadow_common::{GuardRule, MAX_SERVICES, MAX_SHADOWS, PORT_WORDS, ServiceKey, ShadowKey};

use crate::parse::Segment;

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

/// Whether a segment goes to a mirrored service.
#[inline(always)]
pub fn to_service(segment: &Segment) -> bool {
    let port = segment.ports.destination;
    if !has_port(&SERVICE_PORTS, port) {
        return false;
    }
    let mut key = ServiceKey { address: segment.destination(), port, reserved: [0; 2] };
    if SERVICES.get_ptr(&key).is_some() {
        return true;
    }
    key.address = segment.any();
    SERVICES.get_ptr(&key).is_some()
}

/// Whether a segment goes from a shadow to the mirror.
#[inline(always)]
pub fn from_shadow(segment: &Segment) -> bool {
    let port = segment.ports.source;
    if !has_port(&SHADOW_PORTS, port) {
        return false;
    }
    let key = ShadowKey { address: segment.source(), port, reserved: [0; 2] };
    // SAFETY: the daemon replaces values whole, and a rule torn in between is read for one packet.
    let Some(rule) = (unsafe { SHADOWS.get(&key) }) else { return false };
    let port = u16::from_be_bytes(segment.ports.destination);
    port >= rule.port_min && port <= rule.port_max && segment.destination() == rule.local
}

#[inline(always)]
fn has_port(ports: &Array<u64>, port: [u8; 2]) -> bool {
    let port = u32::from(u16::from_be_bytes(port));
    match ports.get(port >> 6) {
        Some(word) => word >> (port & 63) & 1 != 0,
        None => false,
    }
}
