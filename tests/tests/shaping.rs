//! Requests are left out, changed and masked on their way to the shadow, on connections that are kept
//! and pipelined, with bodies; production gets all of them as they are.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use shadow_lab::{
    Body, Capture, Connection, Ended, Entry, Request, Tcpdump, content, curl, sha256_hex,
};
use shadow_tests::{Family, Stage, at, check_counts, check_ended};

const LOCATIONS: &str = "        location ~ ^/(old|new)/ { rewrite ^/...(.*)$ $1 last; }";

/// Sends requests on one connection, one after the other or at once; each is answered with 200.
fn send(stage: &Stage, requests: &[Request], pipelined: bool) -> Result<()> {
    let stream =
        stage.lab.client.connect(at(&stage.lab.production, Family::V4), Duration::from_secs(5))?;
    let mut connection = Connection::new(stream, Duration::from_secs(30))?;
    if pipelined {
        let mut writer = connection.stream().try_clone()?;
        let octets: Vec<u8> =
            requests.iter().flat_map(|one| [one.head(), one.framed_body()].concat()).collect();
        std::thread::scope(|scope| -> Result<()> {
            let written = scope.spawn(move || writer.write_all(&octets));
            for request in requests {
                let response = connection.receive(request.method == "HEAD")?;
                ensure!(response.status == 200, "{}: {}", request.uri, response.status);
            }
            Ok(written.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
        })?;
    } else {
        for request in requests {
            let response = connection.exchange(request)?;
            ensure!(response.status == 200, "{}: {}", request.uri, response.status);
        }
    }
    Ok(())
}

/// What is mirrored, and what is left out: every kind of framing on both sides.
fn mixed(connection: usize) -> Vec<(Request, bool)> {
    let mut requests = Vec::new();
    for (number, size) in [0, 1, 1_460, 70_000, 400_000].into_iter().enumerate() {
        let body = content(connection * 1_000 + number, size).to_vec();
        for chunked in [false, true] {
            let framed = match chunked {
                true => Body::Chunked(body.clone(), 7_000),
                false => Body::Length(body.clone()),
            };
            for wished in [false, true] {
                let id = format!("{connection}-{size}-{chunked}-{wished}");
                let mut request = Request::post("/digest", Vec::new()).header("X-Request-Id", id);
                request.body = framed.clone();
                request.expect_continue = size == 70_000;
                if !wished {
                    request = request.header("X-Internal", "yes");
                }
                requests.push((request, wished));
            }
        }
        let get = |method, uri: &str| {
            let id = format!("{connection}-{number}-{method}-{uri}");
            Request { method, ..Request::get(uri) }.header("X-Request-Id", id)
        };
        requests.push((get("GET", "/1k.bin"), true));
        requests.push((get("HEAD", "/1k.bin"), false));
        requests.push((get("GET", "/1m.bin?big"), false));
    }
    requests
}

/// Identities in the order of each connection, whose sessions may overlap.
fn by_connection<'a>(ids: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut connections: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for id in ids {
        connections.entry(id.split('-').next().unwrap_or_default()).or_default().push(id);
    }
    connections
}

fn logged(log: &[Entry]) -> BTreeMap<&str, &Entry> {
    log.iter().map(|entry| (&*entry.id, entry)).collect()
}

#[test]
fn filters_leave_requests_out_and_the_rest_of_the_connection_intact() -> Result<()> {
    let stage = Stage::with_locations(LOCATIONS, LOCATIONS)?;
    let flags = [
        "--method",
        "get,post",
        "--exclude-path",
        "^/1m",
        "--exclude-header",
        "X-Internal=yes",
        "--compare",
        "body",
        "--gate-timeout",
        "30s",
        "--drain",
        "30s",
    ];
    let mirror = stage.mirror(Family::V4, &flags)?;
    let mut wished = Vec::new();
    let mut all = 0;
    for connection in 0..6 {
        let pipelined = connection % 2 == 1;
        let mut requests = mixed(connection);
        for (request, _) in &mut requests {
            // A pipeline waits for nobody.
            request.expect_continue &= !pipelined;
        }
        all += requests.len();
        let sent: Vec<_> = requests.iter().map(|(request, _)| request.clone()).collect();
        send(&stage, &sent, pipelined)?;
        wished.extend(requests.into_iter().filter(|(_, wished)| *wished).map(|(one, _)| one));
    }
    let production = stage.production.log_of(all)?;
    ensure!(production.len() == all);
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let shadow = stage.shadow.log_of(wished.len())?;
    let ids = by_connection(shadow.iter().map(|entry| &*entry.id));
    let expected = by_connection(wished.iter().map(|request| &*request.headers[0].1));
    ensure!(ids == expected, "{ids:#?} is not {expected:#?}");
    let production = logged(&production);
    for entry in &shadow {
        let original = production[&*entry.id];
        ensure!(entry.body_sha256 == original.body_sha256 && entry.uri == original.uri);
        ensure!(entry.request_length == original.request_length, "{entry:?} {original:?}");
    }
    let books = &ended.books;
    let wished = wished.len();
    let expected = [
        ("requests.seen", all),
        ("requests.answered", wished),
        ("requests.skipped.filtered", all - wished),
        ("requests.skipped.unmaskable", 0),
        // Of a request that was left out, production's answer is paired with nothing.
        ("exchanges.seen", wished),
        ("exchanges.paired", wished),
        ("comparisons.verdicts.match", wished),
        ("flows.mirrored", 6),
        ("gates.timed_out", 0),
    ];
    check_counts(books, &expected)
}

/// What comes to the shadow.
fn wire(stage: &Stage) -> Result<Tcpdump> {
    let filter = format!("tcp and dst host {}", stage.lab.shadow.v4);
    Tcpdump::start_whole(&stage.lab.shadow, "eth0", &filter)
}

/// Whether a text was on the wire. Only of what fits a packet.
fn holds(capture: &Capture, text: &str) -> Result<bool> {
    let octets = std::fs::read(capture.file())?;
    Ok(octets.windows(text.len()).any(|window| window == text.as_bytes()))
}

#[test]
fn requests_change_their_form_and_nothing_else() -> Result<()> {
    let stage = Stage::with_locations(LOCATIONS, LOCATIONS)?;
    let wire = wire(&stage)?;
    let flags = [
        "--client-address",
        "x-forwarded-for",
        "--set-header",
        "X-Stage: blue",
        "--remove-header",
        "X-Secret",
        "--host-suffix",
        "-shadow",
        "--rewrite-path",
        "^/old/ => /new/",
        "--request-id-header",
        "X-Correlation",
        "--mark",
        "--compare",
        "body",
        "--drain",
        "30s",
    ];
    let mirror = stage.mirror(Family::V4, &flags)?;
    for pipelined in [false, true] {
        let requests: Vec<_> = mixed(usize::from(pipelined))
            .into_iter()
            .map(|(mut request, _)| {
                request.expect_continue &= !pipelined;
                request.header("X-Secret", "not for the shadow")
            })
            .collect();
        send(&stage, &requests, pipelined)?;
    }
    let sent = 2 * mixed(0).len();
    let url = format!("http://{}", at(&stage.lab.production, Family::V4));
    let id = "X-Request-Id: curl";
    curl(
        &stage.lab.client,
        &["-H", id, "-H", "Host: shop.test:80", &format!("{url}/old/small.txt?a=b")],
    )?;
    // Two on one connection, with the body in chunks.
    let both = [format!("{url}/digest"), format!("{url}/digest")];
    curl(
        &stage.lab.client,
        &["-H", "Transfer-Encoding: chunked", "-d", "sent by curl", &both[0], &both[1]],
    )?;
    let production = stage.production.log_of(sent + 3)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let shadow = stage.shadow.log_of(sent + 3)?;
    ensure!(shadow.len() == production.len(), "{} of {}", shadow.len(), production.len());
    let client = stage.lab.client.v4.to_string();
    for entry in &shadow {
        ensure!(entry.forwarded == client, "{entry:?}");
    }
    let (production, shadow) = (logged(&production), logged(&shadow));
    for (id, original) in &production {
        let entry = shadow[id];
        ensure!(entry.uri == original.uri.replace("/old/", "/new/"), "{entry:?}");
        ensure!(entry.body_sha256 == original.body_sha256 && original.forwarded.is_empty());
    }
    ensure!(shadow["curl"].uri == "/new/small.txt?a=b");
    let capture = wire.stop()?;
    for there in [
        "Host: shop.test-shadow:80\r\n",
        "X-Stage: blue\r\n",
        "X-Shadowtap: mirror\r\n",
        "X-Correlation: ",
    ] {
        ensure!(holds(&capture, there)?, "{there} is missing");
    }
    ensure!(!holds(&capture, "X-Secret")?);
    check_counts(
        &ended.books,
        &[("comparisons.verdicts.match", sent + 3), ("flows.aborted.unmaskable", 0)],
    )
}

const SECRET: &str = "TOPSECRET";

/// A body, as it is masked where it can be.
fn person(padding: usize) -> [Vec<u8>; 2] {
    let pad = "p".repeat(padding);
    [SECRET, "GONE"]
        .map(|email| format!(r#"{{"pad":"{pad}","user":{{"email":"{email}"}}}}"#).into_bytes())
}

/// Requests with secrets, and the hash of the body with which the shadow gets them, if it does.
fn secret(connection: usize) -> Vec<(Request, Option<String>)> {
    let json = "application/json; charset=utf-8";
    let [short, short_masked] = person(20);
    let [long, long_masked] = person(50_000);
    let [longer, _] = person(70_000);
    let broken = short[..short.len() - 1].to_vec();
    let text = content(connection, 300_000).to_vec();
    let hash = |octets: &[u8]| Some(sha256_hex(octets));
    let mut requests = Vec::new();
    for (number, (media, body, wished)) in [
        (json, short, hash(&short_masked)),
        (json, longer, None),
        (json, long, hash(&long_masked)),
        ("text/plain", text.clone(), hash(&text)),
        (json, broken, None),
        (json, Vec::new(), hash(b"")),
    ]
    .into_iter()
    .enumerate()
    {
        for chunked in [true, false] {
            let id = format!("{connection}-{number}-{chunked}");
            let mut request = Request::post(&format!("/digest?a=1&token={SECRET}"), Vec::new())
                .header("X-Request-Id", id)
                .header("Content-Type", media)
                .header("Authorization", format!("Bearer {SECRET}"))
                .header("Cookie", format!("session={SECRET}"));
            request.body = match chunked {
                true => Body::Chunked(body.clone(), 9_000),
                false => Body::Length(body.clone()),
            };
            requests.push((request, wished.clone()));
        }
    }
    requests
}

#[test]
fn what_is_masked_comes_to_the_shadow_and_the_report_nowhere() -> Result<()> {
    let stage = Stage::with_locations(LOCATIONS, LOCATIONS)?;
    let wire = wire(&stage)?;
    let report = stage.lab.production.folder().join("masked.jsonl");
    let flags = [
        "--mask-json",
        "$.user.email=GONE",
        "--mask-header",
        "Authorization",
        "--mask-header",
        "Cookie=remove",
        "--mask-query",
        "token=GONE",
        "--mask-limit",
        "64KiB",
        "--compare",
        "body",
        "--report-bodies",
        "--report",
        &report.display().to_string(),
        "--gate-timeout",
        "30s",
        "--drain",
        "30s",
    ];
    let mirror = stage.mirror(Family::V4, &flags)?;
    let mut wished = Vec::new();
    for connection in 0..4 {
        let requests = secret(connection);
        let sent: Vec<_> = requests.iter().map(|(request, _)| request.clone()).collect();
        send(&stage, &sent, connection % 2 == 1)?;
        wished.extend(requests.into_iter().filter_map(|(one, hash)| Some((one, hash?))));
    }
    let url = format!("http://{}/digest?token={SECRET}", at(&stage.lab.production, Family::V4));
    let [body, masked] = person(5).map(|body| String::from_utf8_lossy(&body).into_owned());
    let answer =
        curl(&stage.lab.client, &["-H", "Content-Type: application/json", "-d", &body, &url])?;
    ensure!(answer.starts_with(&sha256_hex(body.as_bytes())), "{answer}");
    // Nobody can tell what is to be masked in this.
    let mut stream =
        stage.lab.client.connect(at(&stage.lab.production, Family::V4), Duration::from_secs(5))?;
    stream.write_all(format!("\x01\x02 {SECRET}\r\n\r\n").as_bytes())?;
    let _ = std::io::Read::read(&mut stream, &mut [0; 1_000])?;
    drop(stream);
    let shadow = stage.shadow.log_of(wished.len() + 1)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;

    let masked = sha256_hex(masked.as_bytes());
    let expected: BTreeMap<_, _> = wished
        .iter()
        .map(|(request, hash)| (&*request.headers[0].1, &**hash))
        .chain([("", &*masked)])
        .collect();
    let found = shadow.iter().map(|entry| (&*entry.id, &*entry.body_sha256)).collect();
    ensure!(expected == found, "{found:#?} is not {expected:#?}");
    ensure!(
        by_connection(shadow.iter().map(|entry| &*entry.id).filter(|id| !id.is_empty()))
            == by_connection(wished.iter().map(|(request, _)| &*request.headers[0].1))
    );
    for entry in &shadow {
        ensure!(entry.uri.ends_with("token=GONE"), "{entry:?}");
    }
    let capture = wire.stop()?;
    ensure!(holds(&capture, "GONE")? && !holds(&capture, SECRET)?);
    let report = std::fs::read_to_string(report)?;
    ensure!(report.lines().count() == shadow.len() && report.contains("GONE"));
    ensure!(!report.contains(SECRET), "{report}");
    told_nothing(&ended)?;
    let unmaskable = 4 * 4;
    check_counts(
        &ended.books,
        &[
            ("requests.seen", shadow.len() + unmaskable),
            ("requests.answered", shadow.len()),
            ("requests.skipped.unmaskable", unmaskable),
            ("exchanges.paired", shadow.len()),
            ("flows.aborted.unmaskable", 1),
            ("flows.mirrored", 5),
        ],
    )
}

fn told_nothing(ended: &Ended) -> Result<()> {
    ensure!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
    ensure!(!ended.books.json().to_string().contains(SECRET));
    Ok(())
}
