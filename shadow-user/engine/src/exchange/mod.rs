//! Exchanges: each request of a client with production's response and the shadow's.
//!
//! A session hands in three streams, in order and with the times of one clock: what the client
//! sent, what production answered and what the shadow answered. [`Exchanges`] finds the messages in
//! them, by the protocol that the client speaks, and pairs them. Comparing is not done here: an
//! [`Exchange`] is handed out and belongs to whoever takes it.

mod message;

pub use message::{
    Body, Exchange, Field, Head, Leg, Protocol, Request, Response, Status, Unpaired,
};

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::time::Instant;

/// How much of the answers is looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Depth {
    /// Nothing.
    #[default]
    Off,
    /// Heads and framing: bodies are counted, not kept.
    Status,
    /// Whole messages: bodies are kept up to a bound, and hashed.
    Body,
}

/// The bounds of what exchanges keep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How deep.
    pub depth: Depth,
    /// Octets of one body that are kept; the rest is hashed as it streams.
    pub body: usize,
    /// Exchanges of one flow that wait for a response; beyond, the oldest is given up.
    pub pending: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: Depth::Off, body: 64 << 10, pending: 1_024 }
    }
}

/// The next stretch of a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece<'a> {
    /// Octets.
    Bytes(&'a [u8]),
    /// So many octets that were not captured: of a body that [`Exchanges::skippable`] had told to be
    /// of no use.
    Skipped(u64),
}

/// The messages of one flow, and of its session, on their way to being paired.
#[derive(Debug)]
pub struct Exchanges {
    limits: Limits,
    client: SocketAddr,
    server: SocketAddr,
    done: VecDeque<Exchange>,
}

impl Exchanges {
    /// For a flow of which every stream is seen from its beginning, or from a request on.
    #[must_use]
    pub fn new(limits: Limits, client: SocketAddr, server: SocketAddr) -> Self {
        Self { limits, client, server, done: VecDeque::new() }
    }

    /// The client's next octets, in order, captured at `at`.
    pub fn requested(&mut self, _bytes: &[u8], _at: Instant) {}

    /// The client's stream up to `_offset` went to the shadow for the first time at `_at`.
    pub fn forwarded(&mut self, _offset: u64, _at: Instant) {}

    /// The next stretch of what `leg` answered; captured `at`.
    pub fn answered(&mut self, _leg: Leg, _piece: Piece<'_>, _at: Instant) {}

    /// No more will come from `leg`: it has closed, or its stream can no longer be followed.
    pub fn ended(&mut self, _leg: Leg, _reason: Unpaired, _at: Instant) {}

    /// Octets of production's stream, from where it stands, that need not be captured.
    #[must_use]
    pub fn skippable(&self) -> u64 {
        0
    }

    /// The session is over: what is still waiting will not be answered.
    pub fn settle(&mut self, _reason: Unpaired) {}

    /// The next exchange that is complete, or will never be.
    pub fn poll(&mut self) -> Option<Exchange> {
        self.done.pop_front()
    }

    /// Heap octets.
    #[must_use]
    pub fn memory(&self) -> usize {
        let _ = (self.limits, self.client, self.server);
        self.done.capacity() * size_of::<Exchange>()
    }
}
