//! Mode `preserve` on a host that forwards: nothing that the shadow sends reaches a client, whatever
//! becomes of the daemon, and the host's own connections to the shadow work all the time.

use std::sync::atomic::Ordering;
use std::thread::scope;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use shadow_lab::{Capture, Mix, Progress, Tcpdump, curl, run_traffic, wait_until};
use shadow_tests::{Family, Stage, at, attached, check_ended, shadowtap};

const LIMIT: Duration = Duration::from_secs(30);
const RESTARTS: u64 = 10;

fn none(capture: &Capture, filter: &str) -> Result<()> {
    let lines = capture.lines(filter)?;
    ensure!(lines.is_empty(), "{} packets match {filter}: {:#?}", lines.len(), &lines[..1]);
    Ok(())
}

/// The shadow's Ethernet address.
fn mac(stage: &Stage) -> Result<String> {
    let text = stage.lab.shadow.run("ip", ["-br", "link", "show", "eth0"])?;
    let mac = text.split_whitespace().nth(2).unwrap_or_default().to_owned();
    ensure!(mac.len() == 17, "{text}");
    Ok(mac)
}

/// The client saw at least `least` packets of production, and none that the shadow sent or caused.
fn nothing_leaked(stage: &Stage, at_client: Tcpdump, family: Family, least: usize) -> Result<()> {
    let at_client = at_client.stop()?;
    let seen = at_client.count(&format!("src host {}", at(&stage.lab.production, family).ip()))?;
    ensure!(seen >= least, "the capture saw {seen} packets of production");
    // But for neighbour discovery (RFC 4861), by which the shadow's kernel finds this host's.
    // And for frames to the shadow, when it is down: a bridge hands to all what it does not know where to.
    let (shadow, mac) = (at(&stage.lab.shadow, family).ip(), mac(stage)?);
    none(
        &at_client,
        &format!(
            "host {shadow} and not ether dst {mac} \
             and not (icmp6 and ip6[40] >= 133 and ip6[40] <= 137)"
        ),
    )?;
    // All but neighbour and multicast discovery, which every host does.
    none(&at_client, &format!("ether src {mac} and not ether multicast and not icmp6"))?;
    none(&at_client, "icmp6 and ip6[40] < 128")?;
    none(&at_client, "icmp")?;
    none(&at_client, "not src host 10.77.0.1 and tcp[tcpflags] & tcp-rst != 0")?;
    none(&at_client, "not src host fd77::1 and ip6[6] = 6 and ip6[53] & 4 != 0")
}

fn killed_ten_times(family: Family, seed: u64) -> Result<()> {
    let stage = Stage::with_route()?;
    let Stage { lab, shadow, .. } = &stage;
    let shadow_at = at(&lab.shadow, family);
    let preserve = ["--source", "preserve", "--live", "off"];
    let at_client = Tcpdump::start(&lab.client, "eth0", "ip or ip6")?;
    let progress = Progress::default();

    let (report, own) = scope(|scope| -> Result<_> {
        let load = scope.spawn(|| {
            let mix = Mix { rate: Some(100), max_body: 64 << 10, ..stage.mix(family, 0, seed) };
            run_traffic(&lab.client, &Mix { requests: None, ..mix }, &progress)
        });
        // Answers of seconds: the shadow is in their midst whenever the daemon is killed.
        let slow = scope.spawn(|| -> Result<()> {
            let uri = format!("http://{}/slow/1m.bin", at(&lab.production, family));
            while !progress.stop.load(Ordering::Relaxed) {
                curl(&lab.client, &["-g", "--output", "/dev/null", &uri])?;
            }
            Ok(())
        });
        // From this host to the very port of the shadow that is guarded.
        let own = scope.spawn(|| -> Result<u64> {
            let uri = format!("http://{shadow_at}/small.txt");
            let mut count = 0;
            while !progress.stop.load(Ordering::Relaxed) {
                curl(&lab.production, &["-g", "--max-time", "5", &uri])?;
                count += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(count)
        });
        let result = (|| -> Result<()> {
            for _ in 0..RESTARTS {
                let mut mirror = stage.mirror(family, &preserve)?;
                wait_until("requests at the shadow", LIMIT, || {
                    let delivered = mirror.metric("shadowtap_requests_answered");
                    delivered.is_ok_and(|count| count.is_some_and(|count| count >= 50.0))
                })?;
                mirror.process.signal(Signal::SIGKILL)?;
                mirror.process.wait(LIMIT)?;
                ensure!(stage.guard(&["show"])?.contains("none"), "the guard stands alone");
            }
            let mirror = stage.mirror(family, &preserve)?;
            let show = stage.guard(&["show"])?;
            ensure!(show.contains(&mirror.process.pid().to_string()), "{show}");
            let refused = shadowtap(&lab.production, &["guard", "remove"])?;
            ensure!(refused.status.code() == Some(2), "removed behind a daemon's back");
            wait_until("more requests at the shadow", LIMIT, || {
                mirror.metric("shadowtap_requests_answered").is_ok_and(|n| n > Some(50.0))
            })?;
            check_ended(&mirror.stop()?)
        })();
        progress.stop.store(true, Ordering::Relaxed);
        let report = load.join().expect("no panic")?;
        slow.join().expect("no panic")?;
        let own = own.join().expect("no panic")?;
        result.map(|()| (report, own))
    })?;
    ensure!(report.failures.is_empty(), "production failed: {:#?}", report.failures);
    ensure!(own >= 50, "only {own} connections of the host's own");
    ensure!(shadow.logged() as u64 >= own + 50 * RESTARTS, "{} at the shadow", shadow.logged());

    // The shadow goes on trying for what it had under way.
    let show = stage.guard(&["show"])?;
    let row: Vec<&str> = show.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    let [interface, address, mode, dropped, daemon] = row[..] else { anyhow::bail!("{show}") };
    let wanted = ("eth0", shadow_at.to_string(), "foreign", "none");
    ensure!((interface, address.to_owned(), mode, daemon) == wanted, "{show}");
    ensure!(dropped.parse::<u64>()? > 100, "{show}");
    ensure!(lab.production.pins()?.exists());

    nothing_leaked(&stage, at_client, family, 1_000)?;

    stage.guard(&["remove", "--iface", "eth0"])?;
    ensure!(!lab.production.pins()?.exists(), "pins are left");
    ensure!(attached(&lab.production)? == 0, "still attached");
    ensure!(stage.guard(&["show"])? == "no guard is pinned\n");
    stage.guard(&["remove", "--all"]).map(drop)
}

#[test]
fn killed_ten_times_under_load_nothing_reaches_a_client_over_ipv4() -> Result<()> {
    killed_ten_times(Family::V4, 4)
}

#[test]
fn killed_ten_times_under_load_nothing_reaches_a_client_over_ipv6() -> Result<()> {
    killed_ten_times(Family::V6, 6)
}

/// The kernel tells the sender that a neighbour does not answer: here, the client.
fn shadow_gone(family: Family, seed: u64) -> Result<()> {
    let stage = Stage::with_route()?;
    let lab = &stage.lab;
    let at_client = Tcpdump::start(&lab.client, "eth0", "ip or ip6")?;
    let mirror = stage.mirror(family, &["--source", "preserve", "--live", "off"])?;
    lab.shadow.run("ip", ["link", "set", "eth0", "down"])?;
    // The probe at the start has found it, and it would be believed in for half a minute.
    lab.production.run("ip", ["neigh", "flush", "dev", "eth0"])?;
    let mix = Mix { rate: Some(100), max_body: 1 << 10, ..stage.mix(family, 400, seed) };
    stage.send(&mix)?;
    let failed = if family == Family::V4 { "-4" } else { "-6" };
    wait_until("the neighbour to be given up", LIMIT, || {
        let text = lab.production.run("ip", [failed, "neigh", "show", "nud", "failed"]);
        text.is_ok_and(|text| text.contains(&at(&lab.shadow, family).ip().to_string()))
    })?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    ensure!(ended.books.get("sent.packets") > 0, "{:#}", ended.books.json());
    nothing_leaked(&stage, at_client, family, 400)
}

#[test]
fn a_shadow_that_is_gone_is_not_reported_to_clients_over_ipv4() -> Result<()> {
    shadow_gone(Family::V4, 14)
}

#[test]
fn a_shadow_that_is_gone_is_not_reported_to_clients_over_ipv6() -> Result<()> {
    shadow_gone(Family::V6, 16)
}
