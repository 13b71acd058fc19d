//! Reads header blocks (HPACK, RFC 7541).
//!
//! `httlib-huffman` decodes strings, by a table of its own. The rest is here since no crate could be
//! used: those that descend from `hpack` build a hash map for each string and read it bit by bit,
//! `httlib-hpack` panics where a block ends within an integer, and h2's is private.

use std::collections::VecDeque;

use httlib_huffman::{DecoderSpeed, decode};

use crate::exchange::Field;
use crate::http::MAX_HEAD_LEN;

/// The largest dynamic table that an encoder may use, octets as RFC 7541, 4.1 counts them: what
/// browsers allow. Its actual bound, SETTINGS_HEADER_TABLE_SIZE of the peer, need not be known: an
/// encoder says in the block itself when the size changes (RFC 7541, 4.2).
const MAX_TABLE_LEN: usize = 64 << 10;

/// The size at the start (RFC 9113, 6.5.2).
const INITIAL_TABLE_LEN: usize = 4_096;

/// Most fields of one head, as in HTTP/1.
const MAX_FIELDS: usize = 1_024;

/// The block, and with it the rest of the direction, cannot be read, or is beyond a bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Malformed;

/// One direction's state.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first.
    table: VecDeque<Field>,
    len: usize,
    max_len: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), len: 0, max_len: INITIAL_TABLE_LEN }
    }
}

impl Decoder {
    /// Reads a whole block; gives its fields, pseudo-fields among them.
    pub fn decode(&mut self, mut block: &[u8]) -> Result<Vec<Field>, Malformed> {
        let mut fields: Vec<Field> = Vec::new();
        let mut len = 0;
        while let Some(first) = block.first() {
            let field = match first {
                // RFC 7541, 6.1: indexed.
                0x80.. => self.get(integer(&mut block, 7)?)?,
                // 6.2.1: literal with incremental indexing.
                0x40..0x80 => {
                    let (name, value) = self.literal(&mut block, 6)?;
                    self.insert((name.clone(), value.clone()));
                    (name, value)
                }
                // 6.3: dynamic table size update.
                0x20..0x40 => {
                    self.resize(integer(&mut block, 5)?)?;
                    continue;
                }
                // 6.2.2, 6.2.3: literal without indexing, or never indexed.
                _ => self.literal(&mut block, 4)?,
            };
            len += field.0.len() + field.1.len();
            if len > MAX_HEAD_LEN || fields.len() == MAX_FIELDS {
                return Err(Malformed);
            }
            fields.push(field);
        }
        Ok(fields)
    }

    /// Heap octets.
    pub fn memory(&self) -> usize {
        self.len + self.table.capacity() * size_of::<Field>()
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> Result<Field, Malformed> {
        let name = match integer(block, prefix)? {
            0 => string(block)?,
            index => self.get(index)?.0,
        };
        Ok((name, string(block)?))
    }

    fn get(&self, index: usize) -> Result<Field, Malformed> {
        let at = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC_TABLE.get(at) {
            return Ok((name.as_bytes().into(), value.as_bytes().into()));
        }
        self.table.get(at - STATIC_TABLE.len()).cloned().ok_or(Malformed)
    }

    fn insert(&mut self, field: Field) {
        let len = size(&field);
        self.evict(self.max_len.saturating_sub(len));
        // RFC 7541, 4.4: a field larger than the table empties it, and is no error.
        if len <= self.max_len {
            self.len += len;
            self.table.push_front(field);
        }
    }

    fn resize(&mut self, max_len: usize) -> Result<(), Malformed> {
        if max_len > MAX_TABLE_LEN {
            return Err(Malformed);
        }
        self.max_len = max_len;
        self.evict(max_len);
        Ok(())
    }

    fn evict(&mut self, len: usize) {
        while self.len > len
            && let Some(field) = self.table.pop_back()
        {
            self.len -= size(&field);
        }
    }
}

/// RFC 7541, 4.1.
fn size((name, value): &Field) -> usize {
    name.len() + value.len() + 32
}

/// RFC 7541, 5.1; up to 28 bits behind the prefix, more than any length or index within the bounds.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let mask = (1_usize << prefix) - 1;
    let (first, mut rest) = block.split_first().ok_or(Malformed)?;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (octet, behind) = rest.split_first().ok_or(Malformed)?;
            rest = behind;
            value += usize::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(Malformed);
            }
        }
    }
    *block = rest;
    Ok(value)
}

/// RFC 7541, 5.2.
fn string(block: &mut &[u8]) -> Result<Box<[u8]>, Malformed> {
    let huffman = block.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer(block, 7)?;
    let (octets, rest) = block.split_at_checked(len).ok_or(Malformed)?;
    *block = rest;
    if !huffman {
        return Ok(octets.into());
    }
    // The shortest code has five bits.
    let mut decoded = Vec::with_capacity(len * 8 / 5);
    decode(octets, &mut decoded, DecoderSpeed::FiveBits).map_err(|_| Malformed)?;
    Ok(decoded.into_boxed_slice())
}

/// RFC 7541, Appendix A.
const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(fields: &[Field]) -> Vec<String> {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    fn hex(digits: &str) -> Vec<u8> {
        let digits: String = digits.split_whitespace().collect();
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn rfc_7541_c_4_requests_with_huffman_coding() {
        let mut decoder = Decoder::default();
        let first = decoder.decode(&hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")).unwrap();
        assert_eq!(
            text(&first),
            [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"]
        );
        let second = decoder.decode(&hex("8286 84be 5886 a8eb 1064 9cbf")).unwrap();
        assert_eq!(text(&second)[3..], [":authority: www.example.com", "cache-control: no-cache"]);
        let third =
            decoder.decode(&hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"));
        assert_eq!(
            text(&third.unwrap())[3..],
            [":authority: www.example.com", "custom-key: custom-value"]
        );
        assert_eq!(decoder.len, 164);
    }

    #[test]
    fn rfc_7541_c_6_responses_evict() {
        let mut decoder = Decoder::default();
        decoder.resize(256).unwrap();
        let first = decoder.decode(&hex(
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        ));
        assert_eq!(
            text(&first.unwrap()),
            [
                ":status: 302",
                "cache-control: private",
                "date: Mon, 21 Oct 2013 20:13:21 GMT",
                "location: https://www.example.com"
            ]
        );
        let second = decoder.decode(&hex("4883 640e ffc1 c0bf")).unwrap();
        assert_eq!(text(&second)[0], ":status: 307");
        assert_eq!(decoder.len, 222);
    }

    #[test]
    fn blocks_that_are_cut_or_too_large_fail() {
        for block in ["80", "ff", "ffff ffff ff7f", "40", "4001", "400161", "3fffffff7f", "c6"] {
            assert!(Decoder::default().decode(&hex(block)).is_err(), "{block}");
        }
        // One large entry, told again and again.
        let mut bomb = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
        bomb.extend([b'x'; 4000]);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&bomb).unwrap().len(), 1);
        assert_eq!(decoder.decode(&[0xbe; 16]).unwrap().len(), 16);
        assert!(decoder.decode(&[0xbe; 17]).is_err());
        assert!(decoder.decode(&[0x82; 1025]).is_err());
    }

    proptest! {
        #[test]
        fn huffman_strings_come_back(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut coded = Vec::new();
            httlib_huffman::encode(&octets, &mut coded).unwrap();
            let mut block = vec![0x00, 1, b'a', 0x80 | 0x7f];
            match coded.len().checked_sub(127) {
                None => block[3] = 0x80 | coded.len() as u8,
                Some(more) if more < 128 => block.push(more as u8),
                Some(more) => block.extend([more as u8 & 0x7f | 0x80, (more >> 7) as u8]),
            }
            block.extend(&coded);
            let fields = Decoder::default().decode(&block).unwrap();
            prop_assert_eq!(&*fields[0].1, &*octets);
        }

        #[test]
        fn no_block_panics(block in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Decoder::default().decode(&block);
        }
    }
}
