//! One flow's mirror: reassembly, gating, and the emulated client.

mod edit;
mod gate;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::answers::{Answer, Answers, Heard, Want};
use crate::books::{Aborted, Books, FlowEnd, IgnoredPacket, Skipped};
use crate::circuit::Sign;
use crate::client::{self, Client, Event, State, Unreachable};
use crate::config::EngineConfig;
use crate::exchange::{Depth, Exchange, Unpaired};
use crate::offload::{Offload, Transmit};
use crate::reassembly::{Delivery, Outcome, QueueError, Reassembler};
use crate::rules::Proposal;
use crate::seq::SeqNum;
pub use crate::session::edit::Answered;
use crate::session::edit::{Admit, Editor, Pen};
use crate::session::gate::{Close, Gate, GatePolicy};
use crate::session::stream::Stream;
use crate::time::{Duration, Instant};
use crate::wire::{IcmpError, IcmpReason, Segment};

/// A hole that opened while the capture is known to have lost packets waits no longer than this.
const KNOWN_LOSS_HOLE: Duration = Duration::from_secs(1);

/// What a client's handshake with production tells of its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// Sequence number of the first octet of the stream to mirror.
    pub(crate) first: SeqNum,
    /// The client's SEG.ACK with it.
    pub(crate) ack: SeqNum,
    /// When it was captured.
    pub(crate) captured_at: Instant,
    /// The client's address and port.
    pub(crate) client: SocketAddr,
    /// Production's address and port.
    pub(crate) production: SocketAddr,
}

/// One flow's mirror.
#[derive(Debug)]
pub(crate) struct Session {
    reassembler: Reassembler,
    stream: Stream,
    gate: Gate,
    /// None in a dry run.
    client: Option<Client>,
    /// What edits the stream on its way, if anything.
    editor: Option<Box<Editor>>,
    /// Where `acknowledged` octets of production's answers end in its sequence space.
    production: (SeqNum, u64),
    /// Octets of the stream that the shadow has acknowledged and the books know of.
    delivered: u64,
    /// How far the stream is settled: delivered or left out.
    settled: u64,
    /// The client's stream has ended, or is treated so since capture was stopped.
    closed: bool,
    /// A reset is owed to the shadow once everything is delivered.
    reset_due: bool,
    end: Option<FlowEnd>,
    /// The shadow has accepted the connection.
    connected: bool,
    /// The shadow has sent FIN.
    shadow_closed: bool,
    /// What was last seen of the shadow's health, until it is taken.
    sign: Option<Sign>,
    /// None when answers are not compared, or not any more.
    answers: Option<Box<Answers>>,
    /// When the shadow's last segment was captured.
    replied_at: Instant,
    /// Octets of the stream, additions included, that went to the shadow at least once.
    sent: u64,
}

impl Session {
    /// A session toward the shadow through a `client` that was just begun. Without one, the
    /// session only counts.
    pub(crate) fn new(
        opening: &Opening,
        mut client: Option<Client>,
        config: &EngineConfig,
        now: Instant,
    ) -> Self {
        let Opening { client: user, production, .. } = *opening;
        let mut editor = Editor::new(config, user, production, |bytes| {
            if let Some(client) = &mut client {
                client.write(bytes);
            }
        });
        let limits = config.exchanges;
        let compares = limits.depth != Depth::Off && client.is_some();
        let mut answers = compares.then(|| Answers::new(limits, user, production, opening.ack));
        if let (Some(editor), Some(answers)) = (&mut editor, &mut answers)
            && editor.keep_fates()
        {
            answers.expect_fates();
        }
        Self {
            answers: answers.map(Box::new),
            replied_at: now,
            sent: 0,
            editor: editor.map(Box::new),
            reassembler: Reassembler::new(opening.first, config.flow_limit),
            stream: Stream::default(),
            gate: Gate::new(opening.captured_at, now),
            client,
            production: (opening.ack, 0),
            delivered: 0,
            settled: 0,
            closed: false,
            reset_due: false,
            end: None,
            connected: false,
            shadow_closed: false,
            sign: None,
        }
    }

    /// What was seen of the shadow's health since the last call.
    pub(crate) fn take_sign(&mut self) -> Option<Sign> {
        self.sign.take()
    }

    /// The address and port that the shadow sees; none in a dry run.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.client.as_ref().map(Client::local)
    }

    /// Whether all is done, and the port alone is kept for a while.
    pub(crate) fn is_in_time_wait(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.state() == State::TimeWait)
    }

    /// Gives the port up that is kept.
    pub(crate) fn leave_time_wait(&mut self) {
        if let Some(client) = &mut self.client {
            client.leave_time_wait();
        }
    }

    /// From the next request on, requests can be left out of the stream of a session that was begun
    /// without that. To be called before [`Self::handle_capture`]: between two requests it has an
    /// effect, elsewhere none.
    pub(crate) fn let_requests_be_left_out(
        &mut self,
        config: &EngineConfig,
        user: SocketAddr,
        production: SocketAddr,
    ) {
        if !self.stream.at_boundary() {
            return;
        }
        let captured = self.stream.captured();
        let editor = self
            .editor
            .get_or_insert_with(|| Box::new(Editor::midway(config, user, production, captured)));
        if editor.begin_to_read()
            && let Some(answers) = &mut self.answers
            && editor.keep_fates()
        {
            answers.expect_fates();
        }
    }

    /// Takes a captured segment of the client; `admit` is asked for each of its requests.
    pub(crate) fn handle_capture(
        &mut self,
        segment: &Segment<'_>,
        captured_at: Instant,
        admit: &mut Admit<'_>,
        books: &mut Books,
    ) -> Option<IgnoredPacket> {
        if self.closed {
            return Some(IgnoredPacket::FlowEnded);
        }
        let Self { reassembler, stream, gate, client, editor, production, answers, .. } = self;
        let mut write = |bytes: &[u8]| {
            if let Some(client) = client {
                client.write(bytes);
            }
        };
        let outcome = reassembler.insert(segment, captured_at, &mut |delivery: Delivery<'_>| {
            let acknowledged = advance_ack(production, delivery.ack);
            let Delivery { bytes, captured_at, .. } = delivery;
            let Some(editor) = editor else {
                stream.push(bytes, acknowledged, captured_at, gate, None, books);
                if let Some(answers) = answers {
                    answers.requested(bytes, captured_at);
                }
                return write(bytes);
            };
            let pen = Pen { editor, write: &mut write, admit };
            stream.push(bytes, acknowledged, captured_at, gate, Some(pen), books);
            if let Some(answers) = answers
                && !editor.has_refused()
            {
                answers.decided(std::iter::from_fn(|| editor.take_fate()));
                answers.requested(bytes, captured_at);
            }
        });
        match outcome {
            Err(error) => {
                self.abort(match error {
                    QueueError::Overflow { .. } => Aborted::CaptureGap,
                    QueueError::Ambiguous => Aborted::Ambiguous,
                });
                return None;
            }
            Ok(Outcome::AckMissing | Outcome::AckInvalid | Outcome::Stale) => {
                return Some(IgnoredPacket::Unacceptable);
            }
            Ok(Outcome::AfterEnd) => return Some(IgnoredPacket::FlowEnded),
            Ok(Outcome::OutOfWindow) => return Some(IgnoredPacket::OutOfWindow),
            Ok(Outcome::ResetIgnored) => return Some(IgnoredPacket::BlindReset),
            Ok(_) => {}
        }
        if self.editor.as_ref().is_some_and(|editor| editor.has_refused()) {
            self.abort(Aborted::Unmaskable);
            return None;
        }
        if matches!(outcome, Ok(Outcome::Advanced | Outcome::Queued | Outcome::Empty)) {
            advance_ack(&mut self.production, segment.ack);
        }
        if let Some(answers) = &mut self.answers {
            answers.hear(Some(self.reassembler.rcv_nxt()));
        }
        if let Some(end) = self.reassembler.finished() {
            let close = match end {
                crate::reassembly::End::Fin => Close::Fin,
                crate::reassembly::End::Reset => Close::Reset,
            };
            self.close_stream(close, self.production.1, captured_at, books);
        }
        None
    }

    /// The next request about which a program is to be asked, and the question's number. It waits for
    /// [`Self::answer`] from now on, until `timeout` has passed.
    pub(crate) fn poll_question(
        &mut self,
        now: Instant,
        timeout: Duration,
    ) -> Option<(u64, Arc<Proposal>)> {
        if self.end.is_some() {
            return None;
        }
        self.editor.as_mut()?.poll_question(now + timeout)
    }

    /// The question that waits for an answer, and until when.
    pub(crate) fn asked(&self) -> Option<(u64, Instant)> {
        self.editor.as_ref().and_then(|editor| editor.asked())
    }

    /// Takes the answer to a question; whether it was waited for. `admit` is asked for each request that
    /// has come behind it.
    pub(crate) fn answer(
        &mut self,
        number: u64,
        answered: Answered,
        admit: &mut Admit<'_>,
        books: &mut Books,
    ) -> bool {
        if self.end.is_some() || self.asked().is_none_or(|(asked, _)| asked != number) {
            return false;
        }
        let Self { stream, gate, client, editor: Some(editor), answers, .. } = self else {
            return false;
        };
        let mut write = |bytes: &[u8]| {
            if let Some(client) = client {
                client.write(bytes);
            }
        };
        let pen = Pen { editor, write: &mut write, admit };
        stream.answer(answered, gate, pen, books);
        if editor.has_refused() {
            self.abort(Aborted::Unmaskable);
        } else if let Some(answers) = answers {
            answers.decided(std::iter::from_fn(|| editor.take_fate()));
        }
        true
    }

    /// Takes a segment of the shadow, captured at `captured_at`.
    pub(crate) fn handle_reply(
        &mut self,
        segment: &Segment<'_>,
        captured_at: Instant,
        now: Instant,
        books: &mut Books,
    ) {
        let Self { client: Some(client), stream, gate, answers, .. } = self else { return };
        client.handle_segment(segment, now, &mut |bytes| {
            stream.answered(bytes, now, gate, books);
            if let Some(answers) = answers {
                answers.shadow_answered(bytes, captured_at);
            }
        });
        self.replied_at = captured_at;
    }

    /// Takes a segment of production; `None` when answers are not compared.
    pub(crate) fn handle_answer(&mut self, answer: &Answer<'_>) -> Option<Heard> {
        // A client that goes on after its session was closed is not followed.
        let is_followed = !self.closed || self.reassembler.finished().is_some();
        let heard = is_followed.then(|| self.reassembler.rcv_nxt());
        Some(self.answers.as_mut()?.handle_answer(answer, heard))
    }

    /// What is to be copied of production's answers, once it has changed.
    pub(crate) fn take_want(&mut self) -> Option<Want> {
        self.answers.as_mut()?.take_want()
    }

    /// What is wanted of production, while anything is.
    pub(crate) fn wanted(&self) -> Option<Want> {
        self.answers.as_ref()?.wanted()
    }

    /// The next exchange.
    pub(crate) fn poll_exchange(&mut self) -> Option<Box<Exchange>> {
        self.answers.as_mut()?.poll()
    }

    /// Answers that the session has no more to do with.
    pub(crate) fn take_answers(&mut self) -> Option<Box<Answers>> {
        if let Some(editor) = &mut self.editor {
            editor.drop_fates();
        }
        if let Some(answers) = &mut self.answers {
            answers.decided_no_more();
        }
        self.answers.take()
    }

    /// Tells the exchanges that the session has ended so.
    pub(crate) fn end_answers(&mut self, end: FlowEnd, now: Instant) {
        if let Some(answers) = &mut self.answers {
            let reason = match end {
                FlowEnd::Mirrored | FlowEnd::Skipped(_) => Unpaired::Closed,
                FlowEnd::Aborted(_) => Unpaired::Aborted,
            };
            answers.shadow_ended(reason, now);
            answers.hear(None);
        }
    }

    /// Takes an ICMP error about this session.
    pub(crate) fn handle_icmp(&mut self, error: &IcmpError, now: Instant) {
        let Some(client) = &mut self.client else { return };
        // RFC 5927, 4.1: "TCP SHOULD check that the TCP sequence number contained in the payload of the
        // ICMP error message is within the range SND.UNA =< SEG.SEQ < SND.NXT"
        if !client.has_in_flight(error.seq) {
            return;
        }
        match error.reason {
            IcmpReason::PacketTooBig { mtu } => {
                let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
                client.handle_packet_too_big(mtu, now);
            }
            IcmpReason::Unreachable { code } => {
                let kind = unreachable_kind(error.source.is_ipv4(), code);
                client.handle_unreachable(kind, now);
            }
        }
    }

    /// Moves on whatever can be moved on `now`; to be called after every `handle_*`.
    pub(crate) fn advance(
        &mut self,
        now: Instant,
        last_loss: Option<Instant>,
        config: &EngineConfig,
        books: &mut Books,
    ) {
        if let Some(answers) = &mut self.answers {
            answers.advance(now);
        }
        if self.end.is_some() {
            return;
        }
        if self.hole_deadline(last_loss, config).is_some_and(|deadline| now >= deadline) {
            self.abort(Aborted::CaptureGap);
            return;
        }
        let Some(client) = &mut self.client else {
            if self.closed {
                self.end = Some(FlowEnd::Skipped(Skipped::DryRun));
            }
            return;
        };
        if client.poll_timeout().is_some_and(|deadline| now >= deadline) {
            client.handle_timeout(now);
        }
        while let Some(event) = client.poll_event() {
            match event {
                Event::Connected => {
                    self.connected = true;
                    self.sign = Some(Sign::Connected);
                    self.gate.connected(now);
                }
                Event::PeerClosed => {
                    self.shadow_closed = true;
                    if let Some(answers) = &mut self.answers {
                        answers.shadow_ended(Unpaired::Closed, self.replied_at);
                    }
                    self.stream.shadow_closed(&mut self.gate, books);
                }
                Event::Closed(close) => {
                    self.deliver(books);
                    let end = self.end_of(close);
                    self.sign = self.sign_of(end);
                    self.end = Some(end);
                    return;
                }
            }
        }
        self.deliver(books);
        let policy = GatePolicy {
            // Nobody can answer yet; how long a connection may take is the client's matter.
            timeout: if self.connected { config.gate_timeout } else { Duration::MAX },
            action: config.gate_action,
            pace: config.pace,
        };
        if self.gate.counts_octets() {
            let known = self.answers.as_ref().map(|answers| answers.known());
            self.gate.know(known.unwrap_or_default());
        }
        let passed = self.gate.advance(now, policy, &mut books.gates);
        self.sign = self.gate.take_sign().or(self.sign);
        if passed.is_err() {
            self.abort(Aborted::GateTimeout);
            return;
        }
        let Some(client) = &mut self.client else { return };
        let released = self.gate.released();
        client.release(self.editor.as_ref().map_or(released, |editor| editor.sent(released)));
        match self.gate.close() {
            Some(Close::Fin) => client.close(),
            Some(Close::Reset) => self.reset_due = true,
            None => {}
        }
        if self.reset_due && self.connected && self.settled == self.stream.captured() {
            client.abort();
            self.end = Some(FlowEnd::Mirrored);
        } else if self.memory() > config.flow_limit {
            self.abort(Aborted::FlowBuffer);
        }
    }

    /// The next sequence number that has not been sent.
    pub(crate) fn snd_nxt(&self) -> Option<SeqNum> {
        self.client.as_ref().map(Client::snd_nxt)
    }

    /// What is to be sent waits for the bandwidth, or has until `now`: the shadow cannot answer what
    /// it does not have.
    pub(crate) fn was_held_back(&mut self, now: Instant) {
        self.gate.restart(now);
    }

    /// Gives the session up: the shadow gets a RST.
    pub(crate) fn abort(&mut self, reason: Aborted) {
        if self.end.is_none() {
            if let Some(client) = &mut self.client {
                client.abort();
            }
            self.end = Some(match self.client {
                Some(_) => FlowEnd::Aborted(reason),
                None => FlowEnd::Skipped(Skipped::DryRun),
            });
        }
    }

    /// No more will be captured: what was captured is still delivered, then the session is closed.
    pub(crate) fn stop(&mut self, now: Instant, books: &mut Books) {
        if self.closed || self.end.is_some() {
            return;
        }
        // A request that is left out may end anywhere. What waits has not been read.
        let within = match self.stream.is_asking() {
            true => self.stream.has_waiting(),
            false => {
                self.stream.within_message()
                    && !self.editor.as_ref().is_some_and(|editor| editor.is_leaving_out())
            }
        };
        if self.client.is_some() && (within || self.reassembler.hole_since().is_some()) {
            self.abort(Aborted::Stopped);
            return;
        }
        // Whoever stops the mirror did not see the client leave: wait for the answers as a client would.
        let heard_all = self.production.1 + 1;
        self.close_stream(Close::Fin, heard_all, now, books);
    }

    /// The client is still there, but the shadow has closed after the last whole response:
    /// this session is complete, and the client's next request deserves a new one.
    pub(crate) fn leaves_flow_open(&self) -> bool {
        !self.closed
            && self.stream.at_boundary()
            && self.stream.is_answered()
            && self.settled == self.stream.captured()
            && self.gate.is_empty()
            && self.shadow_closed
    }

    /// Closes a session for which [`Self::leaves_flow_open`] holds.
    pub(crate) fn leave_flow(&mut self) {
        self.closed = true;
        if let Some(client) = &mut self.client {
            client.close();
        }
    }

    /// Whether a later request of this flow could be recognised.
    pub(crate) fn can_be_joined_again(&self) -> bool {
        !self.closed && self.stream.has_messages()
    }

    /// How the session ended, once it has.
    pub(crate) fn end(&self) -> Option<FlowEnd> {
        self.end
    }

    /// Whether the client's stream has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The next octet expected of the client.
    pub(crate) fn rcv_nxt(&self) -> SeqNum {
        self.reassembler.rcv_nxt()
    }

    /// Files the flow under how it ended; to be called once, when it has.
    pub(crate) fn settle(&self, end: FlowEnd, books: &mut Books) {
        match end {
            FlowEnd::Mirrored => books.flows.mirrored += 1,
            FlowEnd::Skipped(reason) => books.flows.skipped.add(reason, 1),
            FlowEnd::Aborted(reason) => books.flows.aborted.add(reason, 1),
        }
        let mut left_out = 0;
        if let Some(editor) = &self.editor {
            left_out = editor.left_out();
            books.flows.unshaped += u64::from(editor.is_unshaped());
        }
        books.bytes.undelivered.add(end, self.stream.captured() - self.delivered - left_out);
        self.stream.settle(end, books);
    }

    /// When [`Self::advance`] is to be called again at the latest.
    pub(crate) fn poll_timeout(&self, now: Instant, config: &EngineConfig) -> Option<Instant> {
        let client = self.client.as_ref().and_then(Client::poll_timeout);
        // Looked at twice: a loss may become known after the hole has opened.
        let hole = self.reassembler.hole_since().map(|since| {
            let early = since + KNOWN_LOSS_HOLE;
            if now < early { early } else { since + config.hole_timeout }
        });
        let answers = self.answers.as_ref().and_then(|answers| answers.poll_timeout());
        let asked = self.asked().map(|(_, deadline)| deadline);
        [client, self.gate.poll_timeout(), hole, answers, asked].into_iter().flatten().min()
    }

    /// Appends the next packet for the shadow to `buffer`, if there is one; and whether it
    /// carries data, SYN or FIN again.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        offload: Offload,
        buffer: &mut Vec<u8>,
    ) -> Option<(Transmit, bool)> {
        let client = self.client.as_mut()?;
        let (local, shadow, nxt) = (client.local(), client.remote(), client.snd_nxt());
        let outgoing = client.poll_transmit_up_to(offload.most(), now)?;
        let Segment { seq, flags, .. } = outgoing.segment;
        let len = outgoing.payload_len();
        let again = (len > 0 || flags.syn || flags.fin) && seq.before(nxt);
        let transmit = offload.emit(local, shadow, &outgoing, buffer);
        if let Some(answers) = &mut self.answers
            && len > 0
        {
            // A packet's length; of what goes again, only what lies behind `nxt` is new.
            let ahead = (seq + len as u32).distance(nxt);
            if let Ok(new @ 1..) = u64::try_from(ahead) {
                self.sent += new;
                let sent = self.sent;
                let offset = self.editor.as_ref().map_or(sent, |editor| editor.covered(sent));
                answers.forwarded(offset, now);
            }
        }
        Some((transmit, again))
    }

    /// Heap octets.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>()
            + self.reassembler.memory()
            + self.stream.memory()
            + self.gate.memory()
            + self.editor.as_ref().map_or(0, |editor| editor.memory())
            + self.client.as_ref().map_or(0, Client::memory)
            + self.answers.as_ref().map_or(0, |answers| answers.memory())
    }

    /// Files what the shadow has acknowledged by now.
    fn deliver(&mut self, books: &mut Books) {
        let Some(client) = &self.client else { return };
        let sent = client.acknowledged();
        let (settled, left_out) =
            self.editor.as_mut().map_or((sent, 0), |editor| editor.received(sent));
        let delivered = settled - left_out;
        books.bytes.delivered += delivered - self.delivered;
        self.delivered = delivered;
        self.settled = settled;
        self.stream.delivered(settled, books);
    }

    /// Nothing more of the client's stream will come.
    fn close_stream(
        &mut self,
        close: Close,
        acknowledged: u64,
        captured_at: Instant,
        books: &mut Books,
    ) {
        self.closed = true;
        let Self { client, editor, stream, gate, .. } = self;
        let mut write = |bytes: &[u8]| {
            if let Some(client) = client {
                client.write(bytes);
            }
        };
        let mut admit = || Ok(());
        let pen =
            editor.as_mut().map(|editor| Pen { editor, write: &mut write, admit: &mut admit });
        stream.push_close(close, acknowledged, captured_at, gate, pen, books);
    }

    fn end_of(&self, close: client::Close) -> FlowEnd {
        use client::Close as By;
        // A stream that has ended and arrived is whole, however the shadow then hangs up.
        if self.connected && self.closed && self.settled == self.stream.captured() {
            return FlowEnd::Mirrored;
        }
        FlowEnd::Aborted(match close {
            By::Refused => Aborted::ShadowRefused,
            By::Reset | By::Finished | By::Aborted => Aborted::ShadowReset,
            By::TimedOut => Aborted::ShadowTimeout,
            By::Unreachable => Aborted::ShadowUnreachable,
        })
    }

    /// What the end of the session tells of the shadow, when the shadow has caused it.
    fn sign_of(&self, end: FlowEnd) -> Option<Sign> {
        match end {
            FlowEnd::Aborted(_) if self.connected => Some(Sign::Unanswered),
            FlowEnd::Aborted(_) => Some(Sign::Unconnected),
            FlowEnd::Mirrored | FlowEnd::Skipped(_) => {
                let whole = self.stream.is_answered_whole() && !self.gate.has_timed_out();
                (self.delivered > 0 && whole).then_some(Sign::Answered)
            }
        }
    }

    /// When the hole in the capture has waited long enough for the client's retransmission.
    fn hole_deadline(&self, last_loss: Option<Instant>, config: &EngineConfig) -> Option<Instant> {
        let since = self.reassembler.hole_since()?;
        let known = last_loss.is_some_and(|loss| loss + KNOWN_LOSS_HOLE >= since);
        Some(since + if known { KNOWN_LOSS_HOLE } else { config.hole_timeout })
    }
}

/// Unwraps `ack` into octets since the session began; returns what it stands for.
fn advance_ack(production: &mut (SeqNum, u64), ack: SeqNum) -> u64 {
    let (last, octets) = *production;
    let ahead = ack.distance(last);
    match u64::try_from(ahead) {
        Ok(ahead) => {
            *production = (ack, octets + ahead);
            octets + ahead
        }
        Err(_) => octets.saturating_sub(u64::from(ahead.unsigned_abs())),
    }
}

/// What TCP may conclude from an ICMP code (RFC 1122, 4.2.3.9; RFC 4443, 3.1).
fn unreachable_kind(v4: bool, code: u8) -> Unreachable {
    match (v4, code) {
        (true, 2 | 3 | 9 | 10 | 13) | (false, 1 | 4) => Unreachable::Hard,
        _ => Unreachable::Soft,
    }
}
