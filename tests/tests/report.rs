//! The report: planted differences are found and nothing else, with exact counts, wherever they are
//! told; and a report that cannot be written is counted and not felt.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use shadow_lab::{
    Connection, Ended, Lab, Mirror, Nginx, Prometheus, Request, contrib, lint_metrics, wait_for,
    wait_until,
};
use shadow_tests::{Family, Stage, check_ended, wait_for_comparisons};

const LIMIT: Duration = Duration::from_secs(30);

/// Both legs' locations, but for what is planted.
fn locations(status: u16, version: u8, price: u8, items: &str, rate: &str) -> String {
    format!(
        r#"
        default_type application/json;
        gzip on;
        gzip_types application/json;
        gzip_min_length 1;
        location = /same {{ return 200 '{{"a":1}}'; }}
        location = /status {{ return {status} '{{"a":1}}'; }}
        location = /header {{ add_header X-Version {version}; return 200 '{{"a":1}}'; }}
        location = /field {{ return 200 '{{"name":"x","price":{price}}}'; }}
        location = /order {{ return 200 '{{"items":[{items}]}}'; }}
        location = /random {{ return 200 '{{"id":"$request_id","ok":true}}'; }}
        location ^~ /users/ {{ return 200 '{{"ok":true}}'; }}
        location = /late {{ alias FILES/1k.bin; limit_rate {rate}; }}
"#
    )
}

fn stage() -> Result<Stage> {
    let lab = Lab::new()?;
    let start = |host: &shadow_lab::Host, text: String| {
        let files = host.folder().join("nginx-80/files");
        Nginx::start_with_locations(host, &text.replace("FILES", &files.display().to_string()))
    };
    Ok(Stage {
        production: start(&lab.production, locations(200, 1, 1, "1,2,3", "0"))?,
        shadow: start(&lab.shadow, locations(503, 2, 2, "3,1,2", "1k"))?,
        lab,
    })
}

/// Path, verdict, and the fields that differ.
const PLANTED: [(&str, &str, &[&str]); 8] = [
    ("/same", "match", &[]),
    ("/status", "status", &["status"]),
    ("/header", "headers", &["header.x-version"]),
    ("/field", "body", &["body.price"]),
    ("/order", "body", &["body.items"]),
    ("/random", "body", &["body.id"]),
    ("/users/7?q=1", "match", &[]),
    ("/late", "slower", &[]),
];

/// So often each but `/late`, which is slow.
const ROUNDS: usize = 20;

fn rounds(path: &str) -> usize {
    if path == "/late" { 1 } else { ROUNDS }
}

fn connect(stage: &Stage) -> Result<Connection> {
    let stream = stage.lab.client.connect(stage.lab.production.at4(80), LIMIT)?;
    Ok(Connection::new(stream, LIMIT)?)
}

/// Every planted path in turn, on one connection, then pipelined on another.
fn send(stage: &Stage) -> Result<usize> {
    let mut sent = 0;
    let mut kept = connect(stage)?;
    for round in 0..ROUNDS / 2 {
        for (path, ..) in PLANTED.iter().filter(|(path, ..)| round < rounds(path)) {
            let mut request = Request::get(path);
            if round % 2 == 1 {
                request = request.header("Accept-Encoding", "gzip");
            }
            ensure!(kept.exchange(&request)?.status == 200, "{path}");
            sent += 1;
        }
    }
    let mut pipelined = connect(stage)?;
    let paths: Vec<_> = PLANTED.iter().filter(|(path, ..)| rounds(path) > 1).collect();
    for _ in 0..ROUNDS / 2 {
        let heads: Vec<u8> =
            paths.iter().flat_map(|(path, ..)| Request::get(path).head()).collect();
        pipelined.write(&heads)?;
        for (path, ..) in &paths {
            ensure!(pipelined.receive(false)?.status == 200, "{path}");
            sent += 1;
        }
    }
    Ok(sent)
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn count_lines(path: &Path) -> usize {
    fs::read(path).unwrap_or_default().iter().filter(|octet| **octet == b'\n').count()
}

/// Of lines: how often each verdict for each path.
fn verdicts(lines: &[Value]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        let path = line["url"]["original"].as_str().unwrap_or("?").to_owned();
        let verdict = line["shadowtap"]["verdict"].as_str().unwrap_or("?").to_owned();
        *counts.entry((path, verdict)).or_default() += 1;
    }
    counts
}

#[test]
fn planted_differences_are_found_and_nothing_else() -> Result<()> {
    let stage = stage()?;
    let report = stage.lab.production.folder().join("report.jsonl");
    let file = report.display().to_string();
    let flags = [
        ["--compare", "body"],
        ["--report", &file],
        ["--fail-on", "mismatch>0.1%"],
        ["--fail-on", "missing>0"],
    ];
    let mirror = stage.mirror(Family::V4, flags.as_flattened())?;
    let prometheus = Prometheus::start(&stage.lab.production, &mirror.listen())?;
    let sent = send(&stage)?;
    let metrics = wait_for_comparisons(&mirror, sent, LIMIT)?;
    lint_metrics(&stage.lab.production, &metrics)?;
    check_prometheus(&prometheus, &metrics, sent)?;
    drop(prometheus);
    let ended = mirror.stop()?;

    let lines = lines(&report)?;
    let expected: BTreeMap<_, _> = PLANTED
        .iter()
        .map(|(path, verdict, _)| (((*path).to_owned(), (*verdict).to_owned()), rounds(path)))
        .collect();
    let found = verdicts(&lines);
    ensure!(found == expected, "{found:#?}\n{:#}", ended.books.json());
    for line in &lines {
        check_line(line)?;
    }
    check_contrib(&lines)?;
    check_summary(&ended, sent)
}

fn check_line(line: &Value) -> Result<()> {
    let target = line["url"]["original"].as_str().context("a target")?;
    let (_, _, keys) = PLANTED.iter().find(|(path, ..)| *path == target).context("a path")?;
    let found: Vec<_> =
        line["shadowtap"]["diff"]["keys"].as_array().context("keys")?.iter().collect();
    ensure!(found == *keys, "{line:#}");
    let long = |path: &str| line.pointer(path).and_then(Value::as_i64);
    let [production, shadow] = ["/event/duration", "/shadowtap/shadow/event/duration"].map(long);
    let (production, shadow) = (production.context("duration")?, shadow.context("duration")?);
    ensure!(production > 0 && shadow > 0, "{line:#}");
    ensure!(long("/shadowtap/duration_delta") == Some(shadow - production), "{line:#}");
    ensure!(long("/http/response/status_code") == Some(200), "{line:#}");
    if target.starts_with("/users/") {
        ensure!(line["shadowtap"]["endpoint"] == "GET /users/{id}", "{line:#}");
        ensure!(line["url"]["path"] == "/users/7" && line["url"]["query"] == "q=1", "{line:#}");
    }
    let text = line.to_string();
    ensure!(!text.contains("content"), "nobody asked for bodies: {text}");
    Ok(())
}

/// Every field has its mapping, and what the pipelines name is there.
fn check_contrib(lines: &[Value]) -> Result<()> {
    let template = serde_json::from_str(&contrib::read("elasticsearch/shadowtap-template.json")?)?;
    for line in lines {
        let unmapped = contrib::unmapped(&template, line);
        ensure!(unmapped.is_empty(), "{unmapped:#?}\n{line:#}");
    }
    Ok(())
}

/// A real Prometheus has the same counts, and an answer to every query of the dashboard.
fn check_prometheus(prometheus: &Prometheus, metrics: &str, sent: usize) -> Result<()> {
    let total = format!("sum(shadowtap_comparisons_total) == {sent}");
    wait_until("Prometheus' own count", LIMIT, || {
        prometheus.query(&total).is_ok_and(|samples| samples.len() == 1)
    })?;
    let status = "shadowtap_requests_total{leg=\"shadow\",http_response_status_code=\"503\"}";
    let samples = prometheus.query(&format!("{status} == {ROUNDS}"))?;
    ensure!(samples.len() == 1, "{status}: {samples:?}");
    let dashboard = serde_json::from_str(&contrib::read("grafana/shadowtap.json")?)?;
    let known = contrib::metric_names(metrics);
    for query in contrib::queries(&dashboard) {
        for name in contrib::metric_names(&query) {
            ensure!(known.contains(name), "the dashboard asks for {name}, which is not there");
        }
        prometheus.query(&query)?;
    }
    Ok(())
}

fn check_summary(ended: &Ended, sent: usize) -> Result<()> {
    let books = &ended.books;
    books.assert_balanced();
    ensure!(ended.status.code() == Some(1), "{}: {}", ended.status, ended.stderr);
    let reason = ended.stderr.lines().last().unwrap_or_default();
    ensure!(reason.contains("mismatch>0.1%") && !reason.contains("missing"), "{}", ended.stderr);
    let expected = [
        ("comparisons.exchanges", sent),
        ("comparisons.verdicts.match", 2 * ROUNDS),
        ("comparisons.verdicts.status", ROUNDS),
        ("comparisons.verdicts.headers", ROUNDS),
        ("comparisons.verdicts.body", 3 * ROUNDS),
        ("comparisons.verdicts.slower", 1),
        ("comparisons.verdicts.missing", 0),
        ("comparisons.verdicts.unpaired", 0),
        ("comparisons.statuses.200.200", sent - ROUNDS),
        ("comparisons.statuses.200.503", ROUNDS),
        ("report.offered", sent),
        ("report.written", sent),
    ];
    for (key, count) in expected {
        ensure!(books.get(key) == count as u64, "{key} is not {count}: {:#}", books.json());
    }
    ensure!(books.sum("report.dropped") == 0);
    let outcome = &books.json()["fail_on"];
    ensure!(outcome[0]["failed"] == true && outcome[1]["failed"] == false, "{outcome}");
    Ok(())
}

/// Random ids are noise once a run of production's version against itself has shown them; the rest of
/// what differs still counts.
#[test]
fn learnt_noise_does_not_count() -> Result<()> {
    let lab = Lab::new()?;
    let same = locations(200, 1, 1, "1,2,3", "0");
    let stage = Stage {
        production: Nginx::start_with_locations(&lab.production, &same)?,
        shadow: Nginx::start_with_locations(&lab.shadow, &same)?,
        lab,
    };
    let folder = stage.lab.production.folder();
    let noise = folder.join("noise.json").display().to_string();
    let ask = |path: &str| -> Result<usize> {
        let mut kept = connect(&stage)?;
        for _ in 0..ROUNDS {
            ensure!(kept.exchange(&Request::get(path))?.status == 200, "{path}");
        }
        Ok(ROUNDS)
    };
    let mirror = stage.mirror(Family::V4, &["--compare", "body", "--learn-noise", &noise])?;
    wait_for_comparisons(&mirror, ask("/random")? + ask("/same")?, LIMIT)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    ensure!(ended.books.get("comparisons.verdicts.body") == ROUNDS as u64);

    let flags = [
        ["--compare", "body"],
        ["--noise", &noise],
        ["--report", "-"],
        ["--fail-on", "mismatch>0"],
        ["--fail-on", "compared<20"],
    ];
    let mirror = stage.mirror(Family::V4, flags.as_flattened())?;
    let metrics = wait_for_comparisons(&mirror, ask("/random")?, LIMIT)?;
    let control = |control| {
        format!(
            "shadowtap_field_differences_total{{endpoint=\"GET /random\",kind=\"primitive\",\
             control=\"{control}\"}} {ROUNDS}\n"
        )
    };
    ensure!(metrics.contains(&control("raw")) && metrics.contains(&control("noise")), "{metrics}");
    let stdout = mirror.process.stdout_file();
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    ensure!(ended.books.get("comparisons.verdicts.match") == ROUNDS as u64, "{}", ended.stderr);
    // Standard output has the report and nothing else.
    let lines = lines(&stdout)?;
    ensure!(lines.len() == ROUNDS, "{} lines", lines.len());
    for line in &lines {
        let diff = &line["shadowtap"]["diff"];
        ensure!(diff["count"] == 0 && diff["noise"] == 1, "{line:#}");
    }
    ensure!(ended.stderr.contains("The books balance."), "the text goes to standard error");
    Ok(())
}

/// A file system of its own, as small as it gets. Gone when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(path: PathBuf, size: &str) -> Result<Self> {
        fs::create_dir_all(&path)?;
        let options = format!("size={size}");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .status()
            .context("run mount")?;
        ensure!(status.success(), "mount: {status}");
        Ok(Self(path))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_and_a_renamed_file_cost_lines_only() -> Result<()> {
    let stage = stage()?;
    let small = Tmpfs::mount(stage.lab.production.folder().join("small"), "256k")?;
    let (report, ballast) = (small.0.join("report.jsonl"), small.0.join("ballast"));
    fs::write(&ballast, vec![0; 200 << 10])?;
    let file = report.display().to_string();
    let mut mirror = stage.mirror(Family::V4, &["--compare", "body", "--report", &file])?;
    let mut sent = 0;
    let lost = |mirror: &Mirror| -> Result<f64> {
        let series = "shadowtap_dropped_total{stage=\"report\",reason=\"storage_full\"} ";
        let metrics = mirror.metrics()?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.parse().ok());
        value.with_context(|| format!("{series}is not in {metrics}"))
    };
    wait_for("a full disk", LIMIT, || {
        sent += send_quick(&stage)?;
        Ok((lost(&mirror)? > 0.0).then_some(()))
    })?;
    // Room again: what was begun is finished, and nothing is torn.
    fs::remove_file(&ballast)?;
    let before = count_lines(&report);
    wait_for("lines again", LIMIT, || {
        sent += send_quick(&stage)?;
        Ok((count_lines(&report) > before + 50).then_some(()))
    })?;
    // Renamed, as logrotate does it.
    let old = stage.lab.production.folder().join("report.jsonl.1");
    wait_for_comparisons(&mirror, sent, LIMIT)?;
    fs::copy(&report, &old)?;
    fs::remove_file(&report)?;
    mirror.process.signal(Signal::SIGHUP)?;
    wait_until("the new file", LIMIT, || report.exists())?;
    sent += send_quick(&stage)?;
    wait_for_comparisons(&mirror, sent, LIMIT)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    let written = lines(&old)?.len() + lines(&report)?.len();
    ensure!(books.get("report.offered") == sent as u64, "{:#}", books.json());
    ensure!(books.get("report.written") == written as u64, "{written}: {:#}", books.json());
    ensure!(
        books.get("report.dropped.storage_full") == (sent - written) as u64
            && books.sum("report.dropped") == (sent - written) as u64,
        "{:#}",
        books.json()
    );
    ensure!(books.get("requests.answered") == sent as u64, "{:#}", books.json());
    Ok(())
}

#[test]
fn a_reader_that_leaves_ends_neither_the_mirror_nor_the_report() -> Result<()> {
    let stage = stage()?;
    let pipe = stage.lab.production.folder().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
    let file = pipe.display().to_string();
    let mirror = stage.mirror(Family::V4, &["--report", &file])?;
    let mut sent = 0;
    let gone = "shadowtap_dropped_total{stage=\"report\",reason=\"reader_gone\"}";
    for _ in 0..2 {
        // A reader that reads one line and leaves.
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut line = String::new();
                let reader = fs::File::open(pipe)?;
                std::io::BufRead::read_line(&mut std::io::BufReader::new(reader), &mut line)?;
                Ok::<_, std::io::Error>(line)
            }
        });
        while !reader.is_finished() {
            sent += send_quick(&stage)?;
        }
        let line = reader.join().expect("no panic")?;
        let line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        ensure!(line["event"]["dataset"] == "shadowtap.exchange");
        let before = mirror.metrics()?;
        let lost = |metrics: &str| {
            let line =
                metrics.lines().find_map(|line| line.strip_prefix(gone)?.trim().parse().ok());
            line.unwrap_or(0.0)
        };
        wait_for("lines without a reader", LIMIT, || {
            sent += send_quick(&stage)?;
            Ok((lost(&mirror.metrics()?) > lost(&before)).then_some(()))
        })?;
    }
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    let offered = books.get("report.offered");
    // On a busy host the comparison sheds some, which is counted before any report.
    ensure!(offered + books.sum("exchanges.shed") == sent as u64, "{sent}: {:#}", books.json());
    let known = books.get("report.written") + books.sum("report.dropped");
    ensure!(known == offered, "{:#}", books.json());
    Ok(())
}

/// A few dozen requests on one connection.
fn send_quick(stage: &Stage) -> Result<usize> {
    let mut kept = connect(stage)?;
    for _ in 0..40 {
        ensure!(kept.exchange(&Request::get("/field"))?.status == 200);
    }
    Ok(40)
}
