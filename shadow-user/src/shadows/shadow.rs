//! One shadow: an engine for each copy of a flow that it gets, and the socket that all of them send by.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use shadow_engine::time::Instant;
use shadow_engine::{Engine, Order, Quota, Want};

use super::Role;
use crate::comparing::{self, Handed};
use crate::kernel::{KernelError, NextHop, Sender};
use crate::report::Mirrored;

/// Packets that are sent to one shadow before the rings get their turn: a ring that fills up loses a
/// client's bytes for good, a packet of ours is only late.
const SEND_BUDGET: usize = 512;

/// The same in bytes: of large packets fewer go in a turn, lest a turn outlast what the ring has room for.
const SEND_BUDGET_BYTES: usize = 128 << 10;

/// One shadow, and all that is mirrored to it.
pub struct Shadow {
    name: Arc<str>,
    role: Role,
    /// One for each copy, and one at least. They see the same packets of clients, and send from sources
    /// of their own. The first alone sees production's answers: an exchange is compared once.
    engines: Vec<Engine>,
    sender: Sender,
    /// Exchanges that were handed over.
    compared: u64,
    /// Exchanges for which there was no room.
    queue_full: u64,
}

impl Shadow {
    /// One that has got nothing yet; `name` is how its user calls it.
    ///
    /// # Errors
    /// When the sockets are not to be had.
    pub fn new(name: &str, role: Role, engines: Vec<Engine>) -> Result<Self, KernelError> {
        let sender = Sender::new()?;
        Ok(Self { name: name.into(), role, engines, sender, compared: 0, queue_full: 0 })
    }

    /// What it is there for.
    pub(super) const fn role(&self) -> Role {
        self.role
    }

    /// How many of each flow it gets.
    pub(super) const fn copies(&self) -> usize {
        self.engines.len()
    }

    /// One for each copy.
    pub(super) fn engines(&mut self) -> impl Iterator<Item = &mut Engine> {
        self.engines.iter_mut()
    }

    /// What all of its engines are told alike.
    pub(super) fn each(&mut self, tell: impl FnMut(&mut Engine)) {
        self.engines.iter_mut().for_each(tell);
    }

    /// Sends there from now on, or as the kernel's routes say.
    pub(super) fn set_next_hop(&mut self, next_hop: Option<NextHop>) {
        if let Err(error) = self.sender.set_next_hop(next_hop) {
            tracing::warn!(
                "packets to {} go by a raw socket, which costs more: {error}",
                self.name
            );
        }
    }

    /// How much it is asked to take from now on.
    pub(super) fn set_quota(&mut self, quota: Quota) {
        let part = quota_of_copy(quota, self.copies());
        self.each(|engine| engine.set_quota(part));
    }

    /// The place of the engine that awaits what `shadow` sends to `local`.
    pub(super) fn awaits(&self, local: SocketAddr, shadow: SocketAddr) -> Option<usize> {
        self.engines.iter().position(|engine| engine.awaits(local, shadow))
    }

    pub(super) fn handle_reply(&mut self, to: usize, packet: &[u8], at: Instant, now: Instant) {
        if let Some(engine) = self.engines.get_mut(to) {
            engine.handle_reply(packet, at, now);
        }
    }

    pub(super) fn handle_response(&mut self, packet: &[u8], captured_at: Instant, now: Instant) {
        if let Some(engine) = self.engines.first_mut() {
            engine.handle_response(packet, captured_at, now);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.each(|engine| {
            if engine.poll_timeout().is_some_and(|due| due <= now) {
                engine.handle_timeout(now);
            }
        });
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.engines.iter().filter_map(Engine::poll_timeout).min()
    }

    /// Sends a bounded number of packets, of each copy alike; whether there are more.
    pub(super) fn transmit(&mut self, now: Instant) -> bool {
        let Self { engines, sender, .. } = self;
        let copies = engines.len().max(1);
        let part = |budget: usize| (budget / copies).max(1);
        let mut more = false;
        for engine in engines {
            let (mut packets, mut bytes) = (part(SEND_BUDGET), part(SEND_BUDGET_BYTES));
            more |= loop {
                if packets == 0 || bytes == 0 {
                    break true;
                }
                let written = sender.push_with(now, |offload, buffer| {
                    engine.poll_transmit_offloaded(now, offload, buffer)
                });
                if written == 0 {
                    break false;
                }
                packets -= 1;
                bytes = bytes.saturating_sub(written);
            };
        }
        sender.flush();
        more
    }

    /// What the engine that follows exchanges wants the kernel to copy.
    pub(super) fn poll_order(&mut self) -> Option<Order> {
        self.engines.first_mut()?.poll_order()
    }

    pub(super) fn wanted(&self, client: SocketAddr, production: SocketAddr) -> Option<Want> {
        self.engines.first()?.wanted(client, production)
    }

    pub(super) fn hand_over(&mut self, exchanges: &mut comparing::Sender) {
        let Self { name, role, engines, compared, queue_full, .. } = self;
        let Some(engine) = engines.first_mut() else { return };
        while let Some(exchange) = engine.poll_exchange() {
            let shadow = Arc::clone(name);
            match exchanges.send(Handed { role: *role, shadow, exchange }) {
                Ok(()) => *compared += 1,
                Err(comparing::Full) => *queue_full += 1,
            }
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.engines.iter().all(Engine::is_drained)
    }

    /// Packets that it has taken, of clients and of production.
    pub(super) fn taken(&self) -> [u64; 2] {
        let books = self.engines.first().map(Engine::books);
        books.map_or([0; 2], |books| [books.packets.captured, books.responses.captured])
    }

    /// What was mirrored so far; `spread` when other shadows have the other clients.
    pub(super) fn mirrored(&self, spread: bool) -> Mirrored {
        let mut copies = self.engines.iter();
        let mut books = copies.next().map(|first| first.books().clone()).unwrap_or_default();
        let clients = books.flows.open();
        copies.for_each(|copy| books.add_copy(copy.books()));
        Mirrored {
            to: Arc::clone(&self.name),
            role: self.role,
            copies: self.copies() as u64,
            spread,
            books,
            clients,
            sends: *self.sender.stats(),
            sessions: self.engines.iter().map(Engine::sessions).sum(),
            compared: self.compared,
            queue_full: self.queue_full,
            memory: self.engines.iter().map(Engine::memory).sum(),
        }
    }
}

/// What a copy has of a shadow's quota: as much as any other, so that they keep step, and one a second at
/// least.
#[must_use]
pub fn quota_of_copy(quota: Quota, copies: usize) -> Quota {
    let part = |rate: Option<NonZeroU64>| {
        rate.map(|rate| {
            NonZeroU64::new(rate.get() / copies.max(1) as u64).unwrap_or(NonZeroU64::MIN)
        })
    };
    Quota {
        sessions: part(quota.sessions),
        requests: part(quota.requests),
        bandwidth: part(quota.bandwidth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_have_equal_parts_of_a_quota() {
        let quota = |sessions, bandwidth| Quota {
            sessions: NonZeroU64::new(sessions),
            requests: None,
            bandwidth: NonZeroU64::new(bandwidth),
        };
        assert_eq!(quota_of_copy(quota(100, 1_000_000), 1), quota(100, 1_000_000));
        assert_eq!(quota_of_copy(quota(100, 1_000_000), 3), quota(33, 333_333));
        assert_eq!(quota_of_copy(quota(2, 1), 3), quota(1, 1));
    }
}
