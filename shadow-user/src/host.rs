//! What this host is at the moment: read once before anything is attached, so
//! that `preflight` judges plain data.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::Context as _;
use caps::{CapSet, Capability};
use futures_util::{StreamExt as _, TryStreamExt as _, pin_mut};
use procfs::net::{TcpNetEntry, TcpState};
use procfs::sys::kernel::Version;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMetric, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};

/// A network interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interface {
    /// Its index in this network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is administratively up.
    pub up: bool,
    /// Bytes of the longest IP packet.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its Ethernet address, when it has neighbours that ask for it: not on a loopback or tunnel.
    pub mac: Option<[u8; 6]>,
    /// Index of the interface that its packets go on to: the bridge or bond of which it is a port.
    pub master: Option<u32>,
    /// Index of the interface from which its packets come: what a VLAN or macvlan stands on.
    pub parent: Option<u32>,
}

/// Every address of these interfaces.
#[must_use]
pub fn addresses(interfaces: &[Interface]) -> Vec<IpAddr> {
    interfaces.iter().flat_map(|interface| interface.addresses.iter().copied()).collect()
}

/// What the checks look at.
#[derive(Clone, Debug)]
pub struct Host {
    /// Version of the running kernel.
    pub kernel: Version,
    /// Capabilities that the daemon needs and does not have.
    pub missing_capabilities: Vec<&'static str>,
    /// All interfaces of this network namespace.
    pub interfaces: Vec<Interface>,
    /// `net.ipv4.ip_local_port_range`: ports that the kernel hands out.
    pub ephemeral_ports: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`: ports that it does not hand out.
    pub reserved_ports: Vec<RangeInclusive<u16>>,
    /// Local ends of the TCP sockets of this network namespace.
    pub sockets: Vec<SocketAddr>,
}

impl Host {
    /// Every address of every interface.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        addresses(&self.interfaces)
    }

    /// The interface of that name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// When procfs or netlink do not answer as they are documented.
    pub async fn read(netlink: &Netlink) -> anyhow::Result<Self> {
        let reserved = read_sysctl("ip_local_reserved_ports")?;
        Ok(Self {
            kernel: Version::current().context("the kernel's version is unreadable")?,
            missing_capabilities: missing_capabilities()?,
            interfaces: netlink.interfaces().await?,
            ephemeral_ports: parse_local_port_range(&read_sysctl("ip_local_port_range")?)
                .context("net.ipv4.ip_local_port_range is no pair of ports")?,
            reserved_ports: parse_reserved_ports(&reserved),
            sockets: tcp_sockets()?,
        })
    }
}

/// CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON (capabilities(7), Linux 5.8).
fn missing_capabilities() -> anyhow::Result<Vec<&'static str>> {
    let effective = caps::read(None, CapSet::Effective).context("capabilities are unreadable")?;
    let has = |capability| effective.contains(&capability);
    let admin = has(Capability::CAP_SYS_ADMIN);
    let wanted = [
        ("CAP_BPF", admin || has(Capability::CAP_BPF)),
        ("CAP_PERFMON", admin || has(Capability::CAP_PERFMON)),
        ("CAP_NET_ADMIN", has(Capability::CAP_NET_ADMIN)),
        ("CAP_NET_RAW", has(Capability::CAP_NET_RAW)),
    ];
    Ok(wanted.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect())
}

fn read_sysctl(name: &str) -> anyhow::Result<String> {
    let path = format!("/proc/sys/net/ipv4/{name}");
    std::fs::read_to_string(&path).with_context(|| format!("{path} is unreadable"))
}

fn parse_local_port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ports = text.split_whitespace().map(str::parse::<u16>);
    Some(ports.next()?.ok()?..=ports.next()?.ok()?)
}

/// `8080,9000-9010`, as the kernel prints it.
fn parse_reserved_ports(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).collect()
}

fn tcp_sockets() -> anyhow::Result<Vec<SocketAddr>> {
    let mut entries = procfs::net::tcp().context("/proc/net/tcp is unreadable")?;
    // Absent where IPv6 is disabled.
    entries.extend(procfs::net::tcp6().unwrap_or_default());
    // A socket in TIME-WAIT has no owner that the mirror could disturb.
    let in_use = |entry: &TcpNetEntry| entry.state != TcpState::TimeWait;
    Ok(entries.into_iter().filter(in_use).map(|entry| canonical(entry.local_address)).collect())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// How this host reaches an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// Index of the interface packets leave by.
    pub oif: u32,
    /// The address this host sends from.
    pub source: IpAddr,
    /// The route's own MTU in bytes, when it has one.
    pub mtu: Option<u32>,
    /// Whether the address is one of this host's own.
    pub local: bool,
    /// The address on the link that packets are handed to: a gateway's, or the destination itself; `None` where
    /// it is not as simple as that.
    pub neighbour: Option<IpAddr>,
}

/// The kernel's routing and interface tables.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens a connection to the kernel, driven by the running tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> anyhow::Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("no netlink connection")?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The connection, for questions of others.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// All interfaces with their addresses.
    ///
    /// # Errors
    /// When the kernel does not answer the request.
    pub async fn interfaces(&self) -> anyhow::Result<Vec<Interface>> {
        let links: Vec<_> =
            self.handle.link().get().execute().try_collect().await.context("no list of links")?;
        let mut interfaces: Vec<Interface> = links
            .into_iter()
            .map(|link| {
                let mut interface = Interface {
                    index: link.header.index,
                    up: link.header.flags.contains(LinkFlags::Up),
                    ..Interface::default()
                };
                let has_neighbours = link.header.link_layer_type == LinkLayerType::Ether
                    && !link.header.flags.contains(LinkFlags::Noarp);
                let stands_on_parent = stands_on_parent(&link.attributes);
                for attribute in link.attributes {
                    match attribute {
                        LinkAttribute::IfName(name) => interface.name = name,
                        LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
                        LinkAttribute::Address(address) if has_neighbours => {
                            interface.mac = address.try_into().ok();
                        }
                        LinkAttribute::Controller(index) => interface.master = Some(index),
                        LinkAttribute::Link(index) if stands_on_parent => {
                            interface.parent = Some(index);
                        }
                        _ => {}
                    }
                }
                interface
            })
            .collect();
        for (index, address) in self.index_addresses().await? {
            if let Some(interface) = interfaces.iter_mut().find(|known| known.index == index) {
                interface.addresses.push(address);
            }
        }
        Ok(interfaces)
    }

    /// The neighbours on an interface whose Ethernet addresses are known, and hold.
    ///
    /// # Errors
    /// When the kernel does not answer the request.
    pub async fn neighbours(&self, index: u32) -> anyhow::Result<Vec<(IpAddr, [u8; 6])>> {
        let messages: Vec<_> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .context("no list of neighbours")?;
        let known = messages.into_iter().filter(|message| {
            use NeighbourState::{Failed, Incomplete};
            message.header.ifindex == index
                && !matches!(message.header.state, Failed | Incomplete | NeighbourState::None)
        });
        Ok(known
            .filter_map(|message| {
                let (mut address, mut mac) = (None, None);
                for attribute in message.attributes {
                    match attribute {
                        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                            address = Some(IpAddr::V4(v4));
                        }
                        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                            address = Some(IpAddr::V6(v6));
                        }
                        NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok(),
                        _ => {}
                    }
                }
                Some((address?, mac?))
            })
            .collect())
    }

    async fn index_addresses(&self) -> anyhow::Result<Vec<(u32, IpAddr)>> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .context("no list of addresses")?;
        let own = |message: &rtnetlink::packet_route::address::AddressMessage| {
            let mut found = None;
            for attribute in &message.attributes {
                match attribute {
                    // On a point-to-point link `Address` is the peer and `Local` is ours.
                    AddressAttribute::Local(address) => return Some(*address),
                    AddressAttribute::Address(address) => found = Some(*address),
                    _ => {}
                }
            }
            found
        };
        Ok(messages.iter().filter_map(|m| Some((m.header.index, own(m)?))).collect())
    }

    /// How the kernel would reach `destination`, or its reason why not.
    ///
    /// # Errors
    /// The kernel's own words: no route, unreachable, prohibited, or no answer in time.
    pub async fn route(&self, destination: IpAddr) -> Result<Route, String> {
        let bits = if destination.is_ipv4() { 32 } else { 128 };
        let request = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination, bits)
            .map_err(|error| error.to_string())?
            .build();
        let answers = self.handle.route().get(request).execute();
        pin_mut!(answers);
        let answer = tokio::time::timeout(Duration::from_secs(2), answers.next())
            .await
            .map_err(|_| "the kernel does not answer".to_owned())?
            .ok_or("the kernel gives no route")?;
        let message = match answer {
            Ok(message) => message,
            Err(rtnetlink::Error::NetlinkError(error)) => return Err(error.to_io().to_string()),
            Err(error) => return Err(error.to_string()),
        };
        let local = match message.header.kind {
            RouteType::Unicast => false,
            RouteType::Local => true,
            other => return Err(format!("its route is of type {other:?}").to_lowercase()),
        };
        debug_assert!(matches!(
            message.header.address_family,
            AddressFamily::Inet | AddressFamily::Inet6
        ));
        let neighbour = Some(destination);
        let mut route = Route { oif: 0, source: destination, mtu: None, local, neighbour };
        let mut source = None;
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => route.oif = index,
                RouteAttribute::PrefSource(RouteAddress::Inet(address)) => {
                    source = Some(IpAddr::V4(address));
                }
                RouteAttribute::PrefSource(RouteAddress::Inet6(address)) => {
                    source = Some(IpAddr::V6(address));
                }
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => {
                    route.neighbour = Some(IpAddr::V4(gateway));
                }
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => {
                    route.neighbour = Some(IpAddr::V6(gateway));
                }
                // A gateway of the other family; a tunnel of the route's own; one of several.
                RouteAttribute::Via(_)
                | RouteAttribute::Encap(_)
                | RouteAttribute::MultiPath(_) => route.neighbour = None,
                RouteAttribute::Metrics(metrics) => {
                    route.mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        route.source = source.ok_or("this host has no address to send from")?;
        Ok(route)
    }
}

/// Whether `IFLA_LINK` names an interface of this network namespace whose packets are seen again
/// here: of a veth it names the other end, of a tunnel the way of the packets around its own.
fn stands_on_parent(attributes: &[LinkAttribute]) -> bool {
    let is_stacked = |info: &LinkInfo| {
        use InfoKind::{IpVlan, MacVlan, Vlan};
        matches!(info, LinkInfo::Kind(Vlan | MacVlan | IpVlan))
    };
    let elsewhere = |attribute: &_| matches!(attribute, LinkAttribute::LinkNetNsId(_));
    attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().any(is_stacked),
        _ => false,
    }) && !attributes.iter().any(elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_are_read_as_the_kernel_prints_them() {
        assert_eq!(parse_local_port_range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse_local_port_range("32768\n"), None);
        assert_eq!(parse_reserved_ports("\n"), []);
        assert_eq!(parse_reserved_ports("8080,9000-9010\n"), [8080..=8080, 9000..=9010]);
    }

    #[tokio::test]
    async fn this_host_is_readable() {
        let netlink = Netlink::open().expect("netlink");
        let host = Host::read(&netlink).await.expect("host");
        let lo = host.interface("lo").expect("every namespace has lo");
        assert_ne!(lo.index, 0);
        if lo.up {
            let loopback: IpAddr = [127, 0, 0, 1].into();
            assert!(lo.addresses.contains(&loopback));
            let route = netlink.route(loopback).await.expect("route");
            let neighbour = Some(loopback);
            assert_eq!(
                route,
                Route { oif: lo.index, source: loopback, mtu: None, local: true, neighbour }
            );
        }
    }
}
