//! What is printed.

use std::fmt::Write as _;

use super::{bars::Bar, load::Load, row::Row};

/// Rows by load. `×` is a ratio to production alone, in the same round.
pub fn rows(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut load: Option<Load> = None;
    for row in rows {
        if load != Some(row.load) {
            load = Some(row.load);
            let _ = write!(
                text,
                "\n{}\n  {:<13}{:>9}{:>7}{:>15}{:>17}{:>19}{:>11}{:>9}{:>7}{:>7}{:>7}{:>16}\n",
                row.load,
                "",
                "req/s",
                "kept",
                "p50 µs",
                "p99 µs",
                "p99.9 µs",
                "arrived",
                "CPU µs",
                "user",
                "eBPF",
                "MiB",
                "lag p50/p99 µs",
            );
        }
        let _ = writeln!(text, "{}", line(row).trim_end());
    }
    text
}

fn line(row: &Row) -> String {
    let kept = row.kept.map_or(String::new(), |kept| format!("{:.1}%", kept * 100.0));
    let latency = |at: usize| {
        let ratio = row.latency_ratio.map_or(String::new(), |it| format!(" ×{:.2}", it[at]));
        format!("{:.0}{ratio}", row.latency[at])
    };
    let mut text = format!(
        "  {:<13}{:>9.0}{kept:>7}{:>15}{:>17}{:>19}",
        row.subject,
        row.rate,
        latency(0),
        latency(1),
        latency(2),
    );
    if row.delivered > 0 {
        let arrived = if row.delivered == row.requests {
            "100%".to_owned()
        } else {
            // Never 100 % when one is missing.
            format!("{:.3}%", (row.arrived() * 1e5).floor() / 1e3)
        };
        let _ = write!(text, "{arrived:>11}{:>9.2}{:>7.2}{:>7.2}", row.cpu, row.user, row.ebpf);
        if row.memory > 0.0 {
            let _ = write!(text, "{:>7.1}", row.memory / f64::from(1 << 20));
        }
        if let Some([p50, p99]) = row.lag {
            let _ = write!(text, "{:>16}", format!("{p50:.0}/{p99:.0}"));
        }
    }
    if row.failed > 0 {
        let _ = write!(text, "  {} failed", row.failed);
    }
    for (name, count) in &row.missing {
        let _ = write!(text, "  {name} {count}");
    }
    text
}

/// Bars with their verdicts.
pub fn bars(bars: &[Bar]) -> String {
    let mut text = String::new();
    for bar in bars {
        let verdict = match bar.is_met() {
            _ if bar.is_reached() => "reached",
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let value = bar.value.map_or("-".to_owned(), number);
        let sign = if bar.at_least { '≥' } else { '≤' };
        let asked = format!("{sign} {}", number(bar.bar));
        let _ =
            writeln!(text, "  {:<52}{value:>9}  {asked:>9} {:<7} {verdict}", bar.name, bar.unit);
    }
    text
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 99.0 => format!("{:.2}", (value * 100.0).floor() / 100.0),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{bars, row::tests::sample, subject::Subject};
    use super::*;

    #[test]
    fn what_is_missing_is_not_rounded_away() {
        let mut sample = sample(Load::Rate20k, Subject::Off, 0, 20_000.0);
        (sample.requests, sample.delivered) = (1_000_000, 999_999);
        let found = Row::all(&[sample]);
        assert!(line(&found[0]).contains("99.999%"), "{}", line(&found[0]));
        let text = bars(&bars::all(&found));
        let arrived = text.lines().find(|line| line.contains("arrived, keep-alive")).unwrap();
        assert!(arrived.contains("99.99 ") && arrived.ends_with("MISSED"), "{arrived}");
    }
}
