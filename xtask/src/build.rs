//! `cargo xtask build`: the daemon with the eBPF programs inside it.

use std::{io::BufReader, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Message;

use crate::{
    setup::{self, Purpose, Ready},
    toolchain::Choice,
};

/// The daemon's binary.
pub const DAEMON: &str = "shadowtap";

/// Arguments of `build`.
#[derive(clap::Args)]
pub struct Args {
    /// Unoptimised, with the debug assertions on the books.
    #[arg(long)]
    pub debug: bool,
}

/// Runs the verb.
///
/// # Errors
/// Set-up or the build failed.
pub fn run(choice: Choice, args: &Args) -> Result<ExitCode> {
    let ready = setup::ensure(choice, Purpose::Build)?;
    println!("{}", daemon(&ready, !args.debug)?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the daemon and says where cargo left it.
///
/// # Errors
/// The build failed; cargo has printed why.
pub fn daemon(ready: &Ready, release: bool) -> Result<PathBuf> {
    let mut args = vec!["build", "--package", "shadow-user", "--bin", DAEMON];
    if release {
        args.push("--release");
    }
    daemon_by(ready, &args)
}

/// Runs a `cargo build …` that makes the daemon, among others, and says where cargo left it.
///
/// # Errors
/// The build failed; cargo has printed why.
pub fn daemon_by(ready: &Ready, args: &[&str]) -> Result<PathBuf> {
    let json = "--message-format=json-render-diagnostics";
    let args: Vec<&str> = args.iter().copied().chain([json]).collect();
    let child = ready.cargo(&args).unchecked().reader().context("starting cargo")?;
    let mut found = None;
    for message in Message::parse_stream(BufReader::new(&child)) {
        if let Message::CompilerArtifact(artifact) = message.context("reading cargo's messages")?
            && artifact.target.name == DAEMON
            && !artifact.profile.test
        {
            found = artifact.executable.map(Into::into).or(found);
        }
    }
    match child.try_wait().context("waiting for cargo")? {
        Some(output) if output.status.success() => found.context("cargo made no daemon"),
        _ => bail!("cargo {} failed", args.join(" ")),
    }
}
