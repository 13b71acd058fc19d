//! What routers and hosts say about segments that were sent (RFC 792, RFC 1191,
//! RFC 4443).

use std::net::{IpAddr, SocketAddr};

use super::Malformed;
use super::checksum::Sum;
use super::ip::{Ip, protocol};
use crate::seq::SeqNum;

/// An ICMP error about a TCP segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IcmpError {
    /// Who reports it: any router on the path, or the peer's host.
    pub reporter: IpAddr,
    /// Source address and port of the segment in question.
    pub source: SocketAddr,
    /// Destination address and port of the segment in question.
    pub destination: SocketAddr,
    /// SEG.SEQ of the segment in question: an error whose number was not in
    /// flight is forged or stale (RFC 5927, 4.1).
    pub seq: SeqNum,
    /// What is wrong.
    pub reason: IcmpReason,
}

/// What an ICMP error reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IcmpReason {
    /// The packet is longer than the next link takes: IPv4 "fragmentation needed
    /// and DF set" (RFC 1191, 4), IPv6 "packet too big" (RFC 4443, 3.2).
    PacketTooBig {
        /// The next link's MTU, octets of whole IP packet; zero from an IPv4
        /// router older than RFC 1191.
        mtu: u32,
    },
    /// The destination cannot be reached.
    Unreachable {
        /// The code as the family defines it: RFC 792, RFC 1122 3.2.2.1 or RFC 4443, 3.1.
        code: u8,
    },
}

const V4_UNREACHABLE: u8 = 3;
const V4_FRAGMENTATION_NEEDED: u8 = 4;
const V6_UNREACHABLE: u8 = 1;
const V6_PACKET_TOO_BIG: u8 = 2;

impl IcmpError {
    /// Reads an IP packet, which begins at its IP header, as an ICMP error about
    /// a TCP segment.
    ///
    /// # Errors
    /// [`Malformed::Protocol`] for anything else that is well formed (another
    /// protocol, another ICMP type, an error about another protocol's packet);
    /// else why it cannot be read.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let ip = Ip::parse(bytes)?;
        let &[kind, code, _, _, a, b, c, d, ref quoted @ ..] = ip.payload else {
            return Err(match ip.protocol {
                protocol::ICMP | protocol::ICMPV6 => Malformed::Header,
                _ => Malformed::Protocol,
            });
        };
        let (sum, reason) = match (ip.protocol, ip.source) {
            (protocol::ICMP, IpAddr::V4(_)) => {
                let reason = match (kind, code) {
                    (V4_UNREACHABLE, V4_FRAGMENTATION_NEEDED) => {
                        IcmpReason::PacketTooBig { mtu: u32::from(u16::from_be_bytes([c, d])) }
                    }
                    (V4_UNREACHABLE, code) => IcmpReason::Unreachable { code },
                    _ => return Err(Malformed::Protocol),
                };
                (Sum::default(), reason)
            }
            (protocol::ICMPV6, IpAddr::V6(_)) => {
                let reason = match kind {
                    V6_PACKET_TOO_BIG => {
                        IcmpReason::PacketTooBig { mtu: u32::from_be_bytes([a, b, c, d]) }
                    }
                    V6_UNREACHABLE => IcmpReason::Unreachable { code },
                    _ => return Err(Malformed::Protocol),
                };
                // Bounded by the IP length, far below 4 GiB.
                let len = ip.payload.len() as u32;
                let sum = Sum::pseudo_header(ip.source, ip.destination, protocol::ICMPV6, len);
                (sum, reason)
            }
            _ => return Err(Malformed::Protocol),
        };
        if !sum.bytes(ip.payload).is_intact() {
            return Err(Malformed::Checksum);
        }

        let quoted = Ip::parse_quoted(quoted)?;
        if quoted.protocol != protocol::TCP || quoted.source.is_ipv4() != ip.source.is_ipv4() {
            return Err(Malformed::Protocol);
        }
        // RFC 792: no more than the first 64 bits of the segment need be there.
        let &[s0, s1, d0, d1, n0, n1, n2, n3, ..] = quoted.payload else {
            return Err(Malformed::Header);
        };
        Ok(Self {
            reporter: ip.source,
            source: SocketAddr::new(quoted.source, u16::from_be_bytes([s0, s1])),
            destination: SocketAddr::new(quoted.destination, u16::from_be_bytes([d0, d1])),
            seq: SeqNum::new(u32::from_be_bytes([n0, n1, n2, n3])),
            reason,
        })
    }
}
