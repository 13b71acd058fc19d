//! What a connection tells its owner.

use strum::IntoStaticStr;

/// Something the owner of the connection has to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// The handshake is complete.
    Connected,
    /// The shadow's FIN was reached in order: it sends nothing more.
    PeerClosed,
    /// The connection is CLOSED; the last event.
    Closed(Close),
}

/// Why a connection is CLOSED.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "snake_case")]
pub enum Close {
    /// Both streams ended with FIN and every octet was acknowledged.
    Finished,
    /// RST answered the SYN.
    Refused,
    /// The shadow sent RST.
    Reset,
    /// Nothing was acknowledged for the user timeout, or the shadow kept its window shut
    /// or stayed silent in FIN-WAIT-2 for longer than policy allows.
    TimedOut,
    /// ICMP says that the shadow cannot be reached.
    Unreachable,
    /// The owner aborted.
    Aborted,
}

/// ICMP errors about this connection's segments, by what TCP may conclude.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreachable {
    /// Net or host unreachable, time exceeded, parameter problem (ICMP destination
    /// unreachable codes 0, 1, 5; ICMPv6 codes 0, 3): may pass.
    Soft,
    /// Protocol or port unreachable, administratively prohibited (ICMP codes 2, 3, 9, 10,
    /// 13; ICMPv6 codes 1, 4).
    Hard,
}

/// Events not yet taken: each happens at most once, in this order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Events {
    pub connected: bool,
    pub peer_closed: bool,
    pub closed: Option<Close>,
}

impl Events {
    pub fn poll(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.connected) {
            Some(Event::Connected)
        } else if std::mem::take(&mut self.peer_closed) {
            Some(Event::PeerClosed)
        } else {
            self.closed.take().map(Event::Closed)
        }
    }
}
