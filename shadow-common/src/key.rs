//! Keys and values of the maps by which the daemon tells the programs what to select.

use bytemuck::{Pod, Zeroable};

/// An IP address: IPv6 as it is, IPv4 as `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2).
/// Network byte order. Aligned to words, so that the programs copy and compare words, not bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C, align(4))]
pub struct Address(pub [u8; 16]);

impl Address {
    /// The first twelve bytes of an IPv4 address in its mapped form.
    pub const V4_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    /// "Any IPv4 address" as a wildcard key (`0.0.0.0`, mapped).
    pub const ANY_V4: Self = Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    /// "Any IPv6 address" as a wildcard key (`::`).
    pub const ANY_V6: Self = Self([0; 16]);

    /// The mapped form of an IPv4 address, given in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(v4: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]])
    }
}

/// A mirrored production address and port: the key of the tap's `SERVICES` map.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ServiceKey {
    /// Destination address of a client's packet, or a wildcard.
    pub address: Address,
    /// Destination port, network byte order.
    pub port: [u8; 2],
    /// Always zero.
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<ServiceKey>() == 20);

/// A shadow's service address and port: the key of the guard's `SHADOWS` map.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ShadowKey {
    /// Source address of the shadow's packets.
    pub address: Address,
    /// Source port, network byte order. 0 for what has no ports: the later fragments of any
    /// packet from `address`.
    pub port: [u8; 2],
    /// Always zero.
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<ShadowKey>() == 20);

/// Which of a shadow's packets belong to the mirror: the value of `SHADOWS`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct GuardRule {
    /// A [`GuardMode`] as its number.
    pub mode: u32,
    /// Of [`GuardMode::Own`]: the mirror's own address, to which the shadow answers.
    pub local: Address,
    /// Of [`GuardMode::Own`]: first port of the mirror's range, host byte order.
    pub port_min: u16,
    /// Of [`GuardMode::Own`]: last port of the mirror's range, inclusive, host byte order.
    pub port_max: u16,
}

const _: () = assert!(size_of::<GuardRule>() == 24);

impl GuardRule {
    /// What the shadow sends to `local`, ports `min..=max`.
    #[must_use]
    pub const fn own(local: Address, min: u16, max: u16) -> Self {
        Self { mode: GuardMode::Own as u32, local, port_min: min, port_max: max }
    }

    /// What the shadow sends to anyone but this host.
    #[must_use]
    pub const fn foreign() -> Self {
        Self { mode: GuardMode::Foreign as u32, local: Address::ANY_V6, port_min: 0, port_max: 0 }
    }
}

/// To whom a shadow's packets go that the guard drops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum GuardMode {
    /// To the mirror's own address and ports: the host's other traffic with the shadow passes.
    Own = 0,
    /// To any address that is not in `OWN_ADDRESSES`: the mirror sends from addresses of others,
    /// who must never see an answer.
    Foreign = 1,
}

/// The most entries of `SERVICES`.
pub const MAX_SERVICES: u32 = 4096;
/// The most entries of `SHADOWS`.
pub const MAX_SHADOWS: u32 = 256;
/// The most entries of `OWN_ADDRESSES`.
pub const MAX_OWN_ADDRESSES: u32 = 4096;
/// Entries of a bitmap of ports: 64 ports a word, port 0 the lowest bit of the first.
pub const PORT_WORDS: u32 = 65_536 / 64;

#[cfg(feature = "user")]
mod pod {
    #![expect(clippy::undocumented_unsafe_blocks, reason = "one SAFETY line serves all four")]
    // SAFETY: each type is `repr(C)` and `bytemuck::Pod`: no padding, no pointers, any bits valid.
    unsafe impl aya::Pod for super::Address {}
    unsafe impl aya::Pod for super::ServiceKey {}
    unsafe impl aya::Pod for super::ShadowKey {}
    unsafe impl aya::Pod for super::GuardRule {}
}
