//! Packets and the frames around them.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions,
    Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions, PacketBuilder,
};

/// Tag protocols in front of a packet.
pub const DOT1Q: u16 = 0x8100;
pub const DOT1AD: u16 = 0x88a8;

/// What an ordinary packet is varied by.
#[derive(Clone, Default)]
pub struct Shape {
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// More fragments follow, and the fragment's offset in units of eight bytes.
    pub fragment: Option<(bool, u16)>,
    /// IPv6 extension headers: hop-by-hop, destination options, routing.
    pub extensions: bool,
    pub udp: bool,
}

/// A TCP packet from the IP header on.
pub fn packet(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    shaped(from, to, payload, &Shape::default())
}

/// A packet of any shape, from the IP header on.
pub fn shaped(from: &str, to: &str, payload: &[u8], shape: &Shape) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let headers = match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (more, offset) = shape.fragment.unwrap_or_default();
            let header = Ipv4Header {
                source: source.octets(),
                destination: destination.octets(),
                time_to_live: 64,
                options: Ipv4Options::try_from(shape.options.as_slice()).unwrap(),
                more_fragments: more,
                fragment_offset: IpFragOffset::try_new(offset).unwrap(),
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                source: source.octets(),
                destination: destination.octets(),
                hop_limit: 64,
                ..Ipv6Header::default()
            };
            // The builder fills in which header follows.
            let raw = |len| Ipv6RawExtHeader::new_raw(IpNumber::TCP, &vec![0; len]).unwrap();
            let mut extensions = Ipv6Extensions::default();
            if shape.extensions {
                extensions.hop_by_hop_options = Some(raw(6));
                extensions.destination_options = Some(raw(14));
                extensions.routing = Some(Ipv6RoutingExtensions {
                    routing: raw(22),
                    final_destination_options: Some(raw(6)),
                });
            }
            if let Some((more, offset)) = shape.fragment {
                let offset = IpFragOffset::try_new(offset).unwrap();
                extensions.fragment = Some(Ipv6FragmentHeader::new(IpNumber::TCP, offset, more, 7));
            }
            IpHeaders::Ipv6(header, extensions)
        }
        mixed => panic!("two families: {mixed:?}"),
    };
    let builder = PacketBuilder::ip(headers);
    let mut bytes = Vec::new();
    if shape.udp {
        builder.udp(from.port(), to.port()).write(&mut bytes, payload).unwrap();
    } else {
        builder.tcp(from.port(), to.port(), 1, 2).write(&mut bytes, payload).unwrap();
    }
    bytes
}

/// An ICMP message of a router about a packet, with the packet's head quoted.
pub fn report(to: &str, kind: u8, code: u8, about: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mtu = [0, 0, 0x05, 0x14];
    match to.parse().unwrap() {
        IpAddr::V4(to) => PacketBuilder::ipv4([203, 0, 113, 254], to.octets(), 60)
            .icmpv4_raw(kind, code, mtu)
            .write(&mut bytes, about),
        IpAddr::V6(to) => PacketBuilder::ipv6([0xfe; 16], to.octets(), 60)
            .icmpv6_raw(kind, code, mtu)
            .write(&mut bytes, about),
    }
    .unwrap();
    bytes
}

/// A packet in an Ethernet frame, behind the given tags.
pub fn frame(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    let ethertype: u16 = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 5]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}
