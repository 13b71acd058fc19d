//! `cargo xtask demo`: three hosts, real servers, a mix of traffic, the mirror, and the reckoning.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use shadow_lab::{
    Books, Entry, Lab, Mirror, Mix, Nginx, Progress, Report, check_against_client, compare,
    run_traffic,
};

use crate::{
    build,
    host::Privilege,
    setup::{self, Purpose},
    toolchain::Choice,
};

/// Requests per second: a load that leaves room for everything on two cores.
const RATE: u32 = 400;
const SEED: u64 = 2026;
/// How often the view is drawn on a terminal, and how often a line is printed elsewhere.
const FRAME: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(2);

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
        let mut view = View::new(duration);
        while began.elapsed() < duration && !traffic.is_finished() {
            thread::sleep(FRAME.min(duration.saturating_sub(began.elapsed())));
            view.draw(began.elapsed(), &progress, &production, &mirror, &shadow);
        }
        progress.stop.store(true, Ordering::Relaxed);
        traffic.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;

    println!("\ntraffic has ended; stopping the mirror");
    let ended = mirror.stop()?;
    ensure!(ended.status.success(), "the mirror ended with {}: {}", ended.status, ended.stderr);
    let reckoning = Reckoning {
        report: &report,
        production: &production.log_of(report.completed.len())?,
        shadow: &shadow.log()?,
        books: &ended.books,
    };
    println!("\nsummary of the mirror\n{:#}\n", ended.books.json());
    Ok(if reckoning.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The live view: redrawn in place on a terminal, else a line now and then.
struct View {
    duration: Duration,
    in_place: bool,
    drawn: bool,
    spoke: Duration,
}

impl View {
    fn new(duration: Duration) -> Self {
        let in_place = io::stdout().is_terminal();
        Self { duration, in_place, drawn: false, spoke: Duration::ZERO }
    }

    fn draw(
        &mut self,
        elapsed: Duration,
        progress: &Progress,
        production: &Nginx,
        mirror: &Mirror,
        shadow: &Nginx,
    ) {
        if !self.in_place && elapsed < self.spoke + LINE && elapsed < self.duration {
            return;
        }
        self.spoke = elapsed;
        let metrics = mirror.metrics().unwrap_or_default();
        let metric = |name: &str| {
            let sum = shadow_lab::sum_metric(&metrics, &format!("shadowtap_{name}"));
            sum.map_or_else(|| "-".to_owned(), |sum| format!("{sum:.0}"))
        };
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let rows = [
            (
                "client",
                format!(
                    "{} requests sent, {} answered, {} failed, {} connections, {:.1} MB uploaded",
                    count(&progress.sent),
                    count(&progress.completed),
                    count(&progress.failed),
                    count(&progress.connections),
                    count(&progress.body_bytes) as f64 / 1e6
                ),
            ),
            ("production", format!("{} requests in its access log", production.logged())),
            (
                "mirror",
                format!(
                    "{} packets captured, {} lost; {} flows; {} requests seen, {} delivered, {} answered",
                    metric("packets_captured"),
                    metric("packets_lost"),
                    metric("flows_seen"),
                    metric("requests_seen"),
                    metric("requests_delivered"),
                    metric("requests_answered")
                ),
            ),
            ("shadow", format!("{} requests in its access log", shadow.logged())),
        ];
        let mut text = String::new();
        if self.in_place && self.drawn {
            text += &format!("\x1b[{}A", rows.len() + 1);
        }
        self.drawn = true;
        let clear = if self.in_place { "\x1b[K" } else { "" };
        let (now, end) = (elapsed.as_secs_f64(), self.duration.as_secs());
        text += &format!("{clear}{now:5.1} of {end} s\n");
        for (name, row) in rows {
            text += &format!("{clear}  {name:<11}{row}\n");
        }
        let mut output = io::stdout().lock();
        // A closed terminal ends the demo by signal; a lost frame is no reason to.
        let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    }
}

/// Everything that was claimed, beside everything that was seen.
struct Reckoning<'a> {
    report: &'a Report,
    production: &'a [Entry],
    shadow: &'a [Entry],
    books: &'a Books,
}

impl Reckoning<'_> {
    /// Prints each check; whether all hold.
    fn print(&self) -> bool {
        let checks = self.checks();
        for (what, problem) in &checks {
            match problem {
                None => println!("  ok    {what}"),
                Some(problem) => println!("  WRONG {what}: {problem}"),
            }
        }
        let holds = checks.iter().all(|(_, problem)| problem.is_none());
        let shadowed = self.shadow.len();
        println!(
            "\n{}: {} requests answered by production, {shadowed} received by the shadow; \
             latency at the client p50 {:.1?}, p99 {:.1?}",
            if holds { "the books balance" } else { "THE BOOKS DO NOT BALANCE" },
            self.report.completed.len(),
            self.report.latency(50),
            self.report.latency(99),
        );
        holds
    }

    /// What is checked, and what is wrong with it.
    fn checks(&self) -> Vec<(String, Option<String>)> {
        let [seen, delivered, answered] =
            ["seen", "delivered", "answered"].map(|key| self.books.get(&format!("requests.{key}")));
        // What the mirror says it did not deliver may be missing or cut short, and nothing else.
        let admitted = seen.saturating_sub(delivered);
        let mut whole = self.shadow.to_vec();
        if admitted > 0 {
            whole.retain(|entry| !entry.is_cut_short());
        }
        let production = check_against_client(&self.report.completed, self.production);
        let mut shadow = compare(self.production, &whole);
        if shadow.missing.len() as u64 <= admitted {
            shadow.missing.clear();
        }
        let failed = self.report.failures.first().cloned();
        let imbalances = self.books.imbalances();
        let (logged, wanted) = (whole.len() as u64, self.production.len() as u64);
        vec![
            ("production answered every request as it should".into(), failed),
            (
                "production's log has each request exactly once".into(),
                (!production.is_empty()).then(|| production.to_string()),
            ),
            (
                format!("the shadow's log has each exactly once, {admitted} admitted undelivered"),
                (!shadow.is_empty()).then(|| shadow.to_string()),
            ),
            (
                format!("requests.seen is what production's log holds: {wanted}"),
                (seen != wanted).then(|| format!("it is {seen}")),
            ),
            (
                format!(
                    "requests.answered and .delivered are what the shadow's log holds: {logged}"
                ),
                (!(answered..=delivered).contains(&logged))
                    .then(|| format!("they are {answered} and {delivered}")),
            ),
            (
                "every flow, byte and request is in exactly one bucket".into(),
                (!imbalances.is_empty()).then(|| imbalances.join("; ")),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shadow_lab::Completed;

    fn entry(id: &str) -> Entry {
        let line = format!(
            r#"{{"id":"{id}","method":"GET","uri":"/","status":200,"request_length":40,
            "response_length":64,"body_sha256":"","completion":"OK","connection":1,"at":0.5}}"#
        );
        Entry::parse(&line).unwrap()
    }

    fn books(seen: u64, delivered: u64) -> Books {
        let text = format!(
            r#"{{"version":"0.1.0","duration_seconds":20.0,
            "packets":{{"captured":9,"lost":{{"ring_full":0}}}},
            "flows":{{"seen":1,"mirrored":1,"skipped":{{}},"aborted":{{}},"open":0}},
            "bytes":{{"captured":80,"delivered":80}},
            "requests":{{"seen":{seen},"delivered":{delivered},"answered":{delivered}}}}}"#
        );
        Books::parse(&text).unwrap()
    }

    /// What is wrong when production answered `a` and `b`.
    fn problems(shadow: &[Entry], books: &Books) -> Vec<String> {
        let completed = |id: &str| Completed {
            id: id.into(),
            method: "GET",
            uri: "/".into(),
            status: 200,
            body_sha256: None,
            body_len: 0,
            latency: Duration::from_millis(1),
        };
        let report =
            Report { completed: vec![completed("a"), completed("b")], ..Report::default() };
        let production = [entry("a"), entry("b")];
        let reckoning = Reckoning { report: &report, production: &production, shadow, books };
        reckoning.checks().into_iter().filter_map(|(_, problem)| problem).collect()
    }

    #[test]
    fn equal_logs_and_true_claims_hold() {
        let found = problems(&[entry("b"), entry("a")], &books(2, 2));
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_request_that_is_missing_without_admission_is_wrong() {
        let found = problems(&[entry("a")], &books(2, 2));
        assert!(found[0].contains("1 missing (first: b)"), "{found:?}");
        assert!(problems(&[entry("a")], &books(2, 1)).is_empty());
    }

    #[test]
    fn a_claim_beyond_the_log_and_a_repeated_request_are_wrong() {
        let found = problems(&[entry("a"), entry("b"), entry("b")], &books(2, 2));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("1 repeated"), "{found:?}");
    }
}
