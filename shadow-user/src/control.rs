//! What goes on beside the packets while a mirror runs: signals, the clock, addresses
//! that come and go, and whoever watches.

use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use aya_log::EbpfLogger;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Config, Service};
use crate::ctl::{self, Socket};
use crate::host::{Interface, Netlink, addresses};
use crate::http::{self, Listening};
use crate::kernel::{self, NextHop};
use crate::links::{Change, Link, Links};
use crate::live::Live;
use crate::next_hop;
use crate::notice::Notices;
use crate::pressure::{Gauges, Governor};
use crate::report::Snapshot;
use crate::report::jsonl::Reopen;
use crate::services::{own_addresses, service_keys};
use crate::setting::Setting;
use crate::supervisor::Supervisor;
use crate::worker::{Command, Worker};

/// How often this host's addresses are looked at.
const REFRESH: Duration = Duration::from_secs(1);

/// How far the worker stands back: on a saturated processor it has half the weight of one of production's
/// threads, and goes on all the same.
const STANDS_BACK: i32 = 3;

/// SIGINT and SIGTERM; SIGHUP when there is a file that may be renamed.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

/// What a signal asks for.
enum Wish {
    Stop,
    Reopen,
}

impl Signals {
    /// Catches them from now on; SIGHUP, which ends a process otherwise, when it `reopens`.
    ///
    /// # Errors
    /// When the runtime cannot.
    pub fn new(reopens: bool) -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("signals cannot be caught");
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hangup: reopens.then(|| catch(SignalKind::hangup())).transpose()?,
        })
    }

    /// Waits for one that ends a run.
    pub async fn stopped(&mut self) {
        while !matches!(self.next().await, Wish::Stop) {}
    }

    async fn next(&mut self) -> Wish {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.terminate.recv() => Wish::Stop,
            _ = hangup => Wish::Reopen,
        }
    }
}

/// Everything but the packets.
pub struct Control<'a> {
    /// What the user wants.
    pub config: &'a Config,
    /// Where addresses are asked for.
    pub netlink: Netlink,
    /// The interfaces with our programs.
    pub links: Links,
    /// The addresses of this host that the programs know.
    pub own: Vec<IpAddr>,
    /// The shadows, and to whom packets for each are handed; none when only a raw socket is wanted.
    pub next_hops: Vec<(IpAddr, Option<NextHop>)>,
    /// The signals that end a run.
    pub signals: Signals,
    /// The worker's ear.
    pub commands: Sender<Command>,
    /// The worker's mouth, and the comparison's.
    pub sources: http::Sources,
    /// Who opens the report's file again.
    pub reopen: Option<Reopen>,
    /// What the programs log, when they can.
    pub kernel_log: Option<EbpfLogger<&'static dyn log::Log>>,
}

impl Control<'_> {
    /// Runs the worker to its end; the last snapshot.
    ///
    /// # Errors
    /// When the worker failed.
    pub async fn run(
        mut self,
        worker: Worker,
        listening: Option<Listening>,
        socket: Option<&Socket>,
    ) -> anyhow::Result<Snapshot> {
        let mut done = spawn(worker)?;
        if let Some(listening) = listening {
            let (sources, run) = (self.sources.clone(), self.config.run());
            tokio::spawn(async move {
                if let Err(error) = http::serve(listening, sources, run).await {
                    tracing::error!("{error:#}");
                }
            });
        }
        let ctl = socket.map(|socket| self.ctl(socket));
        let ctl = async {
            match ctl {
                Some(serving) => serving.await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(ctl);
        let mut has_ctl = true;
        let mut live =
            Live::new(self.config.live, self.config.shadow_names(), self.sources.seen.clone());
        let mut show = interval(live.interval());
        show.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refresh = interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut supervisor = Supervisor::from_environment();
        let mirroring = format!("mirroring to {}", self.config.shadow_names());
        let over = sleep_or_forever(self.config.duration);
        tokio::pin!(over);
        let mut stopping = false;
        let mut notices = Notices::default();
        let mut gauges = Gauges::new(self.ports());
        let mut governor = Governor::default();
        let last = loop {
            tokio::select! {
                last = &mut done => break last.context("the worker panicked")?,
                () = supervisor.tick() => {
                    let age = kernel::now().since(self.sources.published.load().at);
                    supervisor.tell(age, &mirroring);
                }
                wish = self.signals.next() => {
                    if let (Wish::Reopen, Some(reopen)) = (wish, &self.reopen) {
                        reopen.ask();
                        continue;
                    }
                    supervisor.stopping("open sessions come to their end");
                    self.stop(stopping);
                    stopping = true;
                }
                () = &mut over, if !stopping => {
                    supervisor.stopping("open sessions come to their end");
                    self.stop(stopping);
                    stopping = true;
                }
                ended = &mut ctl, if has_ctl => {
                    has_ctl = false;
                    if let Err(error) = ended {
                        tracing::error!("{error:#}");
                    }
                }
                _ = show.tick() => live.show(&self.sources.published.load_full()),
                _ = refresh.tick() => {
                    notices.look(&self.sources.published.load());
                    if !stopping {
                        self.watch(&mut gauges, &mut governor);
                        self.refresh().await;
                    }
                }
            }
        };
        if let (Ok(last), false) = (&last, self.config.live == crate::cli::Live::Off) {
            live.show(&std::sync::Arc::new(last.clone()));
        }
        live.end();
        self.flush_log();
        last
    }

    /// Answers `shadowtap ctl`.
    fn ctl<'s>(&self, socket: &'s Socket) -> impl Future<Output = anyhow::Result<()>> + use<'s> {
        let text = |texts: Vec<&str>| texts.join(",");
        let run = ctl::Run {
            iface: text(self.config.iface.iter().map(|iface| iface.text.as_str()).collect()),
            port: text(self.config.port.iter().map(|port| port.text.as_str()).collect()),
            shadow: self.config.shadow_names(),
        };
        let published = std::sync::Arc::clone(&self.sources.published);
        ctl::serve(socket, self.commands.clone(), published, run)
    }

    /// The first time in order, the second time at once.
    fn stop(&self, again: bool) {
        let command = if again {
            tracing::info!("resetting open sessions");
            Command::Abort
        } else {
            tracing::info!("capture ends; open sessions have {:?}", self.config.drain);
            Command::Stop { drain: self.config.drain }
        };
        // A worker that has ended already needs no command.
        let _ = self.commands.send(command);
    }

    /// Makes the sample smaller while this host is under pressure.
    fn watch(&self, gauges: &mut Gauges, governor: &mut Governor) {
        let limits = self.sources.published.load().settings.limits;
        let Some((load, beyond)) = gauges.read(kernel::now(), &limits) else { return };
        if let Some(step) = governor.step(load) {
            let _ = self.commands.send(Command::Ease { step, beyond });
        }
    }

    /// Where production listens, as far as it does on this host.
    fn ports(&self) -> Vec<u16> {
        let port = |service: &Setting<Service>| match service.value {
            Service::Host(port) => port,
            Service::Exactly(address) => address.port(),
        };
        self.config.port.iter().map(port).collect()
    }

    /// Follows the interfaces and addresses of this host, and hears what the programs have
    /// to say.
    async fn refresh(&mut self) {
        self.flush_log();
        match self.netlink.interfaces().await {
            Ok(interfaces) => {
                self.look_at_links(&interfaces);
                self.follow_addresses(&interfaces);
                self.follow_next_hops(&interfaces).await;
            }
            Err(error) => tracing::warn!("interfaces are unknown: {error:#}"),
        }
    }

    /// An interface that goes takes its programs with it; to one of the same name they are attached
    /// again.
    fn look_at_links(&mut self, interfaces: &[Interface]) {
        for change in self.links.look(interfaces) {
            match change {
                Change::Gone(Link { name, tap: true, .. }) => {
                    tracing::error!("{name} is gone: nothing more is captured from it");
                }
                Change::Gone(link) => {
                    tracing::error!("{} is gone, the way to the shadow", link.name);
                }
                Change::Back(link) => {
                    let _ = self.commands.send(Command::Attach(link));
                }
                Change::Down(link) => tracing::warn!("{} is down", link.name),
                Change::Up(link) => tracing::info!("{} is up again", link.name),
            }
        }
    }

    fn follow_addresses(&mut self, interfaces: &[Interface]) {
        let services: Vec<_> = self.config.port.iter().map(|port| port.value).collect();
        let own = addresses(interfaces);
        if own == self.own {
            return;
        }
        tracing::info!(addresses = ?own, "this host's addresses have changed");
        // The guard first: what it does not know as this host's own it may drop.
        let _ = self.commands.send(Command::SetOwnAddresses(own_addresses(&own)));
        if services.iter().any(|service| matches!(service, Service::Host(_))) {
            let _ = self.commands.send(Command::SetServices(service_keys(&services, &own)));
        }
        self.own = own;
    }

    /// A neighbour may be found, change its Ethernet address, or be lost; a route may lead elsewhere.
    async fn follow_next_hops(&mut self, interfaces: &[Interface]) {
        let mut has_changed = false;
        for (shadow, known) in &mut self.next_hops {
            let found = next_hop::find(&self.netlink, interfaces, *shadow).await;
            let found = found.unwrap_or_else(|error| {
                tracing::warn!("the next hop to {shadow} is unknown: {error:#}");
                None
            });
            if found != *known {
                tracing::debug!(?found, "the next hop to {shadow} has changed");
                (*known, has_changed) = (found, true);
            }
        }
        if has_changed {
            let next_hops = self.next_hops.iter().map(|(_, next_hop)| *next_hop).collect();
            let _ = self.commands.send(Command::SetNextHops(next_hops));
        }
    }

    fn flush_log(&mut self) {
        if let Some(kernel_log) = &mut self.kernel_log {
            kernel_log.flush();
        }
    }
}

/// Starts the worker's thread; what it ends with arrives here.
fn spawn(worker: Worker) -> anyhow::Result<oneshot::Receiver<anyhow::Result<Snapshot>>> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new()
        .name("shadowtap-worker".to_owned())
        .spawn(move || {
            if let Err(error) = kernel::stand_back(STANDS_BACK) {
                tracing::warn!("the worker does not stand back for production: {error}");
            }
            // Nobody listens only when control is gone, too.
            let _ = sender.send(worker.run());
        })
        .context("the worker's thread does not start")?;
    Ok(receiver)
}

async fn sleep_or_forever(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
