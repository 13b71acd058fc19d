//! Which flows of a mirrored service are chosen: by their client's network, and by a hash of it.

use bytemuck::{Pod, Zeroable};

use crate::Address;

/// What is chosen at the moment: the one value of the `CHOICE` map.
///
/// A flow keeps what was decided at its SYN, whatever is chosen later. So that no flow need be
/// remembered while nothing changes, `base` stays for as long as the programs are loaded: by it a
/// flow is judged whose SYN nobody saw, or came before the first change. Of later flows only those
/// are remembered for which `now` decided otherwise.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ChoiceRule {
    /// [`ChoiceRule::SAMPLED`] and its like. None at all: everything is chosen, and always was.
    pub flags: u32,
    /// Always zero.
    pub reserved: u32,
    /// A flow is in the sample when its [`place`] is below: 2^32 for every flow.
    pub base: u64,
    /// The same for flows that begin from now on.
    pub now: u64,
}

const _: () = assert!(size_of::<ChoiceRule>() == 24);

impl ChoiceRule {
    /// A share is chosen, or was.
    pub const SAMPLED: u32 = 1;
    /// Clients are chosen by their networks, or were: `CLIENTS` is to be asked.
    pub const LISTED: u32 = 1 << 1;
    /// What is chosen has been changed: `EXCEPTIONS` is to be asked.
    pub const CHANGED: u32 = 1 << 2;
    /// No flow is begun.
    pub const PAUSED: u32 = 1 << 3;
    /// Every flow, as a bound of places.
    pub const EVERY: u64 = 1 << 32;
}

/// A network of clients: the key of the `CLIENTS` map, a trie in which the longest prefix wins.
///
/// Laid out as the kernel's `struct bpf_lpm_trie_key`; aya's own is packed, and written byte by byte.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ClientKey {
    /// Leading bits of `address` that are compared, host byte order; of IPv4 96 more than usual.
    pub prefix_len: u32,
    /// The network's address.
    pub address: Address,
}

const _: () = assert!(size_of::<ClientKey>() == 20);

/// Whether a network's clients are chosen, as bits: the value of `CLIENTS`.
pub mod listed {
    /// By [`ChoiceRule::base`](super::ChoiceRule::base)'s lists.
    pub const BASE: u32 = 1;
    /// By [`ChoiceRule::now`](super::ChoiceRule::now)'s lists.
    pub const NOW: u32 = 1 << 1;
}

/// Whether a flow is chosen: the value of the `EXCEPTIONS` map, as its number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Choice {
    /// It is.
    Chosen = 0,
    /// It is not in the sample.
    SampledOut = 1,
    /// Its client is not among those that are mirrored.
    Client = 2,
    /// It began in a pause.
    Paused = 3,
}

/// The most networks of clients in a list.
pub const MAX_CLIENTS: u32 = 65_536;

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

/// The place of a client in the order in which samples grow: a sample has all below its bound, and
/// so all of any smaller one. Depends on nothing else, so that every host chooses the same clients.
///
/// It is the upper half of XXH64 over twenty bytes: the address, the port in network byte order, two
/// zeros. The port is zero where clients are sampled, not connections.
#[inline(always)]
#[must_use]
pub fn place(seed: u64, client: &Address, port: [u8; 2]) -> u32 {
    let words: &[u32; 4] = bytemuck::cast_ref(client);
    let word = |index: usize| u64::from(u32::from_le(words[index]));
    let mut hash = seed.wrapping_add(PRIME_5).wrapping_add(20);
    hash = lane(hash, word(0) | word(1) << 32);
    hash = lane(hash, word(2) | word(3) << 32);
    let rest = u64::from(u16::from_le_bytes(port));
    hash ^= rest.wrapping_mul(PRIME_1);
    hash = hash.rotate_left(23).wrapping_mul(PRIME_2).wrapping_add(PRIME_3);
    hash = (hash ^ hash >> 33).wrapping_mul(PRIME_2);
    hash = (hash ^ hash >> 29).wrapping_mul(PRIME_3);
    ((hash ^ hash >> 32) >> 32) as u32
}

#[inline(always)]
const fn lane(hash: u64, lane: u64) -> u64 {
    let lane = lane.wrapping_mul(PRIME_2).rotate_left(31).wrapping_mul(PRIME_1);
    (hash ^ lane).rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_4)
}

#[cfg(feature = "user")]
mod pod {
    #![expect(clippy::undocumented_unsafe_blocks, reason = "one SAFETY line serves both")]
    // SAFETY: each type is `repr(C)` and `bytemuck::Pod`: no padding, no pointers, any bits valid.
    unsafe impl aya::Pod for super::ChoiceRule {}
    unsafe impl aya::Pod for super::ClientKey {}
}

#[cfg(test)]
mod tests {
    use twox_hash::XxHash64;

    use super::*;

    /// These must never change: hosts of different versions choose the same clients.
    #[test]
    fn places_are_known() {
        let client = Address::from_v4([192, 0, 2, 1]);
        let v6 = Address([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        for (seed, client, port, expected) in [
            (0, client, [0; 2], 0x80a6_b986),
            (0, client, [0x9c, 0x40], 0x6d4e_26f7),
            (7, client, [0; 2], 0xa434_4cb7),
            (0, v6, [0; 2], 0x4519_73fb),
            (u64::MAX, v6, [0xff; 2], 0xabfe_2ee3),
        ] {
            assert_eq!(place(seed, &client, port), expected, "{seed} {client:?} {port:?}");
        }
    }

    #[test]
    fn it_is_the_hash_that_it_is_said_to_be() {
        let mut bytes = [0_u8; 20];
        for round in 0..10_000_u64 {
            for (index, byte) in bytes[..18].iter_mut().enumerate() {
                *byte = byte.wrapping_mul(31).wrapping_add((round as u8) ^ index as u8);
            }
            let client = Address(core::array::from_fn(|index| bytes[index]));
            let seed = round.wrapping_mul(PRIME_3);
            let expected = (XxHash64::oneshot(seed, &bytes) >> 32) as u32;
            assert_eq!(place(seed, &client, [bytes[16], bytes[17]]), expected);
        }
    }

    /// Neighbours, as clients of one network are, in each of ten samples.
    #[test]
    fn a_hundred_thousand_neighbours_are_spread_evenly() {
        for by_port in [false, true] {
            let mut tenths = [0_u32; 10];
            for number in 0..100_000_u32 {
                let [_, a, b, c] = number.to_be_bytes();
                let place = if by_port {
                    place(0, &Address::from_v4([10, 0, 0, a]), [b, c])
                } else {
                    place(0, &Address::from_v4([10, a, b, c]), [0; 2])
                };
                tenths[((u64::from(place) * 10) >> 32) as usize] += 1;
            }
            // Five standard deviations of 100,000 draws at one tenth: 5 * sqrt(9000).
            for count in tenths {
                assert!(count.abs_diff(10_000) <= 474, "{tenths:?}");
            }
        }
    }
}
