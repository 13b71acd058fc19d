//! Servers whose answers attack the mirror, as the shadow and as production: each attack is outlived
//! within the memory that was given, has its reason in the books, and the client has the same octets as
//! without the mirror.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shadow_lab::{
    ATTACKS, ATTACKS2, Connection, HostileServer, Lab, Mirror, Request, sha256_hex, sum_metric,
    wait_until,
};
use shadow_tests::check_ended;

const LIMIT: Duration = Duration::from_secs(60);
/// The daemon's. Three rings take 9 MiB, what waits to be compared and written 16,
/// comparing 32.
const MEMORY_LIMIT: u64 = 112 << 20;

/// What an attack comes to: why the attacking leg has no answer, or why its body was not looked into.
const OUTCOMES: [(&str, &str); 26] = [
    ("/long-head", "unparsable"),
    ("/many-fields", "unparsable"),
    ("/endless-head", "unparsable"),
    ("/endless-interim", "closed"),
    ("/endless-chunks", "closed"),
    ("/tiny-chunks", "not-kept"),
    ("/chunk-extensions", "closed"),
    ("/endless-extension", "unparsable"),
    ("/endless-trailers", "unparsable"),
    ("/short-body", "closed"),
    ("/long-body", ""),
    ("/huge-length", "unparsable"),
    ("/two-framings", "unparsable"),
    ("/gzip", "too-long"),
    ("/gzip-thrice", "too-long"),
    ("/gzip-members", "too-long"),
    ("/zstd", "malformed"),
    ("/br", "too-long"),
    ("/codings", "coding"),
    ("/continuations", "unparsable"),
    ("/empty-continuations", "unparsable"),
    ("/hpack", "unparsable"),
    ("/foreign-headers", "closed"),
    ("/endless-data", "closed"),
    ("/empty-data", "closed"),
    ("/control", "closed"),
];

/// A request of HTTP/2 with prior knowledge: SETTINGS, then HEADERS that end stream 1.
fn http2(path: &str) -> Vec<u8> {
    // GET, http and an authority of the static table; the path as a literal (RFC 7541, 6.2.2).
    let len = path.len() as u8;
    let block = [b"\x82\x86\x01\x01a\x04", &[len][..], path.as_bytes()].concat();
    let head = [0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1];
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &head[..], &block].concat()
}

/// Asks, and reads to the end.
fn ask(lab: &Lab, to: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let mut stream = lab.client.connect(to, LIMIT)?;
    let request = match ATTACKS.contains(&path) {
        true => format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(),
        false => http2(path),
    };
    stream.write_all(&request)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// What the client reads, by the attack.
fn ask_all(lab: &Lab, to: SocketAddr) -> Result<BTreeMap<&'static str, String>> {
    let attacks: Vec<_> = ATTACKS.into_iter().chain(ATTACKS2).collect();
    attacks
        .into_iter()
        .map(|path| {
            let answer = ask(lab, to, path).context(path)?;
            ensure!(!answer.is_empty(), "{path}: no answer");
            Ok((path, format!("{} {}", answer.len(), sha256_hex(&answer))))
        })
        .collect()
}

/// Asks for a page on a connection that it keeps, until told to stop: what else production's clients do.
fn ask_beside(lab: &Lab, to: SocketAddr, stop: &AtomicBool) -> Result<u64> {
    let mut kept = Connection::new(lab.client.connect(to, LIMIT)?, LIMIT)?;
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        let response = kept.exchange(&Request::get("/page"))?;
        ensure!(response.status == 200 && response.body == b"ok", "{response:?}");
        asked += 1;
        sleep(Duration::from_millis(5));
    }
    Ok(asked)
}

fn attacks(lab: &Lab, attacker: &str) -> Result<()> {
    let to = lab.production.at4(80);
    let alone = ask_all(lab, to)?;
    let report = lab.production.folder().join("report.jsonl");
    let file = report.display().to_string();
    let shadow = lab.shadow.at4(80).to_string();
    let limit = format!("{MEMORY_LIMIT}");
    let flags = [
        ["--iface", "eth0"],
        ["--port", "80"],
        ["--shadow", &shadow],
        ["--compare", "body"],
        ["--report", &file],
        ["--ring-size", "4MiB"],
        ["--memory-limit", &limit],
        ["--gate-timeout", "5s"],
        // What a flood crowds out of the ring of answers comes again, 200 ms later.
        ["--slower", "off"],
    ];
    let mirror = Mirror::start(&lab.production, flags.as_flattened())?;
    let (stop, resident) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mirrored, beside) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| ask_beside(lab, to, &stop));
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                resident.fetch_max(mirror.process.resident(), Ordering::Relaxed);
                sleep(Duration::from_millis(2));
            }
        });
        let mirrored = ask_all(lab, to).and_then(|mirrored| {
            // All but the one connection that is kept.
            wait_until("the attacks' flows to end", LIMIT, || {
                let metrics = mirror.metrics().unwrap_or_default();
                let get = |name| sum_metric(&metrics, name).unwrap_or(f64::MAX);
                get("shadowtap_flows_seen") > OUTCOMES.len() as f64
                    && get("shadowtap_flows_open") <= 1.0
            })?;
            Ok(mirrored)
        });
        stop.store(true, Ordering::Relaxed);
        (mirrored, beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let ended = mirror.stop()?;
    let (mirrored, beside) = (mirrored.with_context(|| ended.stderr.clone())?, beside?);
    check_ended(&ended)?;
    let books = &ended.books;
    let resident = resident.into_inner();
    println!("{beside} pages beside, at most {} KiB resident", resident >> 10);
    ensure!(resident > 0 && resident <= MEMORY_LIMIT, "{resident} octets resident");
    ensure!(mirrored == alone, "production's clients read {mirrored:#?}, alone {alone:#?}");

    let lines = fs::read_to_string(&report)?;
    let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    // What production sends at the speed of a veth may be more than the ring takes: of any flow, and
    // of one whose end is among it nothing tells that it is missing.
    let has_lost = attacker == "production" && books.sum("responses.lost") > 0;
    let is_lost = |found: &str| has_lost && ["lost", "closed"].contains(&found);
    let mut found = BTreeMap::new();
    let mut reasons = Vec::new();
    let mut pages = 0;
    for line in &lines {
        let path = line["url"]["original"].as_str().context("a target")?;
        let own = &line["shadowtap"];
        let unpaired = own["unpaired"][attacker].as_str();
        reasons.extend(unpaired);
        if path == "/page" {
            ensure!(own["verdict"] == "match" || unpaired.is_some_and(is_lost), "{line:#}");
            pages += 1;
            continue;
        }
        let reason = unpaired.or(own["diff"]["opaque"].as_str());
        found.insert(path, reason.unwrap_or_default());
    }
    for (path, outcome) in OUTCOMES {
        let found = found.get(path).copied().with_context(|| format!("{path} is not told of"))?;
        ensure!(
            found == outcome || is_lost(found),
            "{path}: {found:?}, not {outcome:?}: {:#}",
            books.json()
        );
    }
    ensure!(pages == beside, "{pages} of {beside} pages: {:#}", books.json());
    // Attacks and nothing else.
    ensure!(books.get("exchanges.seen") == beside + OUTCOMES.len() as u64, "{:#}", books.json());
    let unpaired = format!("exchanges.unpaired.{attacker}");
    for reason in ["closed", "unparsable", "lost", "aborted", "shed", "tunnel"] {
        let told = reasons.iter().filter(|told| **told == reason).count() as u64;
        let counted = books.get(&format!("{unpaired}.{reason}"));
        ensure!(counted == told, "{counted} {reason}, not {told}: {:#}", books.json());
    }
    Ok(())
}

#[test]
fn a_hostile_shadow_is_outlived() -> Result<()> {
    let lab = Lab::new()?;
    let _production = HostileServer::tame(&lab.production, 80)?;
    let _shadow = HostileServer::start(&lab.shadow, 80)?;
    attacks(&lab, "shadow")
}

#[test]
fn a_hostile_production_is_outlived() -> Result<()> {
    let lab = Lab::new()?;
    let _production = HostileServer::start(&lab.production, 80)?;
    let _shadow = HostileServer::tame(&lab.shadow, 80)?;
    attacks(&lab, "production")
}
