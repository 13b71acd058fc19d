//! What is added to a client's stream on its way to the shadow.
//!
//! The client's stream and the stream that is sent have offsets of their own;
//! everything else in a session counts in the client's.

use std::collections::VecDeque;
use std::net::SocketAddr;

use ppp::v2::{Builder, Command, Protocol, Version};

use crate::config::ClientAddress;

/// Additions to one stream.
#[derive(Debug)]
pub(crate) struct Shape {
    /// A header line for every HTTP/1 request, with its line end.
    header: Option<Box<[u8]>>,
    /// Octets of the client's stream that were taken in.
    taken: u64,
    /// A request's head whose end has not come yet: there the header line goes.
    held: Vec<u8>,
    /// Where the head that is being read begins, if it has begun.
    head: Option<u64>,
    /// Where heads end in the bytes that are being taken in.
    head_ends: VecDeque<u64>,
    /// Additions that the shadow has not acknowledged as a whole, in order.
    additions: VecDeque<Addition>,
    /// Octets of those that it has.
    acknowledged: u64,
}

/// Octets that stand before offset `at` of the client's stream.
#[derive(Clone, Copy, Debug)]
struct Addition {
    at: u64,
    len: u64,
}

impl Shape {
    /// What a session of `client` with `production` needs; none when nothing is added.
    pub(crate) fn new(
        how: ClientAddress,
        client: SocketAddr,
        production: SocketAddr,
        write: impl FnOnce(&[u8]),
    ) -> Option<Self> {
        let mut shape = Self {
            header: None,
            taken: 0,
            held: Vec::new(),
            head: None,
            head_ends: VecDeque::new(),
            additions: VecDeque::new(),
            acknowledged: 0,
        };
        match how {
            ClientAddress::None => return None,
            ClientAddress::ProxyProtocolV2 => {
                let header = proxy_header(client, production);
                write(&header);
                shape.additions.push_back(Addition { at: 0, len: header.len() as u64 });
            }
            ClientAddress::XForwardedFor => {
                let line = format!("X-Forwarded-For: {}\r\n", client.ip());
                shape.header = Some(line.into_bytes().into());
            }
        }
        Some(shape)
    }

    /// A request begins at `offset` of the client's stream.
    pub(crate) fn request_started(&mut self, offset: u64) {
        self.head = Some(offset);
    }

    /// Its head ends before `offset`.
    pub(crate) fn head_ended(&mut self, offset: u64) {
        self.head = None;
        self.head_ends.push_back(offset);
    }

    /// What follows is no request.
    pub(crate) fn no_request(&mut self) {
        self.head = None;
    }

    /// Takes in the client's next `bytes`, of which requests and heads were told; hands out what is to be sent.
    pub(crate) fn push(&mut self, bytes: &[u8], mut write: impl FnMut(&[u8])) {
        let Some(header) = &self.header else {
            self.taken += bytes.len() as u64;
            self.head_ends.clear();
            return write(bytes);
        };
        let mut rest = bytes;
        while let Some(end) = self.head_ends.pop_front() {
            // Before the empty line that ends the head.
            let at = end.saturating_sub(empty_line(&self.held, rest, end - self.taken));
            let split = usize::try_from(at.saturating_sub(self.taken)).unwrap_or(usize::MAX);
            let (before, after) = rest.split_at_checked(split).unwrap_or((rest, &[]));
            let held = std::mem::take(&mut self.held);
            // The empty line itself may be split over two pieces of the stream.
            let behind =
                usize::try_from(self.taken.saturating_sub(at)).unwrap_or(0).min(held.len());
            let (head, empty) = held.split_at(held.len() - behind);
            write(head);
            write(before);
            write(header);
            write(empty);
            self.additions.push_back(Addition { at, len: header.len() as u64 });
            self.taken += before.len() as u64;
            rest = after;
        }
        let hold =
            self.head.map(|start| usize::try_from(start.saturating_sub(self.taken)).unwrap_or(0));
        let (now, later) = rest.split_at(hold.unwrap_or(rest.len()).min(rest.len()));
        if self.head.is_none() && !self.held.is_empty() {
            write(&std::mem::take(&mut self.held));
        }
        write(now);
        self.held.extend_from_slice(later);
        self.taken += rest.len() as u64;
    }

    /// The end of the client's stream: what is held goes as it is.
    pub(crate) fn finish(&mut self, write: impl FnOnce(&[u8])) {
        if !self.held.is_empty() {
            write(&std::mem::take(&mut self.held));
        }
    }

    /// Where offset `octets` of the client's stream stands in the stream that is sent,
    /// with what was added there.
    pub(crate) fn sent(&self, octets: u64) -> u64 {
        let added: u64 =
            self.additions.iter().take_while(|one| one.at <= octets).map(|one| one.len).sum();
        octets + self.acknowledged + added
    }

    /// How much of the client's stream the first `sent` octets of the sent stream hold.
    /// Must not go back from call to call.
    pub(crate) fn received(&mut self, sent: u64) -> u64 {
        let is_whole = |first: &Addition, acknowledged| sent >= first.at + acknowledged + first.len;
        while let Some(first) = self.additions.pop_front_if(|one| is_whole(one, self.acknowledged))
        {
            self.acknowledged += first.len;
        }
        self.covered(sent)
    }

    /// The same of octets that need not be acknowledged; may go back from call to call.
    pub(crate) fn covered(&self, sent: u64) -> u64 {
        let mut added = self.acknowledged;
        for one in &self.additions {
            let begin = one.at + added;
            if sent < begin + one.len {
                return one.at.min(sent - added);
            }
            added += one.len;
        }
        sent - added
    }

    /// Heap octets.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.held.capacity()
            + self.header.as_ref().map_or(0, |header| header.len())
            + self.additions.capacity() * size_of::<Addition>()
    }
}

/// Octets of the empty line that ends a head at `end` of `held` and `rest` together:
/// RFC 9112, 2.2 lets a recipient take a lone LF for a line's end.
fn empty_line(held: &[u8], rest: &[u8], end: u64) -> u64 {
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    let before_lf = match end.checked_sub(2) {
        Some(index) => rest.get(index),
        None => held.len().checked_sub(2 - end).and_then(|index| held.get(index)),
    };
    if before_lf == Some(&b'\r') { 2 } else { 1 }
}

/// The PROXY protocol's header, version 2, for a proxied TCP connection.
fn proxy_header(client: SocketAddr, production: SocketAddr) -> Vec<u8> {
    let command = Version::Two | Command::Proxy;
    // Addresses of one connection are of one family, so the header can always be built.
    Builder::with_addresses(command, Protocol::Stream, (client, production))
        .build()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::{RequestEvent, Requests};

    fn client() -> SocketAddr {
        "192.0.2.7:4000".parse().unwrap()
    }

    fn production() -> SocketAddr {
        "10.0.0.5:80".parse().unwrap()
    }

    /// Sends `stream` through a shape, cut at `cuts`.
    fn shaped(how: ClientAddress, stream: &[u8], cuts: &[usize]) -> (Shape, Vec<u8>) {
        let mut sent = Vec::new();
        let mut shape =
            Shape::new(how, client(), production(), |bytes| sent.extend(bytes)).unwrap();
        let mut requests = Requests::new();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            let bytes = &stream[piece[0]..piece[1]];
            let parsed = requests.push(bytes, &mut |event| match event {
                RequestEvent::Started { offset } => shape.request_started(offset),
                RequestEvent::Head { offset, .. } => shape.head_ended(offset),
                RequestEvent::Ended { .. } | RequestEvent::Tunnel { .. } => {}
            });
            if parsed.is_err() {
                shape.no_request();
            }
            shape.push(bytes, |bytes| sent.extend(bytes));
        }
        shape.finish(|bytes| sent.extend(bytes));
        (shape, sent)
    }

    const STREAM: &[u8] = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyzGET /b HTTP/1.1\r\nHost: b\r\n\r\n";
    const FORWARDED: &[u8] = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-Forwarded-For: 192.0.2.7\r\n\r\nxyzGET /b HTTP/1.1\r\nHost: b\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";

    #[test]
    fn nothing_is_added_unless_asked_for() {
        assert!(Shape::new(ClientAddress::None, client(), production(), |_| {}).is_none());
    }

    #[test]
    fn the_proxy_header_stands_before_the_stream() {
        let (mut shape, sent) = shaped(ClientAddress::ProxyProtocolV2, STREAM, &[5]);
        let header = sent.len() - STREAM.len();
        assert_eq!(header, 28);
        assert!(sent.starts_with(
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x05\x0f\xa0\x00\x50"
        ));
        assert!(sent.ends_with(STREAM));
        assert_eq!(shape.sent(0), 28);
        assert_eq!(shape.received(27), 0);
        assert_eq!(shape.received(28), 0);
        assert_eq!(shape.received(38), 10);
        assert_eq!(shape.sent(10), 38);
    }

    #[test]
    fn lone_line_feeds_end_a_head_too() {
        let (_, sent) = shaped(ClientAddress::XForwardedFor, b"GET / HTTP/1.1\nHost: a\n\n", &[]);
        assert_eq!(sent, b"GET / HTTP/1.1\nHost: a\nX-Forwarded-For: 192.0.2.7\r\n\n");
    }

    #[test]
    fn what_is_no_request_goes_as_it_is() {
        for stream in [&b"\x00\x01\x02\x03 hello"[..], b"GET / HT", b"GET \x00 nonsense\r\n\r\n"] {
            let (_, sent) = shaped(ClientAddress::XForwardedFor, stream, &[1, 4]);
            assert_eq!(sent, stream);
        }
    }

    proptest! {
        #[test]
        fn every_request_gets_the_header_however_the_stream_is_cut(cuts in prop::collection::vec(any::<usize>(), 0..12)) {
            let (_, sent) = shaped(ClientAddress::XForwardedFor, STREAM, &cuts);
            prop_assert_eq!(String::from_utf8_lossy(&sent), String::from_utf8_lossy(FORWARDED));
        }

        #[test]
        fn offsets_agree(cuts in prop::collection::vec(any::<usize>(), 0..12)) {
            let (mut shape, sent) = shaped(ClientAddress::XForwardedFor, STREAM, &cuts);
            let mut last = 0;
            for octets in 0..=sent.len() as u64 {
                let received = shape.received(octets);
                prop_assert!(received >= last && received <= STREAM.len() as u64);
                prop_assert!(shape.sent(received) >= octets.min(shape.sent(received)));
                last = received;
            }
            prop_assert_eq!(last, STREAM.len() as u64);
        }
    }
}
