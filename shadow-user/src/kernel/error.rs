//! Why the kernel would not have our programs.

use std::io;
use std::path::PathBuf;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use thiserror::Error;

/// Why a program could not be loaded, attached or spoken to.
#[derive(Debug, Error)]
pub enum KernelError {
    /// No interface has this name in the current network namespace.
    #[error("there is no interface `{0}`; `ip link` lists them")]
    NoSuchInterface(String),
    /// The kernel refused for lack of rights.
    #[error(
        "not permitted to {action}: run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW and \
         CAP_PERFMON"
    )]
    NotPermitted {
        /// What was tried, as "load the programs".
        action: String,
    },
    /// The kernel lacks something; 5.10 has all that is needed.
    #[error("this kernel ({release}) cannot {action}: Linux 5.10 or newer is needed")]
    TooOld {
        /// What was tried.
        action: String,
        /// `uname -r`.
        release: String,
    },
    /// The verifier does not accept a program: a fault of ours on this kernel.
    #[error("this kernel's verifier rejects the program `{program}`: {source}")]
    Rejected {
        /// The program's name.
        program: &'static str,
        /// The verifier's words.
        source: ProgramError,
    },
    /// More entries than a map holds.
    #[error("{count} {what} are more than the kernel side holds ({max})")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many were given.
        count: usize,
        /// How many there may be.
        max: u32,
    },
    /// The object in this binary lacks a program or map: a fault of the build.
    #[error("the embedded eBPF object has no `{0}`; build again with `cargo xtask build`")]
    Missing(&'static str),
    /// The embedded object could not be loaded.
    #[error("cannot load the eBPF programs: {0}")]
    Load(#[source] EbpfError),
    /// A program could not be attached.
    #[error("cannot attach `{program}` to `{interface}`: {source}")]
    Attach {
        /// The program's name.
        program: &'static str,
        /// The interface's name.
        interface: String,
        /// The kernel's words.
        source: ProgramError,
    },
    /// There is no BPF file system to pin a guard on.
    #[error(
        "{0} is no BPF file system, on which the guard would outlive a killed daemon; mount it: mount -t bpf bpf {0}"
    )]
    NoBpffs(&'static str),
    /// A guard could not be pinned, or its pin not read or removed.
    #[error("cannot use the guard's pin {}: {source}", path.display())]
    Pin {
        /// Where it is.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// A map could not be read or written.
    #[error("cannot access the eBPF map `{map}`: {source}")]
    Map {
        /// The map's name.
        map: &'static str,
        /// The kernel's words.
        source: MapError,
    },
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// The kernel's words.
        source: io::Error,
    },
}

impl KernelError {
    /// An error of a system call, told apart by what it means to the user.
    pub(super) fn io(action: impl Into<String>, source: io::Error) -> Self {
        let action = action.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted { action },
            _ => Self::Io { action, source },
        }
    }
}

/// The system call's error at the bottom of another error, if there is one.
pub(super) fn root_io<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

/// `uname -r`.
pub(super) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
