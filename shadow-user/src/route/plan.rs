//! What the flags of `route` ask for, and what follows from it for the kernel. Nothing
//! here looks at the host.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::setting::{Origin, Parsed, Refusal, Setting, Text, wrong};

/// The priority of a rule for one address; a shorter prefix comes later, so that the
/// longest one decides. All of them stand between the kernel's tables local (0) and
/// main (32766).
pub const FIRST_PRIORITY: u32 = 7_700;

/// The first routing table that is tried.
pub const FIRST_TABLE: u32 = 7_700;

/// What stands in the kernel for one port, one network of clients and one mirror host.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// The mirror host.
    pub via: IpAddr,
    /// The interface toward it.
    pub dev: String,
    /// That interface's index.
    pub oif: u32,
    /// The service's TCP port.
    pub port: u16,
    /// Where the replies would go otherwise; `0.0.0.0/0` or `::/0` is everywhere.
    pub client_net: IpNet,
    /// The table whose only route leads to `via`.
    pub table: u32,
}

impl Entry {
    /// The priority of its rule.
    #[must_use]
    pub fn priority(&self) -> u32 {
        FIRST_PRIORITY + u32::from(self.client_net.max_prefix_len() - self.client_net.prefix_len())
    }

    fn is_for(&self, port: u16, client_net: IpNet) -> bool {
        self.port == port && self.client_net == client_net
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { via, dev, port, client_net, table, .. } = self;
        let family = if via.is_ipv4() { "IPv4" } else { "IPv6" };
        write!(f, "replies from TCP port {port} to ")?;
        if client_net.prefix_len() == 0 {
            write!(f, "any {family} address")?;
        } else {
            write!(f, "{client_net}")?;
        }
        write!(f, " go to {via} by {dev} (rule {}, table {table})", self.priority())
    }
}

/// `--via`: an address, with an interface when it is link-local.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Via {
    /// The mirror host's address.
    pub address: IpAddr,
    /// The interface after `%`.
    pub dev: Option<String>,
}

/// What `add` is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The mirror host.
    pub via: Setting<Via>,
    /// The service's ports.
    pub ports: Vec<Setting<u16>>,
    /// Networks of clients; none means everywhere.
    pub client_nets: Vec<Setting<IpNet>>,
}

impl Wanted {
    /// Looks into the flags.
    ///
    /// # Errors
    /// The first value that is malformed or does not fit the others.
    pub fn new(via: Text, ports: Vec<Text>, client_nets: Vec<Text>) -> Result<Self, Refusal> {
        let via = given("via", via).parse(parse_via)?;
        let client_nets = parse_nets(client_nets)?;
        for net in &client_nets {
            if net.value.addr().is_ipv4() != via.value.address.is_ipv4() {
                return Err(net.refuse(
                    format!("is of another IP version than --via {}", via.text),
                    "give an address of the mirror host of the same version",
                ));
            }
        }
        Ok(Self { via, ports: parse_ports(ports)?, client_nets })
    }

    fn nets(&self) -> Vec<IpNet> {
        if self.client_nets.is_empty() {
            return vec![everywhere(self.via.value.address)];
        }
        self.client_nets.iter().map(|net| net.value).collect()
    }

    /// What has to stand in the kernel, given what was recorded before. `dev` and `oif`
    /// lead to the mirror host; `taken` are tables that others use.
    ///
    /// # Errors
    /// When the same replies go to another mirror host already.
    pub fn entries(
        &self,
        dev: &str,
        oif: u32,
        recorded: &[Entry],
        taken: &BTreeSet<u32>,
    ) -> Result<Vec<Entry>, Refusal> {
        let via = self.via.value.address;
        let free = |table: &u32| {
            !taken.contains(table) && recorded.iter().all(|entry| entry.table != *table)
        };
        let table = recorded
            .iter()
            .find(|entry| entry.via == via && entry.oif == oif)
            .map(|entry| entry.table)
            .or_else(|| (FIRST_TABLE..).find(free))
            .ok_or_else(|| self.via.refuse("no routing table is free", "see `ip rule`"))?;
        let mut entries = Vec::new();
        for port in &self.ports {
            for client_net in self.nets() {
                let other = recorded
                    .iter()
                    .find(|entry| entry.is_for(port.value, client_net) && entry.via != via);
                if let Some(other) = other {
                    return Err(port.refuse(
                        format!("its replies to {client_net} go to {} already", other.via),
                        format!(
                            "take that away first: shadowtap route del --via {} --port {}",
                            other.via, port.value
                        ),
                    ));
                }
                let entry =
                    Entry { via, dev: dev.to_owned(), oif, port: port.value, client_net, table };
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// What `del` is asked for: each flag that is there narrows it.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    via: Option<Setting<Via>>,
    ports: Vec<Setting<u16>>,
    client_nets: Vec<Setting<IpNet>>,
}

impl Filter {
    /// Looks into the flags.
    ///
    /// # Errors
    /// The first value that is malformed.
    pub fn new(
        via: Option<Text>,
        ports: Vec<Text>,
        client_nets: Vec<Text>,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            via: via.map(|via| given("via", via).parse(parse_via)).transpose()?,
            ports: parse_ports(ports)?,
            client_nets: parse_nets(client_nets)?,
        })
    }

    /// Whether this entry is meant.
    #[must_use]
    pub fn selects(&self, entry: &Entry) -> bool {
        let via = self.via.as_ref().is_none_or(|via| {
            let dev = via.value.dev.as_ref();
            via.value.address == entry.via && dev.is_none_or(|dev| *dev == entry.dev)
        });
        let port = self.ports.is_empty() || self.ports.iter().any(|port| port.value == entry.port);
        let net = self.client_nets.is_empty()
            || self.client_nets.iter().any(|net| net.value == entry.client_net);
        via && port && net
    }
}

/// Every address of that IP version.
fn everywhere(like: IpAddr) -> IpNet {
    match like {
        IpAddr::V4(_) => Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn given(name: &'static str, text: Text) -> Setting<()> {
    Setting { name, text: text.0, origin: Origin::Flag, value: () }
}

fn parse_via(text: &str) -> Parsed<Via> {
    let remedy = "give the mirror host's address, as in 10.0.0.5, fd00::5 or fe80::5%eth0";
    let (address, dev) = match text.split_once('%') {
        Some((address, dev)) => (address, Some(dev.to_owned())),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return wrong("is not an IP address", remedy);
    };
    let mapped = address.to_canonical() != address;
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if mapped || broadcast || address.is_unspecified() || address.is_multicast() {
        return wrong("is no address of one host", remedy);
    }
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match (&dev, link_local) {
        (None, true) => wrong(
            "is link-local and may be on any interface",
            format!("add the interface: {address}%eth0"),
        ),
        (Some(_), false) => wrong("names an interface without need", format!("give {address}")),
        _ => Ok(Via { address, dev }),
    }
}

fn parse_ports(texts: Vec<Text>) -> Result<Vec<Setting<u16>>, Refusal> {
    let parse = |text: &str| match text.parse() {
        Ok(0) | Err(_) => {
            wrong("is not a port", "give the service's TCP port on this host, 1 to 65535")
        }
        Ok(port) => Ok(port),
    };
    unique(texts.into_iter().map(|text| given("port", text).parse(parse)))
}

fn parse_nets(texts: Vec<Text>) -> Result<Vec<Setting<IpNet>>, Refusal> {
    let parse = |text: &str| {
        let remedy = "give the clients' network, as in 203.0.113.0/24 or 2001:db8::/32";
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .or_else(|_| wrong("is not a network", remedy))?;
        if net.trunc() != net {
            return wrong(
                format!("has bits set after its first {}", net.prefix_len()),
                format!("give {}", net.trunc()),
            );
        }
        Ok(net)
    };
    unique(texts.into_iter().map(|text| given("client-net", text).parse(parse)))
}

/// Each value once: who repeats a flag with the same value means the same thing.
fn unique<T: PartialEq>(
    settings: impl Iterator<Item = Result<Setting<T>, Refusal>>,
) -> Result<Vec<Setting<T>>, Refusal> {
    let mut kept: Vec<Setting<T>> = Vec::new();
    for setting in settings {
        let setting = setting?;
        if kept.iter().all(|earlier| earlier.value != setting.value) {
            kept.push(setting);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &str) -> Vec<Text> {
        words.split_whitespace().map(|word| Text(word.to_owned())).collect()
    }

    fn wanted(via: &str, ports: &str, nets: &str) -> Result<Wanted, String> {
        Wanted::new(Text(via.to_owned()), texts(ports), texts(nets))
            .map_err(|error| error.to_string())
    }

    fn entries(via: &str, ports: &str, nets: &str, recorded: &[Entry]) -> Vec<Entry> {
        let wanted = wanted(via, ports, nets).expect("valid");
        wanted.entries("eth0", 2, recorded, &BTreeSet::new()).expect("no conflict")
    }

    #[test]
    fn each_port_and_network_is_an_entry_in_one_table() {
        let found = entries("10.0.0.5", "80 443 80", "203.0.113.0/24 198.51.100.7", &[]);
        let seen: Vec<_> = found
            .iter()
            .map(|entry| (entry.port, entry.client_net.to_string(), entry.priority()))
            .collect();
        let net = |port| (port, "203.0.113.0/24".to_owned(), FIRST_PRIORITY + 8);
        let host = |port| (port, "198.51.100.7/32".to_owned(), FIRST_PRIORITY);
        assert_eq!(seen, [net(80), host(80), net(443), host(443)]);
        assert!(found.iter().all(|entry| entry.table == FIRST_TABLE));
    }

    #[test]
    fn no_network_is_every_address_of_the_version_of_via() {
        let v4 = entries("10.0.0.5", "80", "", &[]);
        assert_eq!(
            v4[0].to_string(),
            "replies from TCP port 80 to any IPv4 address go to 10.0.0.5 by eth0 (rule 7732, table \
             7700)"
        );
        let v6 = entries("fd00::5", "80", "", &v4);
        assert_eq!((v6[0].client_net.to_string(), v6[0].table), ("::/0".to_owned(), 7_701));
        assert_eq!(v6[0].priority(), FIRST_PRIORITY + 128);
    }

    #[test]
    fn a_mirror_host_keeps_its_table_and_takes_nobody_elses() {
        let first = entries("10.0.0.5", "80", "", &[]);
        assert_eq!(entries("10.0.0.5", "81", "", &first)[0].table, FIRST_TABLE);
        let taken = BTreeSet::from([FIRST_TABLE, FIRST_TABLE + 1]);
        let wanted = wanted("10.0.0.6", "82", "").expect("valid");
        let found = wanted.entries("eth0", 2, &first, &taken).expect("no conflict");
        assert_eq!(found[0].table, FIRST_TABLE + 2);
    }

    #[test]
    fn the_same_replies_do_not_go_to_two_mirror_hosts() {
        let first = entries("10.0.0.5", "80", "", &[]);
        let other = wanted("10.0.0.6", "80", "").expect("valid");
        let error = other.entries("eth0", 2, &first, &BTreeSet::new()).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "--port 80: its replies to 0.0.0.0/0 go to 10.0.0.5 already; take that away first: \
             shadowtap route del --via 10.0.0.5 --port 80"
        );
        // The longer prefix decides, so these two can stand side by side.
        assert_eq!(entries("10.0.0.6", "80", "203.0.113.0/24", &first).len(), 1);
    }

    #[test]
    fn what_is_malformed_is_refused_by_name() {
        let refused = |via, ports, nets| wanted(via, ports, nets).expect_err("refused");
        let via = "give the mirror host's address, as in 10.0.0.5, fd00::5 or fe80::5%eth0";
        assert_eq!(
            refused("mirror", "80", ""),
            format!("--via mirror: is not an IP address; {via}")
        );
        for none in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:10.0.0.5", "255.255.255.255"]
        {
            let expected = format!("--via {none}: is no address of one host; {via}");
            assert_eq!(refused(none, "80", ""), expected);
        }
        assert_eq!(
            refused("fe80::5", "80", ""),
            "--via fe80::5: is link-local and may be on any interface; add the interface: \
             fe80::5%eth0"
        );
        assert_eq!(
            refused("10.0.0.5%eth0", "80", ""),
            "--via 10.0.0.5%eth0: names an interface without need; give 10.0.0.5"
        );
        for port in ["0", "65536", "http", "-1"] {
            assert_eq!(
                refused("10.0.0.5", port, ""),
                format!(
                    "--port {port}: is not a port; give the service's TCP port on this host, 1 to 65535"
                )
            );
        }
        assert_eq!(
            refused("10.0.0.5", "80", "10.0.0.0/33"),
            "--client-net 10.0.0.0/33: is not a network; give the clients' network, as in \
             203.0.113.0/24 or 2001:db8::/32"
        );
        assert_eq!(
            refused("10.0.0.5", "80", "10.0.0.1/24"),
            "--client-net 10.0.0.1/24: has bits set after its first 24; give 10.0.0.0/24"
        );
        assert_eq!(
            refused("10.0.0.5", "80", "2001:db8::/32"),
            "--client-net 2001:db8::/32: is of another IP version than --via 10.0.0.5; give an \
             address of the mirror host of the same version"
        );
    }

    #[test]
    fn a_filter_without_flags_selects_all_and_each_flag_narrows_it() {
        let mut recorded = entries("10.0.0.5", "80 81", "", &[]);
        recorded.extend(entries("fd00::5", "80", "2001:db8::/32", &recorded));
        let count = |via: &str, ports, nets| {
            let via = texts(via).pop();
            let filter = Filter::new(via, texts(ports), texts(nets)).expect("valid");
            recorded.iter().filter(|entry| filter.selects(entry)).count()
        };
        assert_eq!(count("", "", ""), 3);
        assert_eq!(count("10.0.0.5", "", ""), 2);
        assert_eq!(count("", "80", ""), 2);
        assert_eq!(count("fd00::5", "81", ""), 0);
        assert_eq!(count("", "", "2001:db8::/32"), 1);
    }
}
