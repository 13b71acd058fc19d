//! What a client's packets do to its flow.

use super::Engine;
use super::flow::{Flow, FlowKey, Stage, Syn};
use super::timers::FlowId;
use crate::books::{Aborted, IgnoredPacket, Skipped};
use crate::http::{Recognition, looks_like_request};
use crate::time::Instant;
use crate::wire::{Packet, Segment};

impl Engine {
    pub(super) fn capture(
        &mut self,
        packet: &Packet<'_>,
        captured_at: Instant,
        now: Instant,
    ) -> Option<IgnoredPacket> {
        let key = FlowKey::of(packet);
        let segment = &packet.segment;
        let Some(id) = self.flows.find(&key) else {
            return self.capture_unknown(key, segment, captured_at, now);
        };
        let flow = self.flows.get_mut(id)?;
        flow.last_packet = now;
        match &mut flow.stage {
            Stage::Handshake(syn) => {
                if segment.flags.syn {
                    // A retry, or the client's next attempt with the same port.
                    **syn = Syn::of(segment);
                    return None;
                }
                if segment.flags.rst {
                    self.skip(id, Skipped::Handshake, now);
                    return None;
                }
                if !syn.is_completed_by(segment) {
                    return Some(IgnoredPacket::OutOfWindow);
                }
                self.open(id, segment, captured_at, now);
            }
            Stage::Joining => {
                if segment.flags.rst || segment.flags.fin || segment.flags.syn {
                    self.skip(id, Skipped::Midstream, now);
                    return if segment.flags.syn {
                        self.capture_unknown(key, segment, captured_at, now)
                    } else {
                        None
                    };
                }
                if looks_like_request(segment.payload) != Recognition::Yes {
                    return None;
                }
                self.join(id, segment, captured_at, now);
            }
            Stage::Open(session) => {
                if segment.flags.syn {
                    flow.successor = Some(Box::new(Syn::of(segment)));
                    return None;
                }
                if flow.successor.as_ref().is_some_and(|syn| {
                    syn.isn + 1 == segment.seq
                        && session.rcv_nxt() != segment.seq
                        && syn.is_completed_by(segment)
                }) {
                    // Production has accepted the client's new connection, so the old one is gone.
                    let successor = flow.successor.take();
                    session.abort(Aborted::Superseded);
                    self.advance(id, now);
                    if let Some(syn) = successor {
                        let id = self.insert(key, Stage::Handshake(syn), now);
                        self.open(id, segment, captured_at, now);
                        return self.capture_open(id, segment, captured_at, now);
                    }
                }
            }
        }
        self.capture_open(id, segment, captured_at, now)
    }

    /// Hands a segment to the flow's session, if it has one by now.
    pub(super) fn capture_open(
        &mut self,
        id: FlowId,
        segment: &Segment<'_>,
        captured_at: Instant,
        now: Instant,
    ) -> Option<IgnoredPacket> {
        let Self { flows, books, config, budget, .. } = self;
        let Some(Flow { key, stage: Stage::Open(session), .. }) = flows.get_mut(id) else {
            return Some(IgnoredPacket::FlowEnded);
        };
        if budget.is_to_be_asked(now) {
            session.let_requests_be_left_out(config, key.client(), key.production());
        }
        let mut admit = || budget.ask(now);
        let ignored = session.handle_capture(segment, captured_at, &mut admit, books);
        self.advance(id, now);
        ignored
    }

    pub(super) fn capture_unknown(
        &mut self,
        key: FlowKey,
        segment: &Segment<'_>,
        captured_at: Instant,
        now: Instant,
    ) -> Option<IgnoredPacket> {
        let opens = segment.flags.syn && !segment.flags.ack;
        if opens {
            self.ended.forget(&key);
        } else if self.ended.touch(&key, now) {
            return Some(IgnoredPacket::FlowEnded);
        } else if segment.payload.is_empty() || segment.flags.syn || segment.flags.rst {
            return Some(IgnoredPacket::NoFlow);
        }
        let stage =
            if opens { Stage::Handshake(Box::new(Syn::of(segment))) } else { Stage::Joining };
        let id = self.insert(key, stage, now);
        if self.flows.len() > self.config.max_flows {
            self.skip(id, Skipped::MaxFlows, now);
            return None;
        }
        if !opens {
            return self.capture_joining(id, segment, captured_at, now);
        }
        self.arm(id, now);
        None
    }

    pub(super) fn capture_joining(
        &mut self,
        id: FlowId,
        segment: &Segment<'_>,
        captured_at: Instant,
        now: Instant,
    ) -> Option<IgnoredPacket> {
        if looks_like_request(segment.payload) == Recognition::Yes {
            self.join(id, segment, captured_at, now);
            return self.capture_open(id, segment, captured_at, now);
        }
        if segment.flags.fin {
            self.skip(id, Skipped::Midstream, now);
        } else {
            self.arm(id, now);
        }
        None
    }
}
