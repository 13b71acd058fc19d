//! The kernel's rules and routing tables, over netlink.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, pin_mut};
use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use rtnetlink::packet_route::{AddressFamily, IpProtocol};
use rtnetlink::{Error, Handle, IpVersion, RouteMessageBuilder};

use super::plan::Entry;

/// Who made a rule or a route, as `ip rule` shows it (`proto 84`): a number that no routing
/// daemon uses (linux/rtnetlink.h and iproute2's rt_protos).
const PROTOCOL: RouteProtocol = RouteProtocol::Other(84);

/// The number of the protocol (RFC 9293).
const TCP: u8 = 6;

/// A port that a client may have.
const CLIENT_PORT: u16 = 49_152;

/// Linux' numbers of the errors that mean that it is so already.
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;

/// Rules and routes of this network namespace.
#[derive(Clone, Debug)]
pub struct Tables {
    handle: Handle,
}

/// How the kernel reaches an address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NextHop {
    /// Index of the interface.
    pub oif: u32,
    /// Whether a router stands between.
    pub gateway: Option<IpAddr>,
    /// Whether it is an address of this host.
    pub local: bool,
}

impl Tables {
    /// Opens a connection to the kernel, driven by the running tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> anyhow::Result<Self> {
        // Strict checking lets the kernel look up one table instead of listing all.
        let (connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().context("no netlink connection")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// How an address is reached, by interface `oif` if it is given.
    ///
    /// # Errors
    /// The kernel's own words, such as that there is no route.
    pub async fn next_hop(&self, to: IpAddr, oif: Option<u32>) -> Result<NextHop, String> {
        let mut request = toward(to)?;
        if let Some(oif) = oif {
            request = request.output_interface(oif);
        }
        self.look_up(request.build()).await
    }

    /// How a reply from TCP port `sport` reaches a client.
    ///
    /// # Errors
    /// The kernel's own words.
    pub async fn reply(&self, client: IpAddr, sport: u16) -> Result<NextHop, String> {
        let request = toward(client)?.ip_protocol(TCP).sport(sport).dport(CLIENT_PORT);
        self.look_up(request.build()).await
    }

    /// Whether the kernel takes a client's packet for TCP port `dport` of this host's address
    /// `local` when it arrives by interface `iif`. It applies the reverse path filter to this
    /// question as it does to the packet, whatever rules its version has for that.
    ///
    /// # Errors
    /// The kernel's own words.
    pub async fn arrival(
        &self,
        client: IpAddr,
        local: IpAddr,
        dport: u16,
        iif: u32,
    ) -> Result<NextHop, String> {
        let request = toward(local)?
            .source_prefix(client, full_length(client))
            .map_err(|error| error.to_string())?
            .input_interface(iif)
            .ip_protocol(TCP)
            .sport(CLIENT_PORT)
            .dport(dport);
        self.look_up(request.build()).await
    }

    async fn look_up(&self, request: RouteMessage) -> Result<NextHop, String> {
        let answers = self.handle.route().get(question(request)).execute();
        pin_mut!(answers);
        let message = match answers.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(in_words(&error)),
            None => return Err("the kernel gives no route".to_owned()),
        };
        let (gateway, oif) = gateway_and_oif(&message);
        match message.header.kind {
            RouteType::Unicast => Ok(NextHop { oif, gateway, local: false }),
            RouteType::Local => Ok(NextHop { oif, gateway, local: true }),
            other => Err(format!("its route is of type {other:?}").to_lowercase()),
        }
    }

    /// The tables that any rule leads to, and those among `candidates` that have a route.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub async fn in_use(
        &self,
        candidates: impl Iterator<Item = u32>,
    ) -> anyhow::Result<BTreeSet<u32>> {
        let mut tables = BTreeSet::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            tables.extend(self.rules(version).await?.iter().map(table_of));
        }
        for table in candidates {
            for version in [IpVersion::V4, IpVersion::V6] {
                if !self.routes(version, table).await?.is_empty() {
                    tables.insert(table);
                }
            }
        }
        Ok(tables)
    }

    async fn rules(&self, version: IpVersion) -> anyhow::Result<Vec<RuleMessage>> {
        self.handle.rule().get(version).execute().try_collect().await.or_else(|error| {
            // Without IPv6 in the kernel there are none.
            if matches!(&error, Error::NetlinkError(_)) { Ok(Vec::new()) } else { Err(error) }
                .context("no list of rules")
        })
    }

    async fn routes(&self, version: IpVersion, table: u32) -> anyhow::Result<Vec<RouteMessage>> {
        let request = match version {
            IpVersion::V4 => RouteMessageBuilder::<Ipv4Addr>::new().table_id(table).build(),
            IpVersion::V6 => RouteMessageBuilder::<Ipv6Addr>::new().table_id(table).build(),
        };
        let request = question(request);
        let found: Result<Vec<_>, _> =
            self.handle.route().get(request).execute().try_collect().await;
        match found {
            Ok(routes) => Ok(routes),
            // There is no such table until it has a route.
            Err(Error::NetlinkError(error)) if error.raw_code() == -ENOENT => Ok(Vec::new()),
            Err(error) => Err(error).context("no list of routes"),
        }
    }

    /// Whether the rule of this entry is there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub async fn has_rule(&self, entry: &Entry) -> anyhow::Result<bool> {
        Ok(self.rules(version(entry)).await?.iter().any(|rule| is_rule_of(rule, entry)))
    }

    /// Whether the route of this entry is there.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub async fn has_route(&self, entry: &Entry) -> anyhow::Result<bool> {
        let routes = self.routes(version(entry), entry.table).await?;
        Ok(routes.iter().any(|route| {
            let default = route.header.destination_prefix_length == 0;
            default && gateway_and_oif(route) == (Some(entry.via), entry.oif)
        }))
    }

    /// Adds the rule of this entry.
    ///
    /// # Errors
    /// The kernel's own words.
    pub async fn add_rule(&self, entry: &Entry) -> anyhow::Result<()> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule(entry);
        request.execute().await.map_err(|error| failed("adding a rule", &error))
    }

    /// Removes the rule of this entry; whether it was there.
    ///
    /// # Errors
    /// The kernel's own words.
    pub async fn del_rule(&self, entry: &Entry) -> anyhow::Result<bool> {
        gone(self.handle.rule().del(rule(entry)).execute().await, "removing a rule")
    }

    /// Sets the only route of this entry's table.
    ///
    /// # Errors
    /// The kernel's own words.
    pub async fn set_route(&self, entry: &Entry) -> anyhow::Result<()> {
        let request = self.handle.route().add(route(entry)?).replace();
        request.execute().await.map_err(|error| failed("adding a route", &error))
    }

    /// Removes the route of this entry; whether it was there.
    ///
    /// # Errors
    /// The kernel's own words.
    pub async fn del_route(&self, entry: &Entry) -> anyhow::Result<bool> {
        gone(self.handle.route().del(route(entry)?).execute().await, "removing a route")
    }
}

fn full_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn toward(address: IpAddr) -> Result<RouteMessageBuilder<IpAddr>, String> {
    RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address, full_length(address))
        .map_err(|error| error.to_string())
}

/// A question names no properties of what it asks for, or strict checking refuses it.
fn question(mut message: RouteMessage) -> RouteMessage {
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    message.header.protocol = RouteProtocol::Unspec;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unspec;
    message
}

fn version(entry: &Entry) -> IpVersion {
    if entry.via.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 }
}

fn rule(entry: &Entry) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family =
        if entry.via.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(entry.priority()),
        RuleAttribute::Protocol(PROTOCOL),
        RuleAttribute::IpProtocol(IpProtocol::Tcp),
        RuleAttribute::SourcePortRange(RulePortRange { start: entry.port, end: entry.port }),
        RuleAttribute::Table(entry.table),
    ];
    if entry.client_net.prefix_len() != 0 {
        message.header.dst_len = entry.client_net.prefix_len();
        message.attributes.push(RuleAttribute::Destination(entry.client_net.network()));
    }
    message
}

/// The kernel prints a rule with more attributes than it was given.
fn is_rule_of(found: &RuleMessage, entry: &Entry) -> bool {
    let wanted = rule(entry);
    found.header.dst_len == wanted.header.dst_len
        && found.header.src_len == 0
        && found.header.action == wanted.header.action
        && wanted.attributes.iter().all(|attribute| found.attributes.contains(attribute))
}

fn table_of(rule: &RuleMessage) -> u32 {
    let long = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    long.unwrap_or_else(|| rule.header.table.into())
}

fn route(entry: &Entry) -> anyhow::Result<RouteMessage> {
    let everywhere = IpNet::new(entry.client_net.network(), 0)?.network();
    Ok(RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(everywhere, 0)?
        .gateway(entry.via)?
        .output_interface(entry.oif)
        .table_id(entry.table)
        .protocol(PROTOCOL)
        .build())
}

fn gateway_and_oif(message: &RouteMessage) -> (Option<IpAddr>, u32) {
    let (mut gateway, mut oif) = (None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => oif = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => {
                gateway = Some((*address).into())
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(address)) => {
                gateway = Some((*address).into());
            }
            _ => {}
        }
    }
    (gateway, oif)
}

fn gone(result: Result<(), Error>, what: &str) -> anyhow::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Error::NetlinkError(error)) if [-ENOENT, -ESRCH].contains(&error.raw_code()) => {
            Ok(false)
        }
        Err(error) => Err(failed(what, &error)),
    }
}

fn failed(what: &str, error: &Error) -> anyhow::Error {
    anyhow::anyhow!("{what} failed: {}", in_words(error))
}

fn in_words(error: &Error) -> String {
    match error {
        Error::NetlinkError(error) => error.to_io().to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_whose_replies_it_is_for() {
        let mut entry = Entry {
            via: [10, 0, 0, 5].into(),
            dev: "eth0".to_owned(),
            oif: 2,
            port: 8_080,
            client_net: "203.0.113.0/24".parse().expect("network"),
            table: 7_700,
        };
        let mut found = rule(&entry);
        assert!(found.attributes.contains(&RuleAttribute::IpProtocol(IpProtocol::Tcp)));
        assert_eq!((found.header.family, found.header.dst_len), (AddressFamily::Inet, 24));
        found.attributes.push(RuleAttribute::SuppressPrefixLen(u32::MAX));
        assert!(is_rule_of(&found, &entry), "what the kernel adds makes no difference");
        entry.port = 8_081;
        assert!(!is_rule_of(&found, &entry));
        entry.port = 8_080;
        entry.client_net = "0.0.0.0/0".parse().expect("network");
        assert!(!is_rule_of(&found, &entry));
        assert!(!is_rule_of(&rule(&entry), &Entry { table: 7_701, ..entry.clone() }));
    }
}
