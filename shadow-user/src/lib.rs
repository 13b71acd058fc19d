//! Shadowtap's daemon as a library, for its tests.

use std::process::ExitCode;

use clap::Parser as _;

pub mod cli;
pub mod config;
pub mod host;
pub mod kernel;
pub mod lock;
mod log;
pub mod mirror;
pub mod preflight;
pub mod setting;

use cli::{Cli, Command};
use config::Config;
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
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<Refusal>() {
            Some(refusal) => complain(&refusal.to_string(), REFUSED),
            None => complain(&format!("{error:#}"), FAILED),
        },
    }
}

fn complain(message: &str, status: u8) -> ExitCode {
    eprintln!("shadowtap: {message}");
    ExitCode::from(status)
}
