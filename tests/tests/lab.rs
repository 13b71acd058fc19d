//! The lab by itself, without a mirror: what the other tests take for granted.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use shadow_lab::{
    Behaviour, Connection, Host, Lab, Mix, Nginx, Paced, Progress, Redis, Request, ScriptedServer,
    Tcpdump, Topology, check_against_client, compare, curl, paced, run_traffic, wait_until, wrk,
};

/// A closed port of a host that is there refuses at once.
fn reaches(from: &Host, to: &Host) -> Result<()> {
    for address in [to.at4(9), to.at6(9)] {
        let error = from.connect(address, Duration::from_secs(5)).expect_err("nothing listens");
        ensure!(
            error.kind() == ErrorKind::ConnectionRefused,
            "{} to {address}: {error}",
            from.role
        );
    }
    Ok(())
}

#[test]
fn every_topology_connects_its_hosts() -> Result<()> {
    for topology in [Topology::OneSegment, Topology::Routed] {
        let lab = Lab::with(topology)?;
        reaches(&lab.client, &lab.production)?;
        reaches(&lab.client, &lab.shadow)?;
        reaches(&lab.production, &lab.shadow)?;
    }
    for topology in [Topology::SecondInterface, Topology::Direct] {
        let lab = Lab::with(topology)?;
        reaches(&lab.client, &lab.production)?;
        reaches(&lab.production, &lab.shadow)?;
        let alone = lab.client.connect(lab.shadow.at4(9), Duration::from_secs(1));
        ensure!(alone.is_err_and(|error| error.kind() != ErrorKind::ConnectionRefused));
    }
    Ok(())
}

#[test]
fn a_lab_has_no_way_out_and_leaves_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let (namespace, folder) = (lab.client.namespace.clone(), lab.client.folder().to_path_buf());
    let routes = lab.client.run("ip", ["route"])?;
    ensure!(!routes.contains("default"), "{routes}");
    let mut sleeper = lab.client.spawn("sleep", lab.client.command("sleep").arg("600"))?;
    // Before it is there, it is none of the lab's.
    let inode = |path: &Path| std::fs::metadata(path).map(|it| it.ino()).ok();
    let network = inode(&Path::new("/run/netns").join(&namespace));
    let its = PathBuf::from(format!("/proc/{}/ns/net", sleeper.pid()));
    wait_until("sleep on its host", Duration::from_secs(20), || inode(&its) == network)?;
    drop(lab);
    ensure!(!Path::new("/run/netns").join(namespace).exists());
    ensure!(!folder.exists());
    sleeper.wait(Duration::from_secs(5))?;
    Ok(())
}

/// Runs this very test binary's `ignored` sleeper and ends it in the given way.
fn leftovers_after(signal: Signal) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "holds_a_lab_for_a_minute"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let prefix = format!("st-{}-", child.id());
    let count = || {
        let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).count()
    };
    wait_until("the other lab", Duration::from_secs(20), || count() == 5)?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal)?;
    child.wait()?;
    if signal == Signal::SIGKILL {
        ensure!(count() > 0, "nobody could have removed it");
        shadow_lab::sweep()?;
    }
    ensure!(count() == 0, "{} namespaces left", count());
    Ok(())
}

#[test]
#[ignore = "started by the tests that kill it"]
fn holds_a_lab_for_a_minute() -> Result<()> {
    let _lab = Lab::new()?;
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

#[test]
fn a_lab_is_removed_when_its_process_is_told_to_end() -> Result<()> {
    leftovers_after(Signal::SIGTERM)?;
    leftovers_after(Signal::SIGINT)
}

#[test]
fn a_lab_of_a_killed_process_is_swept() -> Result<()> {
    leftovers_after(Signal::SIGKILL)
}

#[test]
fn mixed_traffic_is_in_the_log_exactly_once() -> Result<()> {
    let lab = Lab::new()?;
    let nginx = Nginx::start(&lab.production)?;
    let targets = vec![lab.production.at4(80), lab.production.at6(80)];
    let mix = Mix { requests: Some(1_000), max_body: 10 << 20, ..Mix::new(targets, 7) };
    let report = run_traffic(&lab.client, &mix, &Progress::default())?;
    ensure!(report.failures.is_empty(), "seed {}: {:?}", mix.seed, report.failures);
    ensure!(report.completed.len() == 1_000, "{}", report.completed.len());
    let log = nginx.log_of(report.completed.len())?;
    let differences = check_against_client(&report.completed, &log);
    ensure!(differences.is_empty(), "seed {}: {differences}", mix.seed);
    ensure!(report.completed.iter().any(|r| r.body_len == 0 && r.method == "POST"));
    ensure!(report.completed.iter().any(|r| r.body_len > 4 << 20));
    ensure!(report.connections > 50, "{}", report.connections);

    // The check can fail: one line less, one twice, one changed.
    let mut broken = log.clone();
    broken.pop();
    ensure!(compare(&log, &broken).missing.len() == 1);
    broken.push(broken[0].clone());
    ensure!(compare(&log, &broken).repeated.len() == 1);
    broken = log.clone();
    let hashed = broken.iter_mut().find(|entry| entry.method == "POST");
    hashed.expect("a mix has uploads").body_sha256.push('0');
    ensure!(check_against_client(&report.completed, &broken).altered.len() == 1);
    Ok(())
}

#[test]
fn an_answer_of_the_wrong_server_is_noticed() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.production)?;
    let stream = lab.client.connect(lab.production.at6(80), Duration::from_secs(2))?;
    let mut connection = Connection::new(stream, Duration::from_secs(5))?;
    let response = connection.exchange(&Request::get("/made/77/100000?chunked"))?;
    ensure!(response.body == shadow_lab::content(77, 100_000));
    ensure!(response.body != shadow_lab::content(78, 100_000));
    // Nothing listens on the shadow: every request of a mix must be reported as failed.
    let mix = Mix { requests: Some(10), ..Mix::new(vec![lab.shadow.at4(80)], 1) };
    let report = run_traffic(&lab.client, &mix, &Progress::default())?;
    ensure!(report.completed.is_empty() && report.failures.len() == 10, "{report:?}");
    Ok(())
}

#[test]
fn tcpdump_counts_what_was_on_the_wire() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.production)?;
    let dump = Tcpdump::start(&lab.client, "eth0", "tcp")?;
    curl(&lab.client, &[&format!("http://{}/1k.bin", lab.production.v4), "-o", "/dev/null"])?;
    // A closed port answers with RST.
    let refused = lab.client.connect(lab.production.at4(81), Duration::from_secs(2));
    ensure!(refused.is_err());
    let capture = dump.stop()?;
    ensure!(capture.count("port 80 and tcp[tcpflags] & tcp-syn != 0")? == 2);
    ensure!(capture.count("port 80 and tcp[tcpflags] & tcp-rst != 0")? == 0);
    ensure!(capture.count("port 81 and tcp[tcpflags] & tcp-rst != 0")? == 1);
    ensure!(capture.count(&format!("host {}", lab.shadow.v4))? == 0);
    Ok(())
}

#[test]
fn redis_and_wrk_run() -> Result<()> {
    let lab = Lab::new()?;
    let (first, second) = (Redis::start(&lab.production)?, Redis::start(&lab.shadow)?);
    ensure!(first.dataset()? == second.dataset()?);
    first.cli(&["SET", "key", "value"])?;
    ensure!(first.dataset()? != second.dataset()?);
    let _nginx = Nginx::start(&lab.production)?;
    let url = format!("http://{}/small.txt", lab.production.v4);
    let result = wrk(&lab.client, &url, 4, Duration::from_secs(1))?;
    ensure!(result.requests > 100 && result.socket_errors == 0, "{result:?}");
    Ok(())
}

#[test]
fn a_paced_client_sends_what_is_due_and_counts_stalls_from_then() -> Result<()> {
    let lab = Lab::new()?;
    let _nginx = Nginx::start(&lab.production)?;
    let target = lab.production.at4(80);
    let plan = Paced {
        target,
        request: b"GET /quiet/1k.bin HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        connections: 8,
        rate: Some(500),
        short: false,
        duration: Duration::from_secs(1),
    };
    let result = paced(&lab.client, &plan)?;
    assert_eq!((result.due, result.answered, result.failed), (500, 500, 0));
    // A connection for each request: the server closes it.
    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec();
    let files = Paced { short: true, request, rate: Some(200), ..plan.clone() };
    let result = paced(&lab.client, &files)?;
    // There is no index: an answer, but none of success.
    assert_eq!((result.due, result.answered, result.failed), (200, 0, 200));

    // Ten octets in a second, on one connection: the second request waits for the first, and so on.
    let _slow = ScriptedServer::start(&lab.production, 81, Behaviour::Trickles)?;
    let target = lab.production.at4(81);
    let stalled = Paced { target, connections: 1, rate: Some(20), ..plan };
    let result = paced(&lab.client, &stalled)?;
    assert_eq!((result.due, result.answered), (20, 0));
    let least = result.quantile(0.5);
    assert!(least > Duration::from_secs(2), "half of them were late by {least:?} at most");
    Ok(())
}
