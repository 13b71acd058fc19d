//! An ordinary user with exactly the capabilities of `contrib/shadowtap.service`, and what a service
//! manager is told.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use shadow_lab::{Host, Lab, Nginx, Process, binary, curl, wait_for};

/// Nobody, on any Linux.
const USER: u32 = 65_534;

/// The value of a setting of the unit; the last one counts.
fn unit(setting: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/shadowtap.service");
    let text = fs::read_to_string(path)?;
    let value = text.lines().rev().find_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    Ok(value.with_context(|| format!("{setting} in the unit"))?.to_owned())
}

fn capabilities() -> Result<Vec<String>> {
    let set = unit("AmbientCapabilities")?;
    ensure!(set == unit("CapabilityBoundingSet")?, "the unit gives what it bounds");
    Ok(set.split_whitespace().map(|name| name.trim_start_matches("CAP_").to_lowercase()).collect())
}

/// A folder that the user owns, with a binary that it may run: whatever the checkout's permissions
/// are.
fn own_folder(host: &Host) -> Result<PathBuf> {
    let folder = host.folder().join("own");
    fs::create_dir_all(&folder)?;
    chown(&folder, Some(USER), Some(USER))?;
    fs::copy(binary()?, folder.join("shadowtap"))?;
    let mut above = folder.as_path();
    while let Some(parent) = above.parent() {
        let meta = fs::metadata(above)?;
        ensure!(
            meta.permissions().mode() & 0o005 == 0o005 || above == folder,
            "{} is closed to others",
            above.display()
        );
        above = parent;
    }
    Ok(folder)
}

/// `shadowtap mirror …` on `host` as the unit starts it, with these capabilities and no others.
fn mirror(host: &Host, folder: &Path, capabilities: &[String]) -> Command {
    // What RuntimeDirectory and ExecStartPre of the unit do, seen by this process only.
    let script = format!(
        "mount -t tmpfs -o mode=755,uid={USER},gid={USER} none /run/shadowtap && \
         mount -t bpf -o mode=700 none /sys/fs/bpf && chmod o+x /sys/fs/bpf && \
         install --directory --owner={USER} --group={USER} --mode=0700 /sys/fs/bpf/shadowtap && \
         exec \"$@\""
    );
    let with = |sign: &str| {
        let names: Vec<_> = capabilities.iter().map(|name| format!("{sign}{name}")).collect();
        format!("-all,{}", names.join(","))
    };
    let set = with("+");
    let mut command = host.command("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", "setpriv", "--no-new-privs"]);
    command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    command.arg(format!("--inh-caps={set}")).arg(format!("--ambient-caps={set}"));
    command.arg(format!("--bounding-set={set}")).arg("--").arg(folder.join("shadowtap"));
    command.args(["mirror", "--iface", "eth0", "--port", "80", "--live", "off"]);
    command.args(["--shadow", "10.77.0.3:80", "--summary"]).arg(folder.join("summary.json"));
    command
}

/// What a service manager hears.
struct Ear(UnixDatagram, PathBuf);

impl Ear {
    fn new(folder: &Path) -> Result<Self> {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
        Ok(Self(socket, path))
    }

    /// The next message within `limit`.
    fn hear(&self, limit: Duration) -> Result<Option<String>> {
        self.0.set_read_timeout(Some(limit))?;
        let mut message = [0; 4_096];
        loop {
            return match self.0.recv(&mut message) {
                Ok(length) => Ok(Some(String::from_utf8(message[..length].to_vec())?)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                // By SIGCHLD, for one.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Hears until a message says `what`.
    fn wait_for(&self, what: &str, process: &mut Process) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let message = self.hear(Duration::from_millis(200))?;
            if message.is_some_and(|message| message.lines().any(|line| line == what)) {
                return Ok(());
            }
            if let Some(status) = process.try_status()? {
                bail!("the mirror ended with {status}: {}", process.stderr().trim());
            }
        }
        bail!("nobody says {what}: {}", process.stderr().trim())
    }
}

#[test]
fn the_units_capabilities_suffice_and_the_service_manager_hears_of_it() -> Result<()> {
    let lab = Lab::new()?;
    let host = &lab.production;
    let (production, shadow) = (Nginx::start(host)?, Nginx::start(&lab.shadow)?);
    let folder = own_folder(host)?;
    let ear = Ear::new(&folder)?;
    let mut command = mirror(host, &folder, &capabilities()?);
    command.env("NOTIFY_SOCKET", &ear.1).env("WATCHDOG_USEC", "1000000");
    let mut process = host.spawn("mirror", &mut command)?;
    ear.wait_for("READY=1", &mut process)?;

    // Ready means mirroring: this very request is at the shadow.
    let url = format!("http://{}/small.txt", host.v4);
    curl(&lab.client, &[&url, "-o", "/dev/null"])?;
    ensure!(production.log_of(1)?.len() == 1);
    ensure!(shadow.log_of(1)?.len() == 1);
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let user = status.lines().find(|line| line.starts_with("Uid:")).context("Uid")?;
    ensure!(user.split_whitespace().skip(1).all(|id| id == "65534"), "{user}");

    let worker = worker(&process)?;
    let (ours, workers) = (scheduling("self")?, scheduling(&worker.to_string())?);
    ensure!(ours.1 == libc::SCHED_OTHER, "{ours:?}");
    ensure!(workers == ((ours.0 + 3).min(19), libc::SCHED_BATCH), "{workers:?}");

    // A worker that hangs is not alive, whatever the rest of the process does.
    ear.wait_for("WATCHDOG=1", &mut process)?;
    ptrace::attach(worker)?;
    while waitpid(worker, Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
    wait_for("the watchdog to go unfed", Duration::from_secs(10), || {
        Ok(ear.hear(Duration::from_secs(1))?.is_none().then_some(()))
    })?;
    ptrace::detach(worker, None)?;
    ear.wait_for("WATCHDOG=1", &mut process)?;

    process.signal(Signal::SIGTERM)?;
    ear.wait_for("STOPPING=1", &mut process)?;
    let ended = process.wait(Duration::from_secs(20))?;
    ensure!(ended.success(), "{ended}: {}", process.stderr());
    ensure!(fs::read_to_string(folder.join("summary.json"))?.contains("\"mirrored\""));
    Ok(())
}

/// A thread's nice value and scheduling policy (proc(5): fields 19 and 41 of `stat`).
fn scheduling(thread: &str) -> Result<(i32, i32)> {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat"))?;
    // A name may have blanks in it; the third field follows.
    let fields = stat.rsplit_once(')').context("stat")?.1;
    let field = |number: usize| -> Result<i32> {
        Ok(fields.split_whitespace().nth(number - 3).context("a field")?.parse()?)
    };
    Ok((field(19)?, field(41)?))
}

/// The thread that packets go through.
fn worker(process: &Process) -> Result<Pid> {
    for task in fs::read_dir(format!("/proc/{}/task", process.pid()))? {
        let task = task?;
        // The kernel keeps 15 letters of a name.
        if fs::read_to_string(task.path().join("comm"))?.trim() == "shadowtap-worke" {
            let id = task.file_name();
            return Ok(Pid::from_raw(id.to_str().context("a number")?.parse()?));
        }
    }
    bail!("no worker")
}

#[test]
fn each_capability_that_is_taken_away_is_named() -> Result<()> {
    let lab = Lab::new()?;
    let host = &lab.production;
    let folder = own_folder(host)?;
    let all = capabilities()?;
    ensure!(all.len() == 4, "{all:?}");
    for missing in &all {
        let rest: Vec<_> = all.iter().filter(|name| *name != missing).cloned().collect();
        let output = mirror(host, &folder, &rest).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = format!(
            "shadowtap: privileges: this process lacks CAP_{}; run as root (sudo), or grant these \
             capabilities\n",
            missing.to_uppercase()
        );
        ensure!(said == expected, "without {missing}: {said}");
        ensure!(output.status.code() == Some(2) && output.stdout.is_empty());
    }
    Ok(())
}
