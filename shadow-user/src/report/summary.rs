//! The figures at the end of a run: as JSON for scripts, as text for people.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::comparisons;
use super::jsonl::Written;
use super::{Figure, Mirrored, Outcome, Snapshot, VERSION, Value, figures, figures_of};
use crate::compare::Compared;
use crate::shadows::Role;

/// The summary as an object: groups within groups, as the keys of the figures say.
#[must_use]
pub fn json(snapshot: &Snapshot, compared: Option<&Compared>, outcome: &Outcome) -> Json {
    let mut root = Map::new();
    root.insert("version".to_owned(), json!(VERSION));
    let balance = snapshot.check();
    root.insert("balanced".to_owned(), json!(balance.is_ok()));
    if let Err(imbalance) = balance {
        root.insert("imbalance".to_owned(), json!(imbalance.to_string()));
    }
    insert_figures(&mut root, snapshot);
    if let Some(compared) = compared {
        root.insert("comparisons".to_owned(), comparisons::json(compared));
        if let Some(written) = &compared.report {
            root.insert("report".to_owned(), report(compared, written));
        }
    }
    if !outcome.conditions.is_empty() {
        root.insert("fail_on".to_owned(), outcome.json());
    }
    Json::Object(root)
}

/// The figures alone, of any moment.
#[must_use]
pub fn figures_json(snapshot: &Snapshot) -> Json {
    let mut root = Map::new();
    insert_figures(&mut root, snapshot);
    Json::Object(root)
}

/// Those of the first shadow at the top, as if there were no others.
fn insert_figures(root: &mut Map<String, Json>, snapshot: &Snapshot) {
    for Figure { key, value, .. } in figures(snapshot) {
        insert(root, key, to_json(&value));
    }
    let mut others = Vec::new();
    for mirrored in &snapshot.others {
        match mirrored.role {
            Role::Baseline => {
                root.insert("baseline".to_owned(), other(mirrored));
            }
            Role::Shadow => others.push(other(mirrored)),
        }
    }
    if !others.is_empty() {
        root.insert("other_shadows".to_owned(), Json::Array(others));
    }
}

/// What a shadow beside the first has for itself.
fn other(mirrored: &Mirrored) -> Json {
    let mut object = Map::new();
    object.insert("to".to_owned(), json!(&*mirrored.to));
    for Figure { key, value, .. } in figures_of(mirrored) {
        insert(&mut object, key, to_json(&value));
    }
    Json::Object(object)
}

fn report(compared: &Compared, written: &Written) -> Json {
    let dropped: Map<_, _> =
        written.dropped.iter().map(|(reason, count)| (reason.to_owned(), json!(count))).collect();
    json!({
        "left_out": compared.left_out,
        "offered": written.offered,
        "written": written.written,
        "dropped": dropped,
    })
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Count(number) | Value::Level(number) => json!(number),
        Value::Seconds(number) | Value::Ratio(number) => json!(number),
        Value::Reasons(counts) => {
            counts.iter().map(|(reason, count)| ((*reason).to_owned(), json!(count))).collect()
        }
        Value::Times(lag) => json!({
            "count": lag.count(),
            "p50": lag.quantile(0.5).as_secs_f64(),
            "p99": lag.quantile(0.99).as_secs_f64(),
            "max": lag.max().as_secs_f64(),
        }),
    }
}

/// Puts a value under its key, making the groups that are not there yet.
fn insert(root: &mut Map<String, Json>, key: &str, value: Json) {
    match key.split_once('.') {
        None => {
            root.insert(key.to_owned(), value);
        }
        Some((group, rest)) => {
            let inner = root.entry(group).or_insert_with(|| Json::Object(Map::new()));
            if let Json::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The summary for a reader: one line per group, reasons only where something happened.
#[must_use]
pub fn text(snapshot: &Snapshot, compared: Option<&Compared>) -> String {
    let mut text = lines(&figures(snapshot));
    for mirrored in &snapshot.others {
        let _ = write!(text, "\n\n{} {}\n", mirrored.role.label(), mirrored.to);
        text.push_str(&lines(&figures_of(mirrored)));
    }
    if let Some(compared) = compared {
        text.push_str(&comparisons::text(compared));
    }
    match snapshot.check() {
        Ok(()) => text.push_str("\nThe books balance."),
        Err(imbalance) => {
            let _ = write!(text, "\n{imbalance}");
        }
    }
    text
}

fn lines(figures: &[Figure]) -> String {
    let mut text = String::new();
    let mut group = "";
    for Figure { key, value, .. } in figures {
        let (head, name) = key.split_once('.').unwrap_or(("run", key));
        let shown = show(value);
        if shown.is_empty() {
            continue;
        }
        if head == group {
            text.push_str(", ");
        } else {
            let _ = write!(text, "{}{head:<9} ", if group.is_empty() { "" } else { "\n" });
            group = head;
        }
        let _ = write!(text, "{} {shown}", name.replace(['.', '_'], " "));
    }
    text
}

fn show(value: &Value) -> String {
    match value {
        Value::Count(number) | Value::Level(number) => number.to_string(),
        Value::Seconds(seconds) => format!("{seconds:.1}"),
        Value::Ratio(ratio) => format!("{:.4}%", ratio * 100.0),
        Value::Reasons(counts) => {
            let happened: Vec<_> = counts
                .iter()
                .filter(|(_, count)| *count != 0)
                .map(|(reason, count)| format!("{reason} {count}"))
                .collect();
            if happened.is_empty() {
                return String::new();
            }
            let total: u64 = counts.iter().map(|(_, count)| count).sum();
            format!("{total} ({})", happened.join(", "))
        }
        Value::Times(lag) => {
            let [p50, p99] = [0.5, 0.99].map(|share| time(lag.quantile(share)));
            format!("p50 {p50}, p99 {p99}, max {}", time(lag.max()))
        }
    }
}

/// A waiting time for a reader.
pub(crate) fn time(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ ..1_000 => format!("{micros} us"),
        micros @ ..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        micros => format!("{:.1} s", micros as f64 / 1e6),
    }
}
