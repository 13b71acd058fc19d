//! HTTP/1 message boundaries of one direction (RFC 9112): where each message
//! begins and ends in a stream of bytes, and no more.
//!
//! Heads and chunk sizes are read by `httparse`, chosen because hyper's servers
//! and clients stand on it; the message body length follows RFC 9112, 6.3.
//! Bodies are counted, never kept; only a head, or a chunk's size line, that is
//! split over pushes is buffered, bounded by [`MAX_HEAD_LEN`]. Who wants the
//! octets is a [`Visitor`].

mod body;
mod fields;
mod head;
mod recognise;
mod requests;
mod responses;
mod visitor;

pub use recognise::{Recognition, looks_like_request};
pub use requests::{RequestEvent, Requests};
pub use responses::{ResponseEvent, Responses};
pub use visitor::Visitor;

/// The longest head (and trailer section) that is read, octets: the largest
/// limit among common servers' defaults.
pub const MAX_HEAD_LEN: usize = 64 * 1024;

/// What a request's method means for message boundaries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// The response has no body.
    Head,
    /// A 2xx response turns the connection into a tunnel.
    Connect,
    /// Any other.
    Other,
}

/// Why a stream's message boundaries cannot be told any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HttpError {
    /// The head is not HTTP/1.
    #[error("malformed head: {0}")]
    Head(httparse::Error),
    /// The head or the trailer section is longer than [`MAX_HEAD_LEN`].
    #[error("head longer than {MAX_HEAD_LEN} octets")]
    HeadTooLong,
    /// Content-Length is no number, or several that differ (RFC 9112, 6.3, 5).
    #[error("invalid or contradictory Content-Length")]
    ContentLength,
    /// A transfer coding that leaves the length open (RFC 9112, 6.3, 4 and 6.1).
    #[error("transfer coding without a determined length")]
    TransferEncoding,
    /// A chunk's size line or its end is malformed (RFC 9112, 7.1).
    #[error("malformed chunk")]
    Chunk,
    /// The stream ended within a message.
    #[error("stream ended within a message")]
    Truncated,
}

impl From<httparse::Error> for HttpError {
    fn from(error: httparse::Error) -> Self {
        Self::Head(error)
    }
}

#[cfg(test)]
mod tests;
