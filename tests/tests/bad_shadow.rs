//! A shadow that misbehaves: production does not notice, memory stays bounded, the circuit opens
//! and closes again, and every flow ends in a bucket that says why.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;
use shadow_lab::{
    Behaviour, Lab, Link, Mirror, Mix, Nginx, Progress, Relay, Report, ScriptedServer, reasons,
    run_traffic, sum_metric,
};
use shadow_tests::check_untouched;

/// The daemon's, of which three rings take 9 MiB.
const MEMORY_LIMIT: u64 = 81 << 20;
const FLAGS: [&str; 16] = [
    "--memory-limit",
    "81MiB",
    "--ring-size",
    "4MiB",
    "--gate-timeout",
    "500ms",
    "--shadow-timeout",
    "1s",
    "--drain",
    "1s",
    "--iface",
    "eth0",
    "--port",
    "80",
    "--live",
    "off",
];
const PATIENCE: Duration = Duration::from_secs(30);

/// Production, its traffic, and a mirror toward whatever the test puts behind it.
struct Ordeal<'a> {
    mirror: Mirror,
    progress: &'a Progress,
    /// The most memory that was seen.
    resident: u64,
}

impl Ordeal<'_> {
    /// Looks at the metrics until `condition` holds for them.
    fn until(&mut self, what: &str, condition: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.mirror.metrics()?;
            self.resident = self.resident.max(self.mirror.process.resident());
            if condition(&metrics) {
                return Ok(metrics);
            }
            if Instant::now() > deadline {
                bail!("waited in vain for {what}: {metrics}");
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// The circuit opens, and refuses flows.
    fn until_open(&mut self) -> Result<String> {
        self.until("the circuit to open", |metrics| {
            get(metrics, "circuit_open") == 1
                && ended(metrics, "skipped").contains_key("circuit_open")
        })
    }

    /// The circuit is closed, and requests are answered.
    fn until_closed(&mut self) -> Result<String> {
        let before = get(&self.mirror.metrics()?, "requests_answered");
        self.until("the circuit to close", |metrics| {
            get(metrics, "circuit_open") == 0 && get(metrics, "requests_answered") > before + 50
        })
    }
}

fn get(metrics: &str, name: &str) -> u64 {
    sum_metric(metrics, &format!("shadowtap_{name}")).unwrap_or(0.0) as u64
}

fn ended(metrics: &str, how: &str) -> BTreeMap<String, u64> {
    reasons(metrics, &format!("shadowtap_flows_{how}"))
}

/// Only what is in `allowed` happened, and its first did.
fn check_aborted(metrics: &str, allowed: &[&str]) -> Result<()> {
    let (aborted, skipped) = (ended(metrics, "aborted"), ended(metrics, "skipped"));
    println!(
        "aborted {aborted:?}, skipped {skipped:?}, mirrored {}",
        get(metrics, "flows_mirrored")
    );
    ensure!(allowed.first().is_none_or(|first| aborted.contains_key(*first)), "{aborted:?}");
    ensure!(aborted.keys().all(|reason| allowed.contains(&reason.as_str())), "{aborted:?}");
    // What is left of an upload whose session was reset is no request to join at.
    let skips = ["circuit_open", "midstream"];
    ensure!(skipped.keys().all(|reason| skips.contains(&reason.as_str())), "{skipped:?}");
    Ok(())
}

/// Small requests, half of them on connections of their own.
fn mix(lab: &Lab, seed: u64) -> Mix {
    Mix {
        connections: 16,
        rate: Some(300),
        max_body: 2 << 10,
        max_per_connection: 6,
        plain: true,
        ..Mix::new(vec![lab.production.at4(80)], seed)
    }
}

/// Runs `test` under traffic, then reckons up.
fn ordeal(
    lab: &Lab,
    shadow: std::net::SocketAddr,
    mix: &Mix,
    test: impl FnOnce(&mut Ordeal<'_>) -> Result<()>,
) -> Result<()> {
    let production = Nginx::start(&lab.production)?;
    let shadow = shadow.to_string();
    // As much a second as later, for half a second.
    let requests = u64::from(mix.rate.unwrap_or(300) / 2);
    let alone = |seed| {
        let mix = Mix { seed, requests: Some(requests), ..mix.clone() };
        run_traffic(&lab.client, &mix, &Progress::default())
    };
    let before = alone(mix.seed + 100)?;
    ensure!(production.log_of(before.completed.len())?.len() == before.completed.len());
    let mirror = Mirror::start(&lab.production, &[&FLAGS[..], &["--shadow", &shadow]].concat())?;
    let progress = Progress::default();
    let mut ordeal = Ordeal { mirror, progress: &progress, resident: 0 };
    let (tested, report) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| run_traffic(&lab.client, mix, &progress));
        let tested = test(&mut ordeal);
        ordeal.progress.stop.store(true, Ordering::Relaxed);
        let report = traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (tested, report)
    });
    let Ordeal { mirror, resident, .. } = ordeal;
    let last = resident.max(mirror.process.resident());
    let report: Report = report?;
    let ended = mirror.stop()?;
    tested.map_err(|error| error.context(ended.stderr.clone()))?;
    ensure!(report.failures.is_empty(), "production failed: {:#?}", report.failures);
    let log = production.log_of(before.completed.len() + report.completed.len())?;
    let log = &log[before.completed.len()..];
    let differences = shadow_lab::check_against_client(&report.completed, log);
    ensure!(differences.is_empty(), "production's log: {differences}");
    ensure!(ended.status.code() == Some(0), "{}: {}", ended.status, ended.stderr);
    ended.books.assert_balanced();
    ensure!(ended.books.json()["balanced"] == true, "{:#}", ended.books.json());
    ensure!(last <= MEMORY_LIMIT, "{last} octets resident");
    println!("at most {} MiB resident", last >> 20);
    check_untouched(&[before, alone(mix.seed + 200)?], &report)
}

/// A scripted shadow that brings flows to the buckets `allowed`, then nginx in its place.
fn misbehaves(behaviour: Behaviour, allowed: &[&str], seed: u64) -> Result<()> {
    let lab = Lab::new()?;
    let bad = ScriptedServer::start(&lab.shadow, 80, behaviour)?;
    ordeal(&lab, lab.shadow.at4(80), &mix(&lab, seed), |ordeal| {
        check_aborted(&ordeal.until_open()?, allowed)?;
        drop(bad);
        let _good = Nginx::start(&lab.shadow)?;
        ordeal.until_closed().map(drop)
    })
}

#[test]
fn refuses() -> Result<()> {
    let lab = Lab::new()?;
    ordeal(&lab, lab.shadow.at4(80), &mix(&lab, 1), |ordeal| {
        check_aborted(&ordeal.until_open()?, &["shadow_refused"])?;
        let _good = Nginx::start(&lab.shadow)?;
        check_aborted(&ordeal.until_closed()?, &["shadow_refused", "gate_timeout"])
    })
}

#[test]
fn drops_syns() -> Result<()> {
    let lab = Lab::new()?;
    let _good = Nginx::start(&lab.shadow)?;
    let cut = Link { loss: 100.0, ..Link::default() };
    let relay = Relay::between(&lab.production, &lab.shadow, cut)?;
    ordeal(&lab, relay.far4(80), &mix(&lab, 2), |ordeal| {
        check_aborted(&ordeal.until_open()?, &["shadow_timeout"])?;
        relay.set(Link::default());
        // A good shadow may need more than 500 ms when this machine is busy.
        check_aborted(&ordeal.until_closed()?, &["shadow_timeout", "gate_timeout"])
    })
}

#[test]
fn accepts_and_hangs() -> Result<()> {
    misbehaves(Behaviour::Hangs, &["gate_timeout"], 3)
}

#[test]
fn answers_at_ten_octets_a_second() -> Result<()> {
    misbehaves(Behaviour::Trickles, &["gate_timeout"], 4)
}

#[test]
fn closes_at_once() -> Result<()> {
    misbehaves(Behaviour::ClosesAtOnce, &["shadow_reset"], 5)
}

#[test]
fn resets_at_the_first_request() -> Result<()> {
    misbehaves(Behaviour::Resets, &["shadow_reset"], 6)
}

#[test]
fn closes_early() -> Result<()> {
    let lab = Lab::new()?;
    let bad = ScriptedServer::start(&lab.shadow, 80, Behaviour::ClosesEarly)?;
    // It reads 64 KiB at most: a larger upload meets a closed connection, whatever the timing.
    let mix = Mix { max_body: 256 << 10, rate: Some(150), ..mix(&lab, 7) };
    ordeal(&lab, lab.shadow.at4(80), &mix, |ordeal| {
        // Most streams arrive whole before it closes, so that the circuit need not open.
        let metrics = ordeal.until("unanswered requests and resets", |metrics| {
            reasons(metrics, "shadowtap_requests_unanswered").contains_key("closed")
                && ended(metrics, "aborted").contains_key("shadow_reset")
        })?;
        check_aborted(&metrics, &["shadow_reset"])?;
        let unanswered = reasons(&metrics, "shadowtap_requests_unanswered");
        ensure!(!unanswered.contains_key("unparsable"), "{unanswered:?}");
        drop(bad);
        let _good = Nginx::start(&lab.shadow)?;
        ordeal.until_closed().map(drop)
    })
}

/// What it says is an answer all the same, only not to be counted as HTTP.
#[test]
fn sends_garbage() -> Result<()> {
    let lab = Lab::new()?;
    let _bad = ScriptedServer::start(&lab.shadow, 80, Behaviour::Garbage)?;
    ordeal(&lab, lab.shadow.at4(80), &mix(&lab, 8), |ordeal| {
        let metrics = ordeal.until("unparsable answers", |metrics| {
            reasons(metrics, "shadowtap_requests_unanswered").contains_key("unparsable")
                && get(metrics, "flows_mirrored") > 100
        })?;
        check_aborted(&metrics, &[])?;
        ensure!(get(&metrics, "circuit_opened") == 0, "{metrics}");
        Ok(())
    })
}

#[test]
fn sends_a_gigabyte() -> Result<()> {
    let lab = Lab::new()?;
    let bad = ScriptedServer::start(&lab.shadow, 80, Behaviour::Floods(1 << 30))?;
    // A few at a time: on two cores the flood itself, not the mirror, would slow production.
    let mix = Mix { connections: 4, rate: Some(40), ..mix(&lab, 9) };
    ordeal(&lab, lab.shadow.at4(80), &mix, |ordeal| {
        check_aborted(&ordeal.until_open()?, &["gate_timeout", "shadow_timeout"])?;
        ensure!(bad.written() > 10 << 20, "{} octets", bad.written());
        drop(bad);
        let _good = Nginx::start(&lab.shadow)?;
        ordeal.until_closed().map(drop)
    })
}

#[test]
fn shuts_its_window() -> Result<()> {
    let lab = Lab::new()?;
    let bad = ScriptedServer::start(&lab.shadow, 80, Behaviour::ShutsWindow)?;
    let mix = Mix { max_body: 1 << 20, rate: Some(100), ..mix(&lab, 10) };
    ordeal(&lab, lab.shadow.at4(80), &mix, |ordeal| {
        check_aborted(&ordeal.until_open()?, &["gate_timeout", "shadow_timeout"])?;
        // Four times --shadow-timeout after the window was shut.
        ordeal.until("shut windows to be given up", |metrics| {
            ended(metrics, "aborted").contains_key("shadow_timeout")
        })?;
        drop(bad);
        let _good = Nginx::start(&lab.shadow)?;
        ordeal.until_closed().map(drop)
    })
}

#[test]
fn is_stopped_and_goes_on() -> Result<()> {
    let lab = Lab::new()?;
    let mut shadow = Nginx::start(&lab.shadow)?;
    ordeal(&lab, lab.shadow.at4(80), &mix(&lab, 11), |ordeal| {
        ordeal.until_closed()?;
        shadow.signal_all(Signal::SIGSTOP)?;
        check_aborted(&ordeal.until_open()?, &["gate_timeout"])?;
        shadow.signal_all(Signal::SIGCONT)?;
        check_aborted(&ordeal.until_closed()?, &["gate_timeout"])
    })
}

#[test]
fn is_killed_and_comes_back() -> Result<()> {
    let lab = Lab::new()?;
    let mut shadow = Nginx::start(&lab.shadow)?;
    ordeal(&lab, lab.shadow.at4(80), &mix(&lab, 12), |ordeal| {
        ordeal.until_closed()?;
        shadow.signal_all(Signal::SIGKILL)?;
        check_aborted(&ordeal.until_open()?, &["shadow_refused", "shadow_reset"])?;
        drop(shadow);
        let _back = Nginx::start(&lab.shadow)?;
        ordeal.until_closed().map(drop)
    })
}
