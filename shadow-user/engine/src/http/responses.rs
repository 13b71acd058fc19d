//! The responses of a server's stream.

use std::collections::VecDeque;
use std::mem::MaybeUninit;

use httparse::{ParserConfig, Response, Status};

use super::body::{Body, Chunk, Progress};
use super::fields::{Fields, TransferEncoding};
use super::head::{Head, HeadBuffer, MAX_FIELDS};
use super::visitor::{Events, Part, Visitor};
use super::{HttpError, Method};

/// Something that happened in a server's stream. Offsets are in octets from the
/// first that was pushed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseEvent {
    /// A response begins, interim or final.
    Started {
        /// Of its first octet.
        offset: u64,
    },
    /// An interim response: 1xx but 101 (RFC 9110, 15.2). The request is still to
    /// be answered.
    Interim {
        /// Behind its last octet.
        offset: u64,
        /// The status code.
        status: u16,
    },
    /// A final response's head is whole.
    Head {
        /// Where the body begins.
        offset: u64,
        /// The status code.
        status: u16,
        /// Whether it answers a request that was expected; if not, the server
        /// spoke unasked (408 before it closes an idle connection).
        solicited: bool,
    },
    /// A final response is whole.
    Ended {
        /// Behind its last octet.
        offset: u64,
        /// The status code.
        status: u16,
        /// Whether another protocol follows: 101, or 2xx to CONNECT. Nothing
        /// further is told of the stream.
        upgrade: bool,
    },
}

/// Finds the boundaries of responses. Holds no heap memory between exchanges.
#[derive(Debug, Default)]
pub struct Responses {
    state: State,
    /// Octets read so far.
    offset: u64,
    head: HeadBuffer,
    /// Methods of the requests that are not yet answered.
    expected: VecDeque<Method>,
    /// Status of the final response whose body is being read.
    status: u16,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// Between responses, where empty lines are skipped.
    #[default]
    Idle,
    /// Behind the CR of an empty line.
    IdleCr,
    /// In a head.
    Head,
    /// In a body.
    Body(Body),
    /// In a tunnel.
    Tunnel,
    /// Behind an error.
    Failed(HttpError),
}

impl Responses {
    /// Starts at the beginning of a stream, or between two responses.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request went out, behind those already expected to be answered. Called
    /// before the response's head is pushed.
    pub fn expect(&mut self, method: Method) {
        self.expected.push_back(method);
    }

    /// Requests that are not yet answered by a final response's head.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.expected.len()
    }

    /// Reads on. Every chunking of a stream gives the same events.
    ///
    /// # Errors
    /// When boundaries can no longer be told; from then on each push gives the
    /// same error.
    pub fn push(
        &mut self,
        bytes: &[u8],
        on: &mut impl FnMut(ResponseEvent),
    ) -> Result<(), HttpError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = self.try_step(rest, &mut Events(on))?;
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Reads on to the end of the last response that is expected, and hands out what it reads;
    /// gives how many octets that took. Behind that end, nothing is read until a request goes out,
    /// and nothing of a tunnel.
    ///
    /// # Errors
    /// Those of [`Self::push`].
    pub fn visit(
        &mut self,
        bytes: &[u8],
        visitor: &mut impl Visitor<ResponseEvent>,
    ) -> Result<usize, HttpError> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..)
            && !rest.is_empty()
            && !self.is_unasked()
            && !self.is_tunnel()
        {
            used += self.try_step(rest, visitor)?;
        }
        Ok(used)
    }

    /// Whether what comes next answers no request.
    #[must_use]
    pub fn is_unasked(&self) -> bool {
        self.expected.is_empty() && matches!(self.state, State::Idle | State::IdleCr)
    }

    /// Octets that are left of the present body, when its head gave its length; else 0.
    #[must_use]
    pub fn left(&self) -> u64 {
        match self.state {
            State::Body(Body::Length(left)) => left,
            _ => 0,
        }
    }

    /// Passes over `octets` of the present body, at most [`Self::left`]; gives how many it took.
    pub fn skip(&mut self, octets: u64, on: &mut impl FnMut(ResponseEvent)) -> u64 {
        let State::Body(Body::Length(left)) = &mut self.state else { return 0 };
        let used = octets.min(*left);
        *left -= used;
        self.offset += used;
        if *left == 0 {
            self.finish(self.offset, &mut Events(on));
        }
        used
    }

    /// The server has closed its side: a response delimited by that is whole.
    ///
    /// # Errors
    /// [`HttpError::Truncated`] within any other message, or an earlier error.
    pub fn end(&mut self, on: &mut impl FnMut(ResponseEvent)) -> Result<(), HttpError> {
        let visitor = &mut Events(on);
        match self.state {
            State::Idle | State::IdleCr | State::Tunnel => Ok(()),
            State::Body(Body::UntilClose) => {
                self.finish(self.offset, visitor);
                Ok(())
            }
            State::Head | State::Body(_) => Err(self.fail(HttpError::Truncated)),
            State::Failed(error) => Err(error),
        }
    }

    /// Whether the stream is between two responses (or in a tunnel).
    #[must_use]
    pub fn is_between(&self) -> bool {
        matches!(self.state, State::Idle | State::IdleCr | State::Tunnel)
    }

    /// Whether the stream has become another protocol's.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        self.state == State::Tunnel
    }

    /// Heap octets held: at most a head, and one for each request outstanding.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.head.memory() + self.expected.capacity() * size_of::<Method>()
    }

    fn try_step(
        &mut self,
        bytes: &[u8],
        visitor: &mut impl Visitor<ResponseEvent>,
    ) -> Result<usize, HttpError> {
        self.step(bytes, visitor).map_err(|error| self.fail(error))
    }

    /// Reads the next element; gives how many bytes it took.
    fn step(
        &mut self,
        bytes: &[u8],
        visitor: &mut impl Visitor<ResponseEvent>,
    ) -> Result<usize, HttpError> {
        let used = match (&mut self.state, bytes.first()) {
            (State::Failed(error), _) => return Err(*error),
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
                visitor.event(ResponseEvent::Started { offset: self.offset });
                self.state = State::Head;
                0
            }
            (State::Head, _) => match self.head.push(bytes)? {
                Head::Part { .. } => bytes.len(),
                Head::Whole { head, used } => {
                    let (status, fields) = read(head)?;
                    visitor.head(self.head.take(bytes, used));
                    self.begin_body(status, fields, self.offset + used as u64, visitor);
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
            (State::Tunnel, _) => bytes.len(),
        };
        self.offset += used as u64;
        Ok(used)
    }

    /// A head ended at `offset`.
    fn begin_body(
        &mut self,
        status: u16,
        fields: Fields,
        offset: u64,
        visitor: &mut impl Visitor<ResponseEvent>,
    ) {
        if (100..200).contains(&status) && status != 101 {
            visitor.event(ResponseEvent::Interim { offset, status });
            self.state = State::Idle;
            return;
        }
        let method = self.expected.pop_front();
        if self.expected.is_empty() {
            self.expected = VecDeque::new();
        }
        let body = delimit(method.unwrap_or(Method::Other), status, fields);
        visitor.event(ResponseEvent::Head { offset, status, solicited: method.is_some() });
        self.status = status;
        match body {
            Delimited::Tunnel => {
                visitor.event(ResponseEvent::Ended { offset, status, upgrade: true });
                self.state = State::Tunnel;
            }
            Delimited::Empty => self.finish(offset, visitor),
            Delimited::By(body) => self.state = State::Body(body),
        }
    }

    /// A final response ended at `offset`.
    fn finish(&mut self, offset: u64, visitor: &mut impl Visitor<ResponseEvent>) {
        visitor.event(ResponseEvent::Ended { offset, status: self.status, upgrade: false });
        self.state = State::Idle;
    }

    fn fail(&mut self, error: HttpError) -> HttpError {
        self.head.clear();
        self.state = State::Failed(error);
        error
    }
}

/// Where a final response ends.
enum Delimited {
    Tunnel,
    Empty,
    By(Body),
}

/// The body's length (RFC 9112, 6.3; the numbers are its list's).
fn delimit(method: Method, status: u16, fields: Fields) -> Delimited {
    let chunked = Delimited::By(Body::Chunked(Chunk::Size));
    let until_close = Delimited::By(Body::UntilClose);
    match (method, status, fields.transfer_encoding, fields.content_length) {
        (_, 101, ..) => Delimited::Tunnel,
        // 1: "Any response to a HEAD request and any response with a 1xx
        // (Informational), 204 (No Content), or 304 (Not Modified) status code is
        // always terminated by the first empty line after the header fields"
        (Method::Head, ..) | (_, 204 | 304, ..) => Delimited::Empty,
        // 2: "Any 2xx (Successful) response to a CONNECT request implies that the
        // connection will become a tunnel"
        (Method::Connect, 200..300, ..) => Delimited::Tunnel,
        // 3: Transfer-Encoding overrides Content-Length. 4: without chunked at its
        // end "the message body length is determined by reading the connection
        // until it is closed by the server".
        (_, _, Some(TransferEncoding::Chunked), _) => chunked,
        (_, _, Some(TransferEncoding::Other), _) => until_close,
        // 6.
        (_, _, None, Some(0)) => Delimited::Empty,
        (_, _, None, Some(len)) => Delimited::By(Body::Length(len)),
        // 8: "the message body length is determined by the number of octets received
        // prior to the server closing the connection."
        (_, _, None, None) => until_close,
    }
}

/// Reads a whole head, with the leniency that RFC 9112, 5.1 and 5.2 ask of a
/// recipient of responses.
fn read(head: &[u8]) -> Result<(u16, Fields), HttpError> {
    let mut config = ParserConfig::default();
    config
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true);
    let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = Response::new(&mut []);
    let parsed = config.parse_response_with_uninit_headers(&mut response, head, &mut headers)?;
    if parsed != Status::Complete(head.len()) {
        return Err(httparse::Error::NewLine.into());
    }
    let status = response.code.ok_or(HttpError::Head(httparse::Error::Status))?;
    Ok((status, Fields::read(response.headers)?))
}
