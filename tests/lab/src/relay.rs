//! A bad link between two hosts, where the kernel has no netem.
//!
//! Each end is a TAP interface: without offloads the kernel hands out what would be on a real wire,
//! segments of MTU size with full checksums. A thread carries frames from one to the other.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeWriter, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::host::Host;
use crate::link::{Direction, Link, Relayed};

/// The longest frame: a whole IP packet behind an Ethernet header.
const FRAME_MAX: usize = (64 << 10) + 14;
/// Frames read from one end before the other gets its turn.
const BATCH: usize = 64;

/// A link between two hosts beside the lab's wires, on `10.77.2.0/24` and `fd77:0:0:2::/64`.
/// Its interfaces are named `link0` and go when it is dropped.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Mutex<Shared>>,
    /// Closed to end the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    link: Link,
    counts: [Relayed; 2],
}

impl Relay {
    /// The interface at both ends.
    pub const INTERFACE: &'static str = "link0";

    /// Joins `near` (host 2 of the segment) and `far` (host 3).
    ///
    /// # Errors
    /// When the kernel has no TUN/TAP, or the hosts have such a link already.
    pub fn between(near: &Host, far: &Host, link: Link) -> Result<Self> {
        let ends = [open(near, link)?, open(far, link)?];
        configure(near, 2, link.mtu)?;
        configure(far, 3, link.mtu)?;
        let shared = Arc::new(Mutex::new(Shared { link, counts: [Relayed::default(); 2] }));
        let (waiter, stop) = io::pipe().context("make a pipe")?;
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("relay".into())
            .spawn(move || carry(ends, &waiter, &seen, link.seed))
            .context("start the relay")?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// `port` of `far`, over this link by IPv4.
    #[must_use]
    pub fn far4(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(v4(3)), port)
    }

    /// `port` of `far`, over this link by IPv6.
    #[must_use]
    pub fn far6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(v6(3)), port)
    }

    /// Changes what the link does to frames that come from now on. The seed and the MTU stay.
    pub fn set(&self, link: Link) {
        lock(&self.shared).link = link;
    }

    /// What became of the frames from `near` to `far`, and of those back.
    #[must_use]
    pub fn counts(&self) -> [Relayed; 2] {
        lock(&self.shared).counts
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn v4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 2, host)
}

fn v6(host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 2, 0, 0, 0, host.into())
}

/// Makes the host's end, which lives as long as the file.
fn open(host: &Host, link: Link) -> Result<File> {
    ensure!((1_280..=1_500).contains(&link.mtu), "an MTU of 1280 to 1500");
    let opened = host.enter(|| -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        // SAFETY: ifreq is plain data, for which zeroes are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(Relay::INTERFACE.bytes()) {
            *to = from.cast_signed();
        }
        let kind = if link.ethernet { libc::IFF_TAP } else { libc::IFF_TUN };
        let flags = kind | libc::IFF_NO_PI;
        request.ifr_ifru.ifru_flags = flags.try_into().map_err(io::Error::other)?;
        // SAFETY: TUNSETIFF takes a pointer to an ifreq, which lives across the call, and the
        // descriptor is open.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
    })?;
    opened.with_context(|| format!("make {} on {}", Relay::INTERFACE, host.role))
}

fn configure(host: &Host, number: u8, mtu: u16) -> Result<()> {
    let name = Relay::INTERFACE;
    let commands = [
        // A queue of the default length would drop bursts before the link has seen them.
        format!("link set {name} mtu {mtu} txqueuelen 10000 up"),
        format!("address add {}/24 dev {name}", v4(number)),
        format!("address add {}/64 dev {name} nodad", v6(number)),
    ];
    for command in commands {
        host.run("ip", command.split_whitespace())?;
    }
    Ok(())
}

/// Carries frames until the pipe is closed, or an interface goes with its namespace.
fn carry(ends: [File; 2], waiter: &io::PipeReader, shared: &Mutex<Shared>, seed: u64) {
    let mut directions = [Direction::new(seed, 0), Direction::new(seed, 1)];
    let mut frame = vec![0; FRAME_MAX];
    loop {
        let next = directions.iter().filter_map(Direction::next).min();
        match wait(&ends, waiter, next) {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
        let link = lock(shared).link;
        for (from, direction) in directions.iter_mut().enumerate() {
            for _ in 0..BATCH {
                let Ok(len) = (&ends[from]).read(&mut frame) else { break };
                direction.take(&link, &frame[..len], Instant::now());
            }
            while let Some(frame) = direction.pop(Instant::now()) {
                // An interface that is down takes nothing; neither does a cable that is cut.
                let _ = (&ends[1 - from]).write(&frame);
            }
        }
        lock(shared).counts = [directions[0].counts(), directions[1].counts()];
    }
}

/// Waits for a frame or for `next`; false when the relay is to end.
fn wait(ends: &[File; 2], waiter: &io::PipeReader, next: Option<Instant>) -> io::Result<bool> {
    let time = next.map(|next| next.saturating_duration_since(Instant::now()));
    let time = time.map(|time: Duration| Timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(1),
        tv_nsec: time.subsec_nanos().into(),
    });
    let mut waited = [
        PollFd::new(&ends[0], PollFlags::IN),
        PollFd::new(&ends[1], PollFlags::IN),
        PollFd::new(waiter, PollFlags::IN),
    ];
    match poll(&mut waited, time.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = waited[..2].iter().any(|end| end.revents().contains(PollFlags::ERR));
    Ok(!gone && waited[2].revents().is_empty())
}
