//! The client's stream as turns of a protocol: where requests begin and end,
//! and what each stretch of bytes must wait for.

mod reading;
mod waiting;

use std::collections::VecDeque;

use crate::books::{Books, FlowEnd, Unanswered};
use crate::http::{Method, Recognition, Requests, ResponseEvent, Responses, looks_like_request};
use crate::session::edit::{Answered, Editing, Pen};
use crate::session::gate::{Close, Gate, Need};
use crate::time::Instant;
use reading::Reading;
use waiting::{Piece, Waiting};

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
    /// Not at all: what follows on a request that was left out is left out too.
    LeftOut,
}

/// One flow's stream, in order, and its turns.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    turns: Turns,
    /// Kept after an upgrade for the messages that are still on their way.
    http: Option<Box<Http1>>,
    /// Octets that reassembly put in order.
    captured: u64,
    /// Of these, octets that were read, and are at the gate.
    read: u64,
    /// Octets of production's answers that the client had acknowledged with its last data.
    acknowledged: u64,
    /// What has come behind the last request that was read, while a program is asked about it.
    waiting: Option<Box<Waiting>>,
    tally: RequestTally,
}

/// What this flow added to the request books.
#[derive(Clone, Copy, Debug, Default)]
struct RequestTally {
    seen: u64,
    left_out: u64,
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
    /// Of these, requests that are left out.
    left_out: u64,
    /// Whether the last started request has not ended.
    within: bool,
    /// The last started request is left out.
    leaving_out: bool,
    /// What the last started request's response will be like, until the shadow can be expected to
    /// answer it.
    unexpected: Option<Method>,
    /// What follows on the last started request may be another protocol's.
    may_tunnel: bool,
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
    /// Requests that the shadow gets of which the last byte was seen, or will be never.
    fn whole_requests(&self) -> u64 {
        self.started - self.left_out - u64::from(self.within && !self.leaving_out)
    }
}

impl Stream {
    /// Takes the next `bytes` in order, sent by the client after it had acknowledged
    /// `acknowledged` octets of production's answers; queues them at the gate. Where they are edited,
    /// what is to be sent is written.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        acknowledged: u64,
        captured_at: Instant,
        gate: &mut Gate,
        edit: Option<Pen<'_>>,
        books: &mut Books,
    ) {
        self.captured += bytes.len() as u64;
        books.bytes.captured += bytes.len() as u64;
        let piece = Piece { acknowledged, captured_at, heard: false };
        match &mut self.waiting {
            Some(waiting) => waiting.push(bytes, piece),
            None => self.read(bytes, piece, gate, edit, books),
        }
    }

    /// Takes what is to become of the request about which a program was asked, and then what has come
    /// behind it.
    pub(crate) fn answer(
        &mut self,
        answered: Answered,
        gate: &mut Gate,
        mut pen: Pen<'_>,
        books: &mut Books,
    ) {
        let (Some(mut waiting), Some(http)) = (self.waiting.take(), &mut self.http) else { return };
        let captured_at = Instant::default();
        let tally = &mut books.bytes.skipped;
        let mut edit = Editing::new(pen.lend(), &[], captured_at, tally);
        let mut reading = Reading {
            http,
            tally: &mut self.tally,
            gate,
            books: &mut books.requests,
            edit: Some(&mut edit),
            captured_at,
            queued: self.read,
            need: Need::Nothing,
            heard: false,
            turns: self.turns,
            asks: false,
        };
        // Nothing was read beyond the end of the request.
        reading.answered(self.read, answered);
        while let Some((bytes, piece)) = waiting.pop() {
            self.read(&bytes, piece, gate, Some(pen.lend()), books);
            if let Some(mut rest) = self.waiting.take() {
                if let Some((bytes, piece)) = rest.pop() {
                    waiting.put_back(&bytes, piece);
                }
                self.waiting = Some(waiting);
                return;
            }
        }
        if let Some((close, piece)) = waiting.take_close() {
            let Piece { acknowledged, captured_at, .. } = piece;
            self.push_close(close, acknowledged, captured_at, gate, Some(pen), books);
        }
    }

    /// Whether a program is asked about the last request that was read.
    pub(crate) fn is_asking(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether anything has come behind a request about which a program is asked.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.is_empty())
    }

    /// Reads the next bytes, up to a request about which a program is asked; the rest waits.
    fn read(
        &mut self,
        bytes: &[u8],
        piece: Piece,
        gate: &mut Gate,
        mut edit: Option<Pen<'_>>,
        books: &mut Books,
    ) {
        let Piece { acknowledged, captured_at, heard } = piece;
        let Books { bytes: octets, requests, .. } = books;
        let tally = &mut octets.skipped;
        let mut edit = edit.as_mut().map(|pen| Editing::new(pen.lend(), bytes, captured_at, tally));
        let begin = self.read;
        if self.turns == Turns::Unknown {
            self.turns = match looks_like_request(bytes) {
                Recognition::No => Turns::Acknowledgments,
                Recognition::Yes | Recognition::NeedMore => Turns::Messages,
            };
            if let (Turns::Acknowledgments, Some(edit)) = (self.turns, &mut edit) {
                edit.unread();
            }
        }
        let heard = heard || acknowledged > self.acknowledged;
        self.acknowledged = self.acknowledged.max(acknowledged);
        let mut used = bytes.len();
        let need = match self.turns {
            Turns::Acknowledgments if heard => Need::Answer { production: acknowledged },
            Turns::Acknowledgments | Turns::LeftOut => Need::Nothing,
            Turns::Unknown | Turns::Messages => {
                let http = self.http.get_or_insert_default();
                // What the bytes up to the next request's start wait for.
                let need = match http.expects_continue_at {
                    Some(offset) if offset == begin && heard => Need::Continue,
                    _ => Need::Nothing,
                };
                let mut parser = std::mem::take(&mut http.requests);
                let mut reading = Reading {
                    http,
                    tally: &mut self.tally,
                    gate,
                    books: requests,
                    edit: edit.as_mut(),
                    captured_at,
                    queued: begin,
                    need,
                    heard,
                    turns: self.turns,
                    asks: false,
                };
                used = reading.read(&mut parser, bytes);
                let Reading { need, turns, asks, heard, .. } = reading;
                http.requests = parser;
                self.turns = turns;
                if asks {
                    let mut waiting = Waiting::default();
                    if let Some(rest) = bytes.get(used..)
                        && !rest.is_empty()
                    {
                        waiting.push(rest, Piece { heard, ..piece });
                    }
                    self.waiting = Some(Box::new(waiting));
                }
                need
            }
        };
        self.read += used as u64;
        gate.push(self.read, need, captured_at);
        if let Some(edit) = edit
            && self.waiting.is_none()
        {
            edit.finish();
        }
    }

    /// Takes the end of the client's stream.
    pub(crate) fn push_close(
        &mut self,
        close: Close,
        acknowledged: u64,
        captured_at: Instant,
        gate: &mut Gate,
        edit: Option<Pen<'_>>,
        books: &mut Books,
    ) {
        if let Some(waiting) = &mut self.waiting {
            waiting.close(close, Piece { acknowledged, captured_at, heard: false });
            return;
        }
        let heard = acknowledged > self.acknowledged;
        let need = match (&self.http, self.turns) {
            _ if !heard => Need::Nothing,
            (Some(http), Turns::Messages | Turns::LeftOut) => {
                Need::Responses(http.whole_requests())
            }
            _ => Need::Answer { production: acknowledged },
        };
        gate.push_close(self.captured, close, need, captured_at);
        if let Some(mut pen) = edit {
            Editing::new(pen.lend(), &[], captured_at, &mut books.bytes.skipped).end();
        }
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
            Turns::Acknowledgments | Turns::LeftOut => false,
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
        let RequestTally { seen, left_out, delivered, answered, .. } = self.tally;
        books.requests.undelivered.add(end, seen - left_out - delivered);
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
        let http = self.http.as_ref().map_or(0, |http| {
            size_of::<Http1>()
                + http.ends.capacity() * size_of::<u64>()
                + http.requests.memory()
                + http.responses.memory()
        });
        http + self.waiting.as_ref().map_or(0, |waiting| waiting.memory())
    }

    /// An answer counts once its request was delivered: a shadow may answer early (413).
    fn count_answers(&mut self, books: &mut Books) {
        let answered = self.tally.responses.min(self.tally.delivered);
        books.requests.answered += answered - self.tally.answered;
        self.tally.answered = answered;
    }
}
