//! A leg's side of HTTP/1.

use std::borrow::Cow;

use super::{Order, Upgrade};
use crate::exchange::body::BodyDraft;
use crate::exchange::pairs::{Answer, Pairs};
use crate::exchange::{Head, Leg, Status, Unpaired};
use crate::http::{ResponseEvent, Visitor};
use crate::time::Instant;

/// A response that is being read; empty between responses.
#[derive(Debug, Default)]
pub(super) struct ResponseDraft {
    first_at: Instant,
    head: Box<[u8]>,
    trailers: Vec<u8>,
    /// From the end of the head on.
    body: Option<BodyDraft>,
    ordinal: u64,
}

impl ResponseDraft {
    pub fn skip(&mut self, octets: u64) {
        if let Some(body) = &mut self.body {
            body.skip(octets);
        }
    }

    pub fn memory(&self) -> usize {
        let body = self.body.as_ref().map_or(0, BodyDraft::memory);
        self.head.len() + self.trailers.capacity() + body
    }
}

/// Takes what the parser finds in a leg's octets.
pub(super) struct Answering<'a> {
    pub pairs: &'a mut Pairs,
    pub leg: Leg,
    pub draft: &'a mut ResponseDraft,
    pub next: &'a mut Order,
    pub at: Instant,
    pub upgrade: &'a mut Upgrade,
    /// HTTP/2 follows.
    pub upgraded: &'a mut bool,
}

impl Answering<'_> {
    pub fn on(&mut self, event: ResponseEvent) {
        match event {
            ResponseEvent::Started { .. } => {
                *self.draft = ResponseDraft { first_at: self.at, ..ResponseDraft::default() };
            }
            ResponseEvent::Interim { .. } => self.draft.head = Box::default(),
            ResponseEvent::Head { .. } => {
                self.draft.ordinal = self.next.take();
                self.draft.body = Some(BodyDraft::new(&self.pairs.limits));
            }
            ResponseEvent::Ended { status, upgrade, .. } => {
                let ResponseDraft { first_at, head, trailers, body, ordinal } =
                    std::mem::take(self.draft);
                let fields = !matches!(&*trailers, b"" | b"\r\n" | b"\n");
                let trailers = if fields { trailers.into_boxed_slice() } else { Box::default() };
                let answer = Answer {
                    status: Status::Http(status),
                    head: Head::Http1(head),
                    trailers: Head::Http1(trailers),
                    body: body.map(BodyDraft::finish).unwrap_or_default(),
                    first_at,
                    ended_at: self.at,
                };
                // The response comes in HTTP/2.
                if status == 101 && self.upgrade.asked.is_some_and(|(asked, _)| asked == ordinal) {
                    *self.upgraded = true;
                    return;
                }
                self.pairs.answer(self.leg, ordinal, answer);
                let declined = self.upgrade.asked.is_some_and(|(asked, _)| asked <= ordinal);
                if upgrade || self.upgrade.begun && declined {
                    self.pairs.end(self.leg, Unpaired::Tunnel);
                }
            }
        }
    }
}

impl Visitor<ResponseEvent> for Answering<'_> {
    fn event(&mut self, event: ResponseEvent) {
        self.on(event);
    }

    fn head(&mut self, octets: Cow<'_, [u8]>) {
        self.draft.head = octets.into_owned().into_boxed_slice();
    }

    fn body(&mut self, octets: &[u8]) {
        if let Some(body) = &mut self.draft.body {
            body.push(octets);
        }
    }

    fn trailers(&mut self, octets: &[u8]) {
        self.draft.trailers.extend_from_slice(octets);
    }
}
