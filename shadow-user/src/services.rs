//! What the programs in the kernel shall select, from what the user asked for and
//! the addresses that this host has at the moment.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use shadow_common::{Address, GuardRule, ServiceKey, ShadowKey};

use crate::config::{Config, Service, SourceMode};

/// The keys of the tap; each once.
#[must_use]
pub fn service_keys(services: &[Service], own: &[IpAddr]) -> Vec<ServiceKey> {
    let mut selected = BTreeSet::new();
    for service in services {
        match *service {
            Service::Host(port) => selected.extend(own.iter().map(|ip| (*ip, port))),
            Service::Exactly(exact) => {
                selected.insert((exact.ip(), exact.port()));
            }
        }
    }
    selected
        .into_iter()
        .map(|(ip, port)| ServiceKey {
            address: address(ip),
            port: port.to_be_bytes(),
            reserved: [0; 2],
        })
        .collect()
}

/// This host's addresses, as the guard knows them; each once.
#[must_use]
pub fn own_addresses(own: &[IpAddr]) -> Vec<Address> {
    own.iter().collect::<BTreeSet<_>>().into_iter().map(|ip| address(*ip)).collect()
}

/// The rule of the guard: what the shadow sends to the mirror's own ports, or to any address but
/// this host's when the mirror sends from addresses of others.
#[must_use]
pub fn guard_rule(config: &Config, shadow: SocketAddr, local: IpAddr) -> (ShadowKey, GuardRule) {
    let key = shadow_key(shadow);
    if config.source.value != SourceMode::Own {
        return (key, GuardRule::foreign());
    }
    let ports = &config.source_ports.value;
    (key, GuardRule::own(address(local), *ports.start(), *ports.end()))
}

/// The guard's key of a shadow.
#[must_use]
pub fn shadow_key(shadow: SocketAddr) -> ShadowKey {
    ShadowKey { address: address(shadow.ip()), port: shadow.port().to_be_bytes(), reserved: [0; 2] }
}

/// An unspecified IPv4 address becomes [`Address::ANY_V4`], an unspecified IPv6 address
/// [`Address::ANY_V6`].
#[must_use]
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => Address::from_v4(v4.octets()),
        IpAddr::V6(v6) => Address(v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_every_address_of_the_host_and_each_key_is_there_once() {
        let own: Vec<IpAddr> = ["10.0.0.5", "fd00::5"].map(|a| a.parse().expect("address")).into();
        let exactly = |text: &str| Service::Exactly(text.parse().expect("address"));
        let keys = service_keys(
            &[Service::Host(80), exactly("10.0.0.5:80"), exactly("10.0.0.9:443")],
            &own,
        );
        let expected = [([10, 0, 0, 5], 80_u16), ([10, 0, 0, 9], 443)];
        for (v4, port) in expected {
            let key = ServiceKey {
                address: Address::from_v4(v4),
                port: port.to_be_bytes(),
                reserved: [0; 2],
            };
            assert_eq!(keys.iter().filter(|other| **other == key).count(), 1);
        }
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn unspecified_addresses_are_the_wildcards() {
        let keys = service_keys(
            &["0.0.0.0:80", "[::]:80"].map(|a| Service::Exactly(a.parse().expect("address"))),
            &[],
        );
        assert_eq!(keys[0].address, Address::ANY_V4);
        assert_eq!(keys[1].address, Address::ANY_V6);
    }
}
