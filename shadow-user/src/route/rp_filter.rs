//! The reverse path filter (RFC 3704; `rp_filter` in the kernel's ip-sysctl.rst): it
//! drops packets whose source address the kernel would not reach by the interface that
//! they came by, which is what a mirror in mode `preserve` sends. IPv6 has none.

use std::{fs, io};

/// Any route to the source suffices.
pub const LOOSE: &str = "2";

/// What applies to one interface: the kernel takes the greater of the two.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RpFilter {
    /// `net.ipv4.conf.all.rp_filter`
    pub all: u8,
    /// `net.ipv4.conf.DEV.rp_filter`
    pub dev: u8,
}

impl RpFilter {
    /// What is set for `dev`.
    ///
    /// # Errors
    /// When procfs does not have it.
    pub fn read(dev: &str) -> io::Result<Self> {
        Ok(Self { all: read("all")?.parse().unwrap_or(0), dev: read(dev)?.parse().unwrap_or(0) })
    }

    /// Whether nothing is filtered.
    #[must_use]
    pub const fn is_off(self) -> bool {
        self.all == 0 && self.dev == 0
    }

    /// Whether the route back to the source must leave by the same interface.
    #[must_use]
    pub const fn is_strict(self) -> bool {
        !self.is_off() && self.all < 2 && self.dev < 2
    }
}

/// The name as sysctl(8) takes it.
#[must_use]
pub fn name(dev: &str) -> String {
    // sysctl exchanges dots and slashes.
    format!("net.ipv4.conf.{}.rp_filter", dev.replace('.', "/"))
}

fn path(dev: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{dev}/rp_filter")
}

/// The value for one interface.
///
/// # Errors
/// When there is no such interface.
pub fn read(dev: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(dev))?.trim().to_owned())
}

/// Sets the value for one interface.
///
/// # Errors
/// When there is no such interface, or /proc/sys is not writable.
pub fn write(dev: &str, value: &str) -> io::Result<()> {
    fs::write(path(dev), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greater_of_both_values_decides() {
        let of = |all, dev| RpFilter { all, dev };
        assert!(of(0, 0).is_off() && !of(0, 0).is_strict());
        assert!(of(1, 0).is_strict() && of(0, 1).is_strict() && of(1, 1).is_strict());
        assert!(!of(1, 2).is_strict() && !of(2, 0).is_strict() && !of(2, 1).is_off());
    }

    #[test]
    fn a_dot_in_an_interface_name_is_written_as_sysctl_wants_it() {
        assert_eq!(name("eth0.100"), "net.ipv4.conf.eth0/100.rp_filter");
    }
}
