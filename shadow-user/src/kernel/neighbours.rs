//! Who asks for an address on a segment, and the answers: ARP (RFC 826) for IPv4, neighbour
//! discovery (RFC 4861) for IPv6.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::KernelError;
use super::packet_socket::{self, set};

/// Of an Ethernet header.
const ETHERNET_LEN: u32 = 14;
/// linux/in6.h
const NEXT_ICMPV6: u32 = 58;
/// `ND_NEIGHBOR_SOLICIT`, `ND_NEIGHBOR_ADVERT` (RFC 4861, 4.3 and 4.4).
const NEIGHBOUR_MESSAGES: [u32; 2] = [135, 136];
/// How much of a frame is of interest: more than any neighbour message.
const SNAP: u32 = 1_024;

/// A packet socket on one interface for the messages between neighbours of one family.
///
/// Whole Ethernet frames. It hears what has come to this host or to many, without a VLAN tag, and
/// never what this host sends. With it the interface takes every multicast (`IFF_ALLMULTI`), for
/// IPv6's questions go to groups of which there is one for nearly every address; that ends with the
/// socket, and so with the process.
#[derive(Debug)]
pub struct NeighbourSocket {
    socket: AsyncFd<OwnedFd>,
}

impl NeighbourSocket {
    /// Opens it on the interface of that index, within a tokio runtime.
    ///
    /// # Errors
    /// Missing `CAP_NET_RAW`, or an interface that is gone.
    pub fn open(interface: u32, is_ipv4: bool) -> Result<Self, KernelError> {
        let failed = |source| KernelError::io("open a packet socket for neighbours", source);
        let socket = packet_socket::open(libc::SOCK_NONBLOCK).map_err(failed)?;
        // Before it is bound: nothing comes that the filter has not seen.
        filter(&socket, is_ipv4).map_err(failed)?;
        let protocol = if is_ipv4 { libc::ETH_P_ARP } else { libc::ETH_P_IPV6 };
        packet_socket::bind(&socket, interface, protocol as u16).map_err(failed)?;
        if !is_ipv4 {
            // SAFETY: plain data, for which zeroes are valid.
            let mut member: libc::packet_mreq = unsafe { std::mem::zeroed() };
            member.mr_ifindex = interface.cast_signed();
            member.mr_type = libc::PACKET_MR_ALLMULTI as u16;
            set(&socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &member).map_err(failed)?;
        }
        // SAFETY: an owned descriptor is the same and open until the last of it is dropped.
        let socket = unsafe { AsyncFd::register(socket) };
        Ok(Self { socket: socket.map_err(|error| failed(error.into()))? })
    }

    /// Waits for the next frame; its length, which is at most that of `frame`.
    ///
    /// # Errors
    /// `ENETDOWN` once when the interface goes down or away.
    pub async fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.socket.ready(Interest::READABLE | Interest::ERROR).await?;
            match ready.try_io(|socket| Ok(rustix::io::read(socket, &mut *frame)?)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// The kernel's own.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.socket, frame)?;
        Ok(())
    }
}

/// Lets the kernel leave out what is none of ours, lest every packet of IPv6 wake the process.
fn filter(socket: &OwnedFd, is_ipv4: bool) -> io::Result<()> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let ancillary = |offset: i32| (libc::SKF_AD_OFF + offset).cast_unsigned();
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let [solicitation, advertisement] = NEIGHBOUR_MESSAGES;
    let (take, leave) = (step(RETURN, 0, 0, SNAP), step(RETURN, 0, 0, 0));
    // A frame of a VLAN is none of this interface's, and its tag is not in the frame any more.
    let mut program = vec![
        step(LOAD, 0, 0, ancillary(libc::SKF_AD_VLAN_TAG_PRESENT)),
        step(EQUAL, 1, 0, 0),
        leave,
        // To others (3), or by this host (4).
        step(LOAD, 0, 0, ancillary(libc::SKF_AD_PKTTYPE)),
        step(GREATER, 0, 1, u32::from(libc::PACKET_MULTICAST)),
        leave,
    ];
    if !is_ipv4 {
        program.extend([
            step(LOAD_BYTE, 0, 0, ETHERNET_LEN + 6),
            step(EQUAL, 0, 3, NEXT_ICMPV6),
            step(LOAD_BYTE, 0, 0, ETHERNET_LEN + 40),
            step(EQUAL, 2, 0, solicitation),
            step(EQUAL, 1, 0, advertisement),
            leave,
        ]);
    }
    program.push(take);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}
