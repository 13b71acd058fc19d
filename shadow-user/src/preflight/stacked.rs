//! Interfaces that stand on each other: a packet that is seen on both is not to be captured twice.

use crate::config::Config;
use crate::host::{Host, Interface};
use crate::setting::Refusal;

/// # Errors
/// Two interfaces to tap of which one gets what the other got before.
pub(super) fn check(config: &Config, host: &Host) -> Result<(), Refusal> {
    let tapped = || config.iface.iter().filter_map(|s| Some((s, host.interface(&s.value)?)));
    for (setting, lower) in tapped() {
        for (other, upper) in tapped() {
            if lower.index != upper.index && reaches(host, lower, upper) {
                return Err(setting.refuse(
                    format!("what arrives on it is seen again on {}", upper.name),
                    format!("give it or {other}, not both"),
                ));
            }
        }
    }
    Ok(())
}

/// Whether packets that arrive on `lower` go on to `upper`.
fn reaches(host: &Host, lower: &Interface, upper: &Interface) -> bool {
    let mut found = vec![lower.index];
    let mut next = 0;
    while let Some(&index) = found.get(next) {
        next += 1;
        for interface in &host.interfaces {
            let has_port = |port: &Interface| port.index == index && is(port.master, interface);
            let gets = interface.parent == Some(index) || host.interfaces.iter().any(has_port);
            if gets && !found.contains(&interface.index) {
                found.push(interface.index);
            }
        }
    }
    found.contains(&upper.index)
}

fn is(index: Option<u32>, interface: &Interface) -> bool {
    index == Some(interface.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        let interface = |index, name: &str, master, parent| Interface {
            index,
            name: name.into(),
            up: true,
            master,
            parent,
            ..Interface::default()
        };
        Host {
            kernel: procfs::sys::kernel::Version::new(6, 1, 0),
            missing_capabilities: vec![],
            interfaces: vec![
                interface(2, "eth0", Some(4), None),
                interface(3, "eth1", Some(4), None),
                interface(4, "bond0", None, None),
                interface(5, "bond0.7", Some(6), Some(4)),
                interface(6, "br0", None, None),
                interface(7, "eth2", None, None),
            ],
            ephemeral_ports: 32_768..=60_999,
            reserved_ports: vec![],
            sockets: vec![],
        }
    }

    #[test]
    fn packets_go_up_from_ports_and_parents_and_never_down() {
        let host = host();
        let reaches = |lower, upper| {
            let named = |name| host.interface(name).expect("there");
            super::reaches(&host, named(lower), named(upper))
        };
        for (lower, upper) in [("eth0", "bond0"), ("eth1", "br0"), ("bond0", "bond0.7")] {
            assert!(reaches(lower, upper), "{lower} {upper}");
            assert!(!reaches(upper, lower), "{upper} {lower}");
        }
        assert!(!reaches("eth0", "eth1") && !reaches("eth2", "br0"));
    }
}
