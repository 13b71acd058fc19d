//! Every check that stands before the first attachment. All of them judge what
//! `host` read, so that each refusal has a test.

mod stacked;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use procfs::sys::kernel::Version;

use crate::config::{Config, HostPort, Service, SourceMode};
use crate::host::{Host, Interface, Route};
use crate::setting::{Refusal, Setting};
use crate::shadows::Role;

/// What the mirror works with, found in order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Interfaces to tap.
    pub taps: Vec<Interface>,
    /// The interfaces whose guard drops what shadows answer. First those by which shadows are
    /// reached; where their answers go to addresses of others, also the tapped ones.
    pub guards: Vec<Interface>,
    /// The way to each shadow, one at least.
    pub ways: Vec<Way>,
}

/// The way to a shadow.
#[derive(Clone, Debug)]
pub struct Way {
    /// What the shadow is there for.
    pub role: Role,
    /// As its user calls it.
    pub setting: Setting<HostPort>,
    /// Its address.
    pub shadow: SocketAddr,
    /// What the kernel says of it.
    pub route: Route,
    /// The interface.
    pub interface: Interface,
    /// Bytes of the longest IP packet toward the shadow.
    pub path_mtu: u16,
}

/// A shadow, resolved.
#[derive(Clone, Debug)]
pub struct Reached<'a> {
    /// What it is there for.
    pub role: Role,
    /// As its user calls it.
    pub setting: &'a Setting<HostPort>,
    /// Its address.
    pub shadow: SocketAddr,
    /// What the kernel says of the way to it.
    pub route: Route,
}

/// The oldest kernel that is supported: ring buffers came with 5.8, and 5.10 is
/// the oldest long-term kernel that has them.
const KERNEL_MIN: (u8, u8) = (5, 10);

/// What the process may do and what the kernel is.
///
/// # Errors
/// A missing capability, or a kernel that is too old.
pub fn check_privileges(host: &Host) -> Result<(), Refusal> {
    let Version { major, minor, .. } = host.kernel;
    if (major, minor) < KERNEL_MIN {
        return Err(Refusal::new(
            format!("kernel {major}.{minor}"),
            "is too old for the mirror's ring buffers",
            format!("run it on Linux {}.{} or newer", KERNEL_MIN.0, KERNEL_MIN.1),
        ));
    }
    if !host.missing_capabilities.is_empty() {
        return Err(Refusal::new(
            "privileges",
            format!("this process lacks {}", host.missing_capabilities.join(", ")),
            "run as root (sudo), or grant these capabilities",
        ));
    }
    Ok(())
}

/// The configuration against the host, for these shadows.
///
/// # Errors
/// The first setting that does not fit this host.
pub fn check(config: &Config, host: &Host, reached: &[Reached<'_>]) -> Result<Plan, Refusal> {
    let taps = check_interfaces(config, host)?;
    stacked::check(config, host)?;
    check_families(config, host, &taps)?;
    let mut ways: Vec<Way> = Vec::new();
    for reached in reached {
        if let Some(other) = ways.iter().find(|way| way.shadow == reached.shadow) {
            return Err(reached.setting.refuse(
                format!("is the same server as {}", other.setting),
                "give another address or port",
            ));
        }
        ways.push(check_way(config, host, reached)?);
    }
    let mut guards: Vec<Interface> = Vec::new();
    // Of addresses of others, the way back need not be the way to the shadow.
    let taken = taps.iter().filter(|_| config.source.value != SourceMode::Own);
    for interface in ways.iter().map(|way| &way.interface).chain(taken) {
        if guards.iter().all(|guard| guard.index != interface.index) {
            guards.push(interface.clone());
        }
    }
    Ok(Plan { taps, guards, ways })
}

fn check_way(config: &Config, host: &Host, reached: &Reached<'_>) -> Result<Way, Refusal> {
    let Reached { role, setting, shadow, route } = *reached;
    check_loop(config, host, setting, shadow)?;
    match config.source.value {
        SourceMode::Own => check_source_ports(config, host, route)?,
        SourceMode::Pool { .. } | SourceMode::Preserve => {
            check_foreign_source(config, host, shadow, route)?;
        }
    }
    let interface = host
        .interfaces
        .iter()
        .find(|interface| interface.index == route.oif)
        .ok_or_else(|| setting.refuse("its route has no interface", "check `ip route get` for it"))?
        .clone();
    let mtu = route.mtu.unwrap_or(interface.mtu);
    // The IPv4 total length is 16 bits; loopback's MTU of 65,536 exceeds it by one.
    let path_mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    let least = if shadow.is_ipv4() { 576 } else { 1280 };
    if path_mtu < least {
        return Err(setting.refuse(
            format!("the path's MTU {mtu} is less than {least} bytes"),
            format!("raise the MTU of {}", interface.name),
        ));
    }
    Ok(Way { role, setting: setting.clone(), shadow, route, interface, path_mtu })
}

fn check_interfaces(config: &Config, host: &Host) -> Result<Vec<Interface>, Refusal> {
    config
        .iface
        .iter()
        .map(|iface| {
            let Some(interface) = host.interface(&iface.value) else {
                let names: Vec<_> =
                    host.interfaces.iter().map(|interface| interface.name.as_str()).collect();
                return Err(iface.refuse(
                    "there is no such interface",
                    format!("this host has {}", names.join(", ")),
                ));
            };
            if !interface.up {
                return Err(iface.refuse(
                    "the interface is down",
                    format!("bring it up: ip link set {} up", interface.name),
                ));
            }
            Ok(interface.clone())
        })
        .collect()
}

/// An address that the host does not have is one that it forwards to; then an
/// interface at least speaks that family.
fn check_families(config: &Config, host: &Host, taps: &[Interface]) -> Result<(), Refusal> {
    let own = host.addresses();
    for port in &config.port {
        let Service::Exactly(address) = port.value else { continue };
        if address.ip().is_unspecified() || own.contains(&address.ip()) {
            continue;
        }
        let same = |ip: &IpAddr| ip.is_ipv4() == address.is_ipv4() && !is_link_local_v6(*ip);
        let speaks = |tap: &Interface| tap.addresses.iter().any(same);
        if !taps.iter().any(speaks) {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let names: Vec<_> = taps.iter().map(|tap| tap.name.as_str()).collect();
            return Err(port.refuse(
                format!("{} has no {family} address", names.join(", ")),
                "give the interface that has this address, or another address",
            ));
        }
    }
    Ok(())
}

/// Every interface has one, whether IPv6 is in use or not.
fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// What the mirror sends must never be mirrored again.
fn check_loop(
    config: &Config,
    host: &Host,
    setting: &Setting<HostPort>,
    shadow: SocketAddr,
) -> Result<(), Refusal> {
    let own = host.addresses();
    for port in &config.port {
        if port.value.selects(shadow, &own) {
            return Err(setting.refuse(
                format!("is itself mirrored by {port}: a loop"),
                "give a shadow on another host or another port",
            ));
        }
    }
    Ok(())
}

/// Addresses of others, of which none may be this host's or the shadow's.
fn check_foreign_source(
    config: &Config,
    host: &Host,
    shadow: SocketAddr,
    route: Route,
) -> Result<(), Refusal> {
    let source = &config.source;
    if route.local {
        return Err(source.refuse(
            format!("the shadow {shadow} is on this host, and would answer past the guard"),
            "give --source self, or a shadow in a network namespace or on a host of its own",
        ));
    }
    let SourceMode::Pool { network, is_ipv4 } = source.value else { return Ok(()) };
    if is_ipv4 != shadow.is_ipv4() {
        let (pool, other) = if is_ipv4 { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        return Err(source.refuse(
            format!("is a network of {pool}, but the shadow {shadow} speaks {other}"),
            format!("give a network of {other}, or the shadow's {pool} address"),
        ));
    }
    let remedy = "give a network that nobody uses";
    if network.contains(shadow.ip()) {
        return Err(source.refuse(format!("contains the shadow's address {}", shadow.ip()), remedy));
    }
    if let Some(own) = host.addresses().into_iter().find(|own| network.contains(*own)) {
        return Err(source.refuse(format!("contains this host's address {own}"), remedy));
    }
    Ok(())
}

fn check_source_ports(config: &Config, host: &Host, route: Route) -> Result<(), Refusal> {
    let ports = &config.source_ports;
    let range = &ports.value;
    let handed_out = overlap(range, &host.ephemeral_ports)
        .filter(|both| !both.clone().all(|port| is_in(port, &host.reserved_ports)));
    if handed_out.is_some() {
        let (first, last) = (host.ephemeral_ports.start(), host.ephemeral_ports.end());
        return Err(ports.refuse(
            format!("the kernel hands out ports {first}-{last} (net.ipv4.ip_local_port_range)"),
            "give ports outside, or reserve these in net.ipv4.ip_local_reserved_ports",
        ));
    }
    let in_use = host.sockets.iter().find(|socket| {
        range.contains(&socket.port())
            && (socket.ip() == route.source || socket.ip().is_unspecified())
    });
    if let Some(socket) = in_use {
        return Err(ports.refuse(
            format!("{socket} is in use by a socket of this host"),
            "give ports without listeners and connections",
        ));
    }
    if let Some(port) = config.port.iter().find(|port| range.contains(&port.value.port())) {
        return Err(ports.refuse(
            format!("includes the mirrored {port}"),
            "give ports without those of production",
        ));
    }
    Ok(())
}

fn overlap(a: &RangeInclusive<u16>, b: &RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
    let both = *a.start().max(b.start())..=*a.end().min(b.end());
    (!both.is_empty()).then_some(both)
}

fn is_in(port: u16, ranges: &[RangeInclusive<u16>]) -> bool {
    ranges.iter().any(|range| range.contains(&port))
}

#[cfg(test)]
mod tests;
