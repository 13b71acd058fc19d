//! Bad input: one line that names the flag and the remedy, exit 2, nothing left attached.

use std::fs;
use std::net::TcpListener;

use anyhow::{Result, ensure};
use shadow_lab::{Host, Lab, Topology};
use shadow_tests::{Family, Stage, attached, check_ended, shadowtap};

/// `mirror` with `args` is refused with an error that holds every one of `words`.
fn refused(host: &Host, args: &[&str], words: &[&str]) -> Result<()> {
    let before = attached(host)?;
    let args: Vec<&str> = [&["mirror"], args].concat();
    let output = shadowtap(host, &args)?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2), "{args:?}: {}: {text}", output.status);
    ensure!(text.trim_end().lines().count() == 1, "{args:?}: not one line: {text}");
    for word in words {
        ensure!(text.contains(word), "{args:?}: {word:?} is not in {text}");
    }
    ensure!(text.contains(';'), "{args:?}: no remedy in {text}");
    ensure!(attached(host)? == before, "{args:?}: left something attached");
    Ok(())
}

const SHADOW: &str = "10.77.0.3:80";

#[test]
fn missing_and_malformed_flags() -> Result<()> {
    let lab = Lab::new()?;
    let host = &lab.production;
    refused(host, &[], &["--iface"])?;
    refused(host, &["--iface", "eth0", "--shadow", SHADOW], &["--port"])?;
    refused(host, &["--iface", "eth0", "--port", "80"], &["--shadow"])?;
    refused(host, &["--iface", "eth0", "--port", "http", "--shadow", SHADOW], &["--port", "http"])?;
    refused(host, &["--iface", "eth0", "--port", "0", "--shadow", SHADOW], &["--port"])?;
    refused(host, &["--iface", "eth0", "--port", "80", "--shadow", "nowhere"], &["--shadow"])?;
    let good = ["--iface", "eth0", "--port", "80", "--shadow", SHADOW];
    refused(host, &[&good[..], &["--drain", "soon"]].concat(), &["--drain", "soon"])?;
    refused(host, &[&good[..], &["--listen", "1.2.3.4:9"]].concat(), &["--listen"])?;
    refused(host, &[&good[..], &["--summary", "/no/such/folder/s"]].concat(), &["--summary"])?;
    refused(host, &[&good[..], &["--max-rate", "50"]].concat(), &["--max-rate 50", "50/s"])?;
    refused(
        host,
        &[&good[..], &["--max-request-rate", "fast"]].concat(),
        &["--max-request-rate fast", "as 50/s"],
    )?;
    let bits = ["--max-bandwidth", "9MB/s"];
    refused(host, &[&good[..], &bits].concat(), &["--max-bandwidth 9MB/s", "as 100Mbit/s"])?;
    refused(host, &[&good[..], &["--ramp", "slowly"]].concat(), &["--ramp slowly", "as 20s"])?;
    for (flags, words) in [
        ("--copies 0", ["--copies 0", "1 to 100"]),
        ("--copies 3 --source preserve", ["--copies 3", "--source preserve"]),
        ("--copies 9 --source-ports 20000-20007", ["--copies 9", "has 8 ports"]),
        ("--copies 9 --source pool=10.9.0.0/29", ["--copies 9", "has 6 addresses"]),
        ("--copies 100 --memory-limit 256MiB", ["--memory-limit 256MiB", "100 copies"]),
        ("--spread", ["--spread", "one shadow"]),
    ] {
        let args: Vec<_> = good.into_iter().chain(flags.split_whitespace()).collect();
        refused(host, &args, &words)?;
    }
    refused(host, &[&good[..], &["--no-such-flag"]].concat(), &["--no-such-flag"])
}

#[test]
fn interfaces_that_are_not_there_or_lack_the_family() -> Result<()> {
    let lab = Lab::new()?;
    let host = &lab.production;
    refused(
        host,
        &["--iface", "eth9", "--port", "80", "--shadow", SHADOW],
        &["--iface eth9", "eth0"],
    )?;
    host.run("ip", ["-6", "address", "flush", "dev", "eth0"])?;
    let port = format!("[{}]:80", host.v6);
    refused(host, &["--iface", "eth0", "--port", &port, "--shadow", SHADOW], &["--port", "IPv6"])?;
    // The shadow stays within reach over the other one.
    let lab = Lab::with(Topology::SecondInterface)?;
    lab.production.run("ip", ["link", "set", "eth0", "down"])?;
    refused(
        &lab.production,
        &["--iface", "eth0", "--port", "80", "--shadow", "10.77.1.3:80"],
        &["--iface eth0", "ip link set eth0 up"],
    )
}

#[test]
fn a_shadow_that_is_production_is_a_loop() -> Result<()> {
    let lab = Lab::new()?;
    let host = &lab.production;
    for shadow in ["10.77.0.2:80", "[fd77::2]:80", "127.0.0.1:80"] {
        let args = ["--iface", "eth0", "--port", "80", "--shadow", shadow];
        refused(host, &args, &["--shadow", "loop"])?;
    }
    let args = ["--iface", "eth0", "--port", "10.77.0.3:80", "--shadow", SHADOW];
    refused(host, &args, &["--shadow", "loop"])
}

#[test]
fn a_shadow_without_a_route() -> Result<()> {
    let lab = Lab::new()?;
    for shadow in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        let args = ["--iface", "eth0", "--port", "80", "--shadow", shadow];
        refused(&lab.production, &args, &["--shadow", "route"])?;
    }
    Ok(())
}

#[test]
fn source_ports_that_others_use() -> Result<()> {
    let lab = Lab::new()?;
    let host = &lab.production;
    let good = ["--iface", "eth0", "--port", "80", "--shadow", SHADOW];
    let _listener = host.enter(|| TcpListener::bind("0.0.0.0:20000"))??;
    refused(host, &good, &["--source-ports", "20000"])?;
    let range = [&good[..], &["--source-ports", "40000-41000"]].concat();
    refused(host, &range, &["--source-ports", "ip_local_port_range"])
}

#[test]
fn a_malformed_file() -> Result<()> {
    let lab = Lab::new()?;
    let file = lab.production.folder().join("shadowtap.toml");
    let path = file.display().to_string();
    fs::write(&file, "iface = \"eth0\"\nport = \n")?;
    refused(&lab.production, &["--config", &path], &["--config", "line 2"])?;
    fs::write(&file, "iface = \"eth0\"\nports = 80\n")?;
    refused(&lab.production, &["--config", &path], &["--config", "ports"])?;
    fs::write(&file, "iface = \"eth9\"\nport = 80\nshadow = \"10.77.0.3:80\"\n")?;
    refused(&lab.production, &["--config", &path], &["iface", "eth9", &path])?;
    refused(&lab.production, &["--config", "/no/such/file"], &["--config", "/no/such/file"])
}

#[test]
fn no_privileges() -> Result<()> {
    let lab = Lab::new()?;
    let host = &lab.production;
    let binary = shadow_lab::binary()?;
    // Readable by anyone, whatever the checkout's permissions are.
    let copy = host.folder().join("shadowtap");
    fs::copy(binary, &copy)?;
    let mut command = host.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"]);
    command.arg(copy).args(["mirror", "--iface", "eth0", "--port", "80", "--shadow", SHADOW]);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{}: {text}", output.status);
    ensure!(text.contains("CAP_BPF") && text.contains("root"), "{text}");
    ensure!(text.trim_end().lines().count() == 1, "{text}");
    Ok(())
}

#[test]
fn a_second_mirror_on_the_same_interface_and_port() -> Result<()> {
    let stage = Stage::new()?;
    let first = stage.mirror(Family::V4, &[])?;
    let pid = first.process.pid().to_string();
    let args = ["--iface", "eth0", "--port", "80", "--shadow", SHADOW];
    refused(&stage.lab.production, &args, &["--iface eth0", "already mirrored", &pid])?;

    // The first is not disturbed, and its place is free after it.
    stage.send(&stage.mix(Family::V4, 100, 3))?;
    check_ended(&first.stop()?)?;
    check_ended(&stage.mirror(Family::V4, &[])?.stop()?)
}

#[test]
fn a_file_is_looked_into_without_a_mirror() -> Result<()> {
    let lab = Lab::new()?;
    let host = &lab.production;
    let file = host.folder().join("shadowtap.toml");
    let path = file.display().to_string();
    fs::write(&file, "port = 80\nshadow = ['10.77.0.3:80', '10.77.0.3:81']\nsample = '5%'\n")?;
    let output = shadowtap(host, &["config", "check", &path, "--iface", "eth0"])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said == format!("{path} is in order\n"), "{output:?}");
    for (line, word) in [("sample = '500%'", "sample"), ("ports = 80", "line 2: unknown field")] {
        fs::write(&file, format!("shadow = '10.77.0.3:80'\n{line}\n"))?;
        let args = ["config", "check", &path, "--iface", "eth0", "--port", "80"];
        let output = shadowtap(host, &args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && said.contains(word), "{output:?}");
        ensure!(said.trim_end().lines().count() == 1 && said.contains(&path), "{said}");
    }
    ensure!(attached(host)? == 0);
    Ok(())
}
