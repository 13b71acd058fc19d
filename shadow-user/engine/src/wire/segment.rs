//! A validated TCP segment (RFC 9293, 3.1) and the addresses it travels between.

use std::net::SocketAddr;

use crate::seq::SeqNum;

/// A TCP segment with the addresses and ports of the packet that carries it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet<'a> {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port; of the same family as `source`.
    pub destination: SocketAddr,
    /// The TCP segment.
    pub segment: Segment<'a>,
}

/// A TCP segment; field names are RFC 9293's `SEG.*`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Segment<'a> {
    /// SEG.SEQ: sequence number of the first octet (of SYN, if SYN is set).
    pub seq: SeqNum,
    /// SEG.ACK: meaningful only when `flags.ack` is set.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// SEG.WND as on the wire, unscaled.
    pub wnd: u16,
    /// SEG.UP: meaningful only when `flags.urg` is set.
    pub up: u16,
    /// TCP options that this engine understands.
    pub options: Options,
    /// The data octets.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// SEG.LEN: octets of sequence space, counting SYN and FIN (RFC 9293, 3.4).
    #[must_use]
    pub fn len(&self) -> u32 {
        // A payload is bounded by the IP length field, so it fits 32 bits.
        self.payload.len() as u32 + u32::from(self.flags.syn) + u32::from(self.flags.fin)
    }

    /// Whether the segment occupies no sequence space.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Control bits of a segment. ECN bits are not carried: the mirror does not negotiate ECN.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a bit of the TCP header")]
pub struct Flags {
    /// Urgent pointer field significant.
    pub urg: bool,
    /// Acknowledgment field significant.
    pub ack: bool,
    /// Push function.
    pub psh: bool,
    /// Reset the connection.
    pub rst: bool,
    /// Synchronize sequence numbers.
    pub syn: bool,
    /// No more data from sender.
    pub fin: bool,
}

/// The TCP options that matter to either leg; unknown ones are skipped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// Maximum segment size, octets (RFC 9293, 3.7.1). SYN only.
    pub mss: Option<u16>,
    /// Window scale shift count, at most 14 (RFC 7323, 2.2). SYN only.
    pub window_scale: Option<u8>,
    /// SACK permitted (RFC 2018, 2). SYN only.
    pub sack_permitted: bool,
    /// Timestamps (RFC 7323, 3.2).
    pub timestamps: Option<Timestamps>,
    /// SACK blocks (RFC 2018, 3).
    pub sack: SackBlocks,
}

/// The timestamps option (RFC 7323, 3.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub value: u32,
    /// TSecr: the peer's clock, echoed; meaningful only with ACK.
    pub echo_reply: u32,
}

/// Up to four SACK blocks, each `[left edge, right edge)` (RFC 2018, 3).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SackBlocks {
    blocks: [(SeqNum, SeqNum); 4],
    len: u8,
}

impl SackBlocks {
    /// The most blocks that fit a TCP header without other options.
    pub const MAX: usize = 4;

    /// Appends a block; false (and unchanged) when there is no room.
    pub fn push(&mut self, left: SeqNum, right: SeqNum) -> bool {
        let Some(slot) = self.blocks.get_mut(usize::from(self.len)) else { return false };
        *slot = (left, right);
        self.len += 1;
        true
    }

    /// The blocks in the order of the header.
    pub fn iter(&self) -> impl Iterator<Item = (SeqNum, SeqNum)> + '_ {
        self.blocks.iter().take(usize::from(self.len)).copied()
    }

    /// How many blocks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
