//! Streams that are open.

use std::collections::BTreeMap;

use crate::exchange::body::BodyDraft;
use crate::exchange::pairs::Pairs;
use crate::exchange::{Field, Leg, Limits};
use crate::time::Instant;

/// Streams by their identifiers, from their request's head until the exchange is complete.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: BTreeMap<u32, Stream>,
    /// The highest that was opened.
    last: u32,
    /// Each leg answers no stream beyond.
    answered_to: [Option<u32>; 2],
    /// Heap octets of the drafts' heads.
    octets: usize,
}

/// One request and what answers it.
#[derive(Debug)]
pub(super) struct Stream {
    pub ordinal: u64,
    /// None once the request is whole.
    pub request: Option<BodyDraft>,
    pub responses: [Option<ResponseDraft>; 2],
}

/// A response that is being read.
#[derive(Debug)]
pub(super) struct ResponseDraft {
    pub first_at: Instant,
    pub status: u16,
    pub head: Vec<Field>,
    pub trailers: Vec<Field>,
    pub body: BodyDraft,
}

impl Streams {
    /// Stream 1 is the request's that asked for the upgrade; HTTP/1 reads its body.
    pub fn adopt(&mut self, ordinal: u64) {
        self.last = 1;
        self.open.insert(1, Stream { ordinal, request: None, responses: [None, None] });
    }

    /// The client has opened a stream.
    pub fn open(&mut self, stream: u32, ordinal: u64, limits: &Limits) {
        self.last = stream;
        let request = Some(BodyDraft::new(limits));
        self.open.insert(stream, Stream { ordinal, request, responses: [None, None] });
        while self.open.len() > limits.pending.max(1)
            && let Some((_, shed)) = self.open.pop_first()
        {
            self.octets -= shed.octets();
        }
    }

    pub fn last(&self) -> u32 {
        self.last
    }

    pub fn get_mut(&mut self, stream: u32) -> Option<&mut Stream> {
        self.open.get_mut(&stream)
    }

    /// Ends a stream's response, or takes it back.
    pub fn take_response(&mut self, stream: u32, leg: Leg) -> Option<(u64, ResponseDraft)> {
        let open = self.open.get_mut(&stream)?;
        let draft = open.responses[leg.index()].take()?;
        self.octets -= draft.octets();
        Some((open.ordinal, draft))
    }

    /// Begins a stream's response.
    pub fn begin_response(&mut self, stream: u32, leg: Leg, draft: ResponseDraft) {
        if let Some(open) = self.open.get_mut(&stream) {
            self.octets += draft.octets();
            open.responses[leg.index()] = Some(draft);
        }
    }

    /// Forgets a stream if its exchange is complete.
    pub fn prune(&mut self, stream: u32, pairs: &Pairs) {
        if let Some(open) = self.open.get(&stream)
            && !pairs.is_waiting(open.ordinal)
        {
            self.remove(stream);
        }
    }

    pub fn remove(&mut self, stream: u32) {
        if let Some(open) = self.open.remove(&stream) {
            self.octets -= open.octets();
        }
    }

    /// A leg says that it answers no stream beyond `last`; gives the requests that it leaves.
    pub fn go_away(&mut self, leg: Leg, last: u32) -> Vec<(u32, u64)> {
        self.answered_to[leg.index()] = Some(last);
        let Some(beyond) = last.checked_add(1) else { return Vec::new() };
        self.open.range(beyond..).map(|(stream, open)| (*stream, open.ordinal)).collect()
    }

    /// Whether the leg answers a stream at all.
    pub fn is_answered(&self, leg: Leg, stream: u32) -> bool {
        self.answered_to[leg.index()].is_none_or(|last| stream <= last)
    }

    /// Whether the leg is within a response.
    pub fn is_answering(&self, leg: Leg) -> bool {
        self.open.values().any(|open| open.responses[leg.index()].is_some())
    }

    /// The requests that are not whole.
    pub fn unfinished(&self) -> impl Iterator<Item = u64> {
        self.open.values().filter(|open| open.request.is_some()).map(|open| open.ordinal)
    }

    /// A leg is over: what it was answering is of no more use.
    pub fn give_up(&mut self, leg: Leg, pairs: &Pairs) {
        self.open.retain(|_, open| {
            open.responses[leg.index()] = None;
            pairs.is_waiting(open.ordinal)
        });
        self.octets = self.open.values().map(Stream::octets).sum();
    }

    /// Heap octets.
    pub fn memory(&self) -> usize {
        // A node of the tree is half full at least.
        let nodes = self.open.len() * 2 * size_of::<(u32, Stream)>();
        let bodies = |open: &Stream| {
            let responses = open.responses.iter().flatten().map(|draft| draft.body.memory());
            open.request.as_ref().map_or(0, BodyDraft::memory) + responses.sum::<usize>()
        };
        nodes + self.octets + self.open.values().map(bodies).sum::<usize>()
    }
}

impl Stream {
    fn octets(&self) -> usize {
        self.responses.iter().flatten().map(ResponseDraft::octets).sum()
    }
}

impl ResponseDraft {
    /// Heap octets of its head, which is whole from the start on.
    fn octets(&self) -> usize {
        self.head.capacity() * size_of::<Field>()
            + self.head.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// The first field of a name.
pub(super) fn find<'a>(fields: &'a [Field], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(known, _)| **known == *name.as_bytes()).map(|(_, value)| &**value)
}

/// A status code, HTTP's or gRPC's.
pub(super) fn code(fields: &[Field], name: &str) -> Option<u16> {
    str::from_utf8(find(fields, name)?).ok()?.parse().ok()
}

/// Without pseudo-fields.
pub(super) fn regular(mut fields: Vec<Field>) -> Vec<Field> {
    fields.retain(|(name, _)| !name.starts_with(b":"));
    fields
}
