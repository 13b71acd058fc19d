//! The ways on which packets come and go: what stands between client, production and shadow.

use anyhow::{Context as _, Result, ensure};
use shadow_lab::{Host, Link, Mirror, Mix, Nginx, Relay, Topology};
use shadow_tests::{Family, Stage, at, check_ended, check_lossless, shadowtap};

const REQUESTS: u64 = 100;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Runs `ip` with the words of `args` on a host.
fn ip(host: &Host, args: &str) -> Result<String> {
    host.run("ip", args.split_whitespace())
}

/// Mirrors requests to `targets` with `flags` besides `--port 80`; each arrives exactly once.
fn mirrored(stage: &Stage, targets: &[&str], flags: &[&str], seed: u64) -> Result<()> {
    let lab = &stage.lab;
    let (served, known) = (stage.production.logged(), stage.shadow.logged());
    let args = [&["--port", "80", "--live", "off"], flags].concat();
    let mirror = Mirror::start(&lab.production, &args).with_context(|| format!("{flags:?}"))?;
    let targets = targets.iter().map(|target| target.parse().context("target"));
    let mix = Mix {
        requests: Some(REQUESTS),
        rate: Some(1_000),
        max_body: 64 << 10,
        ..Mix::new(targets.collect::<Result<_>>()?, seed)
    };
    let report = stage.send(&mix)?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, report.completed.len())?;
    let production = stage.production.log_of(served + report.completed.len())?;
    let shadow = stage.shadow.log_of(known + report.completed.len())?;
    let new = |log: &[shadow_lab::Entry], from: usize| log[from..].to_vec();
    let differences = shadow_lab::compare(&new(&production, served), &new(&shadow, known));
    ensure!(differences.is_empty(), "{flags:?}: the shadow's log: {differences}");
    // Nothing of another run stays in the way.
    stage.guard(&["remove"]).map(drop)
}

/// Production's and the shadow's usual addresses.
fn usual(stage: &Stage, family: Family) -> (String, String) {
    let lab = &stage.lab;
    (at(&lab.production, family).to_string(), at(&lab.shadow, family).to_string())
}

/// What `mirror` says when it refuses these flags.
fn refused(host: &Host, flags: &[&str]) -> Result<String> {
    let output = shadowtap(host, &[&["mirror", "--port", "80"], flags].concat())?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2), "{flags:?}: {}: {words}", output.status);
    Ok(words)
}

#[test]
fn a_shadow_behind_a_router() -> Result<()> {
    let stage = Stage::with(Topology::Routed)?;
    let router = stage.lab.router.as_ref().context("a router")?;
    // A pool within this host's network needs no route: the router asks for its addresses.
    let pools = ["pool=10.77.0.128/26", "pool=fd77::5:0/112"];
    for ((family, pool), seed) in FAMILIES.into_iter().zip(pools).zip(0x10..) {
        let (target, shadow) = usual(&stage, family);
        let to = ["--iface", "eth0", "--shadow", &shadow, "--source"];
        mirrored(&stage, &[&target], &[&to[..], &["self"]].concat(), seed)?;
        let announced = [&to[..], &[pool, "--pool-announce"]].concat();
        mirrored(&stage, &[&target], &announced, seed + 8)?;
        // The clients' own addresses: the router sends the service's answers to the mirror host.
        let version = if family == Family::V4 { "-4" } else { "-6" };
        let via = at(&stage.lab.production, family).ip();
        ip(router, &format!("{version} route add default via {via} table 77"))?;
        ip(router, &format!("{version} rule add iif eth1 ipproto tcp sport 80 table 77"))?;
        mirrored(&stage, &[&target], &[&to[..], &["preserve"]].concat(), seed + 16)?;
    }
    Ok(())
}

/// As a container has it: the shadow's only interface is a veth of the mirror's host.
#[test]
fn a_shadow_in_a_container_on_the_same_host() -> Result<()> {
    for bridged in [false, true] {
        let stage = Stage::new()?;
        let (host, container) = (&stage.lab.production, &stage.lab.shadow);
        ip(container, "link set eth0 down")?;
        let pod = format!("link add pod0 type veth peer name eth9 netns {}", container.namespace);
        ip(host, &pod)?;
        let gateway = if bridged {
            ip(host, "link add cni0 type bridge stp_state 0 forward_delay 0")?;
            ip(host, "link set pod0 master cni0 up")?;
            "cni0"
        } else {
            "pod0"
        };
        for (host, device, last) in [(host, gateway, 1), (container, "eth9", 2)] {
            ip(host, &format!("link set {device} up"))?;
            ip(host, &format!("address add 10.88.0.{last}/24 dev {device}"))?;
            ip(host, &format!("address add fd88::{last}/64 dev {device} nodad"))?;
        }
        ip(container, "route add default via 10.88.0.1")?;
        ip(container, "-6 route add default via fd88::1")?;
        host.sysctl("net.ipv4.ip_forward", "1")?;
        host.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let ways = [
            (Family::V4, "10.88.0.2:80", "pool=10.99.7.0/24"),
            (Family::V6, "[fd88::2]:80", "pool=fd99::7:0/112"),
        ];
        for ((family, shadow, pool), seed) in ways.into_iter().zip(0x40..) {
            let (target, _) = usual(&stage, family);
            let sources = if bridged { &["preserve"][..] } else { &["self", pool, "preserve"] };
            for (source, step) in sources.iter().zip(0..) {
                let flags = ["--iface", "eth0", "--shadow", shadow, "--source", source];
                mirrored(&stage, &[&target], &flags, seed + 8 * step)?;
            }
        }
    }
    Ok(())
}

#[test]
fn hosts_without_ipv4() -> Result<()> {
    let stage = Stage::new()?;
    for host in [&stage.lab.client, &stage.lab.production, &stage.lab.shadow] {
        ip(host, "-4 address flush dev eth0")?;
    }
    let (target, shadow) = usual(&stage, Family::V6);
    for (source, seed) in [("self", 0x60), ("pool=fd77::5:0/112", 0x61)] {
        let mut flags = vec!["--iface", "eth0", "--shadow", &shadow, "--source", source];
        flags.extend((source != "self").then_some("--pool-announce"));
        mirrored(&stage, &[&target], &flags, seed)?;
    }
    let words = refused(&stage.lab.production, &["--iface", "eth0", "--shadow", "10.77.0.3:80"])?;
    ensure!(words.contains("no route to 10.77.0.3"), "{words}");
    Ok(())
}

/// Production's address on a bridge with `eth0` as a port.
#[test]
fn a_bridge_and_its_port() -> Result<()> {
    let stage = Stage::new()?;
    let host = &stage.lab.production;
    ip(host, "link add br0 type bridge stp_state 0 forward_delay 0")?;
    for address in [format!("{}/24", host.v4), format!("{}/64", host.v6)] {
        ip(host, &format!("address del {address} dev eth0"))?;
        ip(host, &format!("address add {address} dev br0 nodad"))?;
    }
    ip(host, "link set eth0 master br0")?;
    ip(host, "link set br0 up")?;
    for (family, seed) in FAMILIES.into_iter().zip(0x70..) {
        let (target, shadow) = usual(&stage, family);
        for (iface, step) in [("br0", 0), ("eth0", 8)] {
            mirrored(&stage, &[&target], &["--iface", iface, "--shadow", &shadow], seed + step)?;
        }
    }
    let (target, shadow) = usual(&stage, Family::V4);
    let flags = ["--iface", "br0", "--shadow", &shadow, "--pool-announce", "--source"];
    mirrored(&stage, &[&target], &[&flags[..], &["pool=10.77.0.128/26"]].concat(), 0x80)?;

    let words = refused(host, &["--iface", "br0", "--iface", "eth0", "--shadow", &shadow])?;
    let said = "--iface eth0: what arrives on it is seen again on br0; give it or --iface br0, not \
                both";
    ensure!(words == format!("shadowtap: {said}\n"), "{words}");
    Ok(())
}

/// Gives both hosts a device of their own to talk over, made on `eth0` by `device`, with
/// `10.66.0.x` and `fd66::x`; false where the kernel has no such device.
fn plug(stage: &Stage, name: &str, device: impl Fn(&Host, &Host) -> String) -> Result<bool> {
    let (client, production) = (&stage.lab.client, &stage.lab.production);
    for (host, other, last) in [(client, production, 1), (production, client, 2)] {
        if let Err(error) = ip(host, &format!("link add {name} {}", device(host, other))) {
            // As the kernel says it when it has no such kind.
            ensure!(format!("{error:#}").contains("Unknown device type"), "{error:#}");
            return Ok(false);
        }
        ip(host, &format!("link set {name} up"))?;
        ip(host, &format!("address add 10.66.0.{last}/24 dev {name}"))?;
        ip(host, &format!("address add fd66::{last}/64 dev {name} nodad"))?;
    }
    Ok(true)
}

const PLUGGED: [&str; 2] = ["10.66.0.2:80", "[fd66::2]:80"];

/// Clients reach production over `name`; the shadow is where it always is.
fn over(stage: &Stage, name: &str, seed: u64) -> Result<()> {
    let (_, shadow) = usual(stage, Family::V4);
    mirrored(stage, &PLUGGED, &["--iface", name, "--shadow", &shadow], seed)
}

#[test]
fn a_vlan_on_its_interface_and_on_the_one_below() -> Result<()> {
    let stage = Stage::new()?;
    if !plug(&stage, "eth0.7", |_, _| "link eth0 type vlan id 7".into())? {
        println!("this kernel has no VLANs: not tested");
        return Ok(());
    }
    over(&stage, "eth0.7", 0x90)?;
    over(&stage, "eth0", 0x91)?;
    let (_, shadow) = usual(&stage, Family::V4);
    let both = ["--iface", "eth0", "--iface", "eth0.7", "--shadow", &shadow];
    let words = refused(&stage.lab.production, &both)?;
    ensure!(words.contains("--iface eth0: what arrives on it is seen again on eth0.7"), "{words}");
    Ok(())
}

#[test]
fn a_macvlan_on_its_interface_and_on_the_one_below() -> Result<()> {
    let stage = Stage::new()?;
    // Else either interface answers ARP for the other's address, and the last answer counts.
    stage.lab.production.sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    ensure!(plug(&stage, "mac0", |_, _| "link eth0 type macvlan mode bridge".into())?);
    over(&stage, "mac0", 0xa0)?;
    over(&stage, "eth0", 0xa1)?;
    let (_, shadow) = usual(&stage, Family::V4);
    let both = ["--iface", "mac0", "--iface", "eth0", "--shadow", &shadow];
    let words = refused(&stage.lab.production, &both)?;
    ensure!(words.contains("--iface eth0: what arrives on it is seen again on mac0"), "{words}");
    Ok(())
}

#[test]
fn a_bond() -> Result<()> {
    let stage = Stage::new()?;
    let host = &stage.lab.production;
    if ip(host, "link add bond0 type bond mode active-backup").is_err() {
        println!("this kernel has no bonds: not tested");
        return Ok(());
    }
    ip(host, "link set eth0 down")?;
    ip(host, "link set eth0 master bond0")?;
    ip(host, "link set bond0 up")?;
    for address in [format!("{}/24", host.v4), format!("{}/64", host.v6)] {
        ip(host, &format!("address replace {address} dev bond0 nodad"))?;
    }
    let (target, shadow) = usual(&stage, Family::V4);
    mirrored(&stage, &[&target], &["--iface", "bond0", "--shadow", &shadow], 0xb0)?;
    let words = refused(host, &["--iface", "bond0", "--iface", "eth0", "--shadow", &shadow])?;
    ensure!(words.contains("--iface eth0: what arrives on it is seen again on bond0"), "{words}");
    Ok(())
}

/// The inner packets alone are production's; those around them are UDP.
#[test]
fn an_overlay_and_the_interface_below() -> Result<()> {
    let stage = Stage::new()?;
    let device = |_: &Host, other: &Host| {
        format!("type vxlan id 7 dstport 4789 dev eth0 remote {}", other.v4)
    };
    ensure!(plug(&stage, "vx0", device)?);
    over(&stage, "vx0", 0xc0)?;
    let (_, shadow) = usual(&stage, Family::V4);
    let both = ["--iface", "vx0", "--iface", "eth0", "--shadow", &shadow];
    mirrored(&stage, &PLUGGED, &both, 0xc1)
}

/// As WireGuard's and every tunnel's at the third layer.
#[test]
fn interfaces_without_an_ethernet_header() -> Result<()> {
    let wire = Link { ethernet: false, ..Link::default() };
    // Clients over it, the shadow elsewhere.
    let stage = Stage::new()?;
    let tunnel = Relay::between(&stage.lab.client, &stage.lab.production, wire)?;
    let (_, shadow) = usual(&stage, Family::V4);
    let targets = [tunnel.far4(80).to_string(), tunnel.far6(80).to_string()];
    let targets = targets.each_ref().map(String::as_str);
    mirrored(&stage, &targets, &["--iface", Relay::INTERFACE, "--shadow", &shadow], 0xd0)?;
    drop(tunnel);

    // The shadow over it, with a route for the clients' addresses.
    let (production, host) = (&stage.lab.production, &stage.lab.shadow);
    production.sysctl("net.ipv4.ip_forward", "1")?;
    production.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    let tunnel = Relay::between(production, host, wire)?;
    for mirror_host in ["10.77.2.2", "fd77:0:0:2::2"] {
        let routed = shadowtap(host, &["route", "add", "--via", mirror_host, "--port", "80"])?;
        ensure!(routed.status.success(), "{}", String::from_utf8_lossy(&routed.stderr));
    }
    let ways = [
        (Family::V4, tunnel.far4(80).to_string(), "pool=10.99.7.0/24"),
        (Family::V6, tunnel.far6(80).to_string(), "pool=fd99::7:0/112"),
    ];
    for ((family, shadow, pool), seed) in ways.iter().zip(0xe0..) {
        let (target, _) = usual(&stage, *family);
        for (source, step) in ["self", *pool, "preserve"].into_iter().zip(0..) {
            let flags = ["--iface", "eth0", "--shadow", shadow, "--source", source];
            mirrored(&stage, &[&target], &flags, seed + 8 * step)?;
        }
        let flags = ["--iface", "eth0", "--shadow", shadow, "--pool-announce", "--source", pool];
        let words = refused(production, &flags)?;
        let said = "--pool-announce: link0 has no Ethernet address to be asked for; leave it out, \
                    and give the shadow a route to the pool";
        ensure!(words == format!("shadowtap: {said}\n"), "{words}");
    }
    ensure!(shadowtap(host, &["route", "del"])?.status.success());
    Ok(())
}

/// One to each of two shadows, both from the clients' addresses, and one from its own.
#[test]
fn several_mirrors_on_one_host() -> Result<()> {
    let stage = Stage::with_route()?;
    let (host, shadows) = (&stage.lab.production, &stage.lab.shadow);
    let others = [Nginx::start_on(shadows, 8081)?, Nginx::start_on(shadows, 8082)?];
    for family in ["-4", "-6"] {
        ip(shadows, &format!("{family} rule add ipproto tcp sport 8081 table 77"))?;
    }
    let production = [Nginx::start_on(host, 81)?, Nginx::start_on(host, 82)?];
    let start = |port: &str, to: u16, source: &str| {
        let shadow = shadows.at4(to).to_string();
        let args = ["--iface", "eth0", "--port", port, "--shadow", &shadow, "--source", source];
        Mirror::start(host, &args)
    };
    let mirrors = [start("81", 8081, "preserve")?, start("82", 8082, "self")?];
    let (target, shadow) = usual(&stage, Family::V4);
    for (server, port) in production.iter().zip(["81", "82"]) {
        let uri = format!("http://{}:{port}/small.txt", host.v4);
        shadow_lab::curl(&stage.lab.client, &[&uri])?;
        ensure!(server.log_of(1)?.len() == 1);
    }
    // A third comes and goes, and the two go on.
    let flags = ["--iface", "eth0", "--shadow", &shadow, "--source", "preserve"];
    let mirror = Mirror::start(host, &[&["--port", "80"], &flags[..]].concat())?;
    let report = stage.send(&Mix { rate: Some(500), ..stage.mix(Family::V4, REQUESTS, 0xf0) })?;
    ensure!(target.ends_with(":80"));
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, report.completed.len())?;
    for port in ["81", "82"] {
        let uri = format!("http://{}:{port}/small.txt", host.v4);
        shadow_lab::curl(&stage.lab.client, &[&uri])?;
    }
    for other in &others {
        ensure!(other.log_of(2)?.len() == 2);
    }
    for mirror in mirrors {
        let ended = mirror.stop()?;
        check_ended(&ended)?;
        check_lossless(&ended.books, 2)?;
    }
    Ok(())
}
