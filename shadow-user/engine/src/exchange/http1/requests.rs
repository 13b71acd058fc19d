//! The client's side of HTTP/1.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::{Answers, Upgrade};
use crate::exchange::body::BodyDraft;
use crate::exchange::fate::{Fate, Fates};
use crate::exchange::pairs::Pairs;
use crate::exchange::parser::Parser;
use crate::exchange::{Body, Head, Leg, Protocol, Unpaired};
use crate::http::{Method, RequestEvent, Visitor};
use crate::time::Instant;

/// A leg with so many times more unanswered requests than may wait is given up: what it still has
/// to answer must be remembered, though its exchanges are not.
const MAX_UNANSWERED: usize = 8;

/// A request of which the body is being read.
#[derive(Debug)]
pub(super) struct RequestDraft {
    /// None until its head is whole.
    ordinal: Option<u64>,
    /// It asks for HTTP/2.
    h2c: bool,
    head: Option<Box<[u8]>>,
    body: BodyDraft,
    /// Whether it is sent is known only when it is whole: what its response will be like.
    open: Option<Method>,
}

/// A whole request of which nobody has said whether it is sent.
#[derive(Debug)]
pub(super) struct Undecided {
    ordinal: u64,
    /// What its response will be like.
    method: Method,
    body: Body,
}

impl Undecided {
    pub fn memory(&self) -> usize {
        self.body.kept.capacity()
    }
}

impl RequestDraft {
    pub fn memory(&self) -> usize {
        self.head.as_deref().map_or(0, <[u8]>::len) + self.body.memory()
    }
}

/// Takes what the parser finds in the client's octets.
pub(super) struct Asking<'a> {
    pub pairs: &'a mut Pairs,
    pub legs: &'a mut [Answers; 2],
    pub draft: &'a mut Option<RequestDraft>,
    pub undecided: &'a mut VecDeque<Undecided>,
    pub at: Instant,
    pub upgrade: &'a mut Upgrade,
    /// Another protocol followed, which is not read.
    pub tunnel: bool,
}

impl Asking<'_> {
    fn draft(&mut self) -> &mut RequestDraft {
        let limits = &self.pairs.limits;
        self.draft.get_or_insert_with(|| RequestDraft {
            ordinal: None,
            h2c: false,
            head: None,
            body: BodyDraft::new(limits),
            open: None,
        })
    }

    /// The client's octets are no HTTP/1: the request in which they stand is told of, once, as what
    /// cannot be read on either leg, since what the legs make of it cannot be told.
    pub fn fail(&mut self) {
        let Some(RequestDraft { ordinal, head, .. }) = self.draft.take() else { return };
        let ordinal = ordinal.unwrap_or_else(|| self.open(head.unwrap_or_default()));
        for leg in Leg::BOTH {
            self.pairs.fail(leg, ordinal, Unpaired::Unparsable);
        }
        self.pairs.whole(ordinal, Body::default());
    }

    /// Something else than HTTP/1 follows.
    fn tunnelled(&mut self) {
        let Some((ordinal, _)) = self.upgrade.asked else {
            self.tunnel = true;
            return;
        };
        self.upgrade.begun = true;
        for (answers, leg) in self.legs.iter_mut().zip(Leg::BOTH) {
            // This leg has declined. One that is still answering is given up behind its answer.
            if !answers.upgraded
                && answers.next.has_taken(ordinal)
                && answers.responses.is_unasked()
            {
                answers.give_up();
                self.pairs.end(leg, Unpaired::Tunnel);
            }
        }
    }

    fn head_ended(&mut self, method: Method, upgrade: bool) {
        let head = self.draft().head.take().unwrap_or_default();
        self.upgrade.asked = None;
        let fate = self.pairs.fates.as_mut().map(Fates::pop);
        self.draft().h2c = upgrade && asks_for_http2(&head);
        let ordinal = match fate {
            None | Some(Some(Fate::Sent)) => self.open(head),
            Some(None) => {
                self.draft().open = Some(method);
                self.open(head)
            }
            Some(Some(Fate::LeftOut)) => {
                *self.draft = None;
                self.pairs.pass()
            }
        };
        if let Some(draft) = self.draft {
            draft.ordinal = Some(ordinal);
        }
        for leg in Leg::BOTH {
            let answers = &mut self.legs[leg.index()];
            // The client goes on with HTTP/1, and this leg does not.
            if answers.upgraded {
                answers.give_up();
                self.pairs.end(leg, Unpaired::Tunnel);
            }
            match (leg, self.draft.as_ref()) {
                (Leg::Shadow, None) => answers.next.leave_out(ordinal),
                (Leg::Shadow, Some(draft)) if draft.open.is_some() => {}
                _ => self.expect(leg, method),
            }
        }
    }

    fn ended(&mut self, offset: u64) {
        let Some(draft) = self.draft.take() else { return };
        let RequestDraft { ordinal: Some(ordinal), body, h2c, open, .. } = draft else { return };
        let body = body.finish();
        self.upgrade.asked = h2c.then_some((ordinal, offset));
        let Some(method) = open else { return self.pairs.whole(ordinal, body) };
        let request = Undecided { ordinal, method, body };
        // What is decided is so in order.
        match self.pairs.fates.as_mut().and_then(Fates::pop) {
            Some(fate) => self.decide(request, fate),
            None => self.undecided.push_back(request),
        }
    }

    /// What becomes of a whole request.
    pub fn decide(&mut self, request: Undecided, fate: Fate) {
        let Undecided { ordinal, method, body } = request;
        match fate {
            Fate::Sent => {
                self.expect(Leg::Shadow, method);
                self.pairs.whole(ordinal, body);
            }
            Fate::LeftOut => {
                self.legs[Leg::Shadow.index()].next.leave_out(ordinal);
                self.pairs.withdraw(ordinal);
                if self.upgrade.asked.is_some_and(|(asked, _)| asked == ordinal) {
                    self.upgrade.asked = None;
                }
            }
        }
    }

    /// The leg will answer a request.
    fn expect(&mut self, leg: Leg, method: Method) {
        let bound = self.pairs.limits.pending.saturating_mul(MAX_UNANSWERED);
        let answers = &mut self.legs[leg.index()];
        if !answers.over {
            answers.responses.expect(method);
        }
        if answers.responses.outstanding() > bound {
            answers.give_up();
            self.pairs.end(leg, Unpaired::Shed);
        }
    }

    fn open(&mut self, head: Box<[u8]>) -> u64 {
        let (method, target) = request_line(&head);
        self.pairs.open(Protocol::Http1, None, method, target, Head::Http1(head))
    }
}

impl Visitor<RequestEvent> for Asking<'_> {
    fn event(&mut self, event: RequestEvent) {
        match event {
            RequestEvent::Started { offset } => self.pairs.begin(offset, self.at),
            RequestEvent::Head { method, upgrade, .. } => self.head_ended(method, upgrade),
            RequestEvent::Ended { offset } => self.ended(offset),
            RequestEvent::Tunnel { .. } => self.tunnelled(),
        }
    }

    fn head(&mut self, octets: Cow<'_, [u8]>) {
        self.draft().head = Some(octets.into_owned().into_boxed_slice());
    }

    fn tunnel(&mut self, octets: &[u8]) {
        if let Some(http2) = self.upgrade.http2() {
            http2.requested(octets, self.at, self.pairs);
        }
    }

    fn malformed(&mut self, octets: Cow<'_, [u8]>) {
        self.draft().head = Some(octets.into_owned().into_boxed_slice());
    }

    fn body(&mut self, octets: &[u8]) {
        if let Some(draft) = self.draft {
            draft.body.push(octets);
        }
    }
}

/// Whether the protocol that a head asks for is HTTP/2 (RFC 7540, 3.2).
fn asks_for_http2(head: &[u8]) -> bool {
    head.split(|octet| *octet == b'\n').any(|line| {
        let (name, value) = line.split_at(line.len().min(b"upgrade:".len()));
        name.eq_ignore_ascii_case(b"upgrade:")
            && value.split(|octet| *octet == b',').any(|protocol| protocol.trim_ascii() == b"h2c")
    })
}

/// Method and target of a head.
fn request_line(head: &[u8]) -> (Box<str>, Box<str>) {
    let line = head.split(|octet| *octet == b'\n').next().unwrap_or_default();
    let mut words = line.trim_ascii().split(|octet| *octet == b' ');
    let mut word = || String::from_utf8_lossy(words.next().unwrap_or_default()).into();
    (word(), word())
}
