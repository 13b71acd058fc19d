//! Where copies go: engines and a socket for each shadow, all fed with the same packets, or each with
//! those of its own clients.
//!
//! Nothing is shared between them but the kernel, which copies production's answers once: whatever
//! any of them wants of a flow.

mod shadow;
mod spread;

use std::net::{IpAddr, SocketAddr};

use shadow_engine::time::Instant;
use shadow_engine::{Answered, Engine, Order, Quota, Want, wire};

use crate::comparing;
use crate::kernel::NextHop;
use crate::middleware::Asker;
use crate::report::Mirrored;

pub use shadow::{Shadow, quota_of_copy};
pub use spread::Spread;

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

/// All shadows of a mirror, one at least.
pub struct Shadows {
    shadows: Vec<Shadow>,
    /// Which of them gets a client, if not each.
    spread: Option<Spread>,
}

impl Shadows {
    /// Those, the one under test first.
    #[must_use]
    pub const fn new(shadows: Vec<Shadow>, spread: Option<Spread>) -> Self {
        Self { shadows, spread }
    }

    /// Those that get what goes between production and a client: all, or the client's own and the
    /// baseline. What cannot be read is the first's to count.
    fn of_client(
        &mut self,
        packet: &[u8],
        client: fn((IpAddr, IpAddr)) -> IpAddr,
    ) -> impl Iterator<Item = &mut Shadow> {
        let own = self.spread.map(|spread| {
            wire::addresses(packet).map_or(0, |addresses| spread.of(client(addresses)))
        });
        self.shadows.iter_mut().enumerate().filter_map(move |(place, shadow)| {
            let gets = own.is_none_or(|own| own == place || shadow.role() == Role::Baseline);
            gets.then_some(shadow)
        })
    }

    /// Takes a packet that the tap copied.
    pub fn handle_capture(&mut self, packet: &[u8], captured_at: Instant, now: Instant) {
        for shadow in self.of_client(packet, |(source, _)| source) {
            shadow.each(|engine| engine.handle_capture(packet, captured_at, now));
        }
    }

    /// Takes a packet that the guard copied. One that belongs to nobody is the first's to count.
    pub fn handle_reply(&mut self, packet: &[u8], captured_at: Instant, now: Instant) {
        let awaiting = match &*self.shadows {
            [one] if one.copies() == 1 => None,
            shadows => wire::ends_of_reply(packet).and_then(|(local, remote)| {
                let engines = shadows.iter().map(|shadow| shadow.awaits(local, remote));
                engines.enumerate().find_map(|(place, engine)| Some((place, engine?)))
            }),
        };
        let (to, engine) = awaiting.unwrap_or_default();
        if let Some(shadow) = self.shadows.get_mut(to) {
            shadow.handle_reply(engine, packet, captured_at, now);
        }
    }

    /// Takes a packet that the tap's other half copied at egress.
    pub fn handle_response(&mut self, packet: &[u8], captured_at: Instant, now: Instant) {
        for shadow in self.of_client(packet, |(_, destination)| destination) {
            shadow.handle_response(packet, captured_at, now);
        }
    }

    /// The tap's ring has lost packets since the last call.
    pub fn note_capture_loss(&mut self, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.each(|engine| engine.note_capture_loss(now));
        }
    }

    /// Whether no session is begun from now on.
    pub fn set_paused(&mut self, paused: bool) {
        for shadow in &mut self.shadows {
            shadow.each(|engine| engine.set_paused(paused));
        }
    }

    /// Resets the sessions of flows, of client and production, that `keep` does not name.
    pub fn shed(&mut self, mut keep: impl FnMut(SocketAddr, SocketAddr) -> bool, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.each(|engine| engine.shed(&mut keep, now));
        }
    }

    /// To whom packets for each of them, in their order, are handed from now on.
    pub fn set_next_hops(&mut self, next_hops: &[Option<NextHop>]) {
        for (shadow, next_hop) in self.shadows.iter_mut().zip(next_hops) {
            shadow.set_next_hop(*next_hop);
        }
    }

    /// How much each shadow is asked to take from now on.
    pub fn set_quota(&mut self, quota: Quota) {
        for shadow in &mut self.shadows {
            shadow.set_quota(quota);
        }
    }

    /// Moves every flow on whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.handle_timeout(now);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.shadows.iter().filter_map(Shadow::poll_timeout).min()
    }

    /// Sends a bounded number of packets to each; whether there are more.
    pub fn transmit(&mut self, now: Instant) -> bool {
        self.shadows.iter_mut().fold(false, |more, shadow| shadow.transmit(now) | more)
    }

    /// What the kernel is to copy of a flow's answers from now on.
    pub fn poll_order(&mut self) -> Option<Order> {
        let order = self.shadows.iter_mut().find_map(Shadow::poll_order)?;
        if self.shadows.len() == 1 {
            return Some(order);
        }
        let Order { client, production, want } = order;
        let wanted = self.shadows.iter().filter_map(|one| one.wanted(client, production));
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
        asker.answers(|index, id, answered| {
            self.engines().nth(index).is_some_and(|engine| engine.answer(id, answered, now))
        });
        for (index, engine) in self.engines().enumerate() {
            while let Some(question) = engine.poll_question() {
                let id = question.id;
                if let Err(reason) = asker.ask(index, question) {
                    engine.answer(id, Answered::LeftOut(reason), now);
                }
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shadows.len()
    }

    /// The engines of all, in an order that stays.
    fn engines(&mut self) -> impl Iterator<Item = &mut Engine> {
        self.shadows.iter_mut().flat_map(Shadow::engines)
    }

    /// No more is captured: flows without a session end, the others deliver what they have.
    pub fn stop_capture(&mut self, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.each(|engine| engine.stop_capture(now));
        }
    }

    /// Whether no flow is open.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.shadows.iter().all(Shadow::is_drained)
    }

    /// Resets whatever is still open; the last packets are to be sent after it.
    pub fn finish(&mut self, now: Instant) {
        for shadow in &mut self.shadows {
            shadow.each(|engine| engine.finish(now));
        }
    }

    /// Whether the engines have taken as many packets of clients as were `captured`, and of production as
    /// were `answered`, if that counts.
    #[must_use]
    pub fn have_taken(&self, captured: u64, answered: Option<u64>) -> bool {
        let is_all = |[packets, responses]: [u64; 2]| {
            packets == captured && answered.is_none_or(|answered| responses == answered)
        };
        let (parts, wholes): (Vec<_>, Vec<_>) =
            self.shadows.iter().partition(|shadow| self.is_part(shadow));
        let sum = parts.into_iter().map(Shadow::taken).reduce(|a, b| [a[0] + b[0], a[1] + b[1]]);
        sum.is_none_or(is_all) && wholes.into_iter().map(Shadow::taken).all(is_all)
    }

    /// Whether a shadow gets some of the clients alone.
    fn is_part(&self, shadow: &Shadow) -> bool {
        self.spread.is_some() && shadow.role() == Role::Shadow
    }

    /// What was mirrored so far: to the first, and to the others.
    #[must_use]
    pub fn mirrored(&self) -> (Mirrored, Vec<Mirrored>) {
        let mut all = self.shadows.iter().map(|shadow| shadow.mirrored(self.is_part(shadow)));
        (all.next().unwrap_or_default(), all.collect())
    }
}
