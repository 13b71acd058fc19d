//! `cargo xtask demo`: three hosts, real servers, a mix of traffic, the mirror, and the reckoning.

mod reckoning;
mod view;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use shadow_lab::{Lab, Mirror, Mix, Nginx, Progress, run_traffic};

use self::{reckoning::Reckoning, view::View};
use crate::{
    build,
    host::Privilege,
    setup::{self, Purpose},
    toolchain::Choice,
};

/// Requests per second: a load that leaves room for everything on two cores.
const RATE: u32 = 400;
const SEED: u64 = 2026;
/// How often the view is drawn.
const FRAME: Duration = Duration::from_millis(200);

/// Arguments of `demo`.
#[derive(clap::Args)]
pub struct Args {
    /// How long traffic runs.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The daemon to show, already built.
    #[arg(long, hide = true)]
    binary: Option<PathBuf>,
}

/// Runs the verb: success when every check holds.
///
/// # Errors
/// Set-up or the build failed, or the hosts, servers or the mirror could not be started.
pub fn run(choice: Choice, args: &Args) -> Result<ExitCode> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build::daemon(&setup::ensure(choice, Purpose::Lab)?, true)?,
    };
    match Privilege::of_this_process() {
        Privilege::Root => show(&binary, Duration::from_secs(args.seconds)),
        Privilege::Sudo(sudo) => {
            eprintln!("network namespaces need root: going on through sudo");
            let this = env::current_exe().context("finding this program")?;
            let mut command = Command::new(sudo);
            command.arg("--").arg(this).args(["demo", "--seconds", &args.seconds.to_string()]);
            let status = command.arg("--binary").arg(binary).status().context("running sudo")?;
            Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Privilege::None => bail!("network namespaces need root; run as root, or install sudo"),
    }
}

fn show(binary: &Path, duration: Duration) -> Result<ExitCode> {
    let lab = Lab::new()?;
    let production = Nginx::start(&lab.production)?;
    let shadow = Nginx::start(&lab.shadow)?;
    let to = lab.shadow.at4(80).to_string();
    let mirror = Mirror::start_binary(
        binary,
        &lab.production,
        &["--iface", "eth0", "--port", "80", "--shadow", &to, "--live", "off"],
    )?;
    println!(
        "three hosts: client {} → production {} (nginx, mirrored), shadow {} (nginx)",
        lab.client.v4, lab.production.v4, lab.shadow.v4
    );

    let targets = vec![lab.production.at4(80), lab.production.at6(80)];
    let mix = Mix { rate: Some(RATE), ..Mix::new(targets, SEED) };
    let progress = Progress::default();
    let began = Instant::now();
    let report = thread::scope(|scope| {
        let traffic = scope.spawn(|| run_traffic(&lab.client, &mix, &progress));
        let mut view = View::new(duration, &progress, &production, &mirror, &shadow);
        while began.elapsed() < duration && !traffic.is_finished() {
            thread::sleep(FRAME.min(duration.saturating_sub(began.elapsed())));
            view.draw(began.elapsed());
        }
        progress.stop.store(true, Ordering::Relaxed);
        traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;

    println!("\ntraffic has ended; stopping the mirror\n");
    let ended = mirror.stop()?;
    ensure!(ended.status.success(), "the mirror ended with {}: {}", ended.status, ended.stderr);
    let reckoning = Reckoning {
        report: &report,
        production: &production.log_of(report.completed.len())?,
        shadow: &shadow.log()?,
        books: &ended.books,
    };
    Ok(if reckoning.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
