//! HTTP/1.0 and HTTP/1.1 (RFC 9112): responses come in the order of their requests.

mod order;
mod requests;
mod responses;

use std::collections::VecDeque;

use order::Order;
use requests::{Asking, RequestDraft, Undecided};
use responses::{Answering, ResponseDraft};

use super::fate::Fate;
use super::http2::Http2;
use super::pairs::Pairs;
use super::parser::Parser;
use super::{Leg, Unpaired};
use crate::http::{Requests, Responses};
use crate::time::Instant;

/// One flow that speaks HTTP/1.
#[derive(Debug, Default)]
pub(super) struct Http1 {
    requests: Requests,
    request: Option<RequestDraft>,
    /// Requests that are whole, and nobody has said whether they are sent.
    undecided: VecDeque<Undecided>,
    /// The client's stream cannot be read any further.
    left: bool,
    legs: [Answers; 2],
    upgrade: Upgrade,
}

/// The way to HTTP/2 (RFC 7540, 3.2), which each leg goes or does not go.
#[derive(Debug, Default)]
struct Upgrade {
    /// The last request, if it asks for it: its ordinal, and where the preface would begin.
    asked: Option<(u64, u64)>,
    /// From where the first leg has agreed, or the client goes on so.
    http2: Option<Box<Http2>>,
    /// The client goes on so.
    begun: bool,
}

impl Upgrade {
    /// What reads HTTP/2, if it was asked for.
    fn http2(&mut self) -> Option<&mut Http2> {
        let Self { asked, http2, .. } = self;
        let (ordinal, offset) = (*asked)?;
        Some(http2.get_or_insert_with(|| Box::new(Http2::upgraded(offset, ordinal))))
    }
}

/// What one leg answers.
#[derive(Debug, Default)]
struct Answers {
    responses: Responses,
    draft: ResponseDraft,
    /// Which request is answered next.
    next: Order,
    /// It speaks HTTP/2 now.
    upgraded: bool,
    /// Its responses can no longer be told, or no longer matter.
    over: bool,
}

impl Answers {
    fn give_up(&mut self) {
        *self = Self { over: true, ..Self::default() };
    }

    fn memory(&self) -> usize {
        self.responses.memory() + self.draft.memory() + self.next.memory()
    }
}

impl Parser for Http1 {
    fn requested(&mut self, bytes: &[u8], at: Instant, pairs: &mut Pairs) {
        if self.left {
            return;
        }
        let Self { requests, request, undecided, legs, left, upgrade } = self;
        let mut asking =
            Asking { pairs, legs, draft: request, undecided, at, upgrade, tunnel: false };
        let parsed = requests.visit(bytes, &mut asking);
        if parsed.is_err() {
            asking.fail();
        }
        *left = parsed.is_err() || asking.tunnel;
        if *left {
            (*requests, *request) = (Requests::new(), None);
        }
    }

    fn decided(&mut self, fate: Fate, pairs: &mut Pairs) -> bool {
        let Some(request) = self.undecided.pop_front() else {
            self.undecided = VecDeque::new();
            return false;
        };
        let Self { request: draft, undecided, legs, upgrade, .. } = self;
        let at = Instant::default();
        Asking { pairs, legs, draft, undecided, at, upgrade, tunnel: false }.decide(request, fate);
        true
    }

    fn answered(&mut self, leg: Leg, bytes: &[u8], at: Instant, pairs: &mut Pairs) -> usize {
        let Self { legs, upgrade, .. } = self;
        let Answers { responses, draft, next, upgraded, over } = &mut legs[leg.index()];
        if *over {
            return bytes.len();
        }
        let mut used = 0;
        if !*upgraded {
            let mut answering = Answering { pairs, leg, draft, next, at, upgrade, upgraded };
            let Ok(read) = responses.visit(bytes, &mut answering) else {
                pairs.end(leg, Unpaired::Unparsable);
                return bytes.len();
            };
            if !responses.is_tunnel() || pairs.over(leg).is_some() {
                return read;
            }
            used = read;
        }
        let rest = bytes.get(used..).unwrap_or_default();
        match upgrade.http2() {
            Some(http2) if *upgraded => used + http2.answered(leg, rest, at, pairs),
            _ => {
                pairs.end(leg, Unpaired::Tunnel);
                bytes.len()
            }
        }
    }

    fn skipped(&mut self, leg: Leg, octets: u64, at: Instant, pairs: &mut Pairs) -> u64 {
        let Self { legs, upgrade, .. } = self;
        let Answers { responses, draft, next, upgraded, .. } = &mut legs[leg.index()];
        if *upgraded {
            return upgrade.http2().map_or(0, |http2| http2.skipped(leg, octets, at, pairs));
        }
        draft.skip(octets.min(responses.left()));
        let mut answering = Answering { pairs, leg, draft, next, at, upgrade, upgraded };
        responses.skip(octets, &mut |event| answering.on(event))
    }

    fn closed(&mut self, leg: Leg, at: Instant, pairs: &mut Pairs) {
        let Self { legs, upgrade, .. } = self;
        let Answers { responses, draft, next, upgraded, .. } = &mut legs[leg.index()];
        let mut answering = Answering { pairs, leg, draft, next, at, upgrade, upgraded };
        // Within any other message it is an answer that never came.
        let _truncated = responses.end(&mut |event| answering.on(event));
    }

    fn give_up(&mut self, leg: Leg, pairs: &Pairs) {
        self.legs[leg.index()].give_up();
        if let Some(http2) = &mut self.upgrade.http2 {
            http2.give_up(leg, pairs);
        }
    }

    fn skippable(&self, leg: Leg) -> u64 {
        let answers = &self.legs[leg.index()];
        match &self.upgrade.http2 {
            Some(http2) if answers.upgraded => http2.skippable(leg),
            _ => answers.responses.left(),
        }
    }

    fn holds_order(&self) -> bool {
        self.upgrade.http2.is_none()
    }

    fn memory(&self) -> usize {
        let legs = self.legs.iter().map(Answers::memory);
        let request = self.request.as_ref().map_or(0, RequestDraft::memory);
        let undecided = self.undecided.iter().map(Undecided::memory).sum::<usize>()
            + self.undecided.capacity() * size_of::<Undecided>();
        let http2 = self.upgrade.http2.as_ref();
        let http2 = http2.map_or(0, |http2| size_of::<Http2>() + http2.memory());
        self.requests.memory() + request + undecided + legs.sum::<usize>() + http2
    }
}

#[cfg(test)]
mod tests;
