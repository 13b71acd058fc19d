//! Production's accept queue, as the kernel's sock_diag tells it (sock_diag(7)).

use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

/// Asks for the listening sockets at some ports.
#[derive(Debug)]
pub(super) struct Backlog {
    socket: Socket,
    ports: Vec<u16>,
}

impl Backlog {
    /// Of this network namespace.
    ///
    /// # Errors
    /// When the kernel has no sock_diag.
    pub(super) fn new(ports: Vec<u16>) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, ports })
    }

    /// How full the fullest of the queues is, 0 to 1; 0 where nothing listens.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn fullest(&mut self) -> io::Result<f64> {
        let mut fullest = 0.0_f64;
        for family in [AF_INET, AF_INET6] {
            self.ask(family)?;
            self.hear(|message| {
                let SockDiagMessage::InetResponse(response) = message else { return };
                let header = &response.header;
                // Of a listening socket: how many wait, and how many may (`tcp_diag_get_info`).
                if self.ports.contains(&header.socket_id.source_port) && header.send_queue != 0 {
                    let full = f64::from(header.recv_queue) / f64::from(header.send_queue);
                    fullest = fullest.max(full);
                }
            })?;
        }
        Ok(fullest)
    }

    fn ask(&self, family: u8) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            // Nothing else: a dump of all connections takes the kernel long.
            states: StateFlags::LISTEN,
            socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
        };
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Hands over each message of an answer.
    fn hear(&self, mut take: impl FnMut(SockDiagMessage)) -> io::Result<()> {
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = &*datagram;
            while !rest.is_empty() {
                let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                // Messages begin at multiples of four octets (NLMSG_ALIGN).
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => take(message),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn connections_that_nobody_accepts_fill_the_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let Ok(mut backlog) = Backlog::new(vec![address.port()]) else { return };
        assert_eq!(backlog.fullest().expect("known"), 0.0);
        let _waiting: Vec<_> =
            (0..8).map(|_| TcpStream::connect(address).expect("connected")).collect();
        // The standard library's own length of the queue is 128, or what the host allows.
        let full = backlog.fullest().expect("known");
        assert!((0.001..0.5).contains(&full), "{full}");
        let mut other = Backlog::new(vec![0]).expect("a socket");
        assert_eq!(other.fullest().expect("known"), 0.0, "of another port");
    }
}
