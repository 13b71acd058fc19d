//! A leg's side of HTTP/2.

use super::frames::{Begun, Failed, Frames};
use super::hpack::Decoder;
use super::streams::{ResponseDraft, Streams, code, find, regular};
use crate::exchange::body::BodyDraft;
use crate::exchange::pairs::{Answer, Pairs};
use crate::exchange::{Field, Head, Leg, Status, Unpaired};
use crate::time::Instant;

/// Takes what the parser finds in a leg's octets.
pub(super) struct Answering<'a> {
    pub pairs: &'a mut Pairs,
    pub streams: &'a mut Streams,
    pub decoder: &'a mut Decoder,
    pub leg: Leg,
    pub at: Instant,
}

impl Answering<'_> {
    fn draft(&mut self, stream: u32) -> Option<&mut ResponseDraft> {
        self.streams.get_mut(stream)?.responses[self.leg.index()].as_mut()
    }

    /// The head of a response, interim or final.
    fn head(&mut self, stream: u32, first_at: Instant, fields: Vec<Field>) -> Result<(), Failed> {
        let status = code(&fields, ":status").ok_or(Failed)?;
        // RFC 9113, 8.1: interim responses come before the final one, and 101 is none.
        if !(100..200).contains(&status) {
            let draft = ResponseDraft {
                first_at,
                status,
                head: regular(fields),
                trailers: Vec::new(),
                body: BodyDraft::new(&self.pairs.limits),
            };
            self.streams.begin_response(stream, self.leg, draft);
        }
        Ok(())
    }
}

impl Frames for Answering<'_> {
    fn accepts(&self, stream: u32) -> bool {
        // The request may have been overtaken; streams with even numbers are the server's own.
        stream.is_multiple_of(2) || stream <= self.streams.last()
    }

    fn headers(
        &mut self,
        stream: u32,
        begun: Begun,
        block: &[u8],
        end: bool,
    ) -> Result<(), Failed> {
        let fields = self.decoder.decode(block).map_err(|_| Failed)?;
        if let Some(draft) = self.draft(stream) {
            // RFC 9113, 8.1: what follows the head without ending the stream is malformed.
            if !end {
                return Err(Failed);
            }
            draft.trailers = regular(fields);
        } else if self.streams.get_mut(stream).is_some() {
            self.head(stream, begun.at, fields)?;
        }
        if end {
            self.ended(stream);
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, octets: &[u8]) {
        if let Some(draft) = self.draft(stream) {
            draft.body.push(octets);
        }
    }

    fn skipped(&mut self, stream: u32, octets: u64) {
        if let Some(draft) = self.draft(stream) {
            draft.body.skip(octets);
        }
    }

    fn ended(&mut self, stream: u32) {
        let Some((ordinal, draft)) = self.streams.take_response(stream, self.leg) else { return };
        let answer = Answer {
            status: status(&draft),
            head: Head::Fields(draft.head),
            trailers: Head::Fields(draft.trailers),
            body: draft.body.finish(),
            first_at: draft.first_at,
            ended_at: self.at,
        };
        self.pairs.answer(self.leg, ordinal, answer);
        self.streams.prune(stream, self.pairs);
    }

    fn reset(&mut self, stream: u32) {
        let _cut = self.streams.take_response(stream, self.leg);
        if let Some(open) = self.streams.get_mut(stream) {
            self.pairs.fail(self.leg, open.ordinal, Unpaired::Closed);
            self.streams.prune(stream, self.pairs);
        }
    }

    fn go_away(&mut self, last: u32) {
        for (stream, ordinal) in self.streams.go_away(self.leg, last) {
            self.pairs.fail(self.leg, ordinal, Unpaired::Closed);
            self.streams.prune(stream, self.pairs);
        }
    }
}

/// gRPC's status stands in the trailers, or in the head where there is nothing else.
fn status(draft: &ResponseDraft) -> Status {
    let http = Status::Http(draft.status);
    let grpc =
        find(&draft.head, "content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"));
    if !grpc || draft.status != 200 {
        return http;
    }
    let of = |fields: &[Field]| code(fields, "grpc-status");
    of(&draft.trailers).or_else(|| of(&draft.head)).map_or(http, Status::Grpc)
}
