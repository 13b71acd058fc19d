//! What is measured: mirrors, and production without one.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use serde::Serialize;
use shadow_lab::{Books, Mirror, Process};

use super::{
    load::Load,
    stage::{Counted, Stage},
};

/// A mirror of production's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Production alone.
    None,
    /// Shadowtap that mirrors another port, and sees this one's packets pass.
    Other,
    /// Shadowtap with `--compare off`, toward the sink.
    Sink,
    /// Shadowtap with `--compare off`.
    Off,
    /// Shadowtap with `--compare status`.
    Status,
    /// Shadowtap with `--compare body`.
    Body,
    /// nginx's mirror module, in production itself.
    Nginx,
    /// GoReplay.
    Gor,
    /// tcpcopy with intercept.
    Tcpcopy,
}

/// Binaries that were given, by name.
pub type Peers = BTreeMap<String, PathBuf>;

impl Subject {
    /// Whether it can be measured at a load, with these binaries.
    pub fn can(self, load: Load, peers: &Peers) -> bool {
        match self {
            // Its mirror begins after the phase in which nginx answers an upload here.
            Self::Nginx => load.body() == 0,
            Self::Gor => peers.contains_key("gor"),
            Self::Tcpcopy => peers.contains_key("tcpcopy") && peers.contains_key("intercept"),
            _ => true,
        }
    }

    /// The server that the client talks to.
    pub const fn production(self, stage: &Stage) -> &Counted {
        match self {
            Self::Nginx => &stage.mirroring,
            _ => &stage.production,
        }
    }

    /// Whether it mirrors production's traffic.
    pub const fn mirrors(self) -> bool {
        !matches!(self, Self::None | Self::Other)
    }

    /// Starts it.
    ///
    /// # Errors
    /// It does not start; says why.
    pub fn start(self, stage: &Stage, binary: &Path, peers: &Peers) -> Result<Running> {
        let (production, client) = (&stage.lab.production, &stage.lab.client);
        let shadow = stage.shadow.address().to_string();
        let shadowtap = |port: &str, to: &str, depth: &str| {
            let flags = ["--iface", "eth0", "--port", port, "--shadow", to, "--compare", depth];
            let flags = [&flags[..], &["--live", "off"]].concat();
            Mirror::start_binary(binary, production, &flags).map(Box::new).map(Running::Shadowtap)
        };
        let peer = |name: &str| peers.get(name).with_context(|| format!("no --peer {name}=PATH"));
        match self {
            Self::None | Self::Nginx => Ok(Running::Nothing),
            Self::Other => shadowtap("88", &shadow, "off"),
            Self::Sink => shadowtap("80", &stage.sink_address().to_string(), "off"),
            Self::Off => shadowtap("80", &shadow, "off"),
            Self::Status => shadowtap("80", &shadow, "status"),
            Self::Body => shadowtap("80", &shadow, "body"),
            Self::Gor => {
                let mut command = production.command(peer("gor")?);
                command.args(["--input-raw", ":80", "--output-http", &format!("http://{shadow}")]);
                let process = production.spawn("gor", &mut command)?;
                Ok(Running::Processes(vec![settled(process)?]))
            }
            Self::Tcpcopy => {
                // The client's host is the assistant: the shadow's answers are routed to it.
                let nets = "10.88.0.0/16";
                let via = client.v4.to_string();
                stage.lab.shadow.run("ip", ["route", "replace", nets, "via", &via])?;
                let mut intercept = client.command(peer("intercept")?);
                let filter = format!("tcp and src host {} and src port 80", stage.lab.shadow.v4);
                intercept.args(["-i", "eth0", "-F", &filter]);
                let intercept = settled(client.spawn("intercept", &mut intercept)?)?;
                let mut tcpcopy = production.command(peer("tcpcopy")?);
                let rule = format!("80-{shadow}");
                tcpcopy.args(["-x", &rule, "-s", &via, "-c", "10.88.0.x"]);
                let tcpcopy = settled(production.spawn("tcpcopy", &mut tcpcopy)?)?;
                Ok(Running::Processes(vec![tcpcopy, intercept]))
            }
        }
    }
}

/// What mirrors.
pub enum Running {
    /// Nothing, or production itself.
    Nothing,
    /// Shadowtap.
    Shadowtap(Box<Mirror>),
    /// Another mirror's programs.
    Processes(Vec<Process>),
}

impl Running {
    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Shadowtap(mirror) => vec![mirror.process.pid()],
            Self::Processes(list) => list.iter().map(Process::pid).collect(),
        }
    }

    /// The daemon's process, of Shadowtap.
    pub fn shadowtap(&self) -> Option<u32> {
        match self {
            Self::Shadowtap(mirror) => Some(mirror.process.pid()),
            Self::Nothing | Self::Processes(_) => None,
        }
    }

    /// Ends it; Shadowtap's books, which balance.
    ///
    /// # Errors
    /// It does not end, or the books do not balance.
    pub fn stop(self) -> Result<Option<Books>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Shadowtap(mirror) => {
                let ended = mirror.stop()?;
                ensure!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
                let imbalances = ended.books.imbalances();
                ensure!(imbalances.is_empty(), "{}: {:#}", imbalances[0], ended.books.json());
                Ok(Some(ended.books))
            }
            Self::Processes(list) => {
                for mut process in list {
                    process.stop(Signal::SIGTERM, Duration::from_secs(10))?;
                }
                Ok(None)
            }
        }
    }
}

/// There is nothing to ask whether it captures yet.
fn settled(mut process: Process) -> Result<Process> {
    std::thread::sleep(Duration::from_secs(1));
    if let Some(status) = process.try_status()? {
        anyhow::bail!("it ended with {status}: {} {}", process.stdout(), process.stderr());
    }
    Ok(process)
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "no mirror",
            Self::Other => "another port",
            Self::Sink => "off, sink",
            Self::Off => "off",
            Self::Status => "status",
            Self::Body => "body",
            Self::Nginx => "nginx mirror",
            Self::Gor => "GoReplay",
            Self::Tcpcopy => "tcpcopy",
        })
    }
}
