//! Where the daemon's processor time goes, by perf, as flame graphs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use duct::cmd;
use inferno::{
    collapse::{Collapse as _, perf::Folder},
    flamegraph,
};
use nix::sys::signal::Signal;
use shadow_lab::{Host, Process};

use super::{load::Load, subject::Subject};

/// Samples per second and processor.
const FREQUENCY: &str = "499";
/// Frames narrower than this are left out, per cent.
const NARROWEST: f64 = 0.2;

/// A folder of flame graphs.
pub struct Flames {
    perf: PathBuf,
    folder: PathBuf,
}

/// A process whose samples are being taken.
pub struct Recording {
    perf: Process,
    data: PathBuf,
}

impl Flames {
    /// Writes to `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// perf is missing, or the folder cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        let perf = which::which("perf")
            .context("--flame needs perf: install it, on Debian by `apt-get install linux-perf`")?;
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self { perf, folder: folder.to_path_buf() })
    }

    /// Takes samples of all threads of a process of this host from now on.
    ///
    /// # Errors
    /// perf does not start.
    pub fn record(&self, host: &Host, pid: u32) -> Result<Recording> {
        let data = host.folder().join("perf.data");
        let mut command = host.command(&self.perf);
        // Neither the daemon nor libc has frame pointers: stacks are unwound by what is told for exceptions.
        command.args(["record", "-F", FREQUENCY, "--call-graph", "dwarf,16384"]);
        command.args(["-p", &pid.to_string(), "-o"]).arg(&data);
        Ok(Recording { perf: host.spawn("perf", &mut command)?, data })
    }

    /// Ends it and draws the graph of a load and a mirror.
    ///
    /// # Errors
    /// perf has taken no samples, or the folder cannot be written to.
    pub fn draw(&self, recording: Recording, load: Load, subject: Subject) -> Result<()> {
        let Recording { mut perf, data } = recording;
        perf.stop(Signal::SIGINT, Duration::from_secs(10))?;
        let said = perf.stderr();
        let samples = cmd!(&self.perf, "script", "--no-inline", "-i", &data);
        let samples = samples.stdout_capture().stderr_null().run();
        let samples = samples.with_context(|| format!("read perf's samples: {said}"))?.stdout;
        fs::remove_file(&data).context("remove perf's samples")?;
        let mut stacks = Vec::new();
        Folder::default().collapse(&*samples, &mut stacks).context("read perf's stacks")?;
        let path = self.folder.join(format!("{}-{}.svg", name(load), name(subject)));
        let file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
        let mut options = flamegraph::Options::default();
        options.title = format!("{load}, {subject}");
        options.min_width = NARROWEST;
        // The same function has the same colour in every graph.
        options.hash = true;
        flamegraph::from_reader(&mut options, &*stacks, file)
            .with_context(|| format!("draw {} (perf said: {said})", path.display()))
    }
}

/// What the command line calls it.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
