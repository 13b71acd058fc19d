//! Exchanges: each request of a client with production's response and the shadow's.
//!
//! A session hands in three streams, in order and with the times of one clock: what the client
//! sent, what production answered and what the shadow answered. [`Exchanges`] finds the messages in
//! them, by the protocol that the client speaks, and pairs them. Comparing is not done here: an
//! [`Exchange`] is handed out and belongs to whoever takes it.

mod body;
mod fate;
mod http1;
mod http2;
mod message;
mod pairs;
mod parser;
mod recognise;
mod redis;

pub use fate::Fate;
pub use message::{
    Body, Exchange, Field, Head, Leg, Protocol, Request, Response, Status, Unpaired, request_id,
};

use std::net::SocketAddr;

use fate::Fates;
use http1::Http1;
use http2::Http2;
use pairs::Pairs;
use parser::Parser;
use recognise::recognise;
use redis::Redis;

use crate::http::{MAX_HEAD_LEN, Recognition};
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

/// What is known of a flow's protocol.
#[derive(Debug)]
enum State {
    /// Too little was seen. Octets of the client, and when the first came.
    Unknown(Vec<u8>, Instant),
    /// This one.
    Speaks(Box<dyn Parser>),
    /// None that is known, or the session is over.
    None,
}

/// The messages of one flow, and of its session, on their way to being paired.
#[derive(Debug)]
pub struct Exchanges {
    state: State,
    pairs: Pairs,
    /// Octets of each leg that answer no request that was seen so far.
    early: [Early; 2],
}

/// What a leg said before a request was seen that it answers: captures of the two directions may
/// overtake each other.
#[derive(Debug, Default)]
struct Early {
    octets: Vec<u8>,
    /// When the last of them came.
    at: Instant,
}

impl Exchanges {
    /// For a flow of which every stream is seen from its beginning, or from a request on.
    #[must_use]
    pub fn new(limits: Limits, client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            state: match limits.depth {
                Depth::Off => State::None,
                Depth::Status | Depth::Body => State::Unknown(Vec::new(), Instant::default()),
            },
            pairs: Pairs::new(limits, client, server),
            early: Default::default(),
        }
    }

    /// HTTP/1 requests are edited on their way to the shadow: of each, [`Self::decided`] tells what
    /// became of it.
    pub fn expect_fates(&mut self) {
        self.pairs.fates = Some(Fates::default());
    }

    /// What became of the next requests, in order; told before anything of the request goes to the
    /// shadow, and before [`Self::requested`] is handed the last octet of its head when it is sent by then.
    pub fn decided(&mut self, fates: impl Iterator<Item = Fate>) {
        for fate in fates {
            // Only HTTP/1 takes them.
            let taken = match &mut self.state {
                State::None => true,
                State::Speaks(parser) => parser.decided(fate, &mut self.pairs),
                State::Unknown(..) => false,
            };
            if let (false, Some(queue)) = (taken, &mut self.pairs.fates) {
                queue.push(fate);
            }
        }
    }

    /// Nothing more is decided: requests of which nothing was are none.
    pub fn decided_no_more(&mut self) {
        if let State::Speaks(parser) = &mut self.state {
            while parser.decided(Fate::LeftOut, &mut self.pairs) {}
        }
    }

    /// The client's next octets, in order, captured at `at`.
    pub fn requested(&mut self, bytes: &[u8], at: Instant) {
        match &mut self.state {
            State::None => return,
            State::Speaks(parser) => parser.requested(bytes, at, &mut self.pairs),
            State::Unknown(begun, begun_at) => {
                let seen = begun.len();
                if seen == 0 {
                    *begun_at = at;
                } else {
                    begun.extend_from_slice(bytes);
                }
                let mut parser = match recognise(if seen == 0 { bytes } else { begun }) {
                    Ok(protocol) => speak(protocol),
                    Err(Recognition::NeedMore) => {
                        if seen == 0 {
                            begun.extend_from_slice(bytes);
                        }
                        return;
                    }
                    Err(_) => {
                        self.state = State::None;
                        self.early = Default::default();
                        return;
                    }
                };
                if let Some(seen) = begun.get(..seen) {
                    parser.requested(seen, *begun_at, &mut self.pairs);
                }
                parser.requested(bytes, at, &mut self.pairs);
                self.state = State::Speaks(parser);
            }
        }
        for leg in Leg::BOTH {
            let early = &mut self.early[leg.index()];
            if !early.octets.is_empty() {
                let Early { octets, at: came_at } = std::mem::take(early);
                // What came before the request is no answer to it.
                let answers = came_at >= at
                    || matches!(&self.state, State::Speaks(parser) if !parser.holds_order());
                if answers && self.pairs.over(leg).is_none() {
                    self.parse(leg, Piece::Bytes(&octets), came_at);
                }
            }
        }
    }

    /// The client's stream up to `offset` went to the shadow for the first time at `at`.
    pub fn forwarded(&mut self, offset: u64, at: Instant) {
        self.pairs.forwarded(offset, at);
    }

    /// The next stretch of what `leg` answered; captured `at`.
    pub fn answered(&mut self, leg: Leg, piece: Piece<'_>, at: Instant) {
        if self.pairs.over(leg).is_some() {
            return;
        }
        if leg == Leg::Production {
            self.pairs.hear(match piece {
                Piece::Bytes(bytes) => bytes.len() as u64,
                Piece::Skipped(octets) => octets,
            });
        }
        self.parse(leg, piece, at);
    }

    fn parse(&mut self, leg: Leg, piece: Piece<'_>, at: Instant) {
        let early = &mut self.early[leg.index()];
        match (&mut self.state, piece) {
            (State::None, _) => {}
            (State::Speaks(parser), Piece::Bytes(bytes)) if early.octets.is_empty() => {
                let used = parser.answered(leg, bytes, at, &mut self.pairs);
                if self.pairs.over(leg).is_some() {
                    parser.give_up(leg, &self.pairs);
                } else if let Some(rest) = bytes.get(used..)
                    && !rest.is_empty()
                {
                    self.hold(leg, rest, at);
                }
            }
            (State::Unknown(..) | State::Speaks(_), Piece::Bytes(bytes)) => {
                self.hold(leg, bytes, at);
            }
            (State::Speaks(parser), Piece::Skipped(octets)) if early.octets.is_empty() => {
                if parser.skipped(leg, octets, at, &mut self.pairs) < octets {
                    self.give_up(leg, Unpaired::Lost);
                }
            }
            (State::Unknown(..) | State::Speaks(_), Piece::Skipped(_)) => {
                self.give_up(leg, Unpaired::Lost);
            }
        }
    }

    /// No more will come from `leg`: it has closed, or its stream can no longer be followed.
    pub fn ended(&mut self, leg: Leg, reason: Unpaired, at: Instant) {
        if self.pairs.over(leg).is_some() {
            return;
        }
        if reason == Unpaired::Closed
            && let State::Speaks(parser) = &mut self.state
        {
            parser.closed(leg, at, &mut self.pairs);
        }
        self.give_up(leg, reason);
    }

    /// How many octets of production's stream a client has seen at least that knows of an answer
    /// which the shadow has still to give. Counted from the flow's first, and up to the end of the
    /// piece in which the answer ends.
    #[must_use]
    pub fn owed_from(&self) -> Option<u64> {
        self.pairs.owed_from()
    }

    /// Up to how many octets of production's stream all that was answered is whole and known: of
    /// what a client had seen by then, [`Self::owed_from`] tells everything. 0 if that cannot be said.
    #[must_use]
    pub fn known_to(&self) -> u64 {
        match &self.state {
            State::Speaks(parser)
                if matches!(self.pairs.over(Leg::Production), None | Some(Unpaired::Closed))
                    && self.early[Leg::Production.index()].octets.is_empty()
                    && parser.is_between(Leg::Production) =>
            {
                self.pairs.heard()
            }
            _ => 0,
        }
    }

    /// Octets of production's stream, from where it stands, that need not be captured.
    #[must_use]
    pub fn skippable(&self) -> u64 {
        match &self.state {
            State::Speaks(parser) if self.pairs.limits.depth == Depth::Status => {
                parser.skippable(Leg::Production)
            }
            _ => 0,
        }
    }

    /// The session is over: what is still waiting will not be answered.
    pub fn settle(&mut self, reason: Unpaired) {
        self.pairs.settle(reason);
        self.state = State::None;
        self.early = Default::default();
    }

    /// The next exchange that is complete, or will never be.
    pub fn poll(&mut self) -> Option<Box<Exchange>> {
        self.pairs.poll()
    }

    /// Heap octets.
    #[must_use]
    pub fn memory(&self) -> usize {
        let state = match &self.state {
            State::Unknown(begun, _) => begun.capacity(),
            State::Speaks(parser) => size_of_val(&**parser) + parser.memory(),
            State::None => 0,
        };
        let early: usize = self.early.iter().map(|early| early.octets.capacity()).sum();
        state + early + self.pairs.memory()
    }

    /// Keeps octets until the request is seen that they answer.
    fn hold(&mut self, leg: Leg, bytes: &[u8], at: Instant) {
        let early = &mut self.early[leg.index()];
        if early.octets.len() + bytes.len() > MAX_HEAD_LEN {
            self.give_up(leg, Unpaired::Unparsable);
            return;
        }
        early.octets.extend_from_slice(bytes);
        early.at = at;
    }

    fn give_up(&mut self, leg: Leg, reason: Unpaired) {
        self.early[leg.index()] = Early::default();
        self.pairs.end(leg, reason);
        if let State::Speaks(parser) = &mut self.state {
            parser.give_up(leg, &self.pairs);
        }
    }
}

/// The parser of a protocol.
fn speak(protocol: Protocol) -> Box<dyn Parser> {
    match protocol {
        Protocol::Http1 => Box::new(Http1::default()),
        Protocol::Http2 => Box::new(Http2::new()),
        Protocol::Redis => Box::new(Redis::default()),
    }
}

#[cfg(test)]
mod tests;
