//! Where a value of RESP2 or RESP3 ends. What is nested is counted, not kept: a value costs the same
//! few octets however deep it is.

/// The longest line that says a length, octets.
const MAX_LENGTH_LINE: usize = 24;

/// The most octets of one bulk string, as Redis has it (`proto-max-bulk-len`).
const MAX_BULK_LEN: u64 = 512 << 20;

/// The most elements of one aggregate.
const MAX_ELEMENTS: u64 = u32::MAX as u64;

/// The octets are of no value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// What a push came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// There is more to come.
    More,
    /// So many of the octets, which the next bulk string's come behind: its length is known.
    Bulk,
    /// The value is whole.
    Ended,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// At a value's first octet.
    #[default]
    Type,
    /// In the number behind a type that has one.
    Length { kind: u8 },
    /// In the line of a type that is but a line.
    Line { cr: bool },
    /// In a bulk string: octets left, its line's end included.
    Bulk { left: u64 },
}

/// Finds the ends of values. Holds no heap memory.
#[derive(Debug)]
pub(super) struct Values {
    state: State,
    /// Values that are still to come, the present one included.
    missing: u64,
    line: [u8; MAX_LENGTH_LINE],
    line_len: usize,
}

impl Default for Values {
    fn default() -> Self {
        Self { state: State::Type, missing: 1, line: [0; MAX_LENGTH_LINE], line_len: 0 }
    }
}

impl Values {
    /// Reads some of `bytes`, which are not empty, up to the next event; gives how many.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(usize, Event), Malformed> {
        let mut used = 0;
        while let Some(rest) = bytes.get(used..)
            && let Some(first) = rest.first()
        {
            match self.state {
                State::Type => {
                    used += 1;
                    self.state = match first {
                        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => State::Line { cr: false },
                        b'$' | b'!' | b'=' | b'*' | b'~' | b'%' | b'|' | b'>' => {
                            State::Length { kind: *first }
                        }
                        _ => return Err(Malformed),
                    };
                }
                State::Line { cr } => {
                    if cr && *first == b'\n' {
                        used += 1;
                        if self.ended()? {
                            return Ok((used, Event::Ended));
                        }
                        continue;
                    }
                    let cr = rest.iter().position(|octet| *octet == b'\r');
                    used += cr.map_or(rest.len(), |at| at + 1);
                    self.state = State::Line { cr: cr.is_some() };
                }
                State::Length { kind } => {
                    used += 1;
                    let slot = self.line.get_mut(self.line_len).ok_or(Malformed)?;
                    *slot = *first;
                    self.line_len += 1;
                    if *first == b'\n' {
                        let length = self.length()?;
                        let bulk = self.begin(kind, length)?;
                        if self.missing == 0 {
                            self.missing = 1;
                            return Ok((used, Event::Ended));
                        }
                        if bulk {
                            return Ok((used, Event::Bulk));
                        }
                    }
                }
                State::Bulk { left } => {
                    let step =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    used += step;
                    self.state = State::Bulk { left: left - step as u64 };
                    if left == step as u64 && self.ended()? {
                        return Ok((used, Event::Ended));
                    }
                }
            }
        }
        Ok((used, Event::More))
    }

    /// The present bulk string's octets that are left, without its line's end.
    pub fn bulk_left(&self) -> u64 {
        match self.state {
            State::Bulk { left } => left.saturating_sub(2),
            _ => 0,
        }
    }

    /// The number of the line; none where it says that there is no value.
    fn length(&mut self) -> Result<Option<u64>, Malformed> {
        let line = self.line.get(..self.line_len).and_then(|line| line.strip_suffix(b"\r\n"));
        self.line_len = 0;
        match line.ok_or(Malformed)? {
            b"-1" => Ok(None),
            digits if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                str::from_utf8(digits)
                    .ok()
                    .and_then(|digits| digits.parse().ok())
                    .map(Some)
                    .ok_or(Malformed)
            }
            // `?`, a stream of unknown length, is specified, but no server sends it.
            _ => Err(Malformed),
        }
    }

    /// A length is known; gives whether a bulk string follows.
    fn begin(&mut self, kind: u8, length: Option<u64>) -> Result<bool, Malformed> {
        self.state = State::Type;
        let elements = match (kind, length) {
            (b'$' | b'!' | b'=', Some(length)) => {
                if length > MAX_BULK_LEN {
                    return Err(Malformed);
                }
                self.state = State::Bulk { left: length + 2 };
                return Ok(true);
            }
            (_, Some(length)) if length > MAX_ELEMENTS => return Err(Malformed),
            (b'%', Some(length)) => 2 * length,
            // Attributes stand before the value that they are of.
            (b'|', Some(length)) => 2 * length + 1,
            (_, length) => length.unwrap_or(0),
        };
        self.missing = (self.missing - 1).checked_add(elements).ok_or(Malformed)?;
        Ok(false)
    }

    /// A value without elements is whole; gives whether all are.
    fn ended(&mut self) -> Result<bool, Malformed> {
        self.state = State::Type;
        self.missing -= 1;
        let all = self.missing == 0;
        if all {
            self.missing = 1;
        }
        Ok(all)
    }
}
