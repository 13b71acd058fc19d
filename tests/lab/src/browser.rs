//! A headless Chromium that a WebDriver client drives.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::process::Process;
use crate::wait::wait_for;

const PORT: u16 = 9_515;

/// Chromium as root, silent toward the network, from nothing to nothing.
const ARGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
];

/// A running chromedriver. Ends when dropped, with every process of the browsers that it has started.
#[derive(Debug)]
pub struct Browser {
    process: Process,
    profile: PathBuf,
}

impl Browser {
    /// Starts chromedriver on `host`, and waits until it listens.
    ///
    /// # Errors
    /// When it is missing, ends, or does not listen within 20 s.
    pub fn start(host: &Host) -> Result<Self> {
        let profile = host.folder().join("chromium");
        fs::create_dir_all(&profile).context("make the browser's profile")?;
        // A process namespace of its own: the browser's many processes cannot outlive it.
        let mut command = host.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "chromedriver"]);
        command.arg(format!("--port={PORT}"));
        let process = host.spawn("chromedriver", &mut command)?;
        let mut browser = Self { process, profile };
        wait_for("chromedriver", Duration::from_secs(20), || {
            if let Some(status) = browser.process.try_status()? {
                bail!("chromedriver ended with {status}: {}", browser.process.stderr().trim());
            }
            Ok(host.connect(([127, 0, 0, 1], PORT).into(), Duration::from_secs(1)).ok())
        })?;
        Ok(browser)
    }

    /// Where a WebDriver client finds it, from the host's network.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{PORT}")
    }

    /// Arguments of the browser that a session starts.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let profile = format!("--user-data-dir={}", self.profile.display());
        ARGS.iter().map(|arg| (*arg).to_owned()).chain([profile]).collect()
    }
}
