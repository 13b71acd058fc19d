//! Where the daemon's processor time goes, by perf, as flame graphs.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use duct::{Handle, cmd};
use inferno::{
    collapse::{Collapse as _, perf::Folder},
    flamegraph,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

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
    perf: Handle,
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
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self { perf, folder: folder.to_path_buf() })
    }

    /// Takes samples of all threads of a process from now on.
    ///
    /// # Errors
    /// perf does not start.
    pub fn record(&self, pid: u32) -> Result<Recording> {
        let data = self.folder.join(format!("{pid}.perf"));
        // Neither the daemon nor libc has frame pointers: stacks are unwound by what is told for exceptions.
        let arguments = ["record", "-F", FREQUENCY, "--call-graph", "dwarf,16384", "-p"];
        let arguments = arguments.map(str::to_owned).into_iter().chain([pid.to_string()]);
        let arguments = arguments.chain(["-o".to_owned(), data.display().to_string()]);
        let perf = cmd(&self.perf, arguments).stdout_null().stderr_capture().unchecked().start();
        Ok(Recording { perf: perf.context("start perf")?, data })
    }

    /// Ends it and draws `name`.svg; where that is.
    ///
    /// # Errors
    /// perf has taken no samples, or the folder cannot be written to.
    pub fn draw(&self, recording: Recording, name: &str, title: &str) -> Result<PathBuf> {
        let Recording { perf, data } = recording;
        for pid in perf.pids() {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT).context("end perf")?;
        }
        let said = perf.wait().context("wait for perf")?.stderr.clone();
        let said = String::from_utf8_lossy(&said);
        let samples = cmd!(&self.perf, "script", "--no-inline", "-i", &data);
        let samples = samples.stdout_capture().stderr_null().run();
        let samples = samples.with_context(|| format!("read perf's samples: {said}"))?.stdout;
        std::fs::remove_file(&data).context("remove perf's samples")?;
        let mut stacks = Vec::new();
        Folder::default().collapse(&*samples, &mut stacks).context("read perf's stacks")?;
        let path = self.folder.join(format!("{name}.svg"));
        let file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
        let mut options = flamegraph::Options::default();
        options.title = title.to_owned();
        options.min_width = NARROWEST;
        // The same function has the same colour in every graph.
        options.hash = true;
        flamegraph::from_reader(&mut options, &*stacks, file)
            .with_context(|| format!("draw {} (perf said: {said})", path.display()))?;
        Ok(path)
    }
}
