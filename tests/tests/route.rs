//! `shadowtap route` on the shadow's host, with real packets.

use std::net::{IpAddr, SocketAddr};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shadow_lab::{Host, Lab, Nginx, Tcpdump, Topology, binary};

/// What `shadowtap route` says on `host`, word by word in `line`.
fn route(host: &Host, line: &str) -> Result<Output> {
    let mut command = host.command(binary()?);
    command.arg("route").args(line.split_whitespace()).env_remove("RUST_LOG");
    command.output().context("start shadowtap")
}

/// Its standard output when it succeeds.
fn routed(host: &Host, line: &str) -> Result<String> {
    let output = route(host, line)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && error.is_empty(), "route {line}: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Its one line of standard error when it refuses.
fn refused(output: &Output) -> Result<String> {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2), "{}: {error}", output.status);
    ensure!(output.stdout.is_empty() && error.lines().count() == 1, "{error}");
    Ok(error.trim_end().to_owned())
}

/// All that `route` could have changed.
fn settings(host: &Host) -> Result<String> {
    let mut all = String::new();
    for line in ["rule", "-6 rule", "route show table all", "-6 route show table all"] {
        all += &host.run("ip", line.split_whitespace())?;
    }
    Ok(all + &host.run("sysctl", ["-a", "-r", r"rp_filter|forward|accept_local"])?)
}

fn mac(host: &Host) -> Result<String> {
    let path = "/sys/class/net/eth0/address";
    let text = host.run("ip", ["netns", "exec", &host.namespace, "cat", path])?;
    Ok(text.trim().to_owned())
}

const SOON: Duration = Duration::from_millis(400);

/// Where the replies to a connection from the client to a port of the shadow went: how many frames
/// the mirror's host got, and how many the client.
fn replies(lab: &Lab, to: SocketAddr) -> Result<(usize, usize)> {
    let (mirror, client) = (&lab.production, &lab.client);
    let filter = |mac| {
        format!("tcp and src host {} and src port {} and ether dst {mac}", to.ip(), to.port())
    };
    let at_mirror = Tcpdump::start(mirror, "eth0", &filter(mac(mirror)?))?;
    let at_client = Tcpdump::start(client, "eth0", &filter(mac(client)?))?;
    // What becomes of the connection is what the frames show.
    let _ = client.connect(to, SOON);
    Ok((at_mirror.stop()?.count("tcp")?, at_client.stop()?.count("tcp")?))
}

#[test]
fn replies_of_the_port_go_to_the_mirror_host_and_no_others() -> Result<()> {
    let lab = Lab::new()?;
    let (shadow, mirror) = (&lab.shadow, &lab.production);
    let _nginx = Nginx::start(shadow)?;
    let everyone: [(SocketAddr, IpAddr, IpAddr); 2] = [
        (shadow.at4(80), mirror.v4.into(), lab.client.v4.into()),
        (shadow.at6(80), mirror.v6.into(), lab.client.v6.into()),
    ];
    for (service, via, client) in everyone {
        let before = replies(&lab, service)?;
        ensure!(before.0 == 0 && before.1 > 0, "without a route: {before:?}");

        routed(shadow, &format!("add --via {via} --port 80"))?;
        let with = replies(&lab, service)?;
        ensure!(with.0 > 0 && with.1 == 0, "{service}: {with:?}");
        // A closed port answers, too, with RST.
        let closed = replies(&lab, SocketAddr::new(service.ip(), 81))?;
        ensure!(closed == (0, 1), "another port: {closed:?}");
        // So does the service's own port to the mirror's host itself.
        ensure!(mirror.connect(service, Duration::from_secs(2)).is_ok(), "the mirror's own");
        // The mirror's host may be a client of the same port elsewhere.
        let away = lab.production.connect(SocketAddr::new(client, 80), SOON);
        ensure!(away.is_err(), "nothing listens there");

        routed(shadow, "del")?;
        let after = replies(&lab, service)?;
        ensure!(after.0 == 0 && after.1 > 0, "after del: {after:?}");

        let elsewhere = if via.is_ipv4() { "198.51.100.0/24" } else { "2001:db8::/32" };
        routed(shadow, &format!("add --via {via} --port 80 --client-net {elsewhere}"))?;
        let others = replies(&lab, service)?;
        ensure!(others.0 == 0 && others.1 > 0, "a client of another network: {others:?}");
        routed(shadow, &format!("add --via {via} --port 80 --client-net {client}"))?;
        let narrowed = replies(&lab, service)?;
        ensure!(narrowed.0 > 0 && narrowed.1 == 0, "a client of the network: {narrowed:?}");
        routed(shadow, "del")?;
    }
    Ok(())
}

#[test]
fn what_was_changed_is_shown_and_undone_exactly() -> Result<()> {
    let lab = Lab::new()?;
    let shadow = &lab.shadow;
    let before = settings(shadow)?;
    ensure!(routed(shadow, "show")? == "no route is set\n");

    let adds = [
        "add --via 10.77.0.2 --port 80 --port 443",
        "add --via 10.77.0.1 --port 80 --client-net 203.0.113.0/24",
        "add --via fd77::2 --port 80",
        "add --via fe80::1%eth0 --port 9000 --client-net 2001:db8::/32",
    ];
    for add in adds {
        let said = routed(shadow, add)?;
        ensure!(said.contains("added: ") && !said.contains("already there"), "{said}");
    }
    let set = settings(shadow)?;
    for add in adds {
        let said = routed(shadow, add)?;
        ensure!(said.contains("already there: ") && !said.contains("added"), "{said}");
    }
    ensure!(settings(shadow)? == set, "the second time changes nothing");
    let shown = routed(shadow, "show")?;
    ensure!(shown.matches("set: replies").count() == 5, "{shown}");

    // A part goes, the rest stays as it was.
    let said = routed(shadow, "del --via 10.77.0.2 --port 443")?;
    ensure!(said.matches("removed: ").count() == 1, "{said}");
    ensure!(routed(shadow, "show")?.matches("set: replies").count() == 4);
    ensure!(routed(shadow, adds[0])?.contains("added: replies from TCP port 443"));
    ensure!(settings(shadow)? == set, "the part is there again");

    let said = routed(shadow, "del")?;
    ensure!(said.matches("removed: ").count() == 5, "{said}");
    ensure!(settings(shadow)? == before, "{}", settings(shadow)?);
    ensure!(routed(shadow, "del")? == "no route is set; nothing to remove\n");
    ensure!(settings(shadow)? == before);
    Ok(())
}

#[test]
fn what_the_kernel_lost_is_shown_and_mended() -> Result<()> {
    let lab = Lab::new()?;
    let shadow = &lab.shadow;
    let add = "add --via 10.77.0.2 --port 80";
    routed(shadow, add)?;
    let set = settings(shadow)?;
    shadow.run("ip", ["rule", "del", "priority", "7732"])?;
    ensure!(routed(shadow, "show")?.contains("lost: replies from TCP port 80"));
    ensure!(routed(shadow, "show")?.contains("its rule is gone"));
    ensure!(routed(shadow, add)?.contains("added: "));
    ensure!(settings(shadow)? == set);

    // An interface that goes down takes the route along.
    shadow.run("ip", "link set eth0 down".split_whitespace())?;
    shadow.run("ip", "link set eth0 up".split_whitespace())?;
    ensure!(routed(shadow, "show")?.contains("its route is gone"));
    ensure!(routed(shadow, add)?.contains("added: "));
    ensure!(routed(shadow, "show")?.starts_with("set: "));

    routed(shadow, "del").map(drop)
}

/// A client of the world, whose packets come from the mirror's network.
fn come_from_afar(lab: &Lab) -> Result<()> {
    // Else the filter would drop the client's ARP requests already.
    let shadow = lab.shadow.v4;
    let known = format!("neigh replace {shadow} lladdr {} dev eth0", mac(&lab.shadow)?);
    let from = format!("route add {shadow}/32 dev eth0 src 203.0.113.9");
    for line in ["address add 203.0.113.9/32 dev lo", &known, &from] {
        lab.client.run("ip", line.split_whitespace())?;
    }
    Ok(())
}

#[test]
fn a_strict_reverse_path_filter_on_the_way_of_the_replies_is_judged_as_the_kernel_does()
-> Result<()> {
    let lab = Lab::new()?;
    let shadow = &lab.shadow;
    let _nginx = Nginx::start(shadow)?;
    come_from_afar(&lab)?;
    shadow.sysctl("net.ipv4.conf.all.rp_filter", "1")?;
    ensure!(replies(&lab, shadow.at4(80))? == (0, 0), "there is no route to this client");
    let said = routed(shadow, &format!("add --via {} --port 80", lab.production.v4))?;
    // Older kernels look up the way back without the rule, as they swap no ports.
    let drops = said.contains(
        "warning: packets with clients' addresses that arrive by eth0: the kernel drops them",
    );
    let (at_mirror, at_client) = replies(&lab, shadow.at4(80))?;
    ensure!((at_mirror == 0) == drops && at_client == 0, "{at_mirror} replies; {said}");
    routed(shadow, "del").map(drop)
}

#[test]
fn a_strict_reverse_path_filter_elsewhere_is_explained_and_loosened_on_demand() -> Result<()> {
    let lab = Lab::new()?;
    let (shadow, mirror) = (&lab.shadow, &lab.production);
    let _nginx = Nginx::start(shadow)?;
    come_from_afar(&lab)?;
    // The mirror's host has a wire of its own to the shadow's, but clients' packets come by eth0.
    let wire = format!(
        "link add wire netns {} type veth peer name wire netns {}",
        shadow.namespace, mirror.namespace
    );
    shadow.run("ip", wire.split_whitespace())?;
    for (host, address) in [(shadow, "10.99.0.3/24"), (mirror, "10.99.0.2/24")] {
        host.run("ip", format!("address add {address} dev wire").split_whitespace())?;
        host.run("ip", "link set wire up".split_whitespace())?;
    }
    shadow.sysctl("net.ipv4.conf.all.rp_filter", "1")?;
    shadow.sysctl("net.ipv4.conf.eth0.rp_filter", "0")?;
    let before = settings(shadow)?;
    let by_wire = || {
        let dump = Tcpdump::start(mirror, "wire", "tcp and src port 80 and dst host 203.0.113.9")?;
        let _ = lab.client.connect(shadow.at4(80), SOON);
        dump.stop()?.count("tcp")
    };

    let add = "add --via 10.99.0.2 --port 80";
    let said = routed(shadow, &format!("{add} --fix-rp-filter"))?;
    ensure!(said.contains("the kernel drops them: net.ipv4.conf.all.rp_filter is 1 and"), "{said}");
    let remedy =
        "run this again with --fix-rp-filter=eth0, or: sysctl -w net.ipv4.conf.eth0.rp_filter=2";
    ensure!(said.contains(remedy), "{said}");
    ensure!(settings(shadow)?.contains("net.ipv4.conf.eth0.rp_filter = 0"), "not without the name");
    ensure!(by_wire()? == 0, "the kernel drops these");

    let said = routed(shadow, &format!("{add} --fix-rp-filter=eth0"))?;
    ensure!(said.contains("net.ipv4.conf.eth0.rp_filter is 2 from now on"), "{said}");
    ensure!(settings(shadow)?.contains("net.ipv4.conf.eth0.rp_filter = 2"));
    ensure!(by_wire()? > 0);
    let set = settings(shadow)?;
    let said = routed(shadow, &format!("{add} --fix-rp-filter=eth0"))?;
    ensure!(said.contains("already there") && !said.contains("eth0 is"), "{said}");
    ensure!(settings(shadow)? == set);
    ensure!(
        routed(shadow, "show")?.contains("eth0.rp_filter is 2; `route del` sets it to 0 again")
    );
    ensure!(routed(shadow, "del")?.contains("net.ipv4.conf.eth0.rp_filter is 0 again"));
    ensure!(settings(shadow)? == before);

    // What somebody else set meanwhile is not overwritten.
    routed(shadow, &format!("{add} --fix-rp-filter=eth0"))?;
    shadow.sysctl("net.ipv4.conf.eth0.rp_filter", "1")?;
    let said = routed(shadow, "del")?;
    ensure!(said.contains("net.ipv4.conf.eth0.rp_filter is 1, not 2: someone else"), "{said}");
    ensure!(settings(shadow)?.contains("net.ipv4.conf.eth0.rp_filter = 1"));
    Ok(())
}

#[test]
fn a_rule_that_comes_first_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let shadow = &lab.shadow;
    shadow.run("ip", "route add default via 10.77.0.1".split_whitespace())?;
    shadow.run("ip", "rule add priority 100 lookup main".split_whitespace())?;
    let said = routed(shadow, "add --via 10.77.0.2 --port 80")?;
    let warning = "warning: a reply from TCP port 80 to 192.0.2.1: goes to 10.77.0.1: another rule \
                   comes before 7732; compare with `ip rule`";
    ensure!(said.contains(warning), "{said}");
    routed(shadow, "del")?;
    shadow.run("ip", "rule del priority 100".split_whitespace())?;
    let said = routed(shadow, "add --via 10.77.0.2 --port 80")?;
    ensure!(!said.contains("warning"), "{said}");
    routed(shadow, "del").map(drop)
}

#[test]
fn a_change_that_fails_leaves_nothing() -> Result<()> {
    let lab = Lab::new()?;
    let shadow = &lab.shadow;
    shadow.run("ip", "link add eth1 type veth peer name eth1-peer".split_whitespace())?;
    shadow.run("ip", "link set eth1 up".split_whitespace())?;
    shadow.sysctl("net.ipv4.conf.eth1.rp_filter", "1")?;
    let before = settings(shadow)?;
    // As in a container: kernel parameters cannot be written.
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && \
                  exec \"$@\"";
    let mut command = shadow.command("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(binary()?);
    let line = "route add --via 10.77.0.2 --port 80 --fix-rp-filter=eth1";
    let output = command.args(line.split_whitespace()).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {error}", output.status);
    ensure!(error.contains("net.ipv4.conf.eth1.rp_filter cannot be set"), "{error}");
    ensure!(settings(shadow)? == before, "{}", settings(shadow)?);
    ensure!(routed(shadow, "show")? == "no route is set\n");
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() -> Result<()> {
    let lab = Lab::with(Topology::Routed)?;
    let shadow = &lab.shadow;
    let before = settings(shadow)?;
    let cases = [
        (
            "add --via 10.77.0.2 --port 80",
            "--via 10.77.0.2: is not on-link: it is reached through 10.77.1.254",
        ),
        (
            "add --via fd77::2 --port 80",
            "--via fd77::2: is not on-link: it is reached through fd77:0:0:1::fe",
        ),
        ("add --via 10.77.1.3 --port 80", "--via 10.77.1.3: is an address of this host; "),
        ("add --via fe80::1%eth7 --port 80", "--via fe80::1%eth7: there is no interface eth7; "),
        ("add --via 10.77.1.254 --port 0", "--port 0: is not a port; "),
        ("add --via 10.77.1.254", "--port PORT: the service's port is missing; "),
        ("add --port 80", "--via ADDR: the mirror host is missing; "),
        (
            "add --via 10.77.1.254 --port 80 --client-net 10.0.0.1/8",
            "--client-net 10.0.0.1/8: has bits set",
        ),
        (
            "add --via 10.77.1.254 --port 80 --fix-rp-filter=eth7",
            "--fix-rp-filter=eth7: there is no interface eth7; this host has ",
        ),
        ("del --port x", "--port x: is not a port; "),
    ];
    for (line, start) in cases {
        let said = refused(&route(shadow, line)?)?;
        ensure!(said.starts_with(&format!("shadowtap: {start}")), "{line}: {said}");
    }
    for verb in ["add --via 10.77.1.254 --port 80", "del"] {
        let mut command = shadow.command("setpriv");
        command.args(["--bounding-set=-net_admin", "--"]).arg(binary()?).arg("route");
        let said = refused(&command.args(verb.split_whitespace()).output()?)?;
        ensure!(said.contains("this process lacks CAP_NET_ADMIN; "), "{said}");
    }
    ensure!(settings(shadow)? == before);
    Ok(())
}
