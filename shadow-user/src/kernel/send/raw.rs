//! Raw sockets: the kernel finds route, neighbour and interface for each packet.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags, SocketType, ipproto, socket_with};

use crate::kernel::KernelError;

/// One for each family. Nothing blocks, and nothing is received.
pub(super) struct RawSockets {
    v4: OwnedFd,
    /// `None` where the kernel has no IPv6.
    v6: Option<OwnedFd>,
}

impl RawSockets {
    /// # Errors
    /// Missing `CAP_NET_RAW`.
    pub(super) fn open() -> Result<Self, KernelError> {
        let v4 = open(AddressFamily::INET)
            .map_err(|error| KernelError::io("open a raw IPv4 socket", error.into()))?;
        let v6 = match open(AddressFamily::INET6) {
            Ok(socket) => Some(socket),
            Err(Errno::AFNOSUPPORT) => None,
            Err(error) => return Err(KernelError::io("open a raw IPv6 socket", error.into())),
        };
        Ok(Self { v4, v6 })
    }

    /// The one for packets to there.
    pub(super) fn to(&self, destination: &SocketAddrAny) -> Option<&OwnedFd> {
        match destination.address_family() {
            AddressFamily::INET => Some(&self.v4),
            _ => self.v6.as_ref(),
        }
    }
}

fn open(family: AddressFamily) -> Result<OwnedFd, Errno> {
    // IPPROTO_RAW: the packet brings its own header.
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
    super::enlarge(&socket);
    Ok(socket)
}

/// The destination in a packet's IP header.
pub(super) fn destination(packet: &[u8]) -> Option<SocketAddrAny> {
    // A raw socket's port is not looked at.
    match packet.first()? >> 4 {
        4 => {
            let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(SocketAddr::from((Ipv4Addr::from(address), 0)).into())
        }
        6 => {
            let address: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some(SocketAddr::from((Ipv6Addr::from(address), 0)).into())
        }
        _ => None,
    }
}
