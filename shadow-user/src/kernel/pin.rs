//! Guards that outlive their daemon: a folder on the BPF file system for each.
//!
//! The folder is named after the interface and what is guarded, and so belongs to one daemon at a
//! time: several on one interface do not meet, and the next of the same kind takes over in place.
//! It holds the links (TCX; a filter of clsact needs none to stay) and the maps that tell about it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use aya::programs::tc::{SchedClassifierLink, TcHandle};
use shadow_common::{Counter as _, GuardCounter, GuardRule, ShadowKey};

use super::attach::{CLSACT_PRIORITY, Direction};
use super::error::root_io;
use super::qdisc::raw;
use super::{KernelError, attach};

/// Where the kernel's documentation mounts the BPF file system.
const BPFFS: &str = "/sys/fs/bpf";
/// All that is pinned is below.
const FOLDER: &str = "shadowtap";
/// `BPF_FS_MAGIC` (linux/magic.h).
const BPFFS_MAGIC: u32 = 0xcafe_4a11;

/// The maps by which `guard show` knows a guard.
const MAPS: [&str; 3] = ["SHADOWS", "OWN_ADDRESSES", "GUARD_COUNTERS"];

/// Whether guards can be pinned on this host.
///
/// # Errors
/// When there is no BPF file system.
pub fn check_bpffs() -> Result<(), KernelError> {
    let statfs = rustix::fs::statfs(BPFFS).map(|statfs| statfs.f_type as u32);
    if statfs == Ok(BPFFS_MAGIC) { Ok(()) } else { Err(KernelError::NoBpffs(BPFFS)) }
}

/// How a guard is pinned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pinning {
    /// What tells this guard from others on the same interface.
    pub identity: String,
    /// Whether it stays when it is dropped, and not only when the process is killed.
    pub keep: bool,
}

impl Pinning {
    /// For the guard of these shadows, one at least.
    #[must_use]
    pub fn of(guarded: &[(SocketAddr, GuardRule)], keep: bool) -> Self {
        let mut names = guarded.iter().map(|(shadow, rule)| {
            // Dots are reserved in names on the BPF file system.
            let shadow = shadow.to_string().replace('.', "-");
            if is_foreign(rule) {
                format!("foreign_{shadow}")
            } else {
                format!("own_{shadow}_{}-{}", rule.port_min, rule.port_max)
            }
        });
        let mut identity = names.next().unwrap_or_default();
        let others: Vec<_> = names.collect();
        if !others.is_empty() {
            // All their names would be longer than a name may be.
            identity += &format!("+{}_{:08x}", others.len(), fnv1a(others.join("+").as_bytes()));
        }
        Self { identity, keep }
    }
}

/// FNV-1a: stable over versions, as a hasher of the standard library is not.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The folder of one guard.
#[derive(Clone, Debug)]
pub(super) struct Pin(PathBuf);

impl Pin {
    /// Makes the folder, when it is not there yet.
    pub(super) fn create(index: u32, identity: &str) -> Result<Self, KernelError> {
        check_bpffs()?;
        let path = namespace()?.join(format!("{index}_{identity}"));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| failed(&path, source))?;
        Ok(Self(path))
    }

    pub(super) fn link(&self, direction: Direction) -> PathBuf {
        self.0.join(match direction {
            Direction::In => "link-in",
            Direction::Out => "link-out",
        })
    }

    /// The same for the same guard, so that a filter of clsact is found again.
    pub(super) fn handle(&self) -> TcHandle {
        let hash = fnv1a(self.0.file_name().unwrap_or_default().as_encoded_bytes());
        // 0 would let the kernel choose; positive numbers are all that some tools print.
        TcHandle::from(hash >> 1 | 1)
    }

    /// Pins the maps of `ebpf` in place of an earlier guard's.
    pub(super) fn pin_maps(&self, ebpf: &Ebpf) -> Result<(), KernelError> {
        for name in MAPS {
            let map = ebpf.map(name).ok_or(KernelError::Missing(name))?;
            let (path, new) = (self.0.join(name), self.0.join(format!("{name}-new")));
            let _ = fs::remove_file(&new);
            map.pin(&new).map_err(|error| pin_error(&new, &error))?;
            fs::rename(&new, &path).map_err(|source| failed(&path, source))?;
        }
        Ok(())
    }

    /// Removes all of it; what is gone already is no error.
    pub(super) fn remove(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            fs::remove_file(entry?.path())?;
        }
        fs::remove_dir(&self.0)?;
        // Those above only when nothing else is in them.
        for folder in self.0.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

/// A guard that is pinned, with a daemon or without.
#[derive(Debug)]
pub struct PinnedGuard {
    /// Index of its interface.
    pub index: u32,
    /// The name of its interface; `None` when that is gone.
    pub interface: Option<String>,
    /// Whose answers it drops.
    pub shadows: Vec<SocketAddr>,
    /// Which of their answers.
    pub rule: GuardRule,
    /// Packets dropped since its last daemon started.
    pub dropped: u64,
    pin: Pin,
}

impl PinnedGuard {
    /// Every guard of this network namespace.
    ///
    /// # Errors
    /// Missing rights, or guards of a version that kept its books otherwise.
    pub fn list() -> Result<Vec<Self>, KernelError> {
        let folder = namespace()?;
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|source| failed(&folder, source))?,
        };
        let mut guards = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| failed(&folder, source))?.path();
            guards.extend(Self::read(path)?);
        }
        guards
            .sort_by_cached_key(|guard| (guard.index, guard.shadows.clone(), guard.rule.port_min));
        Ok(guards)
    }

    /// `None` for a folder that was left when its maker was killed before the guard was attached.
    fn read(path: PathBuf) -> Result<Option<Self>, KernelError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(index) = name.split_once('_').and_then(|(index, _)| index.parse().ok()) else {
            return Ok(None);
        };
        let open = |map: &'static str| {
            MapData::from_pin(path.join(map)).map_err(|source| KernelError::Map { map, source })
        };
        if !path.join(MAPS[0]).exists() {
            return Ok(None);
        }
        let wrong = |map| move |source| KernelError::Map { map, source };
        let rules = Map::HashMap(open("SHADOWS")?);
        let rules =
            HashMap::<_, ShadowKey, GuardRule>::try_from(rules).map_err(wrong("SHADOWS"))?;
        let (mut shadows, mut guarded) = (Vec::new(), None);
        for entry in rules.iter() {
            let (shadow, rule) = entry.map_err(wrong("SHADOWS"))?;
            if shadow.port != [0; 2] {
                shadows.push(socket_address(&shadow));
                // One mirror has one way to choose its addresses, and so one rule.
                guarded = Some(rule);
            }
        }
        let Some(rule) = guarded else { return Ok(None) };
        shadows.sort_unstable();
        let counters = Map::PerCpuArray(open("GUARD_COUNTERS")?);
        let counters =
            PerCpuArray::<_, u64>::try_from(counters).map_err(wrong("GUARD_COUNTERS"))?;
        let mut dropped = 0;
        for counter in GuardCounter::ALL {
            if !matches!(counter, GuardCounter::Icmp | GuardCounter::IcmpLost) {
                let values = counters.get(&counter.index(), 0).map_err(wrong("GUARD_COUNTERS"))?;
                dropped += values.iter().sum::<u64>();
            }
        }
        let interface = attach::interface_name(index)?;
        Ok(Some(Self { index, interface, shadows, rule, dropped, pin: Pin(path) }))
    }

    /// Whether it drops what goes to addresses of others.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        is_foreign(&self.rule)
    }

    /// Detaches it, and removes its folder.
    ///
    /// # Errors
    /// When the kernel refuses; what is gone already is no error.
    pub fn remove(self) -> Result<(), KernelError> {
        let is_clsact = !self.pin.link(Direction::In).exists();
        if let Some(interface) = self.interface.filter(|_| is_clsact) {
            for direction in Direction::BOTH {
                detach_filter(&interface, direction, self.pin.handle())?;
            }
        }
        self.pin.remove().map_err(|source| failed(&self.pin.0, source))
    }
}

/// Removes a filter of clsact; one that is gone already is no error.
fn detach_filter(
    interface: &str,
    direction: Direction,
    handle: TcHandle,
) -> Result<(), KernelError> {
    let (direction, priority) = (direction.attach_type(), CLSACT_PRIORITY);
    let filter = SchedClassifierLink::attached(interface, direction, priority, handle, None);
    match filter.map(aya::programs::links::Link::detach) {
        Ok(Err(source)) if !matches!(raw(&source), Some(libc::ENOENT | libc::EINVAL)) => {
            Err(KernelError::Attach { program: "guard", interface: interface.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn is_foreign(rule: &GuardRule) -> bool {
    rule.mode == shadow_common::GuardMode::Foreign as u32
}

fn socket_address(key: &ShadowKey) -> SocketAddr {
    let ip = Ipv6Addr::from(key.address.0);
    let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), |v4: Ipv4Addr| IpAddr::V4(v4));
    SocketAddr::new(ip, u16::from_be_bytes(key.port))
}

/// The folder of this network namespace, in which alone interface indices mean something.
fn namespace() -> Result<PathBuf, KernelError> {
    let netns = fs::metadata("/proc/thread-self/ns/net")
        .map_err(|error| KernelError::io("read /proc/thread-self/ns/net", error))?;
    Ok(Path::new(BPFFS).join(FOLDER).join(netns.ino().to_string()))
}

pub(super) fn failed(path: &Path, source: io::Error) -> KernelError {
    KernelError::Pin { path: path.to_owned(), source }
}

/// An error of aya's, for what happened at `path`.
pub(super) fn pin_error(path: &Path, error: &(dyn std::error::Error + 'static)) -> KernelError {
    let source = match root_io(error).and_then(io::Error::raw_os_error) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error.to_string()),
    };
    failed(path, source)
}
