//! Every exchange of every kind of traffic is compared for what it is: what was planted is found, as
//! often as it was asked for, and nothing else. Report, summary and metrics tell the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shadow_lab::{Body, Books, Connection, Host, Lab, Nginx, Request, curl, h2load, sum_metric};
use shadow_tests::{
    Family, Stage, check_ended, check_lossless, wait_for_comparisons, wait_for_shadow,
};

const LIMIT: Duration = Duration::from_secs(30);

/// How often each path is asked for, but `slow`, which is asked for once.
const ROUNDS: usize = 4;

/// Of the shadow, in ms: well beyond what a busy machine makes of an answer, and `--slower` between.
const SLOW: u32 = 700;
const SLOWER: &str = "350ms";

/// How nginx frames the same answers; each below a path of its own.
const FRAMINGS: [(&str, &str); 3] = [
    ("length", ""),
    // Whoever replaces does not know the length before the end.
    ("chunked", "sub_filter_types *; sub_filter NEVER THERE;"),
    ("gzip", "gzip on; gzip_types *; gzip_min_length 1;"),
];

/// What is compared in one exchange.
struct Planted {
    path: &'static str,
    verdict: &'static str,
    /// Path and kind of the differences that count.
    found: &'static [(&'static str, &'static str)],
    /// How many more a baseline explains.
    noise: usize,
}

const fn planted(
    path: &'static str,
    verdict: &'static str,
    found: &'static [(&'static str, &'static str)],
    noise: usize,
) -> Planted {
    Planted { path, verdict, found, noise }
}

const PLANTED: [Planted; 15] = [
    planted("same", "match", &[], 0),
    planted("members", "match", &[], 0),
    planted("status", "status", &[("status", "primitive")], 0),
    planted("header", "headers", &[("header.x-version", "primitive")], 0),
    planted("no-header", "headers", &[("header.x-gone", "missing")], 0),
    planted("value", "body", &[("body.price", "primitive")], 0),
    planted("type", "body", &[("body.price", "type")], 0),
    planted("missing", "body", &[("body.user.name", "missing")], 0),
    planted("extra", "body", &[("body.user.admin", "extra")], 0),
    planted("order", "body", &[("body.items", "order")], 0),
    planted("array", "body", &[("body.items", "length")], 0),
    planted("large", "body", &[("body[].price", "primitive")], 0),
    planted("random", "match", &[], 2),
    planted("both", "body", &[("body.price", "primitive")], 1),
    // Last: what is behind it on a connection waits for it.
    planted("slow", "slower", &[], 0),
];

/// A server's part in the play.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Role {
    Production,
    Shadow,
    /// Of production's version, and yet another server.
    Baseline,
}

/// Many segments; of these, one is different.
fn large(role: Role) -> String {
    let items = (0..1_500).map(|number| {
        let price = if role == Role::Shadow && number == 1_234 { 0 } else { number };
        format!(r#"{{"id":{number},"price":{price}}}"#)
    });
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn locations(host: &Host, role: Role) -> Result<String> {
    let shadow = role == Role::Shadow;
    let either = |production: &'static str, other| if shadow { other } else { production };
    let (file, level) = match role {
        Role::Production => ("production.json", 1),
        Role::Shadow => ("shadow.json", 9),
        Role::Baseline => ("baseline.json", 5),
    };
    let file = host.folder().join(file);
    fs::write(&file, large(role)).context("write a large answer")?;
    let answer = |status: &str, body: &str| format!("return {status} '{body}';");
    let ok = |body: &str| answer("200", body);
    let headed = |fields: &str, body: &str| format!("{fields} {}", ok(body));
    let pause = if shadow { SLOW } else { 0 };
    let contents = [
        ("same", ok(r#"{"a":1}"#)),
        ("members", ok(either(r#"{"a":1,"b":[2.0]}"#, r#"{ "b": [2], "a": 1 }"#))),
        ("status", answer(either("200", "503"), r#"{"a":1}"#)),
        (
            "header",
            headed(either("add_header X-Version 1;", "add_header X-Version 2;"), r#"{"a":1}"#),
        ),
        ("no-header", headed(either("add_header X-Gone 1;", ""), r#"{"a":1}"#)),
        ("value", ok(either(r#"{"price":1}"#, r#"{"price":2}"#))),
        ("type", ok(either(r#"{"price":1}"#, r#"{"price":"1"}"#))),
        ("missing", ok(either(r#"{"user":{"name":"x","age":1}}"#, r#"{"user":{"age":1}}"#))),
        ("extra", ok(either(r#"{"user":{"age":1}}"#, r#"{"user":{"admin":true,"age":1}}"#))),
        ("order", ok(either(r#"{"items":[1,2,3]}"#, r#"{"items":[3,1,2]}"#))),
        ("array", ok(either(r#"{"items":[1,2,3]}"#, r#"{"items":[1,2]}"#))),
        ("large", format!("alias {};", file.display())),
        ("random", headed("add_header X-Node $request_id;", r#"{"id":"$request_id","ok":true}"#)),
        (
            "both",
            ok(either(r#"{"id":"$request_id","price":1}"#, r#"{"id":"$request_id","price":2}"#)),
        ),
        ("slow", format!("proxy_pass http://digest/pause/{pause}/0;")),
    ];
    // Chunks and compressed octets end elsewhere on each server.
    let mut text = format!(
        "default_type application/json; gzip_comp_level {level}; output_buffers 4 {}k;\n",
        level + 1
    );
    for (framing, directives) in FRAMINGS {
        for (path, content) in &contents {
            text += &format!("location = /{framing}/{path} {{ {directives} {content} }}\n");
        }
    }
    Ok(text)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Version {
    Http1,
    Http2,
}

/// How it is told that ids are random.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Noise {
    Baseline,
    Ignored,
}

/// Kinds of traffic: method, query, and how often each path is asked for.
type Kinds = Vec<(&'static str, &'static str, usize)>;

/// What is left to be found where nothing but heads is answered.
const HEADS_ONLY: &str = "HEAD";

fn connect(lab: &Lab) -> Result<Connection> {
    Ok(Connection::new(lab.client.connect(lab.production.at4(80), LIMIT)?, LIMIT)?)
}

fn targets(query: &str, only: impl Fn(&str) -> bool) -> Vec<String> {
    FRAMINGS
        .iter()
        .flat_map(|(framing, _)| {
            PLANTED.iter().map(move |planted| format!("/{framing}/{}?{query}", planted.path))
        })
        .filter(|target| only(target))
        .collect()
}

fn is_slow(target: &str) -> bool {
    target.contains("/slow?")
}

fn request(method: &'static str, target: &str) -> Request {
    let request = Request { method, ..Request::get(target) };
    request.header("Accept-Encoding", "gzip")
}

/// Each connection a kind: one request after the other, many at once, with bodies in chunks, and
/// without bodies in the answers.
fn send_http1(lab: &Lab) -> Result<Kinds> {
    let fast = |query| targets(query, |target| !is_slow(target));
    let slow = |query| targets(query, is_slow);

    let mut kept = connect(lab)?;
    for target in fast("kept").iter().cycle().take(fast("kept").len() * ROUNDS).chain(&slow("kept"))
    {
        ensure!(kept.exchange(&request("GET", target))?.status == 200, "{target}");
    }
    let mut posted = connect(lab)?;
    let body = Body::Chunked(shadow_lab::content(7, 30_000).to_vec(), 4_000);
    for target in fast("posted").iter().chain(&slow("posted")) {
        // nginx has files for those who ask, and takes none.
        if target.contains("/large?") {
            continue;
        }
        let request = Request { body: body.clone(), ..request("POST", target) };
        ensure!(posted.exchange(&request)?.status == 200, "{target}");
    }
    let mut heads = connect(lab)?;
    for target in &fast("heads") {
        ensure!(heads.exchange(&request(HEADS_ONLY, target))?.status == 200, "{target}");
    }
    let mut pipelined = connect(lab)?;
    for (round, (framing, _)) in FRAMINGS.iter().cycle().take(FRAMINGS.len() * ROUNDS).enumerate() {
        let last = round + FRAMINGS.len() >= FRAMINGS.len() * ROUNDS;
        let here = |target: &str| target.starts_with(&format!("/{framing}/"));
        let batch = targets("pipelined", |target| here(target) && (last || !is_slow(target)));
        let octets: Vec<u8> =
            batch.iter().flat_map(|target| request("GET", target).head()).collect();
        pipelined.write(&octets)?;
        for target in &batch {
            ensure!(pipelined.receive(false)?.status == 200, "{target}");
        }
    }
    Ok(vec![
        ("GET", "kept", ROUNDS),
        ("GET", "pipelined", ROUNDS),
        ("POST", "posted", 1),
        (HEADS_ONLY, "heads", 1),
    ])
}

/// A connection each: curl 7.88 fails to use one a second time where HTTP/2 is spoken from the first
/// octet on.
fn curl_http2(lab: &Lab, urls: &[String]) -> Result<()> {
    let mut args = vec!["--http2-prior-knowledge", "--parallel", "--parallel-immediate"];
    args.extend(["-H", "Accept-Encoding: gzip"]);
    args.extend(["--write-out", "%{http_version} %{response_code}\n"]);
    for url in urls {
        args.extend(["--output", "/dev/null", url]);
    }
    let told = curl(&lab.client, &args)?;
    let right = told.lines().filter(|line| *line == "2 200").count();
    ensure!(right == urls.len() && told.lines().count() == right, "curl: {told}");
    Ok(())
}

const CONNECTIONS: usize = 3;

/// curl with a connection for each request; h2load with one request after the other, and with many at
/// once on several connections.
fn send_http2(lab: &Lab) -> Result<Kinds> {
    let at = lab.production.at4(80);
    let urls = |query, only: fn(&str) -> bool| -> Vec<String> {
        targets(query, only).iter().map(|target| format!("http://{at}{target}")).collect()
    };
    let load = |urls: &[String], connections, streams, rounds| {
        h2load(&lab.client, urls, connections, streams, rounds, &["-H", "accept-encoding: gzip"])
    };
    curl_http2(lab, &urls("curl", |_| true))?;
    load(&urls("serial", |_| true), 1, 1, 1)?;
    load(&urls("many", |target| !is_slow(target)), CONNECTIONS, 20, ROUNDS)?;
    load(&urls("many", is_slow), 1, 3, 1)?;
    Ok(vec![("GET", "curl", 1), ("GET", "serial", 1), ("GET", "many", CONNECTIONS * ROUNDS)])
}

/// What one exchange was found to be: method, path, query, verdict, differences, noise.
type Finding = (String, String, String, String, Vec<(String, String)>, u64);

fn expected(kinds: &Kinds, noise: Noise) -> BTreeMap<Finding, usize> {
    let mut map = BTreeMap::new();
    for (method, query, rounds) in kinds {
        for (framing, _) in FRAMINGS {
            for planted in &PLANTED {
                let Planted { path, verdict, found, noise: explained } = planted;
                let heads = *method == HEADS_ONLY;
                let (verdict, found, explained) = match (heads, *verdict) {
                    (true, "slower") => continue,
                    (true, "body") => ("match", &[][..], 0),
                    // A header's.
                    (true, _) => (*verdict, *found, explained / 2),
                    (false, _) => (*verdict, *found, *explained),
                };
                if *method == "POST" && *path == "large" {
                    continue;
                }
                let rounds = if *path == "slow" { 1 } else { *rounds };
                let found = found.iter().map(|(key, kind)| (key.to_string(), kind.to_string()));
                let finding = (
                    method.to_string(),
                    format!("/{framing}/{path}"),
                    query.to_string(),
                    verdict.to_owned(),
                    found.collect(),
                    if noise == Noise::Baseline { explained as u64 } else { 0 },
                );
                *map.entry(finding).or_default() += rounds;
            }
        }
    }
    map
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn finding(line: &Value) -> Finding {
    let text =
        |pointer| line.pointer(pointer).and_then(Value::as_str).unwrap_or("not there").to_owned();
    let diff = &line["shadowtap"]["diff"];
    let differences = texts(&diff["keys"]).into_iter().zip(texts(&diff["kinds"])).collect();
    (
        text("/http/request/method"),
        text("/url/path"),
        text("/url/query"),
        text("/shadowtap/verdict"),
        differences,
        diff["noise"].as_u64().unwrap_or(u64::MAX),
    )
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Tells those that are not as often in both, and no others.
fn check_findings(
    found: &BTreeMap<Finding, usize>,
    expected: &BTreeMap<Finding, usize>,
) -> Result<()> {
    let wrong: Vec<_> = found.keys().chain(expected.keys()).collect();
    let mut told: Vec<String> = wrong
        .into_iter()
        .filter(|key| found.get(*key) != expected.get(*key))
        .map(|key| format!("{key:?}: {:?}, not {:?}", found.get(key), expected.get(key)))
        .collect();
    told.dedup();
    ensure!(told.is_empty(), "{}", told.join("\n"));
    Ok(())
}

/// Of the lines, counted by what `key` gives.
fn count(lines: &[Value], key: impl Fn(&Value) -> String) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(key(line)).or_default() += 1;
    }
    counts
}

fn status(line: &Value, pointer: &str) -> String {
    line.pointer(pointer).map_or("none".to_owned(), Value::to_string)
}

/// The summary has the same figures as the lines.
fn check_summary(books: &Books, lines: &[Value]) -> Result<()> {
    let mut expected = BTreeMap::from([
        ("comparisons.exchanges".to_owned(), lines.len() as u64),
        ("report.offered".to_owned(), lines.len() as u64),
        ("report.written".to_owned(), lines.len() as u64),
        ("exchanges.paired".to_owned(), lines.len() as u64),
    ]);
    let verdict = |line: &Value| line["shadowtap"]["verdict"].as_str().unwrap_or("?").to_owned();
    for (name, times) in count(lines, verdict) {
        expected.insert(format!("comparisons.verdicts.{name}"), times);
    }
    let statuses = count(lines, |line| {
        let [production, shadow] =
            ["/http/response/status_code", "/shadowtap/shadow/http/response/status_code"]
                .map(|pointer| status(line, pointer));
        format!("comparisons.statuses.{production}.{shadow}")
    });
    expected.extend(statuses);
    for (key, times) in &expected {
        let found = books.get(key);
        ensure!(found == *times, "{key} is {found}, not {times}: {:#}", books.json());
    }
    for key in ["comparisons.verdicts", "comparisons.statuses"] {
        ensure!(books.sum(key) == lines.len() as u64, "{key}: {:#}", books.json());
    }
    let mismatches = lines.iter().filter(|line| verdict(line) != "match").count();
    ensure!(books.get("comparisons.mismatches") == mismatches as u64);
    let worst = books.json()["comparisons"]["worst"].as_array().context("the worst")?;
    ensure!(worst.len() == 10, "{worst:#?}");
    for endpoint in worst {
        let here: Vec<_> = lines
            .iter()
            .filter(|line| line["shadowtap"]["endpoint"] == endpoint["endpoint"])
            .cloned()
            .collect();
        ensure!(endpoint["exchanges"] == here.len(), "{endpoint:#}");
        for (name, times) in count(&here, verdict) {
            ensure!(endpoint["verdicts"][&name] == times, "{name}: {endpoint:#}");
        }
    }
    Ok(())
}

/// The metrics have the same figures as the lines, endpoint by endpoint.
fn check_metrics(metrics: &str, lines: &[Value]) -> Result<()> {
    let verdicts = count(lines, |line| {
        let [endpoint, verdict] = ["endpoint", "verdict"].map(|key| &line["shadowtap"][key]);
        format!("shadowtap_comparisons_total{{endpoint={endpoint},result={verdict}}}")
    });
    let mut differences: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines {
        let (endpoint, diff) = (&line["shadowtap"]["endpoint"], &line["shadowtap"]["diff"]);
        // An endpoint's are of one kind here, and noise is of other values.
        let kind = diff["kinds"][0].as_str().unwrap_or("primitive");
        let [counted, noise] = ["count", "noise"].map(|key| diff[key].as_u64().unwrap_or(0));
        for (control, times) in [("raw", counted + noise), ("noise", noise)] {
            let series = format!(
                "shadowtap_field_differences_total{{endpoint={endpoint},kind=\"{kind}\",\
                 control=\"{control}\"}}"
            );
            *differences.entry(series).or_default() += times;
        }
    }
    let all = differences.values().sum::<u64>() as f64;
    let told = sum_metric(metrics, "shadowtap_field_differences");
    ensure!(told == Some(all), "{told:?} differences, not {all}");
    // An endpoint without any has no series.
    differences.retain(|_, times| *times > 0);
    for (series, times) in verdicts.iter().chain(&differences) {
        let wanted = format!("{series} {times}\n");
        ensure!(metrics.contains(&wanted), "{wanted} is not in {metrics}");
    }
    let compared = sum_metric(metrics, "shadowtap_comparisons");
    ensure!(compared == Some(lines.len() as f64), "{compared:?} comparisons");
    Ok(())
}

fn check(version: Version, noise: Noise) -> Result<()> {
    let start = |host: &Host, port, role| {
        let locations = locations(host, role)?;
        match version {
            Version::Http1 => Nginx::start_on_with_locations(host, port, &locations),
            Version::Http2 => Nginx::start_http2_on(host, port, &locations),
        }
    };
    let lab = Lab::new()?;
    let baseline = start(&lab.shadow, 8080, Role::Baseline)?;
    let stage = Stage {
        production: start(&lab.production, 80, Role::Production)?,
        shadow: start(&lab.shadow, 80, Role::Shadow)?,
        lab,
    };
    let report = stage.lab.production.folder().join("report.jsonl");
    let (file, second) = (report.display().to_string(), stage.lab.shadow.at4(8080).to_string());
    let mut flags =
        vec!["--compare", "body", "--report", &file, "--slower", SLOWER, "--drain", "30s"];
    flags.extend(match noise {
        Noise::Baseline => vec!["--baseline", &second],
        Noise::Ignored => vec!["--ignore", "json:$.id", "--ignore", "header:X-Node"],
    });
    let mirror = stage.mirror(Family::V4, &flags)?;
    let kinds = match version {
        Version::Http1 => send_http1(&stage.lab)?,
        Version::Http2 => send_http2(&stage.lab)?,
    };
    let expected = expected(&kinds, noise);
    let sent: usize = expected.values().sum();
    let metrics = wait_for_comparisons(&mirror, sent, LIMIT)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let lines = lines(&report)?;
    let mut found = BTreeMap::new();
    for line in &lines {
        *found.entry(finding(line)).or_default() += 1;
    }
    check_findings(&found, &expected)?;
    ensure!(lines.len() == sent, "{} lines of {sent}", lines.len());
    // Of HTTP/2's requests the books know as exchanges.
    let requests = if version == Version::Http1 { sent } else { 0 };
    check_lossless(&ended.books, requests)?;
    check_summary(&ended.books, &lines)?;
    check_metrics(&metrics, &lines)?;
    if noise == Noise::Baseline {
        ensure!(ended.books.get("baseline.exchanges.paired") == sent as u64);
        wait_for_shadow(&baseline, sent)?;
        ensure!(baseline.logged() == sent, "every request came to the baseline, once");
    }
    Ok(())
}

#[test]
fn http1_with_a_baseline() -> Result<()> {
    check(Version::Http1, Noise::Baseline)
}

#[test]
fn http1_with_fields_ignored() -> Result<()> {
    check(Version::Http1, Noise::Ignored)
}

#[test]
fn http2_with_a_baseline() -> Result<()> {
    check(Version::Http2, Noise::Baseline)
}

#[test]
fn http2_with_fields_ignored() -> Result<()> {
    check(Version::Http2, Noise::Ignored)
}
