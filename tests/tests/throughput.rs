//! How fast the emulated client uploads beside Linux's own TCP over the same bad link. Measures and
//! prints; asserts only that everything arrives. The table stands in `docs/tcp.md`.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use shadow_lab::{Behaviour, Host, Lab, Link, Mirror, Relay, ScriptedServer, content, wait_until};

const MS: Duration = Duration::from_millis(1);
const LOSSES: [f64; 4] = [0.0, 0.1, 1.0, 3.0];
const DELAYS: [Duration; 3] =
    [Duration::from_micros(500), Duration::from_millis(5), Duration::from_millis(25)];
const TIME: Duration = Duration::from_secs(3);
const MOST: usize = 30 << 20;
/// How far the client may be ahead of the shadow: never without something to send, and far less than
/// the ring and a flow's buffer take.
const AHEAD: usize = 4 << 20;
const LEAST: usize = 128 << 10;

/// Uploads from `host` to `to`, which is `sink`, for [`TIME`]; how much arrived.
fn linux(host: &Host, to: std::net::SocketAddr, sink: &ScriptedServer) -> Result<usize> {
    let before = sink.read();
    let mut stream = host.connect(to, Duration::from_secs(30))?;
    stream.set_write_timeout(Some(100 * MS))?;
    let began = Instant::now();
    while began.elapsed() < TIME {
        // A full buffer is no failure.
        let _ = stream.write(content(0, 64 << 10));
    }
    let arrived = usize::try_from(sink.read() - before)?;
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(arrived)
}

/// Uploads `len` octets to production and waits until the shadow has them; how long that took.
fn mirrored(lab: &Lab, len: usize, sink: &ScriptedServer) -> Result<Duration> {
    let before = sink.read();
    let mut stream = lab.client.connect(lab.production.at4(80), Duration::from_secs(5))?;
    let began = Instant::now();
    for at in (0..len).step_by(64 << 10) {
        let near = || (sink.read() - before) as usize + AHEAD >= at;
        wait_until("the shadow to come near", 8 * TIME, near)?;
        let piece = content(at, (64 << 10).min(len - at));
        stream.write_all(piece).context("production must read all")?;
    }
    let arrived = || sink.read() - before >= len as u64;
    wait_until("the upload at the shadow", 8 * TIME, arrived)?;
    Ok(began.elapsed())
}

#[test]
#[ignore = "takes a few minutes and asserts nothing about speed; run it with --ignored --nocapture"]
fn beside_linux() -> Result<()> {
    let usual = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
    println!("Goodput in Mbit/s: Linux with {} / with reno / mirror", usual.trim());
    for delay in DELAYS {
        print!("RTT {:>2} ms", 2 * delay.as_micros() / 1_000);
        for loss in LOSSES {
            let lab = Lab::new()?;
            let _production = ScriptedServer::start(&lab.production, 80, Behaviour::Hangs)?;
            let sink = ScriptedServer::start(&lab.shadow, 80, Behaviour::Hangs)?;
            let link = Link { loss, delay, rate: Some(100_000_000), seed: 3, ..Link::default() };
            let relay = Relay::between(&lab.production, &lab.shadow, link)?;
            let shadow = relay.far4(80);
            let usual = linux(&lab.production, shadow, &sink)?;
            lab.production.sysctl("net.ipv4.tcp_congestion_control", "reno")?;
            let reno = linux(&lab.production, shadow, &sink)?;
            let to = shadow.to_string();
            let flags = ["--iface", "eth0", "--port", "80", "--shadow", &to, "--live", "off"];
            let mirror = Mirror::start(&lab.production, &flags)?;
            let len = reno.clamp(LEAST, MOST);
            let time = mirrored(&lab, len, &sink)?;
            let ended = mirror.stop()?;
            ended.books.assert_balanced();
            ensure!(ended.books.get("bytes.delivered") == len as u64, "{:#}", ended.books.json());
            let rate = |octets: usize, time: Duration| octets as f64 * 8e-6 / time.as_secs_f64();
            let linux = [usual, reno].map(|arrived| rate(arrived, TIME));
            print!("  {loss} %: {:.1} / {:.1} / {:.1}", linux[0], linux[1], rate(len, time));
        }
        println!();
    }
    Ok(())
}
