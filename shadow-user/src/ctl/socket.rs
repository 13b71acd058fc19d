//! Where a mirror listens, for root (or its own user) alone.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use crate::config::Config;
use crate::lock;
use crate::setting::{Refusal, Setting};

/// Connections that wait to be taken.
const BACKLOG: i32 = 8;

const SUFFIX: &str = ".sock";

/// What `--control` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// Nowhere.
    Off,
    /// There.
    At(PathBuf),
}

/// A socket that listens; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    /// The end that takes connections, not blocking.
    pub listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Listens where the configuration says. To be called with the mirror's locks held: what is found
    /// at the place that belongs to them was left by a mirror that was killed.
    ///
    /// # Errors
    /// When something else is there, or it cannot be made.
    pub fn open(config: &Config) -> Result<Option<Self>, Refusal> {
        match &config.control {
            None => {
                let path = default_path(config).and_then(|path| Self::at(&path));
                path.map(Some).map_err(|error| {
                    Refusal::new(
                        "--control",
                        format!("cannot listen in {}: {error}", lock::DIRECTORY),
                        "give a path in a directory that this user may write, or off",
                    )
                })
            }
            Some(Setting { value: Place::Off, .. }) => Ok(None),
            Some(setting @ Setting { value: Place::At(path), .. }) => {
                Self::at(path).map(Some).map_err(|error| {
                    setting.refuse(
                        format!("cannot listen: {error}"),
                        "give a path of its own in a directory that this user may write, or off",
                    )
                })
            }
        }
    }

    fn at(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::other("something that is no socket is there"));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(io::Error::other("another process listens there"));
            }
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Before it has a name: the file gets the mode of the socket (unix(7)), and is never open to
        // others.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        listen(&socket, BACKLOG)?;
        let inode = fs::symlink_metadata(path)?.ino();
        Ok(Self { listener: UnixListener::from(socket), path: path.to_owned(), inode })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Unless it is another's by now.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// No two mirrors have the first interface and port in common, in one network namespace.
fn default_path(config: &Config) -> io::Result<PathBuf> {
    let (iface, port) = match (config.iface.first(), config.port.first()) {
        (Some(iface), Some(port)) => (&iface.value, port.value.port()),
        _ => return Err(io::Error::other("no interface or port")),
    };
    Ok(Path::new(lock::DIRECTORY).join(format!("{}{iface}-{port}{SUFFIX}", prefix()?)))
}

fn prefix() -> io::Result<String> {
    Ok(format!("{}-", fs::metadata("/proc/thread-self/ns/net")?.ino()))
}

/// The sockets of this network namespace's mirrors, alive or not.
///
/// # Errors
/// When the directory cannot be read.
pub fn found() -> io::Result<Vec<PathBuf>> {
    let prefix = prefix()?;
    let entries = match fs::read_dir(lock::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_ours = |name: &str| name.starts_with(&prefix) && name.ends_with(SUFFIX);
        if name.to_str().is_some_and(is_ours) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_owners_alone_replaces_a_stale_one_and_goes() {
        let folder = tempfile::tempdir().expect("directory");
        let path = folder.path().join("m.sock");
        let first = Socket::at(&path).expect("made");
        let mode = fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600, "{mode:o}");
        let error = Socket::at(&path).expect_err("refused").to_string();
        assert_eq!(error, "another process listens there");
        drop(first);
        assert!(!path.exists());
        // As a killed one leaves it.
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        drop(Socket::at(&path).expect("replaced"));
        fs::write(&path, "precious").expect("written");
        let error = Socket::at(&path).expect_err("refused").to_string();
        assert_eq!(error, "something that is no socket is there");
        assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
    }
}
