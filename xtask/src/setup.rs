//! `cargo xtask setup`, and what every other verb calls before it begins. A second run does nothing.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use crate::{
    bpffs, host, linker,
    packages::{self, BROWSER, LAB},
    toolchain::{self, Choice, Toolchain},
};

/// Arguments of `setup`.
#[derive(clap::Args)]
pub struct Args {
    /// Only what building the daemon needs: no servers and clients for demo and tests.
    #[arg(long)]
    build_only: bool,
}

/// What a verb is about to do, each including the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Build the daemon.
    Build,
    /// Start servers and clients beside it.
    Lab,
    /// Check the sources as well.
    Test,
}

/// A checkout in which everything for a [`Purpose`] is there.
pub struct Ready {
    /// What the eBPF crate is built with.
    pub toolchain: Toolchain,
    /// The folder of bpf-linker and of the logs.
    pub tools: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// Something is missing and cannot be installed; says what to install by hand.
pub fn run(choice: Choice, args: &Args) -> Result<ExitCode> {
    let purpose = if args.build_only { Purpose::Build } else { Purpose::Test };
    let ready = ensure(choice, purpose)?;
    let compiler = ready.toolchain.version.lines().next().unwrap_or_default();
    println!("ready: {compiler}, bpf-linker {}", linker::VERSION);
    Ok(ExitCode::SUCCESS)
}

/// Finds or installs what `purpose` needs, showing progress on what takes long.
///
/// # Errors
/// As [`run`].
pub fn ensure(choice: Choice, purpose: Purpose) -> Result<Ready> {
    let tools = tools_folder();
    fs::create_dir_all(&tools).with_context(|| format!("creating {}", tools.display()))?;
    // Two verbs at once in one checkout: the second waits and then finds everything done.
    let lock = File::create(tools.join(".lock")).context("creating the tools folder's lock")?;
    lock.lock().context("locking the tools folder")?;

    let logs = tools.join("logs");
    let toolchain = Toolchain::ensure(choice, &logs)?;
    linker::ensure(&tools, &toolchain)?;
    if purpose >= Purpose::Lab {
        packages::ensure(LAB, &logs)?;
        bpffs::ensure()?;
    }
    if purpose >= Purpose::Test {
        packages::ensure(BROWSER, &logs)?;
        toolchain::ensure_host_components(&logs)?;
        toolchain.ensure_clippy(&logs)?;
    }
    Ok(Ready { toolchain, tools })
}

/// `target/tools`, or where `SHADOWTAP_TOOLS` says, so that checkouts can share one.
pub fn tools_folder() -> PathBuf {
    env::var_os("SHADOWTAP_TOOLS")
        .map_or_else(|| host::root().join("target/tools"), |folder| host::root().join(folder))
}

impl Ready {
    /// Cargo for the workspace, in its root folder, with all that the daemon's build script needs.
    pub fn cargo<A: Into<OsString>>(&self, args: impl IntoIterator<Item = A>) -> duct::Expression {
        let command = duct::cmd(host::cargo(), args.into_iter().map(Into::into));
        self.with_environment(command)
    }

    /// Cargo of the eBPF crate's own toolchain, in the workspace's root folder.
    pub fn ebpf_cargo(&self, args: &[&str]) -> duct::Expression {
        self.with_environment(self.toolchain.command("cargo", args))
    }

    fn with_environment(&self, command: duct::Expression) -> duct::Expression {
        let mut command = command.dir(host::root()).env("PATH", self.path());
        if let Some(name) = self.toolchain.name.filter(|name| *name != toolchain::NIGHTLY) {
            command = command.env("SHADOWTAP_EBPF_TOOLCHAIN", name);
        }
        if self.toolchain.is_stable {
            command = command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    /// `PATH` with bpf-linker before everything else, system folders at the end.
    pub fn path(&self) -> OsString {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let folders = [self.tools.join("bin")]
            .into_iter()
            .chain(env::split_paths(&inherited))
            .chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
        // No part contains a colon except a tools folder that the user chose so.
        env::join_paths(folders).unwrap_or(inherited)
    }
}
