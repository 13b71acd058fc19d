//! Programs that demo, tests and benchmarks start, and the Debian packages that hold them.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    host::{Distribution, Privilege, program},
    progress,
};

/// A Debian package and the programs that are wanted from it.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name in Debian 12.
    pub name: &'static str,
    /// What is looked for on `PATH`; the package counts as there when all are.
    pub programs: &'static [&'static str],
}

/// What demo, tests and benchmarks start.
pub const LAB: &[Package] = &[
    Package { name: "curl", programs: &["curl"] },
    Package { name: "iproute2", programs: &["ip", "tc", "ss"] },
    Package { name: "nftables", programs: &["nft"] },
    Package { name: "nghttp2-client", programs: &["h2load"] },
    Package { name: "nginx", programs: &["nginx"] },
    Package { name: "openssl", programs: &["openssl"] },
    Package { name: "procps", programs: &["sysctl"] },
    Package { name: "prometheus", programs: &["prometheus", "promtool"] },
    Package { name: "redis-server", programs: &["redis-server"] },
    Package { name: "redis-tools", programs: &["redis-benchmark", "redis-cli"] },
    Package { name: "tcpdump", programs: &["tcpdump"] },
    Package { name: "util-linux", programs: &["nsenter", "setpriv", "unshare"] },
    Package { name: "valgrind", programs: &["valgrind"] },
    Package { name: "wrk", programs: &["wrk"] },
];

/// What only the page's tests start.
pub const BROWSER: &[Package] = &[
    Package { name: "chromium", programs: &["chromium"] },
    Package { name: "chromium-driver", programs: &["chromedriver"] },
];

/// Runs as root: no service of a new package starts, now or at the next boot.
const INSTALL: &str = include_str!("packages.sh");

/// Those of `packages` that lack a program here.
pub fn missing(packages: &'static [Package]) -> Vec<&'static Package> {
    missing_by(packages, |name| program(name).is_some())
}

fn missing_by(
    packages: &'static [Package],
    is_there: impl Fn(&str) -> bool,
) -> Vec<&'static Package> {
    packages.iter().filter(|package| !package.programs.iter().all(|name| is_there(name))).collect()
}

/// Installs what is missing of `packages`.
///
/// # Errors
/// Not a Debian, no way to become root, or apt-get failed; says what to install by hand.
pub fn ensure(packages: &'static [Package], logs: &Path) -> Result<()> {
    let names: Vec<&str> = missing(packages).iter().map(|package| package.name).collect();
    if names.is_empty() {
        return Ok(());
    }
    install(&names, logs)
}

/// Installs these packages with apt-get, without starting a service.
///
/// # Errors
/// As [`ensure`].
pub fn install(names: &[&str], logs: &Path) -> Result<()> {
    let list = names.join(" ");
    let privilege = Privilege::of_this_process();
    let distribution = Distribution::of_this_host().unwrap_or_default();
    if !distribution.has_debian_packages() || program("apt-get").is_none() {
        bail!(
            "missing programs; install what Debian packages as: {list} \
             (this is {}, installing by itself works on Debian only)",
            if distribution.name.is_empty() { "not Debian" } else { &distribution.name },
        );
    }
    let args: Vec<&str> = ["-c", INSTALL, "packages.sh"].iter().chain(names).copied().collect();
    let Some(command) = privilege.command(Path::new("/bin/sh"), &args) else {
        bail!("missing packages and neither root nor sudo; as root: apt-get install {list}");
    };
    ask_for_password(&privilege)?;
    progress::step(&format!("apt-get install {list}"), &command, &logs.join("apt.log"))
        .with_context(|| format!("remedy: as root, apt-get install {list}"))
}

/// sudo asks on the terminal; that must not happen underneath a spinner.
fn ask_for_password(privilege: &Privilege) -> Result<()> {
    if let Privilege::Sudo(sudo) = privilege {
        let status = Command::new(sudo).arg("-v").status().context("running sudo -v")?;
        anyhow::ensure!(status.success(), "sudo refused; run as root or install by hand");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_missing_when_one_of_its_programs_is() {
        let missing = missing_by(LAB, |name| name != "redis-cli" && name != "wrk");
        let names: Vec<_> = missing.iter().map(|package| package.name).collect();
        assert_eq!(names, ["redis-tools", "wrk"]);
    }

    #[test]
    fn nothing_is_missing_when_all_is_there() {
        assert!(missing_by(LAB, |_| true).is_empty());
    }
}
