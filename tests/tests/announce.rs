//! `--pool-announce`: this host answers for its pool, for nothing else, and for no longer than it
//! mirrors.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use shadow_lab::{Host, Mix, Tcpdump, curl, wait_for, wait_until};
use shadow_tests::{Family, Stage, at, check_ended, shadowtap};

const LIMIT: Duration = Duration::from_secs(20);

/// The pool, an address of it, and addresses that are not, the pool's ends among them.
const V4: (&str, &str, [&str; 4]) =
    ("10.77.0.128/26", "10.77.0.150", ["10.77.0.100", "10.77.0.191", "10.77.0.192", "10.77.0.127"]);
const V6: (&str, &str, [&str; 4]) =
    ("fd77::5:0/120", "fd77::5:7", ["fd77::4:7", "fd77::5:0", "fd77::5:ff", "fd77::5:107"]);

fn mac(host: &Host) -> Result<String> {
    let text = host.run("ip", ["-br", "link", "show", "eth0"])?;
    Ok(text.split_whitespace().find(|word| word.len() == 17).context("no address")?.to_owned())
}

/// What `host` finds out when it wants to send to `address`: the Ethernet address, or none.
fn resolve(host: &Host, address: &str) -> Result<Option<String>> {
    let _ = host.run("ip", ["neigh", "flush", "to", address]);
    let to = SocketAddr::new(address.parse()?, 9);
    // Neither answer nor refusal: either the neighbour is not found, or nobody is there behind it.
    let trying = host.connect(to, Duration::from_millis(100));
    ensure!(trying.is_err_and(|error| error.kind() != ErrorKind::Other), "{address}");
    wait_for(&format!("{address} to be resolved or given up"), LIMIT, || {
        let text = host.run("ip", ["neigh", "show", "to", address])?;
        let mac = text.split_whitespace().find(|word| word.len() == 17).map(str::to_owned);
        Ok((mac.is_some() || text.contains("FAILED") || text.is_empty()).then_some(mac))
    })
}

fn only_the_pool(family: Family, pool: (&str, &str, [&str; 4])) -> Result<()> {
    let (network, inside, outside) = pool;
    let stage = Stage::new()?;
    let (shadow, production) = (&stage.lab.shadow, &stage.lab.production);
    for host in [shadow, production] {
        // Given up soon: one question, and this many milliseconds.
        for family in ["ipv4", "ipv6"] {
            host.sysctl(&format!("net.{family}.neigh.eth0.mcast_solicit"), "1")?;
            host.sysctl(&format!("net.{family}.neigh.eth0.retrans_time_ms"), "300")?;
        }
    }
    let flags = ["--source", &format!("pool={network}"), "--pool-announce"];
    let mut mirror = stage.mirror(family, &flags)?;

    ensure!(resolve(shadow, inside)? == Some(mac(production)?), "{inside}");
    for address in outside {
        let found = resolve(shadow, address)?;
        ensure!(found.is_none(), "{address} is not the pool's, but {found:?} answers");
    }
    ensure!(resolve(production, inside)?.is_none(), "this host asked itself");

    // Killed, it answers no more; the guard stays, and drops what still comes.
    let at_client = Tcpdump::start(&stage.lab.client, "eth0", "tcp")?;
    stage.send(&Mix { rate: Some(500), ..stage.mix(family, 100, 3) })?;
    mirror.process.signal(Signal::SIGKILL)?;
    mirror.process.wait(LIMIT)?;
    ensure!(resolve(shadow, inside)?.is_none(), "{inside} after its end");
    ensure!(stage.guard(&["show"])?.contains("foreign"));
    let at_client = at_client.stop()?;
    let of_shadow = format!("host {}", at(shadow, family).ip());
    ensure!(at_client.count(&of_shadow)? == 0, "{:?}", at_client.lines(&of_shadow)?);

    // As when it ends in order.
    let mirror = stage.mirror(family, &flags)?;
    ensure!(resolve(shadow, inside)? == Some(mac(production)?), "{inside} after a restart");
    check_ended(&mirror.stop()?)?;
    ensure!(resolve(shadow, inside)?.is_none(), "{inside} after its end");
    Ok(())
}

#[test]
fn only_the_pool_is_answered_for_by_arp_and_only_while_it_mirrors() -> Result<()> {
    only_the_pool(Family::V4, V4)
}

#[test]
fn only_the_pool_is_answered_for_by_ndp_and_only_while_it_mirrors() -> Result<()> {
    only_the_pool(Family::V6, V6)
}

#[test]
fn an_address_that_somebody_has_is_left_to_them() -> Result<()> {
    let stage = Stage::new()?;
    let (client, shadow, production) =
        (&stage.lab.client, &stage.lab.shadow, &stage.lab.production);
    for (family, (network, inside, _), bits) in [(Family::V4, V4, 24), (Family::V6, V6, 64)] {
        let source = format!("pool={network}");
        let flags = ["--source", &source, "--pool-announce"];
        let give = format!("address add {inside}/{bits} dev eth0 nodad");
        let take = format!("address del {inside}/{bits} dev eth0");
        client.run("ip", give.split_whitespace())?;

        // Before the start: refused.
        let to = at(shadow, family).to_string();
        let line = [&["mirror", "--iface", "eth0", "--port", "80", "--shadow", &to], &flags[..]];
        let refused = shadowtap(production, &line.concat())?;
        let words = String::from_utf8_lossy(&refused.stderr);
        let expected = format!(
            "shadowtap: --source {source}: {} on eth0 has its address {inside}; give a network that \
             nobody uses\n",
            mac(client)?
        );
        ensure!(words == expected && refused.status.code() == Some(2), "{words}");

        // Later: heard, and said once.
        client.run("ip", take.split_whitespace())?;
        // What this host has learnt from the probe.
        production.run("ip", ["neigh", "flush", "to", inside])?;
        let mirror = stage.mirror(family, &flags)?;
        ensure!(resolve(shadow, inside)? == Some(mac(production)?), "{inside}");
        client.run("ip", give.split_whitespace())?;
        // It asks for the shadow's Ethernet address, and says who asks.
        for host in [client, shadow] {
            host.run("ip", ["neigh", "flush", "dev", "eth0"])?;
        }
        let uri = format!("http://{to}/small.txt");
        curl(client, &["-g", "--interface", inside, &uri])?;
        let said = format!("{} on eth0 uses {inside}, an address of the pool", mac(client)?);
        wait_until(&said, LIMIT, || mirror.process.stderr().contains(&said))?;
        ensure!(resolve(shadow, inside)? == Some(mac(client)?), "{inside}");
        ensure!(mirror.process.stderr().matches(&said).count() == 1);
        check_ended(&mirror.stop()?)?;
        stage.guard(&["remove"])?;
    }
    Ok(())
}
