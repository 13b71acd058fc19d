//! The shadow that costs next to nothing: an eBPF program at the shadow host's `eth0` (its source says
//! what it does), and the empty program that others are measured against.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::PerCpuArray,
    programs::{SchedClassifier, TcAttachType},
};
use shadow_lab::Host;

use crate::{host, progress, setup::Ready};

/// The port that it answers.
pub const PORT: u16 = 9;

/// Builds the programs and says where they are.
///
/// # Errors
/// The build failed; says why.
pub fn build(ready: &Ready) -> Result<PathBuf> {
    let folder = host::root().join("target/sink");
    let target = folder.display().to_string();
    let command = ready.ebpf_cargo(&[
        "build",
        "--package",
        "shadow-ebpf",
        "--bin",
        "sink",
        "--features",
        "sink",
        "--release",
        "--target",
        "bpfel-unknown-none",
        "-Z",
        "build-std=core",
        "--target-dir",
        &target,
    ]);
    // As aya-build does for the daemon's programs.
    let arch = std::env::consts::ARCH;
    let flags = format!("--cfg=bpf_target_arch=\"{arch}\" -Cdebuginfo=2 -Clink-arg=--btf");
    let command = command.env("RUSTFLAGS", flags);
    progress::step("the benchmark's sink", &command, &ready.tools.join("logs/sink.log"))?;
    Ok(folder.join("bpfel-unknown-none/release/sink"))
}

/// One of the programs, loaded and attached at the ingress of a host's `eth0` until dropped.
pub struct Attached {
    programs: Ebpf,
    name: &'static str,
}

impl Attached {
    /// The sink.
    ///
    /// # Errors
    /// The kernel refused the programs, or to attach one.
    pub fn sink(object: &Path, host: &Host) -> Result<Self> {
        Self::attach(object, host, "sink")
    }

    /// The program that does nothing.
    ///
    /// # Errors
    /// As [`Attached::sink`].
    pub fn empty(object: &Path, host: &Host) -> Result<Self> {
        Self::attach(object, host, "empty")
    }

    fn attach(object: &Path, host: &Host, name: &'static str) -> Result<Self> {
        let bytes = std::fs::read(object).with_context(|| format!("read {}", object.display()))?;
        let programs = host.enter(|| {
            let mut programs = Ebpf::load(&bytes).context("load the sink's programs")?;
            let program: &mut SchedClassifier =
                programs.program_mut(name).context("no such program")?.try_into()?;
            program.load().with_context(|| format!("load {name}"))?;
            program
                .attach("eth0", TcAttachType::Ingress)
                .with_context(|| format!("attach {name} to eth0: TCX is from kernel 6.6"))?;
            anyhow::Ok(programs)
        })??;
        Ok(Self { programs, name })
    }

    /// Requests that the sink has answered since it was attached.
    ///
    /// # Errors
    /// The kernel refused to say.
    pub fn answered(&self) -> Result<u64> {
        let map = self.programs.map("COUNTS").context("the sink's counters")?;
        let counts = PerCpuArray::<_, u64>::try_from(map)?;
        Ok(counts.get(&0, 0).context("read the sink's counters")?.iter().sum())
    }

    /// Nanoseconds for each run, as the kernel's statistics have it; 0 before the first.
    ///
    /// # Errors
    /// The kernel refused to say.
    pub fn nanos(&self) -> Result<f64> {
        let program: &SchedClassifier =
            self.programs.program(self.name).context("no such program")?.try_into()?;
        let info = program.info()?;
        Ok(info.run_time().as_nanos() as f64 / info.run_count().max(1) as f64)
    }
}
