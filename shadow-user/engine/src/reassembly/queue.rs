//! Segments that wait behind a hole, and that agree with each other.

use std::collections::BTreeMap;

use crate::seq::SeqNum;
use crate::time::Instant;

/// What a waiting segment costs beside its bytes: its slot in a half-filled
/// tree and the allocator's own words. Counted, so that a client that sends
/// single bytes cannot hold many times the limit.
const SEGMENT_COST: usize = 96;

/// Why a segment could not be kept behind a hole. It was not taken: the stream is
/// good up to `rcv.nxt`, and can go on only if the client sends the segment again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum QueueError {
    /// What waits has reached the limit.
    #[error("out-of-order bytes over the limit of {limit}")]
    Overflow {
        /// The limit, octets.
        limit: usize,
    },
    /// It gives other bytes, or another end, than what waits for the same sequence
    /// numbers: which of them production reads, no capture can tell.
    #[error("out-of-order segments contradict each other")]
    Ambiguous,
}

/// A segment that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub data: Box<[u8]>,
    pub fin: bool,
    /// SEG.ACK; `None` on a SYN, which acknowledges nothing.
    pub ack: Option<SeqNum>,
    pub captured_at: Instant,
}

impl Waiting {
    /// Octets of sequence space.
    fn len(&self) -> u64 {
        self.data.len() as u64 + u64::from(self.fin)
    }

    /// Whether both give the same bytes where both have data; `self` begins
    /// `ahead` octets before `other`.
    fn agrees(&self, other: &Self, ahead: u64) -> bool {
        let ours = usize::try_from(ahead).ok().and_then(|ahead| self.data.get(ahead..));
        ours.is_none_or(|ours| ours.iter().zip(&other.data).all(|(a, b)| a == b))
    }

    fn cost(&self) -> usize {
        self.data.len() + SEGMENT_COST
    }
}

/// Waiting segments by the stream offset at which they begin.
///
/// None lies wholly within another, so that their ends ascend as their
/// beginnings do. An empty queue holds no heap memory.
#[derive(Debug, Default)]
pub(super) struct Queue {
    segments: BTreeMap<u64, Waiting>,
    memory: usize,
}

impl Queue {
    /// Octets held, bookkeeping included.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// The first segment's offset and capture time.
    pub fn first(&self) -> Option<(u64, Instant)> {
        self.segments.first_key_value().map(|(offset, waiting)| (*offset, waiting.captured_at))
    }

    /// The offset behind the last segment, FIN counted.
    pub fn right_edge(&self) -> Option<u64> {
        self.segments.last_key_value().map(|(offset, waiting)| offset + waiting.len())
    }

    /// Adds a segment that begins at `offset`; false when it lies within one that
    /// is there already. On an error nothing changes.
    pub fn insert(
        &mut self,
        offset: u64,
        waiting: Waiting,
        limit: usize,
    ) -> Result<bool, QueueError> {
        if self.contradicts(offset, &waiting) {
            return Err(QueueError::Ambiguous);
        }
        let end = offset + waiting.len();
        // Ends ascend, so only the last that begins no later can hold all of it.
        if let Some((begin, before)) = self.segments.range(..=offset).next_back()
            && end <= begin + before.len()
        {
            return Ok(false);
        }
        if self.memory + waiting.cost() > limit {
            return Err(QueueError::Overflow { limit });
        }
        // One that begins at the same offset is shorter, and is replaced here.
        while let Some((&begin, after)) = self.segments.range(offset..end).next()
            && begin + after.len() <= end
        {
            self.remove(begin);
        }
        self.memory += waiting.cost();
        self.segments.insert(offset, waiting);
        Ok(true)
    }

    /// Whether a segment gives other bytes, or another end of the stream, than what
    /// waits. Looks at no more than the bytes that it has in common with them.
    fn contradicts(&self, offset: u64, waiting: &Waiting) -> bool {
        let end = offset + waiting.data.len() as u64;
        // Nothing waits behind a FIN, so only the last can have one.
        if let Some((begin, last)) = self.segments.last_key_value() {
            let last_end = begin + last.data.len() as u64;
            if last.fin && end > last_end || waiting.fin && last_end > end {
                return true;
            }
            if last.fin && waiting.fin && end != last_end {
                return true;
            }
        }
        let mut before = self.segments.range(..=offset).rev();
        let mut after = self.segments.range(offset..end);
        // Ends ascend: from the first that ends before it on, all do.
        before
            .by_ref()
            .take_while(|(begin, before)| *begin + before.len() > offset)
            .any(|(begin, before)| !before.agrees(waiting, offset - begin))
            || after.any(|(begin, after)| !waiting.agrees(after, begin - offset))
    }

    /// Takes the first segment if it begins at or before `offset`.
    pub fn pop_until(&mut self, offset: u64) -> Option<(u64, Waiting)> {
        let (&begin, _) = self.segments.first_key_value()?;
        if begin > offset {
            return None;
        }
        Some((begin, self.remove(begin)?))
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, begin: u64) -> Option<Waiting> {
        let waiting = self.segments.remove(&begin)?;
        self.memory -= waiting.cost();
        if self.segments.is_empty() {
            // An emptied map would keep its root.
            self.clear();
        }
        Some(waiting)
    }
}
