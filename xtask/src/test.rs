//! `cargo xtask test`: every check and test, each step named and timed, a table at the end.
//!
//! All cargo runs select the same packages, so that features unify the same way and no dependency is
//! compiled twice; a step picks its test targets by name instead.

use std::{
    cell::RefCell,
    env,
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_metadata::{MetadataCommand, TargetKind};
use clap::ValueEnum;

use crate::{
    build,
    host::{self, Privilege},
    setup::{self, Purpose, Ready},
    tally::{Failures, Tally},
    toolchain::Choice,
};

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Args {
    /// Only this step.
    step: Option<Step>,
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Run the remaining steps after one has failed.
    #[arg(long)]
    keep_going: bool,
}

/// The steps, in their order: what fails fastest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting.
    Fmt,
    /// Clippy on the workspace.
    Clippy,
    /// Clippy on the eBPF crate, for its own target.
    ClippyEbpf,
    /// Documentation, with its examples.
    Docs,
    /// Compile every test and the daemon.
    Compile,
    /// Unit tests.
    Unit,
    /// The engine against simulated peers.
    Sim,
    /// The eBPF programs in the kernel, alone.
    Ebpf,
    /// Namespaces, real servers, real clients.
    E2e,
}

/// What every cargo run selects; the eBPF crate builds for its own target only.
const WORKSPACE: &[&str] = &["--workspace", "--exclude", "shadow-ebpf"];
/// Package whose test targets need root: of the eBPF programs by name, else end-to-end.
const AS_ROOT: &str = "shadow-tests";
const EBPF_PREFIX: &str = "programs";
/// Package whose test targets are simulations.
const SIMULATIONS: &str = "shadow-engine";

/// Runs the verb: 0 when all that was asked for passed, else 1.
///
/// # Errors
/// Set-up failed; a failing step is no error but in the table.
pub fn run(choice: Choice, args: &Args) -> Result<ExitCode> {
    let steps: Vec<Step> = match args.step {
        Some(step) => vec![step],
        None => Step::value_variants().to_vec(),
    };
    // Better now than after minutes of compiling.
    ensure!(
        !steps.iter().any(|step| step.needs_root())
            || Privilege::of_this_process() != Privilege::None,
        "eBPF and end-to-end tests need root and there is no sudo; as root: cargo xtask test"
    );
    let targets = Targets::of_workspace()?;
    let started = Instant::now();
    let ready = setup::ensure(choice, Purpose::Test)?;
    let mut table = Table::default();
    table.add("setup", Outcome::Passed, started.elapsed());

    let failures = RefCell::default();
    let suite = Suite { ready, targets, filter: args.filter.clone(), failures };
    let mut total = Tally::default();
    let mut has_failed = false;
    for step in steps {
        let name = step.to_possible_value().map(|it| it.get_name().to_owned()).unwrap_or_default();
        if has_failed && !args.keep_going {
            table.add(&name, Outcome::NotRun, Duration::ZERO);
            continue;
        }
        println!("\n=== {name}");
        let started = Instant::now();
        let mut tally = Tally::default();
        let outcome = match suite.step(step, &mut tally) {
            Ok(()) => Outcome::Passed,
            Err(error) => {
                eprintln!("=== {name} failed: {error:#}");
                has_failed = true;
                // The last line never says "0 failed" when something did.
                tally.failed = tally.failed.max(1);
                Outcome::Failed
            }
        };
        total += tally;
        table.add(&name, outcome, started.elapsed());
    }
    for line in suite.failures.borrow().said() {
        println!("{line}");
    }
    print!("\n{}", table.render());
    println!("\n{} passed, {} failed", total.passed, total.failed);
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Step {
    fn needs_root(self) -> bool {
        matches!(self, Self::Ebpf | Self::E2e)
    }
}

/// What the steps share.
struct Suite {
    ready: Ready,
    targets: Targets,
    filter: Option<String>,
    failures: RefCell<Failures>,
}

impl Suite {
    fn step(&self, step: Step, tally: &mut Tally) -> Result<()> {
        let run = |args: &[&str]| succeed(&self.ready.cargo(args));
        match step {
            Step::Fmt => run(&["fmt", "--all", "--check"]),
            Step::Clippy => {
                run(&[&["clippy"], WORKSPACE, &["--all-targets", "--", "-D", "warnings"]].concat())
            }
            Step::ClippyEbpf => succeed(&self.clippy_ebpf()),
            Step::Docs => {
                let doc = self.ready.cargo([&["doc", "--no-deps"], WORKSPACE].concat());
                succeed(&doc.env("RUSTDOCFLAGS", "-D warnings"))?;
                self.test(&["--doc"], false, tally)
            }
            Step::Compile => self.daemon(&["--bins", "--tests"]).map(drop),
            Step::Unit => {
                let mut args = vec!["--lib", "--bins"];
                args.extend(self.targets.unit.iter().flat_map(|name| ["--test", name]));
                self.test(&args, false, tally)
            }
            Step::Sim => self.test_targets(&self.targets.simulations, false, tally),
            Step::Ebpf => self.test_targets(&self.targets.ebpf, true, tally),
            Step::E2e => self.test_targets(&self.targets.end_to_end, true, tally),
        }
    }

    fn clippy_ebpf(&self) -> duct::Expression {
        let command = self.ready.ebpf_cargo(&[
            "clippy",
            "--package",
            "shadow-ebpf",
            "--features",
            "sink",
            "--target",
            "bpfel-unknown-none",
            "-Z",
            "build-std=core",
            "--",
            "-D",
            "warnings",
        ]);
        // The kernel's register layout, which aya-build otherwise tells the crate.
        command.env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH))
    }

    /// The daemon with its debug assertions.
    ///
    /// Built along with `tests`: by itself it would have none of the features that the tests' own
    /// dependencies turn on, and be compiled twice with all that it stands on.
    fn daemon(&self, tests: &[&str]) -> Result<OsString> {
        let args = [&["build"], WORKSPACE, &["--bin", build::DAEMON], tests].concat();
        build::daemon_by(&self.ready, &args).map(Into::into)
    }

    fn test_targets(&self, names: &[String], as_root: bool, tally: &mut Tally) -> Result<()> {
        if names.is_empty() {
            println!("no test targets");
            return Ok(());
        }
        let args: Vec<&str> = names.iter().flat_map(|name| ["--test", name]).collect();
        self.test(&args, as_root, tally)
    }

    /// Runs cargo test, passes its output on and adds its results to `tally`.
    fn test(&self, selection: &[&str], as_root: bool, tally: &mut Tally) -> Result<()> {
        // One after the other all of them run, so that the totals are of everything.
        let mut args = [&["test", "--no-fail-fast"], WORKSPACE, selection].concat();
        let runner;
        if as_root && let Privilege::Sudo(sudo) = Privilege::of_this_process() {
            // sudo replaces PATH, the one that has the servers and clients in it.
            let path = format!("PATH={}", self.ready.path().to_string_lossy());
            let words = [&sudo.to_string_lossy(), "-E", "env", &path].map(|it| format!("{it:?}"));
            runner = format!("target.'cfg(unix)'.runner=[{}]", words.join(","));
            args.splice(1..1, ["--config", &runner]);
        }
        args.push("--");
        args.extend(self.filter.as_deref());
        if as_root {
            args.push("--test-threads=1");
        }
        let mut command = self.ready.cargo(args);
        if as_root {
            command = command.env("SHADOWTAP_BIN", self.daemon(selection)?);
        }
        let child = command.unchecked().reader().context("starting cargo test")?;
        for line in BufReader::new(&child).split(b'\n') {
            let mut line = line.context("reading cargo test")?;
            let text = String::from_utf8_lossy(&line);
            if let Some(result) = Tally::of_line(&text) {
                *tally += result;
            }
            self.failures.borrow_mut().line(&text);
            line.push(b'\n');
            io::stdout().write_all(&line).context("writing to standard output")?;
        }
        match child.try_wait().context("waiting for cargo test")? {
            Some(output) if output.status.success() => Ok(()),
            _ if tally.failed > 0 => bail!("{} tests failed", tally.failed),
            _ => bail!("cargo test failed"),
        }
    }
}

fn succeed(command: &duct::Expression) -> Result<()> {
    let output = command.unchecked().run().context("starting cargo")?;
    ensure!(output.status.success(), "{}", output.status);
    Ok(())
}

/// The workspace's integration test targets by step.
#[derive(Debug, Default, PartialEq, Eq)]
struct Targets {
    unit: Vec<String>,
    simulations: Vec<String>,
    ebpf: Vec<String>,
    end_to_end: Vec<String>,
}

impl Targets {
    fn of_workspace() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .cargo_path(host::cargo())
            .current_dir(host::root())
            .no_deps()
            .exec()
            .context("cargo metadata")?;
        let targets = metadata.packages.iter().flat_map(|package| {
            let tests = package.targets.iter().filter(|it| it.kind.contains(&TargetKind::Test));
            tests.map(|target| (package.name.as_str(), target.name.as_str()))
        });
        Self::sort(targets)
    }

    /// Sorts `(package, target)` pairs into steps.
    fn sort<'a>(targets: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut it = Self::default();
        let mut seen = Vec::new();
        for (package, target) in targets {
            // cargo test --test picks by name alone, from all packages.
            ensure!(!seen.contains(&target), "two test targets are named {target}; rename one");
            seen.push(target);
            let step = match package {
                SIMULATIONS => &mut it.simulations,
                AS_ROOT if target.starts_with(EBPF_PREFIX) => &mut it.ebpf,
                AS_ROOT => &mut it.end_to_end,
                _ => &mut it.unit,
            };
            step.push(target.to_owned());
        }
        Ok(it)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    NotRun,
}

/// Steps with their outcome and time.
#[derive(Default)]
struct Table(Vec<(String, Outcome, Duration)>);

impl Table {
    fn add(&mut self, name: &str, outcome: Outcome, time: Duration) {
        self.0.push((name.to_owned(), outcome, time));
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for (name, outcome, time) in &self.0 {
            let (word, seconds) = match outcome {
                Outcome::Passed => ("ok", format!("{:.1} s", time.as_secs_f32())),
                Outcome::Failed => ("FAILED", format!("{:.1} s", time.as_secs_f32())),
                Outcome::NotRun => ("not run", String::new()),
            };
            let line = format!("{name:<12} {word:<8} {seconds:>9}");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        let total: Duration = self.0.iter().map(|(_, _, time)| *time).sum();
        text + &format!("{:<12} {:<8} {:>9}\n", "all", "", format!("{:.1} s", total.as_secs_f32()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_go_to_their_steps() {
        let all = [
            ("shadow-engine", "conversations"),
            ("shadow-tests", "programs_tap"),
            ("shadow-tests", "nginx"),
            ("shadow-user", "command_line"),
        ];
        let it = Targets::sort(all.into_iter()).unwrap();
        assert_eq!(it.simulations, ["conversations"]);
        assert_eq!(it.ebpf, ["programs_tap"]);
        assert_eq!(it.end_to_end, ["nginx"]);
        assert_eq!(it.unit, ["command_line"]);
    }

    #[test]
    fn two_targets_of_one_name_are_refused() {
        let all = [("shadow-engine", "nginx"), ("shadow-tests", "nginx")];
        assert!(Targets::sort(all.into_iter()).is_err());
    }

    #[test]
    fn the_table_names_every_step() {
        let mut table = Table::default();
        table.add("fmt", Outcome::Passed, Duration::from_millis(1500));
        table.add("unit", Outcome::Failed, Duration::from_secs(90));
        table.add("e2e", Outcome::NotRun, Duration::ZERO);
        let lines: Vec<_> = table.render().lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "fmt          ok           1.5 s",
                "unit         FAILED      90.0 s",
                "e2e          not run",
                "all                      91.5 s",
            ]
        );
    }
}
