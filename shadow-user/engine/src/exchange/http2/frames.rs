//! The frames of one direction (RFC 9113, 4.1).

use crate::http::MAX_HEAD_LEN;
use crate::time::Instant;

/// A frame's header, octets.
const HEADER_LEN: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x01;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// Where a frame began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Begun {
    /// Of its first octet in the stream.
    pub offset: u64,
    /// When that came.
    pub at: Instant,
}

/// What a direction consists of, as far as it matters here.
pub(super) trait Frames {
    /// Whether frames of this stream can be taken now; if not, nothing is read any further.
    fn accepts(&self, stream: u32) -> bool;
    /// A whole header block. Stream 0: nobody's, but it changes the decoder's state.
    fn headers(&mut self, stream: u32, begun: Begun, block: &[u8], end: bool)
    -> Result<(), Failed>;
    /// Octets of a body.
    fn data(&mut self, stream: u32, octets: &[u8]);
    /// So many octets of a body that were not captured.
    fn skipped(&mut self, stream: u32, octets: u64);
    /// The stream is half closed: behind its last DATA.
    fn ended(&mut self, stream: u32);
    /// The stream was reset.
    fn reset(&mut self, stream: u32);
    /// Streams beyond will not be answered.
    fn go_away(&mut self, last: u32);
}

/// The direction cannot be read any further.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Failed;

/// A frame's header, without its length.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Header {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Header {
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// In a frame's header.
    #[default]
    Header,
    /// Behind a whole header: its frame may not be wanted yet.
    Begin,
    /// At the length of a DATA frame's padding; octets of the payload that are left.
    PadLen { header: Header, left: u64 },
    /// In a body: octets that are left, then padding.
    Data { header: Header, left: u64, padding: u64 },
    /// In a payload that is kept until it is whole.
    Payload { header: Header, left: u64 },
    /// In octets that do not matter.
    Skip { left: u64 },
    /// Behind an error.
    Failed,
}

/// Splits one direction into frames. Holds no heap memory between frames.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    state: State,
    /// Octets read so far.
    offset: u64,
    /// The present frame, or the header block's first.
    begun: Begun,
    /// A frame's header, or a part of it.
    header: [u8; HEADER_LEN],
    header_len: usize,
    /// The payload; behind it a header block's continuations.
    payload: Vec<u8>,
    /// The header block that is not whole yet.
    block: Option<Block>,
}

/// A header block in several frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Block {
    /// 0 for a promised stream's: it is nobody's.
    stream: u32,
    /// Of the frames that continue it.
    continued_on: u32,
    end: bool,
    /// Frames so far: empty ones must come to an end, too.
    frames: usize,
}

impl Splitter {
    /// Starts at `offset` of the stream.
    pub fn at(offset: u64) -> Self {
        Self { offset, ..Self::default() }
    }

    /// Reads on; gives how many octets it took: all, unless a stream was not accepted.
    pub fn push(
        &mut self,
        bytes: &[u8],
        at: Instant,
        to: &mut impl Frames,
    ) -> Result<usize, Failed> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let step = match self.state {
                State::Begin => match self.begin(to) {
                    Ok(true) => Ok(0),
                    Ok(false) => return Ok(used),
                    Err(error) => Err(error),
                },
                _ if rest.is_empty() => return Ok(used),
                _ => self.step(rest, at, to),
            };
            match step {
                Ok(step) => {
                    used += step;
                    self.offset += step as u64;
                }
                Err(error) => {
                    *self = Self { state: State::Failed, ..Self::default() };
                    return Err(error);
                }
            }
        }
    }

    /// Octets that are left of a DATA frame.
    pub fn left(&self) -> u64 {
        match self.state {
            State::Data { left, padding, .. } => left + padding,
            _ => 0,
        }
    }

    /// Passes over `octets` of a DATA frame, at most [`Self::left`]; gives how many it took.
    pub fn skip(&mut self, octets: u64, to: &mut impl Frames) -> u64 {
        let State::Data { header, left, padding } = self.state else { return 0 };
        let content = octets.min(left);
        let used = octets.min(left + padding);
        to.skipped(header.stream, content);
        self.offset += used;
        self.data(header, left - content, padding - (used - content), to);
        used
    }

    pub fn memory(&self) -> usize {
        self.payload.capacity()
    }

    /// Reads some of `bytes`, which are not empty; gives how many.
    fn step(&mut self, bytes: &[u8], at: Instant, to: &mut impl Frames) -> Result<usize, Failed> {
        let part = |left: u64| {
            usize::try_from(left).ok().and_then(|left| bytes.get(..left)).unwrap_or(bytes)
        };
        Ok(match self.state {
            State::Failed => return Err(Failed),
            State::Begin => 0,
            State::Header => {
                if self.header_len == 0 && self.block.is_none() {
                    self.begun = Begun { offset: self.offset, at };
                }
                let part = bytes.get(..HEADER_LEN - self.header_len).unwrap_or(bytes);
                for (to, from) in self.header.iter_mut().skip(self.header_len).zip(part) {
                    *to = *from;
                }
                self.header_len += part.len();
                if self.header_len == HEADER_LEN {
                    self.state = State::Begin;
                }
                part.len()
            }
            State::PadLen { header, left } => {
                let padding = bytes.first().map_or(0, |octet| u64::from(*octet));
                // RFC 9113, 6.1: padding as long as the payload is an error.
                let left = (left - 1).checked_sub(padding).ok_or(Failed)?;
                self.data(header, left, padding, to);
                1
            }
            State::Data { header, left: 0, padding } => {
                let octets = part(padding);
                self.data(header, 0, padding - octets.len() as u64, to);
                octets.len()
            }
            State::Data { header, left, padding } => {
                let octets = part(left);
                to.data(header.stream, octets);
                self.data(header, left - octets.len() as u64, padding, to);
                octets.len()
            }
            State::Payload { header, left } => {
                let octets = part(left);
                self.payload.extend_from_slice(octets);
                self.payload(header, left - octets.len() as u64, to)?;
                octets.len()
            }
            State::Skip { left } => {
                let octets = part(left);
                self.pass(left - octets.len() as u64);
                octets.len()
            }
        })
    }

    /// A frame's header is whole; gives whether the frame is wanted.
    fn begin(&mut self, to: &mut impl Frames) -> Result<bool, Failed> {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        let left = u64::from(u32::from_be_bytes([0, a, b, c]));
        let header = Header { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff };
        match self.block {
            // RFC 9113, 6.10: nothing may come between a header block's frames.
            Some(block) if (kind, header.stream) != (CONTINUATION, block.continued_on) => {
                return Err(Failed);
            }
            None if kind == CONTINUATION => return Err(Failed),
            Some(_) | None => {}
        }
        if matches!(kind, DATA | HEADERS | RST_STREAM) && !to.accepts(header.stream) {
            return Ok(false);
        }
        self.header_len = 0;
        match kind {
            DATA if header.has(PADDED) => {
                self.state = State::PadLen { header, left };
                if left == 0 {
                    return Err(Failed);
                }
            }
            DATA => self.data(header, left, 0, to),
            HEADERS | PUSH_PROMISE | CONTINUATION | RST_STREAM | GOAWAY => {
                let frames = self.block.map_or(0, |block| block.frames);
                if self.payload.len() as u64 + left + (frames * HEADER_LEN) as u64
                    > MAX_HEAD_LEN as u64
                {
                    return Err(Failed);
                }
                self.payload(header, left, to)?;
            }
            _ => self.pass(left),
        }
        Ok(true)
    }

    /// So much is left of a DATA frame.
    fn data(&mut self, header: Header, left: u64, padding: u64, to: &mut impl Frames) {
        self.state = State::Data { header, left, padding };
        if left + padding == 0 {
            self.state = State::Header;
            if header.has(END_STREAM) {
                to.ended(header.stream);
            }
        }
    }

    /// So much is left of a frame that does not matter.
    fn pass(&mut self, left: u64) {
        self.state = if left == 0 { State::Header } else { State::Skip { left } };
    }

    /// So much is left of a frame of which the payload matters.
    fn payload(&mut self, header: Header, left: u64, to: &mut impl Frames) -> Result<(), Failed> {
        if left > 0 {
            self.state = State::Payload { header, left };
            return Ok(());
        }
        self.state = State::Header;
        let word = |at: usize| {
            let octets = self.payload.get(at..at + 4)?;
            Some(u32::from_be_bytes(octets.try_into().ok()?) & 0x7fff_ffff)
        };
        match header.kind {
            RST_STREAM => to.reset(header.stream),
            GOAWAY => to.go_away(word(0).ok_or(Failed)?),
            _ => {
                let block = match self.block.take() {
                    Some(block) => Block { frames: block.frames + 1, ..block },
                    None => {
                        let promised = header.kind == PUSH_PROMISE;
                        self.strip(header)?;
                        Block {
                            stream: if promised { 0 } else { header.stream },
                            continued_on: header.stream,
                            end: header.has(END_STREAM) && !promised,
                            frames: 1,
                        }
                    }
                };
                if !header.has(END_HEADERS) {
                    self.block = Some(block);
                    return Ok(());
                }
                to.headers(block.stream, self.begun, &self.payload, block.end)?;
            }
        }
        self.payload = Vec::new();
        Ok(())
    }

    /// Takes off what stands around the fragment in HEADERS and PUSH_PROMISE.
    fn strip(&mut self, header: Header) -> Result<(), Failed> {
        let mut from = 0;
        let mut to = self.payload.len();
        if header.has(PADDED) {
            let padding = usize::from(*self.payload.first().ok_or(Failed)?);
            from += 1;
            to = to.checked_sub(padding).ok_or(Failed)?;
        }
        from += match header.kind {
            PUSH_PROMISE => 4,
            _ if header.has(PRIORITY) => 5,
            _ => 0,
        };
        if from > to {
            return Err(Failed);
        }
        self.payload.truncate(to);
        self.payload.drain(..from);
        Ok(())
    }
}
