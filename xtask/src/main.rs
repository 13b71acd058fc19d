//! Everything that is done with a checkout, as `cargo xtask <verb>`: one file per verb.
//!
//! Verbs: [`setup`], [`doctor`], [`build`], [`run`], [`demo`], [`soak`], [`mod@bench`], [`mod@test`]. What they stand on: [`host`] (this
//! machine), [`toolchain`] and [`linker`] (what the eBPF crate is built with), [`packages`] (servers
//! and clients that the tests use), [`bpffs`] (where guards are pinned), [`progress`] (how a long step is shown), [`tally`] (test results
//! added up).

mod bench;
mod bpffs;
mod build;
mod demo;
mod doctor;
mod host;
mod linker;
mod packages;
mod progress;
mod run;
mod setup;
mod soak;
mod tally;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Work on a Shadowtap checkout. Every verb first installs what it needs and is missing.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// What builds the eBPF crate.
    #[arg(long, global = true, env = "SHADOWTAP_TOOLCHAIN", default_value = "auto", hide = true)]
    toolchain: toolchain::Choice,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what the other verbs need, unless it is there.
    Setup(setup::Args),
    /// Say what is there and what is missing; change nothing.
    Doctor,
    /// Build the daemon into target/release/shadowtap.
    Build(build::Args),
    /// Build the daemon and run it, through sudo when not root.
    Run(run::Args),
    /// Mirror a mix of traffic between three hosts made for it, and reckon up at the end.
    Demo(demo::Args),
    /// Mirror very many short flows, and watch the memory of the mirror.
    Soak(soak::Args),
    /// Measure production, the shadow and the mirror under load, beside other mirrors.
    Bench(bench::Args),
    /// Check and test everything; what needs root goes through sudo when not root.
    Test(test::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Setup(args) => setup::run(cli.toolchain, &args),
        Verb::Doctor => doctor::run(cli.toolchain),
        Verb::Build(args) => build::run(cli.toolchain, &args),
        Verb::Run(args) => run::run(cli.toolchain, &args),
        Verb::Demo(args) => demo::run(cli.toolchain, &args),
        Verb::Soak(args) => soak::run(cli.toolchain, &args),
        Verb::Bench(args) => bench::run(cli.toolchain, &args),
        Verb::Test(args) => test::run(cli.toolchain, &args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
