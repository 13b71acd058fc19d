//! A packet socket (packet(7)): frames go to an interface as they are, past the kernel's IP.
//!
//! It costs half of what a raw socket does, and with a virtio-net header in front of each frame
//! (`PACKET_VNET_HDR`, Linux 2.6.37) the kernel or the network card completes checksums and cuts up data that
//! is longer than a segment. In return somebody has to know the next hop, and to follow it.

use std::os::fd::OwnedFd;

use shadow_engine::Transmit;

use crate::kernel::{KernelError, packet_socket};

/// `struct virtio_net_hdr` of linux/virtio_net.h, in octets.
const VIRTIO_LEN: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is to be completed.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_TCPV4` and `…_TCPV6`: the data is to be cut up.
const SEGMENT_V4: u8 = 1;
const SEGMENT_V6: u8 = 4;

const ETHERNET_LEN: usize = 14;
/// Of a TCP header, where its own length and its checksum stand.
const DATA_OFFSET: usize = 12;
const CHECKSUM: u16 = 16;

/// What stands before the IP header.
pub(super) type Head = [u8; VIRTIO_LEN + ETHERNET_LEN];

/// The next host on the way to a shadow, on an Ethernet link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NextHop {
    /// Index of the interface by which packets leave.
    pub interface: u32,
    /// That interface's Ethernet address.
    pub from: [u8; 6],
    /// The next host's.
    pub to: [u8; 6],
}

/// A socket that sends to one next hop.
pub(super) struct PacketSocket {
    socket: OwnedFd,
    next_hop: NextHop,
}

impl PacketSocket {
    /// # Errors
    /// Missing `CAP_NET_RAW`, or an interface that is gone.
    pub(super) fn open(next_hop: NextHop) -> Result<Self, KernelError> {
        let failed = |source| KernelError::io("open a packet socket", source);
        let socket = packet_socket::open(0).map_err(failed)?;
        let on: libc::c_int = 1;
        packet_socket::set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &on)
            .map_err(failed)?;
        packet_socket::bind(&socket, next_hop.interface, 0).map_err(failed)?;
        super::enlarge(&socket);
        Ok(Self { socket, next_hop })
    }

    pub(super) const fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// What goes before an IP packet of the engine's, which is complete but for its checksum.
    pub(super) fn head(&self, packet: &[u8], transmit: Transmit) -> Head {
        let (ether_type, segment) = match packet[0] >> 4 {
            6 => (libc::ETH_P_IPV6 as u16, SEGMENT_V6),
            _ => (libc::ETH_P_IP as u16, SEGMENT_V4),
        };
        let tcp_start = ETHERNET_LEN + ip_len(packet);
        let data_start = ETHERNET_LEN + headers_len(packet);
        let mut head = [0; VIRTIO_LEN + ETHERNET_LEN];
        head[0] = NEEDS_CHECKSUM;
        if transmit.packets > 1 {
            head[1] = segment;
            // Not longer than a segment, which is not longer than 65,535.
            head[4..6].copy_from_slice(&(transmit.segment_size as u16).to_ne_bytes());
        }
        // In the host's byte order, as all numbers of this header.
        head[2..4].copy_from_slice(&(data_start as u16).to_ne_bytes());
        head[6..8].copy_from_slice(&(tcp_start as u16).to_ne_bytes());
        head[8..10].copy_from_slice(&CHECKSUM.to_ne_bytes());
        let NextHop { from, to, .. } = self.next_hop;
        let ethernet = &mut head[VIRTIO_LEN..];
        ethernet[..6].copy_from_slice(&to);
        ethernet[6..12].copy_from_slice(&from);
        ethernet[12..].copy_from_slice(&ether_type.to_be_bytes());
        head
    }
}

/// Octets of IP and TCP header of an IP packet of the engine's.
pub(super) fn headers_len(packet: &[u8]) -> usize {
    let ip_len = ip_len(packet);
    ip_len + usize::from(packet[ip_len + DATA_OFFSET] >> 4) * 4
}

/// Octets of its IP header, which has no options.
fn ip_len(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 6 { 40 } else { 20 }
}
