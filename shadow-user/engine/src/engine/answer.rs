//! Production's answers: to which flow they belong, and what comes of them.

use std::net::SocketAddr;

use crate::answers::{Answer, Answers, GivenUp, Heard, Order, Want};
use crate::books::{IgnoredResponse, Skipped};
use crate::engine::Engine;
use crate::engine::flow::{Flow, FlowKey, Stage};
use crate::engine::timers::FlowId;
use crate::exchange::{Depth, Exchange, Piece, Unpaired};
use crate::time::Instant;
use crate::wire::{Malformed, Packet};

/// The fraction of memory that answers without a session may take.
const TRAILING_SHARE: usize = 8;

impl Engine {
    /// Takes a packet that the tap copied at egress, from its IP header on: a segment of production's.
    /// Its payload may be missing where [`Want::AllBut`] allowed that.
    ///
    /// An answer is paired only when the client's stream is known as far as the answer acknowledges,
    /// so that requests and answers may be handed in out of order, a little.
    pub fn handle_response(&mut self, packet: &[u8], captured_at: Instant, now: Instant) {
        self.books.responses.captured += 1;
        let ignored = match Packet::parse_headers(packet) {
            Ok((packet, left_out)) => self.response(&packet, left_out, captured_at, now),
            Err(Malformed::Checksum | Malformed::IpChecksum) => Some(IgnoredResponse::Checksum),
            Err(_) => Some(IgnoredResponse::Malformed),
        };
        match ignored {
            None => self.books.responses.used += 1,
            Some(reason) => self.books.responses.ignored.add(reason, 1),
        }
    }

    /// The next exchange that is complete, or will never be.
    pub fn poll_exchange(&mut self) -> Option<Box<Exchange>> {
        self.exchanges.pop_front()
    }

    /// What shall be copied of a flow's answers from now on. Late, it costs copies, nothing more.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// What this engine wants of a flow's answers at the moment, while it wants any: for whoever has
    /// several engines and one kernel.
    #[must_use]
    pub fn wanted(&self, client: SocketAddr, production: SocketAddr) -> Option<Want> {
        if self.config.exchanges.depth == Depth::Off || self.config.dry_run {
            return None;
        }
        let key = FlowKey::new(client, production);
        let session = |id| match &self.flows.get(id)?.stage {
            Stage::Open(session) => session.wanted(),
            // It may yet have one.
            Stage::Handshake(_) | Stage::Joining => Some(Want::All),
        };
        if let Some(id) = self.answering.get(&key) {
            return session(*id);
        }
        self.trailing.wanted(&key).or_else(|| session(self.flows.find(&key)?))
    }

    fn response(
        &mut self,
        packet: &Packet<'_>,
        left_out: u32,
        captured_at: Instant,
        now: Instant,
    ) -> Option<IgnoredResponse> {
        let key = FlowKey::of_answer(packet);
        let segment = &packet.segment;
        let answer = Answer {
            seq: segment.seq,
            ack: segment.flags.ack.then_some(segment.ack),
            piece: match left_out {
                0 => Piece::Bytes(segment.payload),
                count => Piece::Skipped(count.into()),
            },
            ends: segment.flags.fin || segment.flags.rst,
            at: captured_at,
        };
        let heard = if let Some(id) = self.answering.get(&key).copied() {
            let Some(Flow { stage: Stage::Open(session), .. }) = self.flows.get_mut(id) else {
                return Some(IgnoredResponse::NoSession);
            };
            let heard = session.handle_answer(&answer);
            self.collect(id);
            self.account(id);
            self.arm(id, now);
            heard
        } else if let Some(mut answers) = self.trailing.remove(&key) {
            let heard = answers.handle_answer(&answer, None);
            answers.advance(now);
            if answers.is_over() {
                self.settle_answers(&key, answers, Unpaired::Closed, Want::Forget);
            } else {
                self.take_exchanges(&mut answers);
                self.orders.extend(answers.take_want().map(|want| order(&key, want)));
                self.trailing.put_back(key, answers);
            }
            Some(heard)
        } else {
            None
        };
        match heard {
            Some(Heard::Used) => None,
            Some(Heard::OutOfWindow) => Some(IgnoredResponse::OutOfWindow),
            None => Some(IgnoredResponse::NoSession),
        }
    }

    /// Answers of a flow that has a session from now on belong to it.
    pub(super) fn expect_answers(&mut self, id: FlowId, now: Instant) {
        if self.config.exchanges.depth == Depth::Off || self.config.dry_run {
            return;
        }
        let Some(key) = self.flows.get_mut(id).map(|flow| flow.key) else { return };
        if let Some(before) = self.answering.insert(key, id) {
            // A session that outlived its part of the connection: production has gone on from it.
            self.give_up_answers(before, Unpaired::Closed);
            self.arm(before, now);
        }
        if let Some(answers) = self.trailing.remove(&key) {
            self.settle_answers(&key, answers, Unpaired::Closed, Want::All);
        }
    }

    /// Takes what came of a session's answers.
    pub(super) fn collect(&mut self, id: FlowId) {
        let Self { flows, books, exchanges, orders, .. } = self;
        let Some(Flow { key, stage: Stage::Open(session), .. }) = flows.get_mut(id) else { return };
        while let Some(exchange) = session.poll_exchange() {
            books.exchanges.add(&exchange);
            exchanges.push_back(exchange);
        }
        if let Some(want) = session.take_want() {
            orders.push_back(order(key, want));
        }
    }

    /// Memory is short: a session goes on, but its exchanges do not.
    pub(super) fn shed_answers(&mut self, id: FlowId) {
        if let Some(key) = self.give_up_answers(id, Unpaired::Shed) {
            self.orders.push_back(order(&key, Want::Nothing));
        }
    }

    /// A flow ends without a session.
    pub(super) fn want_no_answers(&mut self, id: FlowId, reason: Skipped) {
        if self.config.exchanges.depth == Depth::Off {
            return;
        }
        let Some(key) = self.flows.get_mut(id).map(|flow| flow.key) else { return };
        if let Some(answers) = self.trailing.remove(&key) {
            self.settle_answers(&key, answers, Unpaired::Closed, Want::Nothing);
        } else if reason != Skipped::Handshake {
            self.orders.push_back(order(&key, Want::Nothing));
        }
    }

    /// The session has ended: its answers go on without it, if production may still answer.
    pub(super) fn leave_answers(&mut self, id: FlowId, now: Instant) {
        self.collect(id);
        let Some(Flow { key, stage: Stage::Open(session), .. }) = self.flows.get_mut(id) else {
            return;
        };
        let key = *key;
        let Some(answers) = session.take_answers() else { return };
        if self.answering.get(&key) == Some(&id) {
            self.answering.remove(&key);
        }
        self.account(id);
        if answers.is_over() || self.finished {
            let reason = if answers.is_over() { Unpaired::Closed } else { Unpaired::Aborted };
            self.settle_answers(&key, answers, reason, Want::Forget);
        } else {
            self.trailing.insert(key, answers, now);
            self.give_up_trailing(now);
        }
    }

    /// Gives up answers that production has not given in time.
    pub(super) fn give_up_trailing(&mut self, now: Instant) {
        let most = self.config.memory_limit / TRAILING_SHARE;
        while let Some((key, answers, why)) = self.trailing.pop_due(now, most) {
            let reason = match why {
                GivenUp::Late => Unpaired::Closed,
                GivenUp::Crowded => Unpaired::Shed,
            };
            self.settle_answers(&key, answers, reason, Want::Nothing);
        }
    }

    /// The run is over.
    pub(super) fn settle_trailing(&mut self) {
        for key in self.trailing.keys() {
            if let Some(answers) = self.trailing.remove(&key) {
                self.settle_answers(&key, answers, Unpaired::Closed, Want::Forget);
            }
        }
    }

    /// Ends a session's exchanges before the session; the flow's key when there were any.
    fn give_up_answers(&mut self, id: FlowId, reason: Unpaired) -> Option<FlowKey> {
        let Some(Flow { key, stage: Stage::Open(session), .. }) = self.flows.get_mut(id) else {
            return None;
        };
        let key = *key;
        let mut answers = session.take_answers()?;
        answers.settle(reason);
        self.take_exchanges(&mut answers);
        if self.answering.get(&key) == Some(&id) {
            self.answering.remove(&key);
        }
        self.account(id);
        Some(key)
    }

    fn settle_answers(
        &mut self,
        key: &FlowKey,
        mut answers: Box<Answers>,
        reason: Unpaired,
        want: Want,
    ) {
        answers.settle(reason);
        self.take_exchanges(&mut answers);
        self.orders.push_back(order(key, want));
    }

    fn take_exchanges(&mut self, answers: &mut Answers) {
        while let Some(exchange) = answers.poll() {
            self.books.exchanges.add(&exchange);
            self.exchanges.push_back(exchange);
        }
    }
}

fn order(key: &FlowKey, want: Want) -> Order {
    Order { client: key.client(), production: key.production(), want }
}
