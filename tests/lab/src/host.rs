//! A host: one network namespace with an interface or more.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::cleanup;
use crate::process::Process;

/// A host of a [`Lab`](crate::Lab). A cheap handle: the namespace belongs to the lab.
#[derive(Clone, Debug)]
pub struct Host {
    /// `client`, `production`, `shadow`, …
    pub role: String,
    /// The network namespace, as `ip netns` names it.
    pub namespace: String,
    /// The address on `eth0`.
    pub v4: Ipv4Addr,
    /// The address on `eth0`.
    pub v6: Ipv6Addr,
    folder: PathBuf,
}

impl Host {
    pub(crate) fn new(role: &str, lab: &str, v4: Ipv4Addr, v6: Ipv6Addr, folder: &Path) -> Self {
        Self {
            role: role.to_owned(),
            namespace: format!("{lab}-{role}"),
            v4,
            v6,
            folder: folder.to_path_buf(),
        }
    }

    /// Where this host's programs keep their files. Goes with the lab.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `port` at the IPv4 address.
    #[must_use]
    pub fn at4(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.v4), port)
    }

    /// `port` at the IPv6 address.
    #[must_use]
    pub fn at6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.v6), port)
    }

    /// A command that runs on this host. Its pid is the program's own.
    ///
    /// Only the network namespace changes; `ip netns exec` would also hide `/sys/fs/bpf`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace_path().display())).arg("--").arg(program);
        // Debian keeps nginx where a user's PATH does not look.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        command
    }

    /// Starts a program on this host, output in `folder()/label.{out,err}`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, label: &str, command: &mut Command) -> Result<Process> {
        Process::spawn(&self.folder, label, command)
    }

    /// Runs a program to its end and gives its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the message holds its standard error.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        let mut command = self.command(program);
        let output = command.args(args).output().with_context(|| format!("start {command:?}"))?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("{command:?} on {}: {}: {}", self.role, output.status, error.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sets a kernel parameter of this host, such as `net.ipv4.ip_forward`.
    ///
    /// # Errors
    /// When the kernel does not know the name or refuses the value.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        self.enter(|| std::fs::write(&path, value))?
            .with_context(|| format!("set {name}={value} on {}", self.role))
    }

    /// Runs `f` on this host's network, in a thread of its own. Sockets made inside stay usable outside.
    ///
    /// # Errors
    /// When the namespace cannot be entered (it is gone, or not root).
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let result = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter_for_good()?;
                    Ok(f())
                })
                .join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread to this host's network, until the thread ends.
    ///
    /// # Errors
    /// As [`Host::enter`].
    pub fn enter_for_good(&self) -> Result<()> {
        let path = self.namespace_path();
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("enter {}: are you root?", self.namespace))
    }

    /// Where this host's guards are pinned, once one is.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn pins(&self) -> Result<PathBuf> {
        let path = self.namespace_path();
        let namespace =
            std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?;
        Ok(Path::new(cleanup::PINS).join(namespace.ino().to_string()))
    }

    /// A TCP connection from this host.
    ///
    /// # Errors
    /// As [`TcpStream::connect_timeout`]; a namespace that cannot be entered counts as one.
    pub fn connect(&self, to: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        self.enter(|| TcpStream::connect_timeout(&to, limit))
            .unwrap_or_else(|error| Err(io::Error::other(format!("{error:#}"))))
    }

    fn namespace_path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.namespace)
    }
}
