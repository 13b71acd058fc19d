//! Counts a message's body to its end (RFC 9112, 6 and 7.1).

use super::head::Line;
use super::visitor::Part;
use super::{HttpError, MAX_HEAD_LEN};

/// The longest size line of a chunk, extensions included, octets. hyper allows
/// 16 KiB of extensions in all; no known sender uses any.
const MAX_SIZE_LINE_LEN: usize = 4096;

/// How the rest of a body is delimited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body {
    /// So many octets are left.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// All that comes until the peer closes.
    UntilClose,
}

/// Where in the chunked coding the stream is (RFC 9112, 7.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Chunk {
    /// In a chunk's size line.
    Size,
    /// So many octets of chunk data are left.
    Data(u64),
    /// At the CRLF behind chunk data.
    DataEnd {
        /// CR has been read.
        cr: bool,
    },
    /// Behind the last chunk.
    Trailer {
        /// The present trailer line.
        line: Line,
        /// Octets of the trailer section so far.
        len: usize,
    },
}

/// What a push came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// All pushed bytes belong to the body, and there is more to come.
    More,
    /// The body ends behind so many of the pushed bytes.
    Ended(usize),
}

impl Body {
    /// Reads on; content and trailers go to `out`. `spare` keeps a size line that is split over
    /// pushes.
    pub fn push(
        &mut self,
        bytes: &[u8],
        spare: &mut Vec<u8>,
        out: &mut impl FnMut(Part, &[u8]),
    ) -> Result<Progress, HttpError> {
        match self {
            Self::UntilClose => {
                out(Part::Content, bytes);
                Ok(Progress::More)
            }
            Self::Length(left) => {
                let content = skip(left, bytes);
                out(Part::Content, content);
                Ok(if *left == 0 { Progress::Ended(content.len()) } else { Progress::More })
            }
            Self::Chunked(chunk) => {
                let mut used = 0;
                while let Some(rest) = bytes.get(used..)
                    && !rest.is_empty()
                {
                    let (step, ended) = chunk.push(rest, spare, out)?;
                    used += step;
                    if ended {
                        return Ok(Progress::Ended(used));
                    }
                }
                Ok(Progress::More)
            }
        }
    }
}

impl Chunk {
    /// Reads on within one element; gives how many bytes that took (at least one
    /// of a non-empty push), and whether the body ended with them.
    fn push(
        &mut self,
        bytes: &[u8],
        spare: &mut Vec<u8>,
        out: &mut impl FnMut(Part, &[u8]),
    ) -> Result<(usize, bool), HttpError> {
        match self {
            Self::Size => {
                let line_feed = bytes.iter().position(|byte| *byte == b'\n');
                let part = bytes.get(..=line_feed.unwrap_or(bytes.len() - 1)).unwrap_or(bytes);
                if spare.len() + part.len() > MAX_SIZE_LINE_LEN {
                    return Err(HttpError::Chunk);
                }
                if line_feed.is_none() {
                    spare.extend_from_slice(part);
                } else {
                    let size = if spare.is_empty() {
                        read_size(part)
                    } else {
                        spare.extend_from_slice(part);
                        read_size(&std::mem::take(spare))
                    }?;
                    *self = match size {
                        0 => Self::Trailer { line: Line::Empty, len: 0 },
                        size => Self::Data(size),
                    };
                }
                Ok((part.len(), false))
            }
            Self::Data(left) => {
                let content = skip(left, bytes);
                out(Part::Content, content);
                if *left == 0 {
                    *self = Self::DataEnd { cr: false };
                }
                Ok((content.len(), false))
            }
            Self::DataEnd { cr } => {
                match (*cr, bytes.first()) {
                    (false, Some(b'\r')) => *cr = true,
                    (true, Some(b'\n')) => *self = Self::Size,
                    _ => return Err(HttpError::Chunk),
                }
                Ok((1, false))
            }
            Self::Trailer { line, len } => {
                let end = line.find_empty(bytes);
                let used = end.unwrap_or(bytes.len());
                *len += used;
                if *len > MAX_HEAD_LEN {
                    return Err(HttpError::HeadTooLong);
                }
                out(Part::Trailers, bytes.get(..used).unwrap_or(bytes));
                Ok((used, end.is_some()))
            }
        }
    }
}

/// Takes what belongs to the body off `left`, and gives it.
fn skip<'a>(left: &mut u64, bytes: &'a [u8]) -> &'a [u8] {
    let content = usize::try_from(*left).ok().and_then(|left| bytes.get(..left)).unwrap_or(bytes);
    *left -= content.len() as u64;
    content
}

/// Reads a chunk's size line, which ends with its line feed.
fn read_size(line: &[u8]) -> Result<u64, HttpError> {
    // httparse takes a line without any digit as zero, which would end the body.
    if !line.first().is_some_and(u8::is_ascii_hexdigit) {
        return Err(HttpError::Chunk);
    }
    match httparse::parse_chunk_size(line) {
        Ok(httparse::Status::Complete((used, size))) if used == line.len() => Ok(size),
        // An extension with a bare line feed: what follows is ambiguous.
        _ => Err(HttpError::Chunk),
    }
}
