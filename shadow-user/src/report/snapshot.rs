//! What the worker knows at one moment: plain numbers, shared by replacing them whole.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use shadow_common::{Counter as _, ResponseCounter, TapCounter};
use shadow_engine::books::{Books, Imbalance, PacketBooks, ResponseBooks, Tally};
use shadow_engine::time::Instant;

use super::Lag;
use crate::ctl::settings::{Name, Settings};
use crate::kernel::{KernelCounters, SendStats};
use crate::middleware::Counted;
use crate::pressure::Eased;
use crate::shadows::Role;

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Phase {
    /// Packets are captured.
    #[default]
    Capturing,
    /// Capture has ended; open sessions deliver what they have.
    Draining,
    /// Nothing is open, nothing is on its way.
    Done,
}

impl Phase {
    /// The phase in a word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Capturing => "capturing",
            Self::Draining => "draining",
            Self::Done => "done",
        }
    }
}

/// Why the tap could not copy a packet of a mirrored service.
pub const LOST: [TapCounter; 3] =
    [TapCounter::RingFull, TapCounter::Oversize, TapCounter::Unreadable];

/// Why the tap let a packet pass: it cannot tell whether it is of a mirrored service, or its flow was
/// not chosen.
pub const PASSED: [TapCounter; 5] = [
    TapCounter::Fragment,
    TapCounter::Malformed,
    TapCounter::SampledOut,
    TapCounter::Client,
    TapCounter::Paused,
];

/// Each of the tap's counters has its place.
const _: () = assert!(LOST.len() + PASSED.len() + 1 == TapCounter::ALL.len());

/// Why the tap could not copy a packet of production's that was wanted.
pub const RESPONSES_LOST: [ResponseCounter; 5] = [
    ResponseCounter::RingFull,
    ResponseCounter::Oversize,
    ResponseCounter::Unreadable,
    ResponseCounter::Fragment,
    ResponseCounter::Malformed,
];

/// Each of its counters has its place.
const _: () = assert!(RESPONSES_LOST.len() + 2 == ResponseCounter::ALL.len());

/// Packets of production's that the tap copied, whole or not.
#[must_use]
pub fn answers(kernel: &KernelCounters) -> u64 {
    kernel.responses.get(ResponseCounter::Captured)
        + kernel.responses.get(ResponseCounter::Abridged)
}

/// What was mirrored to one shadow.
#[derive(Clone, Debug, Default)]
pub struct Mirrored {
    /// The shadow, as its user calls it.
    pub to: Arc<str>,
    /// What it is there for.
    pub role: Role,
    /// By how many sessions each flow is mirrored.
    pub copies: u64,
    /// Whether it gets some of the clients alone, and other shadows the rest.
    pub spread: bool,
    /// The books, of all copies together.
    pub books: Books,
    /// Open flows of clients, whatever the copies.
    pub clients: u64,
    /// What became of the packets for the shadow.
    pub sends: SendStats,
    /// Open sessions with the shadow.
    pub sessions: usize,
    /// Exchanges that were handed over to be compared.
    pub compared: u64,
    /// Exchanges for which there was no room.
    pub queue_full: u64,
    /// Octets that flows buffer.
    pub memory: usize,
}

/// One moment of a run.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When capture began.
    pub started: Instant,
    /// When this was written.
    pub at: Instant,
    /// Where the run stands.
    pub phase: Phase,
    /// What the programs in the kernel have counted.
    pub kernel: KernelCounters,
    /// The settings that can be changed.
    pub settings: Arc<Settings>,
    /// How often each was.
    pub changes: Tally<Name>,
    /// What pressure on the host has come to.
    pub eased: Eased,
    /// How long captured packets waited.
    pub lag: Lag,
    /// What a program that is asked about requests has done, where there is one.
    pub asked: Option<Counted>,
    /// Octets of the process in memory.
    pub resident: u64,
    /// What was mirrored to the shadow, the first where there are several.
    pub shadow: Mirrored,
    /// What was mirrored to the others.
    pub others: Vec<Mirrored>,
}

impl Snapshot {
    /// Time since capture began.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.at.since(self.started)
    }

    /// Packets of a mirrored service that the tap saw.
    #[must_use]
    pub fn selected(&self) -> u64 {
        self.kernel.tap.get(TapCounter::Captured) + self.lost()
    }

    /// Packets of a mirrored service that were not captured, for whatever reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        LOST.iter().map(|reason| self.kernel.tap.get(*reason)).sum()
    }

    /// Packets of production's that were wanted and not captured.
    fn responses_lost(&self) -> u64 {
        RESPONSES_LOST.iter().map(|reason| self.kernel.responses.get(*reason)).sum()
    }

    /// What was captured, by all shadows that have their clients to themselves, or by each alike.
    #[must_use]
    pub fn captured(&self) -> (PacketBooks, ResponseBooks) {
        let Books { mut packets, mut responses, .. } = self.shadow.books.clone();
        if self.shadow.spread {
            for other in self.others.iter().filter(|other| other.spread) {
                packets += &other.books.packets;
                responses += &other.books.responses;
            }
        }
        (packets, responses)
    }

    /// What was mirrored to each shadow.
    pub fn mirrored(&self) -> impl Iterator<Item = &Mirrored> {
        iter::once(&self.shadow).chain(&self.others)
    }

    /// Adds up every identity of the books, and those between engine, kernel and socket
    /// once nothing is on its way between them.
    ///
    /// # Errors
    /// The first identity that does not hold.
    pub fn check(&self) -> Result<(), Imbalance> {
        self.mirrored().try_for_each(|mirrored| self.check_one(mirrored))
    }

    fn check_one(&self, mirrored: &Mirrored) -> Result<(), Imbalance> {
        let Mirrored { books, sends, compared, queue_full, .. } = mirrored;
        let (packets, responses) = if mirrored.spread {
            self.captured()
        } else {
            (books.packets.clone(), books.responses.clone())
        };
        let done = self.phase == Phase::Done;
        books.check(done)?;
        if !done {
            return Ok(());
        }
        let unsent: u64 = sends.iter_unsent().map(|(_, count)| count).sum();
        let rows = [
            (
                "packets.selected = packets.captured + packets.lost.*",
                self.selected(),
                packets.captured + self.lost(),
            ),
            (
                "responses.selected = responses.captured + responses.lost.*",
                self.kernel.responses.total(),
                responses.captured + self.responses_lost(),
            ),
            (
                "exchanges.seen = exchanges.compared + exchanges.shed.*",
                books.exchanges.seen,
                compared + queue_full,
            ),
            (
                "sent.transmitted = sent.packets + sent.unsent.*",
                books.transmitted,
                sends.packets + unsent,
            ),
        ];
        for (identity, left, right) in rows {
            if left != right {
                return Err(Imbalance { identity, left, right });
            }
        }
        Ok(())
    }
}
