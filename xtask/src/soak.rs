//! `cargo xtask soak`: very many short flows through the real mirror, its memory watched.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use shadow_lab::{Lab, Mirror, Nginx, WrkResult, sum_metric, wrk_with};

use crate::{
    build,
    host::Privilege,
    setup::{self, Purpose},
    toolchain::Choice,
};

/// Ended flows that the mirror remembers, and more: tables have their final size after these.
const WARM_UP: u64 = 100_000;
/// What may come and go with the moment's load.
const TOLERANCE: u64 = 2 << 20;
const CONNECTIONS: u32 = 16;
const ROUND: Duration = Duration::from_secs(5);
const SAMPLE: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// Arguments of `soak`.
#[derive(clap::Args)]
pub struct Args {
    /// How many flows.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(150_000..=100_000_000))]
    flows: u64,
    /// The daemon, already built.
    #[arg(long, hide = true)]
    binary: Option<PathBuf>,
}

/// Runs the verb: success when memory stays flat and the books balance.
///
/// # Errors
/// Set-up or the build failed, or the hosts, servers or the mirror could not be started.
pub fn run(choice: Choice, args: &Args) -> Result<ExitCode> {
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build::daemon(&setup::ensure(choice, Purpose::Lab)?, true)?,
    };
    match Privilege::of_this_process() {
        Privilege::Root => soak(&binary, args.flows),
        Privilege::Sudo(sudo) => {
            eprintln!("network namespaces need root: going on through sudo");
            let this = env::current_exe().context("finding this program")?;
            let mut command = Command::new(sudo);
            command.arg("--").arg(this).args(["soak", "--flows", &args.flows.to_string()]);
            let status = command.arg("--binary").arg(binary).status().context("running sudo")?;
            Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Privilege::None => bail!("network namespaces need root; run as root, or install sudo"),
    }
}

/// The daemon's resident octets after so many flows.
#[derive(Clone, Copy)]
struct Sample {
    flows: u64,
    resident: u64,
}

fn soak(binary: &Path, flows: u64) -> Result<ExitCode> {
    let lab = Lab::new()?;
    let production = Nginx::start(&lab.production)?;
    let _shadow = Nginx::start(&lab.shadow)?;
    let to = lab.shadow.at4(80).to_string();
    let flags = ["--iface", "eth0", "--port", "80", "--shadow", &to, "--live", "off"];
    let mirror = Mirror::start_binary(binary, &lab.production, &flags)?;
    let url = format!("http://{}/quiet/small.txt", lab.production.v4);
    let began = Instant::now();
    let mut samples = Vec::new();
    let mut total = WrkResult::default();
    let mut seen = 0;
    while seen < flows {
        ensure!(began.elapsed() < LONGEST, "only {seen} flows in {LONGEST:?}");
        let close = ["-H", "Connection: close"];
        let result = thread::scope(|scope| {
            let load = scope.spawn(|| wrk_with(&lab.client, &url, CONNECTIONS, ROUND, &close));
            while !load.is_finished() {
                thread::sleep(SAMPLE);
                let metrics = mirror.metrics().unwrap_or_default();
                seen = sum_metric(&metrics, "shadowtap_flows_seen").map_or(seen, |sum| sum as u64);
                samples.push(Sample { flows: seen, resident: mirror.process.resident() });
            }
            load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        total.requests += result.requests;
        total.socket_errors += result.socket_errors;
        total.bad_statuses += result.bad_statuses;
        let mib = samples.last().map_or(0, |sample| sample.resident >> 20);
        let seconds = began.elapsed().as_secs();
        println!("{seconds:>5} s  {seen:>9} flows  {:>6.0}/s  {mib} MiB resident", result.rate);
    }
    let time = began.elapsed();
    let ended = mirror.stop()?;
    ensure!(ended.status.success(), "the mirror ended with {}: {}", ended.status, ended.stderr);
    println!("\nsummary of the mirror\n{:#}\n", ended.books.json());

    let mut problems = ended.books.imbalances();
    if ended.books.json()["balanced"] != true {
        problems.push(format!("the mirror says {}", ended.books.json()["imbalance"]));
    }
    if total.socket_errors + total.bad_statuses > 0 {
        problems.push(format!("production failed: {total:?}"));
    }
    let memory = Memory::of(&samples)?;
    problems.extend(memory.growth());
    let [seen, mirrored] = ["seen", "mirrored"].map(|key| ended.books.get(&format!("flows.{key}")));
    println!(
        "{} requests answered by production; {seen} flows seen, {mirrored} mirrored, {} skipped, \
         {} aborted, in {:.0} s ({:.0} flows/s)\nresident after {WARM_UP} flows: {memory}",
        total.requests,
        ended.books.sum("flows.skipped"),
        ended.books.sum("flows.aborted"),
        time.as_secs_f64(),
        seen as f64 / time.as_secs_f64(),
    );
    drop(production);
    for problem in &problems {
        println!("  WRONG {problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What samples after the warm-up say, octets.
#[derive(Debug, PartialEq)]
struct Memory {
    min: u64,
    median: u64,
    max: u64,
    /// Median of the first quarter, and of the last.
    quarters: [u64; 2],
}

impl Memory {
    fn of(samples: &[Sample]) -> Result<Self> {
        let warm: Vec<u64> = samples
            .iter()
            .filter(|sample| sample.flows >= WARM_UP && sample.resident > 0)
            .map(|sample| sample.resident)
            .collect();
        ensure!(warm.len() >= 8, "only {} samples after {WARM_UP} flows", warm.len());
        let quarter = warm.len() / 4;
        let quarters = [&warm[..quarter], &warm[warm.len() - quarter..]].map(median);
        let min = warm.iter().copied().min().unwrap_or_default();
        let max = warm.iter().copied().max().unwrap_or_default();
        Ok(Self { min, median: median(&warm), max, quarters })
    }

    /// What is wrong, if it has grown.
    fn growth(&self) -> Option<String> {
        let [first, last] = self.quarters;
        let allowed = first + TOLERANCE;
        (last > allowed).then(|| format!("memory has grown from {first} to {last} octets"))
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
        let Self { min, median, max, quarters: [first, last] } = *self;
        write!(f, "min {:.1}, median {:.1}, max {:.1} MiB; ", mib(min), mib(median), mib(max))?;
        write!(f, "median of the first quarter {:.1}, of the last {:.1}", mib(first), mib(last))
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(resident: impl Fn(u64) -> u64) -> Vec<Sample> {
        let flows = (0..100).map(|step| step * 5_000);
        flows.map(|flows| Sample { flows, resident: resident(flows) }).collect()
    }

    #[test]
    fn growth_while_warming_up_is_none() {
        let memory = Memory::of(&samples(|flows| (flows.min(90_000) << 10) + 1)).unwrap();
        assert_eq!(memory.growth(), None);
        assert_eq!((memory.min, memory.max), ((90_000 << 10) + 1, (90_000 << 10) + 1));
    }

    #[test]
    fn sixteen_octets_kept_of_every_flow_are_found() {
        let memory = Memory::of(&samples(|flows| (64 << 20) + flows * 16)).unwrap();
        assert!(memory.growth().is_some(), "{memory}");
    }

    #[test]
    fn too_few_samples_prove_nothing() {
        assert!(Memory::of(&samples(|_| 1)[..25]).is_err());
    }
}
