//! Finds the end of a head in pushed bytes, looking at each octet once.

use std::borrow::Cow;

use super::{HttpError, MAX_HEAD_LEN};

/// Most header fields of one head.
pub(super) const MAX_FIELDS: usize = 1024;

/// What is known of the present line.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Line {
    /// No octet yet.
    #[default]
    Empty,
    /// A single CR.
    Cr,
    /// Something else.
    Text,
}

impl Line {
    /// Reads on to the end of the first empty line. LF alone ends a line (RFC
    /// 9112, 2.2), as httparse has it. Gives the length up to that end.
    pub fn find_empty(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && !rest.is_empty()
        {
            let Some(line_feed) = rest.iter().position(|byte| *byte == b'\n') else {
                *self = match (*self, rest) {
                    (Self::Empty, [b'\r']) => Self::Cr,
                    _ => Self::Text,
                };
                return None;
            };
            let empty =
                matches!((*self, &rest[..line_feed]), (Self::Empty, [] | [b'\r']) | (Self::Cr, []));
            *self = Self::Empty;
            at += line_feed + 1;
            if empty {
                return Some(at);
            }
        }
        None
    }
}

/// What a push came to.
pub(super) enum Head<'a> {
    /// All pushed bytes belong to the head, and there is more to come.
    Part {
        /// The head up to now.
        so_far: &'a [u8],
    },
    /// The head, of whose octets the last push gave `used`.
    Whole { head: &'a [u8], used: usize },
}

/// A head that may be split over pushes.
#[derive(Debug, Default)]
pub(super) struct HeadBuffer {
    bytes: Vec<u8>,
    line: Line,
}

impl HeadBuffer {
    /// Reads on. [`Self::clear`] follows once the head is whole. A head that is not
    /// split is not copied.
    pub fn push<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Head<'a>, HttpError> {
        let end = self.line.find_empty(bytes);
        let part = end.and_then(|end| bytes.get(..end)).unwrap_or(bytes);
        if self.bytes.len() + part.len() > MAX_HEAD_LEN {
            return Err(HttpError::HeadTooLong);
        }
        if self.bytes.is_empty() && end.is_some() {
            return Ok(Head::Whole { head: part, used: part.len() });
        }
        self.bytes.extend_from_slice(part);
        Ok(match end {
            Some(used) => Head::Whole { head: &self.bytes, used },
            None => Head::Part { so_far: &self.bytes },
        })
    }

    /// The head that [`Self::push`] gave, to be kept, and an empty buffer: what is left of `bytes`,
    /// the last push, is not copied.
    pub fn take<'a>(&mut self, bytes: &'a [u8], used: usize) -> Cow<'a, [u8]> {
        match std::mem::take(self).bytes {
            buffered if buffered.is_empty() => Cow::Borrowed(bytes.get(..used).unwrap_or(bytes)),
            buffered => Cow::Owned(buffered),
        }
    }

    /// What was to be a head, and failed with the push of `bytes`: up to its empty line, within
    /// [`MAX_HEAD_LEN`].
    pub fn take_known<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut known = match std::mem::take(self).bytes {
            buffered if buffered.is_empty() => Cow::Borrowed(bytes),
            mut buffered => {
                // A whole head that was put together is there already.
                if Line::default().find_empty(&buffered).is_none() {
                    buffered.extend_from_slice(bytes);
                }
                Cow::Owned(buffered)
            }
        };
        let end = Line::default().find_empty(&known).unwrap_or(known.len()).min(MAX_HEAD_LEN);
        match &mut known {
            Cow::Borrowed(octets) => *octets = &octets[..end],
            Cow::Owned(octets) => octets.truncate(end),
        }
        known
    }

    /// Forgets the head and gives its memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Heap octets held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// The buffer, for the size line of a chunk; never in use during a head.
    pub fn spare(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}
