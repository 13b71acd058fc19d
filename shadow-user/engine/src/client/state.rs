//! Connection states (RFC 9293, 3.3.2).

use std::fmt;

/// The states that a connection opened actively can reach.
///
/// ```text
///                        connect / snd SYN
///                               │
///                          ┌────▼─────┐  RST, timeout, abort
///                          │ SYN-SENT ├─────────────────────────► CLOSED
///                          └────┬─────┘
///                               │ rcv SYN,ACK / snd ACK
///        close / snd FIN   ┌────▼─────┐  rcv FIN / snd ACK
///      ┌───────────────────┤  ESTAB   ├───────────────────┐
///      │                   └──────────┘                   │
/// ┌────▼─────┐ rcv FIN / snd ACK  ┌─────────┐       ┌─────▼──────┐
/// │FIN-WAIT-1├───────────────────►│ CLOSING │       │ CLOSE-WAIT │
/// └────┬─────┘                    └────┬────┘       └─────┬──────┘
///      │ rcv ACK of FIN                │ rcv ACK of FIN   │ close / snd FIN
/// ┌────▼─────┐ rcv FIN / snd ACK  ┌────▼────┐       ┌─────▼──────┐
/// │FIN-WAIT-2├───────────────────►│TIME-WAIT│       │  LAST-ACK  │
/// └──────────┘                    └────┬────┘       └─────┬──────┘
///                                      │ timeout          │ rcv ACK of FIN
///                                      └────► CLOSED ◄────┘
/// ```
///
/// LISTEN is not reached: the mirror opens no port. SYN-RECEIVED is not reached either, since
/// a simultaneous open is refused: a shadow is a server and sends no SYN of its own from the
/// port that it listens on, so a SYN without ACK is stray or forged and is dropped.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// A SYN was (or is about to be) sent; the answer is awaited.
    SynSent,
    /// Data flows both ways.
    Established,
    /// Our FIN was sent and is not acknowledged; the peer may still send.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// Both FINs were sent, ours is not acknowledged: simultaneous close.
    Closing,
    /// Both streams are complete; a lost last ACK can still be repeated.
    TimeWait,
    /// The peer's FIN was received; we may still send.
    CloseWait,
    /// The peer's FIN was received, our FIN was sent and is not acknowledged.
    LastAck,
    /// No connection.
    Closed,
}

impl State {
    /// The state after our FIN was sent.
    pub(super) fn send_fin(self) -> Self {
        match self {
            Self::Established => Self::FinWait1,
            Self::CloseWait => Self::LastAck,
            other => other,
        }
    }

    /// The state after our FIN was acknowledged.
    pub(super) fn fin_acknowledged(self) -> Self {
        match self {
            Self::FinWait1 => Self::FinWait2,
            Self::Closing => Self::TimeWait,
            Self::LastAck => Self::Closed,
            other => other,
        }
    }

    /// The state after the peer's FIN was reached in order.
    pub(super) fn receive_fin(self) -> Self {
        match self {
            Self::Established => Self::CloseWait,
            Self::FinWait1 => Self::Closing,
            Self::FinWait2 => Self::TimeWait,
            other => other,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SynSent => "SYN-SENT",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::Closing => "CLOSING",
            Self::TimeWait => "TIME-WAIT",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Closed => "CLOSED",
        })
    }
}
