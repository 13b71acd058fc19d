//! Takes content codings off a body, within bounds.

use std::borrow::Cow;
use std::io::Read;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::{Bounds, Opaque, fields};
use crate::exchange::{Body, Head};

/// Members of a gzip body: what is made in blocks has one every 64 KiB.
const MAX_MEMBERS: usize = 256;

/// The largest window of a zstd frame (RFC 9659), octets.
const ZSTD_WINDOW: u64 = 8 << 20;

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
            b"gzip" | b"x-gzip" => gzip(&body, max)?,
            b"deflate" => inflate(&body, max)?,
            b"br" => brotli(&body, max)?,
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

/// Members may follow one another (RFC 1952, 2.2). Each costs a decoder's state, if it holds nothing.
fn gzip(mut body: &[u8], max: usize) -> Result<Vec<u8>, Opaque> {
    let mut out = Vec::new();
    for _ in 0..MAX_MEMBERS {
        let mut member = flate2::bufread::GzDecoder::new(body);
        let room = (max - out.len()) as u64 + 1;
        member.by_ref().take(room).read_to_end(&mut out).map_err(|_| Opaque::Malformed)?;
        if out.len() > max {
            return Err(Opaque::TooLong);
        }
        body = member.into_inner();
        if body.is_empty() {
            return Ok(out);
        }
    }
    Err(Opaque::TooLong)
}

/// `deflate` is the zlib format, but some servers send the bare one (RFC 9110, 8.4.1.2).
fn inflate(body: &[u8], max: usize) -> Result<Vec<u8>, Opaque> {
    match read(flate2::read::ZlibDecoder::new(body), max) {
        Err(Opaque::Malformed) => read(flate2::read::DeflateDecoder::new(body), max),
        result => result,
    }
}

/// Not by the crate's reader, which takes the windows of up to 1 GiB that RFC 7932 does not have.
fn brotli(body: &[u8], max: usize) -> Result<Vec<u8>, Opaque> {
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut out = vec![0; max];
    let (mut left, mut read) = (body.len(), 0);
    let (mut free, mut written, mut total) = (max, 0, 0);
    let result = BrotliDecompressStream(
        &mut left,
        &mut read,
        body,
        &mut free,
        &mut written,
        &mut out,
        &mut total,
        &mut state,
    );
    match result {
        BrotliResult::ResultSuccess => {
            out.truncate(written);
            Ok(out)
        }
        BrotliResult::NeedsMoreOutput => Err(Opaque::TooLong),
        BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => Err(Opaque::Malformed),
    }
}

/// Not by the crate's reader, which holds a whole window back, of up to 128 MiB, before any of it
/// comes out.
fn zstd(mut body: &[u8], max: usize) -> Result<Vec<u8>, Opaque> {
    let mut out = Vec::new();
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW);
    // Frames may follow one another (RFC 8878, 3).
    while !body.is_empty() {
        decoder.reset(&mut body).map_err(|_| Opaque::Malformed)?;
        // One more than there is room for: a frame that is not at its end then is too long.
        let room = BlockDecodingStrategy::UptoBytes(max - out.len() + 1);
        let is_whole = decoder.decode_blocks(&mut body, room).map_err(|_| Opaque::Malformed)?;
        if !is_whole || decoder.can_collect() > max - out.len() {
            return Err(Opaque::TooLong);
        }
        decoder.collect_to_writer(&mut out).map_err(|_| Opaque::Malformed)?;
    }
    Ok(out)
}
