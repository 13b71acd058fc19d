//! Which octets of the client's stream are which of the stream that is sent.

use std::collections::VecDeque;

/// The edits that the shadow has not acknowledged as a whole, in order, and where they stand in both
/// streams. Everything between two edits goes as it is.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    edits: VecDeque<Edit>,
    /// Where the last edit that was acknowledged ends, in the client's stream and in the sent one.
    base: (u64, u64),
    /// Octets of edits before that which were left out.
    left_out: u64,
}

/// Octets of the client's stream, and what is sent in their place.
#[derive(Clone, Copy, Debug)]
struct Edit {
    /// Offset of the client's stream.
    at: u64,
    /// Octets of the client's stream from there on.
    removed: u64,
    /// Offset of the sent stream.
    sent_at: u64,
    /// Octets of the sent stream from there on.
    inserted: u64,
    left_out: bool,
}

impl Edit {
    /// Where it ends in both streams.
    fn ends(&self) -> (u64, u64) {
        (self.at + self.removed, self.sent_at + self.inserted)
    }
}

impl Offsets {
    /// `inserted` octets are sent instead of `removed` octets from `at` on, behind every edit so far.
    pub(super) fn replace(&mut self, at: u64, removed: u64, inserted: u64) {
        self.push(at, removed, inserted, false);
    }

    /// `removed` octets from `at` on, behind every edit so far, are left out.
    pub(super) fn leave_out(&mut self, at: u64, removed: u64) {
        match self.edits.back_mut() {
            _ if removed == 0 => {}
            Some(last) if last.left_out && last.at + last.removed == at => last.removed += removed,
            _ => self.push(at, removed, 0, true),
        }
    }

    /// Where offset `octets` of the client's stream stands in the sent one. Within an edit, before
    /// it: that goes as a whole.
    pub(super) fn sent(&self, octets: u64) -> u64 {
        let next = self.edits.partition_point(|edit| edit.ends().0 <= octets);
        let (client, sent) = self.end_before(next);
        let at = sent + octets.saturating_sub(client);
        self.edits.get(next).map_or(at, |edit| at.min(edit.sent_at))
    }

    /// How much of the client's stream the first `sent` octets of the sent stream settle: an edit
    /// counts when all of it is there. Must not go back from call to call.
    pub(super) fn received(&mut self, sent: u64) -> u64 {
        while let Some(edit) = self.edits.pop_front_if(|edit| edit.ends().1 <= sent) {
            self.base = edit.ends();
            if edit.left_out {
                self.left_out += edit.removed;
            }
        }
        if self.edits.is_empty() {
            self.edits = VecDeque::new();
        }
        let (client, base) = self.base;
        let at = client + sent.saturating_sub(base);
        self.edits.front().map_or(at, |edit| at.min(edit.at))
    }

    /// Octets that were left out, of those that [`Self::received`] gave last.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How far the first `sent` octets of the sent stream come in the client's, part of an edit
    /// included; may go back from call to call.
    pub(super) fn covered(&self, sent: u64) -> u64 {
        let next = self.edits.partition_point(|edit| edit.ends().1 <= sent);
        let (client, base) = self.end_before(next);
        let at = client + sent.saturating_sub(base);
        self.edits.get(next).map_or(at, |edit| at.min(edit.at + edit.removed))
    }

    /// Heap octets.
    pub(super) fn memory(&self) -> usize {
        self.edits.capacity() * size_of::<Edit>()
    }

    fn push(&mut self, at: u64, removed: u64, inserted: u64, left_out: bool) {
        let (client, sent) = self.end_before(self.edits.len());
        let sent_at = sent + at.saturating_sub(client);
        self.edits.push_back(Edit { at, removed, sent_at, inserted, left_out });
    }

    /// Where the edit before the one with this index ends.
    fn end_before(&self, index: usize) -> (u64, u64) {
        let before = index.checked_sub(1).and_then(|index| self.edits.get(index));
        before.map_or(self.base, Edit::ends)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `abc[DEF→x]gh[IJ→][K→wxyz]lm`.
    fn offsets() -> Offsets {
        let mut offsets = Offsets::default();
        offsets.replace(3, 3, 1);
        offsets.leave_out(8, 1);
        offsets.leave_out(9, 1);
        offsets.replace(10, 1, 4);
        offsets
    }

    #[test]
    fn an_edit_goes_as_a_whole() {
        let offsets = offsets();
        let sent: Vec<_> = (0..=13).map(|octets| offsets.sent(octets)).collect();
        assert_eq!(sent, [0, 1, 2, 3, 3, 3, 4, 5, 6, 6, 6, 10, 11, 12]);
    }

    #[test]
    fn an_edit_has_arrived_when_all_of_it_has() {
        let mut offsets = offsets();
        let received: Vec<_> = (0..=12).map(|sent| offsets.received(sent)).collect();
        assert_eq!(received, [0, 1, 2, 3, 6, 7, 10, 10, 10, 10, 11, 12, 13]);
        assert_eq!((offsets.left_out(), offsets.memory()), (2, 0));
    }

    #[test]
    fn part_of_an_edit_tells_that_it_has_begun() {
        let offsets = offsets();
        let covered: Vec<_> = (0..=12).map(|sent| offsets.covered(sent)).collect();
        assert_eq!(covered, [0, 1, 2, 3, 6, 7, 10, 11, 11, 11, 11, 12, 13]);
    }

    #[test]
    fn what_stands_before_the_stream_goes_with_its_beginning() {
        let mut offsets = Offsets::default();
        offsets.replace(0, 0, 28);
        assert_eq!((offsets.sent(0), offsets.sent(10)), (28, 38));
        assert_eq!((offsets.covered(27), offsets.covered(28), offsets.covered(38)), (0, 0, 10));
        assert_eq!((offsets.received(27), offsets.received(28), offsets.received(38)), (0, 0, 10));
        assert_eq!(offsets.sent(10), 38);
    }

    #[test]
    fn what_is_left_out_in_a_row_is_one_edit() {
        let mut offsets = Offsets::default();
        for at in 0..1_000 {
            offsets.leave_out(at, 1);
        }
        assert_eq!(offsets.edits.len(), 1);
        assert_eq!((offsets.received(0), offsets.left_out()), (1_000, 1_000));
    }

    proptest! {
        #[test]
        fn both_ways_agree(
            edits in prop::collection::vec((1_u64..5, 0_u64..5, 0_u64..5, any::<bool>()), 0..20),
            tail in 0_u64..5,
            acknowledged in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let mut offsets = Offsets::default();
            let (mut client, mut sent, mut left_out) = (0, 0, 0);
            for (between, removed, inserted, leave_out) in edits {
                // Nothing but what stands before the stream replaces nothing.
                let removed = if leave_out { removed } else { removed + 1 };
                client += between;
                sent += between;
                if leave_out {
                    offsets.leave_out(client, removed);
                    left_out += removed;
                } else {
                    offsets.replace(client, removed, inserted);
                    sent += inserted;
                }
                client += removed;
            }
            let (client, sent) = (client + tail, sent + tail);
            prop_assert_eq!(offsets.sent(client), sent);
            let mut acknowledged: Vec<_> =
                acknowledged.iter().map(|one| one.index(sent as usize + 1) as u64).collect();
            acknowledged.sort_unstable();
            let mut last = 0;
            for octets in acknowledged {
                let received = offsets.received(octets);
                prop_assert!(received >= last && received <= client);
                prop_assert!(offsets.covered(octets) >= received);
                prop_assert!(offsets.sent(received) <= octets);
                last = received;
                let all: Vec<_> = (received..=client).map(|octets| offsets.sent(octets)).collect();
                prop_assert!(all.is_sorted() && all.last() == Some(&sent));
            }
            prop_assert_eq!(offsets.received(sent), client);
            prop_assert_eq!(offsets.left_out(), left_out);
        }
    }
}
