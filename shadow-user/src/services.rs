//! What the programs in the kernel shall select, from what the user asked for and
//! the addresses that this host has at the moment.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use shadow_common::{Address, GuardRule, ServiceKey, ShadowKey};

use crate::config::{Config, Service};

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

/// The rule of the guard: what the shadow sends to the mirror's own ports.
#[must_use]
pub fn guard_rule(config: &Config, shadow: SocketAddr, local: IpAddr) -> (ShadowKey, GuardRule) {
    let key = ShadowKey {
        address: address(shadow.ip()),
        port: shadow.port().to_be_bytes(),
        reserved: [0; 2],
    };
    let ports = &config.source_ports.value;
    let rule =
        GuardRule { local: address(local), port_min: *ports.start(), port_max: *ports.end() };
    (key, rule)
}

/// An unspecified IPv4 address becomes [`Address::ANY_V4`], an unspecified IPv6 address
/// [`Address::ANY_V6`].
fn address(ip: IpAddr) -> Address {
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
