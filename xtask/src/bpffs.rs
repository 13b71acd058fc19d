//! The BPF file system, on which guards are pinned.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::host::Privilege;

/// Where systemd mounts it, and where the daemon looks for it.
const MOUNT_POINT: &str = "/sys/fs/bpf";

/// What mounts it by hand.
pub const REMEDY: &str = "mount -t bpf bpf /sys/fs/bpf";

/// Where it is mounted.
pub fn mounted() -> Option<PathBuf> {
    let mounts = procfs::process::Process::myself().and_then(|process| process.mountinfo()).ok()?;
    mounts.into_iter().find(|mount| mount.fs_type == "bpf").map(|mount| mount.mount_point)
}

/// Mounts it where nobody has: a container, or a host without systemd.
///
/// # Errors
/// No way to become root, or the kernel refuses; says what to do by hand.
pub fn ensure() -> Result<()> {
    if mounted().is_some() {
        return Ok(());
    }
    let privilege = Privilege::of_this_process();
    let mount = privilege
        .command(Path::new("/bin/mount"), &["-t", "bpf", "bpf", MOUNT_POINT])
        .with_context(|| {
            format!("no BPF file system and neither root nor sudo; as root: {REMEDY}")
        })?;
    let output = mount.unchecked().run().context("running mount")?;
    ensure!(output.status.success(), "no BPF file system; remedy: as root, {REMEDY}");
    Ok(())
}
