//! One flow's answers on their way to being compared: production's stream and the exchanges.
//!
//! They belong to a session while there is one. When it ends before production has answered, they
//! go on without it ([`Trailing`]).

mod stream;
mod trailing;
mod want;

use std::net::SocketAddr;

pub(crate) use stream::Answer;
pub(crate) use trailing::{GivenUp, Trailing};
pub use want::{Order, Want};

use crate::exchange::{Exchange, Exchanges, Fate, Leg, Limits, Piece, Unpaired};
use crate::seq::SeqNum;
use crate::time::{Duration, Instant};
use stream::{Next, Stream, Taken};

/// How long a hole may wait for production to send the segment again, and an answer for its request.
const HOLE_TIMEOUT: Duration = Duration::from_secs(1);

/// From this many octets on, leaving them out is worth telling the kernel.
const WORTH_SKIPPING: u64 = 16 << 10;

/// The longest stretch that is left out at once: a range of sequence numbers, well below 2^31. One
/// that has been passed by as far is taken back, before the numbers come round to it again.
const MAX_SKIPPED: u64 = 1 << 30;

/// What is known of production's answers, in octets of its stream since the session began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Known {
    /// So far all that was answered is whole and known; 0 if that cannot be said.
    pub(crate) to: u64,
    /// With so many a client had the first whole answer that the shadow has still to give;
    /// [`u64::MAX`] if none is known.
    pub(crate) owed_from: u64,
}

impl Default for Known {
    fn default() -> Self {
        Self { to: 0, owed_from: u64::MAX }
    }
}

/// What became of a packet of production's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Heard {
    /// It counts.
    Used,
    /// It is of another connection with the same addresses and ports.
    OutOfWindow,
}

/// One flow's answers.
#[derive(Debug)]
pub(crate) struct Answers {
    exchanges: Exchanges,
    stream: Stream,
    /// Offset of production's stream up to which the kernel was told to leave octets out; 0 when it
    /// was not.
    skipped_until: u64,
    /// What the kernel was told last, or will be.
    told: Want,
    /// Whether it is still to be told.
    is_news: bool,
    /// Nothing more is taken of production's stream.
    is_over: bool,
}

impl Answers {
    /// Of a flow in which production's next octet has the number `first`.
    pub(crate) fn new(
        limits: Limits,
        client: SocketAddr,
        production: SocketAddr,
        first: SeqNum,
    ) -> Self {
        Self {
            exchanges: Exchanges::new(limits, client, production),
            stream: Stream::new(first),
            skipped_until: 0,
            told: Want::All,
            is_news: false,
            is_over: false,
        }
    }

    /// Requests are edited on their way to the shadow: [`Self::decided`] tells how.
    pub(crate) fn expect_fates(&mut self) {
        self.exchanges.expect_fates();
    }

    /// What became of the next requests, in order.
    pub(crate) fn decided(&mut self, fates: impl Iterator<Item = Fate>) {
        self.exchanges.decided(fates);
    }

    /// Nothing more is decided.
    pub(crate) fn decided_no_more(&mut self) {
        self.exchanges.decided_no_more();
    }

    /// The client's next octets in order.
    pub(crate) fn requested(&mut self, bytes: &[u8], at: Instant) {
        self.exchanges.requested(bytes, at);
    }

    /// The client's stream up to `offset` went to the shadow for the first time.
    pub(crate) fn forwarded(&mut self, offset: u64, at: Instant) {
        self.exchanges.forwarded(offset, at);
    }

    /// The shadow's next octets in order.
    pub(crate) fn shadow_answered(&mut self, bytes: &[u8], at: Instant) {
        self.exchanges.answered(Leg::Shadow, Piece::Bytes(bytes), at);
    }

    /// The shadow will answer no more.
    pub(crate) fn shadow_ended(&mut self, reason: Unpaired, at: Instant) {
        self.exchanges.ended(Leg::Shadow, reason, at);
    }

    /// A segment of production's; the client's stream is known up to `heard`.
    pub(crate) fn handle_answer(&mut self, answer: &Answer<'_>, heard: Option<SeqNum>) -> Heard {
        let Self { exchanges, stream, is_over, .. } = self;
        let taken = stream.insert(answer, heard, &mut into(exchanges, is_over));
        match taken {
            Taken::OutOfWindow => return Heard::OutOfWindow,
            Taken::Used => self.see_what_is_wanted(),
            Taken::Overflow => self.lose(answer.at),
        }
        Heard::Used
    }

    /// The client's stream is known up to `heard`; `None` when it is not followed any more.
    pub(crate) fn hear(&mut self, heard: Option<SeqNum>) {
        let Self { exchanges, stream, is_over, .. } = self;
        if stream.waits_since().is_some() {
            stream.advance(heard, &mut into(exchanges, is_over));
            self.see_what_is_wanted();
        }
    }

    /// What is known of production's answers, for a gate.
    pub(crate) fn known(&self) -> Known {
        let owed_from = self.exchanges.owed_from().unwrap_or(u64::MAX);
        Known { to: self.exchanges.known_to(), owed_from }
    }

    /// Gives production's stream up when a hole has waited long enough.
    pub(crate) fn advance(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|deadline| now >= deadline) {
            self.lose(now);
        }
    }

    /// When [`Self::advance`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.stream.waits_since().map(|since| since + HOLE_TIMEOUT)
    }

    /// What is still waiting will not be answered.
    pub(crate) fn settle(&mut self, reason: Unpaired) {
        self.exchanges.settle(reason);
        self.stream.give_up();
        self.is_over = true;
    }

    /// Whether nothing more can come of production.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// What the kernel is to be told, once.
    pub(crate) fn take_want(&mut self) -> Option<Want> {
        std::mem::take(&mut self.is_news).then_some(self.told)
    }

    /// What is wanted of production, while anything is.
    pub(crate) fn wanted(&self) -> Option<Want> {
        (!self.is_over).then_some(self.told)
    }

    /// The next exchange that is complete, or will never be.
    pub(crate) fn poll(&mut self) -> Option<Box<Exchange>> {
        self.exchanges.poll()
    }

    /// Octets, its own included.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.exchanges.memory() + self.stream.memory()
    }

    /// Octets of production's stream are missing.
    fn lose(&mut self, now: Instant) {
        self.stream.give_up();
        self.exchanges.ended(Leg::Production, Unpaired::Lost, now);
        self.is_over = true;
        self.tell(Want::Nothing);
    }

    fn tell(&mut self, want: Want) {
        self.told = want;
        self.is_news = true;
    }

    fn see_what_is_wanted(&mut self) {
        if self.is_over {
            return;
        }
        let offset = self.stream.offset();
        let skippable = self.exchanges.skippable().min(MAX_SKIPPED);
        // A stretch that goes on is told anew when half of what was told is used up.
        let left = self.skipped_until.saturating_sub(offset);
        if skippable >= WORTH_SKIPPING && left < skippable.min(MAX_SKIPPED / 2) {
            let from = self.stream.nxt();
            // Bounded above, so that it fits.
            let until = from + skippable as u32;
            self.skipped_until = offset + skippable;
            self.tell(Want::AllBut { from: from.get(), until: until.get() });
        } else if self.skipped_until != 0 && offset >= self.skipped_until + MAX_SKIPPED {
            self.skipped_until = 0;
            self.tell(Want::All);
        }
    }
}

/// Hands what comes out of production's stream to the exchanges.
fn into<'a>(
    exchanges: &'a mut Exchanges,
    is_over: &'a mut bool,
) -> impl FnMut(Next<'_>, Instant) + 'a {
    move |next, at| match next {
        Next::Piece(piece) => exchanges.answered(Leg::Production, piece, at),
        Next::End => {
            exchanges.ended(Leg::Production, Unpaired::Closed, at);
            *is_over = true;
        }
    }
}
