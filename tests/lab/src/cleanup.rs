//! What a lab leaves in the kernel and on disk, and how all of it is removed.
//!
//! Names carry the pid of their maker, so that a later run can tell the leftovers of the dead
//! from the labs of the living.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, Once};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::wait::wait_until;

/// Begins the name of every namespace and folder that a lab makes.
pub(crate) const PREFIX: &str = "st";
const NAMESPACES: &str = "/run/netns";
/// Below are guards that are pinned, by the inode of their network namespace.
pub(crate) const PINS: &str = "/sys/fs/bpf/shadowtap";

/// Namespaces and folder of every living lab of this process, by the lab's name.
static LIVING: Mutex<BTreeMap<String, Leftovers>> = Mutex::new(BTreeMap::new());
static SIGNALS: Once = Once::new();

#[derive(Default)]
struct Leftovers {
    namespaces: Vec<String>,
    folder: Option<PathBuf>,
}

fn living() -> MutexGuard<'static, BTreeMap<String, Leftovers>> {
    LIVING.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The folder of the lab `name`.
pub(crate) fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// Registers before creating, so that no moment is left in which a signal finds an unknown thing.
pub(crate) fn register(lab: &str, namespaces: &[String], folder: &Path) {
    watch_signals();
    let leftovers =
        Leftovers { namespaces: namespaces.to_vec(), folder: Some(folder.to_path_buf()) };
    living().insert(lab.to_owned(), leftovers);
}

/// Removes everything that `lab` has made. Does nothing the second time.
pub(crate) fn remove(lab: &str) {
    if let Some(leftovers) = living().remove(lab) {
        leftovers.remove();
    }
}

impl Leftovers {
    fn remove(self) {
        for namespace in &self.namespaces {
            delete_namespace(namespace);
        }
        if let Some(folder) = self.folder.filter(|_| std::env::var_os("SHADOW_LAB_KEEP").is_none())
        {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Ends what still runs inside, then the namespace; its interfaces go with it.
fn delete_namespace(name: &str) {
    let Ok(namespace) = fs::metadata(Path::new(NAMESPACES).join(name)) else { return };
    let pids = pids_in(name);
    for &pid in &pids {
        let _ = kill(pid, Signal::SIGKILL);
    }
    // Children of this process stay zombies until their owner waits; a zombie holds no namespace.
    let _ = wait_until("processes to end", Duration::from_secs(2), || pids_in(name).is_empty());
    let _ = Command::new("ip")
        .args(["netns", "delete", name])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // Guards outlive their daemons, and the number of a namespace is soon another's.
    let _ = fs::remove_dir_all(Path::new(PINS).join(namespace.ino().to_string()));
}

/// Processes in the namespace, this one aside: its threads may have entered, it has not.
fn pids_in(namespace: &str) -> Vec<Pid> {
    let output = Command::new("ip").args(["netns", "pids", namespace]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .map(Pid::from_raw)
        .filter(|&pid| pid != Pid::this())
        .collect()
}

/// Removes what labs of dead processes left behind.
///
/// # Errors
/// When `/run/netns` or the folder for temporary files exists but cannot be read.
pub fn sweep() -> Result<()> {
    for name in names_in(Path::new(NAMESPACES))? {
        if is_of_the_dead(&name) {
            delete_namespace(&name);
        }
    }
    let folders = std::env::temp_dir();
    for name in names_in(&folders)? {
        if is_of_the_dead(&name) {
            let _ = fs::remove_dir_all(folders.join(name));
        }
    }
    Ok(())
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// `st-<pid>-…` whose pid runs no more.
fn is_of_the_dead(name: &str) -> bool {
    let mut parts = name.split('-');
    let ours = parts.next() == Some(PREFIX);
    let pid = parts.next().and_then(|pid| pid.parse::<u32>().ok());
    ours && parts.next().is_some()
        && pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// A lab may not outlive its process: on a deadly signal clean up, then die of that signal.
fn watch_signals() {
    SIGNALS.call_once(|| {
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                for (_, leftovers) in std::mem::take(&mut *living()) {
                    leftovers.remove();
                }
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_dead_pid_are_leftovers() {
        let own = std::process::id();
        assert!(!is_of_the_dead(&format!("st-{own}-0-client")));
        // Above the largest pid that the kernel allows (PID_MAX_LIMIT, 4,194,304).
        assert!(is_of_the_dead("st-4194305-0-client"));
        assert!(!is_of_the_dead("st-4194305"));
        assert!(!is_of_the_dead("other-4194305-0-client"));
        assert!(!is_of_the_dead("st-x-0-client"));
    }
}
