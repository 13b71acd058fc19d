//! The comparison's part of the summary.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

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
        })
    });
    json!({
        "exchanges": results.verdicts.total(),
        "mismatches": results.verdicts.mismatches(),
        "verdicts": counts(&results.verdicts),
        "statuses": statuses,
        "endpoints": results.endpoints.len(),
        "worst": worst.collect::<Vec<_>>(),
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
