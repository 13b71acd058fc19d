//! One ring that a program fills, in this process's memory: its reading side.
//!
//! aya has such a reader. This one maps the records once, where aya maps them twice behind each other
//! (all that is mapped counts as resident), and gives room back in portions, not with every record.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use aya::maps::{Map, MapData};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::param::page_size;

use super::KernelError;

// linux/bpf.h
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Of a record: its length with two flags, and a word that is the kernel's.
const HEADER_LEN: usize = 8;

/// Room is given back when this part of the ring was read, or on [`Ring::release`].
const PORTION: usize = 16;

/// The reading side of a ring, for one thread.
pub(super) struct Ring {
    /// The position up to which records were read, for the kernel to see.
    consumer: Pages,
    /// The position up to which records were written, and from the next page on the records.
    producer: Pages,
    /// Octets of all records.
    size: usize,
    /// Up to where records were read; what [`Self::next`] gave last is among them.
    read: usize,
    /// Up to where the kernel knows that they were.
    released: usize,
    /// Up to where they were known to be written.
    written: usize,
    /// A record that goes on at the ring's start.
    joined: Vec<u8>,
    map: MapData,
}

impl Ring {
    /// Maps a ring into memory.
    ///
    /// # Errors
    /// Not a ring buffer, or a kernel that has no memory for the mapping.
    pub(super) fn new(name: &'static str, map: Map) -> Result<Self, KernelError> {
        let Map::RingBuf(map) = map else { return Err(KernelError::Missing(name)) };
        let failed = |error: io::Error| KernelError::io("map a ring into memory", error);
        let info = map.info().map_err(|source| KernelError::Map { map: name, source })?;
        let size = info.max_entries() as usize;
        // `ringbuf_map_mmap_kern`: a page for the consumer, which alone is writable, one for the
        // producer, and the records.
        let page = page_size();
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let consumer = Pages::new(map.fd().as_fd(), 0, page, both).map_err(failed)?;
        let producer =
            Pages::new(map.fd().as_fd(), page, page + size, ProtFlags::READ).map_err(failed)?;
        let read = position(&consumer).load(Ordering::Acquire);
        Ok(Self {
            consumer,
            producer,
            size,
            read,
            released: read,
            written: read,
            joined: Vec::new(),
            map,
        })
    }

    /// The next record, whose room is not given back before the call after this one.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        if self.read.wrapping_sub(self.released) >= self.size / PORTION {
            self.release();
        }
        loop {
            if self.read == self.written {
                self.written = position(&self.producer).load(Ordering::Acquire);
                if self.read == self.written {
                    return None;
                }
            }
            // The size is a power of two, and records begin at multiples of eight octets.
            let at = self.read & (self.size - 1);
            // SAFETY: within the records' pages, and aligned.
            let head = unsafe { self.record(at).cast::<AtomicU32>().as_ref() };
            // The kernel commits a record with an exchange of this word.
            let head = head.load(Ordering::Acquire);
            if head & BUSY != 0 {
                return None;
            }
            let len = (head & !DISCARDED) as usize;
            self.read = self.read.wrapping_add((HEADER_LEN + len).next_multiple_of(HEADER_LEN));
            if head & DISCARDED == 0 {
                return Some(self.bytes((at + HEADER_LEN) & (self.size - 1), len));
            }
        }
    }

    /// Gives the room of all that was read back to the kernel: before whoever reads goes to sleep, since a
    /// ring with records in it is ready to be read.
    pub(super) fn release(&mut self) {
        if self.released != self.read {
            self.released = self.read;
            position(&self.consumer).store(self.read, Ordering::Release);
        }
    }

    fn record(&self, at: usize) -> NonNull<u8> {
        debug_assert!(at < self.size, "{at} of {}", self.size);
        // SAFETY: the mapping has `size` octets behind its first page.
        unsafe { self.producer.start.add(page_size() + at) }
    }

    /// `len` octets of a record, which may go on at the ring's start.
    fn bytes(&mut self, at: usize, len: usize) -> &[u8] {
        // The kernel writes no longer ones.
        let len = len.min(self.size);
        let until_end = len.min(self.size - at);
        // SAFETY: both within the records' pages, and not written to before they are released.
        let (first, rest) = unsafe {
            (
                std::slice::from_raw_parts(self.record(at).as_ptr(), until_end),
                std::slice::from_raw_parts(self.record(0).as_ptr(), len - until_end),
            )
        };
        if rest.is_empty() {
            return first;
        }
        self.joined.clear();
        self.joined.extend_from_slice(first);
        self.joined.extend_from_slice(rest);
        &self.joined
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }
}

/// The position that stands at the beginning of a page.
fn position(pages: &Pages) -> &AtomicUsize {
    // SAFETY: a page is larger and aligned; the kernel writes it as one word.
    unsafe { pages.start.cast().as_ref() }
}

/// A part of a map in this process's memory.
pub(super) struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: shared memory, reached through atomics where the kernel writes it too, and unmapped on drop
// alone.
unsafe impl Send for Pages {}

impl Pages {
    /// Maps `len` octets of a map from `offset` on.
    pub(super) fn new(
        map: BorrowedFd<'_>,
        offset: usize,
        len: usize,
        protection: ProtFlags,
    ) -> io::Result<Self> {
        // SAFETY: a new shared mapping, at an address that the kernel chooses.
        let start = unsafe {
            mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, map, offset as u64)?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// Where they begin.
    pub(super) const fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length; references into it borrow its owner.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}
