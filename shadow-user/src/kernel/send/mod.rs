//! Packets of the emulated clients on their way to the shadow.

mod packet;
mod raw;
mod stats;

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg, sockopt};
use shadow_engine::time::Instant;
use shadow_engine::{Offload, Transmit};

use super::KernelError;
use packet::{Head, PacketSocket};
use raw::RawSockets;

pub use packet::NextHop;
pub use stats::{SendStats, Unsent};

/// Packets that go to the kernel in one call.
pub const MAX_BATCH: usize = 64;

/// Bytes of packets that are held back at most, about.
const MAX_HELD: usize = 1 << 20;

/// Bytes that a socket may have on their way to the interface.
const SEND_BUFFER: usize = 4 << 20;

/// How often a batch goes by the raw socket although the next hop is known: it lets the kernel's table of
/// neighbours see that there is traffic, and so find out whether the neighbour is still there (RFC 4861, 7.3);
/// and it shows whether this host's firewall still lets packets out.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);

/// Sends whole IP packets: by a packet socket to a next hop that is known, else by a raw socket, for which
/// the kernel finds the way.
///
/// A source address that is not this host's is sent as it is. Nothing blocks.
pub struct Sender {
    raw: RawSockets,
    /// As it was told last.
    next_hop: Option<NextHop>,
    packet: Option<PacketSocket>,
    /// When a batch is due to go by the raw socket.
    confirm_at: Instant,
    /// Whether what is held goes by the packet socket.
    is_offloaded: bool,
    held: Vec<u8>,
    packets: Vec<Held>,
    stats: SendStats,
}

/// A packet that waits in `held`.
struct Held {
    start: usize,
    end: usize,
    destination: SocketAddrAny,
    /// Before the packet, on the packet socket.
    head: Head,
    /// IP packets that it becomes, and their bytes.
    packets: u32,
    bytes: u64,
}

impl Sender {
    /// Opens the raw sockets.
    ///
    /// # Errors
    /// Missing `CAP_NET_RAW`.
    pub fn new() -> Result<Self, KernelError> {
        Ok(Self {
            raw: RawSockets::open()?,
            next_hop: None,
            packet: None,
            confirm_at: Instant::default(),
            is_offloaded: false,
            held: Vec::new(),
            packets: Vec::with_capacity(MAX_BATCH),
            stats: SendStats::default(),
        })
    }

    /// Sends there from now on; with none as the kernel's routes say.
    ///
    /// # Errors
    /// When there is no packet socket to be had; then as the routes say.
    pub fn set_next_hop(&mut self, next_hop: Option<NextHop>) -> Result<(), KernelError> {
        // Told again, a packet socket that the firewall has ended stays away.
        if self.next_hop != next_hop {
            self.flush();
            self.next_hop = next_hop;
            self.packet = None;
            self.packet = next_hop.map(PacketSocket::open).transpose()?;
        }
        Ok(())
    }

    /// Takes a packet that is complete, from the IP header on; sends when a batch is full.
    pub fn push(&mut self, packet: &[u8]) {
        if self.is_offloaded || self.is_full() {
            self.flush();
        }
        self.is_offloaded = false;
        self.hold(|_, held| {
            held.extend_from_slice(packet);
            Some(Transmit { packets: 1, segment_size: 0 })
        });
    }

    /// Takes the packet that `write` appends, and leaves to do what it is told can be left; how many bytes
    /// that is, none when it has no packet.
    pub fn push_with(
        &mut self,
        now: Instant,
        write: impl FnOnce(Offload, &mut Vec<u8>) -> Option<Transmit>,
    ) -> usize {
        if self.is_full() {
            self.flush();
        }
        if self.packets.is_empty() {
            self.is_offloaded = self.packet.is_some() && now < self.confirm_at;
            if !self.is_offloaded {
                self.confirm_at = now + CONFIRM_EVERY;
            }
        }
        self.hold(write)
    }

    fn is_full(&self) -> bool {
        self.packets.len() == MAX_BATCH || self.held.len() >= MAX_HELD
    }

    fn hold(&mut self, write: impl FnOnce(Offload, &mut Vec<u8>) -> Option<Transmit>) -> usize {
        let Self { packet: socket, held, packets, stats, is_offloaded, .. } = self;
        let socket = socket.as_ref().filter(|_| *is_offloaded);
        let offload = if socket.is_some() { Offload::Segmentation } else { Offload::None };
        let start = held.len();
        let Some(transmit) = write(offload, held) else {
            held.truncate(start);
            return 0;
        };
        let packet = &held[start..];
        let written = packet.len();
        let Some(destination) = raw::destination(packet) else {
            held.truncate(start);
            stats.unsent[Unsent::NotIp as usize] += 1;
            return written;
        };
        let (head, again) = match socket {
            Some(socket) => {
                let headers = packet::headers_len(packet) as u64;
                (socket.head(packet, transmit), u64::from(transmit.packets - 1) * headers)
            }
            None => (Head::default(), 0),
        };
        packets.push(Held {
            start,
            end: start + written,
            destination,
            head,
            packets: transmit.packets,
            bytes: written as u64 + again,
        });
        written
    }

    /// Sends what is held, in order.
    pub fn flush(&mut self) {
        let Self { raw, packet, held, packets, stats, is_offloaded, .. } = self;
        match packet {
            Some(socket) if *is_offloaded => send_frames(socket.socket(), held, packets, stats),
            _ => {
                let before = stats.unsent(Unsent::NotPermitted);
                let family = |held: &Held| held.destination.address_family();
                for run in packets.chunk_by(|a, b| family(a) == family(b)) {
                    match raw.to(&run[0].destination) {
                        Some(socket) => send_packets(socket, held, run, stats),
                        None => stats.unsent[Unsent::Unreachable as usize] += run.len() as u64,
                    }
                }
                // What the firewall forbids is not to pass it by.
                if stats.unsent(Unsent::NotPermitted) != before {
                    *packet = None;
                }
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

/// Sends packets of one family by the raw socket.
fn send_packets(socket: &OwnedFd, held: &[u8], run: &[Held], stats: &mut SendStats) {
    let slices: Vec<_> =
        run.iter().map(|packet| [IoSlice::new(&held[packet.start..packet.end])]).collect();
    let mut controls: Vec<_> = run.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<_> = run
        .iter()
        .zip(&slices)
        .zip(&mut controls)
        .map(|((packet, slice), control)| {
            MMsgHdr::new_with_addr(&packet.destination, slice, control)
        })
        .collect();
    send(socket, &mut messages, run, stats);
}

/// Sends packets by the packet socket.
fn send_frames(socket: &OwnedFd, held: &[u8], run: &[Held], stats: &mut SendStats) {
    let before = stats.packets;
    let slices: Vec<_> = run
        .iter()
        .map(|packet| [IoSlice::new(&packet.head), IoSlice::new(&held[packet.start..packet.end])])
        .collect();
    let mut controls: Vec<_> = run.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<_> = slices
        .iter()
        .zip(&mut controls)
        .map(|(slices, control)| MMsgHdr::new(slices, control))
        .collect();
    send(socket, &mut messages, run, stats);
    stats.by_packet_socket += stats.packets - before;
}

/// Sends what is held in `run`; each is counted once.
fn send(socket: &OwnedFd, messages: &mut [MMsgHdr<'_>], run: &[Held], stats: &mut SendStats) {
    let count = |run: &[Held]| run.iter().map(|held| u64::from(held.packets)).sum::<u64>();
    let mut done = 0;
    while done < run.len() {
        match sendmmsg(socket, &mut messages[done..], SendFlags::DONTWAIT) {
            Ok(sent) => {
                let taken = &run[done..done + sent];
                stats.packets += count(taken);
                stats.bytes += taken.iter().map(|held| held.bytes).sum::<u64>();
                // The kernel stops at a packet that it refuses, and says why when asked again.
                done += sent.max(1);
            }
            Err(Errno::INTR) => {}
            Err(error) => {
                let reason = Unsent::from(error);
                // A full buffer is full for the rest as well.
                let refused = if reason == Unsent::BufferFull { run.len() - done } else { 1 };
                stats.unsent[reason as usize] += count(&run[done..done + refused]);
                done += refused;
            }
        }
    }
}

/// Lets a socket have [`SEND_BUFFER`] on the way.
fn enlarge(socket: &OwnedFd) {
    if sockopt::set_socket_send_buffer_size_force(socket, SEND_BUFFER).is_err() {
        // Without CAP_NET_ADMIN: as much as the system allows anyone.
        let _ = sockopt::set_socket_send_buffer_size(socket, SEND_BUFFER);
    }
}
