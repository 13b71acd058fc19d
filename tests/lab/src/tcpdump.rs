//! What really was on the wire.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::host::Host;
use crate::process::Process;
use crate::wait::wait_for;

/// A running capture of packet headers on one interface.
#[derive(Debug)]
pub struct Tcpdump {
    process: Process,
    file: PathBuf,
}

/// A finished capture.
#[derive(Clone, Debug)]
pub struct Capture {
    file: PathBuf,
}

impl Tcpdump {
    /// Starts capturing on `interface` of `host` what matches `filter` (pcap-filter(7)), and waits
    /// until the kernel does.
    ///
    /// # Errors
    /// When tcpdump is missing or refuses the filter.
    pub fn start(host: &Host, interface: &str, filter: &str) -> Result<Self> {
        Self::start_with(host, interface, filter, "192")
    }

    /// The same of whole packets.
    ///
    /// # Errors
    /// As [`Tcpdump::start`].
    pub fn start_whole(host: &Host, interface: &str, filter: &str) -> Result<Self> {
        Self::start_with(host, interface, filter, "262144")
    }

    fn start_with(host: &Host, interface: &str, filter: &str, len: &str) -> Result<Self> {
        let file = host.folder().join(format!("{interface}-{:x}.pcap", unique()));
        let mut command = host.command("tcpdump");
        command.args(["-i", interface, "-n", "-U", "-s", len, "-B", "65536"]);
        command.args(["-Z", "root", "--immediate-mode", "-w"]).arg(&file);
        command.args(filter.split_whitespace());
        let mut process = host.spawn(&format!("tcpdump-{interface}"), &mut command)?;
        wait_for("tcpdump", Duration::from_secs(10), || {
            if let Some(status) = process.try_status()? {
                bail!("tcpdump ended with {status}: {}", process.stderr().trim());
            }
            Ok(process.stderr().contains("listening on").then_some(()))
        })?;
        Ok(Self { process, file })
    }

    /// Stops when no packet has come for 200 ms.
    ///
    /// # Errors
    /// When packets do not cease for 10 s, or the kernel dropped some: then a count proves nothing.
    pub fn stop(mut self) -> Result<Capture> {
        let mut last = (0, Instant::now());
        wait_for("the end of packets", Duration::from_secs(10), || {
            let len = fs::metadata(&self.file).map_or(0, |meta| meta.len());
            if len != last.0 {
                last = (len, Instant::now());
            }
            Ok((last.1.elapsed() > Duration::from_millis(200)).then_some(()))
        })?;
        self.process.stop(Signal::SIGINT, Duration::from_secs(10))?;
        let words = self.process.stderr();
        ensure!(words.contains("\n0 packets dropped by kernel"), "tcpdump: {}", words.trim());
        Ok(Capture { file: self.file.clone() })
    }
}

impl Capture {
    /// How many packets match `filter`.
    ///
    /// # Errors
    /// When tcpdump refuses the filter.
    pub fn count(&self, filter: &str) -> Result<usize> {
        Ok(self.lines(filter)?.len())
    }

    /// The packets that match `filter`, as `tcpdump -n` prints them.
    ///
    /// # Errors
    /// As [`Capture::count`].
    pub fn lines(&self, filter: &str) -> Result<Vec<String>> {
        let mut command = Command::new("tcpdump");
        command.args(["-n", "-r"]).arg(&self.file).args(filter.split_whitespace());
        let output = command.output().context("start tcpdump")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tcpdump {filter:?}: {}", error.trim());
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// The pcap file. Goes with the lab.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
