//! Packets on the wire, at two levels: views over bytes that may be nonsense
//! (from `pnet_packet`), and [`Packet`]/[`Segment`], which cannot be.

mod segment;

pub use segment::{Flags, Options, Packet, SackBlocks, Segment, Timestamps};
