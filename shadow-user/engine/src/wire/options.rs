//! TCP options (RFC 9293, 3.1; RFC 7323; RFC 2018), read with the leniency and
//! written in the layout of Linux (`tcp_parse_options`, `tcp_options_write`).

use super::{Options, SackBlocks, Timestamps};
use crate::seq::SeqNum;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// Most octets of options: a data offset of 15 words less the fixed header.
pub(super) const MAX_LEN: usize = 40;

/// RFC 7323, 2.3: "If a Window Scale option is received with a shift.cnt value
/// larger than 14, the TCP SHOULD log the error but MUST use 14".
const MAX_WINDOW_SCALE: u8 = 14;

/// Reads options. Never fails: as in Linux an option whose length is wrong ends
/// the reading, and one that does not belong in such a segment is skipped.
pub(super) fn read(mut bytes: &[u8], syn: bool) -> Options {
    let mut options = Options::default();
    loop {
        let (kind, len) = match *bytes {
            [] | [END, ..] => return options,
            [NOP, ref rest @ ..] => {
                bytes = rest;
                continue;
            }
            [kind, len, ..] => (kind, usize::from(len)),
            [_] => return options,
        };
        if len < 2 {
            return options;
        }
        let Some((option, rest)) = bytes.split_at_checked(len) else { return options };
        match (kind, &option[2..]) {
            (MSS, &[high, low]) if syn => {
                // Linux takes a zero MSS as none (tcp_parse_options).
                options.mss = Some(u16::from_be_bytes([high, low])).filter(|mss| *mss != 0);
            }
            (WINDOW_SCALE, &[shift]) if syn => {
                options.window_scale = Some(shift.min(MAX_WINDOW_SCALE));
            }
            (SACK_PERMITTED, &[]) if syn => options.sack_permitted = true,
            (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                options.timestamps = Some(Timestamps {
                    value: u32::from_be_bytes([a, b, c, d]),
                    echo_reply: u32::from_be_bytes([e, f, g, h]),
                });
            }
            (SACK, blocks) => options.sack = read_sack(blocks).unwrap_or(options.sack),
            _ => {}
        }
        bytes = rest;
    }
}

/// Reads SACK blocks; none when there is not a whole number of them.
fn read_sack(bytes: &[u8]) -> Option<SackBlocks> {
    let (blocks, []) = bytes.as_chunks::<8>() else { return None };
    if blocks.is_empty() {
        return None;
    }
    let mut sack = SackBlocks::default();
    for &[a, b, c, d, e, f, g, h] in blocks {
        sack.push(
            SeqNum::new(u32::from_be_bytes([a, b, c, d])),
            SeqNum::new(u32::from_be_bytes([e, f, g, h])),
        );
    }
    Some(sack)
}

/// Options in wire form, padded to whole words.
pub(super) struct Written {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl Written {
    /// Lays options out as Linux does. SACK blocks that find no room are left out.
    pub fn new(options: &Options) -> Self {
        let mut written = Self { bytes: [0; MAX_LEN], len: 0 };
        if let Some(mss) = options.mss {
            let [high, low] = mss.to_be_bytes();
            written.push(&[MSS, 4, high, low]);
        }
        match (options.sack_permitted, options.timestamps.is_some()) {
            (true, true) => written.push(&[SACK_PERMITTED, 2, TIMESTAMPS, 10]),
            (false, true) => written.push(&[NOP, NOP, TIMESTAMPS, 10]),
            (true, false) => written.push(&[NOP, NOP, SACK_PERMITTED, 2]),
            (false, false) => {}
        }
        if let Some(Timestamps { value, echo_reply }) = options.timestamps {
            written.push(&value.to_be_bytes());
            written.push(&echo_reply.to_be_bytes());
        }
        if let Some(shift) = options.window_scale {
            written.push(&[NOP, WINDOW_SCALE, 3, shift.min(MAX_WINDOW_SCALE)]);
        }
        // Four octets of the option itself and eight of each block.
        let room = (MAX_LEN - written.len).saturating_sub(4) / 8;
        let blocks = options.sack.len().min(room);
        if blocks > 0 {
            // At most four blocks: 34 octets.
            written.push(&[NOP, NOP, SACK, (2 + 8 * blocks) as u8]);
            for (left, right) in options.sack.iter().take(blocks) {
                written.push(&left.get().to_be_bytes());
                written.push(&right.get().to_be_bytes());
            }
        }
        written
    }

    /// The octets, a multiple of four.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push<const N: usize>(&mut self, octets: &[u8; N]) {
        self.bytes[self.len..self.len + N].copy_from_slice(octets);
        self.len += N;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamps() -> Timestamps {
        Timestamps { value: 0x0102_0304, echo_reply: 0x0506_0708 }
    }

    #[test]
    fn syn_is_laid_out_as_by_linux() {
        let options = Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(timestamps()),
            sack: SackBlocks::default(),
        };
        assert_eq!(
            Written::new(&options).as_bytes(),
            [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7]
        );
    }

    #[test]
    fn sack_without_room_is_left_out() {
        let mut options = Options { timestamps: Some(timestamps()), ..Options::default() };
        for block in 0..4 {
            options.sack.push(SeqNum::new(block * 10), SeqNum::new(block * 10 + 5));
        }
        let written = Written::new(&options);
        assert_eq!(written.as_bytes().len(), 40);
        assert_eq!(read(written.as_bytes(), false).sack.len(), 3);
    }

    #[test]
    fn wrong_length_ends_the_reading_and_keeps_what_was_read() {
        let good = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        for tail in [&[5u8, 0][..], &[5, 1], &[5, 40], &[5], &[0, 2]] {
            let bytes = [&good, tail].concat();
            let expected = Options { timestamps: Some(timestamps()), ..Options::default() };
            assert_eq!(read(&bytes, false), expected, "{tail:?}");
        }
    }

    #[test]
    fn options_of_a_syn_count_only_there() {
        let bytes = [2, 4, 5, 0xb4, 4, 2, 3, 3, 15];
        assert_eq!(read(&bytes, false), Options::default());
        let options = read(&bytes, true);
        assert_eq!(options.mss, Some(1460));
        assert_eq!(options.window_scale, Some(14));
        assert!(options.sack_permitted);
    }
}
