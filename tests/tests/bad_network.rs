//! A shadow behind a link that loses, delays, reorders and repeats: everything arrives all the
//! same, exactly once, and production does not notice.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shadow_lab::{
    Books, Ended, Lab, Link, Mirror, Mix, Nginx, Progress, Redis, Relay, Report,
    check_against_client, compare, run_traffic, wait_until,
};
use shadow_tests::check_untouched;

const MS: Duration = Duration::from_millis(1);
const REQUESTS: u64 = 1_500;
/// Longer than any run of losses here takes to mend.
const PATIENT: [&str; 8] =
    ["--gate-timeout", "60s", "--drain", "20s", "--iface", "eth0", "--live", "off"];
const ALL_ARRIVED: Duration = Duration::from_secs(90);

fn send(lab: &Lab, mix: &Mix) -> Result<Report> {
    let report = run_traffic(&lab.client, mix, &Progress::default())?;
    ensure!(report.failures.is_empty(), "seed {}: {:#?}", mix.seed, report.failures);
    Ok(report)
}

fn mirror(lab: &Lab, port: &str, shadow: SocketAddr) -> Result<Mirror> {
    let shadow = shadow.to_string();
    let flags = [&PATIENT[..], &["--port", port, "--shadow", &shadow]].concat();
    Mirror::start(&lab.production, &flags)
}

/// Exited well, books balanced, nothing lost on the way.
fn check_whole(ended: &Ended, relay: &Relay) -> Result<()> {
    let books: &Books = &ended.books;
    println!("to and from the shadow: {:?}", relay.counts());
    println!("segments sent again: {}", books.get("sent.retransmitted"));
    ensure!(ended.status.code() == Some(0), "{}: {}", ended.status, ended.stderr);
    books.assert_balanced();
    for key in ["packets.lost", "flows.skipped", "flows.aborted"] {
        ensure!(books.sum(key) == 0, "{key}: {:#}", books.json());
    }
    ensure!(books.get("bytes.delivered") == books.get("bytes.captured"), "{:#}", books.json());
    ensure!(relay.counts().iter().all(|counts| counts.lost > 20), "the link was not bad");
    ensure!(books.get("sent.retransmitted") > 0, "nothing was sent again");
    Ok(())
}

fn nginx(link: Link, ipv6: bool) -> Result<()> {
    let lab = Lab::new()?;
    let (production, shadow) = (Nginx::start(&lab.production)?, Nginx::start(&lab.shadow)?);
    let relay = Relay::between(&lab.production, &lab.shadow, link)?;
    let mix = Mix {
        requests: Some(REQUESTS),
        rate: Some(300),
        max_body: 64 << 10,
        max_per_connection: 10,
        ..Mix::new(vec![lab.production.at4(80), lab.production.at6(80)], link.seed)
    };
    let alone = |seed| send(&lab, &Mix { seed, requests: Some(REQUESTS / 4), ..mix.clone() });
    let before = alone(link.seed + 1)?;
    ensure!(production.log_of(before.completed.len())?.len() == before.completed.len());

    let to = if ipv6 { relay.far6(80) } else { relay.far4(80) };
    let mirror = mirror(&lab, "80", to)?;
    let mirrored = send(&lab, &mix)?;
    mirror.wait_for_answers(ALL_ARRIVED)?;
    let ended = mirror.stop()?;
    check_whole(&ended, &relay)?;
    for key in ["requests.seen", "requests.delivered", "requests.answered"] {
        ensure!(ended.books.get(key) == REQUESTS, "{key}: {:#}", ended.books.json());
    }
    let log = production.log_of(before.completed.len() + mirrored.completed.len())?;
    let log = &log[before.completed.len()..];
    let differences = check_against_client(&mirrored.completed, log);
    ensure!(differences.is_empty(), "production's log: {differences}");
    let differences = compare(log, &shadow.log_of(log.len())?);
    ensure!(differences.is_empty(), "the shadow's log: {differences}");
    check_untouched(&[before, alone(link.seed + 2)?], &mirrored)
}

#[test]
fn nginx_behind_five_percent_loss_and_reordering() -> Result<()> {
    let link = Link {
        loss: 5.0,
        duplicates: 2.0,
        delay: 5 * MS,
        jitter: 4 * MS,
        seed: 50,
        ..Link::default()
    };
    nginx(link, false)
}

#[test]
fn nginx_behind_ten_percent_loss_over_ipv6() -> Result<()> {
    let link =
        Link { loss: 10.0, duplicates: 1.0, delay: MS, jitter: MS, seed: 100, ..Link::default() };
    nginx(link, true)
}

#[test]
fn nginx_behind_a_slow_and_narrow_link() -> Result<()> {
    let link = Link {
        loss: 1.0,
        delay: 10 * MS,
        jitter: 2 * MS,
        rate: Some(100_000_000),
        queue: 128 << 10,
        mtu: 1_300,
        seed: 13,
        ..Link::default()
    };
    nginx(link, false)
}

/// The benchmark's median latency of each command, milliseconds. Keys are drawn at random, values are
/// fixed and increments commute: the dataset does not depend on the order in which the connections'
/// commands arrive.
fn benchmark(lab: &Lab) -> Result<Vec<(String, f64)>> {
    let address = lab.production.v4.to_string();
    let fixed = ["-h", &address, "-t", "set,get,incr", "-r", "500", "-d", "100", "--csv"];
    let load = ["-n", "2000", "-c", "10", "-P", "16"];
    let text = lab.client.run("redis-benchmark", fixed.iter().chain(&load))?;
    let mut lines = text.lines().map(|line| line.split(',').map(|cell| cell.trim_matches('"')));
    let head = lines.next().context("redis-benchmark printed nothing")?;
    let column =
        head.into_iter().position(|name| name == "p50_latency_ms").context("no medians")?;
    let medians: Vec<_> = lines
        .filter_map(|mut line| {
            let name = line.next()?.to_owned();
            Some((name, line.nth(column - 1)?.parse().ok()?))
        })
        .collect();
    ensure!(medians.len() == 3, "redis-benchmark printed {text}");
    Ok(medians)
}

#[test]
fn redis_behind_seven_percent_loss() -> Result<()> {
    let lab = Lab::new()?;
    let (production, shadow) = (Redis::start(&lab.production)?, Redis::start(&lab.shadow)?);
    let link = Link {
        loss: 7.0,
        duplicates: 1.0,
        delay: 2 * MS,
        jitter: 2 * MS,
        seed: 7,
        ..Link::default()
    };
    let relay = Relay::between(&lab.production, &lab.shadow, link)?;
    let before = benchmark(&lab)?;
    production.cli(&["FLUSHALL"])?;
    let mirror = mirror(&lab, "6379", relay.far4(6_379))?;
    let mirrored = benchmark(&lab)?;
    let wanted = production.dataset()?;
    let same = || shadow.dataset().is_ok_and(|found| found == wanted);
    wait_until("the same dataset", ALL_ARRIVED, same)?;
    let ended = mirror.stop()?;
    check_whole(&ended, &relay)?;
    ensure!(production.cli(&["DBSIZE"])? == shadow.cli(&["DBSIZE"])?);
    let after = benchmark(&lab)?;
    for (((name, median), (_, before)), (_, after)) in mirrored.iter().zip(&before).zip(&after) {
        println!("production's {name}: p50 {median} ms; {before} before and {after} after, alone");
        let bound = before.max(*after) * 4.0 + 10.0;
        ensure!(*median < bound, "{name} takes {median} ms, alone {before} and {after}");
    }
    Ok(())
}
