//! The report of exchanges: one JSON object a line, for whatever collects logs.

mod pick;
mod record;
mod sink;
mod writer;

pub use pick::{Only, Pick, Share};
pub use record::{ECS_VERSION, Told, Wall, reply, write};
pub use sink::{Sink, Target};
pub use writer::{Dropped, QUEUE_OCTETS, Reopen, Writer, Written};

#[cfg(test)]
mod tests;
