//! A segment to the bytes of one whole IP packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::{Ipv4Flags, MutableIpv4Packet};
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::tcp::{MutableTcpPacket, TcpFlags};

use super::checksum::Sum;
use super::ip::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, protocol};
use super::options::Written;
use super::parse::TCP_HEADER_LEN;
use super::{Flags, Segment};

/// Linux's default time to live (`ip_default_ttl`) and hop limit.
const HOP_LIMIT: u8 = 64;

/// Where the checksum stands in a TCP header, in octets.
const CHECKSUM: usize = 16;

/// Appends one IP packet with the TCP segment: `segment`'s header fields, and
/// the two parts of `payload` one behind the other (a ring buffer's two halves;
/// `segment.payload` is not looked at).
///
/// IPv4 packets get DF and identification 0, as Linux sends them with path MTU
/// discovery (RFC 6864, 4.1: atomic datagrams need no identification). Options
/// are laid out as Linux does; SACK blocks that find no room are left out.
///
/// The caller gives two addresses of one family and no more than 65,535 octets
/// in all; otherwise nothing is appended (and debug builds panic).
pub fn emit(
    source: SocketAddr,
    destination: SocketAddr,
    segment: &Segment<'_>,
    payload: [&[u8]; 2],
    buffer: &mut Vec<u8>,
) {
    let Some((start, pseudo_header)) = write(source, destination, segment, payload, buffer) else {
        return;
    };
    let sum = pseudo_header.bytes(&buffer[start..]);
    buffer[start + CHECKSUM..start + CHECKSUM + 2].copy_from_slice(&sum.checksum());
}

/// The same with a checksum of the pseudo-header alone, for whoever completes it: Linux's `CHECKSUM_PARTIAL`.
/// `payload` may be that of several segments, and then whoever sends it cuts it up.
pub fn emit_partial(
    source: SocketAddr,
    destination: SocketAddr,
    segment: &Segment<'_>,
    payload: [&[u8]; 2],
    buffer: &mut Vec<u8>,
) {
    if let Some((start, pseudo_header)) = write(source, destination, segment, payload, buffer) {
        buffer[start + CHECKSUM..start + CHECKSUM + 2].copy_from_slice(&pseudo_header.fold());
    }
}

/// Appends a packet without TCP's checksum; where its TCP header begins, and the sum to start from.
fn write(
    source: SocketAddr,
    destination: SocketAddr,
    segment: &Segment<'_>,
    payload: [&[u8]; 2],
    buffer: &mut Vec<u8>,
) -> Option<(usize, Sum)> {
    let options = Written::new(&segment.options);
    let header_len = TCP_HEADER_LEN + options.as_bytes().len();
    let tcp_len = header_len + payload[0].len() + payload[1].len();

    let start = buffer.len();
    let written = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => write_v4(from, to, tcp_len, buffer),
        (IpAddr::V6(from), IpAddr::V6(to)) => write_v6(from, to, tcp_len, buffer),
        _ => None,
    };
    debug_assert!(written.is_some(), "addresses of two families, or {tcp_len} octets of segment");
    let Some(tcp_len) = written else {
        buffer.truncate(start);
        return None;
    };

    let tcp_start = buffer.len();
    buffer.extend_from_slice(&[0; TCP_HEADER_LEN]);
    if let Some(mut view) = MutableTcpPacket::new(&mut buffer[tcp_start..]) {
        view.set_source(source.port());
        view.set_destination(destination.port());
        view.set_sequence(segment.seq.get());
        view.set_acknowledgement(segment.ack.get());
        // At most 15 words.
        view.set_data_offset((header_len / 4) as u8);
        view.set_flags(bits(segment.flags));
        view.set_window(segment.wnd);
        view.set_urgent_ptr(segment.up);
    }
    buffer.extend_from_slice(options.as_bytes());
    buffer.extend_from_slice(payload[0]);
    buffer.extend_from_slice(payload[1]);

    let sum = Sum::pseudo_header(source.ip(), destination.ip(), protocol::TCP, u32::from(tcp_len));
    Some((tcp_start, sum))
}

/// Appends an IPv4 header for `len` octets of TCP; `None` when they do not fit.
fn write_v4(from: Ipv4Addr, to: Ipv4Addr, len: usize, buffer: &mut Vec<u8>) -> Option<u16> {
    let total_len = u16::try_from(len + IPV4_HEADER_LEN).ok()?;
    let start = buffer.len();
    buffer.extend_from_slice(&[0; IPV4_HEADER_LEN]);
    let mut view = MutableIpv4Packet::new(&mut buffer[start..])?;
    view.set_version(4);
    view.set_header_length(5);
    view.set_total_length(total_len);
    view.set_flags(Ipv4Flags::DontFragment);
    view.set_ttl(HOP_LIMIT);
    view.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
    view.set_source(from);
    view.set_destination(to);
    let checksum = Sum::default().bytes(&buffer[start..]).checksum();
    buffer[start + 10..start + 12].copy_from_slice(&checksum);
    u16::try_from(len).ok()
}

/// Appends an IPv6 header for `len` octets of TCP; `None` when they do not fit.
fn write_v6(from: Ipv6Addr, to: Ipv6Addr, len: usize, buffer: &mut Vec<u8>) -> Option<u16> {
    let payload_len = u16::try_from(len).ok()?;
    let start = buffer.len();
    buffer.extend_from_slice(&[0; IPV6_HEADER_LEN]);
    let mut view = MutableIpv6Packet::new(&mut buffer[start..])?;
    view.set_version(6);
    view.set_payload_length(payload_len);
    view.set_next_header(IpNextHeaderProtocols::Tcp);
    view.set_hop_limit(HOP_LIMIT);
    view.set_source(from);
    view.set_destination(to);
    Some(payload_len)
}

/// The control bits as the header holds them.
fn bits(flags: Flags) -> u8 {
    [
        (flags.urg, TcpFlags::URG),
        (flags.ack, TcpFlags::ACK),
        (flags.psh, TcpFlags::PSH),
        (flags.rst, TcpFlags::RST),
        (flags.syn, TcpFlags::SYN),
        (flags.fin, TcpFlags::FIN),
    ]
    .into_iter()
    .fold(0, |bits, (set, bit)| if set { bits | bit } else { bits })
}
