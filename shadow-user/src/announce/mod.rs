//! `--pool-announce`: this host answers on the shadow's segment for the addresses of its pool, so
//! that no route to them is needed.
//!
//! By a packet socket of this process and not by the kernel's neighbour tables: those take one entry
//! for each address, and would go on answering for a process that was killed.

mod segment;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context as _;
use shadow_engine::Network;
use tokio::time::{sleep, timeout};

use crate::host::{Interface, Netlink};
use crate::kernel::NeighbourSocket;
use crate::setting::{Refusal, Setting};
use segment::{Heard, Mac, Segment};

/// The largest pool of which every address is asked for before the start.
const MAX_PROBED: u128 = 1_024;

/// Probes that leave in one burst, and the time between bursts: nobody's queue shall overflow.
const BURST: usize = 64;
const BETWEEN: Duration = Duration::from_millis(5);

/// How long a neighbour may take to answer a probe; longer than any that is awake needs.
const PROBE_WAIT: Duration = Duration::from_millis(300);

/// After the interface went down or away, how often it is looked for.
const RETRY: Duration = Duration::from_millis(500);

/// The longest message of neighbours is shorter; what is cut off is none.
const FRAME: usize = 512;

/// Answers for a pool on the interface toward the shadow, as long as it runs.
#[derive(Debug)]
pub struct Announcer {
    socket: NeighbourSocket,
    segment: Segment,
    interface: String,
    is_ipv4: bool,
    netlink: Netlink,
}

impl Announcer {
    /// Makes sure that nobody uses the pool `source`, as far as that can be found out.
    ///
    /// # Errors
    /// A [`Refusal`] when somebody does, or when the interface has no neighbours; else a socket that
    /// is not to be had.
    pub async fn open<T>(
        source: &Setting<T>,
        pool: Network,
        interface: &Interface,
        netlink: Netlink,
    ) -> anyhow::Result<Self> {
        let Some(mac) = interface.mac else {
            return Err(Refusal::new(
                "--pool-announce",
                format!("{} has no Ethernet address to be asked for", interface.name),
                "leave it out, and give the shadow a route to the pool",
            )
            .into());
        };
        let is_ipv4 = pool.is_ipv4();
        let mut announcer = Self {
            socket: NeighbourSocket::open(interface.index, is_ipv4)?,
            segment: Segment::new(pool, Mac(mac)),
            interface: interface.name.clone(),
            is_ipv4,
            netlink,
        };
        let known = announcer.netlink.neighbours(interface.index).await?;
        let known = known.into_iter().find(|(address, _)| pool.lends(*address));
        let used = match known {
            Some((address, mac)) => Some((address, Mac(mac))),
            None => announcer.probe(pool).await?,
        };
        match used {
            None => Ok(announcer),
            Some((address, by)) => Err(source
                .refuse(
                    format!("{by} on {} has its address {address}", interface.name),
                    "give a network that nobody uses",
                )
                .into()),
        }
    }

    /// Asks for every address of a pool that is not too large for that; one that somebody has.
    async fn probe(&mut self, pool: Network) -> anyhow::Result<Option<(IpAddr, Mac)>> {
        if pool.hosts() > MAX_PROBED {
            return Ok(None);
        }
        let addresses: Vec<_> = pool.iter_hosts().collect();
        for burst in addresses.chunks(BURST) {
            for address in burst {
                let sent = self.socket.send(&self.segment.probe(*address));
                sent.with_context(|| format!("cannot send on {}", self.interface))?;
            }
            sleep(BETWEEN).await;
        }
        // Questions that come meanwhile are asked again.
        let all = async {
            loop {
                match self.hear().await? {
                    Heard::Taken { address, by } => return Ok(Some((address, by))),
                    Heard::Asked(_) | Heard::Nothing => {}
                }
            }
        };
        let heard: Result<io::Result<_>, _> = timeout(PROBE_WAIT, all).await;
        heard.unwrap_or(Ok(None)).with_context(|| format!("cannot hear on {}", self.interface))
    }

    /// Answers until it is dropped.
    pub async fn run(&mut self) {
        loop {
            match self.hear().await {
                Ok(Heard::Nothing) => {}
                Ok(Heard::Asked(answer)) => {
                    if let Err(error) = self.socket.send(&answer) {
                        tracing::debug!("{}: no answer for the pool: {error}", self.interface);
                    }
                }
                Ok(Heard::Taken { address, by }) => tracing::error!(
                    "{by} on {} uses {address}, an address of the pool: it is not answered for any \
                     more, and sessions from it fail; give a network that nobody uses",
                    self.interface
                ),
                Err(error) => {
                    tracing::warn!("{}: nobody answers for the pool: {error}", self.interface);
                    self.reopen().await;
                }
            }
        }
    }

    async fn hear(&mut self) -> io::Result<Heard> {
        let mut frame = [0; FRAME];
        let len = self.socket.receive(&mut frame).await?;
        Ok(self.segment.hear(&frame[..len]))
    }

    /// Waits until there is an interface of that name that is up, which may be another.
    async fn reopen(&mut self) {
        loop {
            sleep(RETRY).await;
            let Ok(interfaces) = self.netlink.interfaces().await else { continue };
            let mut named = interfaces.into_iter().filter(|other| other.name == self.interface);
            let Some(Interface { index, up: true, mac: Some(mac), .. }) = named.next() else {
                continue;
            };
            if let Ok(socket) = NeighbourSocket::open(index, self.is_ipv4) {
                self.socket = socket;
                self.segment.set_mac(Mac(mac));
                tracing::info!("{}: the pool is answered for again", self.interface);
                return;
            }
        }
    }
}
