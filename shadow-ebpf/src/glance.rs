//! A first look at a frame: at what mostly stands where, in place, without a helper's call or anything
//! on the stack. Most packets are none of ours, and need no more.
//!
//! It may always be left unclear; [`parse`](crate::parse) then looks closely. What is said here, it
//! would say as well.

use aya_ebpf::programs::TcContext;
use bytemuck::Pod;

use crate::frame;
use crate::parse::{
    ETH_P_IP, ETH_P_IPV6, HeadV4, HeadV6, IPPROTO_DSTOPTS, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS,
    IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_ROUTING, IPPROTO_TCP, IPPROTO_UDP, Ports,
};

const LINK_LEN: usize = frame::ETHERNET_LEN as usize;

/// Whether a frame plainly holds a segment whose ports are not `wanted`, or another protocol but ICMP.
///
/// Not plain are tags, options, extension headers, later fragments, what is cut short or malformed,
/// headers outside the linear part, and links other than Ethernet.
#[inline(always)]
pub fn rules_out(ctx: &TcContext, wanted: impl Fn(Ports) -> bool) -> bool {
    let protocol = frame::protocol(ctx);
    if protocol == ETH_P_IP.to_be() {
        let Some(head) = behind_ethernet::<HeadV4>(ctx, protocol, may_be_v4) else { return false };
        head.version_ihl == 0x45
            && match head.protocol {
                IPPROTO_TCP => head.fragment_offset() == 0 && !wanted(head.ports),
                IPPROTO_ICMP => false,
                _ => true,
            }
    } else if protocol == ETH_P_IPV6.to_be() {
        let Some(head) = behind_ethernet::<HeadV6>(ctx, protocol, may_be_v6) else { return false };
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
/// when the frame `may_be_bare`.
#[inline(always)]
fn behind_ethernet<T: Pod>(
    ctx: &TcContext,
    protocol: u16,
    may_be_bare: impl Fn(&[u8; LINK_LEN]) -> bool,
) -> Option<&T> {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + LINK_LEN + size_of::<T>() > end {
        return None;
    }
    // SAFETY: as many bytes are there, as was just compared: the verifier checks it. Any bits are
    // valid; nothing writes them meanwhile. The IP header is aligned to words where the machine asks
    // for it (`NET_IP_ALIGN`), which the verifier takes for granted there.
    let (link, ethertype, head) = unsafe {
        let ethertype = *((start + LINK_LEN - 2) as *const u16);
        (&*(start as *const [u8; LINK_LEN]), ethertype, &*((start + LINK_LEN) as *const T))
    };
    (ethertype == protocol && !may_be_bare(link)).then_some(head)
}

/// Whether a frame may begin with an IPv4 header itself, of a packet that could be ours. Some hardware
/// addresses begin with the version; few go on with a protocol of interest.
#[inline(always)]
fn may_be_v4(start: &[u8; LINK_LEN]) -> bool {
    start[0] >> 4 == 4 && matches!(start[9], IPPROTO_TCP | IPPROTO_ICMP)
}

/// The same of an IPv6 header.
#[inline(always)]
fn may_be_v6(start: &[u8; LINK_LEN]) -> bool {
    start[0] >> 4 == 6
        && matches!(
            start[6],
            IPPROTO_TCP
                | IPPROTO_ICMPV6
                | IPPROTO_HOPOPTS
                | IPPROTO_ROUTING
                | IPPROTO_FRAGMENT
                | IPPROTO_DSTOPTS
        )
}
