//! One captured packet in a ring buffer.

use bytemuck::{Pod, Zeroable};

/// The longest packet that is copied, in bytes from the IP header on: the
/// largest GRO super-frame of IPv4, and of IPv6 without jumbograms, is 65,535
/// bytes plus the IPv6 header.
pub const MAX_PACKET_LEN: usize = 65_536 + 40;

/// The most packet bytes one record carries. A per-CPU map value over 32 KiB is
/// refused by the kernel, so longer packets are split into consecutive parts.
pub const MAX_PART_LEN: usize = 32_768 - size_of::<RecordHeader>();

/// What stands before the packet's bytes in every ring record.
///
/// A packet longer than [`MAX_PART_LEN`] arrives in several records with the
/// same `captured_at` and `cpu`, in order of `part_offset`. Parts of one CPU are
/// never interleaved with another packet of that CPU; parts of different CPUs
/// may be. When the ring fills up in between, the rest of the packet is missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct RecordHeader {
    /// `bpf_ktime_get_ns()` (`CLOCK_MONOTONIC`) when the program saw the packet.
    pub captured_at: u64,
    /// Bytes that are copied of the packet, from the first byte of the IP header; all there are but
    /// for [`RecordKind::ResponseHeaders`].
    pub packet_len: u32,
    /// Where in the packet this record's bytes begin; 0 in the first part.
    pub part_offset: u32,
    /// Packet bytes that follow this header in the record.
    pub part_len: u32,
    /// Interface on which the packet was seen.
    pub ifindex: u32,
    /// CPU that ran the program; parts are joined per CPU.
    pub cpu: u32,
    /// A [`RecordKind`] as its number.
    pub kind: u32,
}

const _: () = assert!(size_of::<RecordHeader>() == 32);

/// The most records one packet is split into.
pub const MAX_PARTS: usize = MAX_PACKET_LEN.div_ceil(MAX_PART_LEN);

/// Which program copied a packet, and so which leg it belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum RecordKind {
    /// From a client to production, copied by the tap.
    Request = 0,
    /// From the shadow to the mirror, copied (and dropped) by the guard; or an ICMP error about a
    /// packet of the mirror, copied (and passed on).
    Reply = 1,
    /// From production to a client, copied by the tap's other half at egress.
    Response = 2,
    /// The same, but only its headers, IP and TCP: `packet_len` is their length, and the IP header
    /// still tells how long the packet was.
    ResponseHeaders = 3,
}
