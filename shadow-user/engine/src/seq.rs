//! TCP sequence numbers (RFC 9293, 3.4).

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A sequence number: arithmetic modulo 2^32.
///
/// There is no `Ord`: "before" is only meaningful for numbers less than 2^31
/// apart, and is not transitive.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct SeqNum(u32);

impl SeqNum {
    /// A sequence number from its value on the wire, host byte order.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The value on the wire, host byte order.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// How far `self` is ahead of `other`; negative when it is behind.
    #[must_use]
    pub const fn distance(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// `self < other` in sequence space.
    #[must_use]
    pub const fn before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    /// `self > other` in sequence space.
    #[must_use]
    pub const fn after(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    /// `self <= other` in sequence space.
    #[must_use]
    pub const fn before_or_at(self, other: Self) -> bool {
        self.distance(other) <= 0
    }

    /// `self >= other` in sequence space.
    #[must_use]
    pub const fn after_or_at(self, other: Self) -> bool {
        self.distance(other) >= 0
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    fn add(self, octets: u32) -> Self {
        Self(self.0.wrapping_add(octets))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, octets: u32) {
        *self = *self + octets;
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;

    fn sub(self, octets: u32) -> Self {
        Self(self.0.wrapping_sub(octets))
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
