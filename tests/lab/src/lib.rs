//! Hosts in network namespaces with real servers and real clients, for tests, demo and bench.
//!
//! A [`Lab`] has three hosts, client, production and shadow, wired as its [`Topology`] says, with no
//! way out to any other network. Everything it makes goes when it is dropped, when the process
//! panics or is told to end, and at the latest when the next lab starts.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use shadow_lab::{Lab, Mirror, Nginx};
//! let lab = Lab::new()?;
//! let production = Nginx::start(&lab.production)?;
//! let shadow = Nginx::start(&lab.shadow)?;
//! let mirror = Mirror::start(&lab.production, &["--iface", "eth0", "--port", "80", "--shadow", "10.77.0.3:80"])?;
//! # Ok(())
//! # }
//! ```

mod access_log;
mod bomb;
mod books;
mod browser;
mod cleanup;
mod content;
pub mod contrib;
mod curl;
mod digest;
mod h2load;
mod host;
mod hostile;
mod http;
mod link;
mod mirror;
mod net;
mod nginx;
mod paced;
mod process;
mod prometheus;
mod redis;
mod relay;
mod script;
mod tcpdump;
mod traffic;
mod wait;
mod wrk;

pub use access_log::{Differences, Entry, check_against_client, compare};
pub use books::Books;
pub use browser::Browser;
pub use cleanup::sweep;
pub use content::{bytes as content, sha256_hex};
pub use curl::curl;
pub use digest::DigestServer;
pub use h2load::h2load;
pub use host::Host;
pub use hostile::{ATTACKS, ATTACKS2, HostileServer};
pub use http::{Body, Connection, Request, Response};
pub use link::{Link, Relayed};
pub use mirror::{Ended, Mirror, binary, reasons, sum_metric};
pub use net::{Lab, Topology};
pub use nginx::Nginx;
pub use paced::{Paced, PacedResult, paced};
pub use process::Process;
pub use prometheus::{Prometheus, lint as lint_metrics};
pub use redis::Redis;
pub use relay::Relay;
pub use script::{Behaviour, ScriptedServer};
pub use tcpdump::{Capture, Tcpdump};
pub use traffic::{Completed, Mix, Progress, Report, run as run_traffic};
pub use wait::{wait_for, wait_until};
pub use wrk::{Quantiles, WrkResult, wrk, wrk_measured, wrk_with};
