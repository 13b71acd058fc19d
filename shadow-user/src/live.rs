//! Progress on standard output: a view on a terminal, a line each second elsewhere.

mod compared;

use std::io::{self, IsTerminal as _, Stdout, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Table, Widget as _};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};

use shadow_engine::compare::Tallies;

use crate::compare::Seen;
use crate::report::summary::time;
use crate::report::{Lag, Snapshot};
use crate::{cli, log};

/// Lines of the mirror's figures with their frame. With what is compared it is less than the 24 of a
/// small terminal.
const HEIGHT: u16 = 7;

/// Shows snapshots as they come.
pub struct Live {
    out: Out,
    /// What the shadow is called in the title.
    shadow: String,
    seen: Option<Seen>,
    last: Option<Arc<Snapshot>>,
}

enum Out {
    View(Box<View>),
    Lines,
    Off,
}

impl Live {
    /// Progress in the form that the user chose, with what is `seen` of the comparison where there is
    /// one; a terminal that cannot hold the view gets lines.
    #[must_use]
    pub fn new(how: cli::Live, shadow: String, seen: Option<Seen>) -> Self {
        let height = HEIGHT + seen.as_ref().map_or(0, |_| compared::HEIGHT);
        let out = match how {
            cli::Live::Off => Out::Off,
            cli::Live::Auto if wants_view(how) => view(height).unwrap_or(Out::Lines),
            cli::Live::Auto | cli::Live::Lines => Out::Lines,
        };
        Self { out, shadow, seen, last: None }
    }

    /// How often [`Self::show`] is to be called.
    #[must_use]
    pub fn interval(&self) -> Duration {
        match self.out {
            Out::View(_) => Duration::from_millis(250),
            Out::Lines | Out::Off => Duration::from_secs(1),
        }
    }

    /// Shows a moment. A standard output that is gone ends the show, not the mirror.
    pub fn show(&mut self, snapshot: &Arc<Snapshot>) {
        let moment = Moment::new(snapshot, self.last.as_deref());
        let seen = self.seen.as_ref().map(|seen| seen.load());
        let tallies = seen.as_ref().map(|compared| &compared.tallies);
        let shown = match &mut self.out {
            Out::View(terminal) => show_view(terminal, &moment, tallies, &self.shadow),
            Out::Lines => {
                let compared = tallies.map(compared::words);
                let compared = compared.map(|words| format!(" | {words}")).unwrap_or_default();
                writeln!(io::stdout(), "{}{compared}", moment.line())
            }
            Out::Off => Ok(()),
        };
        if shown.is_err() {
            log::release();
            self.out = Out::Off;
        }
        // Rates over a second read better than over a frame.
        let long = |last: &Arc<Snapshot>| snapshot.at.since(last.at) >= Duration::from_millis(900);
        if self.last.as_ref().is_none_or(long) {
            self.last = Some(Arc::clone(snapshot));
        }
    }

    /// Leaves the view's last picture above what is printed next.
    pub fn end(self) {
        if let Out::View(mut terminal) = self.out {
            let _ = insert(&mut terminal, &log::take());
            let _ = terminal.show_cursor();
            let _ = writeln!(io::stdout());
            log::release();
        }
    }
}

/// Whether there is a terminal to draw on, which can also say where its cursor is.
#[must_use]
pub fn wants_view(how: cli::Live) -> bool {
    how == cli::Live::Auto && io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// None where the terminal does not say where its cursor is.
fn view(height: u16) -> Option<Out> {
    let options = TerminalOptions { viewport: Viewport::Inline(height) };
    let terminal = Terminal::with_options(CrosstermBackend::new(io::stdout()), options).ok()?;
    log::hold();
    Some(Out::View(Box::new(terminal)))
}

type View = Terminal<CrosstermBackend<Stdout>>;

fn show_view(
    terminal: &mut View,
    moment: &Moment<'_>,
    tallies: Option<&Tallies>,
    shadow: &str,
) -> io::Result<()> {
    insert(terminal, &log::take())?;
    terminal.draw(|frame| draw(frame, moment, tallies, shadow)).map(|_| ())
}

/// Puts text above the view.
fn insert(terminal: &mut View, text: &str) -> io::Result<()> {
    let lines: Vec<Line<'_>> = text.lines().map(Line::from).collect();
    let Ok(height @ 1..) = u16::try_from(lines.len()) else { return Ok(()) };
    terminal.insert_before(height, |buffer| Paragraph::new(lines).render(buffer.area, buffer))
}

/// A snapshot beside an earlier one.
struct Moment<'a> {
    now: &'a Snapshot,
    seconds: f64,
    before: Snapshot,
    lag: Lag,
}

impl<'a> Moment<'a> {
    fn new(now: &'a Snapshot, last: Option<&Snapshot>) -> Self {
        let start = Snapshot { at: now.started, ..Snapshot::default() };
        // Before the worker has published, there is an empty snapshot of no time at all.
        let last = last.filter(|last| last.started == now.started);
        let before = last.cloned().unwrap_or(start);
        let seconds = now.at.since(before.at).as_secs_f64().max(1e-3);
        let lag = now.lag.since(&before.lag);
        Self { now, seconds, before, lag }
    }

    fn rate(&self, count: impl Fn(&Snapshot) -> u64) -> u64 {
        (count(self.now).saturating_sub(count(&self.before)) as f64 / self.seconds).round() as u64
    }

    fn waited(&self, share: f64) -> String {
        if self.lag.count() == 0 { "-".to_owned() } else { time(self.lag.quantile(share)) }
    }

    fn line(&self) -> String {
        let Self { now, .. } = self;
        let books = &now.shadow.books;
        format!(
            "{:>5.0}s {} packets {}/s lost {} | flows open {} seen {} mirrored {} skipped {} \
             aborted {} | delivered {} of {} ({}/s) | requests {} of {} answered {} | lag p99 {}",
            now.duration().as_secs_f64(),
            now.phase.label(),
            self.rate(|s| s.captured().0.captured),
            now.lost(),
            books.flows.open(),
            books.flows.seen,
            books.flows.mirrored,
            books.flows.skipped.total(),
            books.flows.aborted.total(),
            size(books.bytes.delivered),
            size(books.bytes.captured),
            size(self.rate(|s| s.shadow.books.bytes.delivered)),
            books.requests.delivered,
            books.requests.seen,
            books.requests.answered,
            self.waited(0.99),
        )
    }

    fn rows(&self) -> [[String; 5]; 5] {
        let books = &self.now.shadow.books;
        let flows = &books.flows;
        [
            [
                "packets".into(),
                format!("{}/s", self.rate(|s| s.captured().0.captured)),
                format!("captured {}", self.now.captured().0.captured),
                format!("lag p50 {}", self.waited(0.5)),
                format!("lag p99 {}", self.waited(0.99)),
            ],
            [
                "flows".into(),
                format!("{}/s", self.rate(|s| s.shadow.books.flows.seen)),
                format!("seen {}", flows.seen),
                format!("open {}", flows.open()),
                format!("mirrored {}", flows.mirrored),
            ],
            [
                "bytes".into(),
                format!("{}/s", size(self.rate(|s| s.shadow.books.bytes.delivered))),
                format!("captured {}", size(books.bytes.captured)),
                format!("delivered {}", size(books.bytes.delivered)),
                format!("memory {}", size(self.now.shadow.memory as u64)),
            ],
            [
                "requests".into(),
                format!("{}/s", self.rate(|s| s.shadow.books.requests.delivered)),
                format!("seen {}", books.requests.seen),
                format!("delivered {}", books.requests.delivered),
                format!("answered {}", books.requests.answered),
            ],
            [
                "losses".into(),
                String::new(),
                format!("packets {}", self.now.lost()),
                format!("skipped {}", flows.skipped.total()),
                format!("aborted {}", flows.aborted.total()),
            ],
        ]
    }
}

fn draw(frame: &mut Frame<'_>, moment: &Moment<'_>, tallies: Option<&Tallies>, shadow: &str) {
    let [mirror, rest] =
        Layout::vertical([Constraint::Length(HEIGHT), Constraint::Min(0)]).areas(frame.area());
    draw_mirror(frame, mirror, moment, shadow);
    if let Some(tallies) = tallies {
        compared::draw(frame, rest, tallies);
    }
}

fn draw_mirror(frame: &mut Frame<'_>, area: Rect, moment: &Moment<'_>, shadow: &str) {
    let down: String = moment
        .now
        .mirrored()
        .filter(|mirrored| mirrored.books.circuit.open)
        .map(|mirrored| format!("; the {} {} is down", mirrored.role.label(), mirrored.to))
        .collect();
    let title = Line::from(format!(
        " shadowtap to {shadow}: {} {:.0} s{down} ",
        moment.now.phase.label(),
        moment.now.duration().as_secs_f64()
    ));
    let rows = moment.rows().map(Row::new);
    let widths = [8, 12, 19, 18, 17].map(Constraint::Length);
    let table = Table::new(rows, widths)
        .block(Block::bordered().title(title.bold()))
        .style(Style::default());
    frame.render_widget(table, area);
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::backend::TestBackend;
    use shadow_engine::time::Instant;

    fn snapshot(seconds: u64, packets: u64) -> Snapshot {
        let started = Instant::from_nanos(1 << 50);
        let at = started + Duration::from_secs(seconds);
        let mut snapshot = Snapshot { started, at, ..Snapshot::default() };
        snapshot.shadow.books.packets.captured = packets;
        snapshot.shadow.books.flows.seen = 7;
        snapshot
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let (before, now) = (snapshot(2, 1000), snapshot(4, 1500));
        assert_eq!(Moment::new(&now, Some(&before)).rate(|s| s.captured().0.captured), 250);
        assert_eq!(Moment::new(&now, None).rate(|s| s.captured().0.captured), 375);
        let empty = Snapshot::default();
        assert_eq!(Moment::new(&now, Some(&empty)).rate(|s| s.captured().0.captured), 375);
        let line = Moment::new(&now, Some(&before)).line();
        assert!(line.starts_with("    4s capturing packets 250/s lost 0 | flows open 7 seen 7"));
    }

    #[test]
    fn the_view_fits_its_lines() {
        let now = snapshot(4, 1500);
        let moment = Moment::new(&now, None);
        let mut terminal = Terminal::new(TestBackend::new(80, HEIGHT)).expect("terminal");
        terminal.draw(|frame| draw(frame, &moment, None, "10.0.0.9:80")).expect("drawn");
        let text = terminal.backend().to_string();
        let parts = ["10.0.0.9:80: capturing 4 s", "375/s", "open 7", "requests", "aborted 0"];
        for part in parts {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    fn tallies() -> Tallies {
        use crate::report::fixture::{exchange, response};
        use shadow_engine::compare::{Comparer, Noise, Rules, TallyBounds};
        use shadow_engine::exchange::Unpaired;
        let mut comparer = Comparer::new(Rules::default()).expect("comparer");
        let mut tallies = Tallies::new(TallyBounds::default());
        let noise = Noise::default();
        let shadow =
            [Ok(response(500, "{}", 9)), Ok(response(200, "{}", 3)), Err(Unpaired::Closed)];
        for shadow in shadow {
            let exchange = exchange("/products/7", Ok(response(200, "{}", 3)), shadow);
            let comparison = comparer.compare(&exchange, &noise);
            tallies.record(&exchange, &comparison);
        }
        tallies
    }

    #[test]
    fn the_view_of_a_comparison_fits_a_small_terminal() {
        let now = snapshot(4, 1500);
        let moment = Moment::new(&now, None);
        let tallies = tallies();
        let height = HEIGHT + compared::HEIGHT;
        assert!(height < 24, "{height}");
        let mut terminal = Terminal::new(TestBackend::new(80, height)).expect("terminal");
        terminal.draw(|frame| draw(frame, &moment, Some(&tallies), "10.0.0.9:80")).expect("drawn");
        let text = terminal.backend().to_string();
        let parts = [
            "differ of",
            "production ↓ shadow →",
            "500",
            "none",
            "p99",
            "max",
            "worst endpoints",
            "GET /products/{id}",
            "aborted 0",
        ];
        for part in parts {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        // The last line is the frame's.
        assert!(text.lines().last().is_some_and(|line| line.contains('┘')), "{text}");
        assert!(compared::words(&tallies).starts_with("compared "));
    }
}
