//! End-to-end tests: the shadowtap binary between real servers and real clients.
//!
//! They need root and make network namespaces of their own; run them with `--test-threads=1`, for
//! they measure what a host does.

pub mod shop;
mod window;

pub use window::{Window, browse};

use std::panic::resume_unwind;
use std::process::Output;
use std::sync::atomic::Ordering;
use std::thread::scope;
use std::time::Duration;

use anyhow::{Result, ensure};
use aya::programs::tc::{SchedClassifier, TcAttachType};
use shadow_lab::{
    Books, Ended, Entry, Host, Lab, Mirror, Mix, Nginx, Process, Progress, Report, Topology,
    binary, check_against_client, compare, run_traffic, sum_metric, wait_for,
};

/// A lab with nginx on production and on the shadow, both on port 80.
#[derive(Debug)]
pub struct Stage {
    /// The server that answers the client.
    pub production: Nginx,
    /// The server under test.
    pub shadow: Nginx,
    /// The hosts. Last, for the servers must go before them.
    pub lab: Lab,
}

/// The IP version of clients, production and shadow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Stage {
    /// Hosts on one segment.
    ///
    /// # Errors
    /// When not root, or nginx is missing.
    pub fn new() -> Result<Self> {
        Self::with(Topology::OneSegment)
    }

    /// Hosts wired as `topology` says.
    ///
    /// # Errors
    /// As [`Stage::new`].
    pub fn with(topology: Topology) -> Result<Self> {
        let lab = Lab::with(topology)?;
        Ok(Self {
            production: Nginx::start(&lab.production)?,
            shadow: Nginx::start(&lab.shadow)?,
            lab,
        })
    }

    /// Hosts on one segment; nginx has these locations besides, on production and on the shadow.
    ///
    /// # Errors
    /// As [`Stage::new`].
    pub fn with_locations(production: &str, shadow: &str) -> Result<Self> {
        let lab = Lab::new()?;
        Ok(Self {
            production: Nginx::start_with_locations(&lab.production, production)?,
            shadow: Nginx::start_with_locations(&lab.shadow, shadow)?,
            lab,
        })
    }

    /// Hosts on one segment, a production host that forwards, and a shadow whose answers from port
    /// 80 go there.
    ///
    /// # Errors
    /// As [`Stage::new`].
    pub fn with_route() -> Result<Self> {
        let stage = Self::new()?;
        let (production, shadow) = (&stage.lab.production, &stage.lab.shadow);
        production.sysctl("net.ipv4.ip_forward", "1")?;
        production.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let gateways = [("-4", production.v4.to_string()), ("-6", production.v6.to_string())];
        for (family, gateway) in gateways {
            let ip = |args: &str| {
                shadow.run("ip", [family].into_iter().chain(args.split_whitespace())).map(drop)
            };
            ip(&format!("route add default via {gateway} dev eth0 table 77"))?;
            ip("rule add ipproto tcp sport 80 table 77")?;
        }
        Ok(stage)
    }

    /// The standard output of `shadowtap guard` on the production host.
    ///
    /// # Errors
    /// When it fails.
    pub fn guard(&self, args: &[&str]) -> Result<String> {
        said(&self.lab.production, &[&["guard"], args].concat())
    }

    /// `shadowtap mirror` from port 80 to the shadow's, with further flags.
    ///
    /// # Errors
    /// As [`Mirror::start`].
    pub fn mirror(&self, family: Family, flags: &[&str]) -> Result<Mirror> {
        let shadow = at(&self.lab.shadow, family).to_string();
        let mut args = vec!["--iface", "eth0", "--port", "80", "--shadow", &shadow];
        args.extend(flags);
        Mirror::start(&self.lab.production, &args)
    }

    /// The default mix toward production.
    #[must_use]
    pub fn mix(&self, family: Family, requests: u64, seed: u64) -> Mix {
        let targets = vec![at(&self.lab.production, family)];
        Mix { requests: Some(requests), ..Mix::new(targets, seed) }
    }

    /// Sends `mix`; production must answer every request as expected.
    ///
    /// # Errors
    /// When it does not, with the seed.
    pub fn send(&self, mix: &Mix) -> Result<Report> {
        let report = run_traffic(&self.lab.client, mix, &Progress::default())?;
        let failures = &report.failures;
        ensure!(failures.is_empty(), "seed {}: production failed: {failures:#?}", mix.seed);
        Ok(report)
    }

    /// Sends `mix` for as long as `act` takes; production must answer every request as expected.
    ///
    /// # Errors
    /// When it does not, and `act`'s own.
    pub fn send_while(&self, mix: &Mix, act: impl FnOnce() -> Result<()>) -> Result<Report> {
        let progress = Progress::default();
        let report = scope(|scope| -> Result<_> {
            let load = scope.spawn(|| run_traffic(&self.lab.client, mix, &progress));
            let acted = act();
            progress.stop.store(true, Ordering::Relaxed);
            let report = load.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            acted.map(|()| report)
        })?;
        ensure!(report.failures.is_empty(), "production failed: {:#?}", report.failures);
        Ok(report)
    }

    /// Production's log holds each of `report`'s requests exactly once.
    ///
    /// # Errors
    /// When it does not.
    pub fn production_log(&self, report: &Report) -> Result<Vec<Entry>> {
        let log = self.production.log_of(report.completed.len())?;
        let differences = check_against_client(&report.completed, &log);
        ensure!(differences.is_empty(), "production's log: {differences}");
        Ok(log)
    }

    /// The shadow's log holds each request of production's exactly once, and the same.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_shadow(&self, production: &[Entry]) -> Result<()> {
        let log = self.shadow.log_of(production.len())?;
        let differences = compare(production, &log);
        ensure!(differences.is_empty(), "the shadow's log: {differences}");
        Ok(())
    }
}

/// Port 80 of `host`.
#[must_use]
pub fn at(host: &Host, family: Family) -> std::net::SocketAddr {
    match family {
        Family::V4 => host.at4(80),
        Family::V6 => host.at6(80),
    }
}

/// It exited with 0 and its books balance.
///
/// # Panics
/// When they do not balance.
///
/// # Errors
/// When it exited otherwise.
pub fn check_ended(ended: &Ended) -> Result<()> {
    ensure!(ended.status.code() == Some(0), "{}: {}", ended.status, ended.stderr);
    ended.books.assert_balanced();
    Ok(())
}

/// Everything captured was delivered: nothing lost, skipped or aborted.
///
/// # Errors
/// When something was, with the whole summary.
pub fn check_lossless(books: &Books, requests: usize) -> Result<()> {
    let expected = [
        ("packets.lost", books.sum("packets.lost"), 0),
        ("flows.skipped", books.sum("flows.skipped"), 0),
        ("flows.aborted", books.sum("flows.aborted"), 0),
        ("bytes.delivered", books.get("bytes.delivered"), books.get("bytes.captured")),
        ("requests.seen", books.get("requests.seen"), requests as u64),
        ("requests.delivered", books.get("requests.delivered"), requests as u64),
        ("requests.answered", books.get("requests.answered"), requests as u64),
    ];
    for (key, found, wanted) in expected {
        ensure!(found == wanted, "{key} is {found}, not {wanted}: {:#}", books.json());
    }
    Ok(())
}

/// What production's clients saw with a mirror is what they saw without one, before and after it in
/// the same run: every request answered, and as fast.
///
/// Generous: two cores are shared by all hosts, and by whatever else runs on this machine. But far
/// less than a retransmission, or than waiting for anything that a bad shadow does.
///
/// # Errors
/// When a request failed, or the median is more than four times the other, and 10 ms.
pub fn check_untouched(alone: &[Report], mirrored: &Report) -> Result<()> {
    for (how, report) in alone.iter().map(|it| ("alone", it)).chain([("mirrored", mirrored)]) {
        let (p50, p99) = (report.latency(50), report.latency(99));
        println!("production {how}: {} answered, p50 {p50:?}, p99 {p99:?}", report.completed.len());
        ensure!(!report.completed.is_empty(), "production {how}: nothing was asked");
        ensure!(report.failures.is_empty(), "production {how} failed: {:#?}", report.failures);
    }
    let slowest = alone.iter().map(|report| report.latency(50)).max().unwrap_or_default();
    let bound = slowest * 4 + Duration::from_millis(10);
    let median = mirrored.latency(50);
    ensure!(median < bound, "production answers in {median:?}, alone in {slowest:?}");
    Ok(())
}

/// Runs `shadowtap` to its end, which must come within 30 s: a probe waits for what does not come.
///
/// # Errors
/// When it cannot be started or runs on.
pub fn shadowtap(host: &Host, args: &[&str]) -> Result<Output> {
    let mut command = host.command(binary()?);
    let mut process: Process = host.spawn("shadowtap", command.args(args))?;
    let status = process.wait(Duration::from_secs(30))?;
    let (stdout, stderr) = (process.stdout().into_bytes(), process.stderr().into_bytes());
    Ok(Output { status, stdout, stderr })
}

/// What `shadowtap` says on its standard output when it succeeds.
fn said(host: &Host, args: &[&str]) -> Result<String> {
    let output = shadowtap(host, args)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {error}", args.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The standard output of `shadowtap ctl` on the host of a mirror.
///
/// # Errors
/// When it fails.
pub fn ctl(host: &Host, args: &[&str]) -> Result<String> {
    said(host, &[&["ctl"], args].concat())
}

/// The books have these figures.
///
/// # Errors
/// The first that is another.
pub fn check_counts(books: &Books, expected: &[(&str, usize)]) -> Result<()> {
    for (key, wanted) in expected {
        let found = books.get(key);
        ensure!(found == *wanted as u64, "{key} is {found}, not {wanted}: {:#}", books.json());
    }
    Ok(())
}

/// Waits until so many exchanges were compared; the metrics then.
///
/// # Errors
/// When they are not within `limit`.
pub fn wait_for_comparisons(mirror: &Mirror, count: usize, limit: Duration) -> Result<String> {
    wait_for(&format!("{count} comparisons"), limit, || {
        let metrics = mirror.metrics()?;
        let compared = sum_metric(&metrics, "shadowtap_comparisons").unwrap_or(0.0);
        Ok((compared >= count as f64).then_some(metrics))
    })
}

/// How many eBPF programs are attached to `eth0` of `host`, by TCX or clsact.
///
/// Not by bpftool: Debian 12's knows no TCX.
///
/// # Errors
/// When the kernel refuses to say.
pub fn attached(host: &Host) -> Result<usize> {
    let tcx: usize = host.enter(|| {
        // TCX is from kernel 6.6; an older one refuses the question.
        let list = |direction| SchedClassifier::query_tcx("eth0", direction).ok();
        let both = [TcAttachType::Ingress, TcAttachType::Egress].map(list);
        both.into_iter().flatten().map(|(_, programs)| programs.len()).sum()
    })?;
    let mut clsact = 0;
    for direction in ["ingress", "egress"] {
        let text = host.run("tc", ["filter", "show", "dev", "eth0", direction])?;
        clsact += text.lines().filter(|line| line.contains("direct-action")).count();
    }
    Ok(tcx + clsact)
}

/// Waits until the shadow has logged `count` requests.
///
/// # Errors
/// When it has not within 30 s.
pub fn wait_for_shadow(shadow: &Nginx, count: usize) -> Result<()> {
    let what = format!("{count} requests at the shadow");
    wait_for(&what, Duration::from_secs(30), || Ok((shadow.logged() >= count).then_some(())))
}
