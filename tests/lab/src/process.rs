//! A child process that ends with its owner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_for;

/// A running program with its output in files. Killed and waited for when dropped.
#[derive(Debug)]
pub struct Process {
    label: String,
    child: Child,
    status: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`, with its output in `folder/label.{out,err}`.
    ///
    /// # Errors
    /// When the files cannot be made or the program cannot be started.
    pub fn spawn(folder: &Path, label: &str, command: &mut Command) -> Result<Self> {
        let stdout = folder.join(format!("{label}.out"));
        let stderr = folder.join(format!("{label}.err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).with_context(|| format!("create {}", stdout.display()))?)
            .stderr(File::create(&stderr).with_context(|| format!("create {}", stderr.display()))?)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self { label: label.to_owned(), child, status: None, stdout, stderr })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Octets of it in memory (`VmRSS`, proc(5)); 0 when it has ended.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1_024
    }

    /// The file that has its standard output.
    #[must_use]
    pub fn stdout_file(&self) -> PathBuf {
        self.stdout.clone()
    }

    /// What it has written to standard output until now.
    #[must_use]
    pub fn stdout(&self) -> String {
        fs::read(&self.stdout).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// What it has written to standard error until now.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read(&self.stderr).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// The exit status, or `None` while it runs.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn try_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait().with_context(|| format!("wait {}", self.label))?;
        }
        Ok(self.status)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.label);
        wait_for(&what, limit, || self.try_status())
    }

    /// Sends `signal`. Does nothing to a process that has ended.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.try_status()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(i32::try_from(self.pid()).context("pid")?);
        kill(pid, signal).with_context(|| format!("{signal} to {}", self.label))
    }

    /// Asks with `signal`, then waits for the end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = self.stderr();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(20)..];
            eprintln!("--- last words of {}\n{}", self.label, last.join("\n"));
        }
    }
}
