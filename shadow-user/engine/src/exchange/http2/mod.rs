//! HTTP/2 without TLS (RFC 9113): responses are found by their stream. The client sends the same
//! octets to both legs; what each answers has a state of its own.
//!
//! A flow is followed from the connection's first octet on, or from an upgrade of HTTP/1: what header
//! compression refers to must have been seen.

mod frames;
mod hpack;
mod requests;
mod responses;
mod streams;

use frames::Splitter;
use hpack::Decoder;
use requests::Asking;
use responses::Answering;
use streams::Streams;

use super::pairs::Pairs;
use super::parser::Parser;
use super::{Leg, Unpaired};
use crate::time::Instant;

/// What a client sends first (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One flow that speaks HTTP/2.
#[derive(Debug, Default)]
pub(super) struct Http2 {
    client: Direction,
    /// Octets of the preface that were seen.
    preface: usize,
    /// The client's stream cannot be read any further.
    left: bool,
    streams: Streams,
    legs: [Direction; 2],
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Direction {
    frames: Splitter,
    decoder: Decoder,
}

impl Direction {
    fn memory(&self) -> usize {
        self.frames.memory() + self.decoder.memory()
    }
}

impl Http2 {
    /// From the connection's first octet on.
    pub fn new() -> Self {
        let client = Direction { frames: Splitter::at(PREFACE.len() as u64), ..Default::default() };
        Self { client, ..Self::default() }
    }

    /// Behind an HTTP/1 request that asked for this protocol: its response comes on stream 1 (RFC
    /// 7540, 3.2). The preface begins at `offset` of the client's stream.
    pub fn upgraded(offset: u64, ordinal: u64) -> Self {
        let frames = Splitter::at(offset + PREFACE.len() as u64);
        let client = Direction { frames, ..Direction::default() };
        let mut http2 = Self { client, ..Self::default() };
        http2.streams.adopt(ordinal);
        http2
    }
}

impl Parser for Http2 {
    fn requested(&mut self, bytes: &[u8], at: Instant, pairs: &mut Pairs) {
        if self.left {
            return;
        }
        let mut rest = bytes;
        if let Some(expected) = PREFACE.get(self.preface..)
            && !expected.is_empty()
        {
            let len = expected.len().min(rest.len());
            let (preface, behind) = rest.split_at(len);
            self.left = !expected.starts_with(preface);
            self.preface += len;
            rest = behind;
        }
        let Direction { frames, decoder } = &mut self.client;
        let mut asking = Asking { pairs, streams: &mut self.streams, decoder };
        if self.left || frames.push(rest, at, &mut asking).is_err() {
            asking.fail();
            self.left = true;
            self.client = Direction::default();
        }
    }

    fn answered(&mut self, leg: Leg, bytes: &[u8], at: Instant, pairs: &mut Pairs) -> usize {
        if pairs.over(leg).is_some() {
            return bytes.len();
        }
        let Direction { frames, decoder } = &mut self.legs[leg.index()];
        let mut answering = Answering { pairs, streams: &mut self.streams, decoder, leg, at };
        frames.push(bytes, at, &mut answering).unwrap_or_else(|_| {
            pairs.end(leg, Unpaired::Unparsable);
            bytes.len()
        })
    }

    fn skipped(&mut self, leg: Leg, octets: u64, at: Instant, pairs: &mut Pairs) -> u64 {
        let Direction { frames, decoder } = &mut self.legs[leg.index()];
        let mut answering = Answering { pairs, streams: &mut self.streams, decoder, leg, at };
        frames.skip(octets, &mut answering)
    }

    fn closed(&mut self, _leg: Leg, _at: Instant, _pairs: &mut Pairs) {}

    fn give_up(&mut self, leg: Leg, pairs: &Pairs) {
        self.legs[leg.index()] = Direction::default();
        self.streams.give_up(leg, pairs);
    }

    fn skippable(&self, leg: Leg) -> u64 {
        self.legs[leg.index()].frames.left()
    }

    fn holds_order(&self) -> bool {
        false
    }

    fn is_between(&self, leg: Leg) -> bool {
        !self.streams.is_answering(leg)
    }

    fn memory(&self) -> usize {
        let legs: usize = self.legs.iter().map(Direction::memory).sum();
        self.client.memory() + legs + self.streams.memory()
    }
}

#[cfg(test)]
pub(super) mod tests;
