//! Any bytes: nothing panics, and what is parsed survives being emitted again.

use shadow_engine::wire::{IcmpError, Packet, emit};

/// Checks one input. The first byte's low bit asks for the IPv4 header checksum
/// to be made right, so that mutations get past it.
pub fn check(input: &[u8]) {
    let Some((mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 != 0 {
        fix_header(&mut bytes);
    }
    if mode & 2 != 0 {
        leave_partial(&mut bytes);
    }
    let _ = IcmpError::parse(&bytes);
    let Ok(packet) = Packet::parse(&bytes) else { return };
    let payload = packet.segment.payload;
    // A super-frame may be longer than what one packet can say.
    if payload.len() > 65_000 {
        return;
    }
    let (front, back) = payload.split_at(payload.len() / 2);
    let mut emitted = Vec::new();
    emit(packet.source, packet.destination, &packet.segment, [front, back], &mut emitted);
    let mut expected = packet;
    if expected.segment.options.timestamps.is_some() || expected.segment.flags.syn {
        // Odd mixes of options find no room for all SACK blocks.
        expected.segment.options.sack =
            Packet::parse(&emitted).map(|packet| packet.segment.options.sack).unwrap_or_default();
        assert!(expected.segment.options.sack.len() <= packet.segment.options.sack.len());
    }
    assert_eq!(Packet::parse(&emitted), Ok(expected));
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn words(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|word| u64::from(word[0]) << 8 | u64::from(*word.get(1).unwrap_or(&0)))
        .sum()
}

/// Makes the IPv4 header checksum right.
pub(crate) fn fix_header(bytes: &mut [u8]) {
    let Some(len) = bytes.first().map(|byte| usize::from(byte & 0xf) * 4) else { return };
    if len >= 20 && bytes.len() >= len {
        bytes[10..12].fill(0);
        let checksum = !fold(words(&bytes[..len]));
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Makes the checksum of an ICMP message behind a plain IPv4 header right.
pub(crate) fn fix_icmp(packet: &mut [u8]) {
    packet[22..24].fill(0);
    let checksum = !fold(words(&packet[20..]));
    packet[22..24].copy_from_slice(&checksum.to_be_bytes());
}

/// Writes what Linux leaves in the TCP checksum field for the hardware.
fn leave_partial(bytes: &mut [u8]) {
    let (header, len, addresses) = match bytes.first().map(|byte| byte >> 4) {
        Some(4) if bytes.len() >= 20 => {
            let header = usize::from(bytes[0] & 0xf) * 4;
            let total = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            (header, total.saturating_sub(header), 12..20)
        }
        Some(6) if bytes.len() >= 40 => {
            (40, usize::from(u16::from_be_bytes([bytes[4], bytes[5]])), 8..40)
        }
        _ => return,
    };
    let sum = fold(words(&bytes[addresses]) + 6 + len as u64);
    if let Some(field) = bytes.get_mut(header + 16..header + 18) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}
