//! The client's stream as turns of a protocol: where requests begin and end,
//! and what each stretch of bytes must wait for.

use std::collections::VecDeque;

use crate::books::{Books, FlowEnd, Unanswered};
use crate::http::{
    Recognition, RequestEvent, Requests, ResponseEvent, Responses, looks_like_request,
};
use crate::session::gate::{Close, Gate, Need};
use crate::session::shape::Shape;
use crate::time::Instant;

/// How turns are told apart.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Turns {
    /// No byte was seen yet.
    #[default]
    Unknown,
    /// By HTTP/1 messages.
    Messages,
    /// By acknowledgments alone: another protocol, or HTTP/1 up to an upgrade.
    Acknowledgments,
}

/// One flow's stream, in order, and its turns.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    turns: Turns,
    /// Kept after an upgrade for the messages that are still on their way.
    http: Option<Box<Http1>>,
    /// Octets that reassembly put in order.
    captured: u64,
    /// Octets of production's answers that the client had acknowledged with its last data.
    acknowledged: u64,
    tally: RequestTally,
}

/// What this flow added to the request books.
#[derive(Clone, Copy, Debug, Default)]
struct RequestTally {
    seen: u64,
    delivered: u64,
    /// Whole final responses of the shadow.
    responses: u64,
    answered: u64,
}

#[derive(Debug, Default)]
struct Http1 {
    requests: Requests,
    responses: Responses,
    /// Requests of which the first byte was seen.
    started: u64,
    /// Whether the last started request has not ended.
    within: bool,
    /// Offset at which a request's head ended that expects 100 (Continue).
    expects_continue_at: Option<u64>,
    /// End offsets of requests that are not delivered yet.
    ends: VecDeque<u64>,
    /// The response being read answers a request: not a 408 to an idle connection.
    solicited: bool,
    /// The shadow's answers are no HTTP/1 (any more).
    answers_unparsable: bool,
    /// The shadow has closed within a response.
    cut_short: bool,
}

impl Http1 {
    /// Requests of which the last byte was seen, or will be never.
    fn whole_requests(&self) -> u64 {
        self.started - u64::from(self.within)
    }
}

impl Stream {
    /// Takes the next `bytes` in order, sent by the client after it had acknowledged
    /// `acknowledged` octets of production's answers; queues them at the gate.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        acknowledged: u64,
        captured_at: Instant,
        gate: &mut Gate,
        mut shape: Option<&mut Shape>,
        books: &mut Books,
    ) {
        let begin = self.captured;
        self.captured += bytes.len() as u64;
        books.bytes.captured += bytes.len() as u64;
        if self.turns == Turns::Unknown {
            self.turns = match looks_like_request(bytes) {
                Recognition::No => Turns::Acknowledgments,
                Recognition::Yes | Recognition::NeedMore => Turns::Messages,
            };
        }
        let heard = acknowledged > self.acknowledged;
        self.acknowledged = self.acknowledged.max(acknowledged);
        if self.turns == Turns::Acknowledgments {
            let need =
                if heard { Need::Answer { production: acknowledged } } else { Need::Nothing };
            gate.push(self.captured, need, captured_at);
            return;
        }
        let http = self.http.get_or_insert_default();

        // What the bytes up to the next request's start wait for.
        let mut need = match http.expects_continue_at {
            Some(offset) if offset == begin && heard => Need::Continue,
            _ => Need::Nothing,
        };
        let mut released = begin;
        let mut heard = heard;
        let tally = &mut self.tally;
        let turns = &mut self.turns;
        let Http1 { requests, responses, started, within, expects_continue_at, ends, .. } =
            &mut **http;
        let parsed = requests.push(bytes, &mut |event| match event {
            RequestEvent::Started { offset } | RequestEvent::Tunnel { offset } => {
                if offset > released {
                    gate.push(offset, need, captured_at);
                    released = offset;
                }
                // Only the first message of these bytes can follow an answer: the others
                // were sent in the same breath.
                let follows = heard && *started > 0;
                need = if follows { Need::Responses(*started) } else { Need::Nothing };
                heard = false;
                *expects_continue_at = None;
                if matches!(event, RequestEvent::Tunnel { .. }) {
                    *turns = Turns::Acknowledgments;
                } else {
                    *started += 1;
                    *within = true;
                    if let Some(shape) = &mut shape {
                        shape.request_started(offset);
                    }
                }
            }
            RequestEvent::Head { offset, method, expects_continue, .. } => {
                responses.expect(method);
                if let Some(shape) = &mut shape {
                    shape.head_ended(offset);
                }
                *expects_continue_at = expects_continue.then_some(offset);
            }
            RequestEvent::Ended { offset } => {
                ends.push_back(offset);
                *within = false;
                *expects_continue_at = None;
                tally.seen += 1;
                books.requests.seen += 1;
            }
        });
        if parsed.is_err() {
            // A stream that only began like HTTP/1.
            self.turns = Turns::Acknowledgments;
            if let Some(shape) = shape {
                shape.no_request();
            }
        }
        gate.push(self.captured, need, captured_at);
    }

    /// Takes the end of the client's stream.
    pub(crate) fn push_close(
        &mut self,
        close: Close,
        acknowledged: u64,
        captured_at: Instant,
        gate: &mut Gate,
    ) {
        let heard = acknowledged > self.acknowledged;
        let need = match (&self.http, self.turns) {
            _ if !heard => Need::Nothing,
            (Some(http), Turns::Messages) => Need::Responses(http.whole_requests()),
            _ => Need::Answer { production: acknowledged },
        };
        gate.push_close(self.captured, close, need, captured_at);
    }

    /// Takes the shadow's next bytes in order.
    pub(crate) fn answered(
        &mut self,
        bytes: &[u8],
        now: Instant,
        gate: &mut Gate,
        books: &mut Books,
    ) {
        books.bytes.answered += bytes.len() as u64;
        gate.answered(bytes.len(), now);
        let Some(http) = &mut self.http else { return };
        if http.answers_unparsable {
            return;
        }
        let tally = &mut self.tally;
        let Http1 { responses, solicited, .. } = &mut **http;
        let parsed = responses.push(bytes, &mut |event| match event {
            ResponseEvent::Started { .. } => {}
            ResponseEvent::Interim { .. } => gate.answered_head(),
            ResponseEvent::Head { solicited: asked, .. } => {
                *solicited = asked;
                gate.answered_head();
            }
            ResponseEvent::Ended { .. } if *solicited => {
                gate.answered_response();
                tally.responses += 1;
            }
            ResponseEvent::Ended { .. } => {}
        });
        if parsed.is_err() {
            http.answers_unparsable = true;
            gate.answers_unparsable();
        }
        self.count_answers(books);
    }

    /// The shadow sent FIN: a response without a length ends here.
    pub(crate) fn shadow_closed(&mut self, gate: &mut Gate, books: &mut Books) {
        if let Some(http) = &mut self.http
            && !http.answers_unparsable
        {
            let tally = &mut self.tally;
            let whole = http.responses.end(&mut |event| {
                if matches!(event, ResponseEvent::Ended { .. }) {
                    tally.responses += 1;
                }
            });
            http.answers_unparsable = whole.is_err();
            http.cut_short = whole.is_err();
            self.count_answers(books);
        }
        gate.shadow_closed();
    }

    /// The shadow has acknowledged `octets` of the stream.
    pub(crate) fn delivered(&mut self, octets: u64, books: &mut Books) {
        if let Some(http) = &mut self.http {
            while http.ends.front().is_some_and(|end| *end <= octets) {
                http.ends.pop_front();
                self.tally.delivered += 1;
                books.requests.delivered += 1;
            }
            if http.ends.is_empty() {
                http.ends = VecDeque::new();
            }
        }
        self.count_answers(books);
    }

    /// Octets that reassembly put in order.
    pub(crate) fn captured(&self) -> u64 {
        self.captured
    }

    /// Whether the stream stands between two messages, where the protocol has such.
    pub(crate) fn at_boundary(&self) -> bool {
        match self.turns {
            Turns::Unknown => true,
            Turns::Messages => !self.within_message(),
            Turns::Acknowledgments => false,
        }
    }

    /// Whether the stream stands within a message that has begun and not ended.
    pub(crate) fn within_message(&self) -> bool {
        self.turns == Turns::Messages && self.http.as_ref().is_some_and(|http| http.within)
    }

    /// Whether the stream consists of messages at which it could be joined again.
    pub(crate) fn has_messages(&self) -> bool {
        self.turns == Turns::Messages
    }

    /// Whether every request has its whole response, where the protocol has such.
    pub(crate) fn is_answered(&self) -> bool {
        self.http.as_ref().is_none_or(|http| {
            http.answers_unparsable || self.tally.responses >= http.whole_requests()
        })
    }

    /// The same, and the last response was not cut short.
    pub(crate) fn is_answered_whole(&self) -> bool {
        self.is_answered() && self.http.as_ref().is_none_or(|http| !http.cut_short)
    }

    /// Files what is left of the flow's requests.
    pub(crate) fn settle(&self, end: FlowEnd, books: &mut Books) {
        let RequestTally { seen, delivered, answered, .. } = self.tally;
        books.requests.undelivered.add(end, seen - delivered);
        let unparsable =
            self.http.as_ref().is_some_and(|http| http.answers_unparsable && !http.cut_short);
        let reason = match (unparsable, end) {
            (true, _) => Unanswered::Unparsable,
            (_, FlowEnd::Aborted(_)) => Unanswered::Aborted,
            (_, FlowEnd::Mirrored | FlowEnd::Skipped(_)) => Unanswered::Closed,
        };
        books.requests.unanswered.add(reason, delivered - answered);
    }

    /// Heap octets.
    pub(crate) fn memory(&self) -> usize {
        self.http.as_ref().map_or(0, |http| {
            size_of::<Http1>()
                + http.ends.capacity() * size_of::<u64>()
                + http.requests.memory()
                + http.responses.memory()
        })
    }

    /// An answer counts once its request was delivered: a shadow may answer early (413).
    fn count_answers(&mut self, books: &mut Books) {
        let answered = self.tally.responses.min(self.tally.delivered);
        books.requests.answered += answered - self.tally.answered;
        self.tally.answered = answered;
    }
}
