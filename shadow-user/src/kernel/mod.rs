//! The daemon's edge to the kernel: the two programs and their maps, the rings that
//! packets arrive in, the sockets they leave by, and the clock that stamps them.
//!
//! Nothing here knows what a session is.

mod attach;
mod choose;
mod clock;
mod counters;
mod error;
mod neighbours;
mod packet_socket;
mod pin;
mod priority;
mod programs;
mod qdisc;
mod ring;
mod rings;
mod select;
mod send;
mod xfrm;

pub use attach::AttachMode;
pub use clock::now;
pub use counters::{Counts, KernelCounters};
pub use error::KernelError;
pub use neighbours::NeighbourSocket;
pub use pin::{PinnedGuard, Pinning, check_bpffs};
pub use priority::stand_back;
pub use programs::{LoadOptions, Programs, ResponseOptions};
pub use rings::{Drained, Rings};
pub use send::{MAX_BATCH, NextHop, SendStats, Sender, Unsent};
pub use xfrm::has_outgoing_policies;
