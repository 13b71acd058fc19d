//! The program as a process of its own: with as little as it needs, and gone when the mirror is.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, getppid, kill_process_group};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// Whose process it is when the mirror is root's: the user and group that own nothing (`nobody`).
const NOBODY: u32 = 65_534;

/// What of the environment the program sees.
const ENVIRONMENT: [&str; 5] = ["PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH"];

/// A program that runs.
pub struct Process {
    child: Child,
    group: Option<Pid>,
    /// Where questions go.
    pub stdin: ChildStdin,
    /// Where answers come from.
    pub stdout: ChildStdout,
    /// What else it says.
    pub stderr: ChildStderr,
}

impl Process {
    /// Starts a program.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start(program: &Path) -> io::Result<Self> {
        let mut command = std::process::Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_clear().current_dir("/");
        command.envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        // Signals of the terminal are the mirror's: its end is orderly.
        command.process_group(0);
        if drops_root() {
            // With a user, the standard library lets go of all other groups, too.
            command.uid(NOBODY).gid(NOBODY);
        }
        let mirror = getpid();
        // SAFETY: between fork and exec only async-signal-safe calls are allowed: these are bare
        // system calls that take no lock and no memory.
        unsafe { command.pre_exec(move || confine(mirror)) };
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(io::Error::other("no pipes"));
        };
        Ok(Self { child, group, stdin, stdout, stderr })
    }

    /// Ends it and whatever it has started in its group, after it has had the time to end by itself; how
    /// it ended.
    pub async fn end(self, grace: Duration) -> String {
        let Self { mut child, group, stdin, stdout, .. } = self;
        drop((stdin, stdout));
        let ended = tokio::time::timeout(grace, child.wait()).await;
        if let Some(group) = group {
            // Whoever is gone need not be killed.
            let _ = kill_process_group(group, Signal::KILL);
        }
        match ended {
            Ok(Ok(status)) => status.to_string(),
            _ => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
        }
    }
}

/// Whether the mirror is root's and may make a process of somebody else's.
fn drops_root() -> bool {
    use caps::{CapSet, Capability};
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    rustix::process::geteuid().is_root()
        && has(Capability::CAP_SETUID)
        && has(Capability::CAP_SETGID)
}

/// In the new process, before it becomes the program.
fn confine(mirror: Pid) -> io::Result<()> {
    // It ends with the thread that has started it, which lives as long as the mirror.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(mirror) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    // No capability of the mirror's, and none to be had by executing something else.
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_no_new_privs(true)?;
    close_others();
    Ok(())
}

/// Every descriptor behind the three goes with the execution, whoever has opened it.
fn close_others() {
    // SAFETY: the system call takes three numbers and touches no memory. Kernels before 5.11 do not
    // know the flag and change nothing: then what the mirror opens is closed by its own flag.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// A program as its user names it, as it is found whatever the working directory.
///
/// # Errors
/// What stands against executing it.
pub fn find(program: &Path) -> Result<PathBuf, String> {
    let path =
        std::fs::canonicalize(program).map_err(|error| format!("cannot be found: {error}"))?;
    if !path.is_file() {
        return Err("is no file".to_owned());
    }
    match rustix::fs::access(&path, rustix::fs::Access::EXEC_OK) {
        Ok(()) => Ok(path),
        Err(_) => Err("is not executable".to_owned()),
    }
}
