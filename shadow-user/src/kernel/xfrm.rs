//! Whether this host has IPsec policies, as the kernel's xfrm tells it (ip-xfrm(8)).

use std::io;

use netlink_sys::protocols::NETLINK_XFRM;
use netlink_sys::{Socket, SocketAddr};

/// `XFRM_MSG_NEWSPDINFO` and `XFRM_MSG_GETSPDINFO` of linux/xfrm.h.
const NEW_SPD_INFO: u16 = 0x24;
const GET_SPD_INFO: u16 = 0x25;
/// `XFRMA_SPD_INFO`: `struct xfrmu_spdinfo`, numbers of policies by direction.
const SPD_INFO: u16 = 1;

/// Of `struct nlmsghdr` (netlink(7)), and of the flags that come before attributes here.
const HEADER_LEN: usize = 16;
const FLAGS_LEN: usize = 4;

/// Whether a policy says of any packet that leaves this network namespace that it is to be transformed,
/// blocked or let go.
///
/// # Errors
/// When the kernel does not say; one without xfrm has no policies.
pub fn has_outgoing_policies() -> io::Result<bool> {
    let mut socket = match Socket::new(NETLINK_XFRM) {
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(false),
        socket => socket?,
    };
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = [0; HEADER_LEN + FLAGS_LEN];
    request[..4].copy_from_slice(&((HEADER_LEN + FLAGS_LEN) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&GET_SPD_INFO.to_ne_bytes());
    request[6..8].copy_from_slice(&netlink_packet_core::NLM_F_REQUEST.to_ne_bytes());
    socket.send(&request, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    outgoing(&answer)
        .map(|policies| policies != 0)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no count of IPsec policies"))
}

/// The number of policies for what leaves, out of an answer.
fn outgoing(answer: &[u8]) -> Option<u32> {
    let half = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    if half(4)? != NEW_SPD_INFO {
        return None;
    }
    let mut at = HEADER_LEN + FLAGS_LEN;
    loop {
        let (len, kind) = (usize::from(half(at)?), half(at + 2)?);
        if kind == SPD_INFO {
            // Behind the attribute's header: incnt, outcnt, …
            return word(at + 8);
        }
        // Attributes begin at multiples of four octets (NLA_ALIGN).
        at += len.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_the_kernel_writes_it() {
        let mut answer = vec![0; HEADER_LEN + FLAGS_LEN];
        answer[4..6].copy_from_slice(&NEW_SPD_INFO.to_ne_bytes());
        for (kind, counts) in [(7_u16, vec![9_u32]), (SPD_INFO, vec![1, 2, 3, 4, 5, 6])] {
            answer.extend_from_slice(&(4 + 4 * counts.len() as u16).to_ne_bytes());
            answer.extend_from_slice(&kind.to_ne_bytes());
            counts.iter().for_each(|count| answer.extend_from_slice(&count.to_ne_bytes()));
        }
        assert_eq!(outgoing(&answer), Some(2));
        for len in 0..answer.len() - 16 {
            assert_eq!(outgoing(&answer[..len]), None, "{len}");
        }
    }
}
