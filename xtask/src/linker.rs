//! bpf-linker, linked against the LLVM of the very compiler whose output it links.
//!
//! A mismatched pair fails, or succeeds with broken BTF; so a stamp beside the program names what it
//! was built from, and anything else than that is built again.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    host, progress,
    toolchain::{Llvm, Toolchain},
};

/// The version of bpf-linker; its cargo feature names the LLVM of [`crate::toolchain::NIGHTLY`].
pub const VERSION: &str = "0.13.0";
const LLVM_FEATURE: &str = "llvm-22";

/// Where bpf-linker lies in the tools folder.
pub fn program(tools: &Path) -> PathBuf {
    tools.join("bin/bpf-linker")
}

/// Whether the tools folder holds a bpf-linker that was built from just this toolchain.
///
/// # Errors
/// Says what is not as it should be.
pub fn check(tools: &Path, toolchain: &Toolchain) -> Result<()> {
    let program = program(tools);
    if !program.exists() {
        bail!("{} is missing", program.display());
    }
    let found = fs::read_to_string(stamp_file(tools)).unwrap_or_default();
    if found != stamp(tools, toolchain)? {
        bail!("{} was built for another compiler or folder", program.display());
    }
    let version = duct::cmd!(&program, "--version").stderr_null().read();
    let version = version.with_context(|| format!("{} does not start", program.display()))?;
    if !version.split_whitespace().any(|word| word == VERSION) {
        bail!("{} is not {VERSION} but {version}", program.display());
    }
    Ok(())
}

/// Builds bpf-linker unless [`check`] is content.
///
/// # Errors
/// The build failed.
pub fn ensure(tools: &Path, toolchain: &Toolchain) -> Result<()> {
    if check(tools, toolchain).is_ok() {
        return Ok(());
    }
    // Until the new one is complete there is none; a broken build is never taken for a good one.
    let _ = fs::remove_file(stamp_file(tools));
    let prefix = llvm_prefix(tools, toolchain);
    if let Llvm::Library(library) = &toolchain.llvm {
        link_library(&prefix.join("lib"), library)?;
    }
    let build = tools.join("build");
    let command = duct::cmd(
        host::cargo(),
        [
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--force",
            "--no-default-features",
            "--features",
            LLVM_FEATURE,
        ],
    );
    // cargo install reads no configuration of this workspace, whose folder it is not about.
    let command = command
        .dir(tools)
        .env("CARGO_TARGET_DIR", &build)
        .env("CARGO_INSTALL_ROOT", tools)
        .env("LLVM_PREFIX", &prefix)
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env_remove("RUSTC_BOOTSTRAP");
    let title = format!("bpf-linker {VERSION} (once, about a minute)");
    progress::step(&title, &command, &tools.join("logs/bpf-linker.log"))?;
    fs::remove_dir_all(&build).with_context(|| format!("removing {}", build.display()))?;
    fs::write(stamp_file(tools), stamp(tools, toolchain)?).context("writing bpf-linker's stamp")?;
    check(tools, toolchain)
}

fn stamp_file(tools: &Path) -> PathBuf {
    tools.join("bpf-linker.stamp")
}

fn llvm_prefix(tools: &Path, toolchain: &Toolchain) -> PathBuf {
    match &toolchain.llvm {
        Llvm::Library(_) => tools.join("llvm"),
        Llvm::Prefix(prefix) => prefix.clone(),
    }
}

/// All that makes another bpf-linker necessary when it changes.
fn stamp(tools: &Path, toolchain: &Toolchain) -> Result<String> {
    let library = match &toolchain.llvm {
        Llvm::Library(library) => library.clone(),
        Llvm::Prefix(prefix) => prefix.join("lib/libLLVM.so"),
    };
    let meta = fs::metadata(&library).with_context(|| format!("reading {}", library.display()))?;
    let modified = meta.modified().context("no modification time")?;
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // The program finds its LLVM by the absolute path it was linked with.
    let prefix = llvm_prefix(tools, toolchain);
    Ok(format!(
        "bpf-linker {VERSION} {LLVM_FEATURE}\n{}\nlibrary {} {} bytes of {modified}\nprefix {}\n",
        toolchain.version,
        library.display(),
        meta.len(),
        prefix.display(),
    ))
}

/// The compiler's library under its own name, for run time, and as `libLLVM.so`, for `-lLLVM`.
fn link_library(folder: &Path, library: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let name = library.file_name().context("a library without a name")?;
    for link in [folder.join(name), folder.join("libLLVM.so")] {
        symlink(library, &link).with_context(|| format!("linking {}", link.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A tools folder with a bpf-linker that only knows its version, and a toolchain to match.
    fn fixture(folder: &Path, says: &str) -> Toolchain {
        let library = folder.join("libLLVM.so.22.1-rust-x");
        fs::write(&library, "llvm").unwrap();
        let toolchain = Toolchain {
            name: Some("nightly"),
            is_stable: false,
            version: "rustc 1.97.0-nightly".into(),
            llvm: Llvm::Library(library),
        };
        fs::create_dir_all(folder.join("bin")).unwrap();
        let script = program(folder);
        fs::write(&script, format!("#!/bin/sh\necho bpf-linker {says}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(stamp_file(folder), stamp(folder, &toolchain).unwrap()).unwrap();
        toolchain
    }

    #[test]
    fn a_stamped_linker_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let toolchain = fixture(folder.path(), VERSION);
        check(folder.path(), &toolchain).unwrap();
        ensure(folder.path(), &toolchain).unwrap();
    }

    #[test]
    fn another_compiler_invalidates_the_linker() {
        let folder = tempfile::tempdir().unwrap();
        let mut toolchain = fixture(folder.path(), VERSION);
        toolchain.version = "rustc 1.98.0-nightly".into();
        assert!(check(folder.path(), &toolchain).is_err());
    }

    #[test]
    fn a_moved_compiler_invalidates_the_linker() {
        let folder = tempfile::tempdir().unwrap();
        let mut toolchain = fixture(folder.path(), VERSION);
        let moved = folder.path().join("moved");
        if let Llvm::Library(library) = &toolchain.llvm {
            fs::rename(library, &moved).unwrap();
        }
        assert!(check(folder.path(), &toolchain).is_err());
        toolchain.llvm = Llvm::Library(moved);
        assert!(check(folder.path(), &toolchain).is_err());
    }

    #[test]
    fn a_changed_library_invalidates_the_linker() {
        let folder = tempfile::tempdir().unwrap();
        let toolchain = fixture(folder.path(), VERSION);
        if let Llvm::Library(library) = &toolchain.llvm {
            fs::write(library, "another llvm").unwrap();
        }
        assert!(check(folder.path(), &toolchain).is_err());
    }

    #[test]
    fn a_moved_checkout_invalidates_the_linker() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("old");
        fs::create_dir(&old).unwrap();
        let toolchain = fixture(&old, VERSION);
        let new = folder.path().join("new");
        fs::create_dir(&new).unwrap();
        fs::rename(old.join("bin"), new.join("bin")).unwrap();
        fs::rename(stamp_file(&old), stamp_file(&new)).unwrap();
        assert!(check(&new, &toolchain).is_err());
    }

    #[test]
    fn an_unfinished_or_wrong_linker_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let toolchain = fixture(folder.path(), "0.12.9");
        assert!(check(folder.path(), &toolchain).is_err());
        let toolchain = fixture(folder.path(), VERSION);
        fs::remove_file(stamp_file(folder.path())).unwrap();
        assert!(check(folder.path(), &toolchain).is_err());
    }

    #[test]
    fn links_are_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let lib = folder.path().join("llvm/lib");
        link_library(&lib, Path::new("/a/libLLVM.so.22.1-rust-a")).unwrap();
        link_library(&lib, Path::new("/b/libLLVM.so.22.1-rust-b")).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&lib).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["libLLVM.so", "libLLVM.so.22.1-rust-b"]);
        assert_eq!(
            fs::read_link(lib.join("libLLVM.so")).unwrap(),
            Path::new("/b/libLLVM.so.22.1-rust-b")
        );
    }
}
