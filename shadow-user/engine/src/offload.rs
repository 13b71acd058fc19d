//! What is left to whoever sends a packet, so that it is not done for each segment.

use std::net::SocketAddr;

use crate::client::Outgoing;
use crate::wire;

/// Data octets that follow one header at most: with the longest headers an IPv4 packet's 65,535, and with
/// those of Ethernet not more than Linux' `GSO_LEGACY_MAX_SIZE`, beyond which it cuts them up itself.
const MOST: u32 = 65_280;

/// What is done to packets behind the engine, as by network cards.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Offload {
    /// Nothing: a packet goes as it is.
    #[default]
    None,
    /// The TCP checksum, which holds the pseudo-header's sum: Linux' `CHECKSUM_PARTIAL`.
    Checksum,
    /// That, and cutting data up into segments: TCP segmentation offload.
    Segmentation,
}

/// A packet that was appended, and what is left to do to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transmit {
    /// IP packets that it is, or is to be cut up into.
    pub packets: u32,
    /// Data octets of each of them but the last, when there are several.
    pub segment_size: u32,
}

impl Offload {
    /// Data octets of several segments in one; 0 for one segment at a time.
    pub(crate) const fn most(self) -> u32 {
        match self {
            Self::None | Self::Checksum => 0,
            Self::Segmentation => MOST,
        }
    }

    /// The same without cutting up.
    pub(crate) const fn of_single_segments(self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Checksum | Self::Segmentation => Self::Checksum,
        }
    }

    /// Appends one IP packet.
    pub(crate) fn emit(
        self,
        source: SocketAddr,
        destination: SocketAddr,
        outgoing: &Outgoing<'_>,
        buffer: &mut Vec<u8>,
    ) -> Transmit {
        let emit = match self {
            Self::None => wire::emit,
            Self::Checksum | Self::Segmentation => wire::emit_partial,
        };
        emit(source, destination, &outgoing.segment, outgoing.payload, buffer);
        Transmit { packets: outgoing.segments() as u32, segment_size: outgoing.segment_size }
    }
}
