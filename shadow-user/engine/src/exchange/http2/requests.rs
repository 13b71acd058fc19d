//! The client's side of HTTP/2.

use super::frames::{Begun, Failed, Frames};
use super::hpack::Decoder;
use super::streams::{Streams, find, regular};
use crate::exchange::pairs::Pairs;
use crate::exchange::{Body, Head, Leg, Protocol, Unpaired};

/// Takes what the parser finds in the client's octets.
pub(super) struct Asking<'a> {
    pub pairs: &'a mut Pairs,
    pub streams: &'a mut Streams,
    pub decoder: &'a mut Decoder,
}

impl Asking<'_> {
    /// The client's octets are no HTTP/2: the requests within them will never be whole, and are told
    /// of as what cannot be read.
    pub fn fail(&mut self) {
        let unfinished: Vec<_> = self.streams.unfinished().collect();
        for ordinal in unfinished {
            for leg in Leg::BOTH {
                self.pairs.fail(leg, ordinal, Unpaired::Unparsable);
            }
            self.pairs.whole(ordinal, Body::default());
        }
    }
}

impl Frames for Asking<'_> {
    fn accepts(&self, _stream: u32) -> bool {
        true
    }

    fn headers(
        &mut self,
        stream: u32,
        begun: Begun,
        block: &[u8],
        end: bool,
    ) -> Result<(), Failed> {
        let fields = self.decoder.decode(block).map_err(|_| Failed)?;
        if stream > self.streams.last() && stream % 2 == 1 {
            let text = |name| {
                String::from_utf8_lossy(find(&fields, name).unwrap_or_default()).into_owned().into()
            };
            let (method, target) = (text(":method"), text(":path"));
            let head = Head::Fields(regular(fields));
            self.pairs.begin(begun.offset, begun.at);
            let number = Some(u64::from(stream));
            let ordinal = self.pairs.open(Protocol::Http2, number, method, target, head);
            self.streams.open(stream, ordinal, &self.pairs.limits);
            for leg in Leg::BOTH {
                if !self.streams.is_answered(leg, stream) {
                    self.pairs.fail(leg, ordinal, Unpaired::Closed);
                }
            }
        }
        if end {
            self.ended(stream);
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, octets: &[u8]) {
        if let Some(body) = self.streams.get_mut(stream).and_then(|open| open.request.as_mut()) {
            body.push(octets);
        }
    }

    fn skipped(&mut self, _stream: u32, _octets: u64) {}

    fn ended(&mut self, stream: u32) {
        if let Some(open) = self.streams.get_mut(stream)
            && let Some(body) = open.request.take()
        {
            self.pairs.whole(open.ordinal, body.finish());
            self.streams.prune(stream, self.pairs);
        }
    }

    fn reset(&mut self, stream: u32) {
        let Some(open) = self.streams.get_mut(stream) else { return };
        let ordinal = open.ordinal;
        if open.request.is_some() {
            // It will never be whole.
            self.pairs.withdraw(ordinal);
        } else if !self.pairs.is_answered(Leg::Production, ordinal) {
            // Nobody waits for an answer any more.
            for leg in Leg::BOTH {
                self.pairs.fail(leg, ordinal, Unpaired::Closed);
            }
        }
        self.streams.prune(stream, self.pairs);
    }

    fn go_away(&mut self, _last: u32) {}
}
