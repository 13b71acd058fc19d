//! A first look at a frame: at what mostly stands where, in place, without a helper's call or anything
//! on the stack. Most packets are none of ours, and need no more.
//!
//! It may always be left unclear; [`parse`](crate::parse) then looks closely. What is said here, it
//! would say as well.

use aya_ebpf::programs::TcContext;
use bytemuck::Pod;

use crate::frame;
use crate::parse::{
    ETH_P_IP, ETH_P_IPV6, HeadV4, HeadV6, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, Ports,
};

/// Whether a frame plainly holds a segment whose ports are not `wanted`, or another protocol but ICMP.
///
/// Not plain are tags, options, extension headers, later fragments, what is cut short or malformed,
/// headers outside the linear part, and links other than Ethernet.
#[inline(always)]
pub fn rules_out(ctx: &TcContext, wanted: impl Fn(Ports) -> bool) -> bool {
    let protocol = frame::protocol(ctx);
    if protocol == ETH_P_IP.to_be() {
        let Some(head) = behind_ethernet::<HeadV4>(ctx, protocol, 4) else { return false };
        head.version_ihl == 0x45
            && match head.protocol {
                IPPROTO_TCP => head.fragment_offset() == 0 && !wanted(head.ports),
                IPPROTO_ICMP => false,
                _ => true,
            }
    } else if protocol == ETH_P_IPV6.to_be() {
        let Some(head) = behind_ethernet::<HeadV6>(ctx, protocol, 6) else { return false };
        head.version_flow[0] >> 4 == 6
            && match head.next_header {
                IPPROTO_TCP => !wanted(head.ports),
                IPPROTO_UDP => true,
                _ => false,
            }
    } else {
        false
    }
}

/// The head behind an Ethernet header of this type; `None` when it is not all in the linear part, or
/// when the frame may begin with the IP header itself: by its version, which may as well be how a
/// hardware address begins.
#[inline(always)]
fn behind_ethernet<T: Pod>(ctx: &TcContext, protocol: u16, version: u8) -> Option<&T> {
    const LEN: usize = frame::ETHERNET_LEN as usize;
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + LEN + size_of::<T>() > end {
        return None;
    }
    // SAFETY: as many bytes are there, as was just compared: the verifier checks it. Any bits are
    // valid; nothing writes them meanwhile. The IP header is aligned to words where the machine asks
    // for it (`NET_IP_ALIGN`), which the verifier takes for granted there.
    let (link, head) =
        unsafe { (&*(start as *const [u16; LEN / 2]), &*((start + LEN) as *const T)) };
    (link[LEN / 2 - 1] == protocol && link[0].to_ne_bytes()[0] >> 4 != version).then_some(head)
}
