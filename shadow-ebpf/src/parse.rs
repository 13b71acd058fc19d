//! From a packet to the TCP segment's addresses and ports.
//!
//! Reads from the network header on. The kernel has taken the outermost VLAN tag out
//! of the packet before TC ingress; further ones stand between the network
//! header and the IP header.

use aya_ebpf::programs::TcContext;
use bytemuck::Pod;
use shadow_common::{Address, MAX_PACKET_LEN};

use crate::frame::{self, Origin, load};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;

const IPPROTO_HOPOPTS: u8 = 0;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_ROUTING: u8 = 43;
const IPPROTO_FRAGMENT: u8 = 44;
const IPPROTO_DSTOPTS: u8 = 60;

/// In-band VLAN tags that are looked behind.
const MAX_TAGS: u32 = 2;
/// IPv6 extension headers that are looked behind.
const MAX_EXTENSIONS: u32 = 6;

const IPV4_HEADER_LEN: u32 = 20;
const IPV6_HEADER_LEN: u32 = 40;
const TCP_HEADER_LEN: u32 = 20;

/// Why a packet holds no segment that could be selected.
pub enum Skip {
    /// Not IP, or not TCP: none of ours.
    NotTcp,
    /// A TCP packet's fragment that has no ports.
    Fragment,
    /// IP headers that contradict themselves, or a packet that ends before they do.
    Malformed,
}

/// Why headers could not be read.
enum Failed {
    /// The packet ends before them, or its linear part does.
    Short,
    /// There is no segment to select.
    Skip(Skip),
}

/// Why a packet's length cannot be used.
pub enum BadLength {
    /// Longer than [`MAX_PACKET_LEN`].
    Oversize,
    /// Shorter than its headers.
    Malformed,
}

/// The network header and what follows, up to the ports of an ordinary segment.
#[derive(Clone, Copy)]
#[repr(C)]
enum Head {
    V4(HeadV4),
    V6(HeadV6),
}

/// An IPv4 header without options, then the first four bytes behind it.
#[derive(Clone, Copy, Pod, bytemuck::Zeroable)]
#[repr(C, align(4))]
struct HeadV4 {
    version_ihl: u8,
    tos: u8,
    total_length: [u8; 2],
    id: [u8; 2],
    fragment: [u8; 2],
    ttl: u8,
    protocol: u8,
    checksum: [u8; 2],
    source: [u8; 4],
    destination: [u8; 4],
    ports: Ports,
}

/// An IPv6 header, then the first four bytes behind it.
#[derive(Clone, Copy, Pod, bytemuck::Zeroable)]
#[repr(C, align(4))]
struct HeadV6 {
    version_flow: [u8; 4],
    payload_length: [u8; 2],
    next_header: u8,
    hop_limit: u8,
    source: Address,
    destination: Address,
    ports: Ports,
}

/// A TCP header's ports, network byte order.
#[derive(Clone, Copy, Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Ports {
    pub source: [u8; 2],
    pub destination: [u8; 2],
}

/// A TCP segment in a packet.
pub struct Segment {
    pub ports: Ports,
    /// The first fragment of a packet, which alone has ports.
    pub fragment: bool,
    /// From where its headers could be read.
    pub origin: Origin,
    /// Where the IP header begins, counted from the network header.
    pub offset: u32,
    /// Where the TCP header begins, counted from the IP header.
    transport: u32,
    head: Head,
}

impl Segment {
    /// Source address.
    #[inline(always)]
    pub fn source(&self) -> Address {
        match &self.head {
            Head::V4(head) => Address::from_v4(head.source),
            Head::V6(head) => head.source,
        }
    }

    /// Destination address.
    #[inline(always)]
    pub fn destination(&self) -> Address {
        match &self.head {
            Head::V4(head) => Address::from_v4(head.destination),
            Head::V6(head) => head.destination,
        }
    }

    /// The wildcard of the packet's family.
    #[inline(always)]
    pub fn any(&self) -> Address {
        match &self.head {
            Head::V4(_) => Address::ANY_V4,
            Head::V6(_) => Address::ANY_V6,
        }
    }

    /// Bytes of the whole packet by its IP header, without the link's padding.
    #[inline(always)]
    pub fn packet_len(&self, ctx: &TcContext) -> Result<u32, BadLength> {
        let stated = match &self.head {
            Head::V4(head) => u32::from(u16::from_be_bytes(head.total_length)),
            Head::V6(head) => {
                // BIG TCP leaves the length zero, as RFC 2675 does (kernel 5.19).
                match u32::from(u16::from_be_bytes(head.payload_length)) {
                    0 => 0,
                    payload => IPV6_HEADER_LEN + payload,
                }
            }
        };
        if stated >= self.transport + TCP_HEADER_LEN {
            return Ok(stated);
        }
        if stated == 0 && ctx.len() as usize > MAX_PACKET_LEN {
            return Err(BadLength::Oversize);
        }
        Err(BadLength::Malformed)
    }
}

/// Finds the TCP segment in a packet.
#[inline(always)]
pub fn segment(ctx: &TcContext) -> Result<Segment, Skip> {
    match read(ctx, Origin::Network) {
        Ok(segment) => Ok(segment),
        Err(Failed::Skip(skip)) => Err(skip),
        // Some drivers leave the headers outside the linear part.
        Err(Failed::Short) => match read(ctx, frame::link(ctx)) {
            Ok(segment) => Ok(segment),
            Err(Failed::Skip(skip)) => Err(skip),
            Err(Failed::Short) => Err(Skip::Malformed),
        },
    }
}

#[inline(always)]
fn read(ctx: &TcContext, origin: Origin) -> Result<Segment, Failed> {
    let mut protocol = frame::protocol(ctx);
    let mut offset = 0;
    for _ in 0..MAX_TAGS {
        if protocol != ETH_P_8021Q.to_be() && protocol != ETH_P_8021AD.to_be() {
            break;
        }
        // What is left of a tag here: its control information, then the type of what follows.
        let tag: [[u8; 2]; 2] = load(ctx, origin, offset).ok_or(Failed::Short)?;
        protocol = u16::from_ne_bytes(tag[1]);
        offset += 4;
    }
    if protocol == ETH_P_IP.to_be() {
        ipv4(ctx, origin, offset)
    } else if protocol == ETH_P_IPV6.to_be() {
        ipv6(ctx, origin, offset)
    } else {
        Err(Failed::Skip(Skip::NotTcp))
    }
}

#[inline(always)]
fn ipv4(ctx: &TcContext, origin: Origin, offset: u32) -> Result<Segment, Failed> {
    // Shorter than this is no TCP packet, and no whole packet of any usual protocol.
    let head: HeadV4 = load(ctx, origin, offset).ok_or(Failed::Short)?;
    if head.version_ihl >> 4 != 4 {
        return Err(Failed::Skip(Skip::Malformed));
    }
    if head.protocol != IPPROTO_TCP {
        return Err(Failed::Skip(Skip::NotTcp));
    }
    let fragment = u16::from_be_bytes(head.fragment);
    let more = fragment & 0x2000 != 0;
    if fragment & 0x1fff != 0 {
        return Err(Failed::Skip(Skip::Fragment));
    }
    let transport = u32::from(head.version_ihl & 0x0f) * 4;
    let ports = if transport == IPV4_HEADER_LEN {
        head.ports
    } else if transport > IPV4_HEADER_LEN {
        load(ctx, origin, offset + transport).ok_or(Failed::Short)?
    } else {
        return Err(Failed::Skip(Skip::Malformed));
    };
    Ok(Segment { ports, fragment: more, origin, offset, transport, head: Head::V4(head) })
}

#[inline(always)]
fn ipv6(ctx: &TcContext, origin: Origin, offset: u32) -> Result<Segment, Failed> {
    // Shorter than this is no TCP packet.
    let head: HeadV6 = load(ctx, origin, offset).ok_or(Failed::Short)?;
    if head.version_flow[0] >> 4 != 6 {
        return Err(Failed::Skip(Skip::Malformed));
    }
    if head.next_header == IPPROTO_TCP {
        let ports = head.ports;
        return Ok(Segment {
            ports,
            fragment: false,
            origin,
            offset,
            transport: IPV6_HEADER_LEN,
            head: Head::V6(head),
        });
    }
    let mut next_header = head.next_header;
    let mut transport = IPV6_HEADER_LEN;
    let mut more = false;
    for _ in 0..MAX_EXTENSIONS {
        match next_header {
            IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS => {
                let [next, len]: [u8; 2] =
                    load(ctx, origin, offset + transport).ok_or(Failed::Short)?;
                next_header = next;
                // RFC 8200, 4.3: "Length … in 8-octet units, not including the first 8 octets."
                transport += (u32::from(len) + 1) * 8;
            }
            IPPROTO_FRAGMENT => {
                let [next, _, high, low]: [u8; 4] =
                    load(ctx, origin, offset + transport).ok_or(Failed::Short)?;
                let fragment = u16::from_be_bytes([high, low]);
                if fragment & !7 != 0 {
                    // The header that follows names the first fragment's payload.
                    let skip = if next == IPPROTO_TCP { Skip::Fragment } else { Skip::NotTcp };
                    return Err(Failed::Skip(skip));
                }
                more = fragment & 1 != 0;
                next_header = next;
                transport += 8;
            }
            _ => break,
        }
    }
    match next_header {
        IPPROTO_TCP => {
            let ports = load(ctx, origin, offset + transport).ok_or(Failed::Short)?;
            Ok(Segment { ports, fragment: more, origin, offset, transport, head: Head::V6(head) })
        }
        IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS | IPPROTO_FRAGMENT => {
            Err(Failed::Skip(Skip::Malformed))
        }
        _ => Err(Failed::Skip(Skip::NotTcp)),
    }
}
