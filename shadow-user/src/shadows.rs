//! Where copies go: an engine and a socket for each shadow, all fed with the same packets.
//!
//! Nothing is shared between them but the kernel, which copies production's answers once: whatever
//! any of them wants of a flow.

use std::net::SocketAddr;
use std::sync::Arc;

use shadow_engine::books::Books;
use shadow_engine::time::Instant;
use shadow_engine::{Answered, Engine, Order, Quota, Want, wire};

use crate::comparing::{self, Handed};
use crate::kernel::{KernelError, RawSender};
use crate::middleware::Asker;
use crate::report::Mirrored;

/// Packets that are sent to one shadow before the rings get their turn: a ring that fills up loses a
/// client's bytes for good, a packet of ours is only late.
const SEND_BUDGET: usize = 512;

/// What a shadow is there for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// It runs the version under test.
    #[default]
    Shadow,
    /// It runs production's version: what differs there is noise.
    Baseline,
}

impl Role {
    /// The role in a word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Baseline => "baseline",
        }
    }
}

/// One shadow, and all that is mirrored to it.
pub struct Shadow {
    name: Arc<str>,
    role: Role,
    engine: Engine,
    sender: RawSender,
    /// Exchanges that were handed over.
    compared: u64,
    /// Exchanges for which there was no room.
    queue_full: u64,
}

/// All shadows of a mirror, one at least.
pub struct Shadows {
    shadows: Vec<Shadow>,
}

impl Shadow {
    /// One that has got nothing yet; `name` is how its user calls it.
    ///
    /// # Errors
    /// When the sockets are not to be had.
    pub fn new(name: &str, role: Role, engine: Engine) -> Result<Self, KernelError> {
        let sender = RawSender::new()?;
        Ok(Self { name: name.into(), role, engine, sender, compared: 0, queue_full: 0 })
    }

    /// Sends a bounded number of packets; whether there are more.
    fn transmit(&mut self, now: Instant) -> bool {
        let Self { engine, sender, .. } = self;
        let mut write = |buffer: &mut Vec<u8>| engine.poll_transmit(now, buffer);
        let more = (0..SEND_BUDGET).all(|_| sender.push_with(&mut write));
        sender.flush();
        more
    }

    fn hand_over(&mut self, exchanges: &mut comparing::Sender) {
        while let Some(exchange) = self.engine.poll_exchange() {
            let shadow = Arc::clone(&self.name);
            match exchanges.send(Handed { role: self.role, shadow, exchange }) {
                Ok(()) => self.compared += 1,
                Err(comparing::Full) => self.queue_full += 1,
            }
        }
    }

    fn mirrored(&self) -> Mirrored {
        Mirrored {
            to: Arc::clone(&self.name),
            role: self.role,
            books: self.engine.books().clone(),
            sends: *self.sender.stats(),
            sessions: self.engine.sessions(),
            compared: self.compared,
            queue_full: self.queue_full,
            memory: self.engine.memory(),
        }
    }
}

impl Shadows {
    /// Those, the one under test first.
    #[must_use]
    pub const fn new(shadows: Vec<Shadow>) -> Self {
        Self { shadows }
    }

    /// Takes a packet that the tap copied.
    pub fn handle_capture(&mut self, packet: &[u8], captured_at: Instant, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.engine.handle_capture(packet, captured_at, now);
        }
    }

    /// Takes a packet that the guard copied. One that belongs to nobody is the first's to count.
    pub fn handle_reply(&mut self, packet: &[u8], captured_at: Instant, now: Instant) {
        let to = match &*self.shadows {
            [] | [_] => 0,
            shadows => wire::ends_of_reply(packet)
                .and_then(|(local, shadow)| {
                    shadows.iter().position(|one| one.engine.awaits(local, shadow))
                })
                .unwrap_or(0),
        };
        if let Some(shadow) = self.shadows.get_mut(to) {
            shadow.engine.handle_reply(packet, captured_at, now);
        }
    }

    /// Takes a packet that the tap's other half copied at egress.
    pub fn handle_response(&mut self, packet: &[u8], captured_at: Instant, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.engine.handle_response(packet, captured_at, now);
        }
    }

    /// The tap's ring has lost packets since the last call.
    pub fn note_capture_loss(&mut self, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.engine.note_capture_loss(now);
        }
    }

    /// Whether no session is begun from now on.
    pub fn set_paused(&mut self, paused: bool) {
        for shadow in &mut self.shadows {
            shadow.engine.set_paused(paused);
        }
    }

    /// Resets the sessions of flows, of client and production, that `keep` does not name.
    pub fn shed(&mut self, mut keep: impl FnMut(SocketAddr, SocketAddr) -> bool, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.engine.shed(&mut keep, now);
        }
    }

    /// How much each shadow is asked to take from now on.
    pub fn set_quota(&mut self, quota: Quota) {
        for shadow in &mut self.shadows {
            shadow.engine.set_quota(quota);
        }
    }

    /// Moves every flow on whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        for Shadow { engine, .. } in &mut self.shadows {
            if engine.poll_timeout().is_some_and(|due| due <= now) {
                engine.handle_timeout(now);
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.shadows.iter().filter_map(|shadow| shadow.engine.poll_timeout()).min()
    }

    /// Sends a bounded number of packets to each; whether there are more.
    pub fn transmit(&mut self, now: Instant) -> bool {
        self.shadows.iter_mut().fold(false, |more, shadow| shadow.transmit(now) | more)
    }

    /// What the kernel is to copy of a flow's answers from now on.
    pub fn poll_order(&mut self) -> Option<Order> {
        let order = self.shadows.iter_mut().find_map(|shadow| shadow.engine.poll_order())?;
        if self.shadows.len() == 1 {
            return Some(order);
        }
        let Order { client, production, want } = order;
        let wanted = self.shadows.iter().filter_map(|one| one.engine.wanted(client, production));
        Some(Order { want: wanted.reduce(Want::or).unwrap_or(want), ..order })
    }

    /// Hands over the exchanges that are complete.
    pub fn hand_over(&mut self, exchanges: &mut comparing::Sender) {
        for shadow in &mut self.shadows {
            shadow.hand_over(exchanges);
        }
    }

    /// Hands the program's answers to the engines, and their questions to it.
    pub fn ask(&mut self, asker: &mut Asker, now: Instant) {
        let shadows = &mut self.shadows;
        asker.answers(|index, id, answered| {
            shadows.get_mut(index).is_some_and(|shadow| shadow.engine.answer(id, answered, now))
        });
        for (index, Shadow { engine, .. }) in shadows.iter_mut().enumerate() {
            while let Some(question) = engine.poll_question() {
                let id = question.id;
                if let Err(reason) = asker.ask(index, question) {
                    engine.answer(id, Answered::LeftOut(reason), now);
                }
            }
        }
    }

    /// No more is captured: flows without a session end, the others deliver what they have.
    pub fn stop_capture(&mut self, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.engine.stop_capture(now);
        }
    }

    /// Whether no flow is open.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.shadows.iter().all(|shadow| shadow.engine.is_drained())
    }

    /// Resets whatever is still open; the last packets are to be sent after it.
    pub fn finish(&mut self, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.engine.finish(now);
        }
    }

    /// The books of each.
    pub fn books(&self) -> impl Iterator<Item = &Books> {
        self.shadows.iter().map(|shadow| shadow.engine.books())
    }

    /// What was mirrored so far: to the first, and to the others.
    #[must_use]
    pub fn mirrored(&self) -> (Mirrored, Vec<Mirrored>) {
        let mut all = self.shadows.iter().map(Shadow::mirrored);
        (all.next().unwrap_or_default(), all.collect())
    }
}
