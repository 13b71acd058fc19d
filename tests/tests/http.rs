//! HTTP/1: each request reaches the shadow exactly once, and production does not notice.

use std::time::Duration;

use anyhow::{Result, ensure};
use shadow_lab::{
    Body, Connection, Lab, Mirror, Mix, Nginx, Request, Topology, content, sha256_hex,
};
use shadow_tests::{Family, Stage, at, check_ended, check_lossless};

fn mixed_requests(family: Family, requests: u64, seed: u64) -> Result<()> {
    let stage = Stage::new()?;
    let mirror = stage.mirror(family, &[])?;
    let mix = Mix {
        rate: Some(1_500),
        max_body: 256 << 10,
        short_percent: 70,
        max_per_connection: 12,
        ..stage.mix(family, requests, seed)
    };
    let report = stage.send(&mix)?;
    let log = stage.production_log(&report)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, log.len())?;
    stage.check_shadow(&log)?;
    ensure!(ended.books.get("flows.mirrored") == report.connections, "{:#}", ended.books.json());
    Ok(())
}

#[test]
fn ten_thousand_mixed_requests_over_ipv4() -> Result<()> {
    mixed_requests(Family::V4, 10_000, 41)
}

#[test]
fn ten_thousand_mixed_requests_over_ipv6() -> Result<()> {
    mixed_requests(Family::V6, 10_000, 61)
}

fn uploads(family: Family) -> Result<()> {
    let stage = Stage::new()?;
    let mirror = stage.mirror(family, &["--drain", "20s"])?;
    let sizes = [0, 1, 1_399, 1_460, 65_535, 65_536, 1 << 20, 10 << 20];
    let stream =
        stage.lab.client.connect(at(&stage.lab.production, family), Duration::from_secs(5))?;
    let mut kept = Connection::new(stream, Duration::from_secs(30))?;
    for (number, size) in sizes.into_iter().enumerate() {
        for chunked in [false, true] {
            let bytes = content(number * 1_000, size).to_vec();
            let answer = format!("{} {size}\n", sha256_hex(&bytes));
            let mut request = Request::post("/digest", bytes.clone());
            request = request.header("X-Request-Id", format!("{size}-{chunked}"));
            if chunked {
                request.body = Body::Chunked(bytes, 50_000);
            }
            let response = kept.exchange(&request)?;
            ensure!(response.status == 200, "{size} bytes: status {}", response.status);
            ensure!(response.body == answer.as_bytes(), "{size} bytes: another answer");
        }
    }
    drop(kept);
    let log = stage.production.log_of(2 * sizes.len())?;
    ensure!(log.len() == 2 * sizes.len());
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, log.len())?;
    stage.check_shadow(&log)
}

#[test]
fn uploads_from_nothing_to_ten_megabytes_over_ipv4() -> Result<()> {
    uploads(Family::V4)
}

#[test]
fn uploads_from_nothing_to_ten_megabytes_over_ipv6() -> Result<()> {
    uploads(Family::V6)
}

#[test]
fn clients_of_one_family_and_a_shadow_of_the_other() -> Result<()> {
    let stage = Stage::new()?;
    for (clients, shadow, seed) in [(Family::V4, Family::V6, 46), (Family::V6, Family::V4, 64)] {
        let before = stage.shadow.logged();
        let mirror = stage.mirror(shadow, &[])?;
        let report = stage.send(&Mix { rate: Some(500), ..stage.mix(clients, 500, seed) })?;
        let ended = mirror.stop()?;
        check_ended(&ended)?;
        check_lossless(&ended.books, report.completed.len())?;
        ensure!(stage.shadow.log_of(before + 500)?.len() == before + 500);
    }
    let differences = shadow_lab::compare(&stage.production.log()?, &stage.shadow.log()?);
    ensure!(differences.is_empty(), "{differences}");
    Ok(())
}

fn topology(topology: Topology) -> Result<()> {
    let lab = Lab::with(topology)?;
    let (production, shadow) = (Nginx::start(&lab.production)?, Nginx::start(&lab.shadow)?);
    let to = lab.shadow.at4(80).to_string();
    let mirror =
        Mirror::start(&lab.production, &["--iface", "eth0", "--port", "80", "--shadow", &to])?;
    let targets = vec![lab.production.at4(80), lab.production.at6(80)];
    let mix = Mix { requests: Some(500), rate: Some(500), ..Mix::new(targets, 5) };
    let report = shadow_lab::run_traffic(&lab.client, &mix, &shadow_lab::Progress::default())?;
    ensure!(report.failures.is_empty(), "{:#?}", report.failures);
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, 500)?;
    let differences = shadow_lab::compare(&production.log_of(500)?, &shadow.log_of(500)?);
    ensure!(differences.is_empty(), "{differences}");
    Ok(())
}

#[test]
fn a_shadow_behind_a_router() -> Result<()> {
    topology(Topology::Routed)
}

#[test]
fn a_shadow_behind_a_second_interface() -> Result<()> {
    topology(Topology::SecondInterface)
}
