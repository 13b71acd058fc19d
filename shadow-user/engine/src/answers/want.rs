//! What shall be copied of production's answers.

use std::net::SocketAddr;

use crate::seq::SeqNum;

/// What shall be copied of a flow's answers from now on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Want {
    /// Every packet whole.
    All,
    /// The payload of segments that lie within these sequence numbers can be left out; `until` is
    /// fewer than 2^31 ahead of `from`.
    AllBut {
        /// The first of them.
        from: u32,
        /// The one behind the last.
        until: u32,
    },
    /// No packet: they are of no use any more.
    Nothing,
    /// The flow is over.
    Forget,
}

/// What shall be copied of which flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Order {
    /// The client's address and port.
    pub client: SocketAddr,
    /// Production's address and port.
    pub production: SocketAddr,
    /// What is wanted.
    pub want: Want,
}

impl Want {
    /// What two mirrors of the same flow want together: whatever either wants.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Forget, want) | (want, Self::Forget) => want,
            (Self::Nothing, want) | (want, Self::Nothing) => want,
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::AllBut { from: a, until: b }, Self::AllBut { from: c, until: d }) => {
                let later = |x, y| if SeqNum::new(x).distance(SeqNum::new(y)) > 0 { x } else { y };
                let (from, until) = (later(a, c), if later(b, d) == b { d } else { b });
                if SeqNum::new(until).distance(SeqNum::new(from)) > 0 {
                    Self::AllBut { from, until }
                } else {
                    Self::All
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn but(from: u32, until: u32) -> Want {
        Want::AllBut { from, until }
    }

    #[test]
    fn only_what_neither_wants_is_left_out() {
        assert_eq!(but(10, 30).or(but(20, 40)), but(20, 30));
        assert_eq!(but(20, 40).or(but(10, 30)), but(20, 30));
        assert_eq!(but(10, 20).or(but(20, 30)), Want::All);
        assert_eq!(but(u32::MAX - 5, 30).or(but(3, 40)), but(3, 30));
        assert_eq!(but(10, 30).or(Want::All), Want::All);
    }

    #[test]
    fn who_wants_nothing_stands_in_nobodys_way() {
        for want in [Want::All, but(1, 2), Want::Nothing, Want::Forget] {
            assert_eq!(want.or(Want::Forget), want);
            assert_eq!(Want::Forget.or(want), want);
        }
        assert_eq!(Want::Nothing.or(but(1, 2)), but(1, 2));
    }

    proptest! {
        #[test]
        fn a_number_is_left_out_only_by_both(start: u32, lens in prop::array::uniform2(1_u32..1 << 16), ahead in 0_u32..1 << 16, at in 0_u32..1 << 17) {
            let is_out = |want: Want, number: u32| match want {
                Want::AllBut { from, until } => number.wrapping_sub(from) < until.wrapping_sub(from),
                _ => false,
            };
            let a = but(start, start.wrapping_add(lens[0]));
            let from = start.wrapping_add(ahead);
            let b = but(from, from.wrapping_add(lens[1]));
            let number = start.wrapping_add(at);
            prop_assert_eq!(is_out(a.or(b), number), is_out(a, number) && is_out(b, number));
            prop_assert_eq!(a.or(b), b.or(a));
        }
    }
}
