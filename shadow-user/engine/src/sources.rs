//! The addresses and ports that sessions come from.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Range, RangeInclusive};

/// Ports tried for a client of a pool before it is told that there is none.
const POOL_ATTEMPTS: u16 = 64;

/// Ports below this are never used for a pool: firewalls treat them otherwise.
const FIRST_POOL_PORT: u16 = 1_024;

/// Where the shadow sees its clients (`--source`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// The host's own address, and ports that no one else on the host uses.
    Own {
        /// The mirror's address toward the shadow.
        address: IpAddr,
        /// Ports reserved for the mirror.
        ports: RangeInclusive<u16>,
    },
    /// Of an otherwise unused network: each client's address always becomes the same one of it.
    Pool(Hosts),
    /// The client's own address and port.
    Preserve,
}

impl Source {
    /// One of so many shares that have nothing in common, counted from 0; none when there is too little
    /// to share.
    #[must_use]
    pub fn share(&self, index: u16, of: u16) -> Option<Self> {
        match self {
            Self::Own { address, ports } => {
                let (first, last) = (*ports.start(), *ports.end());
                let part = part(u64::from(last.checked_sub(first)?) + 1, index, of)?;
                // Within the range, which is of 16 bits.
                let ports = first + part.start as u16..=first + (part.end - 1) as u16;
                Some(Self::Own { address: *address, ports })
            }
            Self::Pool(hosts) => {
                let part = part(hosts.count, index, of)?;
                let (first, count) = (hosts.first + part.start, part.end - part.start);
                Some(Self::Pool(Hosts { first, count, ..*hosts }))
            }
            Self::Preserve => (of == 1).then_some(Self::Preserve),
        }
    }

    /// Whether sessions may come from `local`.
    #[must_use]
    pub fn lends(&self, local: SocketAddr) -> bool {
        match self {
            Self::Own { address, ports } => local.ip() == *address && ports.contains(&local.port()),
            Self::Pool(hosts) => hosts.contains(local.ip()),
            Self::Preserve => true,
        }
    }
}

/// The places of a share of `count`; none when it would be empty.
fn part(count: u64, index: u16, of: u16) -> Option<Range<u64>> {
    let bound = |index: u16| {
        let bound = u128::from(count) * u128::from(index) / u128::from(of.max(1));
        u64::try_from(bound).unwrap_or(count)
    };
    let part = bound(index)..bound(index.saturating_add(1));
    (index < of && !part.is_empty()).then_some(part)
}

/// Addresses of a network that follow one another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hosts {
    network: Network,
    /// The place of the first of them.
    first: u64,
    /// How many; 1 at least.
    count: u64,
}

impl Hosts {
    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let place = self.network.place(address).and_then(|place| u64::try_from(place).ok());
        place.is_some_and(|place| (self.first..self.first + self.count).contains(&place))
    }

    fn host(&self, hash: u64) -> IpAddr {
        self.network.host(self.first + hash % self.count)
    }
}

impl From<Network> for Hosts {
    /// All of the network's that may become a client's.
    fn from(network: Network) -> Self {
        Self { network, first: 0, count: u64::try_from(network.hosts()).unwrap_or(u64::MAX) }
    }
}

/// An IP network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of `address` with `prefix` leading bits; none when the prefix is too
    /// long to leave an address for a client.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let longest = if address.is_ipv4() { 30 } else { 126 };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    /// Whether it is of IPv4.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether `address` is one of this network's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()) & !self.hosts_v4() == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()) & !self.hosts_v6() == 0
            }
            _ => false,
        }
    }

    /// Whether `address` may become a client's: neither the network's first nor its last.
    #[must_use]
    pub fn lends(&self, address: IpAddr) -> bool {
        self.place(address).is_some()
    }

    /// The place of an address that may become a client's.
    fn place(&self, address: IpAddr) -> Option<u128> {
        let host = match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits() & self.hosts_v4()),
            IpAddr::V6(v6) => v6.to_bits() & self.hosts_v6(),
        };
        let place = host.checked_sub(1).filter(|place| *place < self.hosts());
        place.filter(|_| self.contains(address))
    }

    /// How many addresses there are for clients.
    #[must_use]
    pub fn hosts(&self) -> u128 {
        match self.address {
            IpAddr::V4(_) => u128::from(self.hosts_v4()) - 1,
            IpAddr::V6(_) => self.hosts_v6() - 1,
        }
    }

    /// Every address for clients, in order.
    pub fn iter_hosts(&self) -> impl Iterator<Item = IpAddr> + '_ {
        (0..u64::try_from(self.hosts()).unwrap_or(u64::MAX)).map(|place| self.host(place))
    }

    /// The host that stands at `place`, counted round; neither the first address of the
    /// network nor its last, which have meanings of their own.
    #[must_use]
    pub fn host(&self, place: u64) -> IpAddr {
        match self.address {
            IpAddr::V4(own) => {
                let hosts = self.hosts_v4();
                let host = (place % u64::from(hosts - 1)) as u32 + 1;
                Ipv4Addr::from_bits(own.to_bits() & !hosts | host).into()
            }
            IpAddr::V6(own) => {
                let hosts = self.hosts_v6();
                let host = u128::from(place) % (hosts - 1) + 1;
                Ipv6Addr::from_bits(own.to_bits() & !hosts | host).into()
            }
        }
    }

    fn hosts_v4(&self) -> u32 {
        u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0)
    }

    fn hosts_v6(&self) -> u128 {
        u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0)
    }
}

/// Hands out what sessions come from.
#[derive(Debug)]
pub(crate) struct Sources<S> {
    source: Source,
    hash: S,
    /// Free ports of mode `Own`, the one that has rested longest first.
    free: VecDeque<u16>,
}

impl<S: BuildHasher> Sources<S> {
    /// `hash` spreads clients over a pool: with one key, every host does it alike.
    pub(crate) fn new(source: Source, hash: S) -> Self {
        let free = match &source {
            Source::Own { ports, .. } => ports.clone().collect(),
            Source::Pool(_) | Source::Preserve => VecDeque::new(),
        };
        Self { source, hash, free }
    }

    /// An address and port for a session of `client`; none when all that could be are `in_use`.
    pub(crate) fn take(
        &mut self,
        client: SocketAddr,
        in_use: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        match &self.source {
            Source::Own { address, .. } => {
                self.free.pop_front().map(|port| SocketAddr::new(*address, port))
            }
            Source::Pool(hosts) => {
                let address = hosts.host(self.hash.hash_one(client.ip()));
                // A client's own ports differ while they are open, so the first try is nearly always good.
                let first = client.port().max(FIRST_POOL_PORT);
                (0..POOL_ATTEMPTS)
                    .map(|step| match first.checked_add(step) {
                        Some(port) => port,
                        None => FIRST_POOL_PORT + step,
                    })
                    .map(|port| SocketAddr::new(address, port))
                    .find(|local| !in_use(*local))
            }
            Source::Preserve => (!in_use(client)).then_some(client),
        }
    }

    /// Whether any port that is given back is of use to the next, whoever its client is.
    pub(crate) const fn are_few(&self) -> bool {
        matches!(self.source, Source::Own { .. })
    }

    /// Gives back what was taken.
    pub(crate) fn give(&mut self, local: SocketAddr) {
        if matches!(self.source, Source::Own { .. }) {
            self.free.push_back(local.port());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use super::*;

    type Hash = BuildHasherDefault<DefaultHasher>;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn own() -> Sources<Hash> {
        let source = Source::Own { address: "10.0.0.5".parse().unwrap(), ports: 10..=12 };
        Sources::new(source, Hash::default())
    }

    fn pool(network: &str, prefix: u8) -> (Sources<Hash>, Network) {
        let network = Network::new(network.parse().unwrap(), prefix).unwrap();
        (Sources::new(Source::Pool(network.into()), Hash::default()), network)
    }

    #[test]
    fn a_port_rests_as_long_as_others_are_free() {
        let mut sources = own();
        let client = address("192.0.2.1:4000");
        let first = sources.take(client, |_| false).unwrap();
        assert_eq!(first, address("10.0.0.5:10"));
        sources.give(first);
        let ports: Vec<_> =
            (0..3).filter_map(|_| sources.take(client, |_| false)).map(|a| a.port()).collect();
        assert_eq!(ports, [11, 12, 10]);
        assert_eq!(sources.take(client, |_| false), None);
    }

    #[test]
    fn a_client_always_becomes_the_same_address_of_the_pool() {
        for (base, prefix, client) in
            [("10.9.0.0", 24, "192.0.2.1"), ("fd00:9::", 64, "2001:db8::1")]
        {
            let (mut sources, network) = pool(base, prefix);
            let client: IpAddr = client.parse().unwrap();
            let one = sources.take(SocketAddr::new(client, 4_000), |_| false).unwrap();
            let other = sources.take(SocketAddr::new(client, 5_000), |_| false).unwrap();
            assert!(network.contains(one.ip()));
            assert_eq!(one.ip(), other.ip());
            assert_eq!((one.port(), other.port()), (4_000, 5_000));
        }
    }

    #[test]
    fn clients_spread_over_the_pool_without_its_first_and_last_address() {
        let (mut sources, _) = pool("10.9.0.0", 29);
        let seen: HashSet<_> = (0..200u8)
            .map(|last| SocketAddr::new(Ipv4Addr::new(192, 0, 2, last).into(), 4_000))
            .map(|client| sources.take(client, |_| false).unwrap().ip())
            .collect();
        assert_eq!(seen.len(), 6);
        assert!(!seen.contains(&"10.9.0.0".parse().unwrap()));
        assert!(!seen.contains(&"10.9.0.7".parse().unwrap()));
    }

    #[test]
    fn exactly_what_clients_get_is_lent() {
        for (base, prefix) in [("10.9.0.8", 29), ("fd00:9::8", 125)] {
            let network = Network::new(base.parse().unwrap(), prefix).unwrap();
            let hosts: Vec<_> = network.iter_hosts().collect();
            assert_eq!(hosts.len(), 6);
            let near: Vec<IpAddr> = (0..24_u16)
                .map(|last| match network.address {
                    IpAddr::V4(_) => Ipv4Addr::new(10, 9, 0, last as u8).into(),
                    IpAddr::V6(_) => Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, last).into(),
                })
                .collect();
            let lent: Vec<_> = near.into_iter().filter(|near| network.lends(*near)).collect();
            assert_eq!(lent, hosts);
        }
        let wide = Network::new("fd00::".parse().unwrap(), 8).unwrap();
        assert!(wide.lends("fd00::1".parse().unwrap()) && !wide.lends("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn shares_have_nothing_in_common_and_leave_nothing_out() {
        let network = Network::new("10.9.0.0".parse().unwrap(), 28).unwrap();
        let wide = Network::new("fd00:9::".parse().unwrap(), 16).unwrap();
        let ports = own().source;
        for of in [1, 2, 3] {
            let shares = |source: &Source| -> Vec<_> {
                (0..of).map(|index| source.share(index, of).unwrap()).collect()
            };
            let pools = shares(&Source::Pool(network.into()));
            for host in network.iter_hosts().map(|host| SocketAddr::new(host, 80)) {
                assert_eq!(pools.iter().filter(|pool| pool.lends(host)).count(), 1, "{host}");
            }
            let ranges = shares(&ports);
            for port in 10..=12 {
                let local = SocketAddr::new("10.0.0.5".parse().unwrap(), port);
                assert_eq!(ranges.iter().filter(|range| range.lends(local)).count(), 1, "{port}");
            }
            for share in shares(&Source::Pool(wide.into())).into_iter().chain(pools) {
                let mut sources = Sources::new(share.clone(), Hash::default());
                for last in 0..=255 {
                    let client = SocketAddr::new(Ipv4Addr::new(192, 0, 2, last).into(), 4_000);
                    let local = sources.take(client, |_| false).unwrap();
                    assert!(share.lends(local), "{local} of {share:?}");
                }
            }
        }
        assert_eq!(ports.share(0, 1), Some(ports.clone()));
    }

    #[test]
    fn what_is_too_little_is_not_shared() {
        let network = Network::new("10.9.0.0".parse().unwrap(), 30).unwrap();
        let pool = Source::Pool(network.into());
        assert!(pool.share(1, 2).is_some() && pool.share(2, 2).is_none());
        assert!((0..3).any(|index| pool.share(index, 3).is_none()));
        assert!((0..4).any(|index| own().source.share(index, 4).is_none()));
        assert_eq!(Source::Preserve.share(0, 1), Some(Source::Preserve));
        assert_eq!(Source::Preserve.share(0, 2), None);
    }

    #[test]
    fn two_clients_of_one_pool_address_get_different_ports() {
        let (mut sources, _) = pool("10.9.0.0", 30);
        let client = address("192.0.2.1:65535");
        let one = sources.take(client, |_| false).unwrap();
        let other = sources.take(client, |local| local == one).unwrap();
        assert_eq!((one.ip(), one.port()), (other.ip(), 65_535));
        assert_eq!(other.port(), FIRST_POOL_PORT + 1);
        assert_eq!(sources.take(client, |_| true), None);
    }

    #[test]
    fn preserve_hands_out_the_client_itself_once() {
        let mut sources = Sources::new(Source::Preserve, Hash::default());
        let client = address("192.0.2.1:4000");
        assert_eq!(sources.take(client, |_| false), Some(client));
        assert_eq!(sources.take(client, |local| local == client), None);
    }

    #[test]
    fn a_network_without_room_for_clients_is_none() {
        assert_eq!(Network::new("10.0.0.0".parse().unwrap(), 31), None);
        assert_eq!(Network::new("fd00::".parse().unwrap(), 127), None);
    }
}
