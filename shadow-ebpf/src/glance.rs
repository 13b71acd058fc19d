//! A first look at a frame: at what mostly stands where, in place, without a helper's call or anything
//! on the stack. Most packets are none of ours, and need no more.
//!
//! It may always be unclear; [`parse`](crate::parse) then looks closely. What is said here, it would
//! say as well.

use aya_ebpf::programs::TcContext;
use bytemuck::Pod;

use crate::frame;
use crate::parse::{ETH_P_IP, ETH_P_IPV6, HeadV4, HeadV6, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP};

/// What a frame holds, at first sight.
pub enum Glance<'a> {
    /// A TCP segment, or the first fragment of one, of IPv4 without options.
    SegmentV4(&'a HeadV4),
    /// A TCP segment of IPv6 without extension headers.
    SegmentV6(&'a HeadV6),
    /// Another protocol, but for ICMP.
    Other,
    /// To be looked at closely: ICMP, tags, options, extension headers, later fragments, what is cut
    /// short or malformed, headers outside the linear part, links other than Ethernet.
    Unclear,
}

/// Looks at a frame.
#[inline(always)]
pub fn at(ctx: &TcContext) -> Glance<'_> {
    let protocol = frame::protocol(ctx);
    if protocol == ETH_P_IP.to_be() {
        match behind_ethernet(ctx, protocol, 4) {
            Some(head) => v4(head),
            None => Glance::Unclear,
        }
    } else if protocol == ETH_P_IPV6.to_be() {
        match behind_ethernet(ctx, protocol, 6) {
            Some(head) => v6(head),
            None => Glance::Unclear,
        }
    } else {
        Glance::Unclear
    }
}

#[inline(always)]
fn v4(head: &HeadV4) -> Glance<'_> {
    if head.version_ihl != 0x45 {
        return Glance::Unclear;
    }
    match head.protocol {
        IPPROTO_TCP if head.fragment_offset() == 0 => Glance::SegmentV4(head),
        IPPROTO_TCP | IPPROTO_ICMP => Glance::Unclear,
        _ => Glance::Other,
    }
}

#[inline(always)]
fn v6(head: &HeadV6) -> Glance<'_> {
    if head.version_flow[0] >> 4 != 6 {
        return Glance::Unclear;
    }
    match head.next_header {
        IPPROTO_TCP => Glance::SegmentV6(head),
        IPPROTO_UDP => Glance::Other,
        _ => Glance::Unclear,
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
