//! `shadowtap mirror`, from its configuration to the summary.

use std::fs::{File, OpenOptions};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Context as _;

use crate::config::{Config, HostPort};
use crate::host::{Host, Netlink, Route};
use crate::lock::{self, Locks};
use crate::preflight::{self, Plan};
use crate::setting::{Refusal, Setting};

/// Mirrors until told to stop.
///
/// # Errors
/// A [`Refusal`] when something stands against starting; anything else when it failed
/// while running.
pub fn run(config: Config) -> anyhow::Result<()> {
    crate::log::init(config.log_format, config.verbose);
    // One thread is enough for control; packets have a thread of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    runtime.block_on(async {
        let _prepared = Prepared::new(&config).await?;
        anyhow::Ok(())
    })
}

/// What is held before the first attachment.
#[derive(Debug)]
#[expect(dead_code, reason = "the capture that uses it follows")]
struct Prepared {
    plan: Plan,
    listener: Option<TcpListener>,
    summary: Option<File>,
    netlink: Netlink,
    _locks: Locks,
}

impl Prepared {
    /// All checks in order; nothing outlives an error.
    async fn new(config: &Config) -> anyhow::Result<Self> {
        let netlink = Netlink::open()?;
        let host = Host::read(&netlink).await?;
        preflight::check_privileges(&host)?;
        let (shadow, route) = reach(&config.shadow, &netlink).await?;
        let plan = preflight::check(config, &host, shadow, route)?;
        let locks = Locks::take(config, shadow, Path::new(lock::DIRECTORY))?;
        let listener = config.listen.as_ref().map(listen).transpose()?;
        let summary = config.summary.as_ref().map(create).transpose()?;
        Ok(Self { plan, listener, summary, netlink, _locks: locks })
    }
}

/// The shadow's first address that this host has a route to, once for the whole run.
async fn reach(
    shadow: &Setting<HostPort>,
    netlink: &Netlink,
) -> Result<(SocketAddr, Route), Refusal> {
    let HostPort { host, port } = &shadow.value;
    let addresses: Vec<IpAddr> = match host.parse() {
        Ok(address) => vec![address],
        Err(_) => tokio::net::lookup_host((host.as_str(), *port))
            .await
            .map_err(|error| {
                shadow.refuse(
                    format!("cannot be resolved: {error}"),
                    "give a name that resolves, or an address",
                )
            })?
            .map(|address| address.ip())
            .collect(),
    };
    let mut reason = "the name has no address".to_owned();
    for address in addresses {
        if address.is_unspecified() || address.is_multicast() {
            reason = format!("{address} is no address of one host");
            continue;
        }
        match netlink.route(address).await {
            Ok(route) => return Ok((SocketAddr::new(address, *port), route)),
            Err(error) => reason = format!("no route to {address}: {error}"),
        }
    }
    Err(shadow.refuse(reason, "give a shadow that this host can reach, see `ip route get`"))
}

fn listen(setting: &Setting<SocketAddr>) -> Result<TcpListener, Refusal> {
    let listener = TcpListener::bind(setting.value).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        setting.refuse(
            format!("cannot listen: {error}"),
            "give a free port on an address of this host",
        )
    })
}

/// Opened before the run, so that a summary is not lost at its end.
fn create(setting: &Setting<std::path::PathBuf>) -> Result<File, Refusal> {
    OpenOptions::new().write(true).create(true).truncate(false).open(&setting.value).map_err(
        |error| {
            setting.refuse(
                format!("cannot be written: {error}"),
                "give a file in a directory that exists and is writable",
            )
        },
    )
}
