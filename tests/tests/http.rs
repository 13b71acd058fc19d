//! HTTP/1: each request reaches the shadow exactly once, and production does not notice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use shadow_lab::{
    Body, Completed, Connection, Lab, Link, Mirror, Mix, Nginx, Relay, Request, Tcpdump, Topology,
    content, sha256_hex,
};
use shadow_tests::{Family, Stage, at, check_ended, check_lossless};

const SIZES: [usize; 8] = [0, 1, 1_399, 1_460, 65_535, 65_536, 1 << 20, 10 << 20];
const UPLOADS: u64 = 2 * SIZES.len() as u64;

/// Uploads of every size, with its length ahead and in chunks, one after the other on one connection.
fn upload(stage: &Stage, family: Family) -> Result<Vec<Completed>> {
    let to = at(&stage.lab.production, family);
    let stream = stage.lab.client.connect(to, Duration::from_secs(5))?;
    let mut kept = Connection::new(stream, Duration::from_secs(30))?;
    let mut completed = Vec::new();
    for (number, size) in SIZES.into_iter().enumerate() {
        for chunked in [false, true] {
            let bytes = content(number * 1_000, size).to_vec();
            let hash = sha256_hex(&bytes);
            let id = format!("{size}-{chunked}");
            let mut request = Request::post("/digest", bytes.clone());
            request = request.header("X-Request-Id", id.clone());
            if chunked {
                request.body = Body::Chunked(bytes, 50_000);
            }
            let began = Instant::now();
            let response = kept.exchange(&request)?;
            ensure!(response.status == 200, "{size} bytes: status {}", response.status);
            ensure!(response.body == format!("{hash} {size}\n").as_bytes(), "{size} bytes");
            completed.push(Completed {
                id,
                method: "POST",
                uri: "/digest".into(),
                status: 200,
                body_sha256: Some(hash),
                body_len: size,
                latency: began.elapsed(),
            });
        }
    }
    Ok(completed)
}

fn mixed_requests(family: Family, requests: u64, seed: u64) -> Result<()> {
    let stage = Stage::new()?;
    // On a busy machine the shadow may fall behind by more than the default of 5 s, and the daemon by
    // the largest upload on top of all else.
    let flags = ["--gate-timeout", "60s", "--drain", "40s", "--ring-size", "64MiB"];
    let mirror = stage.mirror(family, &flags)?;
    let mix = Mix {
        rate: Some(1_500),
        max_body: 256 << 10,
        short_percent: 70,
        max_per_connection: 12,
        ..stage.mix(family, requests - UPLOADS, seed)
    };
    // The largest among them: 0 to 10 MB.
    let (report, uploads) = std::thread::scope(|scope| {
        let uploads = scope.spawn(|| upload(&stage, family));
        let report = stage.send(&mix);
        (report, uploads.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let mut report = report?;
    report.connections += 1;
    report.completed.extend(uploads?);
    let log = stage.production_log(&report)?;
    ensure!(log.len() as u64 == requests);
    let ended = mirror.stop()?;
    // Shown when what follows fails.
    println!("the shadow's log: {}", shadow_lab::compare(&log, &stage.shadow.log()?));
    println!("what the shadow complained about: {}", stage.shadow.errors());
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

/// 300 requests to `target`, which arrive on `iface`, toward `shadow`; one of both is behind a link that
/// tags its frames.
fn tagged(lab: &Lab, iface: &str, target: SocketAddr, shadow: SocketAddr) -> Result<()> {
    let production = Nginx::start(&lab.production)?;
    let far = Nginx::start(&lab.shadow)?;
    let at_link = Tcpdump::start(&lab.production, Relay::INTERFACE, "vlan and tcp port 80")?;
    let flags = ["--iface", iface, "--port", "80", "--shadow", &shadow.to_string()];
    let mirror = Mirror::start(&lab.production, &flags)?;
    let mix = Mix { requests: Some(300), rate: Some(300), ..Mix::new(vec![target], 21) };
    let report = shadow_lab::run_traffic(&lab.client, &mix, &shadow_lab::Progress::default())?;
    ensure!(report.failures.is_empty(), "{:#?}", report.failures);
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, 300)?;
    let differences = shadow_lab::compare(&production.log_of(300)?, &far.log_of(300)?);
    ensure!(differences.is_empty(), "{differences}");
    let tags = at_link.stop()?.count("vlan")?;
    ensure!(tags > 300, "only {tags} frames had a tag");
    Ok(())
}

#[test]
fn frames_of_clients_with_a_vlan_tag() -> Result<()> {
    let lab = Lab::new()?;
    let link = Link { tagged: true, ..Link::default() };
    let relay = Relay::between(&lab.client, &lab.production, link)?;
    tagged(&lab, Relay::INTERFACE, relay.far4(80), lab.shadow.at4(80))?;
    drop(relay);
    let lab = Lab::new()?;
    let relay = Relay::between(&lab.client, &lab.production, link)?;
    tagged(&lab, Relay::INTERFACE, relay.far6(80), lab.shadow.at4(80))
}

#[test]
fn frames_of_the_shadow_with_a_vlan_tag() -> Result<()> {
    let lab = Lab::new()?;
    let link = Link { tagged: true, ..Link::default() };
    let relay = Relay::between(&lab.production, &lab.shadow, link)?;
    tagged(&lab, "eth0", lab.production.at4(80), relay.far4(80))
}
