//! A real redis, for a protocol that is not HTTP.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::host::Host;
use crate::process::Process;
use crate::wait::wait_for;

/// A running redis without persistence. Ends when dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    host: Host,
}

impl Redis {
    /// Starts it on port 6379 of `host`, IPv4 and IPv6, and waits until it answers.
    ///
    /// # Errors
    /// When redis is missing or does not come up in 10 s.
    pub fn start(host: &Host) -> Result<Self> {
        let mut command = host.command("redis-server");
        command.args(["--bind", "0.0.0.0", "::", "--port", "6379", "--protected-mode", "no"]);
        command.args(["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]);
        command.arg("--dir").arg(host.folder());
        let process = host.spawn("redis", &mut command)?;
        let mut redis = Self { process, host: host.clone() };
        wait_for("redis", Duration::from_secs(10), || {
            if let Some(status) = redis.process.try_status()? {
                bail!("redis ended with {status}: {}", redis.process.stdout().trim());
            }
            Ok(redis.cli(&["PING"]).ok().filter(|answer| answer == "PONG"))
        })?;
        Ok(redis)
    }

    /// A command through `redis-cli` on the server's own host, its answer trimmed.
    ///
    /// # Errors
    /// When redis does not answer.
    pub fn cli(&self, words: &[&str]) -> Result<String> {
        let answer = self.host.run("redis-cli", words)?;
        Ok(answer.trim().to_owned())
    }

    /// A digest of the whole dataset, the same for equal datasets.
    ///
    /// # Errors
    /// As [`Redis::cli`].
    pub fn dataset(&self) -> Result<String> {
        let digest = self.cli(&["DEBUG", "DIGEST"])?;
        ensure!(digest.len() == 40, "DEBUG DIGEST answered {digest:?}");
        Ok(digest)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.stop(Signal::SIGTERM, Duration::from_secs(5));
    }
}
