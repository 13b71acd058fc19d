//! By which socket packets leave for the shadow, and what happens when the way there changes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use shadow_lab::{Host, Mirror, Mix, sum_metric, wait_until};
use shadow_tests::{Family, Stage, check_ended, check_lossless};

/// Sent by a packet socket so far.
const BY_PACKET_SOCKET: &str = "shadowtap_sent_by_packet_socket";

/// Longer than it takes to find a neighbour, and to notice that it has changed.
const NOTICED: Duration = Duration::from_secs(10);

fn ip(host: &Host, args: &str) -> Result<String> {
    host.run("ip", args.split_whitespace())
}

/// Waits until more packets have gone by the packet socket.
fn wait_for_packet_socket(mirror: &Mirror) -> Result<()> {
    let sent = || Ok::<_, anyhow::Error>(mirror.metric(BY_PACKET_SOCKET)?.unwrap_or_default());
    let before = sent()?;
    wait_until("packets go by the packet socket", NOTICED, || {
        sent().is_ok_and(|sent| sent > before + 50.0)
    })
}

fn mix(stage: &Stage, family: Family, requests: u64, seed: u64) -> Mix {
    Mix { rate: Some(300), max_body: 64 << 10, ..stage.mix(family, requests, seed) }
}

/// Whether packets go by a packet socket when `flags` are given; each request arrives once all the same.
fn uses_packet_socket(stage: &Stage, family: Family, flags: &[&str]) -> Result<bool> {
    let before = stage.shadow.logged();
    let mirror = stage.mirror(family, flags)?;
    let report = stage.send(&mix(stage, family, 600, 5))?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, report.completed.len())?;
    stage.shadow.log_of(before + report.completed.len())?;
    Ok(ended.books.get("sent.by_packet_socket") > ended.books.get("sent.packets") / 4)
}

#[test]
fn a_packet_socket_is_used_where_the_destination_alone_decides() -> Result<()> {
    let stage = Stage::new()?;
    for family in [Family::V4, Family::V6] {
        ensure!(uses_packet_socket(&stage, family, &[])?, "{family:?}");
    }
    ensure!(!uses_packet_socket(&stage, Family::V4, &["--socket", "raw"])?, "in spite of --socket");
    let production = &stage.lab.production;
    ip(production, "rule add from 192.0.2.1 lookup main")?;
    ensure!(!uses_packet_socket(&stage, Family::V4, &[])?, "in spite of a rule");
    ip(production, "rule del from 192.0.2.1 lookup main")?;
    // Of others; but whether of others is the kernel's to say.
    let policy = "xfrm policy add src 192.0.2.1 dst 192.0.2.2 dir out action block";
    ip(production, policy)?;
    ensure!(!uses_packet_socket(&stage, Family::V4, &[])?, "in spite of an IPsec policy");
    Ok(())
}

#[test]
fn a_neighbour_that_changes_or_is_forgotten_is_followed() -> Result<()> {
    let stage = Stage::new()?;
    let (production, shadow) = (&stage.lab.production, &stage.lab.shadow);
    let address = shadow.at4(80).ip();
    let mirror = stage.mirror(Family::V4, &["--gate-timeout", "30s", "--drain", "30s"])?;
    let mut requests = 0;
    let mut mirrored = |seed, act: &dyn Fn() -> Result<()>| {
        let report = stage.send_while(&mix(&stage, Family::V4, 20_000, seed), || {
            wait_for_packet_socket(&mirror)?;
            act()?;
            wait_for_packet_socket(&mirror)
        })?;
        requests += report.completed.len();
        Ok::<_, anyhow::Error>(())
    };
    // As after a failover: another host has the address, and tells everybody.
    mirrored(1, &|| {
        ip(shadow, "link set dev eth0 address 02:00:5e:00:53:01")?;
        ip(production, &format!("neigh replace {address} lladdr 02:00:5e:00:53:01 dev eth0"))?;
        Ok(())
    })?;
    mirrored(2, &|| ip(production, &format!("neigh del {address} dev eth0")).map(drop))?;
    mirrored(3, &|| {
        ip(production, "link set dev eth0 address 02:00:5e:00:53:02")?;
        ip(shadow, &format!("neigh flush {}", production.at4(80).ip()))?;
        ip(&stage.lab.client, &format!("neigh flush {}", production.at4(80).ip())).map(drop)
    })?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, requests)
}

/// Packets that a host has forwarded (RFC 1213, `ipForwDatagrams`).
fn forwarded(host: &Host) -> Result<u64> {
    let figures = host.run("cat", ["/proc/net/snmp"])?;
    let mut lines = figures.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    Ok(pairs.find(|(name, _)| *name == "ForwDatagrams").context("the figure")?.1.parse()?)
}

#[test]
fn a_route_that_changes_is_followed_there_and_back() -> Result<()> {
    let stage = Stage::new()?;
    let (production, router) = (&stage.lab.production, &stage.lab.client);
    let via = format!("{} via {} dev eth0", stage.lab.shadow.v4, router.v4);
    for (name, value) in [("ip_forward", "1"), ("conf.all.send_redirects", "0")] {
        router.sysctl(&format!("net.ipv4.{name}"), value)?;
    }
    router.sysctl("net.ipv4.conf.eth0.send_redirects", "0")?;
    let mirror = stage.mirror(Family::V4, &["--gate-timeout", "30s", "--drain", "30s"])?;
    let report = stage.send_while(&mix(&stage, Family::V4, 20_000, 11), || {
        wait_for_packet_socket(&mirror)?;
        ensure!(forwarded(router)? == 0, "forwarded without a route");
        ip(production, &format!("route add {via}"))?;
        // Some go by the raw socket, which follows at once.
        wait_until("the packet socket's packets to go by the router", NOTICED, || {
            let before = forwarded(router).unwrap_or(u64::MAX);
            wait_for_packet_socket(&mirror).is_ok()
                && forwarded(router).is_ok_and(|count| count >= before.saturating_add(40))
        })?;
        ip(production, &format!("route del {via}"))?;
        wait_until("packets to go directly", NOTICED, || {
            let before = forwarded(router).unwrap_or_default();
            wait_for_packet_socket(&mirror).is_ok()
                && forwarded(router).is_ok_and(|it| it == before)
        })
    })?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    check_lossless(&ended.books, report.completed.len())
}

#[test]
fn what_the_firewall_forbids_does_not_pass_it_by() -> Result<()> {
    let stage = Stage::new()?;
    let production = &stage.lab.production;
    let mirror = stage.mirror(Family::V4, &["--drain", "1s"])?;
    // Of one moment: sent by the packet socket, and refused.
    let sent = || -> Result<[f64; 2]> {
        let text = mirror.metrics()?;
        let sum = |name| sum_metric(&text, name).unwrap_or_default();
        Ok([BY_PACKET_SOCKET, "shadowtap_sent_unsent"].map(sum))
    };
    stage.send_while(&mix(&stage, Family::V4, 20_000, 7), || {
        wait_for_packet_socket(&mirror)?;
        ensure!(sent()?[1] == 0.0, "refused without a rule");
        production.run("nft", ["add table inet wall"])?;
        production
            .run("nft", ["add chain inet wall out { type filter hook output priority 0; }"])?;
        let to = stage.lab.shadow.at4(80).ip();
        production
            .run("nft", [&format!("add rule inet wall out ip daddr {to} tcp dport 80 drop")])?;
        wait_until("a packet to be refused", NOTICED, || sent().is_ok_and(|[_, it]| it > 0.0))?;
        let [before, refused] = sent()?;
        wait_until("more to be refused", NOTICED, || {
            sent().is_ok_and(|[_, it]| it > refused + 5.0)
        })?;
        let [after, _] = sent()?;
        ensure!(after == before, "{} packets went past the firewall", after - before);
        Ok(())
    })?;
    let ended = mirror.stop()?;
    check_ended(&ended)?;
    ensure!(ended.books.get("sent.unsent.not_permitted") > 0, "{:#}", ended.books.json());
    Ok(())
}
