//! Every flow of one worker, and what the worker drives.

mod answer;
mod ask;
mod begin;
mod capture;
mod flow;
mod reply;
mod table;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::answers::{Order, Trailing};
use crate::books::{Aborted, Books, FlowEnd, IgnoredPacket, IgnoredReply, Skipped};
use crate::circuit::Circuit;
use crate::client::Outgoing;
use crate::config::EngineConfig;
pub use crate::engine::ask::{Question, QuestionId};
use crate::engine::flow::{Ended, Flow, Stage};
pub(crate) use crate::engine::flow::{FlowKey, SeededHash};
use crate::engine::table::Table;
use crate::engine::timers::{FlowId, Timers};
use crate::exchange::Exchange;
use crate::iss::Secret;
use crate::offload::{Offload, Transmit};
use crate::quota::{Budget, Quota};
use crate::sources::Sources;
use crate::time::{Duration, Instant};
use crate::wire::{IcmpError, Malformed, Packet, Segment};

/// How long a client may take for its handshake: Linux sends SYN for 67 s by default
/// (`tcp_syn_retries` = 6 gives 127 s; the last waits are rarely lived through).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(75);

/// When memory but for this fraction is taken, exchanges are given up, before any session is.
const COMPARING_SHARE: usize = 8;

/// Spreads clients over a pool: the same on every host and in every run.
const POOL_KEY: Secret = *b"shadowtap's pool";

/// The mirror of one worker's flows.
///
/// Driven from outside, without a clock or a socket of its own. In any order:
/// [`handle_capture`](Self::handle_capture), [`handle_reply`](Self::handle_reply),
/// [`handle_response`](Self::handle_response),
/// [`note_capture_loss`](Self::note_capture_loss) and, when
/// [`poll_timeout`](Self::poll_timeout) has passed,
/// [`handle_timeout`](Self::handle_timeout). After any of these,
/// [`poll_transmit`](Self::poll_transmit) until it returns false, then
/// `poll_timeout` anew; and [`poll_order`](Self::poll_order) and
/// [`poll_exchange`](Self::poll_exchange) until they return `None`; where the rules ask a program,
/// [`poll_question`](Self::poll_question) likewise, and [`answer`](Self::answer) when it has
/// answered. To end: [`stop_capture`](Self::stop_capture), go on until
/// [`is_drained`](Self::is_drained), then [`finish`](Self::finish).
///
/// `now` must never go backwards.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    flows: Table,
    ended: Ended,
    sources: Sources<SeededHash>,
    circuit: Circuit,
    budget: Budget,
    timers: Timers,
    /// Flows that may have packets to send.
    ready: VecDeque<FlowId>,
    /// Flows whose sessions are in TIME-WAIT, the first of them for longest; only where ports may run short.
    resting: VecDeque<FlowId>,
    resets: VecDeque<(SocketAddr, Segment<'static>)>,
    /// The flow whose session awaits production's answers, its key listed or not.
    answering: HashMap<FlowKey, FlowId, SeededHash>,
    trailing: Trailing,
    exchanges: VecDeque<Box<Exchange>>,
    orders: VecDeque<Order>,
    questions: VecDeque<Question>,
    memory: usize,
    last_loss: Option<Instant>,
    paused: bool,
    stopped: bool,
    finished: bool,
    books: Books,
}

impl Engine {
    /// An engine without flows.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        let hash = SeededHash::new(config.secret);
        Self {
            flows: Table::new(hash),
            ended: Ended::new(hash),
            sources: Sources::new(config.source.clone(), SeededHash::new(POOL_KEY)),
            circuit: Circuit::default(),
            budget: Budget::new(config.quota),
            timers: Timers::default(),
            ready: VecDeque::new(),
            resting: VecDeque::new(),
            resets: VecDeque::new(),
            answering: HashMap::with_hasher(hash),
            trailing: Trailing::new(hash),
            exchanges: VecDeque::new(),
            orders: VecDeque::new(),
            questions: VecDeque::new(),
            memory: 0,
            last_loss: None,
            paused: false,
            stopped: false,
            finished: false,
            books: Books::default(),
            config,
        }
    }

    /// Takes a packet that the tap copied, from its IP header on.
    pub fn handle_capture(&mut self, packet: &[u8], captured_at: Instant, now: Instant) {
        self.books.packets.captured += 1;
        let ignored = match Packet::parse(packet) {
            _ if self.stopped => Some(IgnoredPacket::Stopped),
            Ok(packet) => self.capture(&packet, captured_at, now),
            Err(Malformed::Checksum | Malformed::IpChecksum) => Some(IgnoredPacket::Checksum),
            Err(_) => Some(IgnoredPacket::Malformed),
        };
        match ignored {
            None => self.books.packets.used += 1,
            Some(reason) => self.books.packets.ignored.add(reason, 1),
        }
    }

    /// Takes a packet that the guard copied, from its IP header on: a segment of the
    /// shadow, or an ICMP error about a segment of ours.
    pub fn handle_reply(&mut self, packet: &[u8], captured_at: Instant, now: Instant) {
        self.books.replies.captured += 1;
        let ignored = match Packet::parse(packet) {
            Ok(packet) => self.reply(&packet, captured_at, now),
            Err(Malformed::Checksum | Malformed::IpChecksum) => Some(IgnoredReply::Checksum),
            Err(_) => match IcmpError::parse(packet) {
                Ok(error) => self.icmp(&error, now),
                Err(_) => Some(IgnoredReply::Malformed),
            },
        };
        match ignored {
            None => self.books.replies.used += 1,
            Some(reason) => self.books.replies.ignored.add(reason, 1),
        }
    }

    /// Whether what `shadow` sends to `local` belongs here: for whoever has several engines.
    #[must_use]
    pub fn awaits(&self, local: SocketAddr, shadow: SocketAddr) -> bool {
        shadow == self.config.shadow && self.config.source.lends(local)
    }

    /// The tap's ring has lost packets since the last call: holes are ours, not the network's.
    pub fn note_capture_loss(&mut self, now: Instant) {
        self.last_loss = Some(now);
    }

    /// Whether no session is begun from now on. Open ones go on.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// How much the shadow is asked to take from now on. Open sessions go on.
    pub fn set_quota(&mut self, quota: Quota) {
        self.budget.set_quota(quota);
    }

    /// Moves every flow on whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((deadline, id)) = self.timers.pop(now) {
            let Some(flow) = self.flows.get_mut(id) else { continue };
            if flow.armed != deadline {
                continue;
            }
            flow.armed = Instant::NEVER;
            self.advance(id, now);
        }
        self.give_up_trailing(now);
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let others = [self.trailing.poll_timeout(), self.budget.poll_timeout()];
        self.timers.next().into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Appends the next whole IP packet for the shadow to `buffer`; false when there is none.
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> bool {
        self.poll_transmit_offloaded(now, Offload::None, buffer).is_some()
    }

    /// The same for whoever does to a packet what network cards do; what is left to do, or `None` when there
    /// is no packet.
    pub fn poll_transmit_offloaded(
        &mut self,
        now: Instant,
        offload: Offload,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let shadow = self.config.shadow;
        if let Some((local, reset)) = self.resets.pop_front() {
            let outgoing = Outgoing { segment: reset, payload: [&[], &[]], segment_size: 0 };
            self.books.transmitted += 1;
            return Some(offload.emit(local, shadow, &outgoing, buffer));
        }
        let paces = self.budget.paces() && !self.finished;
        // A budget lets single packets go.
        let offload = if paces { offload.of_single_segments() } else { offload };
        let before = buffer.len();
        while let Some(id) = self.ready.front().copied() {
            if paces && !self.budget.lets_send(now) {
                self.budget.is_behind(now);
                return None;
            }
            let sent = match self.flows.get_mut(id) {
                Some(Flow { stage: Stage::Open(session), .. }) => {
                    let nxt = session.snd_nxt();
                    let sent = session.poll_transmit(now, offload, buffer);
                    if paces && nxt != session.snd_nxt() {
                        session.was_held_back(now);
                    }
                    sent
                }
                _ => None,
            };
            if let Some((transmit, again)) = sent {
                if paces {
                    self.budget.sent(buffer.len() - before, now);
                    // One packet of each in turn, lest a long stream keeps all others waiting.
                    self.ready.rotate_left(1);
                }
                self.books.transmitted += u64::from(transmit.packets);
                self.books.retransmitted += u64::from(again);
                return Some(transmit);
            }
            self.ready.pop_front();
            if let Some(flow) = self.flows.get_mut(id) {
                flow.queued = false;
                // A client's timers depend on what could be sent.
                self.arm(id, now);
                self.retire(id, now);
            }
        }
        self.budget.has_caught_up();
        None
    }

    /// No more is captured: flows without a session end, the others deliver what they have.
    pub fn stop_capture(&mut self, now: Instant) {
        self.stopped = true;
        for id in self.flows.ids() {
            let Self { flows, books, .. } = self;
            match flows.get_mut(id).map(|flow| &mut flow.stage) {
                Some(Stage::Handshake(_)) => self.skip(id, Skipped::Handshake, now),
                Some(Stage::Joining) => self.skip(id, Skipped::Midstream, now),
                Some(Stage::Open(session)) => {
                    session.stop(now, books);
                    self.advance(id, now);
                }
                None => {}
            }
        }
    }

    /// Whether no flow is open.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.books.flows.open() == 0
    }

    /// Resets whatever is still open; the last packets are to be polled after it.
    pub fn finish(&mut self, now: Instant) {
        self.stopped = true;
        self.finished = true;
        for id in self.flows.ids() {
            match self.flows.get_mut(id).map(|flow| &mut flow.stage) {
                Some(Stage::Handshake(_)) => self.skip(id, Skipped::Handshake, now),
                Some(Stage::Joining) => self.skip(id, Skipped::Midstream, now),
                Some(Stage::Open(session)) => {
                    session.abort(Aborted::Stopped);
                    self.advance(id, now);
                }
                None => {}
            }
        }
        self.settle_trailing();
    }

    /// Resets the sessions whose flows, of client and production, `keep` does not name. They are not
    /// joined again.
    pub fn shed(&mut self, mut keep: impl FnMut(SocketAddr, SocketAddr) -> bool, now: Instant) {
        for id in self.flows.ids() {
            let Some(flow) = self.flows.get_mut(id) else { continue };
            let Stage::Open(session) = &mut flow.stage else { continue };
            if session.end().is_none() && !keep(flow.key.client(), flow.key.production()) {
                session.abort(Aborted::Pressure);
                self.advance(id, now);
            }
        }
    }

    /// The books as they stand.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// Open sessions with the shadow.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.flows.sessions()
    }

    /// Octets that all flows together buffer.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory + self.trailing.memory()
    }

    /// Moves a flow on, files it when it has ended, and sees to its timer and its memory.
    fn advance(&mut self, id: FlowId, now: Instant) {
        self.give_up_asking(id, now);
        let Self { flows, books, config, last_loss, .. } = self;
        let Some(flow) = flows.get_mut(id) else { return };
        let idle = now.since(flow.last_packet);
        let session = match &mut flow.stage {
            Stage::Open(session) => session,
            Stage::Handshake(_) if idle >= HANDSHAKE_TIMEOUT => {
                return self.skip(id, Skipped::Handshake, now);
            }
            Stage::Joining if idle >= config.idle_timeout => {
                return self.skip(id, Skipped::Midstream, now);
            }
            Stage::Handshake(_) | Stage::Joining => return self.arm(id, now),
        };
        if flow.listed && idle >= config.idle_timeout {
            session.abort(Aborted::Idle);
        }
        if flow.queued && !self.finished && !self.budget.lets_send(now) {
            session.was_held_back(now);
        }
        session.advance(now, *last_loss, config, books);
        if self.memory > config.memory_limit - config.memory_limit / COMPARING_SHARE {
            self.shed_answers(id);
        }
        self.collect(id);
        let Self { flows, books, .. } = self;
        let Some(flow) = flows.get_mut(id) else { return };
        let Stage::Open(session) = &mut flow.stage else { return };
        if let Some(sign) = session.take_sign() {
            books.circuit.opened += u64::from(self.circuit.hear(sign, flow.probe, now));
        }
        books.circuit.open = self.circuit.is_open();
        self.ask(id, now);
        self.account(id);
        let Self { flows, books, config, last_loss, .. } = self;
        let Some(flow) = flows.get_mut(id) else { return };
        let Stage::Open(session) = &mut flow.stage else { return };
        if self.memory > config.memory_limit {
            session.abort(Aborted::Memory);
        }
        if session.leaves_flow_open() {
            session.leave_flow();
            session.advance(now, *last_loss, config, books);
            self.unlist(id, None);
        } else if flow.listed && (session.is_closed() || session.end().is_some()) {
            // A reset session whose client goes on may be joined again at its next request.
            let shed = session.end() == Some(FlowEnd::Aborted(Aborted::Pressure));
            let again = session.can_be_joined_again() && !shed;
            self.unlist(id, (!again).then_some(now));
        }
        let Some(flow) = self.flows.get_mut(id) else { return };
        if !flow.queued {
            flow.queued = true;
            self.ready.push_back(id);
        }
        let Stage::Open(session) = &flow.stage else { return };
        if session.is_in_time_wait() && !flow.rests && self.sources.are_few() {
            flow.rests = true;
            self.note_time_wait(id);
        }
    }

    /// Takes a flow's key out of the table; `remember` it so that stragglers are known.
    fn unlist(&mut self, id: FlowId, remember: Option<Instant>) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let key = flow.key;
        self.flows.unlist(id);
        if let Some(now) = remember {
            self.ended.insert(key, now);
        }
    }

    /// Ends a flow that has no session.
    fn skip(&mut self, id: FlowId, reason: Skipped, now: Instant) {
        self.books.flows.skipped.add(reason, 1);
        self.want_no_answers(id, reason);
        self.unlist(id, Some(now));
        self.remove(id);
    }

    /// Files a flow whose session has ended and has nothing left to send.
    fn retire(&mut self, id: FlowId, now: Instant) {
        let Self { flows, books, .. } = self;
        let Some(Flow { stage: Stage::Open(session), listed, probe, .. }) = flows.get_mut(id)
        else {
            return;
        };
        let Some(end) = session.end() else { return };
        session.settle(end, books);
        if *probe {
            self.circuit.probe_ended(now);
        }
        let local = session.local();
        let listed = *listed;
        session.end_answers(end, now);
        self.leave_answers(id, now);
        if listed {
            self.unlist(id, Some(now));
        }
        if let Some(local) = local {
            self.sources.give(local);
        }
        self.remove(id);
    }

    /// Brings the account of a flow's memory up to date.
    fn account(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let Stage::Open(session) = &flow.stage else { return };
        let memory = session.memory();
        self.memory = self.memory + memory - flow.accounted;
        flow.accounted = memory;
    }

    fn insert(&mut self, key: FlowKey, stage: Stage, now: Instant) -> FlowId {
        self.books.flows.seen += 1;
        self.flows.insert(key, stage, now)
    }

    fn remove(&mut self, id: FlowId) {
        if let Some(flow) = self.flows.remove(id) {
            self.memory -= flow.accounted;
        }
    }

    /// Sees to it that the flow is looked at when its next deadline passes.
    fn arm(&mut self, id: FlowId, now: Instant) {
        let config = &self.config;
        let Some(flow) = self.flows.get_mut(id) else { return };
        let deadline = match &flow.stage {
            Stage::Handshake(_) => Some(flow.last_packet + HANDSHAKE_TIMEOUT),
            Stage::Joining => Some(flow.last_packet + config.idle_timeout),
            Stage::Open(session) => {
                let idle = flow.listed.then(|| flow.last_packet + config.idle_timeout);
                [session.poll_timeout(now, config), idle].into_iter().flatten().min()
            }
        };
        if let Some(deadline) = deadline
            && deadline < flow.armed
        {
            flow.armed = deadline;
            self.timers.add(deadline, id);
        }
    }
}
