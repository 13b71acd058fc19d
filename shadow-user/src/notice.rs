//! What deserves a line in the log while a mirror runs: changes, never single packets.

use std::collections::HashMap;
use std::time::Duration;

use shadow_engine::time::Instant;

use crate::report::{Snapshot, Value, figures};

/// Losses go on for as long as their cause: one line for all of this time.
const QUIET: Duration = Duration::from_secs(10);

/// Looks at snapshots for what has changed since the last line about it.
#[derive(Debug, Default)]
pub struct Notices {
    lost: u64,
    unsent: u64,
    /// When a line about losses was last written.
    written: Option<Instant>,
    circuit_open: bool,
    /// What [`Self::reasons`] has told of each figure and reason.
    told: HashMap<(&'static str, &'static str), u64>,
}

impl Notices {
    /// Writes a warning for each thing that got worse, and a line when it got better.
    pub fn look(&mut self, snapshot: &Snapshot) {
        for line in self.lines(snapshot) {
            tracing::warn!("{line}");
        }
        // Only with -v: a busy mirror always has some reason to tell.
        if tracing::enabled!(tracing::Level::DEBUG) {
            for line in self.reasons(snapshot) {
                tracing::debug!("{line}");
            }
        }
    }

    /// Each bucket with a reason that has grown, and by how much.
    fn reasons(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        for figure in figures(snapshot) {
            let Value::Reasons(counts) = figure.value else { continue };
            for (reason, count) in counts {
                let told = self.told.entry((figure.key, reason)).or_default();
                if count > *told {
                    lines.push(format!(
                        "{}.{reason} is {count}, {} more",
                        figure.key,
                        count - *told
                    ));
                    *told = count;
                }
            }
        }
        lines
    }

    fn lines(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        let circuit_open = snapshot.books.circuit.open;
        if circuit_open != self.circuit_open {
            self.circuit_open = circuit_open;
            lines.push(if circuit_open {
                "the shadow is down: no new sessions until it answers again".to_owned()
            } else {
                "the shadow answers again".to_owned()
            });
        }
        if self.written.is_some_and(|written| snapshot.at.since(written) < QUIET) {
            return lines;
        }
        let lost = snapshot.lost();
        let unsent = snapshot.sends.iter_unsent().map(|(_, count)| count).sum();
        if lost > self.lost {
            lines.push(format!(
                "{} packets of clients were lost, {lost} so far: give a larger --ring-size, or \
                 less traffic",
                lost - self.lost
            ));
        }
        if unsent > self.unsent {
            let reasons: Vec<_> = snapshot
                .sends
                .iter_unsent()
                .filter(|(_, count)| *count != 0)
                .map(|(reason, count)| format!("{} {count}", reason.label()))
                .collect();
            lines.push(format!(
                "the kernel did not send {} packets to the shadow, so far: {}",
                unsent - self.unsent,
                reasons.join(", ")
            ));
        }
        if lost > self.lost || unsent > self.unsent {
            self.written = Some(snapshot.at);
        }
        (self.lost, self.unsent) = (lost, unsent);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadow_common::TapCounter;
    use shadow_engine::books::Aborted;

    #[test]
    fn a_shadow_that_goes_and_comes_is_two_lines() {
        let mut notices = Notices::default();
        let mut snapshot = Snapshot::default();
        assert_eq!(notices.lines(&snapshot), Vec::<String>::new());
        snapshot.books.circuit.open = true;
        assert_eq!(notices.lines(&snapshot).len(), 1);
        assert_eq!(notices.lines(&snapshot), Vec::<String>::new(), "said once");
        snapshot.books.circuit.open = false;
        assert_eq!(notices.lines(&snapshot), ["the shadow answers again"]);
    }

    #[test]
    fn a_bucket_that_grows_is_told_with_its_reason() {
        let mut notices = Notices::default();
        let mut snapshot = Snapshot::default();
        assert_eq!(notices.reasons(&snapshot), Vec::<String>::new());
        snapshot.books.flows.seen = 5;
        snapshot.books.flows.aborted.add(Aborted::GateTimeout, 3);
        assert_eq!(notices.reasons(&snapshot), ["flows.aborted.gate_timeout is 3, 3 more"]);
        assert_eq!(notices.reasons(&snapshot), Vec::<String>::new(), "told once");
        snapshot.books.flows.aborted.add(Aborted::GateTimeout, 2);
        assert_eq!(notices.reasons(&snapshot), ["flows.aborted.gate_timeout is 5, 2 more"]);
    }

    #[test]
    fn losses_are_said_once_in_a_while() {
        let mut notices = Notices::default();
        let mut snapshot = Snapshot { at: Instant::from_nanos(1), ..Snapshot::default() };
        let lose = |snapshot: &mut Snapshot, count| {
            let lost = snapshot.lost() + count;
            snapshot.kernel.tap.set(TapCounter::RingFull, lost);
        };
        lose(&mut snapshot, 3);
        assert!(
            notices.lines(&snapshot)[0].starts_with("3 packets of clients were lost, 3 so far")
        );
        lose(&mut snapshot, 2);
        snapshot.at += Duration::from_secs(1);
        assert_eq!(notices.lines(&snapshot), Vec::<String>::new());
        lose(&mut snapshot, 2);
        snapshot.at += QUIET;
        assert!(
            notices.lines(&snapshot)[0].starts_with("4 packets of clients were lost, 7 so far")
        );
        snapshot.at += QUIET;
        assert_eq!(notices.lines(&snapshot), Vec::<String>::new(), "no more were lost");
    }
}
