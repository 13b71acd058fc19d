//! Where and when it was measured.

use std::{fs, time::SystemTime};

use anyhow::{Context as _, Result};
use procfs::{CpuInfo, Current as _, LoadAverage, Meminfo};
use serde::Serialize;

use crate::host::{self, Distribution};

/// What absolute figures depend on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processors' model.
    pub cpu: String,
    /// Processors.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// The distribution.
    pub distribution: String,
    /// Memory, octets.
    pub memory: u64,
    /// When it began, RFC 3339.
    pub date: String,
    /// The commit measured, with `+` when the checkout had changes.
    pub commit: String,
    /// How many tasks ran before it began (load average over a minute): the machine is to be idle.
    pub load_before: f32,
}

/// More than the benchmark's own set-up.
const BUSY: f32 = 0.7;

impl Machine {
    /// This one, now.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of_this_host() -> Result<Self> {
        let cpu = CpuInfo::current().context("read /proc/cpuinfo")?;
        let git = |args: &[&str]| {
            duct::cmd("git", args).dir(host::root()).stderr_null().read().unwrap_or_default()
        };
        let changed = if git(&["status", "--porcelain"]).is_empty() { "" } else { "+" };
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel release")?;
        Ok(Self {
            cpu: cpu.model_name(0).unwrap_or("unknown").to_owned(),
            cores: cpu.num_cores(),
            kernel: kernel.trim().to_owned(),
            distribution: Distribution::of_this_host().unwrap_or_default().name,
            memory: Meminfo::current().context("read /proc/meminfo")?.mem_total,
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            commit: git(&["rev-parse", "--short=12", "HEAD"]) + changed,
            load_before: LoadAverage::current().context("read /proc/loadavg")?.one,
        })
    }

    /// Whether something else ran, so that figures are an example at best.
    pub fn is_busy(&self) -> bool {
        self.load_before > BUSY
    }

    /// In one line.
    pub fn line(&self) -> String {
        let busy = if self.is_busy() { ": BUSY, figures are an example at best" } else { "" };
        format!(
            "{}, {} cores, {} GiB, {}, Linux {}, {}, commit {}, load before {:.2}{busy}",
            self.cpu,
            self.cores,
            self.memory.div_ceil(1 << 30),
            self.distribution,
            self.kernel,
            self.date,
            self.commit,
            self.load_before,
        )
    }
}
