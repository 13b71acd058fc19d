//! Protection against wrapped sequence numbers (RFC 7323, 5) for an onlooker.

use crate::time::{Duration, Instant};
use crate::wire::Timestamps;

/// Production acknowledges within this time (Linux: `TCP_DELACK_MAX`, 200 ms),
/// and takes over the timestamp of the first segment after that.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);

/// RFC 7323, 5.5: timestamps of a connection idle for 24 days tell nothing.
const OUTDATED_AFTER: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// A lower bound of production's `TS.Recent`.
///
/// Production takes a timestamp over only from a segment at or before its last
/// ACK sent (RFC 7323, 4.3), which an onlooker does not see. So a timestamp
/// counts only once a further segment in order arrived at least a second after
/// it: then production's is no older. A segment that production would take is
/// never refused; a duplicate from before a wrap is at least seconds old.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Paws {
    bound: Option<u32>,
    candidate: u32,
    candidate_at: Instant,
    /// Whether `candidate` is one.
    seen: bool,
}

impl Paws {
    /// Whether production must refuse the segment for its timestamp.
    pub fn refuses(&self, timestamps: Option<Timestamps>, now: Instant) -> bool {
        let (Some(bound), Some(timestamps)) = (self.bound, timestamps) else { return false };
        // Linux leaves one tick of room (TCP_PAWS_WINDOW).
        bound.wrapping_sub(timestamps.value).cast_signed() > 1
            && now.since(self.candidate_at) < OUTDATED_AFTER
    }

    /// Notes the timestamp of a segment that was in order.
    pub fn note(&mut self, timestamps: Option<Timestamps>, now: Instant) {
        let Some(Timestamps { value, .. }) = timestamps else { return };
        if self.seen && now.since(self.candidate_at) < ACKNOWLEDGED_WITHIN {
            return;
        }
        if self.seen {
            self.bound = Some(self.candidate);
        }
        self.candidate = value;
        self.candidate_at = now;
        self.seen = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(value: u32) -> Option<Timestamps> {
        Some(Timestamps { value, echo_reply: 0 })
    }

    #[test]
    fn old_timestamp_is_refused_once_production_must_have_left_it() {
        let mut paws = Paws::default();
        let time = Instant::from_nanos;
        paws.note(at(1000), time(0));
        paws.note(at(1500), time(SECOND / 2));
        assert!(!paws.refuses(at(1), time(SECOND / 2)));
        paws.note(at(2000), time(SECOND));
        assert!(paws.refuses(at(998), time(SECOND)));
        assert!(!paws.refuses(at(999), time(SECOND)), "one tick of room");
        assert!(!paws.refuses(at(1500), time(SECOND)));
        assert!(!paws.refuses(None, time(SECOND)));
        assert!(!paws.refuses(at(1), time(SECOND) + OUTDATED_AFTER));
    }

    #[test]
    fn timestamps_wrap() {
        let mut paws = Paws::default();
        paws.note(at(u32::MAX - 10), Instant::from_nanos(0));
        paws.note(at(5), Instant::from_nanos(SECOND));
        assert!(!paws.refuses(at(3), Instant::from_nanos(SECOND)));
        assert!(paws.refuses(at(u32::MAX - 100), Instant::from_nanos(SECOND)));
    }
}
