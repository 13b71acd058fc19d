//! Which protocol a client speaks, by its first octets.

use super::Protocol;
use crate::http::{Recognition, looks_like_request};

/// What a client's first octets are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Spoken {
    /// Of this protocol.
    Known(Protocol),
    /// They could be of several; some KiB at most are asked for.
    NeedMore,
    /// Of none that is known.
    Unknown,
}

/// Tells the protocol.
pub(super) fn recognise(bytes: &[u8]) -> Spoken {
    match looks_like_request(bytes) {
        Recognition::Yes => Spoken::Known(Protocol::Http1),
        Recognition::NeedMore => Spoken::NeedMore,
        Recognition::No => Spoken::Unknown,
    }
}
