//! Bodies that are small on the way and large behind their content coding.

use std::io::Write as _;

/// What the mirror keeps of a body: beyond, it would not be looked into.
const KEPT: usize = 64 << 10;

/// In gzip, as small as it gets.
///
/// # Panics
/// Never: nothing is written but to memory.
pub(crate) fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(octets).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// 2 GiB of one byte, in blocks of 128 KiB behind a window of 128 MiB (RFC 8878, 3.1.1).
pub(crate) fn zstd() -> Vec<u8> {
    let mut frame = b"\x28\xb5\x2f\xfd\x00\x88".to_vec();
    while frame.len() + 8 < KEPT {
        frame.extend_from_slice(b"\x02\x00\x10 ");
    }
    frame.extend_from_slice(b"\x03\x00\x10 ");
    frame
}

/// 16 MiB of one literal in one command, as often as there is room (RFC 7932, 9.2).
pub(crate) fn brotli() -> Vec<u8> {
    // Least significant bit first. A window of 2^24.
    let mut bits: Vec<(u32, u32)> = vec![(0xf, 4)];
    let metablock = [
        // Not the last; six nibbles of length; compressed.
        (0, 1),
        (2, 2),
        ((1 << 24) - 1, 24),
        (0, 1),
        // One block type each, no postfix, one context mode, one tree each.
        (0, 13),
        // Trees of one symbol: the literal, insert length 23 with copy length 0, a distance.
        (1, 4),
        (0x20, 8),
        (1, 4),
        (504, 10),
        (1, 4),
        (0, 6),
        ((1 << 24) - 22_594, 24),
    ];
    let len: u32 = metablock.iter().map(|(_, len)| len).sum();
    for _ in 0..(KEPT - 64) * 8 / len as usize {
        bits.extend(metablock);
    }
    // The last, and empty.
    bits.push((3, 2));
    let flat: Vec<u8> = bits
        .iter()
        .flat_map(|(value, len)| (0..*len).map(move |bit| (value >> bit & 1) as u8))
        .collect();
    flat.chunks(8).map(|bits| bits.iter().rev().fold(0, |octet, bit| octet << 1 | bit)).collect()
}
