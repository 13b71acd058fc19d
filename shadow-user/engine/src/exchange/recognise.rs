//! Which protocol a client speaks, by its first octets.

use super::Protocol;
use super::http2::PREFACE;
use super::redis::looks_like_command;
use crate::http::{Recognition, looks_like_request};

/// Tells the protocol. [`Recognition::NeedMore`] asks for some KiB at most.
pub(super) fn recognise(bytes: &[u8]) -> Result<Protocol, Recognition> {
    let http2 = match (bytes.starts_with(PREFACE), PREFACE.starts_with(bytes)) {
        (true, _) => Recognition::Yes,
        (false, true) => Recognition::NeedMore,
        (false, false) => Recognition::No,
    };
    let spoken = [
        (Protocol::Http1, looks_like_request(bytes)),
        (Protocol::Http2, http2),
        (Protocol::Redis, looks_like_command(bytes)),
    ];
    match spoken.iter().find(|(_, spoken)| *spoken == Recognition::Yes) {
        Some((protocol, _)) => Ok(*protocol),
        None if spoken.iter().any(|(_, spoken)| *spoken == Recognition::NeedMore) => {
            Err(Recognition::NeedMore)
        }
        None => Err(Recognition::No),
    }
}
