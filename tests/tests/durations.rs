//! Both legs' durations are those that the servers themselves have measured.

use std::collections::BTreeMap;
use std::fs;
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shadow_lab::{
    Body, Connection, Ended, Entry, Host, Lab, Nginx, Request, h2load, sum_metric, wait_for,
};
use shadow_tests::{Family, Stage, check_ended};

const LIMIT: Duration = Duration::from_secs(30);

/// Milliseconds. nginx counts whole ones.
const NEAR: f64 = 1.0;

const REQUESTS: usize = 360;
const CONNECTIONS: usize = 4;

/// Up to so many milliseconds pass before an answer, and within it.
const LONGEST: usize = 50;

/// How long a client that uploads takes a rest between head and body.
const REST: Duration = Duration::from_millis(8);

#[derive(Clone, Copy, Eq, PartialEq)]
enum Version {
    Http1,
    Http2,
}

/// The same request takes each leg a time of its own; none of them is another's.
fn target(number: usize) -> String {
    let pauses = |step: usize| {
        let total = number * step % (LONGEST + 1);
        let within = total * (number % 3) / 3;
        format!("{}/{within}", total - within)
    };
    format!("/times/{}/{}?{number}", pauses(7), pauses(19))
}

/// A server that takes the first two pauses of the path, or the last two.
fn start(host: &Host, version: Version, pauses: &str) -> Result<Nginx> {
    let locations = format!(
        "location ~ ^/times/{pauses} {{
            proxy_pass http://digest/pause/$1/$2;
            proxy_buffering off;
        }}"
    );
    match version {
        Version::Http1 => Nginx::start_with_locations(host, &locations),
        Version::Http2 => Nginx::start_http2_on(host, 80, &locations),
    }
}

fn stage(version: Version) -> Result<Stage> {
    let lab = Lab::new()?;
    Ok(Stage {
        production: start(&lab.production, version, r"(\d+)/(\d+)/")?,
        shadow: start(&lab.shadow, version, r"\d+/\d+/(\d+)/(\d+)$")?,
        lab,
    })
}

/// One request after the other on each connection; every third has a body that comes later.
fn send_http1(lab: &Lab) -> Result<()> {
    let ask = |first: usize| -> Result<()> {
        let stream = lab.client.connect(lab.production.at4(80), LIMIT)?;
        let mut kept = Connection::new(stream, LIMIT)?;
        for number in (first..REQUESTS).step_by(CONNECTIONS) {
            let mut request = Request::get(&target(number));
            if number % 3 == 0 {
                request = Request { method: "POST", ..request };
                request.body = Body::Length(b"late".to_vec());
                kept.write(&request.head())?;
                sleep(REST);
                kept.write(&request.framed_body())?;
            } else {
                kept.write(&request.head())?;
            }
            let status = kept.receive(false)?.status;
            ensure!(status == 200, "{}: {status}", request.uri);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CONNECTIONS).map(|first| scope.spawn(move || ask(first))).collect();
        clients.into_iter().try_for_each(|client| {
            client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

/// Several at once on one connection.
fn send_http2(lab: &Lab) -> Result<()> {
    let at = lab.production.at4(80);
    let urls: Vec<_> =
        (0..REQUESTS).map(|number| format!("http://{at}{}", target(number))).collect();
    h2load(&lab.client, &urls, 1, CONNECTIONS, 1, &[]).map(drop)
}

/// What nginx measured of each request, in ms.
fn truth(log: &[Entry]) -> BTreeMap<String, f64> {
    log.iter().map(|entry| (entry.uri.clone(), entry.request_time * 1e3)).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One leg's durations, from the report and in the summary, against the server's own.
fn check_leg(
    leg: &str,
    pointer: &str,
    lines: &[Value],
    truth: &BTreeMap<String, f64>,
    ended: &Ended,
) -> Result<()> {
    ensure!(truth.len() == REQUESTS, "{leg} has logged {} requests", truth.len());
    let mut distances = Vec::new();
    for line in lines {
        let target = line["url"]["original"].as_str().context("a target")?;
        let known = truth.get(target).with_context(|| format!("{leg} knows no {target}"))?;
        let told = line.pointer(pointer).and_then(Value::as_u64).context("a duration")?;
        distances.push(told as f64 / 1e6 - known);
    }
    let real = median(truth.values().copied().collect());
    let (shift, distance) =
        (median(distances.clone()), median(distances.iter().map(|it| it.abs()).collect()));
    let summary = &ended.books.json()["comparisons"]["duration_seconds"][leg]["p50"];
    let told = summary.as_f64().context("the summary's median")? * 1e3;
    println!(
        "{leg}: nginx's median {real} ms, ours {told:.3} ms; request by request {shift:+.3} ms, \
         {distance:.3} ms apart"
    );
    // Spread widely: otherwise any number would be near.
    let spread = truth.values().fold(0.0, |most: f64, it| most.max(*it));
    ensure!(spread >= LONGEST as f64 && real > 15.0, "{leg}: {spread} at most, median {real}");
    ensure!(distance < NEAR, "{leg}: {distance} ms from nginx's own");
    // The histogram has three digits, and both medians are of whole milliseconds' neighbours.
    ensure!((told - real).abs() < 2.0 * NEAR, "{leg}: {told} ms, and nginx says {real} ms");
    Ok(())
}

fn check(version: Version) -> Result<()> {
    let stage = stage(version)?;
    let report = stage.lab.production.folder().join("report.jsonl");
    let flags = ["--compare", "status", "--report", &report.display().to_string()];
    let mirror = stage.mirror(Family::V4, &flags)?;
    match version {
        Version::Http1 => send_http1(&stage.lab)?,
        Version::Http2 => send_http2(&stage.lab)?,
    }
    wait_for("every comparison", LIMIT, || {
        let compared = sum_metric(&mirror.metrics()?, "shadowtap_comparisons");
        Ok((compared >= Some(REQUESTS as f64)).then_some(()))
    })?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let text = fs::read_to_string(&report).context("read the report")?;
    let lines: Vec<Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("a line")?;
    ensure!(lines.len() == REQUESTS, "{} lines", lines.len());
    let production = truth(&stage.production.log_of(REQUESTS)?);
    let shadow = truth(&stage.shadow.log_of(REQUESTS)?);
    check_leg("production", "/event/duration", &lines, &production, &ended)?;
    check_leg("shadow", "/shadowtap/shadow/event/duration", &lines, &shadow, &ended)
}

#[test]
fn durations_of_http1_are_the_servers_own() -> Result<()> {
    check(Version::Http1)
}

#[test]
fn durations_of_http2_are_the_servers_own() -> Result<()> {
    check(Version::Http2)
}
