//! Whole answers are compared under all the load that production takes: production does not notice, the
//! memory stays within its limit, and what is not compared is counted.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::stat::Mode;
use shadow_lab::{Books, Connection, Host, Lab, Nginx, Request, wait_for, wait_until, wrk};
use shadow_tests::{Family, Stage, at, check_ended};

const LIMIT: Duration = Duration::from_secs(30);
const CONNECTIONS: u32 = 32;
const LOAD: Duration = Duration::from_secs(2);

/// Both legs, with an answer that is small, and takes a while to compare: an array of 100,000 elements
/// in gzip, of which the last differs; and one of 60,000 octets.
fn stage(shadow_rate: &str) -> Result<Stage> {
    let lab = Lab::new()?;
    let start = |host: &Host, last: u8, rate: &str| {
        let folder = host.folder().display();
        fs::write(host.folder().join("array.json"), format!("[{}{last}]", "1,".repeat(100_000)))?;
        host.run("gzip", [host.folder().join("array.json")])?;
        fs::write(host.folder().join("long.txt"), vec![b'x'; 60_000])?;
        let padding = "x".repeat(2_000);
        let locations = format!(
            "location = /array {{ alias {folder}/array.json.gz; default_type application/json; types {{}}
                 add_header Content-Encoding gzip; add_header X-Padding {padding}; }}
             location = /long {{ alias {folder}/long.txt; limit_rate {rate}; }}"
        );
        Nginx::start_with_locations(host, &locations)
    };
    Ok(Stage {
        production: start(&lab.production, 1, "0")?,
        shadow: start(&lab.shadow, 2, shadow_rate)?,
        lab,
    })
}

/// Loads production's `path` while `--compare body` runs with further flags, and checks what must hold
/// whatever they are.
fn saturate(stage: &Stage, path: &str, memory_limit: u64, flags: &[&str]) -> Result<Books> {
    let limit = memory_limit.to_string();
    let fixed = ["--compare", "body", "--memory-limit", &limit, "--live", "off", "--drain", "2s"];
    let mirror = stage.mirror(Family::V4, &[&fixed[..], flags].concat())?;
    let url = format!("http://{}{path}", at(&stage.lab.production, Family::V4));
    let (stop, resident) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                resident.fetch_max(mirror.process.resident(), Ordering::Relaxed);
                sleep(Duration::from_millis(2));
            }
        });
        let load = wrk(&stage.lab.client, &url, CONNECTIONS, LOAD);
        stop.store(true, Ordering::Relaxed);
        load
    })?;
    let last = mirror.process.resident();
    let began = Instant::now();
    let ended = mirror.stop()?;
    let took = began.elapsed();
    check_ended(&ended)?;
    let resident = resident.into_inner().max(last);
    let books = ended.books;
    let [packets, responses] = ["packets.lost", "responses.lost"].map(|key| books.sum(key));
    println!(
        "{load:?}; {} of {} MiB resident; {packets} packets and {responses} responses lost; {:#}",
        resident >> 20,
        memory_limit >> 20,
        books.json()["exchanges"],
    );
    // Drain, the last exchanges and the last lines have 9 s together.
    ensure!(took < Duration::from_secs(20), "{took:?} until it had ended");
    ensure!(load.requests > 0 && load.socket_errors == 0 && load.bad_statuses == 0, "{load:?}");
    // What wrk had asked when its time was over is answered, and not counted by it.
    let (least, most) = (load.requests as usize, load.requests as usize + CONNECTIONS as usize);
    wait_until("production's log", LIMIT, || stage.production.logged() >= least)?;
    let logged = stage.production.logged();
    ensure!((least..=most).contains(&logged), "{logged} logged, {least} answered");
    ensure!(resident > 0 && resident <= memory_limit, "{resident} octets resident");
    let [compared, looked_at, stopped] =
        ["exchanges.compared", "comparisons.exchanges", "comparisons.stopped"]
            .map(|key| books.get(key));
    ensure!(compared > 0 && compared == looked_at + stopped, "{:#}", books.json());
    Ok(books)
}

#[test]
fn what_cannot_be_compared_in_time_is_shed() -> Result<()> {
    let stage = stage("0")?;
    let books = saturate(&stage, "/array", 192 << 20, &[])?;
    ensure!(books.get("exchanges.shed.queue_full") > 0, "{:#}", books.json());
    ensure!(books.get("comparisons.verdicts.body") > 0, "{:#}", books.json());
    Ok(())
}

/// A reader that is slower than the load.
fn read_slowly(pipe: &Path, stop: &AtomicBool) -> Result<()> {
    let mut reader = File::open(pipe)?;
    let mut piece = [0; 4_096];
    while !stop.load(Ordering::Relaxed) && reader.read(&mut piece)? > 0 {
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn what_cannot_be_reported_in_time_is_dropped() -> Result<()> {
    let stage = stage("0")?;
    let pipe = stage.lab.production.folder().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU)?;
    let file = pipe.display().to_string();
    let stop = AtomicBool::new(false);
    let books = std::thread::scope(|scope| {
        scope.spawn(|| read_slowly(&pipe, &stop));
        let flags = ["--report", &file, "--report-bodies"];
        let books = saturate(&stage, "/1k.bin", 192 << 20, &flags);
        stop.store(true, Ordering::Relaxed);
        books
    })?;
    let [offered, written, dropped] =
        ["report.offered", "report.written", "report.dropped"].map(|key| books.sum(key));
    ensure!(offered == written + dropped, "{:#}", books.json());
    ensure!(books.get("report.dropped.queue_full") > 0, "{:#}", books.json());
    Ok(())
}

/// Exchanges take the memory here: the shadow is slow, and a body is kept of each answer of
/// production's until its own has come. They go, and the sessions stay.
#[test]
fn exchanges_are_given_up_before_any_session() -> Result<()> {
    let stage = stage("1")?;
    // Of these 80 MiB, 5 are left for flows.
    let flags = ["--compare", "body", "--ring-size", "1MiB", "--memory-limit", "80MiB"];
    let mirror = stage.mirror(Family::V4, &flags)?;
    let mut kept = Vec::new();
    let shed = "shadowtap_exchanges_unpaired_shadow_total{reason=\"shed\"} ";
    wait_for("exchanges to be shed", LIMIT, || {
        let stream = stage.lab.client.connect(at(&stage.lab.production, Family::V4), LIMIT)?;
        let mut connection = Connection::new(stream, LIMIT)?;
        let response = connection.exchange(&Request::get("/long"))?;
        ensure!(response.status == 200 && response.body.len() == 60_000);
        kept.push(connection);
        let metrics = mirror.metrics()?;
        let count = metrics.lines().find_map(|line| line.strip_prefix(shed)?.parse().ok());
        Ok((count.unwrap_or(0.0) >= 10.0).then_some(()))
    })?;
    wait_until("every flow to be open", LIMIT, || {
        let open = mirror.metric("shadowtap_flows_open").ok().flatten();
        open == Some(kept.len() as f64)
    })?;
    ensure!(mirror.process.resident() < 74 << 20);
    println!("{} flows", kept.len());
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    for key in ["flows.aborted.memory", "flows.skipped.memory", "responses.lost.ring_full"] {
        ensure!(books.get(key) == 0, "{key}: {:#}", books.json());
    }
    Ok(())
}
