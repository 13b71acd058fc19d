//! What is on the wire: nothing of the mirror at the client, no RST of production's kernel at the shadow.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use shadow_lab::{Capture, Mix, Tcpdump};
use shadow_tests::{Family, Stage, at, check_ended};

const RST: &str = "tcp[tcpflags] & tcp-rst != 0";
/// pcap-filter(7) looks into IPv4 only: byte 53 of an IPv6 packet without extensions holds the flags.
const RST6: &str = "ip6[6] = 6 and ip6[53] & 4 != 0";

fn none(capture: &Capture, filter: &str) -> Result<()> {
    let lines = capture.lines(filter)?;
    ensure!(lines.is_empty(), "{} packets match {filter}: {}", lines.len(), lines[0]);
    Ok(())
}

#[test]
fn nothing_of_the_mirror_reaches_the_client_or_disturbs_the_shadow() -> Result<()> {
    for (family, rst) in [(Family::V4, RST), (Family::V6, RST6)] {
        let stage = Stage::new()?;
        let (client, production, shadow) =
            (&stage.lab.client, &stage.lab.production, &stage.lab.shadow);
        // As a router would, and so a packet to a foreign address has a way out.
        production.sysctl("net.ipv4.ip_forward", "1")?;
        production.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let at_client = Tcpdump::start(client, "eth0", "tcp")?;
        let mirror = stage.mirror(family, &[])?;
        // The probe before has reset its own connection.
        let at_shadow = Tcpdump::start(shadow, "eth0", "tcp")?;
        let report = stage.send(&Mix { rate: Some(1_000), ..stage.mix(family, 2_000, 8) })?;
        let ended = mirror.stop()?;
        check_ended(&ended)?;
        let (at_client, at_shadow) = (at_client.stop()?, at_shadow.stop()?);

        let syns = match family {
            Family::V4 => "tcp[tcpflags] & tcp-syn != 0",
            Family::V6 => "ip6[6] = 6 and ip6[53] & 2 != 0",
        };
        let connections = usize::try_from(report.connections)?;
        let (shadow_address, production_address) = match family {
            Family::V4 => (shadow.v4.to_string(), production.v4.to_string()),
            Family::V6 => (shadow.v6.to_string(), production.v6.to_string()),
        };
        // The captures saw the traffic: each connection's SYN and SYN-ACK.
        let seen = at_client.count(&format!("host {production_address} and {syns}"))?;
        ensure!(seen >= 2 * connections, "{seen} of {connections} handshakes at the client");
        let seen = at_shadow.count(&format!("host {production_address} and {syns}"))?;
        ensure!(seen >= 2 * connections, "{seen} of {connections} handshakes at the shadow");

        none(&at_client, &format!("host {shadow_address}"))?;
        none(&at_client, &format!("ether host {}", mac(&stage)?))?;
        none(&at_client, &format!("src host {production_address} and {rst}"))?;
        none(&at_shadow, &format!("src host {production_address} and {rst}"))?;

        // The same filters find what they look for when it is there.
        let at_client = Tcpdump::start(client, "eth0", "tcp")?;
        let at_shadow = Tcpdump::start(shadow, "eth0", "tcp")?;
        let closed = SocketAddr::new(at(production, family).ip(), 9);
        ensure!(client.connect(closed, Duration::from_secs(5)).is_err());
        let mut impatient = production.connect(at(shadow, family), Duration::from_secs(5))?;
        impatient.write_all(b"GET / HTTP/1.1\r\nHost: lab.test\r\n\r\n")?;
        impatient.peek(&mut [0])?;
        drop(impatient); // unread data: the kernel answers with RST
        let (at_client, at_shadow) = (at_client.stop()?, at_shadow.stop()?);
        let filter = format!("src host {production_address} and {rst}");
        ensure!(at_client.count(&filter)? == 1 && at_shadow.count(&filter)? == 1);
    }
    Ok(())
}

/// The shadow's Ethernet address.
fn mac(stage: &Stage) -> Result<String> {
    let text = stage.lab.shadow.run("ip", ["-br", "link", "show", "eth0"])?;
    let mac = text.split_whitespace().nth(2).unwrap_or_default().to_owned();
    ensure!(mac.len() == 17, "{text}");
    Ok(mac)
}
