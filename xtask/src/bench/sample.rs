//! One measurement: a load on production with a mirror or without.

use std::{
    collections::BTreeMap,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use shadow_lab::Books;

use super::{
    flame::Flames,
    load::Load,
    probe::{self, Cpu, Ebpf},
    sink::Attached,
    stage::Stage,
    subject::{Peers, Running, Subject},
};

/// How long a mirror may take to catch up after the load.
const CATCH_UP: Duration = Duration::from_secs(8);
/// Nothing more arrives.
const QUIET: Duration = Duration::from_millis(250);

/// What was measured. Times are microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// What production was asked.
    pub load: Load,
    /// What mirrored.
    pub subject: Subject,
    /// Counts from 0; measurements of one round stand beside each other.
    pub round: u32,
    /// Requests per second that production answered.
    pub rate: f64,
    /// Median, 99th and 99.9th percentile of production's latencies.
    pub latency: [f64; 3],
    /// Requests that production failed.
    pub failed: u64,
    /// Requests that production received.
    pub requests: u64,
    /// Requests that the shadow received. Of the sink: those that the mirror delivered.
    pub delivered: u64,
    /// Delivered per second, until the last had arrived.
    pub shadow_rate: f64,
    /// Production's processor time for a request.
    pub production_cpu: f64,
    /// The mirror's processor time for a delivered request, in its processes.
    pub cpu: f64,
    /// The part of it that is spent in the programs themselves, not in the kernel on their behalf.
    pub user: f64,
    /// On top of it, in eBPF programs.
    pub ebpf: f64,
    /// The mirror's peak in memory, octets.
    pub memory: u64,
    /// From capture to the engine: median and 99th percentile.
    pub lag: Option<[f64; 2]>,
    /// What Shadowtap's books say is missing, by its name there.
    pub missing: BTreeMap<String, u64>,
    /// Nanoseconds that the tap took for a packet.
    pub tap_nanos: f64,
    /// Nanoseconds that an empty program took for one beside it; where that was asked.
    pub empty_nanos: f64,
}

/// What stays the same for all measurements.
pub struct Bench<'a> {
    /// Hosts and servers.
    pub stage: &'a Stage,
    /// The daemon.
    pub binary: &'a Path,
    /// Other mirrors.
    pub peers: &'a Peers,
    /// How long each load runs.
    pub time: Duration,
    /// Where flame graphs of the first round go.
    pub flames: Option<&'a Flames>,
}

impl Bench<'_> {
    /// Measures once.
    ///
    /// # Errors
    /// Something did not start or end as it should, or a mirror's books do not balance.
    pub fn measure(&self, load: Load, subject: Subject, round: u32) -> Result<Sample> {
        let stage = self.stage;
        let server = subject.production(stage);
        let empty = (subject == Subject::Other)
            .then(|| Attached::empty(&stage.object, &stage.lab.production))
            .transpose()?;
        let running = subject.start(stage, self.binary, self.peers)?;
        let requests = server.requests()?;
        let shadow = stage.shadow.requests()?;
        let before = Usage::of(&running)?;
        let production_cpu = probe::cpu(server.pid())?;
        let began = Instant::now();
        let flames = self.flames.filter(|_| round == 0);
        let recording = flames.zip(running.shadowtap());
        let recording =
            recording.map(|(flames, pid)| flames.record(&stage.lab.production, pid)).transpose()?;
        let served = load.run(&stage.lab.client, server.address(), self.time)?;
        let quiet_since = self.catch_up(subject, shadow)?;
        // Only now: production may have had some in its sockets when the client left.
        let requests = server.requests()? - requests;
        let took = quiet_since - began;
        let production_cpu = probe::cpu(server.pid())? - production_cpu;
        let after = Usage::of(&running)?;
        if let Some((flames, recording)) = flames.zip(recording) {
            flames.draw(recording, load, subject)?;
        }
        let memory = running.pids().into_iter().map(probe::peak).sum::<Result<u64>>()?;
        let metrics = match &running {
            Running::Shadowtap(mirror) => mirror.metrics()?,
            _ => String::new(),
        };
        let empty_nanos = empty.as_ref().map(Attached::nanos).transpose()?.unwrap_or(0.0);
        let books = running.stop()?;
        // Only now: a mirror that lags sends what it still has when it is told to end.
        let shadow = stage.shadow.requests()? - shadow;
        if books.is_some() {
            // A guard that stays would be part of the next measurement.
            let remove = ["guard", "remove", "--all"];
            stage.lab.production.run(&self.binary.display().to_string(), remove)?;
        }
        let delivered = match (&books, subject) {
            (Some(books), Subject::Sink) => books.get("requests.delivered"),
            _ => shadow,
        };
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let each = |total: f64, count: u64| if count == 0 { 0.0 } else { total / count as f64 };
        let runs = after.ebpf.tap_runs - before.ebpf.tap_runs;
        let nanos = |ebpf: Ebpf| ebpf.nanos as f64 / 1e3;
        Ok(Sample {
            load,
            subject,
            round,
            rate: served.rate,
            latency: served.quantiles.map(micros),
            failed: served.failed,
            requests,
            delivered,
            shadow_rate: delivered as f64 / took.max(served.elapsed).as_secs_f64(),
            production_cpu: each(micros(production_cpu.total()), requests),
            cpu: each(micros((after.cpu - before.cpu).total()), delivered),
            user: each(micros((after.cpu - before.cpu).user), delivered),
            ebpf: each(nanos(after.ebpf) - nanos(before.ebpf), delivered),
            memory,
            lag: quantiles(&metrics, "shadowtap_capture_lag_seconds"),
            missing: books.as_ref().map(missing).unwrap_or_default(),
            tap_nanos: each((after.ebpf.tap_nanos - before.ebpf.tap_nanos) as f64, runs),
            empty_nanos,
        })
    }

    /// Waits until nothing more arrives at the shadow; since when.
    fn catch_up(&self, subject: Subject, before: u64) -> Result<Instant> {
        let ended = Instant::now();
        let mut changed = (ended, 0);
        while subject.mirrors() && ended.elapsed() < CATCH_UP {
            let arrived = match subject {
                Subject::Sink => self.stage.sink.answered()?,
                _ => self.stage.shadow.requests()? - before,
            };
            if arrived != changed.1 {
                changed = (Instant::now(), arrived);
            }
            if changed.0.elapsed() > QUIET {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        Ok(changed.0)
    }
}

/// What a mirror has used until now.
#[derive(Default)]
struct Usage {
    cpu: Cpu,
    ebpf: Ebpf,
}

impl Usage {
    fn of(running: &Running) -> Result<Self> {
        let mut usage = Self::default();
        for pid in running.pids() {
            usage.cpu = usage.cpu + probe::cpu(pid)?;
        }
        if let Some(pid) = running.shadowtap() {
            usage.ebpf = probe::ebpf(pid).context("read eBPF statistics")?;
        }
        Ok(usage)
    }
}

/// Packets that were lost, and flows that were skipped or aborted, by the reason.
fn missing(books: &Books) -> BTreeMap<String, u64> {
    let kinds = ["packets.lost", "flows.skipped", "flows.aborted"];
    let entries = books.flat().into_iter();
    let missing = entries.filter(|(key, _)| kinds.iter().any(|kind| key.starts_with(kind)));
    missing.filter_map(|(key, count)| Some((key, count.parse().ok()?))).collect()
}

/// Median and 99th percentile of a histogram in the text of `/metrics`, microseconds: as Prometheus'
/// `histogram_quantile` has it, evenly spread within a bucket.
fn quantiles(metrics: &str, name: &str) -> Option<[f64; 2]> {
    let prefix = format!("{name}_bucket{{le=\"");
    let mut buckets: Vec<(f64, f64)> = metrics
        .lines()
        .filter_map(|line| {
            let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
            // The last one has no bound, however that is written.
            let bound = bound.parse::<f64>().ok().filter(|bound| *bound < 1e9);
            Some((bound.unwrap_or(f64::INFINITY), count.parse().ok()?))
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = buckets.last().filter(|last| last.1 > 0.0)?.1;
    Some([0.5, 0.99].map(|share| {
        let wanted = total * share;
        let mut below = (0.0, 0.0);
        for &(bound, count) in &buckets {
            if count >= wanted {
                let part = (wanted - below.1) / (count - below.1).max(1.0);
                let end = if bound.is_finite() { bound } else { below.0 };
                return (below.0 + (end - below.0) * part) * 1e6;
            }
            below = (bound, count);
        }
        below.0 * 1e6
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn quantiles_lie_within_their_bucket() {
        let text = "x_bucket{le=\"0.0001\"} 50\nx_bucket{le=\"0.0002\"} 100\n\
            x_bucket{le=\"+Inf\"} 100\nx_count 100\n";
        let [p50, p99] = super::quantiles(text, "x").unwrap();
        assert!((p50 - 100.0).abs() < 0.1 && (p99 - 198.0).abs() < 0.1, "{p50} {p99}");
        assert_eq!(super::quantiles(text, "y"), None);
        assert_eq!(super::quantiles("x_bucket{le=\"+Inf\"} 0\n", "x"), None);
    }
}
