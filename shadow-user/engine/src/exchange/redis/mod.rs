//! Redis' protocol, RESP2 and RESP3: replies come in the order of their commands, and pushes between
//! them.
//!
//! A body is the command or the reply as it was on the wire. The protocol is read here, not by the
//! crate `redis-protocol`: that wants each frame whole in one buffer, looks at it from its beginning
//! with every octets that come, and recurses into what a peer nests.

mod commands;
mod resp;

pub(super) use commands::looks_like_command;

use commands::Commands;
use resp::{Event, Values};

use super::body::BodyDraft;
use super::pairs::{Answer, Pairs};
use super::parser::Parser;
use super::{Body, Head, Leg, Protocol, Status, Unpaired};
use crate::time::Instant;

/// One flow that speaks Redis' protocol.
#[derive(Debug, Default)]
pub(super) struct Redis {
    commands: Commands,
    command: Option<BodyDraft>,
    offset: u64,
    /// Commands that were seen whole.
    asked: u64,
    /// Replies no longer follow commands one by one, or the client speaks something else.
    left: bool,
    legs: [Answers; 2],
}

/// What one leg answers.
#[derive(Debug, Default)]
struct Answers {
    values: Values,
    draft: Option<ReplyDraft>,
    /// Ordinal of the command that is answered next.
    next: u64,
}

/// A value that is being read.
#[derive(Debug)]
struct ReplyDraft {
    kind: u8,
    first_at: Instant,
    body: BodyDraft,
}

impl Parser for Redis {
    fn requested(&mut self, bytes: &[u8], at: Instant, pairs: &mut Pairs) {
        let mut rest = bytes;
        while !rest.is_empty() && !self.left {
            if self.command.is_none() {
                // Empty lines between inline commands are none.
                let blank = rest.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
                self.offset += blank as u64;
                rest = rest.get(blank..).unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
                pairs.begin(self.offset, at);
            }
            let command = self.command.get_or_insert_with(|| BodyDraft::new(&pairs.limits));
            let read = self.commands.push(rest);
            let used = read.map_or(rest.len(), |(used, _)| used);
            let (octets, behind) = rest.split_at(used);
            command.push(octets);
            self.offset += used as u64;
            rest = behind;
            match read {
                Ok((_, false)) => {}
                Ok((_, true)) => self.asked(pairs),
                Err(_) => self.failed(pairs),
            }
        }
    }

    fn answered(&mut self, leg: Leg, bytes: &[u8], at: Instant, pairs: &mut Pairs) -> usize {
        let Self { legs, asked, left, .. } = self;
        let Answers { values, draft, next } = &mut legs[leg.index()];
        let mut used = 0;
        while let Some(rest) = bytes.get(used..)
            && let Some(first) = rest.first()
        {
            if draft.is_none() {
                if *next == *asked && *first != PUSH {
                    if *left {
                        pairs.end(leg, Unpaired::Tunnel);
                        return bytes.len();
                    }
                    return used;
                }
                let body = BodyDraft::new(&pairs.limits);
                *draft = Some(ReplyDraft { kind: *first, first_at: at, body });
            }
            let Ok((step, event)) = values.push(rest) else {
                pairs.end(leg, Unpaired::Unparsable);
                return bytes.len();
            };
            used += step;
            if let Some(draft) = draft
                && draft.kind != PUSH
            {
                draft.body.push(rest.get(..step).unwrap_or_default());
            }
            if event == Event::Ended
                && let Some(ReplyDraft { kind, first_at, body }) = draft.take()
                && kind != PUSH
            {
                let ordinal = *next;
                *next += 1;
                let answer = Answer {
                    status: Status::Redis(kind),
                    head: Head::default(),
                    trailers: Head::default(),
                    body: body.finish(),
                    first_at,
                    ended_at: at,
                };
                pairs.answer(leg, ordinal, answer);
            }
        }
        bytes.len()
    }

    fn skipped(&mut self, _leg: Leg, _octets: u64, _at: Instant, _pairs: &mut Pairs) -> u64 {
        0
    }

    fn closed(&mut self, _leg: Leg, _at: Instant, _pairs: &mut Pairs) {}

    fn give_up(&mut self, leg: Leg, _pairs: &Pairs) {
        self.legs[leg.index()] = Answers::default();
    }

    fn skippable(&self, _leg: Leg) -> u64 {
        0
    }

    fn holds_order(&self) -> bool {
        true
    }

    fn memory(&self) -> usize {
        let drafts = self.legs.iter().filter_map(|leg| leg.draft.as_ref());
        let command = self.command.as_ref().map_or(0, BodyDraft::memory);
        command + drafts.map(|draft| draft.body.memory()).sum::<usize>()
    }
}

/// The type of what a server sends unasked (RESP3).
const PUSH: u8 = b'>';

impl Redis {
    /// A command is whole.
    fn asked(&mut self, pairs: &mut Pairs) {
        let (name, ends) = self.commands.take();
        let body = self.command.take().map(BodyDraft::finish).unwrap_or_default();
        // An empty array is no command and has no reply.
        if name.is_empty() {
            return;
        }
        let ordinal = pairs.open(Protocol::Redis, None, name, Box::default(), Head::default());
        if ends {
            for leg in Leg::BOTH {
                pairs.fail(leg, ordinal, Unpaired::Tunnel);
            }
            self.left = true;
        } else {
            self.asked += 1;
        }
        pairs.whole(ordinal, body);
    }

    /// The client's octets are of no command.
    fn failed(&mut self, pairs: &mut Pairs) {
        let (name, _) = self.commands.take();
        self.command = None;
        let ordinal = pairs.open(Protocol::Redis, None, name, Box::default(), Head::default());
        for leg in Leg::BOTH {
            pairs.fail(leg, ordinal, Unpaired::Unparsable);
        }
        pairs.whole(ordinal, Body::default());
        self.left = true;
    }
}

#[cfg(test)]
mod tests;
