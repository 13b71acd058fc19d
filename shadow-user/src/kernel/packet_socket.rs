//! Packet sockets (packet(7)), for which there is no safe interface: opened, bound to an interface, told
//! options.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Opens one for whole frames. It is of no protocol until it is bound, and so receives nothing.
pub(super) fn open(flags: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags;
    // SAFETY: takes numbers only.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the call has just given it, to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds it to the interface of that index, to receive frames of an EtherType, or with 0 none.
pub(super) fn bind(socket: &OwnedFd, interface: u32, ether_type: u16) -> io::Result<()> {
    // SAFETY: plain data, for which zeroes are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ether_type.to_be();
    address.sll_ifindex = interface.cast_signed();
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address outlives the call, and has this length.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

/// Sets an option, whose value is plain data as the kernel has it.
pub(super) fn set<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value outlives the call, and has this length; so does the filter that a program
    // points to.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), len)
    };
    check(done).map(drop)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
