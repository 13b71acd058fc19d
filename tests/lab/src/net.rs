//! The wires between hosts.
//!
//! Segment A is `10.77.0.0/24` and `fd77::/64`, segment B is `10.77.1.0/24` and `fd77:0:0:1::/64`.
//! Each segment is a bridge in a namespace of its own, so that no frame of it is seen elsewhere.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::cleanup;
use crate::host::Host;

static LABS: AtomicU32 = AtomicU32::new(0);

/// How the hosts are wired.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Topology {
    /// Client, production and shadow on segment A.
    #[default]
    OneSegment,
    /// Client and production on A, the shadow on B, a router between.
    Routed,
    /// Client and production on A, the shadow on B, production with `eth0` on A and `eth1` on B.
    SecondInterface,
    /// As that, with a wire in place of each segment: no switch, whose work would be done by the hosts' CPUs.
    Direct,
}

/// Three hosts and the wires between them. Everything is removed on drop.
#[derive(Debug)]
pub struct Lab {
    /// Where requests come from.
    pub client: Host,
    /// The server that answers the client; the mirror runs here.
    pub production: Host,
    /// The server under test.
    pub shadow: Host,
    /// Between the segments, in [`Topology::Routed`].
    pub router: Option<Host>,
    name: String,
}

const SEGMENTS: [&str; 2] = ["wire-a", "wire-b"];

fn v4(segment: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, segment, host)
}

fn v6(segment: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, segment.into(), 0, 0, 0, host.into())
}

impl Lab {
    /// Three hosts on one segment.
    ///
    /// # Errors
    /// When not root, or the kernel lacks network namespaces, veth or bridges.
    pub fn new() -> Result<Self> {
        Self::with(Topology::OneSegment)
    }

    /// Three hosts, wired as `topology` says.
    ///
    /// # Errors
    /// As [`Lab::new`].
    pub fn with(topology: Topology) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("network namespaces need root");
        }
        cleanup::sweep()?;
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", cleanup::PREFIX, std::process::id());
        let folder = cleanup::folder(&name);
        let shadow_segment = u8::from(topology != Topology::OneSegment);
        let host = |role: &str, segment: u8, number: u8| {
            Host::new(role, &name, v4(segment, number), v6(segment, number), &folder.join(role))
        };
        let lab = Self {
            client: host("client", 0, 1),
            production: host("production", 0, 2),
            shadow: host("shadow", shadow_segment, 3),
            router: (topology == Topology::Routed).then(|| host("router", 0, 254)),
            name: name.clone(),
        };
        let wires = SEGMENTS.map(|segment| format!("{name}-{segment}"));
        let mut namespaces: Vec<_> = lab.hosts().map(|host| host.namespace.clone()).collect();
        namespaces.extend(wires.iter().cloned());
        cleanup::register(&name, &namespaces, &folder);

        // From here on an error drops `lab`, which removes what was made.
        for host in lab.hosts() {
            fs::create_dir_all(host.folder()).context("make the lab's folder")?;
            add_host(host)?;
        }
        if topology == Topology::Direct {
            join((&lab.client, "eth0", 1), (&lab.production, "eth0", 2), 0)?;
            join((&lab.production, "eth1", 2), (&lab.shadow, "eth0", 3), 1)?;
            return Ok(lab);
        }
        for wire in &wires {
            add_wire(wire)?;
        }
        plug(&lab.client, "eth0", &wires[0], v4(0, 1), v6(0, 1))?;
        plug(&lab.production, "eth0", &wires[0], v4(0, 2), v6(0, 2))?;
        plug(
            &lab.shadow,
            "eth0",
            &wires[usize::from(shadow_segment)],
            lab.shadow.v4,
            lab.shadow.v6,
        )?;
        match topology {
            Topology::OneSegment | Topology::Direct => {}
            Topology::Routed => lab.add_router(&wires)?,
            Topology::SecondInterface => {
                plug(&lab.production, "eth1", &wires[1], v4(1, 2), v6(1, 2))?;
            }
        }
        Ok(lab)
    }

    /// Every host.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        [&self.client, &self.production, &self.shadow].into_iter().chain(&self.router)
    }

    fn add_router(&self, wires: &[String; 2]) -> Result<()> {
        let Some(router) = &self.router else { return Ok(()) };
        plug(router, "eth0", &wires[0], v4(0, 254), v6(0, 254))?;
        plug(router, "eth1", &wires[1], v4(1, 254), v6(1, 254))?;
        router.sysctl("net.ipv4.ip_forward", "1")?;
        router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        for (host, segment) in [(&self.client, 0), (&self.production, 0), (&self.shadow, 1)] {
            let (gateway4, gateway6) = (v4(segment, 254), v6(segment, 254));
            ip(&format!("-n {} route add default via {gateway4}", host.namespace))?;
            ip(&format!("-n {} -6 route add default via {gateway6}", host.namespace))?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        cleanup::remove(&self.name);
    }
}

fn add_host(host: &Host) -> Result<()> {
    ip(&format!("netns add {}", host.namespace))?;
    ip(&format!("-n {} link set lo up", host.namespace))?;
    // Addresses are ours alone: no second of duplicate address detection before IPv6 works.
    host.sysctl("net.ipv6.conf.all.accept_dad", "0")?;
    host.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
    host.sysctl("net.ipv6.conf.default.accept_ra", "0")?;
    if host.role == "client" {
        // Tens of thousands of short connections per test.
        host.sysctl("net.ipv4.ip_local_port_range", "1024 65535")?;
        host.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    }
    Ok(())
}

fn add_wire(namespace: &str) -> Result<()> {
    ip(&format!("netns add {namespace}"))?;
    ip(&format!(
        "-n {namespace} link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
    ))?;
    ip(&format!("-n {namespace} link set br0 up"))?;
    // A switch, not a firewall: where `br_netfilter` is loaded (Docker does), every frame would pass
    // netfilter's hooks. Where it is not, there is nothing to turn off.
    for family in ["ip", "ip6", "arp"] {
        let name = format!("net.bridge.bridge-nf-call-{family}tables");
        ip(&format!("netns exec {namespace} sysctl -e -q -w {name}=0"))?;
    }
    Ok(())
}

/// Gives `host` the interface `name` with its other end in the bridge of `wire`.
fn plug(host: &Host, name: &str, wire: &str, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<()> {
    let namespace = &host.namespace;
    let port = format!("{}-{name}", &host.role[..host.role.len().min(10)]);
    ip(&format!("link add {name} netns {namespace} type veth peer name {port} netns {wire}"))?;
    ip(&format!("-n {wire} link set {port} master br0 up"))?;
    address(namespace, name, v4, v6)
}

/// Joins an interface of one host to one of another, each given with its number in `segment`.
fn join(one: (&Host, &str, u8), other: (&Host, &str, u8), segment: u8) -> Result<()> {
    let (from, to) = (&one.0.namespace, &other.0.namespace);
    ip(&format!("link add {} netns {from} type veth peer name {} netns {to}", one.1, other.1))?;
    for (host, name, number) in [one, other] {
        address(&host.namespace, name, v4(segment, number), v6(segment, number))?;
    }
    Ok(())
}

fn address(namespace: &str, name: &str, v4: Ipv4Addr, v6: Ipv6Addr) -> Result<()> {
    ip(&format!("-n {namespace} address add {v4}/24 dev {name}"))?;
    ip(&format!("-n {namespace} address add {v6}/64 dev {name} nodad"))?;
    ip(&format!("-n {namespace} link set {name} up"))
}

/// Runs `ip` with the words of `args`.
fn ip(args: &str) -> Result<()> {
    let output = Command::new("ip").args(args.split_whitespace()).output().context("start ip")?;
    if !output.status.success() {
        bail!("ip {args}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
