//! A program that is asked about each request, real and in Python: what it passes, changes and drops, and
//! what it costs when it fails.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use shadow_lab::{
    Body, Connection, Mirror, Nginx, Request, Tcpdump, content, sha256_hex, wait_for,
};
use shadow_tests::{Family, Stage, at, check_counts, check_ended, shadowtap};

/// Long enough for whatever a busy host does.
const LONG: Duration = Duration::from_secs(30);

/// A program where nobody else's rights are needed to read it; it goes when dropped.
struct Program(PathBuf);

impl Program {
    fn new(name: &str, source: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("shadowtap-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        let program = Self(folder.join("filter.py"));
        fs::copy(source, &program.0).with_context(|| format!("copy {}", source.display()))?;
        fs::set_permissions(&program.0, fs::Permissions::from_mode(0o755))?;
        Ok(program)
    }

    fn example(name: &str) -> Result<Self> {
        Self::new(name, &repository().join("contrib/filter.py"))
    }

    fn faults(name: &str) -> Result<Self> {
        Self::new(name, &repository().join("tests/tests/middleware/faults.py"))
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(folder) = self.0.parent() {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(""))
}

const LOCATIONS: &str = "        location ~ ^/(orders|payments/) { rewrite .* /digest last; }";

fn connect(stage: &Stage) -> Result<Connection> {
    let production = at(&stage.lab.production, Family::V4);
    Ok(Connection::new(stage.lab.client.connect(production, Duration::from_secs(5))?, LONG)?)
}

/// Requests of one connection, and the hash of the body with which the shadow gets each, if it does.
fn requests(connection: usize) -> Vec<(Request, Option<String>)> {
    let mut requests = Vec::new();
    let mut add = |request: Request, wished: Option<String>| {
        let id = format!("{connection}-{}", requests.len());
        requests.push((request.header("X-Request-Id", id), wished));
    };
    for round in 0..3 {
        add(Request::get("/1k.bin?a=b"), Some(sha256_hex(b"")));
        let body = content(connection * 100 + round, 1 << (6 * round)).to_vec();
        let [length, chunked] = [Body::Length(body.clone()), Body::Chunked(body.clone(), 900)];
        for body_as in [length, chunked] {
            let mut request = Request::post("/digest", Vec::new()).header("Content-Type", "a/b");
            request.body = body_as;
            add(request, Some(sha256_hex(&body)));
        }
        add(Request::post("/payments/7", b"card=4111".to_vec()), None);
        let order = format!(r#"{{"card": "4111", "number": {round}}}"#);
        // As Python writes it, with the card masked before.
        let marked = format!(r#"{{"card": "GONE", "number": {round}, "test": true}}"#);
        let json = |body: &str| {
            Request::post("/orders", body.as_bytes().to_vec())
                .header("Content-Type", "application/json")
        };
        add(json(&order), Some(sha256_hex(marked.as_bytes())));
        // Neither the mask nor the program can do anything with these.
        add(json(&order[1..]), None);
        let long = Request::post("/digest", vec![b'x'; 70_000]);
        add(long.header("Content-Type", "a/b"), None);
    }
    requests
}

#[test]
fn the_example_passes_changes_and_drops() -> Result<()> {
    let stage = Stage::with_locations(LOCATIONS, LOCATIONS)?;
    let program = Program::example("example")?;
    let flags = [
        "--filter-exec",
        &program.path(),
        "--filter-timeout",
        "20s",
        "--mask-json",
        "$.card=GONE",
        "--mask-limit",
        "64KiB",
        "--set-header",
        "X-Shadow: 1",
        "--compare",
        "body",
        "--gate-timeout",
        "30s",
        "--drain",
        "30s",
    ];
    let capture = Tcpdump::start_whole(&stage.lab.shadow, "eth0", "tcp and dst port 80")?;
    let mirror = stage.mirror(Family::V4, &flags)?;
    let mut wished = Vec::new();
    for number in 0..4 {
        let all = requests(number);
        let mut connection = connect(&stage)?;
        if number % 2 == 0 {
            for (request, _) in &all {
                ensure!(connection.exchange(request)?.status == 200, "{}", request.uri);
            }
        } else {
            let octets: Vec<u8> =
                all.iter().flat_map(|(one, _)| [one.head(), one.framed_body()].concat()).collect();
            let mut writer = connection.stream().try_clone()?;
            std::thread::scope(|scope| -> Result<()> {
                let written = scope.spawn(move || writer.write_all(&octets));
                for (request, _) in &all {
                    ensure!(connection.receive(false)?.status == 200, "{}", request.uri);
                }
                Ok(written.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
            })?;
        }
        wished.extend(all.into_iter().filter_map(|(one, hash)| {
            Some((one.headers.iter().find(|(name, _)| *name == "X-Request-Id")?.1.clone(), hash?))
        }));
    }
    let shadow = stage.shadow.log_of(wished.len())?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    // In the order of each connection, whose sessions may overlap.
    let by_connection = |mut list: Vec<(String, String)>| {
        list.sort_by_key(|(id, _)| id.split('-').next().map(str::to_owned));
        list
    };
    let empty = sha256_hex(b"");
    let got = shadow.into_iter().map(|entry| {
        let hash = if entry.body_sha256.is_empty() { empty.clone() } else { entry.body_sha256 };
        (entry.id, hash)
    });
    let (got, expected) = (by_connection(got.collect()), by_connection(wished.clone()));
    ensure!(got == expected, "{got:#?} is not {expected:#?}");
    let capture = fs::read(capture.stop()?.file())?;
    let count = |text: &str| {
        capture.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    };
    ensure!(count("X-Test: 1\r\n") == 12 && count("4111") == 0 && count("X-Shadow: 1") > 12);
    let sent = wished.len();
    check_counts(
        &ended.books,
        &[
            ("requests.seen", 84),
            ("requests.answered", sent),
            ("requests.skipped.filter_exec_dropped", 12),
            ("requests.skipped.filter_exec_unaskable", 12),
            ("requests.skipped.unmaskable", 12),
            ("filter_exec.asked", sent + 12),
            ("filter_exec.passed", sent - 12),
            ("filter_exec.revised", 12),
            ("filter_exec.restarts", 0),
            ("exchanges.paired", sent),
            ("flows.mirrored", 4),
        ],
    )
}

#[test]
fn each_shadow_asks_for_itself() -> Result<()> {
    let stage = Stage::with_locations(LOCATIONS, LOCATIONS)?;
    let other = Nginx::start_on_with_locations(&stage.lab.shadow, 8080, LOCATIONS)?;
    let program = Program::example("both")?;
    let second = stage.lab.shadow.at4(8080).to_string();
    let flags = ["--shadow", &second, "--filter-exec", &program.path(), "--filter-timeout", "20s"];
    let mirror = stage.mirror(Family::V4, &flags)?;
    let mut connection = connect(&stage)?;
    for number in 0..20 {
        let path = if number % 2 == 0 { "/payments/1" } else { "/1k.bin" };
        let request = Request::get(path).header("X-Request-Id", number.to_string());
        ensure!(connection.exchange(&request)?.status == 200);
    }
    drop(connection);
    let logs = [stage.shadow.log_of(10)?, other.log_of(10)?];
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    for log in logs {
        let ids: Vec<_> = log.iter().map(|entry| entry.id.clone()).collect();
        let odd = (0..10).map(|one| (2 * one + 1).to_string());
        ensure!(ids == odd.collect::<Vec<_>>(), "{ids:?}");
    }
    let other = &ended.books.json()["other_shadows"][0]["requests"]["skipped"];
    ensure!(other["filter_exec_dropped"] == 10, "{other}");
    let dropped = ("requests.skipped.filter_exec_dropped", 10);
    check_counts(&ended.books, &[dropped, ("filter_exec.asked", 40), ("filter_exec.passed", 20)])
}

/// Waits until a counter has come so far.
fn wait_for_count(mirror: &Mirror, name: &str, count: u64) -> Result<()> {
    wait_for(&format!("{name} to be {count}"), LONG, || {
        let found = mirror.metric(&format!("shadowtap_{name}"))?;
        Ok(found.is_some_and(|found| found >= count as f64).then_some(()))
    })
}

#[test]
fn a_program_that_fails_costs_no_more_than_its_requests() -> Result<()> {
    let stage = Stage::with_locations(LOCATIONS, LOCATIONS)?;
    let program = Program::faults("faults")?;
    let flags = [
        "--filter-exec",
        &program.path(),
        "--filter-timeout",
        "400ms",
        "--gate-timeout",
        "30s",
        "--drain",
        "30s",
    ];
    let capture = Tcpdump::start_whole(&stage.lab.shadow, "eth0", "tcp and dst port 80")?;
    let mirror = stage.mirror(Family::V4, &flags)?;
    let mut connection = connect(&stage)?;
    let mut count = 0;
    let mut send = |fault: &str| {
        count += 1;
        let request = Request::get(&format!("/1k.bin?{fault}"));
        let response = connection.exchange(&request.header("X-Request-Id", fault))?;
        ensure!(response.status == 200, "{fault}: {}", response.status);
        Ok(())
    };
    for fault in ["a", "hang", "b", "inject", "c", "babble", "d", "crash"] {
        send(fault)?;
    }
    // Its keep-alive connection goes on when there is somebody to ask again.
    wait_for_count(&mirror, "filter_exec_restarts", 1)?;
    send("e")?;
    wait_for_count(&mirror, "requests_answered", 6)?;
    send("freeze")?;
    wait_for_count(&mirror, "filter_exec_restarts", 2)?;
    send("f")?;
    wait_for_count(&mirror, "requests_answered", 7)?;
    drop(connection);
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let shadow = stage.shadow.log_of(7)?;
    let ids: Vec<_> = shadow.iter().map(|entry| &*entry.id).collect();
    ensure!(ids == ["a", "b", "c", "babble", "d", "e", "f"], "{ids:?}");
    let capture = fs::read(capture.stop()?.file())?;
    ensure!(!capture.windows(8).any(|window| window == b"Injected"));
    ensure!(ended.stderr.contains("exit status: 3"), "{}", ended.stderr);
    ensure!(ended.stderr.contains("has answered nothing"), "{}", ended.stderr);
    ensure!(ended.stderr.contains("answers wrongly"), "{}", ended.stderr);
    check_counts(
        &ended.books,
        &[
            ("requests.seen", 11),
            ("requests.answered", 7),
            ("requests.skipped.filter_exec_timeout", 2),
            ("requests.skipped.filter_exec_malformed", 1),
            ("requests.skipped.filter_exec_down", 1),
            ("filter_exec.restarts", 2),
            ("filter_exec.unreadable", 2),
            ("flows.mirrored", 1),
        ],
    )
}

/// What the program has told of itself at its start.
fn facts(stderr: &str) -> Result<Value> {
    let line = stderr.lines().find_map(|line| line.split_once("facts ")).context("no facts")?.1;
    // The log escapes what might end a line.
    Ok(serde_json::from_str(&line.replace("\\\"", "\""))?)
}

#[test]
fn the_program_has_no_rights_and_goes_with_the_mirror() -> Result<()> {
    let stage = Stage::with_locations(LOCATIONS, LOCATIONS)?;
    let program = Program::faults("rights")?;
    let start = || stage.mirror(Family::V4, &["--filter-exec", &program.path()]);
    let ended = start()?.stop()?;
    let facts = facts(&ended.stderr)?;
    ensure!(facts["uid"] == 65_534 && facts["groups"] == serde_json::json!([]), "{facts}");
    ensure!(facts["capabilities"] == 0 && facts["no_new_privs"] == 1, "{facts}");
    ensure!(facts["fds"] == serde_json::json!([0, 1, 2]), "{facts}");
    let names: Vec<_> = facts["environment"].as_array().into_iter().flatten().collect();
    ensure!(names.iter().all(|name| *name != "HOME"), "{facts}");
    let gone = |path: &str| {
        let running = || -> Result<bool> {
            let entries = fs::read_dir("/proc")?.flatten();
            let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
            Ok(lines.into_iter().any(|line| String::from_utf8_lossy(&line).contains(path)))
        };
        wait_for("the program to be gone", LONG, || Ok((!running()?).then_some(())))
    };
    gone(&program.path())?;
    // Killed, the mirror writes no summary.
    let killed = start()?;
    ensure!(killed.stop_with(Signal::SIGKILL).is_err());
    gone(&program.path())
}

#[test]
fn a_program_that_cannot_be_started_is_refused() -> Result<()> {
    let stage = Stage::with_locations(LOCATIONS, LOCATIONS)?;
    let folder = Program::example("refused")?;
    let plain = folder.0.with_file_name("plain");
    fs::write(&plain, "#!/bin/sh\n")?;
    let script = folder.0.with_file_name("script");
    fs::write(&script, "#!/no/such/interpreter\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let good = ["mirror", "--iface", "eth0", "--port", "80", "--shadow", "10.77.0.3:80"];
    let [plain, script] = [plain, script].map(|path| path.display().to_string());
    for (flags, what) in [
        (&["--filter-exec", "/no/such"][..], "cannot be found"),
        (&["--filter-exec", "/tmp"], "is no file"),
        (&["--filter-exec", &plain], "is not executable"),
        (&["--filter-exec", &script], "cannot be started"),
        (&["--filter-exec", &script, "--filter-timeout", "2min"], "out of bounds"),
        (&["--filter-timeout", "2s"], "no program is asked"),
    ] {
        let output = shadowtap(&stage.lab.production, &[&good[..], flags].concat())?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_refusal = output.status.code() == Some(2) && text.trim_end().lines().count() == 1;
        ensure!(is_refusal && text.contains(what) && text.contains(';'), "{flags:?}: {text}");
    }
    Ok(())
}
