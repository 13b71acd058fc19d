//! What the worker knows at one moment: plain numbers, shared by replacing them whole.

use std::time::Duration;

use shadow_common::TapCounter;
use shadow_engine::books::{Books, Imbalance};
use shadow_engine::time::Instant;

use super::Lag;
use crate::kernel::{KernelCounters, SendStats};

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

/// One moment of a run.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When capture began.
    pub started: Instant,
    /// When this was written.
    pub at: Instant,
    /// Where the run stands.
    pub phase: Phase,
    /// The engine's books.
    pub books: Books,
    /// What the programs in the kernel have counted.
    pub kernel: KernelCounters,
    /// What became of the packets for the shadow.
    pub sends: SendStats,
    /// How long captured packets waited.
    pub lag: Lag,
    /// Octets that flows buffer.
    pub memory: usize,
    /// Octets of the process in memory.
    pub resident: u64,
}

impl Snapshot {
    /// Time since capture began.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.at.since(self.started)
    }

    /// Packets of clients that were not captured, for whatever reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.kernel.tap.total() - self.kernel.tap.get(TapCounter::Captured)
    }

    /// Adds up every identity of the books, and those between engine, kernel and socket
    /// once nothing is on its way between them.
    ///
    /// # Errors
    /// The first identity that does not hold.
    pub fn check(&self) -> Result<(), Imbalance> {
        let done = self.phase == Phase::Done;
        self.books.check(done)?;
        if !done {
            return Ok(());
        }
        let unsent: u64 = self.sends.iter_unsent().map(|(_, count)| count).sum();
        let rows = [
            (
                "packets of the ring = packets.captured",
                self.kernel.tap.get(TapCounter::Captured),
                self.books.packets.captured,
            ),
            (
                "sent.transmitted = sent.packets + sent.unsent.*",
                self.books.transmitted,
                self.sends.packets + unsent,
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
