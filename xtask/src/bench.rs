//! `cargo xtask bench`: Shadowtap and other mirrors side by side, on hosts made for it.
//!
//! In [`plan`] stands what is measured; each measurement is a [`sample`]: a [`load`] on the servers of a
//! [`stage`] while a [`subject`] mirrors. Samples become [`row`]s, and rows meet [`bars`] or miss them.

mod bars;
mod flame;
mod load;
mod machine;
mod plan;
mod plot;
mod probe;
mod results;
mod row;
mod sample;
mod sink;
mod stage;
mod subject;
mod table;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::sys::{Stats, enable_stats};

use self::{
    flame::Flames,
    load::Load,
    machine::Machine,
    plan::Plan,
    results::Results,
    row::Row,
    sample::Bench,
    stage::Stage,
    subject::{Peers, Subject},
};
use crate::{
    build,
    host::{self, Privilege},
    setup::{self, Purpose},
    toolchain::Choice,
};

/// Of the client that has 10,000 connections, and of a worker that serves most of them.
const FILES: u64 = 12_000;

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// Only what the bars are about, three times: less than three minutes.
    #[arg(long)]
    quick: bool,
    /// Another mirror's binary; may be repeated. Of tcpcopy, intercept is needed as well.
    #[arg(long, value_name = "gor|tcpcopy|intercept=PATH", value_parser = peer)]
    peer: Vec<(String, PathBuf)>,
    /// Only this load; may be repeated.
    #[arg(long)]
    load: Vec<Load>,
    /// Only this mirror; may be repeated. A ratio needs `none` beside it.
    #[arg(long)]
    mirror: Vec<Subject>,
    /// How often each is measured; medians are of these [default: 5, with --quick 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// How long each load runs [default: 3, with --quick 2]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// Where results and plots are written [default: bench/results; with --quick nowhere]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Flame graphs of the daemon, one for each load and mirror, by perf, into this folder. What is measured meanwhile
    /// counts perf's work.
    #[arg(long, value_name = "DIR")]
    flame: Option<PathBuf>,
    /// The daemon, already built.
    #[arg(long, hide = true)]
    binary: Option<PathBuf>,
    /// The sink, already built.
    #[arg(long, hide = true)]
    sink: Option<PathBuf>,
}

/// Runs the verb: success when it could measure, also when bars are missed.
///
/// # Errors
/// Set-up or a build failed, something did not start, or a mirror's books do not balance.
pub fn run(choice: Choice, args: &Args) -> Result<ExitCode> {
    let (binary, sink) = match (&args.binary, &args.sink) {
        (Some(binary), Some(sink)) => (binary.clone(), sink.clone()),
        _ => {
            let ready = setup::ensure(choice, Purpose::Lab)?;
            (build::daemon(&ready, true)?, sink::build(&ready)?)
        }
    };
    match Privilege::of_this_process() {
        Privilege::Root => measure(args, &binary, &sink),
        Privilege::Sudo(sudo) => {
            eprintln!("network namespaces need root: going on through sudo");
            let this = env::current_exe().context("finding this program")?;
            // All arguments again, with what has been built.
            let given: Vec<OsString> = env::args_os().skip(1).collect();
            let mut command = Command::new(sudo);
            command.arg("--").arg(this).args(given);
            let status = command.arg("--binary").arg(binary).arg("--sink").arg(sink).status();
            let status = status.context("running sudo")?;
            Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Privilege::None => bail!("network namespaces need root; run as root, or install sudo"),
    }
}

fn measure(args: &Args, binary: &Path, sink: &Path) -> Result<ExitCode> {
    let peers: Peers = args.peer.iter().cloned().collect();
    let mut plan = if args.quick { Plan::quick(&peers) } else { Plan::full(&peers) };
    plan.rounds = args.rounds.unwrap_or(plan.rounds);
    plan.time = args.seconds.map_or(plan.time, Duration::from_secs);
    if !args.load.is_empty() {
        plan.steps.retain(|(load, _)| args.load.contains(load));
    }
    if !args.mirror.is_empty() {
        for (_, subjects) in &mut plan.steps {
            subjects.retain(|subject| args.mirror.contains(subject));
        }
    }
    let machine = Machine::of_this_host()?;
    println!("{}", machine.line());
    allow_files()?;
    let flames = args.flame.as_deref().map(Flames::new).transpose()?;
    let _statistics = enable_stats(Stats::RunTime).context("turn eBPF statistics on")?;
    let stage = Stage::new(sink, &peers)?;
    let bench =
        Bench { stage: &stage, binary, peers: &peers, time: plan.time, flames: flames.as_ref() };
    let began = Instant::now();
    let all = plan.measurements().count();
    let mut samples = Vec::with_capacity(all);
    for (round, load, subject) in plan.measurements() {
        let sample = bench
            .measure(load, subject, round)
            .with_context(|| format!("{load}, {subject}, round {}", round + 1))?;
        samples.push(sample);
        let (at, seconds) = (samples.len(), began.elapsed().as_secs());
        eprintln!(
            "{seconds:>5} s  {at:>3}/{all}  {load}, {subject}: {:.0}/s",
            samples[at - 1].rate
        );
    }
    let rows = Row::all(&samples);
    let bars = bars::all(&rows);
    println!("{}\nbars\n{}", table::rows(&rows), table::bars(&bars));
    let missed = bars.iter().filter(|bar| bar.is_met() == Some(false)).count();
    let met = bars.iter().filter(|bar| bar.is_met() == Some(true)).count();
    println!("{met} bars met, {missed} missed, in {:.0} s", began.elapsed().as_secs_f64());
    let folder = match (&args.out, args.quick) {
        (Some(folder), _) => folder.clone(),
        (None, true) => return Ok(ExitCode::SUCCESS),
        (None, false) => host::root().join("bench/results"),
    };
    let results =
        Results { machine, rounds: plan.rounds, seconds: plan.time.as_secs(), bars, rows, samples };
    for path in results.write(&folder)? {
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Ten thousand clients, and whoever serves them, need as many files each.
fn allow_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = most.unwrap_or(u64::MAX).min(1 << 17);
    ensure!(limit >= FILES, "{limit} files may be open, {FILES} are needed: raise `ulimit -Hn`");
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: most })
        .context("allow more open files")
}

fn peer(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=PATH")?;
    if !["gor", "tcpcopy", "intercept"].contains(&name) {
        return Err(format!("{name}: expected gor, tcpcopy or intercept"));
    }
    let path = Path::new(path).canonicalize().map_err(|error| format!("{path}: {error}"))?;
    Ok((name.to_owned(), path))
}
