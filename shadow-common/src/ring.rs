//! Places of single values in the arrays that both sides read and write.

/// Index into the `SLEEPING` array: which ring's consumer sleeps and wants to be woken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Ring {
    /// `REQUESTS`, filled by the tap.
    Requests = 0,
    /// `REPLIES`, filled by the guard.
    Replies = 1,
    /// `RESPONSES`, filled by the tap's other half at egress.
    Responses = 2,
}

impl Ring {
    /// How many rings there are.
    pub const COUNT: u32 = 3;
}
