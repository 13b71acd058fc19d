//! `shadowtap mirror`, from its configuration to the summary.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use ::log::LevelFilter;
use anyhow::Context as _;
use shadow_common::{GuardRule, ShadowKey};
use shadow_engine::compare::Learnt;
use shadow_engine::exchange::{Depth, Limits};
use shadow_engine::{ClientAddress, Engine, EngineConfig, Secret, Source};

use crate::announce::Announcer;
use crate::check;
use crate::choice::{Places, Sample, Selection};
use crate::cli;
use crate::compare::{self, Compared};
use crate::comparing;
use crate::config::{Choosing, Config, HostPort, SourceMode, replies_size, tracked_flows};
use crate::control;
use crate::ctl::Socket;
use crate::ctl::settings::Settings;
use crate::host::{Host, Netlink, Route, addresses};
use crate::http::{self, Listening};
use crate::kernel::{LoadOptions, Pinning, Programs, ResponseOptions};
use crate::links::{Link, Links};
use crate::live;
use crate::lock::{self, Locks};
use crate::middleware;
use crate::preflight::{self, Plan, Reached, Way};
use crate::report::{Outcome, Snapshot, summary};
use crate::services::{guard_rule, own_addresses, service_keys};
use crate::setting::{Refusal, Setting};
use crate::shadows::{Shadow, Shadows, Spread, quota_of_copy};
use crate::web::Token;
use crate::web::access::Access;
use crate::worker::{Ends, Published, Worker};

/// Mirrors until told to stop.
///
/// # Errors
/// A [`Refusal`] when something stands against starting; anything else when it failed
/// while running.
pub fn run(config: Config) -> anyhow::Result<()> {
    let view = live::wants_view(config.live);
    crate::log::init(config.log_format, config.verbose, view);
    // One thread is enough for control; packets have a thread of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    runtime.block_on(mirror(&config))
}

async fn mirror(config: &Config) -> anyhow::Result<()> {
    let Prepared {
        plan,
        listening,
        summary,
        report,
        learnt,
        learning,
        netlink,
        mut announcer,
        asking,
        _locks,
    } = Prepared::new(config).await?;
    // With the locks, so that nobody else's is in its place.
    let socket = Socket::open(config)?;
    let renames = report.is_some() && !config.takes_stdout();
    let reopen = report.as_ref().map(|report| report.writer.reopen());
    // Before the attachment, so that an early signal finds somebody to detach it.
    let mut signals = control::Signals::new(renames)?;
    if !config.no_check {
        let announcer = announcer.as_mut();
        tokio::select! {
            checked = check::before_mirroring(config, &plan, &netlink, announcer) => checked?,
            () = signals.stopped() => return Ok(()),
        }
    }
    let interfaces = netlink.interfaces().await?;
    let own = addresses(&interfaces);
    let mut programs = attach(config, &plan, &own)?;
    // Not before the guard: who is told to send here is guarded.
    let announcing =
        announcer.map(|mut announcer| tokio::spawn(async move { announcer.run().await }));
    let kernel_log = programs.take_log(::log::logger());
    // One for all, so that a value has the same mask everywhere.
    let secret = secret()?;
    let rules = Arc::new(config.rules.clone().with_secret(secret));
    let copies = |way: &Way| config.copies_for(way.role);
    let engines: usize = plan.ways.iter().map(|way| usize::from(copies(way))).sum();
    let shadows = plan.ways.iter().map(|way| {
        let engines = (0..copies(way)).map(|copy| {
            let rules = Arc::clone(&rules);
            let memory_limit = config.flow_memory / engines;
            let all = engine_config(config, way, secret);
            Ok(Engine::new(EngineConfig {
                rules,
                memory_limit,
                ..of_copy(all, copy, copies(way))?
            }))
        });
        let engines = engines.collect::<anyhow::Result<_>>()?;
        Ok(Shadow::new(&way.setting.text, way.role, engines)?)
    });
    let spread = config.spread.then_some(Spread {
        seed: config.choosing.seed,
        shadows: config.shadows.len().try_into().context("there are too many shadows")?,
    });
    let shadows = Shadows::new(shadows.collect::<anyhow::Result<_>>()?, spread);
    let published = Published::default();
    let (commands, receiver) = mpsc::channel();
    let (sender, exchanges) = comparing::queue();
    let pinning = pinning(config, &plan);
    let Choosing { selection, by, seed, limits } = config.choosing.clone();
    let to = selection.sample;
    let settings = Settings {
        selection: first_selection(config),
        limits,
        rates: config.rates,
        ramp: config.ramp.map(|_| to),
    };
    let places = Places { by, seed };
    let ends = Ends { commands: receiver, exchanges: sender, published: Arc::clone(&published) };
    let mut worker = Worker::new(programs, shadows, pinning, settings, places, ends)?;
    if let Some(lasts) = config.ramp {
        worker.ramp(to, lasts);
    }
    let asking = asking.map(|(asker, thread)| {
        worker.ask(asker);
        thread
    });
    // It ends with the worker, which has the other end.
    let comparing = compare::start(config, rules, learnt, report, exchanges)?;
    announce(config, &plan);
    let guards: Vec<_> = plan.guards.iter().map(|guard| guard.name.as_str()).collect();
    let guards = guards.join(", ");
    let links = Links::new(&links(config, &plan), &interfaces);
    let next_hops = match config.socket {
        cli::Socket::Auto => plan.ways.iter().map(|way| (way.shadow.ip(), None)).collect(),
        cli::Socket::Raw => Vec::new(),
    };
    let is_compared = config.compare != cli::Compare::Off;
    let sources = http::Sources { published, seen: is_compared.then(|| comparing.seen()) };
    let control = control::Control {
        config,
        netlink,
        links,
        own,
        next_hops,
        signals,
        commands,
        sources,
        reopen,
        kernel_log,
    };
    let last = control.run(worker, listening, socket.as_ref()).await?;
    if let Some(announcing) = announcing {
        announcing.abort();
    }
    // The worker is gone, and with it whoever could ask.
    if let Some(asking) = asking {
        asking.join();
    }
    // Likewise the only way in here: the thread ends when it has compared the rest.
    let compared = comparing.join();
    if config.source.value != SourceMode::Own && !config.dry_run {
        tracing::info!(
            "the guard stays on {guards}, lest the shadow's last answers reach clients; \
             `shadowtap guard remove` takes it down"
        );
    }
    let compared = is_compared.then_some(&*compared);
    let learnt = learning.zip(compared).map_or(Ok(()), |((setting, mut file), compared)| {
        file.set_len(0)
            .and_then(|()| file.write_all(compared.tallies.learn().write().as_bytes()))
            .with_context(|| format!("{setting}: the noise cannot be written"))
    });
    // One that cannot be written keeps the other from nobody.
    finish(config, &last, compared, summary).and(learnt)
}

/// Loads the programs, tells them what to select, and only then attaches them.
/// Whatever is attached goes with the returned value.
fn attach(config: &Config, plan: &Plan, own: &[IpAddr]) -> anyhow::Result<Programs> {
    let mut programs = Programs::load(LoadOptions {
        requests_bytes: config.ring_size,
        replies_bytes: replies_size(config.ring_size),
        responses: (config.compare != cli::Compare::Off).then(|| ResponseOptions {
            bytes: config.ring_size,
            flows: tracked_flows(config.max_flows),
        }),
        sample_by: config.choosing.by,
        seed: config.choosing.seed,
        exceptions: tracked_flows(config.max_flows),
        log_level: match config.verbose {
            0 => LevelFilter::Warn,
            1 => LevelFilter::Info,
            _ => LevelFilter::Debug,
        },
        ..LoadOptions::default()
    })?;
    programs.set_selection(&first_selection(config))?;
    let services: Vec<_> = config.port.iter().map(|port| port.value).collect();
    programs.set_services(&service_keys(&services, own))?;
    tracing::debug!(?services, ?own, "selected: these ports, on this host's own addresses");
    if !config.dry_run {
        programs.set_own_addresses(&own_addresses(own))?;
        let rules: Vec<_> = plan.ways.iter().map(|way| rule(config, way)).collect();
        programs.set_guard_rules(&rules)?;
    }
    let pinning = pinning(config, plan);
    let (guards, taps): (Vec<_>, Vec<_>) = links(config, plan).into_iter().partition(|l| l.guard);
    // Every guard before the first tap: nothing is sent that is not guarded.
    for link in &guards {
        Link { tap: false, ..link.clone() }.attach(&mut programs, &pinning)?;
    }
    for link in guards.into_iter().chain(taps) {
        Link { guard: false, ..link }.attach(&mut programs, &pinning)?;
    }
    Ok(programs)
}

/// What is chosen at the start: where the sample is to grow, next to nothing of it.
fn first_selection(config: &Config) -> Selection {
    let mut selection = config.choosing.selection.clone();
    if config.ramp.is_some() {
        selection.sample = Sample::LEAST;
    }
    selection
}

/// The interfaces with a program of this mirror.
fn links(config: &Config, plan: &Plan) -> Vec<Link> {
    Link::all(&plan.taps, if config.dry_run { &[] } else { &plan.guards })
}

fn pinning(config: &Config, plan: &Plan) -> Pinning {
    // Answers to addresses of others must not be let go when the mirror ends, either: the
    // shadow may have more to say to its clients.
    let keep = config.source.value != SourceMode::Own;
    let guarded: Vec<_> = plan.ways.iter().map(|way| (way.shadow, rule(config, way).1)).collect();
    Pinning::of(&guarded, keep)
}

fn rule(config: &Config, way: &Way) -> (ShadowKey, GuardRule) {
    guard_rule(config, way.shadow, way.route.source)
}

fn secret() -> anyhow::Result<Secret> {
    let mut secret = Secret::default();
    getrandom::fill(&mut secret).context("the kernel gives no random numbers")?;
    Ok(secret)
}

fn engine_config(config: &Config, way: &Way, secret: Secret) -> EngineConfig {
    EngineConfig {
        source: match config.source.value {
            SourceMode::Own => {
                Source::Own { address: way.route.source, ports: config.source_ports.value.clone() }
            }
            SourceMode::Pool { network, .. } => Source::Pool(network.into()),
            SourceMode::Preserve => Source::Preserve,
        },
        client_address: match config.client_address {
            cli::ClientAddress::None => ClientAddress::None,
            cli::ClientAddress::ProxyProtocolV2 => ClientAddress::ProxyProtocolV2,
            cli::ClientAddress::XForwardedFor => ClientAddress::XForwardedFor,
        },
        filter_timeout: config
            .filter_exec
            .as_ref()
            .map_or(Duration::from_secs(1), |exec| exec.timeout),
        path_mtu: way.path_mtu,
        max_flows: config.max_flows,
        quota: config.rates.quota(),
        gate_timeout: config.gate_timeout,
        gate_action: match config.gate_action {
            cli::GateAction::Abort => shadow_engine::GateAction::Abort,
            cli::GateAction::Send => shadow_engine::GateAction::Send,
        },
        user_timeout: config.shadow_timeout,
        pace: match config.pace {
            cli::Pace::AsCaptured => shadow_engine::Pace::AsCaptured,
            cli::Pace::Off => shadow_engine::Pace::Off,
        },
        dry_run: config.dry_run,
        exchanges: Limits {
            depth: match config.compare {
                cli::Compare::Off => Depth::Off,
                cli::Compare::Status => Depth::Status,
                cli::Compare::Body => Depth::Body,
            },
            ..Limits::default()
        },
        ..EngineConfig::new(way.shadow, way.route.source, secret)
    }
}

/// Of so many, each has sources of its own, and the first alone has its answers compared.
fn of_copy(mut config: EngineConfig, copy: u16, of: u16) -> anyhow::Result<EngineConfig> {
    let source = config.source.share(copy, of);
    config.source = source.context("the sources are too few for so many copies")?;
    config.quota = quota_of_copy(config.quota, of.into());
    if copy != 0 {
        config.exchanges.depth = Depth::Off;
    }
    Ok(config)
}

fn announce(config: &Config, plan: &Plan) {
    let join = |texts: Vec<&str>| texts.join(",");
    for way in &plan.ways {
        tracing::info!(
            iface = join(config.iface.iter().map(|iface| iface.text.as_str()).collect()),
            port = join(config.port.iter().map(|port| port.text.as_str()).collect()),
            shadow = %way.shadow,
            role = way.role.label(),
            local = %way.route.source,
            source = config.source.text,
            copies = config.copies_for(way.role),
            spread = config.spread,
            sample = %config.choosing.selection.sample,
            via = join(plan.guards.iter().map(|guard| guard.name.as_str()).collect()),
            mtu = way.path_mtu,
            dry_run = config.dry_run,
            "mirroring"
        );
    }
}

/// The last words: the files first, which scripts read, then the text, then the judgement.
fn finish(
    config: &Config,
    last: &Snapshot,
    compared: Option<&Compared>,
    file: Option<(Setting<PathBuf>, File)>,
) -> anyhow::Result<()> {
    let outcome = Outcome::of(&config.judge, compared);
    if let Some((setting, mut file)) = file {
        let json = serde_json::to_string_pretty(&summary::json(last, compared, &outcome))?;
        file.set_len(0)
            .and_then(|()| writeln!(file, "{json}"))
            .with_context(|| format!("{setting}: the summary cannot be written"))?;
    }
    let text = summary::text(last, compared);
    // A reader who has left does not make the run a failure.
    let _ = if config.takes_stdout() {
        writeln!(io::stderr(), "{text}")
    } else {
        writeln!(io::stdout(), "{text}")
    };
    if let Err(imbalance) = last.check() {
        debug_assert!(false, "{imbalance}");
        tracing::warn!("{imbalance}");
    }
    outcome.into_result()
}

/// What is held before the first attachment.
#[derive(Debug)]
pub struct Prepared {
    /// What the mirror works with.
    pub plan: Plan,
    listening: Option<Listening>,
    summary: Option<(Setting<PathBuf>, File)>,
    report: Option<compare::Report>,
    learnt: Option<Learnt>,
    learning: Option<(Setting<PathBuf>, File)>,
    /// Where the host is asked.
    pub netlink: Netlink,
    /// Who answers for the pool's addresses.
    pub announcer: Option<Announcer>,
    asking: Option<(middleware::Asker, middleware::Thread)>,
    _locks: Locks,
}

impl Prepared {
    /// All checks in order; nothing outlives an error.
    ///
    /// # Errors
    /// The first [`Refusal`]; anything else when the host cannot be asked.
    pub async fn new(config: &Config) -> anyhow::Result<Self> {
        let netlink = Netlink::open()?;
        let host = Host::read(&netlink).await?;
        let kernel = &host.kernel;
        tracing::debug!("this host: Linux {}.{}.{}", kernel.major, kernel.minor, kernel.patch);
        preflight::check_privileges(&host)?;
        let mut reached = Vec::new();
        for (role, setting) in config.destinations() {
            let (shadow, route) = reach(setting, &netlink).await?;
            tracing::debug!(%shadow, ?route, "the way to the {}", role.label());
            reached.push(Reached { role, setting, shadow, route });
        }
        let plan = preflight::check(config, &host, &reached)?;
        let shadows: Vec<_> = plan.ways.iter().map(|way| way.shadow).collect();
        let locks = Locks::take(config, &shadows, Path::new(lock::DIRECTORY))?;
        let token = Token::load(config.listen_token_file.as_ref())?;
        let listening = config.listen.as_ref().map(|setting| listen(setting, token)).transpose()?;
        let summary = config.summary.as_ref().map(create).transpose()?;
        let learnt = compare::read_noise(&config.judge)?;
        let learning = compare::create_noise(&config.judge)?;
        let announcer = announcer(config, &plan, &netlink).await?;
        let exec = config.filter_exec.as_ref();
        let limit = config.rules.collects();
        let asking = exec.map(|exec| middleware::start(exec, limit)).transpose()?;
        // Last, for it begins a thread.
        let open = |report| compare::Report::open(report, config.show_bodies);
        let report = config.report.as_ref().map(open).transpose()?;
        Ok(Self {
            plan,
            listening,
            summary,
            report,
            learnt,
            learning,
            netlink,
            announcer,
            asking,
            _locks: locks,
        })
    }
}

/// Who answers for the pool, when that is asked for.
async fn announcer(
    config: &Config,
    plan: &Plan,
    netlink: &Netlink,
) -> anyhow::Result<Option<Announcer>> {
    let source = &config.source;
    let (SourceMode::Pool { network, .. }, true) = (source.value, config.pool_announce) else {
        return Ok(None);
    };
    let mut interfaces = plan.ways.iter().map(|way| &way.interface);
    let Some(interface) = interfaces.next().filter(|_| !config.dry_run) else { return Ok(None) };
    if let Some(other) = interfaces.find(|other| other.index != interface.index) {
        let (one, other) = (&interface.name, &other.name);
        let what =
            format!("shadows are reached by {one} and by {other}: the pool is on one segment");
        return Err(source
            .refuse(what, "leave out --pool-announce, and set routes instead")
            .into());
    }
    Announcer::open(source, network, interface, netlink.clone()).await.map(Some)
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

fn listen(setting: &Setting<SocketAddr>, token: Option<Token>) -> anyhow::Result<Listening> {
    let listener = TcpListener::bind(setting.value).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let listener = listener.map_err(|error| {
        setting.refuse(
            format!("cannot listen: {error}"),
            "give a free port on an address of this host",
        )
    })?;
    let address = listener.local_addr().unwrap_or(setting.value);
    let access = Access::new(address, token).context("the kernel gives no random numbers")?;
    Ok(Listening { listener, access })
}

/// Opened before the run, so that a summary is not lost at its end.
fn create(setting: &Setting<PathBuf>) -> Result<(Setting<PathBuf>, File), Refusal> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(&setting.value).map_err(
            |error| {
                setting.refuse(
                    format!("cannot be written: {error}"),
                    "give a file in a directory that exists and is writable",
                )
            },
        )?;
    Ok((setting.clone(), file))
}
