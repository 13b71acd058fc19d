//! What a shadow's packets do to a session, and what is answered to those of none.

use std::net::SocketAddr;

use super::Engine;
use super::flow::{Flow, Stage};
use super::timers::FlowId;
use crate::books::IgnoredReply;
use crate::time::Instant;
use crate::wire::{Flags, IcmpError, Packet, Segment};

/// RSTs for connections that the mirror does not know, kept until they are sent.
const MAX_RESETS: usize = 256;

impl Engine {
    pub(super) fn reply(
        &mut self,
        packet: &Packet<'_>,
        captured_at: Instant,
        now: Instant,
    ) -> Option<IgnoredReply> {
        let Some(id) = self.session_at(packet.destination) else {
            self.reset(packet);
            return Some(IgnoredReply::NoSession);
        };
        let Self { flows, books, .. } = self;
        if let Some(Flow { stage: Stage::Open(session), .. }) = flows.get_mut(id) {
            session.handle_reply(&packet.segment, captured_at, now, books);
        }
        self.advance(id, now);
        None
    }

    pub(super) fn icmp(&mut self, error: &IcmpError, now: Instant) -> Option<IgnoredReply> {
        let Some(id) = self.session_at(error.source) else { return Some(IgnoredReply::NoSession) };
        if let Some(Flow { stage: Stage::Open(session), .. }) = self.flows.get_mut(id) {
            session.handle_icmp(error, now);
        }
        self.advance(id, now);
        None
    }

    pub(super) fn session_at(&self, local: SocketAddr) -> Option<FlowId> {
        self.flows.find_local(local)
    }

    /// RFC 9293, 3.10.7.1: "If the state is CLOSED ... An incoming segment not
    /// containing a RST causes a RST to be sent in response."
    ///
    /// The kernel cannot do it, since the guard has taken the packet away; and a
    /// shadow that still holds a connection of an earlier run has to learn that it is gone.
    pub(super) fn reset(&mut self, packet: &Packet<'_>) {
        let segment = &packet.segment;
        if segment.flags.rst || self.resets.len() >= MAX_RESETS || self.config.dry_run {
            return;
        }
        // "If the ACK bit is off, sequence number zero is used ... If the ACK bit is on,
        //  <SEQ=SEG.ACK><CTL=RST>"
        let reset = if segment.flags.ack {
            Segment {
                seq: segment.ack,
                flags: Flags { rst: true, ..Flags::default() },
                ..Segment::default()
            }
        } else {
            Segment {
                ack: segment.seq + segment.len(),
                flags: Flags { rst: true, ack: true, ..Flags::default() },
                ..Segment::default()
            }
        };
        self.resets.push_back((packet.destination, reset));
    }
}
