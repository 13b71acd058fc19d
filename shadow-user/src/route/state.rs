//! What `route` has changed in this network namespace, in a file, so that it can be undone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::Entry;
use crate::setting::Refusal;

/// Everything that was changed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct State {
    /// The kernel's number for this network namespace, which, unlike its inode, is never
    /// given again (SO_NETNS_COOKIE, Linux 5.14). 0 where it is unknown.
    netns_cookie: u64,
    /// Rules and routes.
    pub entries: Vec<Entry>,
    /// `rp_filter` values by interface.
    pub rp_filter: BTreeMap<String, Changed>,
}

/// The part of the record that tells which namespace it is for.
#[derive(Deserialize)]
struct Namespace {
    netns_cookie: u64,
}

/// A kernel parameter that was changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Changed {
    /// What it was.
    pub before: String,
    /// What it was set to.
    pub set: String,
    /// The mirror hosts it was set for.
    pub vias: BTreeSet<IpAddr>,
}

impl State {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.rp_filter.is_empty()
    }
}

/// The file, and what it holds. No other process changes it meanwhile.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// What the file holds after [`Store::save`].
    pub state: State,
    _lock: Option<File>,
}

impl Store {
    /// Reads without waiting for anybody; nothing is recorded where there is no file.
    ///
    /// # Errors
    /// When the file is unreadable.
    pub fn read(directory: &Path) -> Result<Self, Refusal> {
        let path = path(directory).map_err(|error| unusable(directory, &error))?;
        let netns_cookie = netns_cookie();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unusable(&path, &error)),
        };
        let damaged = |error: serde_json::Error| {
            Refusal::new(
                path.display().to_string(),
                format!("is no record of routes: {error}"),
                "compare `ip rule` with what you want, then remove this file",
            )
        };
        let mut state = State::default();
        if !text.is_empty() {
            // What was recorded for another namespace of the same inode went with it, whatever
            // version wrote it.
            let of: Namespace = serde_json::from_str(&text).map_err(damaged)?;
            if of.netns_cookie == netns_cookie || of.netns_cookie == 0 || netns_cookie == 0 {
                state = serde_json::from_str(&text).map_err(damaged)?;
            }
        }
        state.netns_cookie = netns_cookie;
        Ok(Self { path, state, _lock: None })
    }

    /// The same for changes: made where it is missing, and waits for others who change it.
    ///
    /// # Errors
    /// When the directory or the file cannot be used.
    pub fn open(directory: &Path) -> Result<Self, Refusal> {
        fs::create_dir_all(directory).map_err(|error| unusable(directory, &error))?;
        let lock = File::open(directory).map_err(|error| unusable(directory, &error))?;
        lock.lock().map_err(|error| unusable(directory, &error))?;
        Ok(Self { _lock: Some(lock), ..Self::read(directory)? })
    }

    /// Writes the state, whole or not at all; without anything to record the file goes.
    ///
    /// # Errors
    /// When the directory is not writable.
    pub fn save(&self) -> Result<(), Refusal> {
        let result = if self.state.is_empty() {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        } else {
            let new = self.path.with_extension("new");
            serde_json::to_string_pretty(&self.state)
                .map_err(io::Error::other)
                .and_then(|text| fs::write(&new, text + "\n"))
                .and_then(|()| fs::rename(&new, &self.path))
        };
        result.map_err(|error| unusable(&self.path, &error))
    }
}

/// Interfaces, rules and routes mean something within one network namespace only.
fn path(directory: &Path) -> io::Result<PathBuf> {
    let netns = fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok(directory.join(format!("{netns} routes.json")))
}

fn unusable(path: &Path, error: &io::Error) -> Refusal {
    Refusal::new(
        path.display().to_string(),
        format!("what is changed cannot be recorded here: {error}"),
        "make it readable and writable for this user, or run as root (sudo)",
    )
}

fn netns_cookie() -> u64 {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    // Any socket tells; this one is never used.
    let Ok(socket) = UnixDatagram::unbound() else { return 0 };
    let mut cookie = 0_u64;
    let mut length = mem::size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and `cookie` has the `length` bytes that the kernel may write.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { cookie } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            via: [10, 0, 0, 5].into(),
            dev: "eth0".to_owned(),
            oif: 2,
            port: 80,
            client_net: "0.0.0.0/0".parse().expect("network"),
            table: 7_700,
        }
    }

    #[test]
    fn what_is_saved_is_read_again_and_nothing_leaves_no_file() {
        let directory = tempfile::tempdir().expect("directory");
        let mut store = Store::open(directory.path()).expect("usable");
        store.state.entries.push(entry());
        let changed = Changed {
            before: "1".to_owned(),
            set: "2".to_owned(),
            vias: BTreeSet::from([entry().via]),
        };
        store.state.rp_filter.insert("eth0".to_owned(), changed);
        store.save().expect("writable");
        let saved = store.state.clone();
        drop(store);
        let mut store = Store::open(directory.path()).expect("usable");
        assert_eq!(store.state, saved);
        store.state.entries.clear();
        store.state.rp_filter.clear();
        store.save().expect("writable");
        store.save().expect("nothing to remove is fine");
        assert_eq!(fs::read_dir(directory.path()).expect("directory").count(), 0);
    }

    #[test]
    fn the_record_of_a_namespace_that_is_gone_counts_for_nothing() {
        let directory = tempfile::tempdir().expect("directory");
        let mut store = Store::open(directory.path()).expect("usable");
        store.state.entries.push(entry());
        store.state.netns_cookie ^= 1 << 40;
        store.save().expect("writable");
        let read = || Store::read(directory.path()).map(|store| store.state.entries);
        let known = netns_cookie() != 0;
        assert_eq!(read().expect("usable").is_empty(), known);
        if known {
            let text = r#"{ "netns_cookie": 1, "of": "another version" }"#;
            fs::write(path(directory.path()).expect("procfs"), text).expect("writable");
            assert!(read().expect("another's").is_empty());
        }
    }

    #[test]
    fn a_damaged_file_is_refused_by_name() {
        let directory = tempfile::tempdir().expect("directory");
        let path = path(directory.path()).expect("procfs");
        fs::write(&path, "{").expect("writable");
        let error = Store::read(directory.path()).expect_err("refused");
        assert_eq!(error.subject, path.display().to_string());
    }
}
