//! One client's byte stream, put together from captured segments.
//!
//! The stream must be the one that production's application reads, so that the
//! rules are those of production's Linux (read in 6.18; `tcp_validate_incoming`,
//! `tcp_data_queue`, `tcp_data_queue_ofo`, `tcp_ofo_queue`), not merely RFC 9293's.
//!
//! # Which bytes win
//! Honest clients send the same bytes again. Where two segments give different
//! bytes for the same sequence numbers, what was delivered stays, and a segment
//! in order wins over what waits behind a hole: so does Linux.
//!
//! Of two that both wait, Linux may read either: it depends on which neighbours it
//! has joined into one buffer, so on the driver's memory layout, and on the shape
//! of its tree, which no capture shows. (Compared with 6.18 over a veth: of 200
//! conversations that contradicted themselves at random, the rules of
//! `tcp_data_queue_ofo` without joins gave 11 streams that the server had not
//! read, with joins 6; of 1,560 without such segments every one was equal.) So
//! such a segment is refused as [`QueueError::Ambiguous`]: a stream arrives whole
//! or not at all.
//!
//! # What is not taken
//! - Numbers 1 GiB and more from `rcv.nxt` (the largest window, RFC 7323, 2.3).
//!   Production's own window is not known here: a byte that it refused for lack
//!   of room (a zero-window probe of one byte) is taken, and is the same byte
//!   when it is sent again.
//! - Segments without ACK, or whose ACK is 1 GiB and more from the greatest seen
//!   (RFC 5961, 5.2).
//! - Segments with a timestamp that production must have left behind (PAWS,
//!   RFC 7323, 5): an old duplicate from before the numbers wrapped.
//! - RST, unless it has the exact number (RFC 5961, 3.2), or the one behind
//!   everything that waits, or, after FIN, FIN's own number, as Linux allows.
//! - SYN (RFC 5961, 4.2), but for data on the flow's own SYN (RFC 7413): it waits
//!   for the client's first ACK. If production refused it, the client sends the
//!   same bytes again.
//! - Anything behind a FIN.
//!
//! # Urgent data
//! The urgent octet stays in the stream, as RFC 6093 recommends and as Linux does
//! with `SO_OOBINLINE`. Without that option production's application would not
//! find it in the stream; [`Reassembler::urgent`] tells that there was one.

mod paws;
mod queue;
mod reassembler;

pub use queue::QueueError;
pub use reassembler::{Delivery, End, Outcome, Reassembler};

#[cfg(test)]
mod tests;
