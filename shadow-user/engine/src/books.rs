//! The books: every packet, flow, byte and request ends in exactly one bucket.
//!
//! Plain numbers without IO. [`Books::check`] adds them up; `docs/accounting.md`
//! explains every bucket to the reader of a summary.

mod copies;
mod reasons;

use std::fmt;
use std::marker::PhantomData;

use shadow_common::Counter;
use thiserror::Error;

use crate::exchange::{Exchange, Unpaired};

pub use reasons::{
    Aborted, IgnoredPacket, IgnoredReply, IgnoredResponse, LeftOut, Skipped, Unanswered,
};

/// How a flow ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FlowEnd {
    /// The shadow acknowledged every byte that the client sent.
    Mirrored,
    /// No session was begun.
    Skipped(Skipped),
    /// The session was reset.
    Aborted(Aborted),
}

impl FlowEnd {
    /// The bucket's label without its group.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Mirrored => "mirrored",
            Self::Skipped(reason) => reason.label(),
            Self::Aborted(reason) => reason.label(),
        }
    }
}

/// One count for each reason of `C`.
#[derive(Clone, Eq, PartialEq)]
pub struct Tally<C> {
    counts: Box<[u64]>,
    reasons: PhantomData<C>,
}

impl<C: Counter> fmt::Debug for Tally<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().filter(|(_, count)| *count > 0)).finish()
    }
}

impl<C: Counter> Default for Tally<C> {
    fn default() -> Self {
        Self { counts: vec![0; C::ALL.len()].into_boxed_slice(), reasons: PhantomData }
    }
}

impl<C: Counter> Tally<C> {
    /// Adds `count` to `reason`'s bucket.
    pub fn add(&mut self, reason: C, count: u64) {
        if let Some(bucket) = self.counts.get_mut(reason.index() as usize) {
            *bucket += count;
        }
    }

    /// What `reason`'s bucket holds.
    #[must_use]
    pub fn get(&self, reason: C) -> u64 {
        self.counts.get(reason.index() as usize).copied().unwrap_or(0)
    }

    /// The sum of all buckets.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Label and count of every bucket, empty ones too.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        C::ALL.iter().map(|reason| (reason.label(), self.get(*reason)))
    }
}

/// Items that were delivered or ended in a named bucket.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Undelivered {
    /// Lost to a flow that was skipped.
    pub skipped: Tally<Skipped>,
    /// Lost to a session that was reset.
    pub aborted: Tally<Aborted>,
}

impl Undelivered {
    /// The sum of all buckets.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.skipped.total() + self.aborted.total()
    }

    /// Files `count` under how the flow ended; a mirrored flow leaves nothing undelivered.
    pub(crate) fn add(&mut self, end: FlowEnd, count: u64) {
        match end {
            FlowEnd::Skipped(reason) => self.skipped.add(reason, count),
            FlowEnd::Aborted(reason) => self.aborted.add(reason, count),
            FlowEnd::Mirrored => debug_assert_eq!(count, 0, "a mirrored flow delivered everything"),
        }
    }
}

/// Packets of the capture.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PacketBooks {
    /// Packets handed to the engine by the tap's ring.
    pub captured: u64,
    /// Packets that moved a flow on, retransmissions included.
    pub used: u64,
    /// The rest.
    pub ignored: Tally<IgnoredPacket>,
}

/// Packets of the shadow.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReplyBooks {
    /// Packets handed to the engine by the guard's ring.
    pub captured: u64,
    /// Packets that reached a session.
    pub used: u64,
    /// The rest.
    pub ignored: Tally<IgnoredReply>,
}

/// Flows: connections of clients with production.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FlowBooks {
    /// Flows of which at least a SYN or a data segment was captured.
    pub seen: u64,
    /// Flows whose every byte the shadow acknowledged.
    pub mirrored: u64,
    /// Flows without a session.
    pub skipped: Tally<Skipped>,
    /// Flows whose session was reset.
    pub aborted: Tally<Aborted>,
    /// Flows whose requests were to be shaped and that were not HTTP/1, or not all the time: what
    /// could not be read went as it was.
    pub unshaped: u64,
}

impl FlowBooks {
    /// Flows that have not ended.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.seen - self.mirrored - self.skipped.total() - self.aborted.total()
    }
}

/// Octets of client payload.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ByteBooks {
    /// Put in order by reassembly.
    pub captured: u64,
    /// Acknowledged by the shadow.
    pub delivered: u64,
    /// Of requests that were left out.
    pub skipped: Tally<LeftOut>,
    /// Of flows that ended otherwise.
    pub undelivered: Undelivered,
    /// Octets that the shadow answered.
    pub answered: u64,
}

impl ByteBooks {
    /// Octets on their way.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.captured - self.delivered - self.skipped.total() - self.undelivered.total()
    }
}

/// HTTP/1 requests.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestBooks {
    /// Requests whose last byte reassembly put in order.
    pub seen: u64,
    /// Requests whose last byte the shadow acknowledged.
    pub delivered: u64,
    /// Requests that were left out.
    pub skipped: Tally<LeftOut>,
    /// Requests of flows that ended otherwise.
    pub undelivered: Undelivered,
    /// Requests to which the shadow gave a whole final response.
    pub answered: u64,
    /// Requests that were delivered and have no answer.
    pub unanswered: Tally<Unanswered>,
}

impl RequestBooks {
    /// Requests on their way.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.seen - self.delivered - self.skipped.total() - self.undelivered.total()
    }

    /// Delivered requests that wait for their answer.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.delivered - self.answered - self.unanswered.total()
    }
}

/// Packets of production.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ResponseBooks {
    /// Packets handed to the engine by the ring of the tap at egress.
    pub captured: u64,
    /// Packets of a flow whose exchanges are followed.
    pub used: u64,
    /// The rest.
    pub ignored: Tally<IgnoredResponse>,
}

/// Exchanges: requests with what became of them on both legs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExchangeBooks {
    /// Exchanges that are complete, or will never be.
    pub seen: u64,
    /// Answered whole on both legs.
    pub paired: u64,
    /// Not answered by production, whatever the shadow did.
    pub unpaired_production: Tally<Unpaired>,
    /// Answered by production alone.
    pub unpaired_shadow: Tally<Unpaired>,
}

impl ExchangeBooks {
    /// Files an exchange.
    pub(crate) fn add(&mut self, exchange: &Exchange) {
        self.seen += 1;
        match (&exchange.production, &exchange.shadow) {
            (Ok(_), Ok(_)) => self.paired += 1,
            (Err(reason), _) => self.unpaired_production.add(*reason, 1),
            (Ok(_), Err(reason)) => self.unpaired_shadow.add(*reason, 1),
        }
    }
}

/// Turns of clients that waited for the shadow.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GateBooks {
    /// Turns that waited for an answer of the shadow.
    pub gated: u64,
    /// Turns whose bound was reached.
    pub timed_out: u64,
}

/// The circuit breaker of the shadow.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CircuitBooks {
    /// Whether no new sessions are begun at present.
    pub open: bool,
    /// How often the circuit was opened, failed probes included.
    pub opened: u64,
}

/// All of one engine's books.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Books {
    /// Packets of the capture.
    pub packets: PacketBooks,
    /// Packets of the shadow.
    pub replies: ReplyBooks,
    /// Packets of production.
    pub responses: ResponseBooks,
    /// Exchanges.
    pub exchanges: ExchangeBooks,
    /// Flows.
    pub flows: FlowBooks,
    /// Client payload.
    pub bytes: ByteBooks,
    /// HTTP/1 requests.
    pub requests: RequestBooks,
    /// Gating.
    pub gates: GateBooks,
    /// The shadow's circuit breaker.
    pub circuit: CircuitBooks,
    /// Packets handed out to be sent to the shadow.
    pub transmitted: u64,
    /// Of these, segments that carried data or SYN or FIN again.
    pub retransmitted: u64,
}

/// An identity of the books that does not hold.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("the books do not balance: {identity}: {left} is not {right}")]
pub struct Imbalance {
    /// The identity, as docs/accounting.md writes it.
    pub identity: &'static str,
    /// What its left side adds up to.
    pub left: u64,
    /// What its right side adds up to.
    pub right: u64,
}

impl Books {
    /// Adds up every identity; with `drained` nothing may be open any more.
    ///
    /// # Errors
    /// The first identity that does not hold.
    pub fn check(&self, drained: bool) -> Result<(), Imbalance> {
        let Self { packets, replies, flows, bytes, requests, .. } = self;
        let flows_ended = flows.mirrored + flows.skipped.total() + flows.aborted.total();
        let bytes_ended = bytes.delivered + bytes.skipped.total() + bytes.undelivered.total();
        let requests_ended =
            requests.delivered + requests.skipped.total() + requests.undelivered.total();
        let answers = requests.answered + requests.unanswered.total();
        equal(
            "packets.captured = packets.used + packets.ignored.*",
            packets.captured,
            packets.used + packets.ignored.total(),
        )?;
        equal(
            "replies.captured = replies.used + replies.ignored.*",
            replies.captured,
            replies.used + replies.ignored.total(),
        )?;
        let Self { responses, exchanges, .. } = self;
        equal(
            "responses.captured = responses.used + responses.ignored.*",
            responses.captured,
            responses.used + responses.ignored.total(),
        )?;
        equal(
            "exchanges.seen = exchanges.paired + exchanges.unpaired.*",
            exchanges.seen,
            exchanges.paired
                + exchanges.unpaired_production.total()
                + exchanges.unpaired_shadow.total(),
        )?;
        let rows = [
            (
                "flows.seen = flows.mirrored + flows.skipped.* + flows.aborted.* + flows.open",
                flows.seen,
                flows_ended,
            ),
            (
                "bytes.captured = bytes.delivered + bytes.skipped.* + bytes.undelivered.* + bytes.open",
                bytes.captured,
                bytes_ended,
            ),
            (
                "requests.seen = requests.delivered + requests.skipped.* + requests.undelivered.* + requests.open",
                requests.seen,
                requests_ended,
            ),
            (
                "requests.delivered = requests.answered + requests.unanswered.* + requests.waiting",
                requests.delivered,
                answers,
            ),
        ];
        for (identity, total, ended) in rows {
            // Before the drain an open remainder is fine, but never a negative one.
            if total < ended || drained {
                equal(identity, total, ended)?;
            }
        }
        Ok(())
    }
}

fn equal(identity: &'static str, left: u64, right: u64) -> Result<(), Imbalance> {
    if left == right { Ok(()) } else { Err(Imbalance { identity, left, right }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_book_balances() {
        assert_eq!(Books::default().check(true), Ok(()));
    }

    #[test]
    fn an_open_flow_balances_only_before_the_drain() {
        let mut books = Books::default();
        books.flows.seen = 2;
        books.flows.skipped.add(Skipped::NoPort, 1);
        assert_eq!(books.flows.open(), 1);
        assert_eq!(books.check(false), Ok(()));
        let imbalance = books.check(true).unwrap_err();
        assert_eq!((imbalance.left, imbalance.right), (2, 1));
    }

    #[test]
    fn more_ended_than_seen_never_balances() {
        let mut books = Books::default();
        books.bytes.delivered = 1;
        assert!(books.check(false).is_err());
    }

    #[test]
    fn a_packet_in_no_bucket_never_balances() {
        let mut books = Books::default();
        books.packets.captured = 1;
        assert!(books.check(false).is_err());
        books.packets.ignored.add(IgnoredPacket::NoFlow, 1);
        assert_eq!(books.check(true), Ok(()));
    }
}
