use super::*;
use crate::cli::{Cli, Command};
use clap::Parser;

fn config(line: &str) -> Config {
    let words = ["shadowtap", "mirror"].into_iter().chain(line.split_whitespace());
    let Command::Mirror(flags) = Cli::try_parse_from(words).expect("well-formed flags").command
    else {
        panic!("these are the flags of mirror");
    };
    Config::load(*flags).expect("valid")
}

fn interface(index: u32, name: &str, mtu: u32, addresses: &[&str]) -> Interface {
    let addresses = addresses.iter().map(|text| text.parse().expect("address")).collect();
    Interface { index, name: name.into(), up: true, mtu, addresses, ..Interface::default() }
}

fn host() -> Host {
    Host {
        kernel: Version::new(6, 1, 0),
        missing_capabilities: vec![],
        interfaces: vec![
            interface(1, "lo", 65_536, &["127.0.0.1", "::1"]),
            interface(2, "eth0", 1500, &["10.0.0.5", "fe80::5"]),
            interface(3, "eth1", 9000, &["10.1.0.5", "fd00::5"]),
        ],
        ephemeral_ports: 32_768..=60_999,
        reserved_ports: vec![],
        sockets: vec![],
    }
}

fn route() -> Route {
    Route {
        oif: 3,
        source: "10.1.0.5".parse().expect("address"),
        mtu: None,
        local: false,
        neighbour: None,
    }
}

fn plan(config: &Config, host: &Host, shadow: &str, route: Route) -> Result<Plan, Refusal> {
    let shadow = shadow.parse().expect("address");
    let reached =
        config.destinations().map(|(role, setting)| Reached { role, setting, shadow, route });
    check(config, host, &reached.collect::<Vec<_>>())
}

fn run(line: &str, host: &Host, shadow: &str) -> Result<Plan, String> {
    let config = config(&format!("{line} --shadow {shadow}"));
    plan(&config, host, shadow, route()).map_err(|error| error.to_string())
}

fn refusal(line: &str, host: &Host, shadow: &str) -> String {
    run(line, host, shadow).expect_err("refused")
}

const FAR: &str = "10.1.0.9:8080";

#[test]
fn a_plan_takes_the_route_s_interface() {
    let plan = run("--iface eth0 --port 80", &host(), FAR).expect("in order");
    assert_eq!(plan.taps, [host().interfaces[1].clone()]);
    let names = |plan: &Plan| plan.guards.iter().map(|g| g.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&plan), ["eth1"]);
    let preserve = "--iface eth0 --iface eth1 --port 80 --source preserve";
    let plan = run(preserve, &host(), FAR).expect("in order");
    assert_eq!(names(&plan), ["eth1", "eth0"]);
    assert_eq!(plan.ways[0].path_mtu, 9000);
}

#[test]
fn the_route_s_own_mtu_wins_and_fits_the_header() {
    let config = config(&format!("--iface eth0 --port 80 --shadow {FAR}"));
    let mtu = |mtu| plan(&config, &host(), FAR, Route { mtu, ..route() });
    assert_eq!(mtu(Some(1400)).expect("in order").ways[0].path_mtu, 1400);
    assert_eq!(mtu(Some(65_536)).expect("in order").ways[0].path_mtu, 65_535);
    assert_eq!(
        mtu(Some(500)).expect_err("refused").to_string(),
        "--shadow 10.1.0.9:8080: the path's MTU 500 is less than 576 bytes; raise the MTU of eth1"
    );
}

#[test]
fn an_unknown_interface_is_refused() {
    assert_eq!(
        refusal("--iface eth7 --port 80", &host(), FAR),
        "--iface eth7: there is no such interface; this host has lo, eth0, eth1"
    );
}

#[test]
fn an_interface_that_is_down_is_refused() {
    let mut host = host();
    host.interfaces[1].up = false;
    assert_eq!(
        refusal("--iface eth0 --port 80", &host, FAR),
        "--iface eth0: the interface is down; bring it up: ip link set eth0 up"
    );
}

#[test]
fn an_interface_without_the_family_is_refused() {
    assert_eq!(
        refusal("--iface eth0 --port [fd00::1]:80", &host(), FAR),
        "--port [fd00::1]:80: eth0 has no IPv6 address; give the interface that has this address, \
         or another address"
    );
    run("--iface eth1 --port [fd00::1]:80", &host(), FAR).expect("forwarded");
    run("--iface eth0 --port [fd00::5]:80", &host(), FAR).expect("the host's own");
    run("--iface eth0 --port [::]:80", &host(), FAR).expect("whatever arrives");
}

#[test]
fn a_loop_is_refused() {
    let remedy = "give a shadow on another host or another port";
    for (port, shadow) in [
        ("80", "10.0.0.5:80"),
        ("80", "127.0.0.1:80"),
        ("10.0.0.5:80", "10.0.0.5:80"),
        ("10.0.0.9:80", "10.0.0.9:80"),
        ("0.0.0.0:80", "10.1.0.5:80"),
    ] {
        assert_eq!(
            refusal(&format!("--iface eth0 --port {port}"), &host(), shadow),
            format!("--shadow {shadow}: is itself mirrored by --port {port}: a loop; {remedy}")
        );
    }
    run("--iface eth0 --port 80", &host(), "10.0.0.5:81").expect("another port of this host");
    run("--iface eth0 --port 80", &host(), "10.1.0.9:80").expect("another host");
}

#[test]
fn ports_that_the_kernel_hands_out_are_refused() {
    let line = "--iface eth0 --port 80 --source-ports 32000-33000";
    assert_eq!(
        refusal(line, &host(), FAR),
        "--source-ports 32000-33000: the kernel hands out ports 32768-60999 \
         (net.ipv4.ip_local_port_range); give ports outside, or reserve these in \
         net.ipv4.ip_local_reserved_ports"
    );
    let reserved = Host { reserved_ports: vec![32_768..=33_000], ..host() };
    run(line, &reserved, FAR).expect("reserved");
}

#[test]
fn ports_in_use_are_refused() {
    let with = |socket: &str| Host { sockets: vec![socket.parse().expect("socket")], ..host() };
    for socket in ["10.1.0.5:20000", "0.0.0.0:20000", "[::]:20000"] {
        assert_eq!(
            refusal("--iface eth0 --port 80", &with(socket), FAR),
            format!(
                "--source-ports 16384-32767 (the default): {socket} is in use by a socket of this \
                 host; give ports without listeners and connections"
            )
        );
    }
    run("--iface eth0 --port 80", &with("127.0.0.1:20000"), FAR).expect("another address");
    run("--iface eth0 --port 80", &with("10.1.0.5:8080"), FAR).expect("another port");
    assert_eq!(
        refusal("--iface eth0 --port 20000", &host(), FAR),
        "--source-ports 16384-32767 (the default): includes the mirrored --port 20000; give ports \
         without those of production"
    );
}

#[test]
fn an_old_kernel_is_refused() {
    let host = Host { kernel: Version::new(5, 9, 0), ..host() };
    assert_eq!(
        check_privileges(&host).expect_err("refused").to_string(),
        "kernel 5.9: is too old for the mirror's ring buffers; run it on Linux 5.10 or newer"
    );
}

#[test]
fn missing_capabilities_are_refused() {
    let host = Host { missing_capabilities: vec!["CAP_BPF", "CAP_NET_RAW"], ..host() };
    assert_eq!(
        check_privileges(&host).expect_err("refused").to_string(),
        "privileges: this process lacks CAP_BPF, CAP_NET_RAW; run as root (sudo), or grant these \
         capabilities"
    );
}

#[test]
fn a_source_that_cannot_be_guarded_is_refused() {
    let line = "--iface eth0 --port 80 --source";
    for (source, why) in [
        (
            "pool=fd99::/64",
            "is a network of IPv6, but the shadow 10.1.0.9:8080 speaks IPv4; give a network of \
             IPv4, or the shadow's IPv6 address",
        ),
        (
            "pool=10.1.0.0/24",
            "contains the shadow's address 10.1.0.9; give a network that nobody uses",
        ),
        (
            "pool=10.0.0.0/24",
            "contains this host's address 10.0.0.5; give a network that nobody uses",
        ),
    ] {
        let refusal = refusal(&format!("{line} {source}"), &host(), FAR);
        assert_eq!(refusal, format!("--source {source}: {why}"));
    }
    run(&format!("{line} pool=10.99.0.0/24"), &host(), FAR).expect("in order");
    let config = config(&format!("{line} preserve --shadow {FAR}"));
    let local = Route { local: true, ..route() };
    assert_eq!(
        plan(&config, &host(), FAR, local).expect_err("refused").to_string(),
        "--source preserve: the shadow 10.1.0.9:8080 is on this host, and would answer past the \
         guard; give --source self, or a shadow in a network namespace or on a host of its own"
    );
}

#[test]
fn two_names_of_one_server_are_refused() {
    let config = config(&format!("--iface eth0 --port 80 --shadow {FAR} --baseline far:8080"));
    assert_eq!(
        plan(&config, &host(), FAR, route()).expect_err("refused").to_string(),
        "--baseline far:8080: is the same server as --shadow 10.1.0.9:8080; give another address \
         or port"
    );
}
