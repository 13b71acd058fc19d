//! The part of the view about how the shadow answers.

use std::collections::BTreeSet;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};
use shadow_engine::compare::{EndpointTally, Latency, Tallies, Verdict};
use shadow_engine::exchange::Status;
use strum::IntoEnumIterator as _;

use crate::report::summary::time;
use crate::web::example::status;

/// Lines that it takes.
pub const HEIGHT: u16 = 1 + 2 + MATRIX as u16 + 1 + 2 + WORST as u16 + 1;

/// Statuses of a leg that have a row or a column.
const MATRIX: usize = 5;
/// Endpoints that are shown.
const WORST: usize = 4;
/// Columns of one status.
const CELL: u16 = 8;

/// Shares that are shown, with their names.
const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

const PRODUCTION: Color = Color::Blue;
const SHADOW: Color = Color::Yellow;

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, area: Rect, tallies: &Tallies) {
    let total = tallies.total();
    let [verdicts, middle, worst] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(3 + MATRIX as u16),
        Constraint::Length(3 + WORST as u16),
    ])
    .areas(area);
    let [matrix, latency] =
        Layout::horizontal([Constraint::Min(30), Constraint::Length(31)]).areas(middle);
    frame.render_widget(self::verdicts(total), verdicts);
    draw_matrix(frame, matrix, total);
    draw_latency(frame, latency, total);
    draw_worst(frame, worst, tallies);
}

/// The same in a few words.
pub fn words(tallies: &Tallies) -> String {
    let total = tallies.total();
    let p99 = |times: &Latency| quantile(times, 0.99);
    format!(
        "compared {} differ {} missing {} status {} p99 {} shadow {}",
        total.compared(),
        share(total.mismatches(), total.compared()),
        total.verdict(Verdict::Missing),
        total.verdict(Verdict::Status),
        p99(&total.production),
        p99(&total.shadow),
    )
}

fn verdicts(total: &EndpointTally) -> Paragraph<'static> {
    let differs = total.mismatches() > 0;
    let color = if differs { Color::Red } else { Color::Green };
    let mut spans = vec![
        Span::from(format!(" {} differ", share(total.mismatches(), total.compared())))
            .bold()
            .fg(color),
        Span::from(format!(" of {} compared:", total.compared())),
    ];
    for verdict in Verdict::iter().filter(|verdict| total.verdict(*verdict) > 0) {
        spans.push(Span::from(format!("  {} {}", verdict.label(), total.verdict(verdict))));
    }
    Paragraph::new(Line::from(spans))
}

fn draw_matrix(frame: &mut Frame<'_>, area: Rect, total: &EndpointTally) {
    let rows = most(total, |(production, _)| production);
    let room = usize::from(area.width.saturating_sub(2) / CELL).saturating_sub(1);
    let mut columns = most(total, |(_, shadow)| shadow);
    columns.truncate(room);
    let count =
        |production, shadow| total.statuses.get(&(production, shadow)).copied().unwrap_or_default();
    let header = columns.iter().map(|shadow| right(status(*shadow)).fg(SHADOW));
    let header = Row::new([Cell::from("")].into_iter().chain(header));
    let table = rows.iter().map(|production| {
        let cells = columns.iter().map(|shadow| {
            let style = match (count(*production, *shadow), production == shadow) {
                (0, _) => Style::new().dim(),
                (_, true) => Style::new().fg(Color::Green),
                (_, false) => Style::new().fg(Color::Red),
            };
            match count(*production, *shadow) {
                0 => right("·".to_owned()).style(style),
                number => right(short(number)).style(style),
            }
        });
        Row::new([right(status(*production)).fg(PRODUCTION)].into_iter().chain(cells))
    });
    let widths = std::iter::repeat_n(CELL - 1, columns.len() + 1).map(Constraint::Length);
    let title = Line::from_iter([
        Span::from(" production ↓ ").fg(PRODUCTION),
        Span::from("shadow → ").fg(SHADOW),
    ]);
    let table = Table::new(table, widths).header(header).block(Block::bordered().title(title));
    frame.render_widget(table, area);
}

/// The statuses of one leg that most exchanges have, in their order.
fn most(
    total: &EndpointTally,
    leg: impl Fn((Option<Status>, Option<Status>)) -> Option<Status>,
) -> Vec<Option<Status>> {
    let all: BTreeSet<_> = total.statuses.keys().map(|pair| leg(*pair)).collect();
    let sum = |wanted| -> u64 {
        let counts = total.statuses.iter().filter(|(pair, _)| leg(**pair) == wanted);
        counts.map(|(_, count)| count).sum()
    };
    let mut most: Vec<_> = all.into_iter().collect();
    most.sort_by_key(|status| std::cmp::Reverse(sum(*status)));
    most.truncate(MATRIX);
    // No answer last.
    most.sort_by_key(|status| (status.is_none(), *status));
    most
}

fn draw_latency(frame: &mut Frame<'_>, area: Rect, total: &EndpointTally) {
    let header = ["".to_owned(), "production".to_owned(), "shadow".to_owned()].map(right);
    let shares = SHARES.into_iter().map(|(name, share)| {
        Row::new([
            Cell::from(name),
            right(quantile(&total.production, share)).fg(PRODUCTION),
            right(quantile(&total.shadow, share)).fg(SHADOW),
        ])
    });
    let max = |times: &Latency| if times.count() == 0 { "-".to_owned() } else { time(times.max()) };
    let last = Row::new([
        Cell::from("max"),
        right(max(&total.production)).fg(PRODUCTION),
        right(max(&total.shadow)).fg(SHADOW),
    ]);
    let widths = [Constraint::Length(5), Constraint::Length(11), Constraint::Length(10)];
    let table = Table::new(shares.chain([last]), widths)
        .header(Row::new(header))
        .block(Block::bordered().title(" latency "));
    frame.render_widget(table, area);
}

fn draw_worst(frame: &mut Frame<'_>, area: Rect, tallies: &Tallies) {
    let mut worst: Vec<_> = tallies.endpoints().collect();
    worst.sort_by_key(|(name, tally)| {
        (std::cmp::Reverse(tally.mismatches()), std::cmp::Reverse(tally.exchanges), *name)
    });
    let rows = worst.into_iter().take(WORST).map(|(name, tally)| {
        let color = if tally.mismatches() > 0 { Color::Red } else { Color::Green };
        Row::new([
            Cell::from(printable(name)),
            right(short(tally.exchanges)),
            right(share(tally.mismatches(), tally.compared())).fg(color),
            right(quantile(&tally.production, 0.99)).fg(PRODUCTION),
            right(quantile(&tally.shadow, 0.99)).fg(SHADOW),
        ])
    });
    let header = ["exchanges", "differ", "p99", "p99"].map(|name| right(name.to_owned()));
    let header = Row::new([Cell::from("endpoint")].into_iter().chain(header));
    let widths = [
        Constraint::Min(20),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Length(9),
    ];
    let table =
        Table::new(rows, widths).header(header).block(Block::bordered().title(" worst endpoints "));
    frame.render_widget(table, area);
}

/// A client chooses the names: what would steer the terminal is left out.
fn printable(name: &str) -> String {
    name.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Text::from(text).right_aligned())
}

fn quantile(times: &Latency, share: f64) -> String {
    if times.count() == 0 { "-".to_owned() } else { time(times.quantile(share)) }
}

/// A part of a whole; what is not nothing is never shown as nothing.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let percent = 100.0 * part as f64 / whole as f64;
    match part {
        0 => "0%".to_owned(),
        _ if percent < 0.01 => "<0.01%".to_owned(),
        _ if percent < 10.0 => format!("{percent:.2}%"),
        _ => format!("{percent:.0}%"),
    }
}

/// A count in at most five characters.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}G", number as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_counts_are_short() {
        let shares = [(0, 9), (1, 100_000), (1, 1_000), (1, 3), (1, 0)];
        let texts = shares.map(|(part, whole)| share(part, whole));
        assert_eq!(texts, ["0%", "<0.01%", "0.10%", "33%", "-"]);
        assert_eq!([7, 12_345, 3_000_000].map(short), ["7", "12.3k", "3.0M"]);
        assert_eq!(printable("GET /\x1b[2J"), "GET /\u{fffd}[2J");
    }
}
