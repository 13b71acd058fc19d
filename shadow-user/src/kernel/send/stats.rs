//! What became of packets on their way to the shadow.

use rustix::io::Errno;

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
    /// `ENETUNREACH`, `EHOSTUNREACH`, `ENETDOWN`, `ENXIO`: no way to the shadow.
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
            Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::NODEV
            | Errno::NXIO => Self::Unreachable,
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
    /// Those of the packets that went by a packet socket; the others went by a raw socket.
    pub by_packet_socket: u64,
    pub(super) unsent: [u64; Unsent::ALL.len()],
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
