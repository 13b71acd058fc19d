//! How a flow becomes a session, or why it does not.

use std::net::SocketAddr;

use super::Engine;
use super::flow::{Flow, Stage};
use super::timers::FlowId;
use crate::books::Skipped;
use crate::circuit::Admission;
use crate::client::{self, Client, Offer};
use crate::iss::iss;
use crate::session::{Opening, Session};
use crate::time::Instant;
use crate::wire::{Flags, Segment};

impl Engine {
    /// Begins the session of a flow whose handshake `segment` completes.
    pub(super) fn open(
        &mut self,
        id: FlowId,
        segment: &Segment<'_>,
        captured_at: Instant,
        now: Instant,
    ) {
        let Some(Flow { key, stage: Stage::Handshake(syn), .. }) = self.flows.get_mut(id) else {
            return;
        };
        let opening = Opening {
            first: syn.isn + 1,
            ack: segment.ack,
            captured_at,
            client: key.client(),
            production: key.production(),
        };
        let (offer, isn) = (syn.offer, syn.isn);
        let data = std::mem::take(&mut syn.data);
        self.begin(id, &opening, offer, now);
        if !data.is_empty() {
            // Fast Open: whatever of it production did not take, the client sends again.
            let segment = Segment { seq: isn + 1, payload: &data, ..*segment };
            let segment = Segment { flags: Flags { ack: true, ..Flags::default() }, ..segment };
            self.capture_open(id, &segment, captured_at, now);
        }
    }

    /// Begins the session of a flow that was open before the mirror, at a request.
    pub(super) fn join(
        &mut self,
        id: FlowId,
        segment: &Segment<'_>,
        captured_at: Instant,
        now: Instant,
    ) {
        let Some(key) = self.flows.get_mut(id).map(|flow| flow.key) else { return };
        let opening = Opening {
            first: segment.seq,
            ack: segment.ack,
            captured_at,
            client: key.client(),
            production: key.production(),
        };
        let headers = if self.config.shadow.is_ipv4() { 40 } else { 60 };
        let offer = Offer {
            mss: self.config.path_mtu.saturating_sub(headers),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: segment.options.timestamps.is_some(),
        };
        self.begin(id, &opening, offer, now);
    }

    pub(super) fn begin(&mut self, id: FlowId, opening: &Opening, offer: Offer, now: Instant) {
        if self.paused {
            return self.skip(id, Skipped::Paused, now);
        }
        if self.memory >= self.config.memory_limit {
            return self.skip(id, Skipped::Memory, now);
        }
        // Before anything that copies of a flow may find otherwise, each for itself.
        if let Err(reason) = self.budget.begin(now) {
            return self.skip(id, reason, now);
        }
        let mut probe = false;
        let client = if self.config.dry_run {
            None
        } else {
            // Closes by itself after a time; the books shall know.
            let admission = self.circuit.admits(now);
            self.books.circuit.open = self.circuit.is_open();
            if admission == Admission::Refused {
                return self.skip(id, Skipped::CircuitOpen, now);
            }
            probe = admission == Admission::Probe;
            let Some(local) = self.local(opening.client, now) else {
                self.end_probe(probe, now);
                return self.skip(id, Skipped::NoPort, now);
            };
            if local.is_ipv4() != self.config.shadow.is_ipv4() {
                self.end_probe(probe, now);
                self.sources.give(local);
                return self.skip(id, Skipped::AddressFamily, now);
            }
            Some(self.client(local, offer, now))
        };
        let session = Session::new(opening, client, &self.config, now);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.stage = Stage::Open(Box::new(session));
            flow.probe = probe;
        }
        self.flows.list_local(id);
        self.expect_answers(id, now);
        self.advance(id, now);
    }

    /// An address and port for a session of `client`.
    fn local(&mut self, client: SocketAddr, now: Instant) -> Option<SocketAddr> {
        loop {
            let flows = &self.flows;
            let local = self.sources.take(client, |local| flows.find_local(local).is_some());
            if local.is_some() || !self.give_up_oldest_time_wait(now) {
                return local;
            }
        }
    }

    /// Ends the connection that has been in TIME-WAIT longest, for its port; false when there is none, or its
    /// last acknowledgment is still to be sent.
    fn give_up_oldest_time_wait(&mut self, now: Instant) -> bool {
        while let Some(id) = self.resting.pop_front() {
            let Some(flow) = self.flows.get_mut(id) else { continue };
            let Stage::Open(session) = &mut flow.stage else { continue };
            if flow.queued {
                self.resting.push_front(id);
                return false;
            }
            session.leave_time_wait();
            self.advance(id, now);
            self.retire(id, now);
            return true;
        }
        false
    }

    /// Takes note of a connection that has come to TIME-WAIT, where ports may run short.
    pub(super) fn note_time_wait(&mut self, id: FlowId) {
        // TIME-WAIT ends in the order in which it began.
        while self.resting.front().is_some_and(|first| self.flows.get_mut(*first).is_none()) {
            self.resting.pop_front();
        }
        self.resting.push_back(id);
    }

    /// A probe was not begun after all.
    pub(super) fn end_probe(&mut self, probe: bool, now: Instant) {
        if probe {
            self.circuit.probe_ended(now);
        }
    }

    pub(super) fn client(&self, local: SocketAddr, offer: Offer, now: Instant) -> Client {
        let shadow = self.config.shadow;
        let config = client::Config {
            path_mtu: self.config.path_mtu,
            user_timeout: self.config.user_timeout,
            zero_window_timeout: self.config.user_timeout * 4,
            ..client::Config::new(
                local,
                shadow,
                iss(&self.config.secret, local, shadow, now),
                offer,
            )
        };
        Client::connect(config, now)
    }
}
