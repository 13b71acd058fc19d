//! The comparison's part of the summary.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};
use shadow_engine::compare::Latency;

use super::summary::time;
use crate::compare::{Compared, Verdicts};

/// Endpoints that the summary names.
const WORST: usize = 10;

/// As an object.
pub fn json(compared: &Compared) -> Json {
    let results = &compared.results;
    let mut statuses: Map<String, Json> = Map::new();
    for ((production, shadow), count) in &results.statuses {
        let row = statuses.entry(production.to_string()).or_insert_with(|| json!({}));
        row[shadow.to_string()] = json!(count);
    }
    let worst = results.worst(WORST).into_iter().map(|(endpoint, verdicts)| {
        json!({
            "endpoint": **endpoint,
            "exchanges": verdicts.total(),
            "mismatches": verdicts.mismatches(),
            "verdicts": counts(verdicts),
            "duration_seconds": compared.tallies.endpoint(endpoint).map(|tally| json!({
                "production": times(&tally.production),
                "shadow": times(&tally.shadow),
            })),
        })
    });
    json!({
        "exchanges": results.verdicts.total(),
        "mismatches": results.verdicts.mismatches(),
        "verdicts": counts(&results.verdicts),
        "statuses": statuses,
        "duration_seconds": {
            "production": times(&compared.tallies.total().production),
            "shadow": times(&compared.tallies.total().shadow),
        },
        "endpoints": results.endpoints.len(),
        "worst": worst.collect::<Vec<_>>(),
    })
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

fn counts(verdicts: &Verdicts) -> Json {
    let counts = verdicts.iter().map(|(verdict, count)| (verdict.label().to_owned(), json!(count)));
    Json::Object(counts.collect())
}

/// For a reader, a line for each thing, in the form of the other figures.
pub fn text(compared: &Compared) -> String {
    let results = &compared.results;
    let verdicts = &results.verdicts;
    let happened: Vec<_> = verdicts
        .iter()
        .filter(|(_, count)| *count != 0)
        .map(|(verdict, count)| format!("{} {count}", verdict.label()))
        .collect();
    let mut text = format!("\n{:<9} exchanges {}", "compared", verdicts.total());
    if !happened.is_empty() {
        let _ = write!(text, " ({})", happened.join(", "));
    }
    if verdicts.paired() != 0 {
        let share = verdicts.mismatches() as f64 / verdicts.paired() as f64 * 100.0;
        let _ = write!(text, ", mismatch {share:.2}%");
    }
    let total = compared.tallies.total();
    if total.shadow.count() != 0 {
        for (name, latency) in [("production", &total.production), ("shadow", &total.shadow)] {
            let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| time(latency.quantile(share)));
            let max = time(latency.max());
            let _ = write!(text, "\n{name:<9} p50 {p50}, p90 {p90}, p99 {p99}, max {max}");
        }
    }
    let other = results.statuses.iter().filter(|((production, shadow), _)| production != shadow);
    let mut other: Vec<_> = other.collect();
    other.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let other: Vec<_> = other
        .into_iter()
        .take(WORST)
        .map(|((production, shadow), count)| format!("{production} became {shadow} {count}"))
        .collect();
    if !other.is_empty() {
        let _ = write!(text, "\n{:<9} {}", "statuses", other.join(", "));
    }
    for (endpoint, verdicts) in results.worst(WORST) {
        let (bad, all) = (verdicts.mismatches(), verdicts.total());
        let _ = write!(text, "\n{:<9} {endpoint}: {bad} of {all}", "mismatch");
    }
    if let Some(written) = &compared.report {
        let lost = written.dropped.total();
        let _ = write!(text, "\n{:<9} lines {}, lost {lost}", "report", written.written);
    }
    text
}
