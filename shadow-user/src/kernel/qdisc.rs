//! The clsact qdisc, on which programs hang where the kernel has no TCX.

use std::io;

use aya::programs::tc::qdisc_add_clsact;
use aya::programs::{ProgramError, TcError};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcHandle, TcMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use super::error::root_io;

/// A clsact qdisc that was added here. On drop it is removed, unless others use it by then.
pub(super) struct Clsact {
    /// Opened when the qdisc was added, and so in its network namespace.
    socket: Socket,
    index: i32,
}

impl Clsact {
    /// Adds the qdisc to an interface; `None` when it has one already.
    pub(super) fn add(interface: &str, index: u32) -> Result<Option<Self>, ProgramError> {
        match qdisc_add_clsact(interface) {
            Ok(()) => {}
            Err(error) if raw(&error) == Some(libc::EEXIST) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(TcError::IoError)?;
        socket.bind_auto().map_err(TcError::IoError)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(TcError::IoError)?;
        Ok(Some(Self { socket, index: index.cast_signed() }))
    }

    /// Whether a filter hangs on the qdisc, ours or another's.
    fn is_used(&self) -> io::Result<bool> {
        for minor in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
            let mut message = TcMessage::with_index(self.index);
            message.header.parent = TcHandle { major: TcHandle::CLSACT.major, minor };
            let request = RouteNetlinkMessage::GetTrafficFilter(message);
            if self.ask(request, NLM_F_DUMP)? != 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn remove(&self) -> io::Result<()> {
        let mut message = TcMessage::with_index(self.index);
        message.header.handle = TcHandle { major: TcHandle::CLSACT.major, minor: 0 };
        message.header.parent = TcHandle::CLSACT;
        self.ask(RouteNetlinkMessage::DelQueueDiscipline(message), NLM_F_ACK).map(drop)
    }

    /// Sends a request and reads the answer to its end; how many objects it named.
    fn ask(&self, request: RouteNetlinkMessage, flags: u16) -> io::Result<usize> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut objects = 0;
        loop {
            let (answer, _) = self.socket.recv_from_full()?;
            let mut rest = answer.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(objects),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) => return Ok(objects),
                    _ => objects += 1,
                }
                let len = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(len.max(4)..).unwrap_or_default();
            }
        }
    }
}

impl Drop for Clsact {
    fn drop(&mut self) {
        // An interface that is gone has taken the qdisc with it, and in doubt it stays: empty, it
        // costs nothing.
        if self.is_used().is_ok_and(|used| !used) {
            let _ = self.remove();
        }
    }
}

/// The error number at the bottom of an error.
pub(super) fn raw(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    root_io(error).and_then(io::Error::raw_os_error)
}
