//! `shadowtap route`, on the shadow's host: sends the replies of the service's port, and
//! nothing else, to the mirror host, as `--source preserve` and `pool` need it.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use caps::{CapSet, Capability};

use crate::cli::{RouteAddArgs, RouteCommand, RouteDelArgs};
use crate::host::{Interface, Netlink};
use crate::lock::DIRECTORY;
use crate::setting::{Refusal, Text};

mod findings;
pub mod plan;
pub mod rp_filter;
pub mod state;
pub mod tables;

use findings::Arrivals;
use plan::{Entry, FIRST_TABLE, Filter, Wanted};
use state::{Changed, State, Store};
use tables::Tables;

/// Runs one verb of `route`.
///
/// # Errors
/// A [`Refusal`] when a flag or the host stands against it; anything else when the kernel
/// refused a change, and then nothing is left of it.
pub fn run(command: RouteCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")?;
    let directory = Path::new(DIRECTORY);
    let lines = runtime.block_on(async {
        match command {
            RouteCommand::Add(flags) => add(flags, directory).await,
            RouteCommand::Show => show(directory).await,
            RouteCommand::Del(flags) => del(flags, directory).await,
        }
    })?;
    // A reader who has left does not undo what was done.
    let _ = writeln!(io::stdout(), "{}", lines.join("\n"));
    Ok(())
}

async fn add(flags: RouteAddArgs, directory: &Path) -> anyhow::Result<Vec<String>> {
    let missing = |flag: &str, what: &str| Refusal::new(flag, what, format!("add {flag}"));
    let via = flags.via.ok_or_else(|| missing("--via ADDR", "the mirror host is missing"))?;
    if flags.port.is_empty() {
        return Err(missing("--port PORT", "the service's port is missing").into());
    }
    let wanted = Wanted::new(via, flags.port, flags.client_net)?;
    check_privilege()?;
    let tables = Tables::open()?;
    let interfaces = Netlink::open()?.interfaces().await?;
    let link = on_link(&wanted, &interfaces, &tables).await?;
    let fix = to_fix(flags.fix_rp_filter, &link.name, &interfaces)?;
    let mut store = Store::open(directory)?;
    let before = store.state.entries.clone();
    let taken = tables.in_use(FIRST_TABLE..FIRST_TABLE + 100).await?;
    let entries = wanted.entries(&link.name, link.index, &before, &taken)?;

    // What is going to be changed is recorded first: whatever happens, `del` undoes it.
    // An interface that was made anew has another index; its old route went with it.
    let stale: Vec<Entry> = before.iter().filter(|old| replaced(old, &entries)).cloned().collect();
    store.state.entries.retain(|entry| !stale.contains(entry));
    let new: Vec<Entry> = entries.iter().filter(|entry| !before.contains(entry)).cloned().collect();
    store.state.entries.extend(new.iter().cloned());
    store.save()?;
    let done = async {
        let mut lines = apply(&entries, &stale, &tables).await?;
        let replies = findings::replies(&entries, &tables).await;
        lines.extend(replies.iter().map(ToString::to_string));
        let arrivals = Arrivals { entries: &entries, link: &link, tables: &tables };
        for interface in &interfaces {
            let fix = fix.contains(&interface.name);
            let finding = arrivals.at(interface, fix, &mut store).await?;
            lines.extend(finding.map(|finding| finding.to_string()));
        }
        anyhow::Ok(lines)
    };
    match done.await {
        Ok(mut lines) => {
            lines.extend(too_wide(&wanted));
            Ok(lines)
        }
        Err(error) => {
            if undo(&new, &mut store.state, &tables).await.is_ok() {
                store.save()?;
            }
            Err(error)
        }
    }
}

/// The same replies to the same mirror host by what is not the same interface any more.
fn replaced(old: &Entry, entries: &[Entry]) -> bool {
    let same = |new: &Entry| {
        (new.via, new.port, new.client_net) == (old.via, old.port, old.client_net) && new != old
    };
    entries.iter().any(same)
}

async fn apply(entries: &[Entry], stale: &[Entry], tables: &Tables) -> anyhow::Result<Vec<String>> {
    for entry in stale {
        tables.del_rule(entry).await?;
        tables.del_route(entry).await?;
    }
    let mut lines = Vec::new();
    for entry in entries {
        // The route before the rule: the rule never leads to an empty table.
        let route = tables.has_route(entry).await?;
        if !route {
            tables.set_route(entry).await?;
        }
        let rule = tables.has_rule(entry).await?;
        if !rule {
            tables.add_rule(entry).await?;
        }
        lines.push(format!("{}: {entry}", if rule && route { "already there" } else { "added" }));
    }
    Ok(lines)
}

/// Takes entries out of the kernel and out of `state`, with what nothing else needs then.
async fn undo(
    entries: &[Entry],
    state: &mut State,
    tables: &Tables,
) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in entries {
        state.entries.retain(|kept| kept != entry);
        let rule = tables.del_rule(entry).await?;
        let needed = state.entries.iter().any(|kept| kept.table == entry.table);
        let route = !needed && tables.del_route(entry).await?;
        let gone = if rule || route { "removed" } else { "was gone already" };
        lines.push(format!("{gone}: {entry}"));
    }
    let vias: BTreeSet<IpAddr> = state.entries.iter().map(|entry| entry.via).collect();
    for changed in state.rp_filter.values_mut() {
        changed.vias.retain(|via| vias.contains(via));
    }
    let unneeded =
        |(dev, changed): (&String, &Changed)| changed.vias.is_empty().then(|| dev.clone());
    let unneeded: Vec<String> = state.rp_filter.iter().filter_map(unneeded).collect();
    for dev in unneeded {
        let Some(changed) = state.rp_filter.remove(&dev) else { continue };
        let name = rp_filter::name(&dev);
        match rp_filter::read(&dev) {
            Ok(now) if now == changed.set => {
                rp_filter::write(&dev, &changed.before)
                    .with_context(|| format!("{name} cannot be set"))?;
                lines.push(format!("{name} is {} again", changed.before));
            }
            Ok(now) => lines.push(format!(
                "{name} is {now}, not {}: someone else has set it, so it stays",
                changed.set
            )),
            Err(_) => lines.push(format!("{dev} is gone, and {name} with it")),
        }
    }
    Ok(lines)
}

async fn del(flags: RouteDelArgs, directory: &Path) -> anyhow::Result<Vec<String>> {
    let filter = Filter::new(flags.via, flags.port, flags.client_net)?;
    check_privilege()?;
    let mut store = Store::open(directory)?;
    let selected: Vec<Entry> =
        store.state.entries.iter().filter(|entry| filter.selects(entry)).cloned().collect();
    if selected.is_empty() {
        let what =
            if store.state.entries.is_empty() { "no route is set" } else { "no such route is set" };
        return Ok(vec![format!("{what}; nothing to remove")]);
    }
    let tables = Tables::open()?;
    let mut state = store.state.clone();
    let lines = undo(&selected, &mut state, &tables).await?;
    store.state = state;
    store.save()?;
    Ok(lines)
}

async fn show(directory: &Path) -> anyhow::Result<Vec<String>> {
    let state = Store::read(directory)?.state;
    if state.entries.is_empty() {
        return Ok(vec!["no route is set".to_owned()]);
    }
    let tables = Tables::open()?;
    let mut lines = Vec::new();
    for entry in &state.entries {
        let (rule, route) = (tables.has_rule(entry).await?, tables.has_route(entry).await?);
        let missing = match (rule, route) {
            (true, true) => {
                lines.push(format!("set: {entry}"));
                continue;
            }
            (false, true) => "its rule is gone",
            (true, false) => "its route is gone",
            (false, false) => "its rule and its route are gone",
        };
        lines.push(format!(
            "lost: {entry}: {missing} from the kernel; the same `route add` again mends it"
        ));
    }
    for (dev, changed) in &state.rp_filter {
        let now = rp_filter::read(dev).unwrap_or_else(|_| "gone".to_owned());
        let name = rp_filter::name(dev);
        lines.push(format!("{name} is {now}; `route del` sets it to {} again", changed.before));
    }
    Ok(lines)
}

fn check_privilege() -> Result<(), Refusal> {
    match caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN) {
        Ok(false) => Err(Refusal::new(
            "privileges",
            "this process lacks CAP_NET_ADMIN",
            "run as root (sudo), or grant this capability",
        )),
        // Where it is unknown the kernel will say.
        Ok(true) | Err(_) => Ok(()),
    }
}

/// The interface by which the mirror host is reached without a router.
async fn on_link(
    wanted: &Wanted,
    interfaces: &[Interface],
    tables: &Tables,
) -> anyhow::Result<Interface> {
    let via = &wanted.via;
    let scope = match &via.value.dev {
        Some(dev) => {
            let known = interfaces.iter().find(|known| known.name == *dev);
            let known = known.ok_or_else(|| via.refuse(no_interface(dev), names(interfaces)))?;
            Some(known.index)
        }
        None => None,
    };
    let remedy = "give the mirror host's address on a network that it shares with this host, or \
                  make one: a tunnel such as WireGuard or GRE between the two";
    let hop = tables
        .next_hop(via.value.address, scope)
        .await
        .map_err(|reason| via.refuse(format!("this host has no route to it: {reason}"), remedy))?;
    if hop.local {
        return Err(via
            .refuse(
                "is an address of this host",
                "run this on the shadow's host, and give the address of the mirror's host",
            )
            .into());
    }
    if let Some(gateway) = hop.gateway {
        let what = format!(
            "is not on-link: it is reached through {gateway}, which would deliver the replies \
             to the clients"
        );
        return Err(via.refuse(what, remedy).into());
    }
    let link = interfaces.iter().find(|known| known.index == hop.oif);
    Ok(link.with_context(|| format!("{via}: its interface {} has no name", hop.oif))?.clone())
}

/// The interfaces whose filter is to be made loose; `link` when none is named.
fn to_fix(
    flags: Vec<Text>,
    link: &str,
    interfaces: &[Interface],
) -> Result<BTreeSet<String>, Refusal> {
    let named = |Text(name): Text| {
        if name.is_empty() {
            return Ok(link.to_owned());
        }
        if interfaces.iter().any(|known| known.name == name) {
            return Ok(name);
        }
        let flag = format!("--fix-rp-filter={name}");
        Err(Refusal::new(flag, no_interface(&name), names(interfaces)))
    };
    flags.into_iter().map(named).collect()
}

fn no_interface(name: &str) -> String {
    format!("there is no interface {name}")
}

fn names(interfaces: &[Interface]) -> String {
    let names: Vec<_> = interfaces.iter().map(|known| known.name.as_str()).collect();
    format!("this host has {}", names.join(", "))
}

/// What a route without `--client-net` takes along.
fn too_wide(wanted: &Wanted) -> Option<String> {
    if !wanted.client_nets.is_empty() {
        return None;
    }
    let ports: Vec<_> = wanted.ports.iter().map(|port| port.value.to_string()).collect();
    Some(format!(
        "note: answers from port {} to health checks and other callers go there, too; \
         --client-net CIDR narrows it to the clients",
        ports.join(", ")
    ))
}
