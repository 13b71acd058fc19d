//! A real Prometheus that scrapes `/metrics`, and its linter.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::host::Host;
use crate::process::Process;
use crate::wait::wait_for;

const AT: &str = "127.0.0.1:9190";

/// A running Prometheus. Ends when dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    host: Host,
}

impl Prometheus {
    /// Scrapes `target` on `host` twice a second.
    ///
    /// # Errors
    /// When it is not installed, or not ready in 20 s.
    pub fn start(host: &Host, target: &str) -> Result<Self> {
        let folder = host.folder().join("prometheus");
        fs::create_dir_all(&folder)?;
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 500ms\nscrape_configs:\n  - job_name: shadowtap\n    \
             static_configs:\n      - targets: ['{target}']\n"
        );
        fs::write(&config, text).context("write prometheus.yml")?;
        let mut command = host.command("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={AT}"));
        let process = host.spawn("prometheus", &mut command)?;
        let mut prometheus = Self { process, host: host.clone() };
        wait_for("Prometheus", Duration::from_secs(20), || {
            if let Some(status) = prometheus.process.try_status()? {
                bail!("Prometheus ended with {status}: {}", prometheus.process.stderr().trim());
            }
            Ok(prometheus.query("up == 1").ok().filter(|samples| !samples.is_empty()))
        })?;
        Ok(prometheus)
    }

    /// The samples that `query` yields now, a line each as promtool prints them.
    ///
    /// # Errors
    /// When Prometheus refuses the query.
    pub fn query(&self, query: &str) -> Result<Vec<String>> {
        let url = format!("http://{AT}");
        let output = self.host.run("promtool", ["query", "instant", &url, query])?;
        Ok(output.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.stop(Signal::SIGTERM, Duration::from_secs(5));
    }
}

/// `promtool check metrics` has nothing to say about a `/metrics`.
///
/// # Errors
/// What it has to say.
pub fn lint(host: &Host, metrics: &str) -> Result<()> {
    let mut command = host.command("promtool");
    command.args(["check", "metrics"]);
    let file = host.folder().join("metrics.txt");
    fs::write(&file, metrics).context("write the metrics")?;
    command.stdin(Stdio::from(fs::File::open(&file)?));
    let output = command.output().context("run promtool")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success() && said.trim().is_empty(), "promtool: {said}");
    Ok(())
}
