//! The IP header around a segment: addresses, protocol and exact payload.

use std::net::IpAddr;

use pnet_packet::ipv4::{Ipv4Flags, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;

use super::Malformed;
use super::checksum::Sum;

/// IP protocol numbers (IANA), as the header holds them.
pub(super) mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const ICMPV6: u8 = 58;

    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Octets of an IPv4 header without options.
pub(super) const IPV4_HEADER_LEN: usize = 20;
/// Octets of the fixed IPv6 header.
pub(super) const IPV6_HEADER_LEN: usize = 40;

/// The longest length that a 16-bit field holds. Linux writes zero for longer
/// super-frames (BIG TCP: IPv6 since 5.19, IPv4 since 6.3).
const MAX_FIELD_LEN: usize = 0xffff;

/// IPv6 extension headers that are followed before giving up. Real traffic to a
/// TCP service has none; Linux's BIG TCP has one (RFC 2675's jumbo option).
const MAX_EXTENSIONS: usize = 6;

/// An IP packet's addresses and upper-layer bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The upper layer's protocol number, behind any extension headers.
    pub protocol: u8,
    /// The upper layer's bytes: no link padding.
    pub payload: &'a [u8],
    /// Octets at the packet's end that are not there.
    pub missing: usize,
}

/// From where and to where a packet goes, which begins at its IP header. Looks at nothing else.
#[must_use]
pub fn addresses(bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match bytes.first()? >> 4 {
        4 => {
            let view = Ipv4Packet::new(bytes)?;
            Some((view.get_source().into(), view.get_destination().into()))
        }
        6 => {
            let view = Ipv6Packet::new(bytes)?;
            Some((view.get_source().into(), view.get_destination().into()))
        }
        _ => None,
    }
}

impl<'a> Ip<'a> {
    /// Reads a whole packet that begins at its IP header, with the checks of
    /// Linux's `ip_rcv_core` and `ip6_rcv_core`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => Self::parse_v4(bytes, Extent::Whole),
            Some(6) => Self::parse_v6(bytes, Extent::Whole),
            _ => Err(Malformed::Version),
        }
    }

    /// Reads the packet that an ICMP error quotes: its end may be missing, and
    /// routers on the way may have changed its header.
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => Self::parse_v4(bytes, Extent::Quoted),
            Some(6) => Self::parse_v6(bytes, Extent::Quoted),
            _ => Err(Malformed::Version),
        }
    }

    /// Reads a packet of which only the headers need be there.
    pub fn parse_headers(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => Self::parse_v4(bytes, Extent::Headers),
            Some(6) => Self::parse_v6(bytes, Extent::Headers),
            _ => Err(Malformed::Version),
        }
    }

    fn parse_v4(bytes: &'a [u8], extent: Extent) -> Result<Self, Malformed> {
        let view = Ipv4Packet::new(bytes).ok_or(Malformed::Truncated)?;
        let header_len = usize::from(view.get_header_length()) * 4;
        if header_len < IPV4_HEADER_LEN {
            return Err(Malformed::IpHeaderLength);
        }
        let header = bytes.get(..header_len).ok_or(Malformed::Truncated)?;
        if extent != Extent::Quoted && !Sum::default().bytes(header).is_intact() {
            return Err(Malformed::IpChecksum);
        }
        let len = extent.end(usize::from(view.get_total_length()), 0, bytes.len())?;
        // An end before the header's own end contradicts itself.
        let payload = bytes.get(header_len..len).ok_or(Malformed::IpLength)?;
        if view.get_fragment_offset() != 0 || view.get_flags() & Ipv4Flags::MoreFragments != 0 {
            return Err(Malformed::Fragment);
        }
        Ok(Self {
            source: view.get_source().into(),
            destination: view.get_destination().into(),
            protocol: view.get_next_level_protocol().0,
            payload,
            missing: usize::from(view.get_total_length()).saturating_sub(bytes.len()),
        })
    }

    fn parse_v6(bytes: &'a [u8], extent: Extent) -> Result<Self, Malformed> {
        let view = Ipv6Packet::new(bytes).ok_or(Malformed::Truncated)?;
        let len =
            extent.end(usize::from(view.get_payload_length()), IPV6_HEADER_LEN, bytes.len())?;
        let payload = bytes.get(IPV6_HEADER_LEN..len).ok_or(Malformed::IpLength)?;
        let (protocol, payload) = skip_extensions(view.get_next_header().0, payload)?;
        Ok(Self {
            source: view.get_source().into(),
            destination: view.get_destination().into(),
            protocol,
            payload,
            missing: (usize::from(view.get_payload_length()) + IPV6_HEADER_LEN)
                .saturating_sub(bytes.len()),
        })
    }
}

/// How much of a packet the bytes hold.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Extent {
    Whole,
    Headers,
    Quoted,
}

impl Extent {
    /// Where the packet ends within `available` bytes, from the header's length
    /// field and the octets that the field does not count.
    fn end(self, field: usize, uncounted: usize, available: usize) -> Result<usize, Malformed> {
        // As Linux's iph_totlen() and ip6_rcv_core(): zero stands for "to the end"
        // only in a super-frame that is too long for the field.
        if field == 0 && available - uncounted > MAX_FIELD_LEN {
            return Ok(available);
        }
        let end = field + uncounted;
        match self {
            Self::Whole if end > available => Err(Malformed::Truncated),
            Self::Whole => Ok(end),
            Self::Headers | Self::Quoted => Ok(end.min(available)),
        }
    }
}

/// Follows IPv6 extension headers (RFC 8200, 4) to the upper layer.
fn skip_extensions(mut next: u8, mut bytes: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    for _ in 0..MAX_EXTENSIONS {
        let len = match next {
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS | protocol::ROUTING => {
                let &[_, len, _, segments_left, ..] = bytes else {
                    return Err(Malformed::Ipv6Extension);
                };
                // Not at its last destination: the pseudo-header's address is elsewhere.
                if next == protocol::ROUTING && segments_left != 0 {
                    return Err(Malformed::Ipv6Extension);
                }
                // RFC 8200, 4.3: "in 8-octet units, not including the first 8 octets".
                (usize::from(len) + 1) * 8
            }
            protocol::FRAGMENT => {
                let &[_, _, high, low, ..] = bytes else { return Err(Malformed::Ipv6Extension) };
                // RFC 6946: offset 0 without M is an atomic fragment, a whole packet.
                if u16::from_be_bytes([high, low]) & 0xfff9 != 0 {
                    return Err(Malformed::Fragment);
                }
                8
            }
            upper => return Ok((upper, bytes)),
        };
        let (header, rest) = bytes.split_at_checked(len).ok_or(Malformed::Ipv6Extension)?;
        next = header[0];
        bytes = rest;
    }
    Err(Malformed::Ipv6Extension)
}
