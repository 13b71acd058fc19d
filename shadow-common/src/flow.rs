//! The flows whose answers are copied: key and value of the `FLOWS` map.

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// A connection of a client with production.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct FlowKey {
    /// The client's address.
    pub client: Address,
    /// Production's address, as the client knows it.
    pub production: Address,
    /// The client's port, network byte order.
    pub client_port: [u8; 2],
    /// Production's port, network byte order.
    pub production_port: [u8; 2],
}

const _: () = assert!(size_of::<FlowKey>() == 36);

/// What is wanted of production's packets in one flow.
///
/// The tap adds a flow with all zeros, [`Wanted::All`], when it copies data of its client, and makes
/// it so again at a SYN: the sequence numbers are then those of another connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct FlowRule {
    /// A [`Wanted`] as its number.
    pub wanted: u32,
    /// Of [`Wanted::AllBut`]: the first sequence number of what is not wanted, host byte order.
    pub from: u32,
    /// Of [`Wanted::AllBut`]: the number behind it; fewer than 2^31 ahead of `from`.
    pub until: u32,
}

const _: () = assert!(size_of::<FlowRule>() == 12);

impl FlowRule {
    /// Everything.
    pub const ALL: Self = Self { wanted: Wanted::All as u32, from: 0, until: 0 };
    /// Nothing.
    pub const NOTHING: Self = Self { wanted: Wanted::Nothing as u32, from: 0, until: 0 };

    /// Everything but the payload of segments that lie wholly within `from..until`.
    #[must_use]
    pub const fn all_but(from: u32, until: u32) -> Self {
        Self { wanted: Wanted::AllBut as u32, from, until }
    }

    /// Whether the payload of `len` octets from `seq` on is of no use.
    #[inline(always)]
    #[must_use]
    pub const fn leaves_out(self, seq: u32, len: u32) -> bool {
        // Distances from `from`, so that numbers may wrap in between.
        let (begin, span) = (seq.wrapping_sub(self.from), self.until.wrapping_sub(self.from));
        self.wanted == Wanted::AllBut as u32 && begin < span && len <= span - begin
    }
}

/// How much of production's packets is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Wanted {
    /// Every packet whole.
    All = 0,
    /// Every packet, but not the payload of a range.
    AllBut = 1,
    /// No packet.
    Nothing = 2,
}

/// The most flows in `FLOWS`. A flow that was driven out comes back with its client's next data, so
/// that there need be room only for flows that wait for an answer.
pub const MAX_TRACKED: u32 = 65_536;

/// The fewest: an LRU map keeps some entries for each CPU.
pub const MIN_TRACKED: u32 = 4_096;

#[cfg(feature = "user")]
mod pod {
    #![expect(clippy::undocumented_unsafe_blocks, reason = "one SAFETY line serves both")]
    // SAFETY: each type is `repr(C)` and `bytemuck::Pod`: no padding, no pointers, any bits valid.
    unsafe impl aya::Pod for super::FlowKey {}
    unsafe impl aya::Pod for super::FlowRule {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_wholly_within_the_range_is_left_out() {
        for from in [1_000, u32::MAX - 50, 0] {
            let rule = FlowRule::all_but(from, from.wrapping_add(100));
            let at = |ahead: u32| from.wrapping_add(ahead);
            assert!(rule.leaves_out(from, 100));
            assert!(rule.leaves_out(at(40), 60));
            assert!(!rule.leaves_out(from, 101));
            assert!(!rule.leaves_out(at(40), 61));
            assert!(!rule.leaves_out(at(100), 1));
            assert!(!rule.leaves_out(from.wrapping_sub(1), 10));
            assert!(!rule.leaves_out(at(1 << 31), 10));
        }
        assert!(!FlowRule::ALL.leaves_out(0, 0));
        assert!(!FlowRule::NOTHING.leaves_out(0, 0));
    }
}
