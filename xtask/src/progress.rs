//! One long step: a spinner on a terminal, a line now and then elsewhere, the log when it fails.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How often a step says that it lives where there is no terminal.
const QUIET: Duration = Duration::from_secs(20);
/// How much of the log is shown when a step fails.
const TAIL_LINES: usize = 30;

/// Runs `command` to its end with its output in `log`, and shows `title` while it lasts.
///
/// # Errors
/// The command could not be started or did not succeed; the error ends with the log's last lines.
pub fn step(title: &str, command: &duct::Expression, log: &Path) -> Result<()> {
    let started = Instant::now();
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let mut file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let bar = spinner(title)?;
    let child = command
        .stderr_to_stdout()
        .stdin_null()
        // rustup would follow its one-line error with a stack.
        .env("RUST_BACKTRACE", "0")
        .unchecked()
        .reader()
        .with_context(|| format!("{title}: cannot start {command:?}"))?;

    let mut spoke = Instant::now();
    for line in BufReader::new(&child).split(b'\n') {
        let line = line.with_context(|| format!("{title}: reading its output"))?;
        let line = String::from_utf8_lossy(&line);
        // A progress meter overwrites its own line; the last state is what matters.
        let line = line.trim_end().rsplit('\r').next().unwrap_or_default();
        writeln!(file, "{line}").with_context(|| format!("writing {}", log.display()))?;
        bar.set_message(line.to_owned());
        if bar.is_hidden() && spoke.elapsed() >= QUIET {
            spoke = Instant::now();
            eprintln!("{title}: {} s, {line}", started.elapsed().as_secs());
        }
    }
    let status = child.try_wait().with_context(|| format!("{title}: waiting for its end"))?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f32();
    match status {
        Some(output) if output.status.success() => {
            eprintln!("{title}: done in {seconds:.1} s");
            Ok(())
        }
        other => {
            let how = other.map_or_else(|| "no status".into(), |end| end.status.to_string());
            bail!("{title} failed after {seconds:.1} s ({how})\n{}", tail(log)?)
        }
    }
}

fn spinner(title: &str) -> Result<ProgressBar> {
    if !io::stderr().is_terminal() {
        eprintln!("{title} …");
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}")
        .context("progress template")?;
    let bar = ProgressBar::new_spinner().with_style(style).with_prefix(title.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    Ok(bar)
}

fn tail(log: &Path) -> Result<String> {
    let text = fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.len().saturating_sub(TAIL_LINES);
    Ok(format!(
        "{}\n(all of it: {})",
        lines.get(shown..).unwrap_or_default().join("\n"),
        log.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_shows_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("step.log");
        let command = duct::cmd!("sh", "-c", "seq 100; echo the reason >&2; exit 3");
        let error = step("trying", &command, &log).unwrap_err().to_string();
        assert!(error.contains("the reason"), "{error}");
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("\n100\n") && !error.contains("\n50\n"), "{error}");
    }

    #[test]
    fn a_step_keeps_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("sub/step.log");
        step("trying", &duct::cmd!("printf", "10%%\\r100%%\\n"), &log).unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "100%\n");
    }
}
