use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use shadow_common::Counter;
use shadow_engine::books::{
    Aborted, IgnoredPacket, IgnoredReply, LeftOut, Skipped, Tally, Unanswered,
};
use shadow_engine::compare::{Kind, Verdict};
use shadow_engine::exchange::Unpaired;
use shadow_engine::time::Instant;

use super::fixture::{comparison, exchange, response};
use super::jsonl::{Dropped, Written};
use super::*;
use crate::choice::{Sample, Selection};
use crate::compare::Compared;
use crate::ctl::settings::{Name, Settings};

/// Gives out numbers that are all different.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    fn fill<C: Counter>(&mut self, tally: &mut Tally<C>) {
        for reason in C::ALL {
            tally.add(*reason, self.next());
        }
    }
}

/// A moment in which no two figures are equal, so that a mix-up shows.
fn snapshot() -> Snapshot {
    let mut n = Numbers(1000);
    let mut snapshot = Snapshot::default();
    let books = &mut snapshot.shadow.books;
    n.fill::<IgnoredPacket>(&mut books.packets.ignored);
    n.fill::<IgnoredReply>(&mut books.replies.ignored);
    n.fill::<Skipped>(&mut books.flows.skipped);
    n.fill::<Aborted>(&mut books.flows.aborted);
    n.fill::<LeftOut>(&mut books.bytes.skipped);
    n.fill::<LeftOut>(&mut books.requests.skipped);
    n.fill::<Skipped>(&mut books.bytes.undelivered.skipped);
    n.fill::<Aborted>(&mut books.bytes.undelivered.aborted);
    n.fill::<Skipped>(&mut books.requests.undelivered.skipped);
    n.fill::<Aborted>(&mut books.requests.undelivered.aborted);
    n.fill::<Unanswered>(&mut books.requests.unanswered);
    for count in [
        &mut books.packets.used,
        &mut books.replies.used,
        &mut books.flows.mirrored,
        &mut books.flows.unshaped,
        &mut books.bytes.delivered,
        &mut books.bytes.answered,
        &mut books.requests.answered,
        &mut books.gates.gated,
        &mut books.gates.timed_out,
        &mut books.circuit.opened,
        &mut books.transmitted,
        &mut books.retransmitted,
        &mut snapshot.shadow.sends.packets,
        &mut snapshot.shadow.sends.bytes,
        &mut snapshot.resident,
    ] {
        *count = n.next();
    }
    let books = &mut snapshot.shadow.books;
    snapshot.shadow.memory = 777;
    snapshot.asked = Some(Counted {
        asked: n.next(),
        passed: n.next(),
        revised: n.next(),
        restarts: n.next(),
        late: n.next(),
        unreadable: n.next(),
        unlogged: n.next(),
    });
    n.fill::<Name>(&mut snapshot.changes);
    let sample = Sample::parse("12.5%").expect("a share");
    let selection = Selection { sample, paused: true, ..Selection::default() };
    snapshot.settings = Arc::new(Settings { selection, ..Settings::default() });
    books.circuit.open = true;
    books.packets.captured = books.packets.used + books.packets.ignored.total();
    books.replies.captured = books.replies.used + books.replies.ignored.total();
    let flows = &mut books.flows;
    flows.seen = flows.mirrored + flows.skipped.total() + flows.aborted.total() + 11;
    books.bytes.captured =
        books.bytes.delivered + books.bytes.skipped.total() + books.bytes.undelivered.total() + 12;
    let requests = &mut books.requests;
    requests.delivered = requests.answered + requests.unanswered.total() + 13;
    requests.seen =
        requests.delivered + requests.skipped.total() + requests.undelivered.total() + 14;
    snapshot.started = Instant::from_nanos(5_000_000_000);
    snapshot.at = snapshot.started + Duration::from_millis(2_500);
    snapshot.lag.add(Duration::from_micros(90));
    snapshot.lag.add(Duration::from_micros(300));
    snapshot
}

fn json(snapshot: &Snapshot) -> Json {
    summary::json(snapshot, None, &Outcome::default())
}

fn render(snapshot: &Snapshot, compared: Option<Compared>) -> String {
    let compared = compared.map(Arc::new);
    metrics::render(snapshot, compared, Exposition::Text).expect("text")
}

/// `a.b.c` to its number.
fn flatten(json: &Json) -> BTreeMap<String, f64> {
    fn walk(path: &str, json: &Json, flat: &mut BTreeMap<String, f64>) {
        match json {
            Json::Object(object) => {
                for (key, value) in object {
                    walk(&format!("{path}.{key}"), value, flat);
                }
            }
            Json::Number(number) => {
                flat.insert(path[1..].to_owned(), number.as_f64().expect("a number"));
            }
            _ => {}
        }
    }
    let mut flat = BTreeMap::new();
    walk("", json, &mut flat);
    flat
}

/// The samples of a scrape, under the key that the summary has for each.
fn scrape(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, number) = line.rsplit_once(' ').expect("name and number");
        let name = name.strip_prefix("shadowtap_").expect("the prefix");
        let name = match name.split_once("{reason=\"") {
            Some((name, reason)) => {
                let name = name.strip_suffix("_total").expect("reasons are counted");
                format!("{name}_{}", reason.strip_suffix("\"}").expect("one label"))
            }
            None => name.strip_suffix("_total").unwrap_or(name).to_owned(),
        };
        assert!(samples.insert(name, number.parse().expect("a number")).is_none(), "{line}");
    }
    samples
}

#[test]
fn metrics_and_summary_agree() {
    let snapshot = snapshot();
    let mut samples = scrape(&render(&snapshot, None));
    // These have labels that the summary has no keys for.
    samples.retain(|name, _| !name.starts_with("dropped") && !name.starts_with("connections"));
    let mut summary = flatten(&json(&snapshot));
    assert!(summary.len() > 90, "all reasons are there, also those that did not happen");
    let lag = summary.remove("capture_lag_seconds.count").expect("count");
    assert_eq!(samples.remove("capture_lag_seconds_count"), Some(lag));
    summary.retain(|key, _| !key.starts_with("capture_lag_seconds"));
    samples.retain(|name, _| !name.starts_with("capture_lag_seconds"));
    let version = format!("build_info{{version=\"{VERSION}\"}}");
    assert_eq!(samples.remove(&version), Some(1.0), "{samples:?}");
    for (key, number) in summary {
        let sample = samples.remove(&key.replace('.', "_"));
        assert_eq!(sample, Some(number), "{key}");
    }
    assert_eq!(samples, BTreeMap::new(), "nothing is only in the metrics");
}

#[test]
fn the_summary_has_the_promised_keys() {
    let json = json(&snapshot());
    let flat = flatten(&json);
    for key in [
        "packets.captured",
        "packets.selected",
        "packets.lost.ring_full",
        "packets.passed.fragment",
        "packets.passed.sampled_out",
        "packets.passed.client",
        "settings.changed.exclude_client",
        "flows.seen",
        "flows.mirrored",
        "flows.skipped.midstream",
        "flows.aborted.capture_gap",
        "flows.open",
        "bytes.captured",
        "bytes.delivered",
        "requests.seen",
        "requests.delivered",
        "requests.answered",
        "duration_seconds",
    ] {
        assert!(flat.contains_key(key), "{key} is missing");
    }
    assert_eq!(flat["settings.sample_ratio"], 0.125);
    assert_eq!(flat["settings.paused"], 1.0);
    assert_eq!(flat["flows.open"], 11.0);
    assert_eq!(flat["bytes.open"], 12.0);
    assert_eq!(flat["requests.waiting"], 13.0);
    assert_eq!(flat["requests.open"], 14.0);
    assert_eq!(flat["duration_seconds"], 2.5);
    assert_eq!(json["version"], VERSION);
    assert_eq!(json["balanced"], true);
    assert!(!flat.contains_key("packets.lost.captured"), "what was captured is not lost");
}

#[test]
fn a_summary_of_unbalanced_books_says_so() {
    let mut snapshot = Snapshot { phase: Phase::Done, ..Snapshot::default() };
    assert_eq!(json(&snapshot)["balanced"], true);
    assert!(summary::text(&snapshot, None).ends_with("\nThe books balance."));
    snapshot.shadow.books.flows.seen = 1;
    let json = json(&snapshot);
    assert_eq!(json["balanced"], false);
    assert!(json["imbalance"].as_str().expect("a sentence").contains("flows.seen"));
    assert!(!summary::text(&snapshot, None).contains("The books balance."));
}

#[test]
fn packets_that_neither_kernel_nor_counter_took_are_an_imbalance() {
    let mut snapshot = Snapshot { phase: Phase::Done, ..Snapshot::default() };
    snapshot.shadow.books.transmitted = 2;
    snapshot.shadow.sends.packets = 1;
    assert!(snapshot.check().is_err());
    snapshot.shadow.sends.packets = 2;
    assert_eq!(snapshot.check(), Ok(()));
    snapshot.shadow.books.packets.captured = 1;
    snapshot.shadow.books.packets.used = 1;
    assert!(snapshot.check().is_err(), "the ring had none");
}

#[test]
fn the_text_names_only_what_happened() {
    let mut snapshot = Snapshot::default();
    snapshot.shadow.books.flows.seen = 3;
    snapshot.shadow.books.flows.mirrored = 1;
    snapshot.shadow.books.flows.skipped.add(Skipped::NoPort, 2);
    let text = summary::text(&snapshot, None);
    assert!(
        text.contains("flows     seen 3, mirrored 1, skipped 2 (no_port 2), unshaped 0, open 0"),
        "{text}"
    );
    assert!(!text.contains("aborted"), "{text}");
}

/// Two endpoints: one that differs, and one whose shadow is gone.
fn compared() -> Compared {
    let mut compared = Compared::default();
    let differs = exchange("/items/1", Ok(response(200, "", 4)), Ok(response(503, "", 30)));
    let lost = exchange("/items/2", Ok(response(200, "", 4)), Err(Unpaired::Closed));
    let found = [("status", Kind::Primitive, false), ("header.x-id", Kind::Primitive, true)];
    for (exchange, verdict, found) in
        [(&differs, Verdict::Status, &found[..]), (&lost, Verdict::Missing, &[])]
    {
        let comparison = comparison(verdict, found);
        compared.add(exchange, &comparison);
    }
    let mut written = Written { offered: 2, written: 1, ..Written::default() };
    written.dropped.add(Dropped::StorageFull, 1);
    compared.report = Some(written);
    compared
}

#[test]
fn both_legs_are_in_the_metrics() {
    let mut snapshot = snapshot();
    snapshot.shadow.sessions = 5;
    snapshot.shadow.clients = 11;
    let text = render(&snapshot, Some(compared()));
    let endpoint = "endpoint=\"GET /items/{id}\"";
    for line in [
        "connections{leg=\"production\"} 11".to_owned(),
        "connections{leg=\"shadow\"} 5".to_owned(),
        "requests_total{leg=\"production\",http_request_method=\"GET\",\
         http_response_status_code=\"200\"} 2"
            .to_owned(),
        "requests_total{leg=\"shadow\",http_request_method=\"GET\",\
         http_response_status_code=\"503\"} 1"
            .to_owned(),
        format!("request_duration_seconds_count{{leg=\"production\",{endpoint}}} 2"),
        format!("request_duration_seconds_bucket{{le=\"0.025\",leg=\"shadow\",{endpoint}}} 0"),
        format!("request_duration_seconds_bucket{{le=\"0.05\",leg=\"shadow\",{endpoint}}} 1"),
        format!("comparisons_total{{{endpoint},result=\"status\"}} 1"),
        format!("comparisons_total{{{endpoint},result=\"missing\"}} 1"),
        format!("comparisons_total{{{endpoint},result=\"match\"}} 0"),
        format!("field_differences_total{{{endpoint},kind=\"primitive\",control=\"raw\"}} 2"),
        format!("field_differences_total{{{endpoint},kind=\"primitive\",control=\"noise\"}} 1"),
        "dropped_total{stage=\"report\",reason=\"storage_full\"} 1".to_owned(),
        "dropped_total{stage=\"capture\",reason=\"ring_full\"} 0".to_owned(),
        "shadow_lag_seconds_count 1".to_owned(),
    ] {
        assert!(text.contains(&format!("\nshadowtap_{line}\n")), "{line} is not in\n{text}");
    }
}

#[test]
fn the_comparison_is_in_the_summary() {
    let compared = compared();
    let outcome =
        Outcome { conditions: vec![("missing>0".into(), Some("missing>0: 1 of 2".into()))] };
    let summary = summary::json(&snapshot(), Some(&compared), &outcome);
    let flat = flatten(&summary);
    for (key, number) in [
        ("comparisons.exchanges", 2.0),
        ("comparisons.mismatches", 2.0),
        ("comparisons.verdicts.status", 1.0),
        ("comparisons.verdicts.match", 0.0),
        ("comparisons.statuses.200.503", 1.0),
        ("comparisons.statuses.200.none", 1.0),
        ("comparisons.duration_seconds.shadow.count", 1.0),
        ("report.written", 1.0),
        ("report.dropped.storage_full", 1.0),
    ] {
        assert_eq!(flat.get(key), Some(&number), "{key}: {summary:#}");
    }
    assert_eq!(summary["comparisons"]["worst"][0]["endpoint"], "GET /items/{id}");
    assert_eq!(summary["fail_on"][0]["failed"], true);
    let text = summary::text(&snapshot(), Some(&compared));
    for line in [
        "\ncompared  exchanges 2 (missing 1, status 1), mismatch 100.00%",
        "\nstatuses  200 became none 1, 200 became 503 1",
        "\nmismatch  GET /items/{id}: 2 of 2",
        "\nreport    lines 1, lost 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let error = outcome.into_result().expect_err("it failed");
    assert_eq!(error.to_string(), "--fail-on missing>0: 1 of 2");
}

#[test]
fn the_documentation_explains_every_figure_and_every_reason() {
    let documentation = include_str!("../../../docs/accounting.md");
    let mut missing = Vec::new();
    for Figure { key, value, .. } in figures(&snapshot()) {
        if !documentation.contains(&format!("`{key}")) {
            missing.push(key.to_owned());
        }
        let Value::Reasons(counts) = value else { continue };
        for (reason, _) in counts {
            let names = [format!(".{reason}`"), format!("`{reason}`")];
            if !names.iter().any(|name| documentation.contains(name)) {
                missing.push(format!("{key}.{reason}"));
            }
        }
    }
    assert!(missing.is_empty(), "not explained: {missing:?}");
}
