//! Takes content codings off a body, within bounds.

use std::borrow::Cow;
use std::io::Read;

use super::{Bounds, Opaque, fields};
use crate::exchange::{Body, Head};

/// A whole body as it was before its content codings, for a reader; none where it was not kept whole
/// or cannot be decoded within the bounds.
#[must_use]
pub fn decoded<'a>(head: &Head, body: &'a Body, bounds: &Bounds) -> Option<Cow<'a, [u8]>> {
    let encoding = fields::list(head, "content-encoding");
    let whole = body.is_whole().then_some(&*body.kept)?;
    decode(whole, &encoding, bounds.decoded, bounds.codings).ok()
}

/// The body as it was before its `Content-Encoding` (RFC 9110, 8.4), of at most `max` octets behind
/// each of at most `codings` codings.
pub(crate) fn decode<'a>(
    body: &'a [u8],
    encoding: &[u8],
    max: usize,
    codings: usize,
) -> Result<Cow<'a, [u8]>, Opaque> {
    let mut body = Cow::Borrowed(body);
    let applied: Vec<_> = encoding
        .split(|byte| *byte == b',')
        .map(|coding| coding.trim_ascii().to_ascii_lowercase())
        .filter(|coding| !matches!(&**coding, b"" | b"identity"))
        .take(codings + 1)
        .collect();
    if applied.len() > codings {
        return Err(Opaque::Coding);
    }
    // They were applied in the order of the list.
    for coding in applied.iter().rev() {
        body = Cow::Owned(match &**coding {
            b"gzip" | b"x-gzip" => read(flate2::read::MultiGzDecoder::new(&*body), max)?,
            b"deflate" => inflate(&body, max)?,
            b"br" => read(brotli_decompressor::Decompressor::new(&*body, 4096), max)?,
            b"zstd" => zstd(&body, max)?,
            _ => return Err(Opaque::Coding),
        });
    }
    Ok(body)
}

fn read(reader: impl Read, max: usize) -> Result<Vec<u8>, Opaque> {
    let mut out = Vec::new();
    reader.take(max as u64 + 1).read_to_end(&mut out).map_err(|_| Opaque::Malformed)?;
    if out.len() > max { Err(Opaque::TooLong) } else { Ok(out) }
}

/// `deflate` is the zlib format, but some servers send the bare one (RFC 9110, 8.4.1.2).
fn inflate(body: &[u8], max: usize) -> Result<Vec<u8>, Opaque> {
    match read(flate2::read::ZlibDecoder::new(body), max) {
        Err(Opaque::Malformed) => read(flate2::read::DeflateDecoder::new(body), max),
        result => result,
    }
}

/// RFC 9659 lets a window have 8 MiB, and ruzstd takes memory as it is filled.
fn zstd(body: &[u8], max: usize) -> Result<Vec<u8>, Opaque> {
    let mut out = Vec::new();
    let mut rest = body;
    // Frames may follow one another (RFC 8878, 3).
    while !rest.is_empty() {
        let decoder =
            ruzstd::decoding::StreamingDecoder::new(&mut rest).map_err(|_| Opaque::Malformed)?;
        let frame = read(decoder, max.saturating_sub(out.len()))?;
        if frame.is_empty() && out.len() >= max {
            return Err(Opaque::TooLong);
        }
        out.extend_from_slice(&frame);
    }
    Ok(out)
}
