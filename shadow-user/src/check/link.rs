//! What the kernel does to packets of an interface before a program at TC ingress sees them, and
//! whether that interface is the one that sees all of them.

use std::path::Path;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::link::{LinkXdp, XdpAttached};

use crate::config::Config;
use crate::finding::Finding;
use crate::host::Netlink;

/// Longer packets are not captured: `MAX_PACKET_LEN` of the programs, and of IPv4's header.
const LONGEST: u32 = 65_536;

/// An interface, as far as packets may escape the tap on it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// The kind of a virtual interface, as `ip -d link` names it.
    pub kind: Option<String>,
    /// The index of the bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Whether an XDP program is attached.
    pub xdp: bool,
    /// Bytes of the longest super-frame that GRO makes of IPv6 packets; until Linux 6.3, of IPv4
    /// packets as well.
    pub gro_max_size: u32,
    /// The same for IPv4; 0 where the kernel does not tell it apart.
    pub gro_ipv4_max_size: u32,
}

impl Link {
    /// All of this network namespace.
    ///
    /// # Errors
    /// When the kernel does not answer the request.
    pub async fn all(netlink: &Netlink) -> anyhow::Result<Vec<Self>> {
        let links: Vec<LinkMessage> =
            netlink.handle().link().get().execute().try_collect().await.context("no links")?;
        Ok(links.into_iter().map(Self::from).collect())
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self { index: message.header.index, ..Self::default() };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::GroMaxSize(size) => link.gro_max_size = size,
                LinkAttribute::GroIpv4MaxSize(size) => link.gro_ipv4_max_size = size,
                LinkAttribute::Xdp(attributes) => {
                    link.xdp |= attributes.iter().any(|attribute| {
                        matches!(attribute, LinkXdp::Attached(how) if *how != XdpAttached::None)
                    });
                }
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(InfoKind::Other(kind)) => Some(kind.clone()),
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

/// What may escape the taps. What they would see twice, `preflight` refuses.
#[must_use]
pub fn judge(config: &Config, links: &[Link]) -> Vec<Finding> {
    let named = |name: &str| links.iter().find(|link| link.name == name);
    let at = |index: Option<u32>| links.iter().find(|link| Some(link.index) == index);
    let mut findings = Vec::new();
    for iface in &config.iface {
        let Some(link) = named(&iface.value) else { continue };
        let name = &link.name;
        let subject = iface.to_string();
        let master = at(link.master).and_then(|master| Some((master, port_of(master)?)));
        if let Some((master, port)) = master {
            findings.push(Finding::warning(
                &subject,
                format!(
                    "{port} {}: what clients send by its other ports is not seen here",
                    master.name
                ),
                format!("give --iface {} in its place", master.name),
            ));
        }
        if link.xdp {
            findings.push(Finding::warning(
                &subject,
                "an XDP program sees its packets before the tap: what it redirects or answers \
                 itself is not mirrored",
                format!(
                    "if it does more than to filter, tap where its packets go on, or take it \
                     down: ip link set {name} xdp off"
                ),
            ));
        }
        let sizes =
            [("gro_max_size", link.gro_max_size), ("gro_ipv4_max_size", link.gro_ipv4_max_size)];
        for (setting, size) in sizes.into_iter().filter(|(_, size)| *size > LONGEST) {
            findings.push(Finding::warning(
                &subject,
                format!(
                    "GRO joins packets to as much as {size} bytes (BIG TCP); those over 64 KiB \
                     cannot be captured, and their flows are lost"
                ),
                format!("ip link set dev {name} {setting} {LONGEST}"),
            ));
        }
    }
    findings
}

/// How a port belongs to this interface, when that is where the packets of all ports are.
fn port_of(master: &Link) -> Option<&'static str> {
    match master.kind.as_deref()? {
        "bridge" => Some("is a port of the bridge"),
        "bond" => Some("is a slave of the bond"),
        "team" => Some("is a port of the team"),
        _ => None,
    }
}

/// Whether this host forwards packets of this IP version.
#[must_use]
pub fn forwards(is_ipv4: bool) -> bool {
    let name = if is_ipv4 { "ipv4/ip_forward" } else { "ipv6/conf/all/forwarding" };
    let path = Path::new("/proc/sys/net").join(name);
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::config;

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.to_owned(), gro_max_size: 65_536, ..Link::default() }
    }

    fn of_kind(index: u32, name: &str, kind: &str) -> Link {
        Link { kind: Some(kind.to_owned()), ..link(index, name) }
    }

    fn said(flags: &str, links: &[Link]) -> Vec<String> {
        let config = config(&format!("{flags} --port 80 --shadow 10.0.0.9:80"));
        judge(&config, links).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_ordinary_interface_gives_no_cause_for_words() {
        assert!(said("--iface eth0", &[link(2, "eth0")]).is_empty());
        let vrf = of_kind(3, "red", "vrf");
        let port = Link { master: Some(3), ..link(2, "eth0") };
        assert!(said("--iface eth0", &[port, vrf]).is_empty(), "a VRF's packets are seen at it");
    }

    #[test]
    fn a_port_sees_only_its_own_share() {
        let port = Link { master: Some(3), ..link(2, "eth0") };
        for (kind, how) in [("bridge", "a port of the bridge"), ("bond", "a slave of the bond")] {
            let links = [port.clone(), of_kind(3, "m0", kind)];
            assert_eq!(
                said("--iface eth0", &links),
                [format!(
                    "warning: --iface eth0: is {how} m0: what clients send by its other ports is \
                     not seen here; give --iface m0 in its place"
                )]
            );
        }
    }

    #[test]
    fn what_comes_before_the_tap_is_named() {
        let odd = Link { xdp: true, gro_max_size: 185_000, ..link(2, "eth0") };
        let said = said("--iface eth0", &[odd]);
        assert!(said[0].contains("XDP") && said[0].ends_with("ip link set eth0 xdp off"));
        assert!(said[1].contains("185000 bytes (BIG TCP)"));
        assert!(said[1].ends_with("; ip link set dev eth0 gro_max_size 65536"));
    }
}
