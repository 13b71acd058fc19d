//! What is heard on a segment and what is answered, without a socket: frames in, frames out.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet_packet::Packet as _;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet_packet::icmpv6::ndp::{
    MutableNdpOptionPacket, MutableNeighborAdvertPacket, MutableNeighborSolicitPacket,
    NdpOptionTypes, NeighborAdvertFlags, NeighborAdvertPacket, NeighborSolicitPacket,
};
use pnet_packet::icmpv6::{Icmpv6Packet, Icmpv6Types, checksum};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use shadow_engine::Network;

const ETHERNET_LEN: usize = EthernetPacket::minimum_packet_size();
const ARP_LEN: usize = ArpPacket::minimum_packet_size();
const IPV6_LEN: usize = Ipv6Packet::minimum_packet_size();
/// Both messages without options (RFC 4861, 4.3 and 4.4).
const NDP_LEN: usize = 24;
/// The option that holds a link-layer address (RFC 4861, 4.6.1).
const OPTION_LEN: usize = 8;
/// Routers let no other pass: whoever sends it is a neighbour (RFC 4861, 7.1.1).
const HOP_LIMIT: u8 = 255;

/// Addresses of a pool that others use, remembered.
const MAX_TAKEN: usize = 1_024;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    const BROADCAST: Self = Self([0xff; 6]);

    /// Of an IPv6 group (RFC 2464, 7).
    fn of_group(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What a frame means for the pool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Heard {
    /// Nothing.
    Nothing,
    /// Somebody asks for an address of the pool; the frame that answers.
    Asked(Vec<u8>),
    /// Somebody else uses an address of the pool, heard for the first time.
    Taken {
        /// The address.
        address: IpAddr,
        /// Who uses it.
        by: Mac,
    },
}

/// One segment, on which this host answers for the addresses of a pool that nobody else uses.
#[derive(Debug)]
pub struct Segment {
    pool: Network,
    mac: Mac,
    taken: HashMap<IpAddr, Mac>,
}

impl Segment {
    /// On the segment to which this host is connected with the address `mac`.
    #[must_use]
    pub fn new(pool: Network, mac: Mac) -> Self {
        Self { pool, mac, taken: HashMap::new() }
    }

    /// This host's address on the segment is another from now on.
    pub fn set_mac(&mut self, mac: Mac) {
        self.mac = mac;
    }

    /// Takes an Ethernet frame.
    pub fn hear(&mut self, frame: &[u8]) -> Heard {
        let Some(ethernet) = EthernetPacket::new(frame) else { return Heard::Nothing };
        if Mac(ethernet.get_source().octets()) == self.mac {
            return Heard::Nothing;
        }
        let heard = match ethernet.get_ethertype() {
            EtherTypes::Arp => self.hear_arp(ethernet.payload()),
            EtherTypes::Ipv6 => self.hear_ndp(&ethernet),
            _ => None,
        };
        heard.unwrap_or(Heard::Nothing)
    }

    fn hear_arp(&mut self, bytes: &[u8]) -> Option<Heard> {
        let arp = ArpPacket::new(bytes)?;
        let is_arp = arp.get_hardware_type() == ArpHardwareTypes::Ethernet
            && arp.get_protocol_type() == EtherTypes::Ipv4
            && (arp.get_hw_addr_len(), arp.get_proto_addr_len()) == (6, 4);
        let asker = Mac(arp.get_sender_hw_addr().octets());
        if !is_arp || asker == self.mac {
            return None;
        }
        let (sender, target) = (arp.get_sender_proto_addr(), arp.get_target_proto_addr());
        if self.pool.lends(sender.into()) {
            return self.take(sender.into(), asker);
        }
        // One who is about to use the address (RFC 5227, 1.1: sender 0.0.0.0) is told as well that
        // it is in use.
        if arp.get_operation() != ArpOperations::Request || !self.answers_for(target.into()) {
            return None;
        }
        Some(Heard::Asked(self.arp(asker, true, target, sender)))
    }

    fn hear_ndp(&mut self, ethernet: &EthernetPacket<'_>) -> Option<Heard> {
        let ip = Ipv6Packet::new(ethernet.payload())?;
        let len = usize::from(ip.get_payload_length());
        let message = ethernet.payload().get(IPV6_LEN..IPV6_LEN + len)?;
        if ip.get_next_header() != IpNextHeaderProtocols::Icmpv6
            || ip.get_hop_limit() != HOP_LIMIT
            || message.len() < NDP_LEN
        {
            return None;
        }
        let (source, asker) = (ip.get_source(), Mac(ethernet.get_source().octets()));
        let icmp = Icmpv6Packet::new(message)?;
        let sum = checksum(&icmp, &source, &ip.get_destination());
        if icmp.get_checksum() != sum || icmp.get_icmpv6_code().0 != 0 {
            return None;
        }
        match icmp.get_icmpv6_type() {
            Icmpv6Types::NeighborAdvert => {
                let target = NeighborAdvertPacket::new(message)?.get_target_addr();
                self.pool.lends(target.into()).then(|| self.take(target.into(), asker))?
            }
            Icmpv6Types::NeighborSolicit if self.pool.lends(source.into()) => {
                self.take(source.into(), asker)
            }
            Icmpv6Types::NeighborSolicit => {
                let target = NeighborSolicitPacket::new(message)?.get_target_addr();
                if !self.answers_for(target.into()) {
                    return None;
                }
                Some(Heard::Asked(self.advertisement(asker, target, source)))
            }
            _ => None,
        }
    }

    /// Whether `address` is the pool's and nobody else's; when more of its addresses are used by
    /// others than are remembered, none is.
    fn answers_for(&self, address: IpAddr) -> bool {
        self.pool.lends(address)
            && self.taken.len() < MAX_TAKEN
            && !self.taken.contains_key(&address)
    }

    fn take(&mut self, address: IpAddr, by: Mac) -> Option<Heard> {
        if self.taken.len() == MAX_TAKEN || self.taken.contains_key(&address) {
            return None;
        }
        self.taken.insert(address, by);
        Some(Heard::Taken { address, by })
    }

    /// A frame that asks whether anyone uses `address`, without claiming one (RFC 5227, 2.1.1;
    /// RFC 4862, 5.4.2).
    #[must_use]
    pub fn probe(&self, address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(v4) => self.arp(Mac::BROADCAST, false, Ipv4Addr::UNSPECIFIED, v4),
            IpAddr::V6(v6) => self.solicitation(v6),
        }
    }

    fn ethernet(&self, to: Mac, kind: pnet_packet::ethernet::EtherType, len: usize) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET_LEN + len];
        if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
            ethernet.set_destination(to.0.into());
            ethernet.set_source(self.mac.0.into());
            ethernet.set_ethertype(kind);
        }
        frame
    }

    /// From this host and `sender` to `to`, about `target`.
    fn arp(&self, to: Mac, is_reply: bool, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        let mut frame = self.ethernet(to, EtherTypes::Arp, ARP_LEN);
        if let Some(mut arp) = MutableArpPacket::new(&mut frame[ETHERNET_LEN..]) {
            arp.set_hardware_type(ArpHardwareTypes::Ethernet);
            arp.set_protocol_type(EtherTypes::Ipv4);
            arp.set_hw_addr_len(6);
            arp.set_proto_addr_len(4);
            arp.set_sender_hw_addr(self.mac.0.into());
            arp.set_sender_proto_addr(sender);
            arp.set_target_proto_addr(target);
            arp.set_operation(ArpOperations::Request);
            if is_reply {
                arp.set_operation(ArpOperations::Reply);
                arp.set_target_hw_addr(to.0.into());
            }
        }
        frame
    }

    /// Not to override what the asker knows: a host that has the address comes first.
    fn advertisement(&self, to: Mac, target: Ipv6Addr, asker: Ipv6Addr) -> Vec<u8> {
        // One who is about to use the address has none to be answered at (RFC 4861, 7.2.4).
        let (to, destination, flags) = if asker.is_unspecified() {
            let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            (Mac::of_group(all), all, 0)
        } else {
            (to, asker, NeighborAdvertFlags::Solicited)
        };
        let mut message = [0; NDP_LEN + OPTION_LEN];
        if let Some(mut advert) = MutableNeighborAdvertPacket::new(&mut message) {
            advert.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
            advert.set_flags(flags);
            advert.set_target_addr(target);
        }
        if let Some(mut option) = MutableNdpOptionPacket::new(&mut message[NDP_LEN..]) {
            option.set_option_type(NdpOptionTypes::TargetLLAddr);
            option.set_length(1);
            option.set_data(&self.mac.0);
        }
        self.icmpv6(to, target, destination, &mut message)
    }

    fn solicitation(&self, target: Ipv6Addr) -> Vec<u8> {
        let [.., a, b, c] = target.octets();
        // RFC 4291, 2.7.1
        let (low, high) = (u16::from_be_bytes([b, c]), 0xff00 | u16::from(a));
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, high, low);
        let mut message = [0; NDP_LEN];
        if let Some(mut solicit) = MutableNeighborSolicitPacket::new(&mut message) {
            solicit.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
            solicit.set_target_addr(target);
        }
        self.icmpv6(Mac::of_group(group), Ipv6Addr::UNSPECIFIED, group, &mut message)
    }

    fn icmpv6(&self, to: Mac, source: Ipv6Addr, target: Ipv6Addr, message: &mut [u8]) -> Vec<u8> {
        if let Some(icmp) = Icmpv6Packet::new(message) {
            let sum = checksum(&icmp, &source, &target);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        let mut frame = self.ethernet(to, EtherTypes::Ipv6, IPV6_LEN + message.len());
        if let Some(mut ip) = MutableIpv6Packet::new(&mut frame[ETHERNET_LEN..]) {
            ip.set_version(6);
            ip.set_payload_length(message.len() as u16);
            ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
            ip.set_hop_limit(HOP_LIMIT);
            ip.set_source(source);
            ip.set_destination(target);
            ip.set_payload(message);
        }
        frame
    }
}

#[cfg(test)]
mod tests;
