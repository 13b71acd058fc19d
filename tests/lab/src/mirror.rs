//! The program under test, running on production.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::books::Books;
use crate::host::Host;
use crate::http::{Connection, Request};
use crate::process::Process;
use crate::wait::wait_for;

const UP: Duration = Duration::from_secs(20);
/// Longer than any `--drain` that a test gives.
const DOWN: Duration = Duration::from_secs(60);

/// A running `shadowtap mirror`. Killed when dropped.
#[derive(Debug)]
pub struct Mirror {
    /// The process, for signals and its output.
    pub process: Process,
    host: Host,
    listen: u16,
    summary: PathBuf,
}

/// A mirror that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Its summary.
    pub books: Books,
    /// What it said.
    pub stderr: String,
}

/// The `shadowtap` to test: `$SHADOWTAP_BIN`, else the newer one of `target/{debug,release}`.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SHADOWTAP_BIN") {
        return Ok(path.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let candidates = ["debug", "release"].map(|profile| target.join(profile).join("shadowtap"));
    let age = |path: &PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let newest = candidates.into_iter().filter(|path| path.exists()).max_by_key(age);
    newest.context("no target/*/shadowtap: build it first with `cargo xtask build`")
}

impl Mirror {
    /// Starts `shadowtap mirror` with `args`, `--listen` and `--summary`, and waits until it is
    /// attached (`/healthz` answers 200).
    ///
    /// # Errors
    /// When it ends instead; the message holds what it said.
    pub fn start(host: &Host, args: &[&str]) -> Result<Self> {
        Self::start_binary(&binary()?, host, args)
    }

    /// The same with a given `shadowtap`.
    ///
    /// # Errors
    /// As [`Mirror::start`].
    pub fn start_binary(binary: &Path, host: &Host, args: &[&str]) -> Result<Self> {
        // A listener of its own each, also for several mirrors on one host.
        static LISTEN: AtomicU16 = AtomicU16::new(9_900);
        let listen = LISTEN.fetch_add(1, Ordering::Relaxed);
        let label = format!("mirror-{listen}");
        let summary = host.folder().join(format!("{label}.json"));
        let mut command = host.command(binary);
        command.arg("mirror").args(args);
        // A test's servers and clients are what presses its host.
        for limit in ["--cpu-limit", "--pressure-limit"] {
            if !args.contains(&limit) {
                command.args([limit, "off"]);
            }
        }
        command.args(["--listen", &format!("127.0.0.1:{listen}"), "--summary"]).arg(&summary);
        let process = host.spawn(&label, &mut command)?;
        let mut mirror = Self { process, host: host.clone(), listen, summary };
        wait_for("the mirror to attach", UP, || {
            if let Some(status) = mirror.process.try_status()? {
                bail!("the mirror ended with {status}: {}", mirror.process.stderr().trim());
            }
            Ok(mirror.is_healthy().then_some(()))
        })?;
        Ok(mirror)
    }

    /// Where it listens, on its host.
    #[must_use]
    pub fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.listen)
    }

    /// `/healthz` answers 200.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.get("/healthz").is_ok()
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn metrics(&self) -> Result<String> {
        self.get("/metrics")
    }

    /// The sum of a metric over its labels, `None` when it is not there. Counters are found with and
    /// without `_total`.
    ///
    /// # Errors
    /// When `/metrics` does not answer.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        Ok(sum_metric(&self.metrics()?, name))
    }

    fn get(&self, uri: &str) -> Result<String> {
        let address = ([127, 0, 0, 1], self.listen).into();
        let stream = self.host.connect(address, Duration::from_secs(2))?;
        let mut connection = Connection::new(stream, Duration::from_secs(5))?;
        let response = connection.exchange(&Request::get(uri).header("Connection", "close"))?;
        ensure!(response.status == 200, "{uri} answered {}", response.status);
        Ok(String::from_utf8_lossy(&response.body).into_owned())
    }

    /// Waits until every request captured has been answered by the shadow, or `limit` has passed.
    /// For tests whose sessions stay open.
    ///
    /// # Errors
    /// When `/metrics` does not answer.
    pub fn wait_for_answers(&self, limit: Duration) -> Result<()> {
        let what = "the shadow's answers";
        let _ = wait_for(what, limit, || {
            let metrics = self.metrics()?;
            let seen = sum_metric(&metrics, "shadowtap_requests_seen");
            let answered = sum_metric(&metrics, "shadowtap_requests_answered");
            Ok((seen.is_some() && seen == answered).then_some(()))
        });
        self.metrics().map(drop)
    }

    /// Stops it with SIGTERM and reads its summary.
    ///
    /// # Errors
    /// When it does not end in 60 s, or left no summary.
    pub fn stop(self) -> Result<Ended> {
        self.stop_with(Signal::SIGTERM)
    }

    /// The same with another signal.
    ///
    /// # Errors
    /// As [`Mirror::stop`].
    pub fn stop_with(mut self, signal: Signal) -> Result<Ended> {
        self.process.signal(signal)?;
        self.ended(DOWN)
    }

    /// Waits until it ends by itself, as with `--duration`, and reads its summary.
    ///
    /// # Errors
    /// As [`Mirror::stop`], with the given limit.
    pub fn ended(mut self, limit: Duration) -> Result<Ended> {
        let status = self.process.wait(limit)?;
        let stderr = self.process.stderr();
        let books = Books::read(&self.summary)
            .with_context(|| format!("the mirror ended with {status}: {}", stderr.trim()))?;
        Ok(Ended { status, books, stderr })
    }
}

/// The sum of the metric `name` over its labels in the text of a `/metrics`.
#[must_use]
pub fn sum_metric(text: &str, name: &str) -> Option<f64> {
    let total = format!("{name}_total");
    let values = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let metric = series.split('{').next()?;
        (metric == name || metric == total).then(|| value.parse::<f64>().ok()).flatten()
    });
    values.reduce(|a, b| a + b)
}

/// The values of the metric `name` that are not 0, by their label `reason`.
#[must_use]
pub fn reasons(text: &str, name: &str) -> BTreeMap<String, u64> {
    let prefix = format!("{name}_total{{reason=\"");
    let values = text.lines().filter_map(|line| {
        let (reason, value) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
        Some((reason.to_owned(), value.parse().ok()?))
    });
    values.filter(|(_, value)| *value != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_did_not_happen_are_left_out() {
        let text = "a_total{reason=\"x\"} 3\na_total{reason=\"y\"} 0\nab_total{reason=\"z\"} 1\n";
        assert_eq!(reasons(text, "a"), [("x".to_owned(), 3)].into());
    }

    #[test]
    fn metrics_are_summed_over_labels() {
        let text = "# TYPE a counter\na_total{x=\"1\"} 3\na_total{x=\"2\"} 4\nab 9\n";
        assert_eq!(sum_metric(text, "a"), Some(7.0));
        assert_eq!(sum_metric(text, "ab"), Some(9.0));
        assert_eq!(sum_metric(text, "c"), None);
    }
}
