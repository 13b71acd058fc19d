//! Requests that wait for their responses.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::fate::Fates;
use super::{Body, Exchange, Head, Leg, Limits, Protocol, Request, Response, Status, Unpaired};
use crate::time::Instant;

/// One flow's requests, from the end of their heads until both legs have answered.
#[derive(Debug)]
pub(super) struct Pairs {
    pub limits: Limits,
    /// What becomes of requests that are edited; none when they are sent as they are.
    pub fates: Option<Fates>,
    client: SocketAddr,
    server: SocketAddr,
    /// In order of their ordinals.
    waiting: VecDeque<Pending>,
    /// Ordinal of the next request.
    next: u64,
    /// A request of which the head is not whole.
    begun: Option<Begun>,
    /// How much of the client's stream went to the shadow, and when the last of it did.
    forwarded: (u64, Instant),
    /// Ordinal of the first request of which nothing went there.
    unforwarded: u64,
    /// Octets of production's stream that were seen.
    heard: u64,
    /// Why a leg will answer no more.
    over: [Option<Unpaired>; 2],
    done: VecDeque<Box<Exchange>>,
    /// Heap octets of what is waiting and done.
    octets: usize,
}

/// Where and when a request began.
#[derive(Clone, Copy, Debug)]
struct Begun {
    offset: u64,
    at: Instant,
    forwarded_at: Option<Instant>,
}

#[derive(Debug)]
struct Pending {
    ordinal: u64,
    begun: Begun,
    /// The request's last octet was seen.
    whole: bool,
    /// Whether it is known what becomes of the request on each leg.
    answered: [bool; 2],
    /// Octets of production's stream that were seen when its response was whole.
    answered_at: u64,
    /// Where it stays until somebody has compared it: it is filled in place.
    exchange: Box<Exchange>,
}

impl Pending {
    fn is_complete(&self) -> bool {
        self.whole && self.answered == [true; 2]
    }

    /// What becomes of the request on a leg, if that is not known.
    fn answer(&mut self, leg: Leg) -> Option<&mut Result<Response, Unpaired>> {
        let was_answered = std::mem::replace(&mut self.answered[leg.index()], true);
        (!was_answered).then_some(match leg {
            Leg::Production => &mut self.exchange.production,
            Leg::Shadow => &mut self.exchange.shadow,
        })
    }

    /// The request has no response on a leg, unless it has one.
    fn fail(&mut self, leg: Leg, reason: Unpaired) {
        if let Some(answer) = self.answer(leg) {
            *answer = Err(reason);
        }
    }
}

/// A response, before it is known when it was asked for.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: Status,
    pub head: Head,
    pub trailers: Head,
    pub body: Body,
    pub first_at: Instant,
    pub ended_at: Instant,
}

impl Pairs {
    pub fn new(limits: Limits, client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            limits,
            fates: None,
            client,
            server,
            waiting: VecDeque::new(),
            next: 0,
            begun: None,
            forwarded: (0, Instant::default()),
            unforwarded: 0,
            heard: 0,
            over: [None; 2],
            done: VecDeque::new(),
            octets: 0,
        }
    }

    /// A request begins at `offset` of the client's stream.
    pub fn begin(&mut self, offset: u64, at: Instant) {
        // Where a request begins may be known only when some of it is on its way.
        let (forwarded, forwarded_at) = self.forwarded;
        let forwarded_at = (offset < forwarded).then_some(forwarded_at);
        self.begun = Some(Begun { offset, at, forwarded_at });
    }

    /// The head of the request that has begun is whole. Gives its ordinal, which counts the flow's
    /// requests.
    pub fn open(
        &mut self,
        protocol: Protocol,
        number: Option<u64>,
        method: Box<str>,
        target: Box<str>,
        head: Head,
    ) -> u64 {
        let ordinal = self.next;
        self.next += 1;
        let begun = self.begun.take().unwrap_or(Begun {
            offset: 0,
            at: Instant::default(),
            forwarded_at: None,
        });
        let request = Request { at: begun.at, method, target, head, body: Body::default() };
        self.octets += of_request(&request);
        let [production, shadow] = self.over.map(|over| Err(over.unwrap_or(Unpaired::Closed)));
        self.waiting.push_back(Pending {
            ordinal,
            begun,
            whole: false,
            answered: self.over.map(|over| over.is_some()),
            answered_at: 0,
            exchange: Box::new(Exchange {
                protocol,
                client: self.client,
                server: self.server,
                number: number.unwrap_or(ordinal),
                request,
                production,
                shadow,
            }),
        });
        if self.waiting.len() > self.limits.pending.max(1) {
            self.shed(0);
        }
        ordinal
    }

    /// The request that has begun is none of the mirror's. Gives its ordinal.
    pub fn pass(&mut self) -> u64 {
        self.begun = None;
        self.next += 1;
        self.next - 1
    }

    /// The request's last octet was seen.
    pub fn whole(&mut self, ordinal: u64, body: Body) {
        let Some(at) = self.find(ordinal) else { return };
        let Some(pending) = self.waiting.get_mut(at) else { return };
        self.octets += body.kept.capacity();
        pending.exchange.request.body = body;
        pending.whole = true;
        self.flush(at);
    }

    /// The response's last octet was seen; its request may not be whole.
    pub fn answer(&mut self, leg: Leg, ordinal: u64, answer: Answer) {
        let Some(at) = self.find(ordinal) else { return };
        let Some(pending) = self.waiting.get_mut(at) else { return };
        let Answer { status, head, trailers, body, first_at, ended_at } = answer;
        let asked_at = match leg {
            Leg::Production => pending.begun.at,
            Leg::Shadow => pending.begun.forwarded_at.unwrap_or(pending.begun.at),
        };
        let response = Response { status, head, trailers, body, asked_at, first_at, ended_at };
        if let Some(answer) = pending.answer(leg) {
            self.octets += of_response(&response);
            *answer = Ok(response);
            if leg == Leg::Production {
                pending.answered_at = self.heard;
            }
            self.flush(at);
        }
    }

    /// The request will have no response on this leg.
    pub fn fail(&mut self, leg: Leg, ordinal: u64, reason: Unpaired) {
        let Some(at) = self.find(ordinal) else { return };
        if let Some(pending) = self.waiting.get_mut(at) {
            pending.fail(leg, reason);
            self.flush(at);
        }
    }

    /// The request will never be whole, so that it was none.
    pub fn withdraw(&mut self, ordinal: u64) {
        if let Some(pending) = self.find(ordinal).and_then(|at| self.waiting.remove(at)) {
            self.octets -= of_pending(&pending);
            self.flush_all();
        }
    }

    /// Whether the request waits for anything.
    pub fn is_waiting(&self, ordinal: u64) -> bool {
        self.find(ordinal).is_some()
    }

    /// Whether it is known what becomes of the request on this leg.
    pub fn is_answered(&self, leg: Leg, ordinal: u64) -> bool {
        let pending = self.find(ordinal).and_then(|at| self.waiting.get(at));
        pending.is_none_or(|pending| pending.answered[leg.index()])
    }

    /// The leg answers nothing more, and will not.
    pub fn end(&mut self, leg: Leg, reason: Unpaired) {
        if self.over[leg.index()].is_some() {
            return;
        }
        self.over[leg.index()] = Some(reason);
        for pending in &mut self.waiting {
            pending.fail(leg, reason);
        }
        self.flush_all();
    }

    /// The next octets of production's stream are seen, or passed over.
    pub fn hear(&mut self, octets: u64) {
        self.heard += octets;
    }

    /// Octets of production's stream that were seen.
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Octets of production's stream with which the first response is whole that the shadow has still
    /// to give, too.
    pub fn owed_from(&self) -> Option<u64> {
        let owed = self.waiting.iter().filter(|pending| {
            pending.answered == [true, false] && pending.exchange.production.is_ok()
        });
        owed.map(|pending| pending.answered_at).min()
    }

    /// Why the leg answers nothing more.
    pub fn over(&self, leg: Leg) -> Option<Unpaired> {
        self.over[leg.index()]
    }

    /// Nothing more comes: requests that are not whole were none.
    pub fn settle(&mut self, reason: Unpaired) {
        self.end(Leg::Production, reason);
        self.end(Leg::Shadow, reason);
        while let Some(pending) = self.waiting.pop_front() {
            if pending.whole {
                self.emit(pending);
            } else {
                self.octets -= of_pending(&pending);
            }
        }
        self.waiting = VecDeque::new();
        self.begun = None;
    }

    /// The client's stream up to `offset` went out to the shadow.
    pub fn forwarded(&mut self, offset: u64, at: Instant) {
        self.forwarded = (offset, at);
        let next = self.position(self.unforwarded);
        let waiting = self.waiting.iter_mut().skip(next);
        for pending in waiting.take_while(|pending| pending.begun.offset < offset) {
            pending.begun.forwarded_at.get_or_insert(at);
            self.unforwarded = pending.ordinal + 1;
        }
        if let Some(begun) = &mut self.begun
            && begun.offset < offset
        {
            begun.forwarded_at.get_or_insert(at);
        }
    }

    pub fn poll(&mut self) -> Option<Box<Exchange>> {
        let exchange = self.done.pop_front()?;
        self.octets -= of_exchange(&exchange);
        // An idle flow holds little.
        if self.done.is_empty() {
            self.done = VecDeque::new();
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(exchange)
    }

    /// Heap octets.
    pub fn memory(&self) -> usize {
        self.octets
            + self.fates.as_ref().map_or(0, Fates::memory)
            + self.waiting.capacity() * size_of::<Pending>()
            + self.done.capacity() * size_of::<Box<Exchange>>()
            + (self.waiting.len() + self.done.len()) * size_of::<Exchange>()
    }

    fn find(&self, ordinal: u64) -> Option<usize> {
        let at = self.position(ordinal);
        (self.waiting.get(at)?.ordinal == ordinal).then_some(at)
    }

    /// Where the first request stands whose ordinal is not less.
    ///
    /// Looked at first is where it stands when none is missing in between: all do in HTTP/1, and with many
    /// waiting each further look is one into memory that was not used for long.
    fn position(&self, ordinal: u64) -> usize {
        let Some(first) = self.waiting.front() else { return 0 };
        let Some(ahead) = ordinal.checked_sub(first.ordinal) else { return 0 };
        let likely = usize::try_from(ahead).unwrap_or(usize::MAX).min(self.waiting.len());
        let is_there = match self.waiting.get(likely) {
            Some(pending) => pending.ordinal == ordinal,
            None => self.waiting.back().is_some_and(|last| last.ordinal < ordinal),
        };
        if is_there {
            return likely;
        }
        self.waiting.partition_point(|pending| pending.ordinal < ordinal)
    }

    /// Gives up the request at a position.
    fn shed(&mut self, at: usize) {
        if let Some(mut pending) = self.waiting.remove(at) {
            for leg in Leg::BOTH {
                pending.fail(leg, Unpaired::Shed);
            }
            self.emit(pending);
            self.flush_all();
        }
    }

    /// Hands out the request at a position if it is complete. HTTP/2's streams have no order; the
    /// other protocols' requests go out in theirs.
    fn flush(&mut self, at: usize) {
        let Some(pending) = self.waiting.get(at) else { return };
        if !pending.is_complete() {
            return;
        }
        if at == 0 {
            self.flush_all();
        } else if pending.exchange.protocol == Protocol::Http2
            && let Some(pending) = self.waiting.remove(at)
        {
            self.emit(pending);
        }
    }

    fn flush_all(&mut self) {
        let mut at = 0;
        while let Some(pending) = self.waiting.get(at) {
            if pending.is_complete() {
                if let Some(pending) = self.waiting.remove(at) {
                    self.emit(pending);
                }
            } else if pending.exchange.protocol == Protocol::Http2 {
                at += 1;
            } else {
                break;
            }
        }
    }

    fn emit(&mut self, pending: Pending) {
        self.done.push_back(pending.exchange);
    }
}

fn of_head(head: &Head) -> usize {
    match head {
        Head::Http1(octets) => octets.len(),
        Head::Fields(fields) => {
            fields.capacity() * size_of::<super::Field>()
                + fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        }
    }
}

fn of_request(request: &Request) -> usize {
    let Request { method, target, head, body, .. } = request;
    method.len() + target.len() + of_head(head) + body.kept.capacity()
}

fn of_response(response: &Response) -> usize {
    of_head(&response.head) + of_head(&response.trailers) + response.body.kept.capacity()
}

fn of_answer(answer: &Result<Response, Unpaired>) -> usize {
    answer.as_ref().map_or(0, of_response)
}

fn of_pending(pending: &Pending) -> usize {
    of_exchange(&pending.exchange)
}

fn of_exchange(exchange: &Exchange) -> usize {
    of_request(&exchange.request) + of_answer(&exchange.production) + of_answer(&exchange.shadow)
}
