//! The comparison's part of the summary.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use shadow_engine::compare::{EndpointTally, Latency, Verdict};
use shadow_engine::exchange::Status;
use strum::IntoEnumIterator as _;

use super::jsonl::reply;
use super::summary::time;
use crate::compare::Compared;

/// Endpoints that the summary names.
const WORST: usize = 10;

/// As an object.
pub fn json(compared: &Compared) -> Json {
    let total = compared.tallies.total();
    let mut statuses: Map<String, Json> = Map::new();
    for ((production, shadow), count) in &total.statuses {
        let row = statuses.entry(status(*production)).or_insert_with(|| json!({}));
        row[status(*shadow)] = json!(count);
    }
    let worst = worst(compared).into_iter().map(|(endpoint, tally)| {
        json!({
            "endpoint": **endpoint,
            "exchanges": tally.exchanges,
            "mismatches": tally.mismatches(),
            "verdicts": verdicts(tally),
            "duration_seconds": durations(tally),
        })
    });
    json!({
        "exchanges": total.exchanges,
        "stopped": compared.stopped,
        "mismatches": total.mismatches(),
        "verdicts": verdicts(total),
        "statuses": statuses,
        "statuses_beyond": total.statuses_beyond,
        "duration_seconds": durations(total),
        "endpoints": compared.tallies.endpoints().count(),
        "worst": worst.collect::<Vec<_>>(),
    })
}

/// The endpoints with the most mismatches, worst first; none without any.
fn worst(compared: &Compared) -> Vec<(&Arc<str>, &EndpointTally)> {
    let endpoints = compared.tallies.endpoints();
    let mut worst: Vec<_> = endpoints.filter(|(_, tally)| tally.mismatches() != 0).collect();
    // Stable: equals stay in the order of their names.
    worst.sort_by_key(|(_, tally)| Reverse(tally.mismatches()));
    worst.truncate(WORST);
    worst
}

/// A status in a word; `none` of a leg that did not answer.
fn status(status: Option<Status>) -> String {
    match status {
        None => "none".to_owned(),
        Some(Status::Http(code)) => code.to_string(),
        Some(Status::Grpc(code)) => format!("grpc {code}"),
        Some(Status::Redis(first)) => reply(first).to_owned(),
    }
}

fn durations(tally: &EndpointTally) -> Json {
    json!({ "production": times(&tally.production), "shadow": times(&tally.shadow) })
}

/// Of exchanges that both legs answered.
fn times(latency: &Latency) -> Json {
    let seconds = |share| json!(latency.quantile(share).as_secs_f64());
    json!({
        "count": latency.count(),
        "mean": latency.mean().as_secs_f64(),
        "p50": seconds(0.5),
        "p90": seconds(0.9),
        "p99": seconds(0.99),
        "max": latency.max().as_secs_f64(),
    })
}

fn verdicts(tally: &EndpointTally) -> Json {
    Verdict::iter()
        .map(|verdict| (verdict.label().to_owned(), json!(tally.verdict(verdict))))
        .collect()
}

/// For a reader, a line for each thing, in the form of the other figures.
pub fn text(compared: &Compared) -> String {
    let total = compared.tallies.total();
    let happened: Vec<_> = Verdict::iter()
        .map(|verdict| (verdict.label(), total.verdict(verdict)))
        .filter(|(_, count)| *count != 0)
        .map(|(label, count)| format!("{label} {count}"))
        .collect();
    let mut text = format!("\n{:<9} exchanges {}", "compared", total.exchanges);
    if !happened.is_empty() {
        let _ = write!(text, " ({})", happened.join(", "));
    }
    if compared.stopped != 0 {
        let _ = write!(text, ", left {} when time was over", compared.stopped);
    }
    if total.compared() != 0 {
        let share = total.mismatches() as f64 / total.compared() as f64 * 100.0;
        let _ = write!(text, ", mismatch {share:.2}%");
    }
    if total.shadow.count() != 0 {
        for (name, latency) in [("production", &total.production), ("shadow", &total.shadow)] {
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| time(latency.quantile(share)));
            let max = time(latency.max());
            let _ = write!(text, "\n{name:<9} p50 {p50}, p90 {p90}, p99 {p99}, max {max}");
        }
    }
    let other = total.statuses.iter().filter(|((production, shadow), _)| production != shadow);
    let mut other: Vec<_> = other.collect();
    other.sort_by_key(|(_, count)| Reverse(**count));
    let other: Vec<_> = other
        .into_iter()
        .take(WORST)
        .map(|((production, shadow), count)| {
            format!("{} became {} {count}", status(*production), status(*shadow))
        })
        .collect();
    if !other.is_empty() {
        let _ = write!(text, "\n{:<9} {}", "statuses", other.join(", "));
    }
    for (endpoint, tally) in worst(compared) {
        let (bad, all) = (tally.mismatches(), tally.exchanges);
        let _ = write!(text, "\n{:<9} {endpoint}: {bad} of {all}", "mismatch");
    }
    if let Some(written) = &compared.report {
        let lost = written.dropped.total();
        let _ = write!(text, "\n{:<9} lines {}, lost {lost}", "report", written.written);
    }
    text
}
