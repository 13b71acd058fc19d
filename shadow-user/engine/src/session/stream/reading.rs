//! What the parser finds in the next bytes of a client's HTTP/1 stream.

use std::borrow::Cow;

use super::{Http1, RequestTally, Turns};
use crate::books::{LeftOut, RequestBooks};
use crate::http::{Method, RequestEvent, Requests, Visitor};
use crate::session::edit::{Answered, Decision, Editing};
use crate::session::gate::{Gate, Need};
use crate::time::Instant;

/// Takes note of requests, and divides the bytes into turns.
pub(super) struct Reading<'a, 'b> {
    pub http: &'a mut Http1,
    pub tally: &'a mut RequestTally,
    pub gate: &'a mut Gate,
    pub books: &'a mut RequestBooks,
    pub edit: Option<&'a mut Editing<'b>>,
    pub captured_at: Instant,
    /// Offset up to which bytes were queued at the gate.
    pub queued: u64,
    /// What the bytes behind that wait for.
    pub need: Need,
    /// The client has seen an answer that it had not with its last bytes.
    pub heard: bool,
    pub turns: Turns,
    /// A program is asked about the request that ended last: no further is read.
    pub asks: bool,
}

impl Reading<'_, '_> {
    /// Reads the stream's next bytes, up to a request about which a program is asked; how many.
    pub(super) fn read(&mut self, requests: &mut Requests, bytes: &[u8]) -> usize {
        requests.visit(bytes, self).unwrap_or_else(|_| {
            // A stream that only began like HTTP/1.
            self.turns = Turns::Acknowledgments;
            if let Some(edit) = &mut self.edit {
                edit.unread();
            }
            bytes.len()
        })
    }

    /// What became of the request that ends at `offset`, about which a program was asked.
    pub(super) fn answered(&mut self, offset: u64, answered: Answered) {
        if let Some(edit) = &mut self.edit {
            let decision = edit.answered(answered);
            self.decided(offset, decision);
        }
    }

    /// A message of whatever protocol begins at `offset`.
    fn begin_turn(&mut self, offset: u64) {
        if offset > self.queued {
            self.gate.push(offset, self.need, self.captured_at);
            self.queued = offset;
        }
        // Only the first message of these bytes can follow an answer: the others were sent in the
        // same breath.
        let awaited = self.http.whole_requests();
        let follows = self.heard && awaited > 0;
        self.need = if follows { Need::Responses(awaited) } else { Need::Nothing };
        self.heard = false;
        self.http.expects_continue_at = None;
    }

    fn head_ended(&mut self, offset: u64, method: Method, expects_continue: bool) {
        let http = &mut *self.http;
        match self.edit.as_mut().map_or(Decision::Sent, |edit| edit.head_ended()) {
            Decision::Sent => {
                http.responses.expect(method);
                http.expects_continue_at = expects_continue.then_some(offset);
            }
            Decision::Open | Decision::Asked => http.unexpected = Some(method),
            Decision::LeftOut(_) => http.leave_out(),
        }
    }

    fn ended(&mut self, offset: u64) {
        let http = &mut *self.http;
        let may_tunnel = http.may_tunnel;
        let edit = self.edit.as_mut();
        let decision = edit.map_or(Decision::Sent, |edit| edit.ended(offset, may_tunnel));
        self.tally.seen += 1;
        self.books.seen += 1;
        match decision {
            Decision::Asked => self.asks = true,
            decision => self.decided(offset, decision),
        }
    }

    /// What becomes of the request that ends at `offset`.
    fn decided(&mut self, offset: u64, decision: Decision) {
        let http = &mut *self.http;
        match decision {
            Decision::Sent | Decision::Open | Decision::Asked => {
                if let Some(method) = http.unexpected.take() {
                    http.responses.expect(method);
                }
                http.ends.push_back(offset);
            }
            Decision::LeftOut(reason) => {
                http.leave_out();
                self.file(reason);
            }
        }
        let http = &mut *self.http;
        http.within = false;
        http.leaving_out = false;
        http.expects_continue_at = None;
    }

    fn file(&mut self, reason: LeftOut) {
        self.tally.left_out += 1;
        self.books.skipped.add(reason, 1);
    }
}

impl Http1 {
    /// The last started request is left out.
    fn leave_out(&mut self) {
        if !self.leaving_out {
            self.leaving_out = true;
            self.left_out += 1;
            self.unexpected = None;
        }
    }
}

impl Visitor<RequestEvent> for Reading<'_, '_> {
    fn event(&mut self, event: RequestEvent) {
        match event {
            RequestEvent::Started { offset } => {
                self.begin_turn(offset);
                self.http.started += 1;
                self.http.within = true;
                if let Some(edit) = &mut self.edit {
                    edit.started(offset);
                }
            }
            RequestEvent::Head { offset, method, expects_continue, upgrade } => {
                self.http.may_tunnel = upgrade || method == Method::Connect;
                self.head_ended(offset, method, expects_continue);
            }
            RequestEvent::Ended { offset } => self.ended(offset),
            RequestEvent::Tunnel { offset } => {
                self.begin_turn(offset);
                let is_left_out = self.edit.as_mut().is_some_and(|edit| edit.tunnelled());
                self.turns = if is_left_out { Turns::LeftOut } else { Turns::Acknowledgments };
            }
        }
    }

    fn head(&mut self, octets: Cow<'_, [u8]>) {
        if let Some(edit) = &mut self.edit {
            edit.head(octets);
        }
    }

    fn body(&mut self, octets: &[u8]) {
        if let Some(edit) = &mut self.edit
            && edit.body(octets).is_some()
        {
            self.http.leave_out();
        }
    }

    fn trailers(&mut self, octets: &[u8]) {
        if let Some(edit) = &mut self.edit {
            edit.trailers(octets);
        }
    }

    fn pauses(&self) -> bool {
        self.asks
    }
}
