//! Packets on the wire, at two levels: views over bytes that may be nonsense
//! (from `pnet_packet`), and [`Packet`]/[`Segment`], which cannot be.
//!
//! What production's Linux would throw away is an error here ([`Malformed`]),
//! and what it would tolerate is tolerated, so that the mirror sees the very
//! segments that production's TCP sees.

mod checksum;
mod emit;
mod icmp;
mod ip;
mod options;
mod parse;
mod segment;

pub use emit::{emit, emit_partial};
pub use icmp::{IcmpError, IcmpReason};
pub use ip::addresses;
pub use parse::{Malformed, ends_of_reply};
pub use segment::{Flags, Options, Packet, SackBlocks, Segment, Timestamps};

#[cfg(test)]
mod tests;
