//! One mirror at a time for an interface and port, and for a range of source ports
//! toward one shadow. A lock is a locked file, so the kernel releases it whatever
//! happens to its holder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::{Config, SourceMode};
use crate::setting::Refusal;

/// Where the locks are.
pub const DIRECTORY: &str = "/run/shadowtap";

/// All locks of one mirror; released when dropped.
#[derive(Debug)]
pub struct Locks {
    _locks: Vec<Lock>,
}

impl Locks {
    /// Takes the locks that this configuration needs in this network namespace.
    ///
    /// # Errors
    /// When another mirror holds one, naming its process; or when `directory` is not
    /// writable.
    pub fn take(
        config: &Config,
        shadows: &[SocketAddr],
        directory: &Path,
    ) -> Result<Self, Refusal> {
        let unusable = |error| unusable(directory, error);
        fs::create_dir_all(directory).map_err(unusable)?;
        // Interface names and sockets mean something within one network namespace only.
        let netns = fs::metadata("/proc/thread-self/ns/net").map_err(unusable)?.ino();
        let mut locks = Vec::new();
        for iface in &config.iface {
            // Not by address: 80 and 10.0.0.5:80 select the same packets.
            let mut ports: Vec<u16> = config.port.iter().map(|port| port.value.port()).collect();
            ports.sort_unstable();
            ports.dedup();
            for port in ports {
                // An interface name holds neither slash nor space (dev_valid_name, Linux).
                let name = format!("{netns} tap {} {port}", iface.value);
                match Lock::take(directory.join(name)).map_err(unusable)? {
                    Ok(lock) => locks.push(lock),
                    Err(holder) => {
                        return Err(iface.refuse(
                            format!("port {port} is already mirrored by process {holder}"),
                            "stop that mirror, or choose another interface or port",
                        ));
                    }
                }
            }
        }
        for shadow in shadows {
            locks.push(Lock::toward(config, netns, *shadow, directory)?);
        }
        Ok(Self { _locks: locks })
    }
}

fn unusable(directory: &Path, error: io::Error) -> Refusal {
    Refusal::new(
        directory.display().to_string(),
        format!("cannot hold the mirror's locks: {error}"),
        "make it a directory that this user may write",
    )
}

/// The process that mirrors to `shadow`: from its own address and these ports, or from addresses
/// of others when `None`. It takes no lock, so that it stands in nobody's way.
///
/// # Errors
/// When the kernel's list of locks is unreadable.
pub fn holder(
    directory: &Path,
    shadow: SocketAddr,
    ports: Option<RangeInclusive<u16>>,
) -> io::Result<Option<u32>> {
    let netns = fs::metadata("/proc/thread-self/ns/net")?.ino();
    let name = match ports {
        Some(range) => own_name(netns, shadow, &range),
        None => foreign_name(netns, shadow),
    };
    let path = directory.join(name);
    let (Ok(metadata), Ok(text)) = (fs::metadata(&path), fs::read_to_string(&path)) else {
        return Ok(None);
    };
    let Ok(pid) = text.trim().parse::<u32>() else { return Ok(None) };
    // Left by a mirror that was killed, a file names a process and has no lock.
    let held = procfs::locks().map_err(io::Error::other)?.into_iter().any(|lock| {
        lock.inode == metadata.ino() && lock.pid.is_some_and(|other| other.cast_unsigned() == pid)
    });
    Ok(held.then_some(pid))
}

fn own_prefix(netns: u64, shadow: SocketAddr) -> String {
    format!("{netns} ports {shadow} ")
}

fn own_name(netns: u64, shadow: SocketAddr, range: &RangeInclusive<u16>) -> String {
    format!("{}{}-{}", own_prefix(netns, shadow), range.start(), range.end())
}

/// The lock of a mirror that sends to `shadow` from addresses of others: all the answers to those
/// go to one guard.
fn foreign_name(netns: u64, shadow: SocketAddr) -> String {
    format!("{netns} foreign {shadow}")
}

/// The holder of another range that overlaps `range`. Two mirrors that start at once
/// may both see the other and both give up, which is safe.
fn overlapping(
    directory: &Path,
    prefix: &str,
    range: &RangeInclusive<u16>,
) -> io::Result<Option<String>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let other = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|text| {
            let (first, last) = text.split_once('-')?;
            Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?))
        });
        let Some((first, last)) = other else { continue };
        let own = (first, last) == (*range.start(), *range.end());
        if own || first > *range.end() || last < *range.start() {
            continue;
        }
        // A file without a holder was left by a mirror that was killed.
        if let Err(holder) = Lock::take(entry.path())? {
            return Ok(Some(holder));
        }
    }
    Ok(None)
}

#[derive(Debug)]
struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// The lock of what the mirror sends from toward one shadow.
    fn toward(
        config: &Config,
        netns: u64,
        shadow: SocketAddr,
        directory: &Path,
    ) -> Result<Self, Refusal> {
        let unusable = |error| unusable(directory, error);
        if config.source.value != SourceMode::Own {
            let lock = Self::take(directory.join(foreign_name(netns, shadow))).map_err(unusable)?;
            return lock.map_err(|holder| {
                config.source.refuse(
                    format!("process {holder} mirrors to the same shadow from others' addresses"),
                    "stop that mirror, or give both their ports in one mirror",
                )
            });
        }
        let prefix = own_prefix(netns, shadow);
        let range = &config.source_ports.value;
        let name = own_name(netns, shadow, range);
        let taken = |holder: String| {
            config.source_ports.refuse(
                format!("process {holder} mirrors to the same shadow from these ports"),
                "give each mirror ports of its own",
            )
        };
        let lock = Self::take(directory.join(name)).map_err(unusable)?.map_err(taken)?;
        match overlapping(directory, &prefix, range).map_err(unusable)? {
            Some(holder) => Err(taken(holder)),
            None => Ok(lock),
        }
    }

    /// The lock, or the process that holds it.
    fn take(path: PathBuf) -> io::Result<Result<Self, String>> {
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    file.read_to_string(&mut holder)?;
                    return Ok(Err(holder.trim().to_owned()));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The last holder may have removed the file between our open and our lock.
            let locked = file.metadata()?.ino();
            if fs::metadata(&path).is_ok_and(|current| current.ino() == locked) {
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "{}", std::process::id())?;
                return Ok(Ok(Self { _file: file, path }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked here: whoever opened it meanwhile sees that it is gone.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn config(line: &str) -> Config {
        let words = ["shadowtap", "mirror", "--shadow", "10.0.0.9:80"];
        let words = words.into_iter().chain(line.split_whitespace());
        let Command::Mirror(flags) = Cli::try_parse_from(words).expect("well-formed").command
        else {
            panic!("these are the flags of mirror");
        };
        Config::load(*flags).expect("valid")
    }

    #[test]
    fn a_second_mirror_is_refused_until_the_first_ends() {
        let directory = tempfile::tempdir().expect("directory");
        let shadow = "10.0.0.9:80".parse().expect("address");
        let take = |line: &str| {
            Locks::take(&config(line), &[shadow], directory.path())
                .map_err(|error| error.to_string())
        };
        let me = std::process::id();
        let first = take("--iface eth0 --port 80 --port 10.0.0.5:80").expect("free");
        assert_eq!(
            take("--iface eth1 --iface eth0 --port [::]:80").expect_err("refused"),
            format!(
                "--iface eth0: port 80 is already mirrored by process {me}; stop that mirror, or \
                 choose another interface or port"
            )
        );
        let ports = |range: &str| {
            format!(
                "--source-ports {range}: process {me} mirrors to the same shadow from these \
                 ports; give each mirror ports of its own"
            )
        };
        for range in ["16384-32767", "32767-32767", "2000-40000"] {
            let line = format!("--iface eth0 --port 81 --source-ports {range}");
            assert_eq!(take(&line).expect_err("refused"), ports(range));
        }
        drop(take("--iface eth1 --port 80 --source-ports 2000-16383").expect("all its own"));
        drop(first);
        drop(take("--iface eth0 --port 80").expect("free again"));
        let left = fs::read_dir(directory.path()).expect("directory").count();
        assert_eq!(left, 0, "no lock is left behind");
    }

    #[test]
    fn from_others_addresses_there_is_one_mirror_for_a_shadow() {
        let directory = tempfile::tempdir().expect("directory");
        let take = |line: &str, shadow: &str| {
            let shadow = shadow.parse().expect("address");
            Locks::take(&config(line), &[shadow], directory.path())
                .map_err(|error| error.to_string())
        };
        let first = take("--iface eth0 --port 80 --source preserve", "10.0.0.9:80").expect("free");
        assert_eq!(
            take("--iface eth0 --port 81 --source pool=10.9.0.0/24", "10.0.0.9:80")
                .expect_err("refused"),
            format!(
                "--source pool=10.9.0.0/24: process {} mirrors to the same shadow from others' \
                 addresses; stop that mirror, or give both their ports in one mirror",
                std::process::id()
            )
        );
        let shadow = "10.0.0.9:80".parse().expect("address");
        let holder = || holder(directory.path(), shadow, None).expect("readable");
        assert_eq!(holder(), Some(std::process::id()));
        take("--iface eth0 --port 81 --source preserve", "10.0.0.9:81").expect("another shadow");
        take("--iface eth0 --port 81", "10.0.0.9:80").expect("its own ports");
        drop(first);
        assert_eq!(holder(), None);
        let both = [shadow, "10.0.0.9:82".parse().expect("address")];
        let line = config("--iface eth0 --port 80 --source preserve");
        let first = Locks::take(&line, &both, directory.path()).expect("free");
        take("--iface eth0 --port 81 --source preserve", "10.0.0.9:82").expect_err("refused");
        drop(first);
        // As when the mirror was killed.
        let netns = fs::metadata("/proc/thread-self/ns/net").expect("namespace").ino();
        let left = directory.path().join(foreign_name(netns, shadow));
        fs::write(left, format!("{}\n", std::process::id())).expect("written");
        assert_eq!(holder(), None);
    }

    #[test]
    fn a_directory_that_cannot_be_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let shadow = "10.0.0.9:80".parse().expect("address");
        let error = Locks::take(&config("--iface eth0 --port 80"), &[shadow], file.path())
            .expect_err("refused");
        assert_eq!(error.remedy, "make it a directory that this user may write");
    }
}
