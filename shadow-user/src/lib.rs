//! Shadowtap's daemon as a library, for its tests.

use std::process::ExitCode;

use clap::Parser as _;

pub mod announce;
pub mod check;
pub mod choice;
pub mod cli;
pub mod compare;
pub mod comparing;
pub mod config;
pub mod control;
pub mod ctl;
pub mod finding;
pub mod guard;
pub mod host;
pub mod http;
pub mod kernel;
pub mod links;
pub mod live;
pub mod lock;
mod log;
pub mod manual;
pub mod middleware;
pub mod mirror;
pub mod next_hop;
mod notice;
pub mod preflight;
pub mod pressure;
mod ramp;
pub mod rates;
pub mod report;
pub mod route;
pub mod services;
pub mod setting;
pub mod shadows;
pub mod supervisor;
pub mod web;
pub mod worker;

use cli::{Cli, Command, ConfigCommand};
use config::Config;
use kernel::KernelError;
use setting::Refusal;

/// Ends a process that was refused before anything was attached.
const REFUSED: u8 = 2;
/// Ends a process that failed while it ran.
const FAILED: u8 = 1;

/// The whole process: its command line in, its exit status out.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // `--help` and `--version` arrive here, too.
        Err(message) if !message.use_stderr() => {
            let _ = message.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return complain(&cli::one_line(&error), REFUSED),
    };
    let result = match cli.command {
        Command::Mirror(flags) => {
            Config::load(*flags).map_err(anyhow::Error::from).and_then(mirror::run)
        }
        Command::Check(flags) => {
            Config::load(*flags).map_err(anyhow::Error::from).and_then(check::run)
        }
        Command::Route(command) => route::run(command),
        Command::Guard(command) => guard::run(command),
        Command::Ctl(args) => ctl::run(args),
        Command::Config(ConfigCommand::Check(args)) => {
            Config::check_file(*args).map_err(anyhow::Error::from)
        }
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_refusal(&error) => complain(&format!("{error:#}"), REFUSED),
        Err(error) => complain(&format!("{error:#}"), FAILED),
    }
}

/// Whether something outside stands against starting, which only the user can change.
fn is_refusal(error: &anyhow::Error) -> bool {
    let by_kernel = matches!(
        error.downcast_ref(),
        Some(
            KernelError::NoSuchInterface(_)
                | KernelError::NoBpffs(_)
                | KernelError::NotPermitted { .. }
                | KernelError::TooOld { .. }
                | KernelError::TooMany { .. }
        )
    );
    by_kernel || error.is::<Refusal>()
}

fn complain(message: &str, status: u8) -> ExitCode {
    eprintln!("shadowtap: {message}");
    ExitCode::from(status)
}
