//! From a frame to the packet's addresses and ports.
//!
//! Reads from the network header on. The kernel has taken the outermost VLAN tag out
//! of the packet before TC ingress; further ones stand between the network header and
//! the IP header.

use aya_ebpf::programs::TcContext;
use bytemuck::{Pod, Zeroable};
use shadow_common::{Address, MAX_PACKET_LEN};

use crate::frame::{self, Origin, load, load_into};

pub const ETH_P_IP: u16 = 0x0800;
pub const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;

pub const IPPROTO_HOPOPTS: u8 = 0;
pub const IPPROTO_ICMP: u8 = 1;
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
pub const IPPROTO_ROUTING: u8 = 43;
pub const IPPROTO_FRAGMENT: u8 = 44;
pub const IPPROTO_ICMPV6: u8 = 58;
pub const IPPROTO_DSTOPTS: u8 = 60;

const TCP_FIN: u8 = 1;
const TCP_SYN: u8 = 1 << 1;
const TCP_RST: u8 = 1 << 2;

const ICMP_UNREACHABLE: u8 = 3; // of which code 4 is "fragmentation needed"
const ICMP_QUENCH: u8 = 4;
const ICMP_REDIRECT: u8 = 5;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER_PROBLEM: u8 = 12;
const ICMPV6_UNREACHABLE: u8 = 1;
const ICMPV6_TOO_BIG: u8 = 2;
const ICMPV6_INFORMATION: u8 = 128; // below are errors (RFC 4443, 2.1)

/// In-band VLAN tags that are looked behind.
const MAX_TAGS: u32 = 2;
/// IPv6 extension headers that are looked behind.
const MAX_EXTENSIONS: u32 = 6;

const IPV4_HEADER_LEN: u32 = 20;
const IPV6_HEADER_LEN: u32 = 40;
const TCP_HEADER_LEN: u32 = 20;
const ICMP_HEADER_LEN: u32 = 8;

/// What a frame holds.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Found {
    /// A TCP segment with its ports; perhaps the first fragment of one.
    Segment,
    /// A whole ICMP message of the packet's family.
    Icmp,
    /// Not IP, or another protocol.
    Other,
    /// A TCP packet's fragment that has no ports.
    Fragment,
    /// IP headers that contradict themselves.
    Malformed,
    /// A packet that ends before its headers do.
    Short,
}

/// Why a packet's length cannot be used.
pub enum BadLength {
    /// Longer than [`MAX_PACKET_LEN`].
    Oversize,
    /// Shorter than its headers.
    Malformed,
}

/// An IPv4 header without options, then the first four bytes behind it.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct HeadV4 {
    pub version_ihl: u8,
    tos: u8,
    total_length: [u8; 2],
    id: [u8; 2],
    fragment: [u8; 2],
    ttl: u8,
    pub protocol: u8,
    checksum: [u8; 2],
    source: u32,
    destination: u32,
    pub ports: Ports,
}

impl HeadV4 {
    /// In units of eight bytes.
    #[inline(always)]
    pub fn fragment_offset(&self) -> u16 {
        u16::from_be_bytes(self.fragment) & 0x1fff
    }
}

/// An IPv6 header, then the first four bytes behind it.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct HeadV6 {
    pub version_flow: [u8; 4],
    payload_length: [u8; 2],
    pub next_header: u8,
    hop_limit: u8,
    source: Address,
    destination: Address,
    pub ports: Ports,
}

/// A TCP header's ports, network byte order.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Ports {
    pub source: [u8; 2],
    pub destination: [u8; 2],
}

/// A TCP header without its last four bytes and options, as far as flows are told by it.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct HeadTcp {
    ports: Ports,
    seq: u32,
    ack: u32,
    data_offset: u8,
    flags: u8,
    window: [u8; 2],
}

impl HeadTcp {
    /// SEG.SEQ, host byte order.
    #[inline(always)]
    pub fn seq(&self) -> u32 {
        u32::from_be(self.seq)
    }

    /// Whether the segment opens a connection.
    #[inline(always)]
    pub fn is_syn(&self) -> bool {
        self.flags & TCP_SYN != 0
    }

    /// Whether nothing follows the segment: it has FIN or RST.
    #[inline(always)]
    pub fn ends_stream(&self) -> bool {
        self.flags & (TCP_FIN | TCP_RST) != 0
    }
}

/// A packet whose IP headers were read. Read in place: a program has 512 bytes of stack.
pub struct Packet {
    /// From where its headers could be read.
    pub origin: Origin,
    /// Where the IP header begins, counted from the network header.
    pub offset: u32,
    /// Where the header behind the IP headers begins, counted from the first of them.
    transport: u32,
    /// The first fragment of a packet.
    pub fragment: bool,
    /// Of a segment.
    pub ports: Ports,
    is_v6: bool,
    head: Head,
}

/// The head of either family: `v6` when the packet `is_v6`.
#[derive(Clone, Copy)]
#[repr(C)]
union Head {
    none: (),
    v4: HeadV4,
    v6: HeadV6,
}

impl Packet {
    /// A place for a packet.
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            origin: Origin::Network,
            offset: 0,
            transport: 0,
            fragment: false,
            ports: Ports::default(),
            is_v6: false,
            head: Head { none: () },
        }
    }

    #[inline(always)]
    fn v4(&mut self) -> &mut HeadV4 {
        // SAFETY: any bits are a valid head; the verifier refuses to read what was not written.
        unsafe { &mut self.head.v4 }
    }

    #[inline(always)]
    fn v6(&mut self) -> &mut HeadV6 {
        // SAFETY: as for `v4`.
        unsafe { &mut self.head.v6 }
    }

    /// Writes the source address to its place in a key.
    #[inline(always)]
    pub fn source(&mut self, to: &mut Address) {
        *to = if self.is_v6 { self.v6().source } else { mapped(self.v4().source) };
    }

    /// Writes the destination address to its place in a key.
    #[inline(always)]
    pub fn destination(&mut self, to: &mut Address) {
        *to = if self.is_v6 { self.v6().destination } else { mapped(self.v4().destination) };
    }

    /// The TCP header of a segment; `None` when it cannot be read.
    #[inline(always)]
    pub fn tcp(&self, ctx: &TcContext) -> Option<HeadTcp> {
        let at = self.offset + self.transport;
        match load(ctx, self.origin, at) {
            None if matches!(self.origin, Origin::Network) => load(ctx, frame::link(ctx), at),
            head => head,
        }
    }

    /// Bytes from the IP header to the segment's payload.
    #[inline(always)]
    pub fn headers_len(&self, head: &HeadTcp) -> u32 {
        self.transport + u32::from(head.data_offset >> 4) * 4
    }

    /// The wildcard of the packet's family.
    #[inline(always)]
    pub fn any(&mut self) -> Address {
        if self.is_v6 { Address::ANY_V6 } else { Address::ANY_V4 }
    }

    /// Bytes of the whole packet by its IP header, without the link's padding.
    #[inline(always)]
    pub fn len(&mut self, ctx: &TcContext) -> Result<u32, BadLength> {
        let stated = if self.is_v6 {
            // BIG TCP leaves the length zero, as RFC 2675 does (kernel 5.19).
            match u32::from(u16::from_be_bytes(self.v6().payload_length)) {
                0 => 0,
                payload => IPV6_HEADER_LEN + payload,
            }
        } else {
            u32::from(u16::from_be_bytes(self.v4().total_length))
        };
        // An ICMP error is at least as long as this, too.
        if stated >= self.transport + TCP_HEADER_LEN {
            return Ok(stated);
        }
        if stated == 0 && ctx.len() as usize > MAX_PACKET_LEN {
            return Err(BadLength::Oversize);
        }
        Err(BadLength::Malformed)
    }
}

/// The mapped form of an IPv4 address, made of words.
#[inline(always)]
fn mapped(v4: u32) -> Address {
    bytemuck::cast([0, 0, 0xffff_u32.to_be(), v4])
}

/// Reads the headers of the packet in a frame.
#[inline(always)]
pub fn headers(ctx: &TcContext, packet: &mut Packet) -> Found {
    match read(ctx, packet) {
        Some(found) => found,
        None => headers_anywhere(ctx, packet),
    }
}

/// Some drivers leave the headers outside the linear part.
#[inline(never)]
fn headers_anywhere(ctx: &TcContext, packet: &mut Packet) -> Found {
    packet.origin = frame::link(ctx);
    read(ctx, packet).unwrap_or(Found::Short)
}

/// `None` when the headers cannot be reached from the packet's origin.
#[inline(always)]
fn read(ctx: &TcContext, packet: &mut Packet) -> Option<Found> {
    let mut protocol = frame::protocol(ctx);
    let mut offset = 0;
    for _ in 0..MAX_TAGS {
        if protocol != ETH_P_8021Q.to_be() && protocol != ETH_P_8021AD.to_be() {
            break;
        }
        // What is left of a tag here: its control information, then the type of what follows.
        let tag: [[u8; 2]; 2] = load(ctx, packet.origin, offset)?;
        protocol = u16::from_ne_bytes(tag[1]);
        offset += 4;
    }
    packet.offset = offset;
    if protocol == ETH_P_IP.to_be() {
        read_v4(ctx, packet)
    } else if protocol == ETH_P_IPV6.to_be() {
        read_v6(ctx, packet)
    } else {
        Some(Found::Other)
    }
}

#[inline(always)]
fn read_v4(ctx: &TcContext, packet: &mut Packet) -> Option<Found> {
    let (origin, offset) = (packet.origin, packet.offset);
    packet.is_v6 = false;
    if !load_into(ctx, origin, offset, packet.v4()) {
        return None;
    }
    let version_ihl = packet.v4().version_ihl;
    let protocol = packet.v4().protocol;
    let fragment = packet.v4().fragment;
    packet.transport = u32::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || packet.transport < IPV4_HEADER_LEN {
        return Some(Found::Malformed);
    }
    let fragment = u16::from_be_bytes(fragment);
    packet.fragment = fragment & 0x2000 != 0;
    if protocol != IPPROTO_TCP {
        let whole = fragment & 0x3fff == 0;
        return Some(if protocol == IPPROTO_ICMP && whole { Found::Icmp } else { Found::Other });
    }
    if fragment & 0x1fff != 0 {
        return Some(Found::Fragment);
    }
    packet.ports = if packet.transport == IPV4_HEADER_LEN {
        packet.v4().ports
    } else {
        load(ctx, origin, offset + packet.transport)?
    };
    Some(Found::Segment)
}

#[inline(always)]
fn read_v6(ctx: &TcContext, packet: &mut Packet) -> Option<Found> {
    let (origin, offset) = (packet.origin, packet.offset);
    packet.is_v6 = true;
    if !load_into(ctx, origin, offset, packet.v6()) {
        return None;
    }
    let version = packet.v6().version_flow[0] >> 4;
    let mut next_header = packet.v6().next_header;
    packet.transport = IPV6_HEADER_LEN;
    packet.fragment = false;
    if version != 6 {
        return Some(Found::Malformed);
    }
    if next_header == IPPROTO_TCP {
        packet.ports = packet.v6().ports;
        return Some(Found::Segment);
    }
    for _ in 0..MAX_EXTENSIONS {
        let at = offset + packet.transport;
        match next_header {
            IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS => {
                let [next, len]: [u8; 2] = load(ctx, origin, at)?;
                next_header = next;
                // RFC 8200, 4.3: "Length … in 8-octet units, not including the first 8 octets."
                packet.transport += (u32::from(len) + 1) * 8;
            }
            IPPROTO_FRAGMENT => {
                let [next, _, high, low]: [u8; 4] = load(ctx, origin, at)?;
                let fragment = u16::from_be_bytes([high, low]);
                if fragment & !7 != 0 {
                    // The fragment header names what the first fragment begins with.
                    return Some(if next == IPPROTO_TCP { Found::Fragment } else { Found::Other });
                }
                packet.fragment = fragment & 1 != 0;
                next_header = next;
                packet.transport += 8;
            }
            _ => break,
        }
    }
    Some(match next_header {
        IPPROTO_TCP => {
            packet.ports = load(ctx, origin, offset + packet.transport)?;
            Found::Segment
        }
        IPPROTO_ICMPV6 if !packet.fragment => Found::Icmp,
        IPPROTO_HOPOPTS | IPPROTO_ROUTING | IPPROTO_DSTOPTS | IPPROTO_FRAGMENT => Found::Malformed,
        _ => Found::Other,
    })
}

/// What kind of ICMP error quotes a segment.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Report {
    /// "Unreachable", or too long for the path (RFC 792, RFC 1191, RFC 4443).
    Undeliverable,
    /// Any other.
    Other,
}

/// Reads the head of the segment that an ICMP error quotes. `None` for any other message.
///
/// Only segments as the mirror sends them are found: without options or extension headers.
#[inline(always)]
pub fn quoted(ctx: &TcContext, icmp: &Packet, quoted: &mut Packet) -> Option<Report> {
    let origin = icmp.origin;
    let at = icmp.offset + icmp.transport;
    let [kind] = load::<[u8; 1]>(ctx, origin, at)?;
    quoted.is_v6 = icmp.is_v6;
    let (is_error, is_undeliverable, is_segment);
    if icmp.is_v6 {
        is_error = kind < ICMPV6_INFORMATION;
        is_undeliverable = kind == ICMPV6_UNREACHABLE || kind == ICMPV6_TOO_BIG;
        if !is_error || !load_into(ctx, origin, at + ICMP_HEADER_LEN, quoted.v6()) {
            return None;
        }
        quoted.ports = quoted.v6().ports;
        is_segment =
            quoted.v6().version_flow[0] >> 4 == 6 && quoted.v6().next_header == IPPROTO_TCP;
    } else {
        is_undeliverable = kind == ICMP_UNREACHABLE;
        is_error = is_undeliverable
            || kind == ICMP_QUENCH
            || kind == ICMP_REDIRECT
            || kind == ICMP_TIME_EXCEEDED
            || kind == ICMP_PARAMETER_PROBLEM;
        if !is_error || !load_into(ctx, origin, at + ICMP_HEADER_LEN, quoted.v4()) {
            return None;
        }
        quoted.ports = quoted.v4().ports;
        is_segment = quoted.v4().version_ihl == 0x45 && quoted.v4().protocol == IPPROTO_TCP;
    }
    if !is_segment {
        None
    } else if is_undeliverable {
        Some(Report::Undeliverable)
    } else {
        Some(Report::Other)
    }
}
