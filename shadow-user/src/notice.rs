//! What deserves a line in the log while a mirror runs: changes, never single packets.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shadow_engine::time::Instant;

use crate::report::{Figure, Mirrored, Snapshot, Value, figures, figures_of};

/// Losses go on for as long as their cause: one line for all of this time.
const QUIET: Duration = Duration::from_secs(10);

/// Looks at snapshots for what has changed since the last line about it.
#[derive(Debug, Default)]
pub struct Notices {
    lost: u64,
    unsent: u64,
    /// When a line about losses was last written.
    written: Option<Instant>,
    /// Shadows that are down.
    down: HashSet<Arc<str>>,
    /// What [`Self::reasons`] has told of each shadow, figure and reason.
    told: HashMap<(Arc<str>, &'static str, &'static str), u64>,
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
        let mut look = |of: &Arc<str>, figures: Vec<Figure>| {
            for Figure { key, value, .. } in figures {
                let Value::Reasons(counts) = value else { continue };
                for (reason, count) in counts {
                    let told = self.told.entry((Arc::clone(of), key, reason)).or_default();
                    if count > *told {
                        let more = count - *told;
                        let of = if of.is_empty() { String::new() } else { format!("{of}: ") };
                        lines.push(format!("{of}{key}.{reason} is {count}, {more} more"));
                        *told = count;
                    }
                }
            }
        };
        look(&Arc::default(), figures(snapshot));
        for other in &snapshot.others {
            look(&other.to, figures_of(other));
        }
        lines
    }

    fn lines(&mut self, snapshot: &Snapshot) -> Vec<String> {
        let mut lines = Vec::new();
        for Mirrored { to, role, books, .. } in snapshot.mirrored() {
            let role = role.label();
            if !books.circuit.open {
                if self.down.remove(to) {
                    lines.push(format!("the {role} {to} answers again"));
                }
            } else if self.down.insert(Arc::clone(to)) {
                lines.push(format!(
                    "the {role} {to} is down: no new sessions until it answers again"
                ));
            }
        }
        if self.written.is_some_and(|written| snapshot.at.since(written) < QUIET) {
            return lines;
        }
        let lost = snapshot.lost();
        let mut unsent = BTreeMap::<&str, u64>::new();
        for mirrored in snapshot.mirrored() {
            for (reason, count) in mirrored.sends.iter_unsent().filter(|(_, count)| *count != 0) {
                *unsent.entry(reason.label()).or_default() += count;
            }
        }
        let (unsent, reasons) = (unsent.values().sum(), unsent);
        if lost > self.lost {
            lines.push(format!(
                "{} packets of clients were lost, {lost} so far: give a larger --ring-size, or \
                 less traffic",
                lost - self.lost
            ));
        }
        if unsent > self.unsent {
            let reasons: Vec<_> =
                reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            lines.push(format!(
                "the kernel did not send {} packets to shadows, so far: {}",
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
        snapshot.shadow.to = "10.0.0.9:80".into();
        assert_eq!(notices.lines(&snapshot), Vec::<String>::new());
        snapshot.shadow.books.circuit.open = true;
        assert_eq!(notices.lines(&snapshot).len(), 1);
        assert_eq!(notices.lines(&snapshot), Vec::<String>::new(), "said once");
        snapshot.shadow.books.circuit.open = false;
        assert_eq!(notices.lines(&snapshot), ["the shadow 10.0.0.9:80 answers again"]);
    }

    #[test]
    fn a_bucket_that_grows_is_told_with_its_reason() {
        let mut notices = Notices::default();
        let mut snapshot = Snapshot::default();
        assert_eq!(notices.reasons(&snapshot), Vec::<String>::new());
        snapshot.shadow.books.flows.seen = 5;
        snapshot.shadow.books.flows.aborted.add(Aborted::GateTimeout, 3);
        assert_eq!(notices.reasons(&snapshot), ["flows.aborted.gate_timeout is 3, 3 more"]);
        assert_eq!(notices.reasons(&snapshot), Vec::<String>::new(), "told once");
        snapshot.shadow.books.flows.aborted.add(Aborted::GateTimeout, 2);
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
