//! Builds the eBPF programs, which the daemon carries inside itself.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

/// The toolchain whose LLVM `bpf-linker` is built against.
const TOOLCHAIN: &str = "nightly-2026-05-19";
/// Names another toolchain, as where rustup cannot download one.
const TOOLCHAIN_VARIABLE: &str = "SHADOWTAP_EBPF_TOOLCHAIN";

const REMEDY: &str = "run `cargo xtask build`, which sets up what is missing";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // On one line, and without the backtrace that `main` would print.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    println!("cargo:rerun-if-env-changed={TOOLCHAIN_VARIABLE}");
    let toolchain = env::var(TOOLCHAIN_VARIABLE).unwrap_or_else(|_| TOOLCHAIN.to_owned());

    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("run by cargo")?);
    let workspace = manifest_dir.parent().context("shadow-user lies in the workspace")?;
    let programs = workspace.join("shadow-ebpf");
    for path in ["Cargo.lock", "Cargo.toml", "shadow-common"] {
        println!("cargo:rerun-if-changed={}", workspace.join(path).display());
    }

    // A plain `cargo build` and an editor find the linker that `cargo xtask setup` left.
    let tools = workspace.join("target/tools/bin");
    if tools.join("bpf-linker").exists() && which::which("bpf-linker").is_err() {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([tools].into_iter().chain(env::split_paths(&inherited)))?;
        // SAFETY: nothing else runs in this process yet.
        unsafe { env::set_var("PATH", path) };
    }

    // The linker writes the programs' BTF: another linker, other programs.
    match which::which("bpf-linker") {
        Ok(linker) => println!("cargo:rerun-if-changed={}", linker.display()),
        Err(_) => {
            println!("cargo:rerun-if-env-changed=PATH");
            bail!("`bpf-linker` is not on PATH; {REMEDY}");
        }
    }
    // Without rustup, aya-build takes PATH's own compiler, such as Debian's.
    let found = Command::new("rustup").args(["run", &toolchain, "rustc", "--version"]).output();
    if which::which("rustup").is_ok() && !found.is_ok_and(|output| output.status.success()) {
        bail!("the Rust toolchain `{toolchain}` is not installed; {REMEDY}");
    }

    // aya-build turns each line of progress into a warning.
    // SAFETY: nothing else runs in this process yet.
    unsafe { env::set_var("CARGO_TERM_QUIET", "true") };
    let root_dir = programs.to_str().context("the workspace's path is not UTF-8")?;
    aya_build::build_ebpf(
        [Package { name: "shadow-ebpf", root_dir, ..Package::default() }],
        Toolchain::Custom(&toolchain),
    )
    .with_context(|| format!("cannot build the eBPF programs with `{toolchain}`"))
}
