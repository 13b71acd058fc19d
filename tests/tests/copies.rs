//! How much goes where: several sessions for each connection (`--copies`), and each client to one of
//! several shadows (`--spread`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shadow_lab::{Entry, Mix, Nginx, compare, lint_metrics};
use shadow_tests::{Family, Stage, check_counts, check_ended, check_lossless, wait_for_shadow};
use shadow_user::shadows::Spread;

/// The shadow has so many of every request, each whole and by a session from another source.
fn check_copies(production: &[Entry], shadow: &[Entry], copies: usize) -> Result<()> {
    let mut logs = vec![Vec::new(); copies];
    let mut sources = BTreeMap::<&str, BTreeSet<(&str, u16)>>::new();
    let mut seen = BTreeMap::<&str, usize>::new();
    for entry in shadow {
        let copy = seen.entry(&entry.id).or_default();
        let log = logs.get_mut(*copy).with_context(|| format!("too many of {}", entry.id))?;
        log.push(entry.clone());
        *copy += 1;
        sources.entry(&entry.id).or_default().insert((&entry.remote, entry.port));
    }
    for log in &logs {
        let differences = compare(production, log);
        ensure!(differences.is_empty(), "a copy: {differences}");
    }
    let few = sources.iter().find(|(_, sources)| sources.len() != copies);
    ensure!(few.is_none(), "from one source: {few:?}");
    Ok(())
}

#[test]
fn three_copies_are_exactly_three_of_every_request() -> Result<()> {
    let stage = Stage::new()?;
    let flags = ["--copies", "3", "--compare", "body", "--live", "off"];
    let mirror = stage.mirror(Family::V4, &flags)?;
    let mix = Mix { rate: Some(200), max_body: 256 << 10, ..stage.mix(Family::V4, 300, 31) };
    let report = stage.send(&mix)?;
    let log = stage.production_log(&report)?;
    wait_for_shadow(&stage.shadow, 3 * log.len())?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, 3 * log.len())?;
    check_copies(&log, &stage.shadow.log_of(3 * log.len())?, 3)?;
    let flows = ended.books.get("flows.seen") as usize;
    let expected = [
        ("flows.copies", 3),
        ("flows.mirrored", 3 * (flows / 3)),
        // Each is compared once, whatever the copies.
        ("exchanges.seen", log.len()),
        ("comparisons.exchanges", log.len()),
        ("comparisons.verdicts.match", log.len()),
    ];
    check_counts(&ended.books, &expected)
}

#[test]
fn each_copy_of_a_client_has_its_own_address_of_the_pool() -> Result<()> {
    let stage = Stage::new()?;
    let flags = ["--copies", "2", "--source", "pool=10.77.0.128/26", "--pool-announce"];
    let mirror = stage.mirror(Family::V4, &flags)?;
    let mix = Mix { rate: Some(200), max_body: 16 << 10, ..stage.mix(Family::V4, 60, 32) };
    let report = stage.send(&mix)?;
    let log = stage.production_log(&report)?;
    wait_for_shadow(&stage.shadow, 2 * log.len())?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, 2 * log.len())?;
    let shadow = stage.shadow.log_of(2 * log.len())?;
    check_copies(&log, &shadow, 2)?;
    let remotes: BTreeSet<_> = shadow.iter().map(|entry| &entry.remote).collect();
    ensure!(remotes.len() == 2, "one client is two: {remotes:?}");
    ensure!(remotes.iter().all(|remote| remote.starts_with("10.77.0.1")), "{remotes:?}");
    stage.guard(&["remove"]).map(drop)
}

/// Users, each with an address of the client's host.
const USERS: u8 = 24;

fn address(user: u8) -> [u8; 4] {
    [10, 78, 0, user]
}

fn add_users(stage: &Stage) -> Result<()> {
    let add =
        format!("for n in $(seq 1 {USERS}); do echo address add 10.78.0.$n/32 dev eth0; done");
    stage.lab.client.run("sh", ["-c", &format!("({add}) | ip -batch -")])?;
    let route = "route add 10.78.0.0/24 dev eth0";
    stage.lab.production.run("ip", route.split_whitespace()).map(drop)
}

/// Two requests of each user on one connection.
fn browse(stage: &Stage) -> Result<usize> {
    let url = format!("http://{}/small.txt", stage.lab.production.v4);
    let curl = format!(
        "curl -sSf --max-time 20 --interface 10.78.0.$n -H \"X-Request-Id: $n\" -o /dev/null -o \
         /dev/null {url}?1 {url}?2 || exit 1"
    );
    let script = format!("for n in $(seq 1 {USERS}); do {curl}; done");
    stage.lab.client.run("sh", ["-c", &script])?;
    Ok(2 * usize::from(USERS))
}

/// How many requests of each user are in a log.
fn by_user(log: &[Entry]) -> Result<BTreeMap<u8, usize>> {
    let mut users = BTreeMap::new();
    for entry in log {
        *users.entry(entry.id.parse().context("a user")?).or_default() += 1;
    }
    Ok(users)
}

/// Which shadow each client's exchanges were with, by the report.
fn told(report: &Path) -> Result<BTreeSet<(String, String)>> {
    let mut told = BTreeSet::new();
    for line in fs::read_to_string(report)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let [client, shadow] = [&line["client"]["ip"], &line["shadowtap"]["shadow"]["address"]]
            .map(|field| field.as_str().unwrap_or("?").to_owned());
        told.insert((client, shadow));
    }
    Ok(told)
}

#[test]
fn spread_over_two_shadows_each_client_has_one() -> Result<()> {
    let stage = Stage::new()?;
    add_users(&stage)?;
    let second = Nginx::start_on(&stage.lab.shadow, 8080)?;
    let names = [stage.lab.shadow.at4(80), stage.lab.shadow.at4(8080)].map(|at| at.to_string());
    let mut before = [0; 2];
    for (seed, copies) in [(0, 1), (5, 2)] {
        let report = stage.lab.production.folder().join(format!("report-{seed}.jsonl"));
        let (file, copies_) = (report.display().to_string(), copies.to_string());
        let flags = [
            ["--shadow", &names[1]],
            ["--seed", &seed.to_string()],
            ["--copies", &copies_],
            ["--report", &file],
        ];
        let mirror = stage.mirror(Family::V4, &[flags.as_flattened(), &["--spread"]].concat())?;
        let sent = browse(&stage)?;
        let expected = |place| {
            let spread = Spread { seed, shadows: 2 };
            let users = (1..=USERS).filter(move |user| spread.of(address(*user).into()) == place);
            users.map(|user| (user, 2 * copies)).collect::<BTreeMap<_, _>>()
        };
        let requests = [0, 1].map(|place| expected(place).values().sum::<usize>());
        ensure!(requests.iter().all(|count| *count > 0), "both have some: {requests:?}");
        let mut clients = BTreeSet::new();
        for (place, shadow) in [&stage.shadow, &second].into_iter().enumerate() {
            wait_for_shadow(shadow, before[place] + requests[place])?;
            let log = shadow.log()?.split_off(before[place]);
            ensure!(by_user(&log)? == expected(place), "shadow {place}: {:?}", by_user(&log)?);
            before[place] += log.len();
            let ip = |user: &u8| std::net::IpAddr::from(address(*user)).to_string();
            clients.extend(expected(place).keys().map(|user| (ip(user), names[place].clone())));
        }
        lint_metrics(&stage.lab.production, &mirror.metrics()?)?;
        let ended = mirror.stop()?;
        check_ended(&ended)?;
        check_lossless(&ended.books, requests[0])?;
        let other = &ended.books.json()["other_shadows"][0];
        ensure!(other["to"] == names[1].as_str(), "{other:#}");
        ensure!(other["flows"]["copies"] == copies, "{other:#}");
        ensure!(other["flows"]["mirrored"] == requests[1] / 2, "{other:#}");
        ensure!(other["requests"]["answered"] == requests[1], "{other:#}");
        check_counts(&ended.books, &[("comparisons.exchanges", sent)])?;
        ensure!(told(&report)? == clients, "{:?}", told(&report)?);
    }
    Ok(())
}
