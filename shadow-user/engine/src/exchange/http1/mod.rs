//! HTTP/1.0 and HTTP/1.1 (RFC 9112): responses come in the order of their requests.

mod requests;
mod responses;

use requests::{Asking, RequestDraft};
use responses::{Answering, ResponseDraft};

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
    /// The client's stream is no HTTP/1 any more.
    left: bool,
    legs: [Answers; 2],
}

/// What one leg answers.
#[derive(Debug, Default)]
struct Answers {
    responses: Responses,
    draft: ResponseDraft,
    /// Ordinal of the request that is answered next.
    next: u64,
    /// Its responses can no longer be told, or no longer matter.
    over: bool,
}

impl Answers {
    fn give_up(&mut self) {
        *self = Self { over: true, ..Self::default() };
    }
}

impl Parser for Http1 {
    fn requested(&mut self, bytes: &[u8], at: Instant, pairs: &mut Pairs) {
        if self.left {
            return;
        }
        let Self { requests, request, legs, left } = self;
        let mut asking = Asking { pairs, legs, draft: request, at, tunnel: false };
        let parsed = requests.visit(bytes, &mut asking);
        if parsed.is_err() {
            asking.fail();
        }
        *left = parsed.is_err() || asking.tunnel;
        if *left {
            (*requests, *request) = (Requests::new(), None);
        }
    }

    fn answered(&mut self, leg: Leg, bytes: &[u8], at: Instant, pairs: &mut Pairs) -> usize {
        let Answers { responses, draft, next, over } = &mut self.legs[leg.index()];
        if *over {
            return bytes.len();
        }
        let mut answering = Answering { pairs, leg, draft, next, at, upgraded: false };
        let parsed = responses.visit(bytes, &mut answering);
        if answering.upgraded {
            pairs.end(leg, Unpaired::Tunnel);
            return bytes.len();
        }
        parsed.unwrap_or_else(|_| {
            pairs.end(leg, Unpaired::Unparsable);
            bytes.len()
        })
    }

    fn skipped(&mut self, leg: Leg, octets: u64, at: Instant, pairs: &mut Pairs) -> u64 {
        let Answers { responses, draft, next, .. } = &mut self.legs[leg.index()];
        draft.skip(octets.min(responses.left()));
        let mut answering = Answering { pairs, leg, draft, next, at, upgraded: false };
        responses.skip(octets, &mut |event| answering.on(event))
    }

    fn closed(&mut self, leg: Leg, at: Instant, pairs: &mut Pairs) {
        let Answers { responses, draft, next, .. } = &mut self.legs[leg.index()];
        let mut answering = Answering { pairs, leg, draft, next, at, upgraded: false };
        // Within any other message it is an answer that never came.
        let _truncated = responses.end(&mut |event| answering.on(event));
    }

    fn give_up(&mut self, leg: Leg, _reason: Unpaired) {
        self.legs[leg.index()].give_up();
    }

    fn skippable(&self, leg: Leg) -> u64 {
        self.legs[leg.index()].responses.left()
    }

    fn memory(&self) -> usize {
        let legs = self.legs.iter().map(|leg| leg.responses.memory() + leg.draft.memory());
        let request = self.request.as_ref().map_or(0, RequestDraft::memory);
        self.requests.memory() + request + legs.sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
