//! This machine: distribution, privileges, and where the checkout lies.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The checkout's root folder.
pub fn root() -> PathBuf {
    // Cargo sets it for `cargo run`; the compiled-in value serves a binary started by hand.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// The cargo that started this process.
pub fn cargo() -> OsString {
    // Not a path: duct takes a relative path for a file of the current folder.
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A program on `PATH`, or in the folders that Debian leaves out of a user's `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let path = env::join_paths(folders).ok()?;
    which::which_in(name, Some(path), "/").ok()
}

/// The way to act as root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// This process is root.
    Root,
    /// Through this `sudo`.
    Sudo(PathBuf),
    /// There is none.
    None,
}

impl Privilege {
    /// What this process has.
    pub fn of_this_process() -> Self {
        let uid = procfs::process::Process::myself().and_then(|process| process.uid());
        if uid.is_ok_and(|uid| uid == 0) {
            return Self::Root;
        }
        program("sudo").map_or(Self::None, Self::Sudo)
    }

    /// `program args…`, as root; `None` where that is impossible.
    pub fn command(&self, program: &Path, args: &[&str]) -> Option<duct::Expression> {
        match self {
            Self::Root => Some(duct::cmd(program, args)),
            Self::Sudo(sudo) => {
                let program = program.as_os_str();
                let args = args.iter().map(AsRef::as_ref);
                Some(duct::cmd(sudo, [program].into_iter().chain(args)))
            }
            Self::None => None,
        }
    }
}

/// The distribution, as `os-release(5)` names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `ID_LIKE`, split at spaces.
    pub like: Vec<String>,
    /// `VERSION_ID`, such as `12`; empty on rolling distributions.
    pub version: String,
    /// `PRETTY_NAME`.
    pub name: String,
}

impl Distribution {
    /// Reads `/etc/os-release`.
    pub fn of_this_host() -> Result<Self> {
        let text = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut it = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.trim().split_once('=')) {
            let value = value.trim_matches(['"', '\'']).to_owned();
            match key {
                "ID" => it.id = value,
                "ID_LIKE" => it.like = value.split_whitespace().map(str::to_owned).collect(),
                "VERSION_ID" => it.version = value,
                "PRETTY_NAME" => it.name = value,
                _ => {}
            }
        }
        it
    }

    /// Whether Debian's package names and `apt-get` are to be expected.
    pub fn has_debian_packages(&self) -> bool {
        self.id == "debian" || self.like.iter().any(|like| like == "debian")
    }

    /// Whether this is the one release whose own rustc is new enough, sources included.
    pub fn is_debian_12(&self) -> bool {
        self.id == "debian" && self.version == "12"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_12_is_recognised() {
        let it = Distribution::parse(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n# x\n",
        );
        assert!(it.has_debian_packages());
        assert!(it.is_debian_12());
        assert_eq!(it.name, "Debian GNU/Linux 12 (bookworm)");
    }

    #[test]
    fn a_derivative_has_debian_packages_but_is_not_debian() {
        let it = Distribution::parse("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID='12'\n");
        assert!(it.has_debian_packages());
        assert!(!it.is_debian_12());
    }

    #[test]
    fn others_have_no_debian_packages() {
        let it = Distribution::parse("ID=fedora\nVERSION_ID=42\n");
        assert!(!it.has_debian_packages());
        assert!(!Distribution::parse("").has_debian_packages());
    }

    #[test]
    fn a_command_as_root_goes_through_sudo_only_when_needed() {
        let as_root = |privilege: Privilege| {
            privilege.command(Path::new("/bin/echo"), &["a"]).map(|command| format!("{command:?}"))
        };
        assert!(as_root(Privilege::Root).is_some_and(|command| !command.contains("sudo")));
        assert!(
            as_root(Privilege::Sudo("/usr/bin/sudo".into()))
                .is_some_and(|command| command.contains("/usr/bin/sudo"))
        );
        assert_eq!(as_root(Privilege::None), None);
    }
}
