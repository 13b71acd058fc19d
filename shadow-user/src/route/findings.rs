//! What stands against it that clients' packets come in and replies go to the mirror
//! host, although the rules and routes are set: asked of the kernel itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context as _;

use super::plan::Entry;
use super::rp_filter::{self, LOOSE, RpFilter};
use super::state::{Changed, Store};
use super::tables::Tables;
use crate::finding::Finding;
use crate::host::Interface;

/// Begins the command that makes any address reachable by an interface.
const ROUTE: &str = "ip route add default dev";

/// A client's address that this entry is for: one for documentation (RFC 5737, RFC 3849) when it
/// is for everyone.
fn sample(entry: &Entry) -> IpAddr {
    let net = entry.client_net;
    match (net.prefix_len(), entry.via) {
        (0, IpAddr::V4(_)) => [192, 0, 2, 1].into(),
        (0, IpAddr::V6(_)) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
        _ => net.hosts().next().unwrap_or_else(|| net.addr()),
    }
}

/// The entries whose replies go elsewhere, since another rule comes first.
pub async fn replies(entries: &[Entry], tables: &Tables) -> Vec<Finding> {
    let mut findings = Vec::new();
    for entry in entries {
        let client = sample(entry);
        let way = match tables.reply(client, entry.port).await {
            Ok(hop) if hop.local || (hop.gateway, hop.oif) == (Some(entry.via), entry.oif) => {
                continue;
            }
            Ok(hop) => hop.gateway.map_or("elsewhere".to_owned(), |other| format!("to {other}")),
            Err(reason) => format!("nowhere ({reason})"),
        };
        findings.push(Finding::warning(
            format!("a reply from TCP port {} to {client}", entry.port),
            format!("goes {way}: another rule comes before {}", entry.priority()),
            "compare with `ip rule`",
        ));
    }
    findings
}

/// Packets with clients' addresses on their way into this host.
#[derive(Debug)]
pub struct Arrivals<'a> {
    /// What they are answered by.
    pub entries: &'a [Entry],
    /// The interface toward the mirror host, by which they come.
    pub link: &'a Interface,
    /// Where to ask.
    pub tables: &'a Tables,
}

impl Arrivals<'_> {
    /// Says whether the reverse path filter drops them at `interface`, and with `fix` makes it
    /// loose there.
    ///
    /// # Errors
    /// When a kernel parameter cannot be read or set, and then it is not recorded either.
    pub async fn at(
        &self,
        interface: &Interface,
        fix: bool,
        store: &mut Store,
    ) -> anyhow::Result<Option<Finding>> {
        // IPv6 has no such filter, and nothing arrives at an interface that is down.
        if !self.entries.iter().all(|entry| entry.via.is_ipv4()) || !interface.up {
            return Ok(None);
        }
        let dev = interface.name.as_str();
        let name = rp_filter::name(dev);
        let filter = RpFilter::read(dev).with_context(|| format!("{name} is unreadable"))?;
        if filter.is_off() || dev == "lo" {
            return Ok(None);
        }
        if let (true, Some(recorded)) = (fix, store.state.rp_filter.get_mut(dev)) {
            // It is loose already, for another mirror host.
            recorded.vias.extend(self.entries.iter().map(|entry| entry.via));
            store.save()?;
        }
        if self.come_through(interface).await {
            return Ok(None);
        }
        let set = format!(
            "net.ipv4.conf.all.rp_filter is {} and {name} is {}, of which the greater counts",
            filter.all, filter.dev
        );
        let subject = format!("packets with clients' addresses that arrive by {dev}");
        if !fix || !filter.is_strict() {
            let here = interface.index == self.link.index;
            let flag =
                if here { "--fix-rp-filter".to_owned() } else { format!("--fix-rp-filter={dev}") };
            let remedy = if filter.is_strict() {
                format!("run this again with {flag}, or: sysctl -w {name}={LOOSE}")
            } else {
                format!(
                    "it is loose already, so give this host a route to the clients, as in: {ROUTE} {dev} metric 9999"
                )
            };
            let what = format!("the kernel drops them: {set}");
            return Ok(Some(if here {
                Finding::warning(subject, what, remedy)
            } else {
                Finding::note(subject, format!("if the mirror's come that way, {what}"), remedy)
            }));
        }
        self.loosen(dev, filter, store)?;
        let now =
            format!("the kernel dropped them, since {set}; {name} is {LOOSE} from now on, loose");
        if self.come_through(interface).await {
            return Ok(Some(Finding::ok(subject, now)));
        }
        Ok(Some(Finding::warning(
            subject,
            format!("{now}, which does not suffice"),
            format!("give this host a route to the clients, as in: {ROUTE} {dev} metric 9999"),
        )))
    }

    async fn come_through(&self, interface: &Interface) -> bool {
        let local = self.link.addresses.iter().find(|address| address.is_ipv4());
        // Without an address there is no service that they could be for.
        let Some(local) = local else { return true };
        for entry in self.entries {
            let client = sample(entry);
            if self.tables.next_hop(client, None).await.is_ok_and(|hop| hop.local) {
                continue;
            }
            let arrival = self.tables.arrival(client, *local, entry.port, interface.index);
            if arrival.await.is_err() {
                return false;
            }
        }
        true
    }

    fn loosen(&self, dev: &str, filter: RpFilter, store: &mut Store) -> anyhow::Result<()> {
        let before = store.state.rp_filter.get(dev).cloned();
        let mut changed = before.clone().unwrap_or_else(|| Changed {
            before: filter.dev.to_string(),
            set: LOOSE.to_owned(),
            vias: BTreeSet::new(),
        });
        changed.vias.extend(self.entries.iter().map(|entry| entry.via));
        store.state.rp_filter.insert(dev.to_owned(), changed);
        store.save()?;
        let set = rp_filter::write(dev, LOOSE);
        if set.is_err() {
            match before {
                Some(before) => store.state.rp_filter.insert(dev.to_owned(), before),
                None => store.state.rp_filter.remove(dev),
            };
            store.save()?;
        }
        set.with_context(|| format!("{} cannot be set", rp_filter::name(dev)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_the_network_is_asked_about() {
        let entry = |via: &str, net: &str| Entry {
            via: via.parse().expect("address"),
            dev: "eth0".to_owned(),
            oif: 2,
            port: 80,
            client_net: net.parse().expect("network"),
            table: 7_700,
        };
        let sample = |via, net| sample(&entry(via, net)).to_string();
        assert_eq!(sample("10.0.0.5", "0.0.0.0/0"), "192.0.2.1");
        assert_eq!(sample("fd00::5", "::/0"), "2001:db8::1");
        assert_eq!(sample("10.0.0.5", "198.51.100.0/24"), "198.51.100.1");
        assert_eq!(sample("10.0.0.5", "198.51.100.7/32"), "198.51.100.7");
    }
}
