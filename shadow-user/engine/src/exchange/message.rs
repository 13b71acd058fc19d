//! What an exchange consists of: values that own what they hold, so that another thread can look at them.

use std::net::SocketAddr;

use shadow_common::counters;

use crate::time::{Duration, Instant};

/// Who answered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Leg {
    /// The server that answers the client.
    Production,
    /// The server under test.
    Shadow,
}

impl Leg {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Production, Self::Shadow];

    /// Its place in an array of both.
    #[must_use]
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Production => 0,
            Self::Shadow => 1,
        }
    }
}

/// What the client speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1 (RFC 9112).
    Http1,
    /// HTTP/2 without TLS (RFC 9113), gRPC included.
    Http2,
    /// Redis' protocol (RESP2 and RESP3).
    Redis,
}

/// One request, and what became of it on both legs.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What the client speaks.
    pub protocol: Protocol,
    /// The client's address and port.
    pub client: SocketAddr,
    /// Production's address and port, as the client knows it.
    pub server: SocketAddr,
    /// Counts a flow's requests from 0; in HTTP/2 the stream's identifier.
    pub number: u64,
    /// What the client asked.
    pub request: Request,
    /// What production answered.
    pub production: Result<Response, Unpaired>,
    /// What the shadow answered.
    pub shadow: Result<Response, Unpaired>,
}

impl Exchange {
    /// What its request is told apart by from all others of this client and server.
    #[must_use]
    pub fn id(&self) -> u64 {
        request_id(self.request.at, self.number)
    }
}

/// What an HTTP/1 request is told apart by from all others of one client and server: `at` is when its
/// first octet was captured, and `number` counts its flow's requests from 0.
#[must_use]
pub fn request_id(at: Instant, number: u64) -> u64 {
    // Requests that were captured in one packet have one time, and numbers one after the other.
    at.as_nanos().wrapping_add(number)
}

/// A client's request.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its first octet was captured.
    pub at: Instant,
    /// HTTP's method, Redis' command; letters as they came.
    pub method: Box<str>,
    /// HTTP's request target (path and query as a rule); empty for Redis.
    pub target: Box<str>,
    /// Its head.
    pub head: Head,
    /// Its body.
    pub body: Body,
}

/// A final response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its outcome in one word.
    pub status: Status,
    /// Its head.
    pub head: Head,
    /// Fields behind the body, where there are.
    pub trailers: Head,
    /// Its body.
    pub body: Body,
    /// When the request's first octet went this way: captured for production, sent for the shadow.
    pub asked_at: Instant,
    /// When the response's first octet came.
    pub first_at: Instant,
    /// When its last octet came.
    pub ended_at: Instant,
}

impl Response {
    /// From the request's first octet to the response's last.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.ended_at.since(self.asked_at)
    }
}

/// How a response says that it went.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Status {
    /// HTTP's status code.
    Http(u16),
    /// gRPC's status, which stands in the trailers of an HTTP/2 response with 200.
    Grpc(u16),
    /// A Redis reply: its type by its first octet (`+`, `-`, `:`, `$`, `*`, …).
    Redis(u8),
}

/// A field's name and value.
pub type Field = (Box<[u8]>, Box<[u8]>);

/// A message's head.
#[derive(Clone, Debug)]
pub enum Head {
    /// An HTTP/1 head, octet by octet, its empty line included; or its trailer section.
    Http1(Box<[u8]>),
    /// Names and values, as HTTP/2 has them; pseudo-fields are left out.
    Fields(Vec<Field>),
}

impl Default for Head {
    fn default() -> Self {
        Self::Fields(Vec::new())
    }
}

impl Head {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Http1(octets) => octets.is_empty(),
            Self::Fields(fields) => fields.is_empty(),
        }
    }
}

/// A message's body.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Body {
    /// Octets, transfer coding removed, content coding not.
    pub len: u64,
    /// The first octets, up to the bound; none unless bodies are compared.
    pub kept: Vec<u8>,
    /// Of all octets, when bodies are compared: equal bodies have equal hashes within a run.
    pub hash: Option<u64>,
}

impl Body {
    /// Whether every octet was kept.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.kept.len() as u64 == self.len
    }
}

counters! {
    /// Why a request has no response on a leg.
    #[derive(Hash)]
    Unpaired {
        /// The connection was closed before an answer had come, or within it.
        Closed = "closed",
        /// The session was reset, or never begun, for a reason that the flow's bucket names.
        Aborted = "aborted",
        /// The answer is not of the protocol.
        Unparsable = "unparsable",
        /// Octets of the answer were not captured.
        Lost = "lost",
        /// A bound was reached: too many exchanges were waiting, or memory was short.
        Shed = "shed",
        /// Another protocol followed (an upgrade, CONNECT).
        Tunnel = "tunnel",
    }
}
