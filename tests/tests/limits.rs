//! How much the shadow is asked to take: rates are held, what exceeds them is skipped whole, and the
//! books name it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shadow_lab::{Connection, Ended, Host, Mix, Request, compare, content, wait_for};
use shadow_tests::{Family, Stage, check_ended, ctl};

const LIMIT: Duration = Duration::from_secs(20);

/// How long a rate is measured.
const TIME: Duration = Duration::from_secs(10);

/// Octets of IP packets that the host has received, by its interface's counters.
fn received(host: &Host) -> Result<u64> {
    let counters = host.run("ip", ["-s", "-j", "link", "show", "dev", "eth0"])?;
    let counters: Value = serde_json::from_str(&counters)?;
    let rx = |key: &str| counters[0]["stats64"]["rx"][key].as_u64().context("a counter");
    // Ethernet's header is none of it.
    Ok(rx("bytes")? - 14 * rx("packets")?)
}

/// How much of `count` there is in a second, over [`TIME`].
fn measure(count: impl Fn() -> Result<u64>) -> Result<f64> {
    let (begun, before) = (Instant::now(), count()?);
    sleep(TIME);
    let after = count()?;
    Ok((after - before) as f64 / begun.elapsed().as_secs_f64())
}

/// Within 5 %.
fn check_held(what: &str, limit: f64, found: f64) -> Result<()> {
    println!("{what}: {found:.1} of {limit} a second");
    ensure!((found / limit - 1.0).abs() < 0.05, "{what}: {found:.1} of {limit} a second");
    Ok(())
}

/// What each of some clients does again and again until it is told to stop.
type Act<'a> = &'a (dyn Fn(&mut Option<Connection>) -> Result<()> + Sync);

/// Mirrors with `flags` while `clients` clients act, and hands the running stage to `look`.
fn under_load(
    stage: &Stage,
    flags: &[&str],
    (clients, act): (usize, Act<'_>),
    look: impl FnOnce() -> Result<()>,
) -> Result<Ended> {
    let mirror = stage.mirror(Family::V4, &[&["--live", "off"], flags].concat())?;
    let stop = AtomicBool::new(false);
    scope(|scope| {
        let users: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = None;
                    while !stop.load(Ordering::Relaxed) {
                        act(&mut connection)?;
                    }
                    Ok::<_, anyhow::Error>(())
                })
            })
            .collect();
        // Past the burst of the start.
        sleep(Duration::from_secs(1));
        let looked = look();
        stop.store(true, Ordering::Relaxed);
        users.into_iter().try_for_each(|user| user.join().expect("no panic"))?;
        looked
    })?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    for key in ["packets.lost", "flows.aborted"] {
        ensure!(ended.books.sum(key) == 0, "{key}: {:#}", ended.books.json());
    }
    Ok(ended)
}

fn connect(stage: &Stage) -> Result<Connection> {
    let to = stage.lab.production.at4(80);
    Ok(Connection::new(stage.lab.client.connect(to, LIMIT)?, LIMIT)?)
}

/// 40 sessions a second, where some 200 connections arrive.
fn sessions(stage: &Stage) -> Result<()> {
    let act = |_: &mut Option<Connection>| {
        let request = Request::get("/small.txt").header("Connection", "close");
        ensure!(connect(stage)?.exchange(&request)?.status == 200);
        sleep(Duration::from_millis(10));
        Ok(())
    };
    let ended = under_load(stage, &["--max-rate", "40/s"], (2, &act), || {
        check_held("sessions", 40.0, measure(|| Ok(stage.shadow.logged() as u64))?)
    })?;
    let books = &ended.books;
    ensure!(
        books.sum("flows.skipped") == books.get("flows.skipped.max_rate"),
        "{:#}",
        books.json()
    );
    ensure!(books.get("flows.skipped.max_rate") > 400, "{:#}", books.json());
    ensure!(books.get("flows.mirrored") == stage.shadow.logged() as u64, "{:#}", books.json());
    Ok(())
}

/// 60 requests a second, where some 200 come on connections that stay.
fn requests(stage: &Stage) -> Result<()> {
    let act = |connection: &mut Option<Connection>| {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(connect(stage)?),
        };
        ensure!(connection.exchange(&Request::get("/small.txt"))?.status == 200);
        sleep(Duration::from_millis(10));
        Ok(())
    };
    let production = &stage.lab.production;
    let ended = under_load(stage, &["--max-request-rate", "none"], (2, &act), || {
        ensure!(
            ctl(production, &["set", "max-request-rate", "60/s"])? == "max-request-rate 60/s\n"
        );
        sleep(Duration::from_millis(200));
        check_held("requests", 60.0, measure(|| Ok(stage.shadow.logged() as u64))?)
    })?;
    let books = &ended.books;
    let (seen, delivered) = (books.get("requests.seen"), books.get("requests.delivered"));
    let left_out = books.get("requests.skipped.max_request_rate");
    ensure!(left_out > 400 && seen == delivered + left_out, "{:#}", books.json());
    ensure!(books.get("requests.answered") == delivered, "{:#}", books.json());
    ensure!(books.get("exchanges.paired") == delivered, "{:#}", books.json());
    ensure!(delivered == stage.shadow.logged() as u64, "{:#}", books.json());
    ensure!(books.get("flows.mirrored") == 2, "{:#}", books.json());
    Ok(())
}

/// 16 Mbit/s, where some 60 are uploaded.
fn bandwidth(stage: &Stage) -> Result<()> {
    let act = |_: &mut Option<Connection>| {
        let mut connection = connect(stage)?;
        let body = content(0, 64 << 10).to_vec();
        ensure!(connection.exchange(&Request::post("/digest", body.clone()))?.status == 200);
        let again = Request::post("/digest", body).header("Connection", "close");
        ensure!(connection.exchange(&again)?.status == 200);
        sleep(Duration::from_millis(30));
        Ok(())
    };
    let ended =
        under_load(stage, &["--max-bandwidth", "16Mbit/s", "--drain", "20s"], (2, &act), || {
            let bits = measure(|| Ok(received(&stage.lab.shadow)? * 8))?;
            check_held("bits", 16e6, bits)
        })?;
    let books = &ended.books;
    let skipped = books.get("flows.skipped.max_bandwidth");
    ensure!(skipped > 0 && books.sum("flows.skipped") == skipped, "{:#}", books.json());
    ensure!(books.get("gates.timed_out") == 0, "{:#}", books.json());
    let delivered = books.get("requests.delivered") as usize;
    let expected = stage.shadow.log_of(delivered)?;
    ensure!(expected.iter().all(|entry| entry.status == 200), "{:#}", books.json());
    Ok(())
}

#[test]
fn rates_are_held_within_a_twentieth() -> Result<()> {
    let stages = [Stage::new()?, Stage::new()?, Stage::new()?];
    let [first, second, third] = &stages;
    scope(|scope| {
        let all = [
            scope.spawn(|| sessions(first)),
            scope.spawn(|| requests(second)),
            scope.spawn(|| bandwidth(third)),
        ];
        all.map(|one| one.join().expect("no panic")).into_iter().collect()
    })
}

#[test]
fn changes_under_load_lose_nothing_that_the_books_do_not_name() -> Result<()> {
    let stage = Stage::new()?;
    let production = &stage.lab.production;
    let flags = ["--max-rate", "30/s", "--live", "off", "--drain", "20s"];
    let mirror = stage.mirror(Family::V4, &flags)?;
    let changes = [
        ["max-request-rate", "100/s"],
        ["max-rate", "none"],
        ["max-bandwidth", "10Mbit/s"],
        ["max-request-rate", "20/s"],
        ["max-rate", "200/s"],
        ["max-bandwidth", "100Mbit/s"],
        ["max-request-rate", "none"],
        ["max-bandwidth", "none"],
        ["max-rate", "30/s"],
    ];
    const ROUNDS: usize = 3;
    let mix = Mix { max_body: 64 << 10, ..Mix::new(vec![production.at4(80)], 0xA117) };
    let report = stage.send_while(&mix, || {
        for [name, value] in changes.repeat(ROUNDS) {
            ensure!(ctl(production, &["set", name, value])? == format!("{name} {value}\n"));
            sleep(Duration::from_millis(50));
        }
        Ok(())
    })?;
    let mut log = stage.production_log(&report)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    for key in ["packets.lost", "flows.aborted", "gates.timed_out"] {
        ensure!(books.sum(key) == 0, "{key}: {:#}", books.json());
    }
    let of_limits = ["flows.skipped.max_rate", "flows.skipped.max_bandwidth"];
    let skipped: u64 = of_limits.iter().map(|key| books.get(key)).sum();
    let never_begun = books.get("flows.skipped.handshake");
    ensure!(books.sum("flows.skipped") == skipped + never_begun, "{:#}", books.json());
    for key in ["flows.skipped.max_rate", "requests.skipped.max_request_rate"] {
        ensure!(books.get(key) > 0, "{key}: {:#}", books.json());
    }
    ensure!(books.sum("settings.changed") == (ROUNDS * changes.len()) as u64, "{:#}", books.json());
    // Whatever arrived is what its client had sent.
    let delivered = books.get("requests.delivered") as usize;
    let shadow = stage.shadow.log_of(delivered)?;
    let there: BTreeSet<_> = shadow.iter().map(|entry| entry.id.as_str()).collect();
    log.retain(|entry| there.contains(entry.id.as_str()));
    ensure!(there.len() == delivered && delivered > 0, "{} of {delivered}", there.len());
    let differences = compare(&log, &shadow);
    ensure!(differences.is_empty(), "the shadow's log: {differences}");
    Ok(())
}

#[test]
fn a_sample_grows_to_its_share_and_open_connections_come_with_it() -> Result<()> {
    const EACH: usize = 50;
    let stage = Stage::new()?;
    let production = &stage.lab.production;
    let mut open = (0..EACH).map(|_| connect(&stage)).collect::<Result<Vec<_>>>()?;
    let flags = ["--ramp", "3s", "--sample-by", "connection", "--live", "off"];
    let mirror = stage.mirror(Family::V4, &flags)?;
    open.extend((0..EACH).map(|_| connect(&stage)).collect::<Result<Vec<_>>>()?);
    let mut ask = || -> Result<()> {
        let request = Request::get("/small.txt");
        for connection in &mut open {
            ensure!(connection.exchange(&request)?.status == 200);
        }
        Ok(())
    };
    let share = || -> Result<(f64, bool)> {
        let get: Value = serde_json::from_str(&ctl(production, &["get"])?)?;
        let share = get["sample"].as_str().and_then(|share| share.strip_suffix('%'));
        Ok((share.context("a share")?.parse::<f64>()? / 100.0, get["ramp-to"] == "100%"))
    };
    let sessions = || Ok::<_, anyhow::Error>(mirror.metric("shadowtap_flows_seen")?.unwrap_or(0.0));
    let mut before = 0.0;
    let mut between = 0;
    wait_for("the whole sample", LIMIT, || {
        let (at_least, _) = share()?;
        ask()?;
        let (at_most, grows) = share()?;
        ensure!(at_least >= before && at_most >= at_least, "{before} {at_least} {at_most}");
        before = at_most;
        // The worker tells of itself five times a second.
        sleep(Duration::from_millis(300));
        let count = sessions()? / (2 * EACH) as f64;
        println!("{count} of {at_least} to {at_most}");
        // Five standard deviations of a binomial, at most.
        ensure!(count >= at_least - 0.25 && count <= at_most + 0.25, "{count}");
        between += usize::from(grows && count > 0.0 && count < 1.0);
        Ok((!grows).then_some(()))
    })?;
    ensure!(between > 1, "it was all at once");
    ensure!(ctl(production, &["status"])?.contains("sample 100%, "));
    let logged = stage.shadow.logged();
    ask()?;
    wait_for("all connections", LIMIT, || {
        Ok((stage.shadow.logged() == logged + 2 * EACH).then_some(()))
    })?;
    drop(open);
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    ensure!(books.get("flows.mirrored") == 2 * EACH as u64, "{:#}", books.json());
    ensure!(books.sum("flows.skipped") + books.sum("flows.aborted") == 0, "{:#}", books.json());
    for line in ["the sample grows to 100% within 3s", "the sample has grown to 100%"] {
        ensure!(ended.stderr.contains(line), "{line}: {}", ended.stderr);
    }
    Ok(())
}
