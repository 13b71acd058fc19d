//! Bytes of the frame, wherever the kernel keeps them.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_skb_load_bytes_relative};
use aya_ebpf::programs::TcContext;
use bytemuck::Pod;

/// What offsets count from.
#[derive(Clone, Copy)]
pub enum Origin {
    /// The network header, wherever that is. Cheap, but reaches only the frame's linear part: the
    /// headers, and of a super-frame seldom more.
    Network,
    /// As many bytes behind the frame's start as the link's header has. Reaches everything.
    Link(u32),
}

/// An Ethernet header, without the VLAN tag that the kernel has taken out.
pub const ETHERNET_LEN: u32 = 14;

/// Reads a value at `offset`; `None` beyond the end.
#[inline(always)]
pub fn load<T: Pod>(ctx: &TcContext, origin: Origin, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: on success all of `value` is written, and any bits are a valid `T`.
    unsafe {
        if copy(ctx, origin, offset, value.as_mut_ptr().cast(), size_of::<T>() as u32) {
            Some(value.assume_init())
        } else {
            None
        }
    }
}

/// Reads a value at `offset` into its place; false beyond the end.
#[inline(always)]
pub fn load_into<T: Pod>(ctx: &TcContext, origin: Origin, offset: u32, to: &mut T) -> bool {
    // SAFETY: any bits are a valid `T`.
    unsafe { copy(ctx, origin, offset, core::ptr::from_mut(to).cast(), size_of::<T>() as u32) }
}

/// Copies `len` bytes at `offset` to `to`; false when there are not as many.
///
/// # Safety
/// `to` must be valid for writing `len` bytes.
#[inline(always)]
pub unsafe fn copy(ctx: &TcContext, origin: Origin, offset: u32, to: *mut u8, len: u32) -> bool {
    let skb = ctx.skb.skb.cast();
    // SAFETY: the caller's promise; the verifier checks it.
    let result = unsafe {
        match origin {
            Origin::Network => {
                bpf_skb_load_bytes_relative(skb, offset, to.cast(), len, BPF_HDR_START_NET)
            }
            Origin::Link(link_len) => bpf_skb_load_bytes(skb, link_len + offset, to.cast(), len),
        }
    };
    result == 0
}

/// The protocol behind the link's header, network byte order.
#[inline(always)]
pub fn protocol(ctx: &TcContext) -> u16 {
    // SAFETY: `skb` is the program's context; the verifier checks the field's access.
    unsafe { (*ctx.skb.skb).protocol as u16 }
}

/// The origin that reaches everything.
///
/// Programs are not told how long the link's header is. It is an Ethernet header when the type
/// in it is the packet's, unless the frame shows to begin with the packet itself.
#[inline(always)]
pub fn link(ctx: &TcContext) -> Origin {
    Origin::Link(link_len(ctx))
}

/// Not inlined: what it compares has no room on its callers' stacks.
#[inline(never)]
fn link_len(ctx: &TcContext) -> u32 {
    let Some(ethertype) = load::<[u8; 2]>(ctx, Origin::Link(0), ETHERNET_LEN - 2) else { return 0 };
    if u16::from_ne_bytes(ethertype) != protocol(ctx) {
        return 0;
    }
    let (mut network, mut found) = ([0_u64; 2], [0_u64; 2]);
    if load_into(ctx, Origin::Network, 0, &mut network) {
        let same = load_into(ctx, Origin::Link(ETHERNET_LEN), 0, &mut found)
            && network[0] == found[0]
            && network[1] == found[1];
        return if same { ETHERNET_LEN } else { 0 };
    }
    // Nothing is linear. A packet as long as its header says is the whole frame.
    let Some(start) = load::<[u8; 8]>(ctx, Origin::Link(0), 0) else { return 0 };
    let stated = match start[0] >> 4 {
        4 => u32::from(u16::from_be_bytes([start[2], start[3]])),
        6 => u32::from(u16::from_be_bytes([start[4], start[5]])) + 40,
        _ => 0,
    };
    if stated == ctx.len() { 0 } else { ETHERNET_LEN }
}
