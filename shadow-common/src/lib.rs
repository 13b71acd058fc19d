//! The contract between the eBPF programs and the daemon: what a ring record
//! looks like, how maps are keyed, and which counters the kernel side keeps.
//!
//! Everything here is plain data: `repr(C)`, no implicit padding, its size held
//! by a const assertion. Addresses and ports are in network byte order inside
//! byte arrays; every other integer is in host byte order.
#![no_std]

mod choice;
mod counter;
mod flow;
mod key;
mod record;
mod ring;

pub use choice::{Choice, ChoiceRule, ClientKey, MAX_CLIENTS, listed, place};
pub use counter::{Counter, GuardCounter, ResponseCounter, TapCounter};
pub use flow::{FlowKey, FlowRule, MAX_TRACKED, MIN_TRACKED, Wanted};
pub use key::{
    Address, GuardMode, GuardRule, MAX_OWN_ADDRESSES, MAX_SERVICES, MAX_SHADOWS, PORT_WORDS,
    ServiceKey, ShadowKey,
};
pub use record::{MAX_PACKET_LEN, MAX_PART_LEN, MAX_PARTS, RecordHeader, RecordKind};
pub use ring::Ring;
