//! The requests of a client's stream.

use std::mem::MaybeUninit;

use httparse::{Request, Status};

use super::body::{Body, Chunk, Progress};
use super::fields::{Fields, TransferEncoding};
use super::head::{Head, HeadBuffer, MAX_FIELDS};
use super::visitor::{Events, Part, Visitor};
use super::{HttpError, Method, Recognition, looks_like_request};

/// Something that happened in a client's stream. Offsets are in octets from the
/// first that was pushed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestEvent {
    /// A request begins.
    Started {
        /// Of its first octet; empty lines before it belong to no request.
        offset: u64,
    },
    /// Its head is whole.
    Head {
        /// Where the body, or the next request, begins.
        offset: u64,
        /// What the response's end depends on.
        method: Method,
        /// The body may wait for a 100 response (RFC 9110, 10.1.1).
        expects_continue: bool,
        /// It asks for another protocol (RFC 9110, 7.8).
        upgrade: bool,
    },
    /// It is whole.
    Ended {
        /// Behind its last octet.
        offset: u64,
    },
    /// After a request for another protocol, or CONNECT, something follows that
    /// is not HTTP/1. Nothing further is told of the stream.
    Tunnel {
        /// Of the first octet that is not HTTP/1.
        offset: u64,
    },
}

/// Octets that suffice to tell a request from anything else.
const DECISIVE_LEN: usize = 32 * 1024;

/// Finds the boundaries of requests. Holds no heap memory between requests.
#[derive(Debug, Default)]
pub struct Requests {
    state: State,
    /// Octets read so far.
    offset: u64,
    head: HeadBuffer,
    /// The present request is CONNECT or asks for another protocol.
    may_tunnel: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// Between requests, where empty lines are skipped.
    #[default]
    Idle,
    /// Behind the CR of an empty line.
    IdleCr,
    /// In a head.
    Head,
    /// In a body.
    Body(Body),
    /// Behind a request that may have turned the connection into a tunnel, and
    /// before enough to tell what follows.
    Undecided {
        /// Where that begins.
        begin: u64,
    },
    /// In a tunnel.
    Tunnel,
    /// Behind an error.
    Failed(HttpError),
}

/// What a head says.
struct Read {
    method: Method,
    expects_continue: bool,
    upgrade: bool,
    /// None: there is no body.
    body: Option<Body>,
}

impl Requests {
    /// Starts at the beginning of a stream, or between two requests.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on. Every chunking of a stream gives the same events.
    ///
    /// # Errors
    /// When boundaries can no longer be told; from then on each push gives the
    /// same error.
    pub fn push(
        &mut self,
        bytes: &[u8],
        on: &mut impl FnMut(RequestEvent),
    ) -> Result<(), HttpError> {
        self.visit(bytes, &mut Events(on)).map(|_| ())
    }

    /// Reads on, as [`Self::push`] does, and hands out what it reads. Gives how many bytes were read: all,
    /// unless the visitor pauses.
    ///
    /// # Errors
    /// Those of [`Self::push`].
    pub fn visit(
        &mut self,
        bytes: &[u8],
        visitor: &mut impl Visitor<RequestEvent>,
    ) -> Result<usize, HttpError> {
        let mut rest = bytes;
        while !rest.is_empty() && !visitor.pauses() {
            let used = match self.step(rest, visitor) {
                Ok(used) => used,
                Err(error) => {
                    if self.state == State::Head {
                        visitor.malformed(self.head.take_known(rest));
                    }
                    self.head.clear();
                    self.state = State::Failed(error);
                    return Err(error);
                }
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }

    /// Whether the stream is between two requests (or in a tunnel).
    #[must_use]
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Idle | State::IdleCr | State::Undecided { .. } | State::Tunnel)
    }

    /// Whether the stream has become another protocol's.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        self.state == State::Tunnel
    }

    /// Heap octets held: at most a head.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.head.memory()
    }

    /// Reads the next element; gives how many bytes it took.
    fn step(
        &mut self,
        bytes: &[u8],
        visitor: &mut impl Visitor<RequestEvent>,
    ) -> Result<usize, HttpError> {
        let used = match (&mut self.state, bytes.first()) {
            (State::Failed(error), _) => return Err(*error),
            // RFC 9112, 2.2: "a server that is expecting to receive and parse a
            // request-line SHOULD ignore at least one empty line (CRLF) received
            // prior to the request-line."
            (State::Idle, Some(b'\r')) => {
                self.state = State::IdleCr;
                1
            }
            (State::Idle | State::IdleCr, Some(b'\n')) => {
                self.state = State::Idle;
                1
            }
            (State::IdleCr, _) => return Err(httparse::Error::NewLine.into()),
            (State::Idle, _) => {
                visitor.event(RequestEvent::Started { offset: self.offset });
                self.state = State::Head;
                0
            }
            (State::Head, _) => match self.head.push(bytes)? {
                Head::Part { .. } => bytes.len(),
                Head::Whole { head, used } => {
                    let read = read(head)?;
                    visitor.head(self.head.take(bytes, used));
                    self.begin_body(read, self.offset + used as u64, visitor);
                    used
                }
            },
            (State::Body(body), _) => {
                match body.push(bytes, self.head.spare(), &mut |part, octets| match part {
                    Part::Content => visitor.body(octets),
                    Part::Trailers => visitor.trailers(octets),
                })? {
                    Progress::More => bytes.len(),
                    Progress::Ended(used) => {
                        self.finish(self.offset + used as u64, visitor);
                        used
                    }
                }
            }
            (State::Undecided { begin }, _) => {
                let begin = *begin;
                // A tunnel's bytes must not fail for being no head.
                let bytes = bytes.get(..DECISIVE_LEN).unwrap_or(bytes);
                let (seen, whole) = match self.head.push(bytes)? {
                    Head::Part { so_far } => (so_far, None),
                    Head::Whole { head, used } => (head, Some(used)),
                };
                match (looks_like_request(seen), whole) {
                    (Recognition::Yes, Some(used)) => {
                        visitor.event(RequestEvent::Started { offset: begin });
                        let read = read(seen)?;
                        visitor.head(self.head.take(bytes, used));
                        self.begin_body(read, self.offset + used as u64, visitor);
                    }
                    (Recognition::Yes, None) => {
                        visitor.event(RequestEvent::Started { offset: begin });
                        self.state = State::Head;
                    }
                    (Recognition::NeedMore, None) => {}
                    (Recognition::No, _) | (Recognition::NeedMore, Some(_)) => {
                        visitor.event(RequestEvent::Tunnel { offset: begin });
                        visitor.tunnel(seen);
                        self.head.clear();
                        self.state = State::Tunnel;
                    }
                }
                whole.unwrap_or(bytes.len())
            }
            (State::Tunnel, _) => {
                visitor.tunnel(bytes);
                bytes.len()
            }
        };
        self.offset += used as u64;
        Ok(used)
    }

    /// A head ended at `offset`.
    fn begin_body(&mut self, read: Read, offset: u64, visitor: &mut impl Visitor<RequestEvent>) {
        let Read { method, expects_continue, upgrade, body } = read;
        self.may_tunnel = upgrade || method == Method::Connect;
        visitor.event(RequestEvent::Head { offset, method, expects_continue, upgrade });
        match body {
            Some(body) => self.state = State::Body(body),
            None => self.finish(offset, visitor),
        }
    }

    /// A request ended at `offset`.
    fn finish(&mut self, offset: u64, visitor: &mut impl Visitor<RequestEvent>) {
        visitor.event(RequestEvent::Ended { offset });
        self.state = if self.may_tunnel { State::Undecided { begin: offset } } else { State::Idle };
    }
}

/// Reads a whole head.
fn read(head: &[u8]) -> Result<Read, HttpError> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(head, &mut headers)?;
    if parsed != Status::Complete(head.len()) {
        return Err(httparse::Error::NewLine.into());
    }
    let fields = Fields::read(request.headers)?;
    let http_1_1 = request.version == Some(1);
    let method = match request.method {
        Some("HEAD") => Method::Head,
        Some("CONNECT") => Method::Connect,
        _ => Method::Other,
    };
    let body = match (fields.transfer_encoding, fields.content_length) {
        // RFC 9112, 6.3, 3: Transfer-Encoding overrides Content-Length.
        (Some(TransferEncoding::Chunked), _) if http_1_1 => Some(Body::Chunked(Chunk::Size)),
        // RFC 9112, 6.1: with HTTP/1.0 "MUST treat the message as if the framing is
        // faulty"; 6.3, 4: a request's length must be determined.
        (Some(_), _) => return Err(HttpError::TransferEncoding),
        (None, Some(1..)) => fields.content_length.map(Body::Length),
        (None, Some(0) | None) => None,
    };
    Ok(Read {
        method,
        // RFC 9110, 10.1.1: a server ignores it in an HTTP/1.0 request.
        expects_continue: fields.expects_continue && http_1_1 && body.is_some(),
        upgrade: fields.upgrade && http_1_1,
        body,
    })
}
