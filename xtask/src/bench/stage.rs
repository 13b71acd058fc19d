//! Hosts and servers, the same for every measurement of a run.

use std::{
    cell::Cell,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use shadow_lab::{Connection, Host, Lab, Nginx, Request, Topology};

use super::sink::{self, Attached};
use super::subject::Peers;

/// Production with nginx's mirror module.
const MIRRORING: u16 = 81;
/// The servers' own figures, behind no mirror.
const LOCATIONS: &str = "        location = /upload { return 204; }
        location = /figures { stub_status; access_log off; }";

/// Three hosts with everything on them that mirrors are measured with.
pub struct Stage {
    /// The server that answers the client.
    pub production: Counted,
    /// The same with nginx's mirror module turned on.
    pub mirroring: Counted,
    /// The server under test.
    pub shadow: Counted,
    /// The same, without a server.
    pub sink: Attached,
    /// The eBPF object of sink and empty program.
    pub object: PathBuf,
    /// The hosts. Last, for the servers must go before them.
    pub lab: Lab,
}

impl Stage {
    /// Builds it all.
    ///
    /// # Errors
    /// A host or server cannot be started.
    pub fn new(object: &Path, peers: &Peers) -> Result<Self> {
        // tcpcopy's assistant is on the client's host, where the shadow's answers have to come.
        let needs_segment = peers.contains_key("intercept");
        let topology = if needs_segment { Topology::OneSegment } else { Topology::Direct };
        let lab = Lab::with(topology)?;
        let shadow = lab.shadow.at4(80);
        // nginx gives a mirrored answer up at its head, and the connection with it: one for each
        // request, whose ports an expert lets the kernel use again.
        lab.production.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
        let http = "    mirror /mirrored;";
        let mirrored = format!(
            "{LOCATIONS}
        location = /mirrored {{
            internal;
            access_log off;
            proxy_pass http://{shadow}$request_uri;
        }}"
        );
        Ok(Self {
            production: Counted::start(&lab.production, 80, "", LOCATIONS)?,
            mirroring: Counted::start(&lab.production, MIRRORING, http, &mirrored)?,
            shadow: Counted::start(&lab.shadow, 80, "", LOCATIONS)?,
            sink: Attached::sink(object, &lab.shadow)?,
            object: object.to_path_buf(),
            lab,
        })
    }

    /// Where the sink answers.
    pub fn sink_address(&self) -> SocketAddr {
        self.lab.shadow.at4(sink::PORT)
    }
}

/// A server that counts its requests, exactly.
pub struct Counted {
    server: Nginx,
    host: Host,
    port: u16,
    asked: Cell<u64>,
}

impl Counted {
    fn start(host: &Host, port: u16, http: &str, locations: &str) -> Result<Self> {
        let server = Nginx::start_on_with_http(host, port, http, locations)?;
        Ok(Self { server, host: host.clone(), port, asked: Cell::new(0) })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.host.at4(self.port)
    }

    /// The process whose children are its workers.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Requests until now, without those that asked for this figure.
    ///
    /// # Errors
    /// It does not answer.
    pub fn requests(&self) -> Result<u64> {
        let stream = self.host.connect(self.address(), Duration::from_secs(5))?;
        let mut connection = Connection::new(stream, Duration::from_secs(10))?;
        let request = Request::get("/figures").header("Connection", "close");
        let response = connection.exchange(&request)?;
        self.asked.set(self.asked.get() + 1);
        let text = String::from_utf8_lossy(&response.body);
        let total = requests(&text).with_context(|| format!("nginx's figures: {text:?}"))?;
        Ok(total - self.asked.get())
    }
}

/// The third figure of the third line.
fn requests(figures: &str) -> Option<u64> {
    figures.lines().nth(2)?.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn nginx_figures_are_read() {
        let text = "Active connections: 1 \nserver accepts handled requests\n 5 5 31070465 \n\
            Reading: 0 Writing: 1 Waiting: 0 \n";
        assert_eq!(super::requests(text), Some(31_070_465));
        assert_eq!(super::requests("404"), None);
    }
}
