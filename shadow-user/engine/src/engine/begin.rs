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
            let flows = &self.flows;
            let Some(local) =
                self.sources.take(opening.client, |local| flows.find_local(local).is_some())
            else {
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
