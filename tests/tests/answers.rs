//! Production's answers are captured and paired with the shadow's, request by request; nothing of
//! others is.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use shadow_lab::{
    Behaviour, Connection, Lab, Mirror, Mix, Nginx, Request, ScriptedServer, wait_until, wrk,
};
use shadow_tests::{Family, Stage, at, attached, check_ended};

const REQUESTS: u64 = 1_000;

fn every_request_is_paired(family: Family, depth: &str) -> Result<()> {
    let stage = Stage::new()?;
    let mirror = stage.mirror(family, &["--compare", depth])?;
    // Paced, so that neither ring nor queue is full.
    let mix = Mix { rate: Some(500), ..stage.mix(family, REQUESTS, 5) };
    let report = stage.send(&mix)?;
    mirror.wait_for_answers(Duration::from_secs(20))?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    let requests = report.completed.len() as u64;
    for (key, found, wanted) in [
        ("requests.answered", books.get("requests.answered"), requests),
        ("exchanges.seen", books.get("exchanges.seen"), requests),
        ("exchanges.paired", books.get("exchanges.paired"), requests),
        ("exchanges.compared", books.get("exchanges.compared"), requests),
        ("responses.lost", books.sum("responses.lost"), 0),
    ] {
        ensure!(found == wanted, "{key} is {found}, not {wanted}: {:#}", books.json());
    }
    ensure!(books.get("responses.used") >= requests, "{:#}", books.json());
    let abridged = books.get("responses.abridged");
    println!("{depth}: {abridged} of {} packets abridged", books.get("responses.captured"));
    ensure!((abridged > 0) == (depth == "status"), "{abridged} abridged: {:#}", books.json());
    Ok(())
}

#[test]
fn every_request_is_paired_by_status() -> Result<()> {
    every_request_is_paired(Family::V4, "status")
}

#[test]
fn every_request_is_paired_with_its_body() -> Result<()> {
    every_request_is_paired(Family::V6, "body")
}

/// The shadow resets the connection at once, production answers two seconds later.
#[test]
fn what_production_answers_after_the_session_is_told_of() -> Result<()> {
    let lab = Lab::new()?;
    let long = lab.production.folder().join("long.txt");
    fs::write(&long, vec![b'x'; 60_000])?;
    let location = format!("location = /long {{ alias {}; limit_rate 30k; }}", long.display());
    let _production = Nginx::start_with_locations(&lab.production, &location)?;
    let _shadow = ScriptedServer::start(&lab.shadow, 80, Behaviour::Resets)?;
    let (shadow, report) = (lab.shadow.at4(80).to_string(), lab.production.folder().join("report"));
    let file = report.display().to_string();
    let mut args = vec!["--iface", "eth0", "--port", "80", "--shadow", &shadow];
    args.extend(["--compare", "body", "--report", &file]);
    let mirror = Mirror::start(&lab.production, &args)?;
    let limit = Duration::from_secs(20);
    let mut kept = Connection::new(lab.client.connect(lab.production.at4(80), limit)?, limit)?;
    kept.write(&Request::get("/long").head())?;
    let get = |name| mirror.metric(name).ok().flatten().unwrap_or(0.0);
    wait_until("the session's end", limit, || get("shadowtap_flows_aborted") == 1.0)?;
    ensure!(get("shadowtap_exchanges_seen") == 0.0, "production has not answered");
    ensure!(kept.receive(false)?.body.len() == 60_000);
    wait_until("the exchange", limit, || get("shadowtap_exchanges_seen") == 1.0)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    ensure!(books.get("flows.aborted.shadow_reset") == 1, "{:#}", books.json());
    ensure!(books.get("exchanges.unpaired.shadow.aborted") == 1, "{:#}", books.json());
    ensure!(books.sum("responses.ignored") == 0, "{:#}", books.json());
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report)?)?;
    ensure!(line["http"]["response"]["body"]["bytes"] == 60_000, "{line:#}");
    ensure!(line["shadowtap"]["unpaired"]["shadow"] == "aborted", "{line:#}");
    Ok(())
}

#[test]
fn answers_of_another_port_are_not_captured() -> Result<()> {
    let stage = Stage::new()?;
    let _other = Nginx::start_on(&stage.lab.production, 81)?;
    let mirror = stage.mirror(Family::V4, &[])?;
    ensure!(attached(&stage.lab.production)? == 3, "tap, its other half and guard");
    let mut others = at(&stage.lab.production, Family::V4);
    others.set_port(81);
    let mix = Mix { targets: vec![others], ..stage.mix(Family::V4, 100, 7) };
    stage.send(&mix)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let selected = ended.books.get("responses.selected");
    ensure!(selected == 0, "{selected} packets of another port: {:#}", ended.books.json());
    Ok(())
}

#[test]
fn without_comparing_nothing_is_at_egress() -> Result<()> {
    let stage = Stage::new()?;
    let mirror = stage.mirror(Family::V4, &["--compare", "off"])?;
    ensure!(attached(&stage.lab.production)? == 2, "tap and guard alone");
    stage.send(&stage.mix(Family::V4, 100, 9))?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    for key in ["responses.selected", "exchanges.seen"] {
        ensure!(ended.books.get(key) == 0, "{key}: {:#}", ended.books.json());
    }
    Ok(())
}

#[test]
#[ignore = "a measurement: its figures depend on the machine and what else runs on it"]
fn cost_to_production() -> Result<()> {
    let stage = Stage::new()?;
    let url = format!("http://{}/", at(&stage.lab.production, Family::V4));
    let run = || wrk(&stage.lab.client, &url, 32, Duration::from_secs(4));
    for _ in 0..3 {
        println!("{:>8} {:>8.0} req/s", "alone", run()?.rate);
        for depth in ["off", "status", "body"] {
            let mirror = stage.mirror(Family::V4, &["--compare", depth, "--live", "off"])?;
            let result = run()?;
            let ended = mirror.stop()?;
            let books = ended.books;
            println!(
                "{depth:>8} {:>8.0} req/s, exchanges {} paired {} shed {}, responses lost {}, \
                 packets lost {}",
                result.rate,
                books.get("exchanges.seen"),
                books.get("exchanges.paired"),
                books.sum("exchanges.shed"),
                books.sum("responses.lost"),
                books.sum("packets.lost"),
            );
        }
    }
    Ok(())
}
