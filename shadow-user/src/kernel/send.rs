//! Packets of the emulated clients on their way to the shadow.

use std::io::IoSlice;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, SocketType,
    ipproto, sendmmsg, socket_with, sockopt,
};

use super::KernelError;

/// Packets that go to the kernel in one call.
pub const MAX_BATCH: usize = 64;

/// Bytes of packets that are held back at most, about.
const MAX_HELD: usize = 1 << 20;

/// Bytes that a socket may have on their way to the interface.
const SEND_BUFFER: usize = 4 << 20;

/// Why a packet was not sent. TCP sends it again: it is late, not lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Unsent {
    /// `EAGAIN`: the socket's send buffer is full.
    BufferFull,
    /// `ENOBUFS`, `ENOMEM`: the interface's queue is full, or memory is short.
    NoBuffers,
    /// `EMSGSIZE`: longer than the route's MTU.
    TooLong,
    /// `EPERM`, `EACCES`: forbidden, as by a firewall.
    NotPermitted,
    /// `ENETUNREACH`, `EHOSTUNREACH`, `ENETDOWN`: no way to the shadow.
    Unreachable,
    /// `EINVAL` and what else the kernel says of a packet's header.
    Invalid,
    /// Not an IPv4 or IPv6 packet; the kernel did not see it.
    NotIp,
    /// Any other error.
    Other,
}

impl Unsent {
    /// Every variant, in order of its number.
    pub const ALL: [Self; 8] = [
        Self::BufferFull,
        Self::NoBuffers,
        Self::TooLong,
        Self::NotPermitted,
        Self::Unreachable,
        Self::Invalid,
        Self::NotIp,
        Self::Other,
    ];

    /// The label in metrics and in the summary.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BufferFull => "buffer_full",
            Self::NoBuffers => "no_buffers",
            Self::TooLong => "too_long",
            Self::NotPermitted => "not_permitted",
            Self::Unreachable => "unreachable",
            Self::Invalid => "invalid",
            Self::NotIp => "not_ip",
            Self::Other => "other",
        }
    }
}

impl From<Errno> for Unsent {
    fn from(error: Errno) -> Self {
        match error {
            Errno::AGAIN => Self::BufferFull,
            Errno::NOBUFS | Errno::NOMEM => Self::NoBuffers,
            Errno::MSGSIZE => Self::TooLong,
            Errno::PERM | Errno::ACCESS => Self::NotPermitted,
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::NODEV => {
                Self::Unreachable
            }
            Errno::INVAL | Errno::ADDRNOTAVAIL | Errno::FAULT => Self::Invalid,
            _ => Self::Other,
        }
    }
}

/// What became of pushed packets: each is in exactly one of these once flushed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SendStats {
    /// Packets that the kernel took.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
    unsent: [u64; Unsent::ALL.len()],
}

impl SendStats {
    /// Packets that were not sent for this reason.
    #[must_use]
    pub fn unsent(&self, reason: Unsent) -> u64 {
        self.unsent[reason as usize]
    }

    /// Every reason with its number of packets.
    pub fn iter_unsent(&self) -> impl Iterator<Item = (Unsent, u64)> + '_ {
        Unsent::ALL.into_iter().zip(self.unsent)
    }
}

/// Sends whole IP packets; the kernel finds route, neighbour and interface.
///
/// A source address that is not this host's is sent as it is. Nothing blocks.
pub struct RawSender {
    v4: OwnedFd,
    /// `None` where the kernel has no IPv6.
    v6: Option<OwnedFd>,
    held: Vec<u8>,
    packets: Vec<Held>,
    stats: SendStats,
}

/// A packet that waits in `held`.
struct Held {
    start: usize,
    end: usize,
    destination: SocketAddrAny,
    is_v6: bool,
}

impl RawSender {
    /// Opens the sockets.
    ///
    /// # Errors
    /// Missing `CAP_NET_RAW`.
    pub fn new() -> Result<Self, KernelError> {
        let v4 = open(AddressFamily::INET)
            .map_err(|error| KernelError::io("open a raw IPv4 socket", error.into()))?;
        let v6 = match open(AddressFamily::INET6) {
            Ok(socket) => Some(socket),
            Err(Errno::AFNOSUPPORT) => None,
            Err(error) => return Err(KernelError::io("open a raw IPv6 socket", error.into())),
        };
        Ok(Self {
            v4,
            v6,
            held: Vec::new(),
            packets: Vec::with_capacity(MAX_BATCH),
            stats: SendStats::default(),
        })
    }

    /// Takes a packet, from the IP header on; sends when a batch is full.
    pub fn push(&mut self, packet: &[u8]) {
        self.push_with(|held| {
            held.extend_from_slice(packet);
            true
        });
    }

    /// The same with what `write` appends; how many bytes that is, none when it has nothing.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) -> usize {
        if self.packets.len() == MAX_BATCH || self.held.len() >= MAX_HELD {
            self.flush();
        }
        let start = self.held.len();
        if !write(&mut self.held) {
            self.held.truncate(start);
            return 0;
        }
        let written = self.held.len() - start;
        match destination(&self.held[start..]) {
            Some((destination, is_v6)) => {
                self.packets.push(Held { start, end: self.held.len(), destination, is_v6 });
            }
            None => {
                self.held.truncate(start);
                self.stats.unsent[Unsent::NotIp as usize] += 1;
            }
        }
        written
    }

    /// Sends what is held, in order.
    pub fn flush(&mut self) {
        let Self { v4, v6, held, packets, stats } = self;
        for run in packets.chunk_by(|a, b| a.is_v6 == b.is_v6) {
            let socket = if run[0].is_v6 { v6.as_ref() } else { Some(&*v4) };
            match socket {
                Some(socket) => send(socket, held, run, stats),
                None => stats.unsent[Unsent::Unreachable as usize] += run.len() as u64,
            }
        }
        packets.clear();
        held.clear();
    }

    /// What became of the packets so far.
    #[must_use]
    pub fn stats(&self) -> &SendStats {
        &self.stats
    }
}

/// Sends packets of one family; each is counted once.
fn send(socket: &OwnedFd, held: &[u8], run: &[Held], stats: &mut SendStats) {
    let slices: Vec<[IoSlice<'_>; 1]> =
        run.iter().map(|packet| [IoSlice::new(&held[packet.start..packet.end])]).collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        run.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<MMsgHdr<'_>> = run
        .iter()
        .zip(&slices)
        .zip(&mut controls)
        .map(|((packet, slice), control)| {
            MMsgHdr::new_with_addr(&packet.destination, slice, control)
        })
        .collect();
    let mut done = 0;
    while done < run.len() {
        match sendmmsg(socket, &mut messages[done..], SendFlags::DONTWAIT) {
            Ok(sent) => {
                stats.packets += sent as u64;
                let bytes = run[done..done + sent].iter().map(|packet| packet.end - packet.start);
                stats.bytes += bytes.sum::<usize>() as u64;
                // The kernel stops at a packet that it refuses, and says why when asked again.
                done += sent.max(1);
            }
            Err(Errno::INTR) => {}
            Err(error) => {
                let reason = Unsent::from(error);
                // A full buffer is full for the rest as well.
                let refused = if reason == Unsent::BufferFull { run.len() - done } else { 1 };
                stats.unsent[reason as usize] += refused as u64;
                done += refused;
            }
        }
    }
}

fn open(family: AddressFamily) -> Result<OwnedFd, Errno> {
    // IPPROTO_RAW: the packet brings its own header, and nothing is received.
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
    if sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER).is_err() {
        // Without CAP_NET_ADMIN: as much as the system allows anyone.
        let _ = sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER);
    }
    Ok(socket)
}

/// The destination in a packet's IP header, and whether it is IPv6.
fn destination(packet: &[u8]) -> Option<(SocketAddrAny, bool)> {
    match packet.first()? >> 4 {
        4 => {
            let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            // A raw socket's port is not looked at.
            Some((SocketAddr::from((Ipv4Addr::from(address), 0)).into(), false))
        }
        6 => {
            let address: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some((SocketAddr::from((Ipv6Addr::from(address), 0)).into(), true))
        }
        _ => None,
    }
}
