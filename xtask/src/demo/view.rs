//! The live view: redrawn in place on a terminal, else a line now and then.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use shadow_lab::{Mirror, Nginx, Progress, sum_metric};

/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(2);
/// Up by the rows of one frame, which is always as high.
const UP: &str = "\x1b[7A";
/// Erases the rest of the row.
const CLEAR: &str = "\x1b[K";

/// What is looked at while it runs.
pub struct View<'a> {
    duration: Duration,
    progress: &'a Progress,
    production: &'a Nginx,
    mirror: &'a Mirror,
    shadow: &'a Nginx,
    in_place: bool,
    drawn: bool,
    spoke: Duration,
}

impl<'a> View<'a> {
    /// A view of a run of `duration`.
    pub fn new(
        duration: Duration,
        progress: &'a Progress,
        production: &'a Nginx,
        mirror: &'a Mirror,
        shadow: &'a Nginx,
    ) -> Self {
        let in_place = io::stdout().is_terminal();
        let (drawn, spoke) = (false, Duration::ZERO);
        Self { duration, progress, production, mirror, shadow, in_place, drawn, spoke }
    }

    /// Shows how things are after `elapsed`.
    pub fn draw(&mut self, elapsed: Duration) {
        if !self.in_place && elapsed < self.spoke + LINE && elapsed < self.duration {
            return;
        }
        self.spoke = elapsed;
        let text = if self.in_place { self.frame(elapsed) } else { self.line(elapsed) };
        let mut output = io::stdout().lock();
        // A closed terminal ends the demo by signal; a lost frame is no reason to.
        let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    }

    fn frame(&mut self, elapsed: Duration) -> String {
        let metric = self.metrics();
        let Progress { sent, completed, failed, connections, body_bytes, .. } = self.progress;
        let megabytes = count(body_bytes) / 1_000_000;
        let (now, end) = (elapsed.as_secs_f64(), self.duration.as_secs());
        // Narrower than 80 columns: a wrapped row would break the way back up.
        let rows = [
            format!("{now:6.1} of {end} s"),
            row(
                "client",
                &[(count(sent), "sent"), (count(completed), "answered"), (count(failed), "failed")],
            ),
            row("", &[(count(connections), "connections"), (megabytes, "MB uploaded")]),
            row("production", &[(self.production.logged() as u64, "requests in its log")]),
            row(
                "mirror",
                &[
                    (metric("packets_captured"), "packets"),
                    (metric("packets_lost"), "lost"),
                    (metric("flows_seen"), "flows"),
                ],
            ),
            row(
                "",
                &[
                    (metric("requests_seen"), "requests seen"),
                    (metric("requests_delivered"), "delivered"),
                    (metric("requests_answered"), "answered"),
                ],
            ),
            row("shadow", &[(self.shadow.logged() as u64, "requests in its log")]),
        ];
        let up = if std::mem::replace(&mut self.drawn, true) { UP } else { "" };
        rows.iter().fold(up.to_owned(), |text, row| text + row + CLEAR + "\n")
    }

    fn line(&self, elapsed: Duration) -> String {
        let metric = self.metrics();
        format!(
            "{:5.1} s: {} requests answered by production; mirror: {} seen, {} delivered, {} packets \
             lost; {} in the shadow's log\n",
            elapsed.as_secs_f64(),
            count(&self.progress.completed),
            metric("requests_seen"),
            metric("requests_delivered"),
            metric("packets_lost"),
            self.shadow.logged(),
        )
    }

    /// The mirror's counters, 0 where there is none.
    fn metrics(&self) -> impl Fn(&str) -> u64 + use<> {
        let text = self.mirror.metrics().unwrap_or_default();
        move |name| sum_metric(&text, &format!("shadowtap_{name}")).unwrap_or_default() as u64
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn row(name: &str, cells: &[(u64, &str)]) -> String {
    let cells = cells.iter().map(|(number, what)| format!("{number:>9} {what:<12}"));
    format!("  {name:<11}{}", cells.collect::<String>()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_fits_a_terminal_of_80_columns() {
        let cells = [(999_999_999, "requests seen"), (999_999_999, "delivered"), (1, "answered")];
        assert!(row("production", &cells).len() < 80, "{}", row("production", &cells).len());
    }
}
