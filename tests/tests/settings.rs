//! Settings that are right: from flags and from a file, several interfaces and ports, the log.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use shadow_lab::{
    Behaviour, Connection, Host, Mirror, Mix, Nginx, Request, ScriptedServer, Topology, wait_until,
};
use shadow_lab::{Lab, curl};
use shadow_tests::{Family, Stage, check_ended, check_lossless, wait_for_shadow};

const LIMIT: Duration = Duration::from_secs(10);

/// Every line of the log, each an object.
fn log(stderr: &str) -> Result<Vec<Value>> {
    let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("no JSON: {line}"));
    stderr.lines().map(parse).collect()
}

#[test]
fn a_file_has_the_flags_names_and_flags_win() -> Result<()> {
    let stage = Stage::new()?;
    let production = &stage.lab.production;
    let file = production.folder().join("shadowtap.toml");
    let path = file.display().to_string();
    let shadow = stage.lab.shadow.at4(80).to_string();
    // Whatever of it were taken would stop it, or mirror nothing.
    fs::write(
        &file,
        "iface = \"eth0\"\nport = [8080]\nshadow = \"10.77.0.99:9\"\ndry-run = true\n\
         source-ports = \"20000-20999\"\nlog-format = \"json\"\nverbose = 1\nlive = \"off\"\n",
    )?;
    let flags = ["--config", &path, "--port", "80", "--shadow", &shadow, "--dry-run=false"];
    let mirror = Mirror::start(production, &flags)?;
    let report = stage.send(&Mix { rate: Some(500), ..stage.mix(Family::V4, 100, 77) })?;
    wait_for_shadow(&stage.shadow, 100)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, report.completed.len())?;

    let log = log(&ended.stderr)?;
    for line in &log {
        for key in ["timestamp", "level", "message", "target"] {
            ensure!(line[key].is_string(), "no {key} in {line}");
        }
    }
    let mirroring = log.iter().find(|line| line["message"] == "mirroring");
    let mirroring = mirroring.with_context(|| format!("not said: mirroring: {log:#?}"))?;
    ensure!(mirroring["shadow"] == shadow.as_str() && mirroring["port"] == "80", "{mirroring}");
    // What -v adds.
    let debug = |what: &str| {
        log.iter().any(|line| {
            line["level"] == "DEBUG" && line["message"].as_str().is_some_and(|it| it.contains(what))
        })
    };
    ensure!(debug("the tap is attached to eth0"), "{log:#?}");
    Ok(())
}

#[test]
fn v_tells_why_a_flow_was_not_mirrored() -> Result<()> {
    let lab = Lab::new()?;
    let _production = Nginx::start(&lab.production)?;
    let shadow = lab.shadow.at4(80).to_string();
    let flags = ["--iface", "eth0", "--port", "80", "--shadow", &shadow, "--live", "off"];
    for verbose in [false, true] {
        let more: &[&str] = if verbose { &["-v"] } else { &[] };
        let mirror = Mirror::start(&lab.production, &[&flags[..], more].concat())?;
        // Nobody listens there.
        curl(&lab.client, &[&format!("http://{}/small.txt", lab.production.v4)])?;
        let why = "flows.aborted.shadow_refused is 1, 1 more";
        if verbose {
            wait_until("the reason", LIMIT, || mirror.process.stderr().contains(why))?;
        }
        let ended = mirror.stop()?;
        check_ended(&ended)?;
        ensure!(ended.stderr.contains("mirroring"), "{}", ended.stderr);
        ensure!(ended.stderr.contains("DEBUG") == verbose, "{}", ended.stderr);
    }
    Ok(())
}

fn get(from: &Host, to: std::net::SocketAddr, id: &str) -> Result<()> {
    let mut connection = Connection::new(from.connect(to, LIMIT)?, LIMIT)?;
    let request = Request::get("/small.txt").header("X-Request-Id", id);
    ensure!(connection.exchange(&request)?.status == 200, "{id}");
    Ok(())
}

#[test]
fn several_interfaces_and_ports_and_one_address_of_a_port() -> Result<()> {
    let lab = Lab::with(Topology::SecondInterface)?;
    let _production = Nginx::start(&lab.production)?;
    let _second = Nginx::start_on(&lab.production, 81)?;
    let shadow = Nginx::start_on(&lab.shadow, 8080)?;
    let to = lab.shadow.at4(8080).to_string();
    let v6 = lab.production.at6(81).to_string();
    let mirror = Mirror::start(
        &lab.production,
        &["--iface", "eth0", "--iface", "eth1", "--port", "80", "--port", &v6, "--shadow", &to],
    )?;
    let inner = "10.77.1.2:80".parse()?;
    get(&lab.client, lab.production.at4(80), "a port, by IPv4")?;
    get(&lab.client, lab.production.at6(80), "a port, by IPv6")?;
    get(&lab.shadow, inner, "by the other interface")?;
    get(&lab.client, lab.production.at6(81), "the one address of another port")?;
    get(&lab.client, lab.production.at4(81), "another address of it")?;
    wait_for_shadow(&shadow, 4)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, 4)?;
    let mut ids: Vec<_> = shadow.log()?.into_iter().map(|entry| entry.id).collect();
    ids.sort();
    let wanted = [
        "a port, by IPv4",
        "a port, by IPv6",
        "by the other interface",
        "the one address of another port",
    ];
    ensure!(ids == wanted, "{ids:?}");
    Ok(())
}

/// Two requests on one connection, toward a shadow that hangs; the books.
fn gated(action: &str) -> Result<(shadow_lab::Books, u64)> {
    let lab = Lab::new()?;
    let _production = Nginx::start(&lab.production)?;
    let shadow = ScriptedServer::start(&lab.shadow, 80, Behaviour::Hangs)?;
    let to = lab.shadow.at4(80).to_string();
    let flags = ["--iface", "eth0", "--port", "80", "--shadow", &to, "--gate-timeout", "300ms"];
    let mirror =
        Mirror::start(&lab.production, &[&flags[..], &["--gate-action", action]].concat())?;
    let stream = lab.client.connect(lab.production.at4(80), LIMIT)?;
    let mut connection = Connection::new(stream, LIMIT)?;
    for _ in 0..2 {
        ensure!(connection.exchange(&Request::get("/small.txt"))?.status == 200);
    }
    wait_until("the bound", LIMIT, || {
        mirror.metric("shadowtap_gates_timed_out").is_ok_and(|count| count.unwrap_or(0.0) > 0.0)
    })?;
    drop(connection);
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    ensure!(ended.books.get("requests.seen") == 2, "{:#}", ended.books.json());
    Ok((ended.books, shadow.read()))
}

#[test]
fn the_gates_bound_aborts_or_sends_as_told() -> Result<()> {
    let (books, read) = gated("abort")?;
    ensure!(books.get("flows.aborted.gate_timeout") == 1, "{:#}", books.json());
    ensure!(books.get("requests.delivered") == 1, "{:#}", books.json());
    ensure!(read == books.get("bytes.delivered"), "{read}: {:#}", books.json());
    let (books, read) = gated("send")?;
    ensure!(books.sum("flows.aborted") == 0, "{:#}", books.json());
    ensure!(books.get("flows.mirrored") == 1, "{:#}", books.json());
    ensure!(books.get("requests.delivered") == 2, "{:#}", books.json());
    ensure!(read == books.get("bytes.captured"), "{read}: {:#}", books.json());
    Ok(())
}

/// As few ports as connections per second: each is used again and again, while the shadow, which
/// closes first, remembers the connections before in TIME-WAIT.
#[test]
fn ports_are_used_again_while_the_shadow_remembers_them() -> Result<()> {
    const PORTS: usize = 64;
    const CONNECTIONS: usize = 1_000;
    let stage = Stage::new()?;
    let mirror = stage.mirror(Family::V4, &["--source-ports", "20000-20063"])?;
    let production = stage.lab.production.at4(80);
    for number in 0..CONNECTIONS {
        let mut connection = Connection::new(stage.lab.client.connect(production, LIMIT)?, LIMIT)?;
        let request = Request::get("/small.txt").header("Connection", "close");
        let request = request.header("X-Request-Id", number.to_string());
        ensure!(connection.exchange(&request)?.status == 200);
        // Never more of them open than there are ports, however slow this machine is.
        if number % (PORTS / 2) == PORTS / 2 - 1 {
            wait_for_shadow(&stage.shadow, number + 1)?;
        }
    }
    wait_for_shadow(&stage.shadow, CONNECTIONS)?;
    let waiting = stage.lab.shadow.run("ss", ["-Htan", "state", "time-wait"])?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, CONNECTIONS)?;
    ensure!(ended.books.get("flows.mirrored") == CONNECTIONS as u64, "{:#}", ended.books.json());
    let remembered = waiting.lines().filter(|line| line.contains(":200")).count();
    ensure!(remembered > PORTS / 2, "only {remembered} connections in TIME-WAIT: {waiting}");
    stage.check_shadow(&stage.production.log_of(CONNECTIONS)?)
}
