//! The host comes first: a mirror that takes too much, and one whose host is under pressure, mirrors
//! less by itself, gives up sessions where that is not enough, and takes up more again.

use std::net::{TcpListener, TcpStream};
use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use shadow_lab::{Host, Mirror, Paced, Process, paced, wait_for};
use shadow_tests::{Family, Stage, check_ended, ctl};

/// For what follows within a second or two.
const SOON: Duration = Duration::from_secs(20);

/// For what has to wait until the host is calm, for which a test can do nothing.
const LATER: Duration = Duration::from_secs(60);

/// A figure of the mirror on `host`, such as `pressure.share_ratio`.
fn figure(host: &Host, key: &str) -> Result<f64> {
    let status: Value = serde_json::from_str(&ctl(host, &["status", "--json"])?)?;
    let pointer = format!("/books/{}", key.replace('.', "/"));
    status.pointer(&pointer).and_then(Value::as_f64).with_context(|| format!("{key}: {status:#}"))
}

/// Waits until a figure is at least so much.
fn wait_for_figure(host: &Host, key: &str, least: f64, limit: Duration) -> Result<f64> {
    wait_for(&format!("{key} of {least}"), limit, || {
        // Being asked is work for the mirror, too.
        sleep(Duration::from_millis(500));
        Ok(Some(figure(host, key)?).filter(|value| *value >= least))
    })
}

#[test]
fn a_mirror_that_takes_too_much_sheds_and_takes_up_more_again() -> Result<()> {
    let stage = Stage::new()?;
    let Stage { lab, .. } = &stage;
    let flags = ["--cpu-limit", "5%", "--sample-by", "connection", "--live", "off"];
    let mirror = stage.mirror(Family::V4, &flags)?;
    let load = Paced {
        target: lab.production.at4(80),
        request: b"GET /small.txt HTTP/1.1\r\nHost: production\r\n\r\n".to_vec(),
        connections: 64,
        rate: Some(3_000),
        short: false,
        duration: Duration::from_secs(5),
    };
    let result = scope(|scope| {
        let load = scope.spawn(|| paced(&lab.client, &load));
        // The connections stay open: only to begin no more would change nothing.
        let shed = wait_for_figure(&lab.production, "flows.aborted.pressure", 1.0, SOON);
        let result = load.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
        shed.and(result)
    })?;
    ensure!(result.failed == 0 && result.answered == result.due, "production: {result:?}");
    ensure!(figure(&lab.production, "pressure.shrunk.cpu")? >= 2.0);
    let smallest = figure(&lab.production, "pressure.share_ratio")?;
    ensure!(smallest <= 0.25, "{smallest}");
    wait_for_figure(&lab.production, "pressure.returned", 2.0, LATER)?;
    ensure!(figure(&lab.production, "pressure.share_ratio")? > 0.0);
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    let books = &ended.books;
    let [seen, shed] = ["flows.seen", "flows.aborted.pressure"].map(|key| books.get(key));
    ensure!(seen == 64 && shed >= 32, "{:#}", books.json());
    ensure!(books.get("requests.seen") < result.answered, "{:#}", books.json());
    ensure!(books.get("packets.passed.sampled_out") > 0, "{:#}", books.json());
    ensure!(ended.stderr.contains("the mirror's own share of a processor is"), "{}", ended.stderr);
    Ok(())
}

/// As many processes that do nothing, all the time.
fn hogs(host: &Host, count: usize) -> Result<Vec<Process>> {
    let hog = |_| {
        let mut command = host.command("sh");
        command.args(["-c", "while :; do :; done"]);
        host.spawn("hog", &mut command)
    };
    (0..count).map(hog).collect()
}

/// The share of the last ten seconds in which something waited for a processor, in percent.
fn stalled() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/pressure/cpu")?;
    let share = text.split_whitespace().find_map(|word| word.strip_prefix("avg10="));
    Ok(share.with_context(|| text.clone())?.parse()?)
}

#[test]
fn processes_that_wait_for_a_processor_make_the_sample_smaller() -> Result<()> {
    let stage = Stage::new()?;
    let production = &stage.lab.production;
    let mirror = stage.mirror(Family::V4, &["--pressure-limit", "90%", "--live", "off"])?;
    let processors = std::thread::available_parallelism()?.get();
    let hogs = hogs(production, 4 * processors)?;
    wait_for_figure(production, "pressure.shrunk.stall", 2.0, SOON)?;
    ensure!(figure(production, "pressure.share_ratio")? <= 0.5);
    for mut hog in hogs {
        hog.stop(Signal::SIGKILL, SOON)?;
    }
    if let Err(error) = wait_for_figure(production, "pressure.returned", 2.0, LATER) {
        // Others' work on this machine is pressure, too.
        let stalled = stalled()?;
        ensure!(stalled > 70.0, "{error:#}, with {stalled}% of stalls");
        eprintln!("not told whether the sample returns: this machine is busy");
    }
    check_ended(&mirror.stop()?)
}

#[test]
fn a_full_accept_queue_pauses_the_mirror_until_it_is_empty() -> Result<()> {
    let stage = Stage::new()?;
    let production = &stage.lab.production;
    let listener = production.enter(|| TcpListener::bind("0.0.0.0:81"))??;
    let shadow = stage.lab.shadow.at4(80).to_string();
    // So much that nothing but the queue can be beyond.
    let flags = ["--iface", "eth0", "--port", "81", "--shadow", &shadow];
    let limits = ["--pressure-limit", "100%", "--live", "off"];
    let mirror = Mirror::start(production, &[&flags[..], &limits].concat())?;
    let waiting: Vec<TcpStream> = (0..100)
        .map(|_| stage.lab.client.connect(production.at4(81), SOON))
        .collect::<std::io::Result<_>>()?;
    wait_for("a share of nothing", SOON, || {
        Ok(Some(()).filter(|()| figure(production, "pressure.share_ratio").is_ok_and(|s| s == 0.0)))
    })?;
    ensure!(figure(production, "pressure.shrunk.accept_queue")? >= 1.0);
    // A flow that begins now is not mirrored.
    let before = figure(production, "flows.seen")?;
    let another = stage.lab.client.connect(production.at4(81), SOON)?;
    wait_for_figure(production, "packets.passed.paused", 1.0, SOON)?;
    ensure!(figure(production, "flows.seen")? == before);
    drop((listener, waiting, another));
    ctl(production, &["set", "pressure-limit", "off"])?;
    wait_for_figure(production, "pressure.returned", 1.0, LATER)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    ensure!(ended.books.get("settings.changed.pressure_limit") == 1, "{:#}", ended.books.json());
    Ok(())
}
