//! `shadowtap check`: what stands against mirroring with the flags given, each finding in one line.
//! `mirror` looks at the same first.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;

use crate::announce::Announcer;
use crate::config::{Config, SourceMode};
use crate::control::Signals;
use crate::finding::{Finding, Level};
use crate::host::{Interface, Netlink, addresses};
use crate::kernel::{self, Unsent};
use crate::mirror::Prepared;
use crate::preflight::{Plan, Way};
use crate::route::tables::Tables;
use crate::setting::Refusal;

pub mod firewall;
pub mod link;
pub mod neighbour;
pub mod probe;
pub mod verdict;

use firewall::{Outbound, Ruleset};
use link::Link;
use neighbour::Neighbour;
use probe::{LIMIT, LIMIT_ELSEWHERE, Outcome, Probe};
use verdict::{Direct, Tried};

/// How long the shadow may take to answer this host itself.
const DIRECT: Duration = Duration::from_millis(1_500);

/// Looks at everything and prints it.
///
/// # Errors
/// A [`Refusal`] when something stands against mirroring; anything else when looking failed.
pub fn run(config: Config) -> anyhow::Result<()> {
    crate::log::init(config.log_format, config.verbose, false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    runtime.block_on(async {
        let mut signals = Signals::new(false)?;
        // Whatever is attached goes when this is dropped.
        tokio::select! {
            looked = look(&config) => looked,
            () = signals.stopped() => Err(anyhow::anyhow!("interrupted")),
        }
    })
}

async fn look(config: &Config) -> anyhow::Result<()> {
    let mut problems = 0;
    let mut say = |finding: &Finding| {
        problems += usize::from(finding.level == Level::Problem);
        // A reader who has left does not make a host unfit.
        let _ = writeln!(io::stdout(), "{finding}");
    };
    // The first that the mirror would refuse; what comes after it hangs on it.
    let existed = config.summary.as_ref().map(|file| file.value.exists());
    let mut prepared = match Prepared::new(config).await {
        Err(error) => match error.downcast::<Refusal>() {
            Ok(refusal) => {
                say(&refusal.into());
                return verdict(problems);
            }
            Err(error) => return Err(error),
        },
        Ok(prepared) => prepared,
    };
    if let (Some(false), Some(file)) = (existed, &config.summary) {
        // Nothing was mirrored.
        let _ = std::fs::remove_file(&file.value);
    }
    let Prepared { plan, netlink, announcer, .. } = &mut prepared;
    for finding in in_order(config, plan) {
        say(&finding);
    }
    let links = link::judge(config, &Link::all(netlink).await?);
    links.iter().for_each(&mut say);
    if config.dry_run {
        return verdict(problems);
    }
    let pins = pins(config);
    say(&pins);
    if pins.level != Level::Problem {
        attempt(config, plan, netlink, announcer.as_mut()).await?.iter().for_each(&mut say);
    }
    verdict(problems)
}

fn verdict(problems: usize) -> anyhow::Result<()> {
    let what = match problems {
        0 => return Ok(()),
        1 => "a problem stands against mirroring".to_owned(),
        _ => format!("{problems} problems stand against mirroring"),
    };
    Err(Refusal::new("check", what, "mend what is said above, and run this again").into())
}

/// The same before the tap is attached, for `mirror`: warnings go to the log.
///
/// # Errors
/// The first finding that stands against mirroring, as a [`Refusal`]; anything else when looking
/// failed.
pub async fn before_mirroring(
    config: &Config,
    plan: &Plan,
    netlink: &Netlink,
    announcer: Option<&mut Announcer>,
) -> anyhow::Result<()> {
    let mut findings = link::judge(config, &Link::all(netlink).await?);
    if !config.dry_run {
        // In mode self the guard itself warns when it cannot be pinned.
        findings.extend(Some(pins(config)).filter(|pins| pins.level == Level::Problem));
        if findings.iter().all(|finding| finding.level != Level::Problem) {
            findings.extend(attempt(config, plan, netlink, announcer).await?);
        }
    }
    if let Some(problem) = findings.iter().find(|finding| finding.level == Level::Problem) {
        return Err(problem.clone().refusal().into());
    }
    for Finding { level, subject, what, remedy } in findings {
        if level == Level::Warning {
            tracing::warn!("{subject}: {what}; {}", remedy.unwrap_or_default());
        } else {
            tracing::debug!("{subject}: {what}");
        }
    }
    Ok(())
}

/// What `preflight` has found in order.
fn in_order(config: &Config, plan: &Plan) -> Vec<Finding> {
    let mut findings: Vec<Finding> = config
        .iface
        .iter()
        .zip(&plan.taps)
        .map(|(iface, tap)| {
            let count = tap.addresses.len();
            Finding::ok(
                iface.to_string(),
                format!("is up, its MTU is {}, and it has {count} addresses", tap.mtu),
            )
        })
        .collect();
    findings.extend(plan.ways.iter().map(|way| {
        Finding::ok(
            way.setting.to_string(),
            format!(
                "is reached by {} from {} with packets of up to {} bytes",
                way.interface.name, way.route.source, way.path_mtu
            ),
        )
    }));
    if config.source.value == SourceMode::Own {
        findings.push(Finding::ok(
            config.source_ports.to_string(),
            "no socket has one of them, and the kernel hands out none",
        ));
    }
    findings
}

/// Whether the guard can outlive the daemon.
fn pins(config: &Config) -> Finding {
    let subject = "/sys/fs/bpf";
    if kernel::check_bpffs().is_ok() {
        return Finding::ok(subject, "is a BPF file system, on which the guard outlives a daemon");
    }
    let finding = Finding::problem(
        subject,
        "is no BPF file system, without which the guard goes when the daemon is killed",
        "mount it: mount -t bpf bpf /sys/fs/bpf",
    );
    if config.source.value == SourceMode::Own { finding.at(Level::Warning) } else { finding }
}

/// Probes each shadow.
async fn attempt(
    config: &Config,
    plan: &Plan,
    netlink: &Netlink,
    mut announcer: Option<&mut Announcer>,
) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for way in &plan.ways {
        let announcer = announcer.as_deref_mut();
        findings.extend(attempt_one(config, plan, way, netlink, announcer).await?);
    }
    Ok(findings)
}

/// Probes a shadow, and looks for the reason when that fails.
async fn attempt_one(
    config: &Config,
    plan: &Plan,
    way: &Way,
    netlink: &Netlink,
    announcer: Option<&mut Announcer>,
) -> anyhow::Result<Vec<Finding>> {
    let interfaces = netlink.interfaces().await?;
    let own = addresses(&interfaces);
    let probe = Probe::new(config, way, &own, dice()?);
    let guards: Vec<&str> = plan.guards.iter().map(|guard| guard.name.as_str()).collect();
    let probing = probe.run(&guards, &own, LIMIT);
    let outcome = match announcer {
        None => probing.await?,
        // The guards first: who is told to send here is guarded.
        Some(announcer) => tokio::select! {
            biased;
            outcome = probing => outcome?,
            () = announcer.run() => Outcome::Silent,
        },
    };
    let mut tried = Tried {
        probe,
        outcome,
        gateway: None,
        neighbour: Neighbour::Unknown,
        elsewhere: None,
        forwards: link::forwards(way.shadow.is_ipv4()),
        direct: None,
        firewall: None,
    };
    match outcome {
        Outcome::Answered(_) | Outcome::Refused | Outcome::Icmp { .. } => {}
        Outcome::Unsent(Unsent::NotPermitted) => tried.firewall = Some(rules(way, probe, "new")),
        Outcome::Stuck(Unsent::NotPermitted) => {
            tried.firewall = Some(rules(way, probe, "invalid"));
        }
        Outcome::Unsent(_) | Outcome::Stuck(_) => {}
        Outcome::Silent => why_silent(config, plan, way, netlink, &interfaces, &mut tried).await?,
    }
    Ok(verdict::judge(config, plan, way, &tried))
}

async fn why_silent(
    config: &Config,
    plan: &Plan,
    way: &Way,
    netlink: &Netlink,
    interfaces: &[Interface],
    tried: &mut Tried,
) -> anyhow::Result<()> {
    let (shadow, oif) = (way.shadow, way.route.oif);
    let hop = Tables::open()?.next_hop(shadow.ip(), None).await.unwrap_or_default();
    tried.gateway = hop.gateway;
    let next = hop.gateway.unwrap_or_else(|| shadow.ip());
    tried.neighbour = Neighbour::read(netlink, next, oif).await?;
    if tried.neighbour == Neighbour::Silent {
        return Ok(());
    }
    tried.elsewhere = elsewhere(config, plan, way, interfaces).await?;
    if tried.elsewhere.is_some() {
        return Ok(());
    }
    tried.firewall = Some(rules(way, tried.probe, "new"));
    if config.source.value != SourceMode::Own {
        tried.direct = Some(direct(way).await);
    }
    Ok(())
}

/// The interface without a guard by which an answer comes in.
async fn elsewhere(
    config: &Config,
    plan: &Plan,
    way: &Way,
    interfaces: &[Interface],
) -> anyhow::Result<Option<String>> {
    let guarded: BTreeSet<u32> = plan.guards.iter().map(|guard| guard.index).collect();
    let others: Vec<&Interface> = interfaces
        .iter()
        .filter(|other| other.up && other.name != "lo" && !guarded.contains(&other.index))
        .collect();
    if others.is_empty() {
        return Ok(None);
    }
    let own = addresses(interfaces);
    let probe = Probe::new(config, way, &own, dice()?);
    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
    let Outcome::Answered(index) = probe.run(&names, &own, LIMIT_ELSEWHERE).await? else {
        return Ok(None);
    };
    Ok(others.into_iter().find(|other| other.index == index).map(|other| other.name.clone()))
}

/// How the shadow answers this host.
async fn direct(way: &Way) -> Direct {
    match tokio::time::timeout(DIRECT, TcpStream::connect(way.shadow)).await {
        Ok(Ok(_)) => Direct::Answers,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Direct::Refuses,
        Ok(Err(_)) | Err(_) => Direct::Silent,
    }
}

/// The rules of this host's firewall that a packet of the probe meets.
fn rules(way: &Way, probe: Probe, state: &'static str) -> Result<Vec<firewall::Culprit>, String> {
    let packet = Outbound {
        source: probe.local,
        destination: probe.shadow,
        oif: way.interface.name.clone(),
        state,
    };
    match Ruleset::read() {
        Ok(ruleset) => Ok(ruleset.culprits(&packet)),
        Err(error) => Err(error.to_string()),
    }
}

fn dice() -> anyhow::Result<u32> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).context("the kernel gives no random numbers")?;
    Ok(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    /// What these flags ask for.
    pub(crate) fn config(line: &str) -> Config {
        let words = ["shadowtap", "check"].into_iter().chain(line.split_whitespace());
        let Command::Check(flags) = Cli::try_parse_from(words).expect("well-formed flags").command
        else {
            panic!("these are the flags of check");
        };
        Config::load(*flags).expect("valid")
    }
}
