//! Which flows of a mirrored service are chosen. The daemon may change that at any time; a flow keeps
//! what was decided at its SYN.

#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a key by value is a second copy of it on a stack of 512 bytes"
)]

use core::mem::offset_of;

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, LpmTrie, LruHashMap};
use aya_ebpf::programs::TcContext;
use shadow_common::{
    Address, Choice, ChoiceRule, ClientKey, FlowKey, MAX_CLIENTS, MAX_TRACKED, TapCounter, listed,
    place,
};

use crate::flows;
use crate::parse::Packet;

/// What is chosen at the moment.
#[map]
static CHOICE: Array<ChoiceRule> = Array::with_max_entries(1, 0);

/// Networks of clients, by the lists of the start and by those of now; and the roots of both families.
#[map]
static CLIENTS: LpmTrie<Address, u32> = LpmTrie::with_max_entries(2 * MAX_CLIENTS + 2, 0);

/// Flows of which something else was decided at their SYN than would have been at the start: a
/// [`Choice`] as its number. The size stands in for the loader's.
#[map]
static EXCEPTIONS: LruHashMap<FlowKey, u32> = LruHashMap::with_max_entries(MAX_TRACKED, 0);

/// What samples differ by. Set by the loader.
#[unsafe(no_mangle)]
static SAMPLE_SEED: u64 = 0;

/// Not zero when connections are sampled, not clients. Set by the loader.
#[unsafe(no_mangle)]
static SAMPLE_CONNECTIONS: u8 = 0;

/// A flow's key behind a length of prefix: its first part is the key of a client as well, so that
/// both have one place on the stack.
#[repr(C)]
struct Keys {
    prefix_len: u32,
    flow: FlowKey,
}

const _: () = assert!(
    offset_of!(Keys, flow) == offset_of!(ClientKey, address)
        && offset_of!(FlowKey, client) == 0
        && size_of::<Key<Address>>() == size_of::<ClientKey>()
);

/// Why the flow of a service's segment is not chosen; `None` when it is.
#[inline(always)]
pub fn passed(ctx: &TcContext, packet: &mut Packet) -> Option<TapCounter> {
    let choice = CHOICE.get(0)?;
    if choice.flags == 0 {
        return None;
    }
    let choice = decide(ctx, packet, choice);
    if choice == Choice::Chosen as u32 {
        None
    } else if choice == Choice::SampledOut as u32 {
        Some(TapCounter::SampledOut)
    } else if choice == Choice::Client as u32 {
        Some(TapCounter::Client)
    } else {
        Some(TapCounter::Paused)
    }
}

/// The flow's [`Choice`] as its number.
///
/// Not inlined: the keys have no room on the caller's stack.
#[inline(never)]
fn decide(ctx: &TcContext, packet: &mut Packet, rule: &ChoiceRule) -> u32 {
    let flags = rule.flags;
    let mut keys = Keys {
        prefix_len: 128,
        flow: FlowKey {
            client: Address::ANY_V6,
            production: Address::ANY_V6,
            client_port: packet.ports.source,
            production_port: packet.ports.destination,
        },
    };
    packet.source(&mut keys.flow.client);
    let bits = if flags & ChoiceRule::LISTED != 0 {
        // SAFETY: it begins as a client's key, which has the layout of the packed one.
        let key = unsafe { &*(&raw const keys).cast::<Key<Address>>() };
        // The roots match every address.
        CLIENTS.get(key).map_or(0, |bits| *bits)
    } else {
        listed::BASE | listed::NOW
    };
    let unchanged = flags & ChoiceRule::CHANGED == 0;
    if unchanged && bits & listed::BASE == 0 {
        return Choice::Client as u32;
    }
    let place =
        if flags & ChoiceRule::SAMPLED != 0 { sampled(packet, &keys.flow.client) } else { 0 };
    let base = judge(bits & listed::BASE != 0, place, rule.base);
    if unchanged {
        return base;
    }
    packet.destination(&mut keys.flow.production);
    if !packet.tcp(ctx).is_some_and(|head| head.is_syn()) {
        return EXCEPTIONS.get_ptr(&keys.flow).map_or(base, |choice| {
            // SAFETY: a map's value, which is one word.
            unsafe { *choice }
        });
    }
    let now = if flags & ChoiceRule::PAUSED != 0 {
        Choice::Paused as u32
    } else {
        judge(bits & listed::NOW != 0, place, rule.now)
    };
    let chosen = Choice::Chosen as u32;
    let mut choice = base;
    if (now == chosen) == (base == chosen) {
        // Perhaps of an earlier flow between the same ends.
        let _ = EXCEPTIONS.remove(&keys.flow);
    } else if EXCEPTIONS.insert(&keys.flow, &now, 0).is_ok() {
        // Else the flow's later packets would be judged otherwise than its first.
        choice = now;
    }
    if choice != chosen {
        flows::forget(&keys.flow);
    }
    choice
}

#[inline(always)]
fn judge(is_listed: bool, place: u32, bound: u64) -> u32 {
    if !is_listed {
        Choice::Client as u32
    } else if u64::from(place) >= bound {
        Choice::SampledOut as u32
    } else {
        Choice::Chosen as u32
    }
}

#[inline(always)]
fn sampled(packet: &Packet, client: &Address) -> u32 {
    // SAFETY: valid, aligned values; read so that the compiler does not take zeros for granted.
    let (seed, connections) = unsafe {
        (
            core::ptr::read_volatile(&raw const SAMPLE_SEED),
            core::ptr::read_volatile(&raw const SAMPLE_CONNECTIONS),
        )
    };
    let port = if connections != 0 { packet.ports.source } else { [0; 2] };
    place(seed, client, port)
}
