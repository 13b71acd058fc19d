//! Packets as they arrive from the programs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::{Map, MapData};
use bytemuck::Zeroable as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::ProtFlags;
use rustix::param::page_size;
use shadow_common::{MAX_PACKET_LEN, RecordHeader, Ring as Which};

use super::ring::{Pages, Ring};
use super::{KernelError, clock};

/// The longest sleep in [`Rings::wait`]. A wake-up can be missed only when a ring fills up at
/// the very moment its consumer goes to sleep; then this bounds the damage.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// More CPUs than any kernel is built for.
const MAX_CPUS: usize = 16_384;

/// What [`Rings::drain`] found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Drained {
    /// Packets handed over.
    pub packets: usize,
    /// Whether the budget ended it, so that there may be more.
    pub more: bool,
}

/// The reading side of the rings, for one thread of its own.
///
/// Call [`Rings::drain`] until it has no `more`, then [`Rings::wait`].
pub struct Rings {
    requests: Reader,
    replies: Reader,
    /// None when production's answers are not copied.
    responses: Option<Reader>,
    /// What else ends a sleep.
    bell: Option<Arc<OwnedFd>>,
    sleeping: Sleeping,
}

impl Rings {
    /// From now on [`Self::wait`] ends when this is readable, too.
    pub fn wake_by(&mut self, bell: Arc<OwnedFd>) {
        self.bell = Some(bell);
    }

    pub(super) fn new(
        requests: Map,
        replies: Map,
        responses: Option<Map>,
        sleeping: Map,
    ) -> Result<Self, KernelError> {
        Ok(Self {
            responses: responses.map(|map| Reader::new("RESPONSES", map)).transpose()?,
            requests: Reader::new("REQUESTS", requests)?,
            replies: Reader::new("REPLIES", replies)?,
            bell: None,
            sleeping: Sleeping::new(sleeping)?,
        })
    }

    /// Hands over whole packets, the shadow's replies first: at most `budget` records of each ring.
    ///
    /// The header is that of the packet's first part, with `part_len` equal to `packet_len`.
    ///
    /// Production's answers come last, and none that was captured after the last request: the tap
    /// has put a request into its ring before production can read it, so that the answer's time is
    /// later, and whatever requests came before that time have been handed over. With several CPUs
    /// a request may still be missing whose record another CPU's, not finished yet, stands before;
    /// whoever pairs them has to bear that.
    pub fn drain(
        &mut self,
        budget: usize,
        mut handle: impl FnMut(&RecordHeader, &[u8]),
    ) -> Drained {
        // Before the requests are looked at: one that comes behind the look is later.
        let mut horizon = clock::now().as_nanos();
        let replies = self.replies.drain(budget, u64::MAX, &mut handle);
        let requests = self.requests.drain(budget, u64::MAX, &mut handle);
        if requests.more {
            horizon = requests.last;
        }
        let mut drained = Drained {
            packets: replies.packets + requests.packets,
            more: replies.more || requests.more,
        };
        if let Some(responses) = &mut self.responses {
            let responses = responses.drain(budget, horizon, &mut handle);
            drained.packets += responses.packets;
            drained.more |= responses.more;
        }
        drained
    }

    /// Sleeps until a ring has something or `timeout` has passed, at most 100 ms; at once when
    /// there is something already. Interrupting signals end it early.
    ///
    /// # Errors
    /// When polling fails, which no healthy system does.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = timeout.min(MAX_WAIT);
        let timeout = Timespec {
            tv_sec: timeout.as_secs().cast_signed(),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // Set before polling, which looks at the rings again: a record put there before
        // the flag is seen, one put there after finds the flag.
        self.sleeping.set(1);
        let mut fds = Vec::with_capacity(4);
        fds.extend([self.requests.poll_fd(), self.replies.poll_fd()]);
        fds.extend(self.responses.as_ref().map(Reader::poll_fd));
        fds.extend(self.bell.as_ref().map(|bell| PollFd::new(bell, PollFlags::IN)));
        let result = poll(&mut fds, Some(&timeout));
        self.sleeping.set(0);
        match result {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Packets of which a part was missing. The programs counted each as `ring_full`.
    #[must_use]
    pub fn incomplete(&self) -> u64 {
        let responses = self.responses.as_ref().map_or(0, |reader| reader.joiner.incomplete);
        self.requests.joiner.incomplete + self.replies.joiner.incomplete + responses
    }
}

/// One ring and the packets of it that are not whole yet.
struct Reader {
    ring: Ring,
    joiner: Joiner,
    /// A record that was read too early; empty when there is none.
    held: Vec<u8>,
}

/// What [`Reader::drain`] found.
struct Read {
    packets: usize,
    more: bool,
    /// When the last record was captured; 0 when there was none.
    last: u64,
}

impl Reader {
    fn new(name: &'static str, map: Map) -> Result<Self, KernelError> {
        Ok(Self { ring: Ring::new(name, map)?, joiner: Joiner::default(), held: Vec::new() })
    }

    /// Readable once a wake-up was given.
    fn poll_fd(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.ring.as_fd(), PollFlags::IN)
    }

    /// At most `budget` records, none captured after `horizon`.
    fn drain(
        &mut self,
        budget: usize,
        horizon: u64,
        handle: &mut impl FnMut(&RecordHeader, &[u8]),
    ) -> Read {
        let Self { ring, joiner, held } = self;
        let mut read = Read { packets: 0, more: false, last: 0 };
        let mut take = |record: &[u8], read: &mut Read| {
            read.last = captured_at(record);
            if let Some((header, packet)) = joiner.add(record) {
                handle(&header, packet);
                read.packets += 1;
            }
        };
        if !held.is_empty() {
            if captured_at(held) > horizon {
                read.more = true;
                return read;
            }
            take(held, &mut read);
            held.clear();
        }
        read.more = true;
        for _ in 0..budget {
            let Some(record) = ring.next() else {
                read.more = false;
                break;
            };
            if captured_at(record) > horizon {
                held.extend_from_slice(record);
                break;
            }
            take(record, &mut read);
        }
        ring.release();
        read
    }
}

/// When a record was captured; 0 when it is too short to say.
fn captured_at(record: &[u8]) -> u64 {
    record.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// Joins the parts of long packets, one packet per CPU at a time.
#[derive(Default)]
struct Joiner {
    /// Indexed by CPU; a buffer is made when a CPU has its first long packet.
    partial: Vec<Partial>,
    incomplete: u64,
}

#[derive(Clone)]
struct Partial {
    header: RecordHeader,
    packet: Vec<u8>,
}

impl Partial {
    /// Whether there is a packet of which parts are missing.
    fn is_open(&self) -> bool {
        !self.packet.is_empty() && self.packet.len() < self.header.packet_len as usize
    }

    /// Whether a record is the next part of this packet.
    fn goes_on_with(&self, header: &RecordHeader) -> bool {
        self.is_open()
            && self.packet.len() == header.part_offset as usize
            && self.header.captured_at == header.captured_at
            && self.header.packet_len == header.packet_len
    }
}

impl Joiner {
    /// Takes a record; gives a packet when it is whole, with its first part's header.
    fn add<'a>(&'a mut self, record: &'a [u8]) -> Option<(RecordHeader, &'a [u8])> {
        let (header, part) = split(record)?;
        let whole = header.part_len == header.packet_len;
        let cpu = header.cpu as usize;
        if self.partial.len() <= cpu {
            if whole {
                return Some((header, part));
            }
            let none = Partial { header: RecordHeader::zeroed(), packet: Vec::new() };
            self.partial.resize(cpu + 1, none);
        }
        let partial = &mut self.partial[cpu];
        let goes_on = partial.goes_on_with(&header);
        if !goes_on && partial.is_open() {
            self.incomplete += 1;
            partial.packet.clear();
        }
        if whole {
            return Some((header, part));
        }
        if header.part_offset == 0 {
            partial.header = RecordHeader { part_len: header.packet_len, ..header };
            partial.packet.clear();
        } else if !goes_on {
            return None;
        }
        partial.packet.extend_from_slice(part);
        (!partial.is_open()).then_some((partial.header, &partial.packet))
    }
}

/// A record's header and the packet bytes behind it; `None` when they contradict each other.
fn split(record: &[u8]) -> Option<(RecordHeader, &[u8])> {
    let (header, bytes) = record.split_at_checked(size_of::<RecordHeader>())?;
    let header: RecordHeader = bytemuck::pod_read_unaligned(header);
    let part = bytes.get(..header.part_len as usize)?;
    let end = header.part_offset.checked_add(header.part_len)?;
    let fits = end <= header.packet_len
        && header.packet_len as usize <= MAX_PACKET_LEN
        && header.part_len != 0
        && (header.cpu as usize) < MAX_CPUS;
    fits.then_some((header, part))
}

/// The `SLEEPING` array in this process's memory.
struct Sleeping {
    page: Pages,
    _map: MapData,
}

impl Sleeping {
    fn new(map: Map) -> Result<Self, KernelError> {
        let Map::Array(map) = map else { return Err(KernelError::Missing("SLEEPING")) };
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let page = Pages::new(map.fd().as_fd(), 0, page_size(), both)
            .map_err(|error| KernelError::io("map `SLEEPING` into memory", error))?;
        Ok(Self { page, _map: map })
    }

    /// Says whether the consumer of the rings sleeps.
    fn set(&self, value: u64) {
        for ring in [Which::Requests, Which::Replies, Which::Responses] {
            // SAFETY: the array has `Ring::COUNT` values of eight bytes within the page.
            let flag = unsafe { self.page.start().cast::<AtomicU64>().add(ring as usize).as_ref() };
            flag.store(value, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cpu: u32, captured_at: u64, packet: &[u8], from: usize, to: usize) -> Vec<u8> {
        let header = RecordHeader {
            captured_at,
            packet_len: packet.len() as u32,
            part_offset: from as u32,
            part_len: (to - from) as u32,
            ifindex: 1,
            cpu,
            kind: 0,
        };
        [bytemuck::bytes_of(&header), &packet[from..to]].concat()
    }

    /// Feeds records and gives the packets that came out whole.
    fn join(joiner: &mut Joiner, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for record in records {
            if let Some((header, packet)) = joiner.add(record) {
                assert_eq!(header.part_offset, 0);
                assert_eq!(header.part_len as usize, packet.len());
                packets.push(packet.to_vec());
            }
        }
        packets
    }

    #[test]
    fn parts_of_two_cpus_interleave() {
        let a: Vec<u8> = (0..100).collect();
        let b: Vec<u8> = (100..200).collect();
        let mut joiner = Joiner::default();
        let packets = join(
            &mut joiner,
            &[
                record(0, 1, &a, 0, 60),
                record(1, 2, &b, 0, 50),
                record(0, 1, &a, 60, 100),
                record(1, 2, &b, 50, 99),
                record(1, 2, &b, 99, 100),
            ],
        );
        assert_eq!(packets, [a, b]);
        assert_eq!(joiner.incomplete, 0);
    }

    #[test]
    fn a_head_without_its_rest_is_counted_once_and_given_to_nobody() {
        let a: Vec<u8> = (0..100).collect();
        let b: Vec<u8> = (100..200).collect();
        for next in [
            vec![record(0, 2, &b, 0, 100)],
            vec![record(0, 2, &b, 0, 30), record(0, 2, &b, 30, 100)],
        ] {
            let mut joiner = Joiner::default();
            let records = [vec![record(0, 1, &a, 0, 60)], next].concat();
            assert_eq!(join(&mut joiner, &records), std::slice::from_ref(&b));
            assert_eq!(joiner.incomplete, 1);
        }
    }

    #[test]
    fn a_rest_without_its_head_or_middle_is_given_to_nobody() {
        let a: Vec<u8> = (0..100).collect();
        let mut joiner = Joiner::default();
        assert!(join(&mut joiner, &[record(0, 1, &a, 60, 100)]).is_empty());
        assert_eq!(joiner.incomplete, 0);
        let gap = [record(0, 1, &a, 0, 30), record(0, 1, &a, 60, 100)];
        assert!(join(&mut joiner, &gap).is_empty());
        assert_eq!(joiner.incomplete, 1);
    }

    #[test]
    fn records_that_contradict_themselves_are_ignored() {
        let a: Vec<u8> = (0..100).collect();
        let mut joiner = Joiner::default();
        let good = record(0, 1, &a, 0, 100);
        for len in 0..good.len() {
            assert!(joiner.add(&good[..len]).is_none(), "cut to {len}");
        }
        let mut beyond = good.clone();
        beyond[8..12].copy_from_slice(&50_u32.to_ne_bytes());
        assert!(joiner.add(&beyond).is_none());
        assert!(joiner.add(&good).is_some());
    }
}
