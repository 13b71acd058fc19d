//! What compiles the eBPF crate: the pinned nightly, or Debian's own rustc where rustup cannot download.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;

use crate::{
    host::{self, Distribution, program},
    packages, progress,
};

/// The nightly that `shadow-user/build.rs` asks rustup for.
pub const NIGHTLY: &str = "nightly-2026-05-19";
/// What Debian's rustc is called once rustup knows it.
const LINKED: &str = "shadowtap-debian";
/// Debian 12's rustc 1.96 with its library's sources, and the LLVM it was built against.
const DEBIAN_PACKAGES: &[&str] =
    &["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev", "zlib1g-dev", "libzstd-dev"];
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

/// Which toolchain to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The pinned nightly; Debian's when rustup cannot download.
    Auto,
    /// The pinned nightly only.
    Rustup,
    /// Debian's only.
    Debian,
}

/// A toolchain that can build for `bpfel-unknown-none` from the standard library's sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The name to give to `rustup run`; `None` without rustup, where `PATH`'s cargo is the one.
    pub name: Option<&'static str>,
    /// A stable compiler takes unstable options only with `RUSTC_BOOTSTRAP=1`.
    pub is_stable: bool,
    /// First two lines or more of `rustc -vV`: which compiler this is.
    pub version: String,
    /// The LLVM inside the compiler, which bpf-linker must be linked against.
    pub llvm: Llvm,
}

/// Where the compiler's LLVM lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Llvm {
    /// A shared library inside a rustup toolchain, to be given names that a linker finds.
    Library(PathBuf),
    /// A prefix with `lib/libLLVM.so` as LLVM itself installs it.
    Prefix(PathBuf),
}

impl Toolchain {
    /// The toolchain of this choice, if it is complete; changes nothing.
    pub fn find(choice: Choice) -> Result<Self> {
        match choice {
            Choice::Rustup => find_nightly(),
            Choice::Debian => find_debian(),
            Choice::Auto => find_nightly().or_else(|first| {
                find_debian().map_err(|second| anyhow!("{first:#}; nor Debian's: {second:#}"))
            }),
        }
    }

    /// The toolchain of this choice, installed if it is not there.
    ///
    /// # Errors
    /// It cannot be installed here; says what to install by hand.
    pub fn ensure(choice: Choice, logs: &Path) -> Result<Self> {
        if let Ok(it) = Self::find(choice) {
            return Ok(it);
        }
        match choice {
            Choice::Rustup => install_nightly(logs),
            Choice::Debian => install_debian(logs),
            Choice::Auto => install_nightly(logs).or_else(|first| {
                eprintln!("{NIGHTLY}: {first:#}\ntrying Debian's rustc instead");
                install_debian(logs).map_err(|second| {
                    anyhow!(
                        "no toolchain for the eBPF programs: {second:#}\nremedy, one of\n\
                         - install rustup (https://rustup.rs), then: {}\n\
                         - on Debian 12, as root: apt-get install {}",
                        install_nightly_line(&[]),
                        DEBIAN_PACKAGES.join(" "),
                    )
                })
            }),
        }
    }

    /// Adds a rustup component or, for Debian's compiler, the package that holds it.
    pub fn ensure_clippy(&self, logs: &Path) -> Result<()> {
        if self.command("cargo", &["clippy", "--version"]).stdout_null().stderr_null().run().is_ok()
        {
            return Ok(());
        }
        if self.is_stable {
            return packages::install(&["rust-web-clippy"], logs);
        }
        let command = duct::cmd!("rustup", "component", "add", "clippy", "--toolchain", NIGHTLY);
        progress::step("rustup component add clippy", &command, &logs.join("clippy.log"))
    }

    /// `program args…` of this toolchain, with the environment that it needs.
    pub fn command(&self, program: &str, args: &[&str]) -> duct::Expression {
        let command = match self.name {
            Some(name) => {
                duct::cmd("rustup", ["run", name, program].iter().chain(args))
                    // The toolchain is there or it is not; rustup is not to fetch it unasked.
                    .env("RUSTUP_AUTO_INSTALL", "0")
            }
            None => duct::cmd(program, args),
        };
        if self.is_stable { command.env("RUSTC_BOOTSTRAP", "1") } else { command }
    }
}

fn find_nightly() -> Result<Toolchain> {
    if program("rustup").is_none() {
        bail!("rustup is not installed");
    }
    let read = |args: &[&str]| -> Result<String> {
        duct::cmd("rustup", ["run", NIGHTLY, "rustc"].iter().chain(args))
            .env("RUSTUP_AUTO_INSTALL", "0")
            .stderr_null()
            .read()
            .with_context(|| format!("{NIGHTLY} is not installed"))
    };
    let sysroot = PathBuf::from(read(&["--print", "sysroot"])?);
    require_sources(&sysroot)?;
    let llvm = Llvm::Library(find_llvm(&sysroot.join("lib"))?);
    Ok(Toolchain { name: Some(NIGHTLY), is_stable: false, version: read(&["-vV"])?, llvm })
}

fn find_debian() -> Result<Toolchain> {
    let rustc = "/usr/bin/rustc";
    let read = |args: &[&str]| -> Result<String> {
        duct::cmd(rustc, args).stderr_null().read().context("/usr/bin/rustc is not installed")
    };
    require_sources(Path::new(&read(&["--print", "sysroot"])?))?;
    let version = read(&["-vV"])?;
    if !Path::new(DEBIAN_LLVM).join("lib/libLLVM.so").exists() {
        bail!("{DEBIAN_LLVM}/lib/libLLVM.so is missing");
    }
    if llvm_major(&version) != Some(22) {
        bail!("{rustc} is not built against LLVM 22");
    }
    let name = if program("rustup").is_some() {
        let known = duct::cmd!("rustup", "toolchain", "list").read().context("asking rustup")?;
        if !known.lines().any(|line| line.split_whitespace().next() == Some(LINKED)) {
            bail!("rustup does not know {rustc} as {LINKED}");
        }
        Some(LINKED)
    } else {
        None
    };
    Ok(Toolchain { name, is_stable: true, version, llvm: Llvm::Prefix(DEBIAN_LLVM.into()) })
}

fn install_nightly_line(more: &[&str]) -> String {
    let components = ["rust-src"].iter().chain(more).copied().collect::<Vec<_>>().join(",");
    format!("rustup toolchain install {NIGHTLY} --profile minimal --component {components}")
}

fn install_nightly(logs: &Path) -> Result<Toolchain> {
    if program("rustup").is_none() {
        bail!("rustup is not installed");
    }
    let line = format!("{} --no-self-update", install_nightly_line(&[]));
    let command = duct::cmd("rustup", line.split(' ').skip(1));
    progress::step(
        &format!("rustup: {NIGHTLY} with rust-src"),
        &command,
        &logs.join("rustup.log"),
    )?;
    find_nightly()
}

fn install_debian(logs: &Path) -> Result<Toolchain> {
    if !Distribution::of_this_host().unwrap_or_default().is_debian_12() {
        bail!("this is not Debian 12");
    }
    let are_there = Path::new("/usr/bin/rustc").exists() && Path::new(DEBIAN_LLVM).exists();
    let are_complete = are_there && program("dpkg-query").is_some() && {
        duct::cmd("dpkg-query", ["--show"].iter().chain(DEBIAN_PACKAGES))
            .stdout_null()
            .stderr_null()
            .run()
            .is_ok()
    };
    if !are_complete {
        packages::install(DEBIAN_PACKAGES, logs)?;
    }
    if program("rustup").is_some() {
        duct::cmd!("rustup", "toolchain", "link", LINKED, "/usr")
            .run()
            .with_context(|| format!("rustup toolchain link {LINKED} /usr"))?;
    }
    find_debian()
}

/// `-Z build-std=core` compiles the standard library's own sources.
fn require_sources(sysroot: &Path) -> Result<()> {
    let core = sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml");
    if !core.exists() {
        bail!("{} has no rust-src", sysroot.display());
    }
    Ok(())
}

/// `libLLVM.so.<version>-rust-<release>`: only this one, whatever other names lead to it.
fn find_llvm(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    entries
        .filter_map(Result::ok)
        .find(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libLLVM.so.") && name.contains("-rust-")
        })
        .map(|entry| entry.path())
        .with_context(|| format!("no libLLVM.so.*-rust-* in {}", folder.display()))
}

/// The major version in `rustc -vV`'s line `LLVM version: 22.1.8`.
fn llvm_major(version: &str) -> Option<u32> {
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.trim().parse().ok()
}

/// The toolchain that the workspace itself is built with has these rustup components.
///
/// # Errors
/// They are missing and rustup cannot add them.
pub fn ensure_host_components(logs: &Path) -> Result<()> {
    for (component, program) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let probe = duct::cmd(host::cargo(), [program, "--version"]);
        if probe.stdout_null().stderr_null().run().is_ok() {
            continue;
        }
        if self::program("rustup").is_none() {
            let package = if component == "clippy" { "rust-web-clippy" } else { "rustfmt-web" };
            packages::install(&[package], logs)?;
            continue;
        }
        let command = duct::cmd!("rustup", "component", "add", component);
        let log = logs.join(format!("{component}.log"));
        progress::step(&format!("rustup component add {component}"), &command, &log)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_script_asks_for_the_same_nightly() {
        let script = host::root().join("shadow-user/build.rs");
        let Ok(text) = fs::read_to_string(&script) else {
            return;
        };
        assert!(text.contains(NIGHTLY), "{} does not name {NIGHTLY}", script.display());
    }

    #[test]
    fn llvm_of_a_compiler() {
        let version = "rustc 1.96.0\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8";
        assert_eq!(llvm_major(version), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0"), None);
        assert_eq!(llvm_major("LLVM version: new"), None);
    }

    #[test]
    fn the_compilers_own_llvm_is_picked() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libLLVM-22-rust-1.97.0-nightly.so", "librustc_driver-1.so", "libLLVM.so.14"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(find_llvm(folder.path()).is_err());
        let right = folder.path().join("libLLVM.so.22.1-rust-1.97.0-nightly");
        fs::write(&right, "").unwrap();
        assert_eq!(find_llvm(folder.path()).unwrap(), right);
    }
}
