//! Several shadows of one mirror: a baseline that shows what is noise, and shadows that do not know of
//! each other.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use shadow_lab::{Connection, Lab, Mix, Nginx, Request, lint_metrics};
use shadow_tests::{
    Family, Stage, check_counts, check_ended, check_lossless, wait_for_comparisons, wait_for_shadow,
};

const LIMIT: Duration = Duration::from_secs(30);
const ROUNDS: usize = 20;

/// A price, an id that no two servers have in common, and one that is the connection's.
fn locations(price: u8) -> String {
    format!(
        r#"
        default_type application/json;
        location = /price {{ return 200 '{{"price":{price},"id":"$request_id"}}'; }}
        location = /random {{ return 200 '{{"id":"$request_id"}}'; }}
        location = /header {{ add_header X-Node $request_id; return 200 '{{"a":1}}'; }}
        location = /same {{ return 200 '{{"a":1}}'; }}
"#
    )
}

fn stage() -> Result<(Stage, Nginx)> {
    let lab = Lab::new()?;
    let stage = Stage {
        production: Nginx::start_with_locations(&lab.production, &locations(1))?,
        shadow: Nginx::start_with_locations(&lab.shadow, &locations(2))?,
        lab,
    };
    let second = Nginx::start_on_with_locations(&stage.lab.shadow, 8080, &locations(1))?;
    Ok((stage, second))
}

fn ask(stage: &Stage, paths: &[&str]) -> Result<usize> {
    let stream = stage.lab.client.connect(stage.lab.production.at4(80), LIMIT)?;
    let mut kept = Connection::new(stream, LIMIT)?;
    for path in paths.iter().cycle().take(ROUNDS * paths.len()) {
        ensure!(kept.exchange(&Request::get(path))?.status == 200, "{path}");
    }
    Ok(ROUNDS * paths.len())
}

#[test]
fn what_the_baseline_differs_in_as_well_is_noise_from_the_first_exchange_on() -> Result<()> {
    let (stage, baseline) = stage()?;
    let second = stage.lab.shadow.at4(8080).to_string();
    let report = stage.lab.production.folder().join("report.jsonl");
    let file = report.display().to_string();
    let flags = [["--compare", "body"], ["--baseline", &second], ["--report", &file]];
    let mirror = stage.mirror(Family::V4, flags.as_flattened())?;
    let sent = ask(&stage, &["/price", "/random", "/header", "/same"])?;
    let metrics = wait_for_comparisons(&mirror, sent, LIMIT)?;
    lint_metrics(&stage.lab.production, &metrics)?;
    for shadow in [stage.lab.shadow.at4(80), stage.lab.shadow.at4(8080)] {
        let line = format!("shadowtap_requests_answered_total{{shadow=\"{shadow}\"}} {sent}\n");
        ensure!(metrics.contains(&line), "{metrics}");
    }
    let guards = stage.guard(&["show"])?;
    ensure!(guards.lines().count() == 2 && guards.contains(&second), "{guards}");
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, sent)?;
    let expected = [
        ("comparisons.exchanges", sent),
        // Headers are compared by value, and nodes' names are no noise that anybody told of.
        ("comparisons.verdicts.match", 3 * ROUNDS),
        ("comparisons.verdicts.body", ROUNDS),
        ("baseline.requests.seen", sent),
        ("baseline.requests.answered", sent),
        ("baseline.exchanges.compared", sent),
        ("baseline.flows.mirrored", 1),
    ];
    check_counts(&ended.books, &expected)?;
    ensure!(baseline.log_of(sent)?.len() == sent, "every request came to the baseline, once");
    ensure!(stage.production.log()?.len() == sent, "production was asked by clients alone");
    for line in fs::read_to_string(&report)?.lines() {
        let line: Value = serde_json::from_str(line).context("a line of JSON")?;
        let diff = &line["shadowtap"]["diff"];
        let (keys, noise) = match line["url"]["path"].as_str().unwrap_or_default() {
            "/price" => (vec!["body.price"], 1),
            "/random" | "/header" => (vec![], 1),
            _ => (vec![], 0),
        };
        ensure!(diff["keys"] == serde_json::json!(keys) && diff["noise"] == noise, "{line:#}");
    }
    Ok(())
}

#[test]
fn without_its_baseline_the_shadow_is_judged_all_the_same() -> Result<()> {
    let (stage, baseline) = stage()?;
    drop(baseline);
    let second = stage.lab.shadow.at4(8080).to_string();
    let mirror = stage.mirror(Family::V4, &["--compare", "body", "--baseline", &second])?;
    let mut sent = 0;
    for _ in 0..10 {
        sent += ask(&stage, &["/price"])?;
    }
    wait_for_comparisons(&mirror, sent, LIMIT)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, sent)?;
    check_counts(
        &ended.books,
        &[("comparisons.verdicts.body", sent), ("baseline.circuit.opened", 1)],
    )?;
    let books = ended.books;
    ensure!(books.get("baseline.flows.aborted.shadow_refused") >= 8, "{:#}", books.json());
    ensure!(ended.stderr.contains(&format!("the baseline {second} is down")), "{}", ended.stderr);
    Ok(())
}

#[test]
fn a_shadow_that_hangs_is_nothing_to_the_other() -> Result<()> {
    let stage = Stage::new()?;
    let mut second = Nginx::start_on(&stage.lab.shadow, 8080)?;
    let address = stage.lab.shadow.at4(8080).to_string();
    let flags = ["--shadow", &address, "--drain", "1s"];
    let mirror = stage.mirror(Family::V4, &flags)?;
    let mix = Mix { rate: Some(300), ..stage.mix(Family::V4, 150, 11) };
    let before = stage.send(&mix)?.completed.len();
    wait_for_shadow(&second, before)?;
    second.signal_all(Signal::SIGSTOP)?;
    let after = stage.send(&Mix { seed: 12, ..mix })?.completed.len();
    wait_for_shadow(&stage.shadow, before + after)?;
    let ended = mirror.stop()?;
    second.signal_all(Signal::SIGCONT)?;
    check_ended(&ended)?;
    check_lossless(&ended.books, before + after)?;
    let other = &ended.books.json()["other_shadows"][0];
    ensure!(other["to"] == address.as_str(), "{other:#}");
    ensure!(other["requests"]["seen"] == before + after, "{other:#}");
    let answered = other["requests"]["answered"].as_u64().context("a count")?;
    ensure!(answered >= before as u64 && answered < (before + after) as u64, "{other:#}");
    Ok(())
}
