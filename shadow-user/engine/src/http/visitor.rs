//! Who is told what a stream consists of.

use std::borrow::Cow;

/// Is told of a stream's events, and handed the octets between them. What is not overridden costs
/// nothing: the parsers are compiled for each visitor.
pub trait Visitor<Event> {
    /// Something happened.
    fn event(&mut self, event: Event);

    /// A whole head, its empty line included; its event follows. It is owned where it came in
    /// several pushes and had to be put together.
    fn head(&mut self, _octets: Cow<'_, [u8]>) {}

    /// What was to be a head, up to its empty line, or as far as it goes within the bound.
    fn malformed(&mut self, _octets: Cow<'_, [u8]>) {}

    /// The next octets of a body, transfer coding removed.
    fn body(&mut self, _octets: &[u8]) {}

    /// The next octets of a trailer section, its empty line included.
    fn trailers(&mut self, _octets: &[u8]) {}

    /// The next octets of the protocol that followed.
    fn tunnel(&mut self, _octets: &[u8]) {}

    /// Whether reading ends where the last event was told of; the rest is for another visit.
    fn pauses(&self) -> bool {
        false
    }
}

/// Wants the events alone.
pub(super) struct Events<'a, F>(pub &'a mut F);

impl<Event, F: FnMut(Event)> Visitor<Event> for Events<'_, F> {
    fn event(&mut self, event: Event) {
        (self.0)(event);
    }
}

/// A part of a body on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// Content.
    Content,
    /// The trailer section.
    Trailers,
}
