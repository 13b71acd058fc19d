//! The internet checksum (RFC 1071) over IP and TCP headers and data.
//!
//! Own code because of two findings: `internet-checksum` 0.2.1 loses a carry
//! (and panics in debug builds) on bytes a client can craft, and `pnet_packet`
//! adds two bytes at a time into 32 bits, which overflow for a BIG TCP frame.

use std::net::IpAddr;

/// A running ones'-complement sum of 16-bit words.
///
/// The words are added in the host's byte order: the sum is the same in either
/// order but for a byte swap (RFC 1071, 2 (B)), so only the result is put in
/// wire order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes that begin at an even offset of what is summed; an odd last
    /// byte is padded with zero. At most 2^33 bytes fit without overflow.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, tail) = bytes.as_chunks::<4>();
        let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(tail) {
            *to = *from;
        }
        Self(self.0 + sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// Starts with the pseudo-header of RFC 9293, 3.1 or RFC 8200, 8.1.
    /// `len` is the upper layer's length in octets, header included.
    #[must_use]
    pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: u32) -> Self {
        // The 32-bit length and the zero-extended protocol sum alike in both families.
        let sum = Self::default().bytes(&len.to_be_bytes()).bytes(&[0, 0, 0, protocol]);
        [source, destination].iter().fold(sum, |sum, address| match address {
            IpAddr::V4(address) => sum.bytes(&address.octets()),
            IpAddr::V6(address) => sum.bytes(&address.octets()),
        })
    }

    /// The sum folded to 16 bits, in wire order, not complemented. Zero only
    /// when every word was zero, as the kernel's `csum_fold` has it.
    #[must_use]
    pub fn fold(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // No more than 16 bits are left.
        (sum as u16).to_ne_bytes()
    }

    /// The checksum field for what was summed with that field as zero.
    #[must_use]
    pub fn checksum(self) -> [u8; 2] {
        self.fold().map(|byte| !byte)
    }

    /// Whether what was summed, its checksum field included, is intact.
    #[must_use]
    pub fn is_intact(self) -> bool {
        self.fold() == [0xff, 0xff]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071, 1: the definition, word by word.
    fn by_definition(bytes: &[u8]) -> u16 {
        bytes.chunks(2).fold(0u16, |sum, word| {
            let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
            let (sum, carry) = sum.overflowing_add(word);
            sum + u16::from(carry)
        })
    }

    #[test]
    fn example_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&bytes).fold(), [0xdd, 0xf2]);
    }

    #[test]
    fn only_zero_words_fold_to_zero() {
        assert_eq!(Sum::default().bytes(&[0; 9]).fold(), [0, 0]);
        assert_eq!(Sum::default().bytes(&[0xff; 64]).fold(), [0xff, 0xff]);
    }

    proptest! {
        #[test]
        fn equals_the_definition(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..200),
            split in 0usize..100,
        ) {
            let split = (split * 2).min(bytes.len() & !1);
            let sum = Sum::default().bytes(&bytes[..split]).bytes(&bytes[split..]);
            prop_assert_eq!(u16::from_be_bytes(sum.fold()), by_definition(&bytes));
        }
    }
}
