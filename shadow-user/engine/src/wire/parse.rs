//! Bytes of a captured packet to a [`Packet`].

use std::net::SocketAddr;

use pnet_packet::tcp::{TcpFlags, TcpPacket};

use super::checksum::Sum;
use super::ip::{Ip, protocol};
use super::{Flags, IcmpError, Packet, Segment, options};
use crate::seq::SeqNum;

/// Octets of a TCP header without options (RFC 9293, 3.1).
pub(super) const TCP_HEADER_LEN: usize = 20;

/// Why bytes are not a packet that production's stack would have taken in.
#[derive(
    Clone,
    Copy,
    Debug,
    Eq,
    Hash,
    PartialEq,
    thiserror::Error,
    strum::EnumCount,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Malformed {
    /// Neither 4 nor 6, or no byte at all.
    #[error("not an IPv4 or IPv6 packet")]
    Version,
    /// Fewer bytes than the headers announce.
    #[error("fewer bytes than the IP header announces")]
    Truncated,
    /// The IPv4 header length is under five words.
    #[error("IPv4 header length under 20 octets")]
    IpHeaderLength,
    /// The IPv4 header checksum is wrong.
    #[error("wrong IPv4 header checksum")]
    IpChecksum,
    /// The IP length ends inside the header.
    #[error("IP length shorter than its header")]
    IpLength,
    /// A fragment: only a part of a segment.
    #[error("IP fragment")]
    Fragment,
    /// IPv6 extension headers that are cut short, too many, or on their way elsewhere.
    #[error("IPv6 extension headers that cannot be followed")]
    Ipv6Extension,
    /// The upper layer is another protocol than was looked for.
    #[error("unexpected upper-layer protocol")]
    Protocol,
    /// Not even a fixed TCP (or ICMP) header.
    #[error("upper-layer header cut short")]
    Header,
    /// The TCP data offset is under five words or beyond the segment.
    #[error("TCP data offset outside the segment")]
    DataOffset,
    /// The TCP (or ICMP) checksum is wrong, and not one that was left to the hardware.
    #[error("wrong checksum")]
    Checksum,
}

impl Malformed {
    /// The label in metrics and in the summary.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }
}

/// Between whom a packet of the shadow goes, or the segment that an ICMP error is about: the emulated
/// client, then the shadow. Looks at nothing but addresses and ports.
#[must_use]
pub fn ends_of_reply(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let ip = Ip::parse_headers(bytes).ok()?;
    if ip.protocol != protocol::TCP {
        let IcmpError { source, destination, .. } = IcmpError::parse(bytes).ok()?;
        return Some((source, destination));
    }
    let view = TcpPacket::new(ip.payload)?;
    let destination = SocketAddr::new(ip.destination, view.get_destination());
    Some((destination, SocketAddr::new(ip.source, view.get_source())))
}

impl<'a> Packet<'a> {
    /// Reads one IP packet, which begins at its IP header. Bytes behind the IP
    /// length (link padding) are ignored. Super-frames (GRO, TSO) are read as the
    /// one segment that they look like.
    ///
    /// # Errors
    /// What the production host's IP or TCP layer would drop unseen, by reason.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(&Ip::parse(bytes)?)
    }

    /// The same, of which the payload may be missing: how many octets of it are. Then the checksum
    /// cannot be looked at.
    ///
    /// # Errors
    /// As [`Self::parse`]; [`Malformed::Truncated`] when some of the payload is there and some not.
    pub fn parse_headers(bytes: &'a [u8]) -> Result<(Self, u32), Malformed> {
        let ip = Ip::parse_headers(bytes)?;
        let packet = Self::read(&ip)?;
        if ip.missing != 0 && !packet.segment.payload.is_empty() {
            return Err(Malformed::Truncated);
        }
        // Bounded by the length fields.
        Ok((packet, ip.missing as u32))
    }

    fn read(ip: &Ip<'a>) -> Result<Self, Malformed> {
        if ip.protocol != protocol::TCP {
            return Err(Malformed::Protocol);
        }
        let view = TcpPacket::new(ip.payload).ok_or(Malformed::Header)?;
        let header_len = usize::from(view.get_data_offset()) * 4;
        if header_len < TCP_HEADER_LEN {
            return Err(Malformed::DataOffset);
        }
        let (header, payload) =
            ip.payload.split_at_checked(header_len).ok_or(Malformed::DataOffset)?;
        if ip.missing == 0 && !checksum_passes(ip, view.get_checksum()) {
            return Err(Malformed::Checksum);
        }

        let bits = view.get_flags();
        let has = |bit| bits & bit != 0;
        let flags = Flags {
            urg: has(TcpFlags::URG),
            ack: has(TcpFlags::ACK),
            psh: has(TcpFlags::PSH),
            rst: has(TcpFlags::RST),
            syn: has(TcpFlags::SYN),
            fin: has(TcpFlags::FIN),
        };
        Ok(Self {
            source: SocketAddr::new(ip.source, view.get_source()),
            destination: SocketAddr::new(ip.destination, view.get_destination()),
            segment: Segment {
                seq: SeqNum::new(view.get_sequence()),
                ack: SeqNum::new(view.get_acknowledgement()),
                flags,
                wnd: view.get_window(),
                up: view.get_urgent_ptr(),
                options: options::read(&header[TCP_HEADER_LEN..], flags.syn),
                payload,
            },
        })
    }
}

/// Whether Linux would take the segment: its checksum is right, or partial
/// (`CHECKSUM_PARTIAL`): a sender on this machine (veth, virtio) left it to
/// hardware that was never passed, or GRO made the frame. Linux then stores the
/// folded, not complemented sum of the pseudo-header, length included
/// (`__tcp_v4_send_check`, `tcp4_gro_complete`, and their IPv6 twins).
fn checksum_passes(ip: &Ip<'_>, field: u16) -> bool {
    // Both length fields and the capture bound it to far below 4 GiB.
    let len = ip.payload.len() as u32;
    let pseudo = Sum::pseudo_header(ip.source, ip.destination, protocol::TCP, len);
    // Looked at first: on a partial frame it spares the walk over the data.
    u16::from_be_bytes(pseudo.fold()) == field || pseudo.bytes(ip.payload).is_intact()
}
