//! One conversation between the emulated client and smoltcp, with its invariants.

use std::net::SocketAddr;
use std::time::Duration;

use shadow_engine::client::{Client, Close, Config, Event, Offer, State};
use shadow_engine::seq::SeqNum;
use shadow_engine::time::Instant;
use shadow_engine::wire::{Malformed, Packet, Segment, emit};
use smoltcp::socket::tcp;

use crate::sim::dice::Dice;
use crate::sim::link::{Link, Rules, Sent};
use crate::sim::shadow::{ServerConfig, Shadow};
use crate::sim::{MAX_STEPS, micros, tso};

/// How the conversation ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// Both close; the client first, the server once it has read everything.
    ClientFirst,
    /// The server closes as soon as its answer is written; the client when it is done.
    ServerFirst,
    /// Both as soon as they can: often at the same time.
    Together,
    /// The client aborts at some point.
    ClientAborts,
    /// The server aborts at some point.
    ServerAborts,
}

/// Everything that is decided before a conversation begins.
#[derive(Clone, Debug)]
pub struct Plan {
    pub config: Config,
    /// Data octets of several segments in one.
    pub offload: u32,
    pub server: ServerConfig,
    pub forth: Rules,
    pub back: Rules,
    pub request: usize,
    pub response: usize,
    /// Largest piece that is written or released at once, and the pause before the next.
    pub piece: u64,
    pub pause: Duration,
    /// Whether the server answers before it has read everything.
    pub eager: bool,
    /// Octets the server reads at once, and the pause before it reads again.
    pub read: usize,
    pub read_pause: Duration,
    pub end: End,
    /// Octets of request after which an abort happens.
    pub abort_at: u64,
    /// When the path MTU falls, and to what.
    pub mtu_change: Option<(Duration, u16)>,
}

/// Chooses a conversation over a clean link.
pub fn clean_plan(dice: &mut Dice) -> Plan {
    let v6 = dice.chance(0.3);
    let (local, remote): (SocketAddr, SocketAddr) = if v6 {
        ("[fd00::1]:16384".parse().unwrap(), "[fd00::2]:80".parse().unwrap())
    } else {
        ("10.0.0.1:16384".parse().unwrap(), "10.0.0.2:80".parse().unwrap())
    };
    let mtu = dice.pick(&[1500_u16, 1500, 1500, 1400, 1280, 9000]);
    let offer = Offer {
        mss: dice.pick(&[1460, 1460, 1440, 1200, 536, 8960]),
        window_scale: dice.pick(&[Some(0), Some(7), Some(7), Some(14), None]),
        sack_permitted: dice.chance(0.7),
        timestamps: dice.chance(0.7),
    };
    let mut config = Config::new(local, remote, SeqNum::new(dice.u32()), offer);
    if dice.chance(0.2) {
        config.iss = SeqNum::new(u32::MAX - dice.below(20_000) as u32);
    }
    config.path_mtu = mtu;
    config.timestamp_base = dice.u32();
    config.user_timeout = Duration::from_secs(600);
    config.zero_window_timeout = Duration::from_secs(1200);
    // smoltcp backs off without bound where the link loses much.
    config.fin_wait_timeout = Duration::from_secs(3600);
    config.receive_limit = dice.pick(&[256 * 1024, 256 * 1024, 65_535, 4096, 100_000]);
    let small = dice.chance(0.2);
    let request = if dice.chance(0.05) { 0 } else { dice.scale(1, 100_000) as usize };
    let response = if dice.chance(0.05) { 0 } else { dice.scale(1, 100_000) as usize };
    let latency = Duration::from_micros(dice.scale(10, 50_000));
    let slow = dice.chance(0.15);
    Plan {
        server: ServerConfig {
            listen: remote,
            seed: u64::from(dice.u32()),
            mtu,
            receive_buffer: if small {
                dice.scale(64, 2000) as usize
            } else {
                dice.scale(4096, 300_000) as usize
            },
            send_buffer: dice.scale(1024, 100_000) as usize,
            ack_delay: dice.chance(0.8).then_some(Duration::from_millis(10)),
            nagle: dice.chance(0.5),
            timestamps: dice.chance(0.7),
            timestamp_base: dice.u32(),
        },
        forth: Rules::clean(latency),
        back: Rules::clean(latency),
        request,
        response,
        piece: dice.scale(100, 200_000),
        pause: Duration::from_micros(if dice.chance(0.5) { 0 } else { dice.scale(1, 5_000) }),
        eager: dice.chance(0.5),
        read: if slow { dice.scale(request as u64 / 50 + 1, 20_000) as usize } else { usize::MAX },
        read_pause: Duration::from_micros(if slow { dice.scale(100, 300_000) } else { 0 }),
        end: dice.pick(&[
            End::ClientFirst,
            End::ClientFirst,
            End::ServerFirst,
            End::Together,
            End::ClientAborts,
            End::ServerAborts,
        ]),
        abort_at: dice.below(request as u64 + 1),
        mtu_change: None,
        // Half of them, without a draw, so that seeds stay what they are.
        offload: if config.iss.get().is_multiple_of(2) { 65_280 } else { 0 },
        config,
    }
}

/// Both ends, the links between them, and what is known about the streams.
pub struct Conversation {
    plan: Plan,
    client: Client,
    shadow: Shadow,
    forth: Link,
    back: Link,
    now: Instant,
    start: Instant,
    dice: Dice,
    request: Vec<u8>,
    response: Vec<u8>,
    /// What the client was given so far of the response.
    answered: usize,
    /// What the server read so far of the request.
    read: usize,
    /// What the server wrote so far of the response.
    responded: usize,
    /// When the client's application goes on.
    write_at: Option<Instant>,
    /// When the server's application goes on.
    read_at: Instant,
    server_closed: bool,
    server_aborted: bool,
    closed: Option<Close>,
    connected: bool,
    peer_closed: bool,
    /// The furthest right edge that the server's segments offered.
    edge: Option<SeqNum>,
    shift: u8,
    too_big: Vec<(Instant, u16)>,
    buffer: Vec<u8>,
    trace: bool,
}

impl Conversation {
    pub fn new(plan: Plan, mut dice: Dice) -> Self {
        let trace = std::env::var("SHADOWTAP_TRACE").is_ok();
        if trace {
            eprintln!("{plan:?}");
        }
        let now = micros(dice.between(1_000_000, 1 << 40));
        let request = dice.bytes(plan.request);
        let response = dice.bytes(plan.response);
        let forth = Dice::new(u64::from(dice.u32()));
        let back = Dice::new(u64::from(dice.u32()));
        Self {
            client: Client::connect(plan.config, now),
            shadow: Shadow::new(plan.server, now),
            forth: Link::new(plan.forth, forth),
            back: Link::new(plan.back, back),
            plan,
            now,
            start: now,
            dice,
            request,
            response,
            answered: 0,
            read: 0,
            responded: 0,
            write_at: Some(now),
            read_at: now,
            server_closed: false,
            server_aborted: false,
            closed: None,
            connected: false,
            peer_closed: false,
            edge: None,
            shift: 0,
            too_big: Vec::new(),
            buffer: Vec::new(),
            trace,
        }
    }

    /// Runs to the end and checks what must hold there.
    pub fn run(mut self) -> Close {
        let mut steps = 0;
        while self.closed.is_none() || self.forth.next().is_some() {
            steps += 1;
            assert!(steps < MAX_STEPS, "livelock: {} steps", MAX_STEPS);
            let elapsed = self.now.since(self.start);
            assert!(elapsed < Duration::from_secs(36_000), "takes too long: {:?}", self.plan);
            self.step();
        }
        let close = self.closed.unwrap();
        self.check_end(close);
        close
    }

    /// Moves to the next thing that happens, and lets everybody act.
    fn step(&mut self) {
        let next = [
            self.forth.next(),
            self.back.next(),
            self.client.poll_timeout(),
            self.shadow.poll_timeout(self.now),
            self.write_at,
            Some(self.read_at).filter(|at| *at > self.now),
            self.too_big.first().map(|entry| entry.0),
        ]
        .into_iter()
        .flatten()
        .min();
        let next = next.unwrap_or_else(|| {
            panic!("nothing will ever happen: {} {:?}", self.client.state(), self.plan)
        });
        self.now = self.now.max(next);
        let now = self.now;
        if let Some((after, mtu)) = self.plan.mtu_change
            && now.since(self.start) >= after
        {
            self.forth.rules.mtu = mtu;
        }
        while let Some(frame) = self.forth.receive(now) {
            self.shadow.handle_packet(frame.bytes);
        }
        self.server_acts();
        self.shadow.poll(now);
        self.server_acts();
        self.shadow.poll(now);
        while let Some(bytes) = self.shadow.poll_transmit() {
            if self.trace
                && let Ok(packet) = Packet::parse(&bytes)
            {
                eprintln!("{:>12}    shadow sends {}", self.clock(), show(&packet.segment));
            }
            self.back.send(bytes, now);
        }
        while let Some(frame) = self.back.receive(now) {
            self.client_receives(&frame.bytes, frame.corrupted);
            self.client_sends();
        }
        while self.too_big.first().is_some_and(|entry| entry.0 <= now) {
            let (_, mtu) = self.too_big.remove(0);
            self.client.handle_packet_too_big(mtu, now);
            self.client_sends();
        }
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        self.client_acts();
        self.client_sends();
        self.check_step();
    }

    /// The client's application: writes, releases, closes.
    fn client_acts(&mut self) {
        if self.write_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.write_at = None;
        let (written, released) = (self.client.written(), self.client.released());
        if self.plan.end == End::ClientAborts && released >= self.plan.abort_at {
            self.client.abort();
            return;
        }
        let piece = self.dice.between(1, self.plan.piece);
        if written < self.request.len() as u64 && self.dice.chance(0.6) {
            let upto = (written + piece).min(self.request.len() as u64);
            self.client.write(&self.request[written as usize..upto as usize]);
        } else {
            self.client.release(released + piece);
        }
        if self.client.written() == self.request.len() as u64
            && (self.plan.end != End::ClientFirst || self.dice.chance(0.5))
        {
            self.client.close();
            let done = self.client.released() == self.client.written();
            if done && self.plan.end != End::ClientAborts {
                return;
            }
        }
        self.write_at = Some(self.now + self.dice.duration(self.plan.pause));
    }

    /// The server's application: reads, answers, closes.
    fn server_acts(&mut self) {
        let socket = self.shadow.socket();
        if self.read_at <= self.now && socket.can_recv() {
            let mut budget = self.plan.read;
            while budget > 0 && socket.can_recv() {
                let (request, read) = (&self.request, &mut self.read);
                let taken = socket
                    .recv(|bytes| {
                        let len = bytes.len().min(budget);
                        assert_eq!(
                            bytes[..len],
                            request[*read..(*read + len).min(request.len())],
                            "the server reads something else than the client wrote, at {read}"
                        );
                        *read += len;
                        (len, len)
                    })
                    .unwrap();
                budget -= taken;
            }
            if !self.plan.read_pause.is_zero() {
                self.read_at = self.now + self.plan.read_pause;
            }
        }
        if self.plan.end == End::ServerAborts
            && self.read as u64 >= self.plan.abort_at
            && socket.is_active()
            && socket.state() != tcp::State::SynReceived
            && !self.server_aborted
        {
            socket.abort();
            self.server_aborted = true;
            return;
        }
        let answer = self.plan.eager || self.read == self.request.len();
        if answer && self.responded < self.response.len() && socket.can_send() {
            self.responded += socket.send_slice(&self.response[self.responded..]).unwrap();
        }
        let all_said = self.responded == self.response.len();
        let all_heard = socket.state() == tcp::State::CloseWait && !socket.can_recv();
        let close = match self.plan.end {
            End::ServerFirst | End::Together => socket.may_send(),
            _ => all_heard,
        };
        if all_said && close && !self.server_closed && socket.state() != tcp::State::Listen {
            socket.close();
            self.server_closed = true;
        }
    }

    fn client_receives(&mut self, bytes: &[u8], corrupted: bool) {
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            // smoltcp answers some corrupted packets with ICMP.
            Err(Malformed::Protocol) => return,
            Err(error) => {
                assert!(corrupted, "the engine cannot read what smoltcp wrote: {error}");
                return;
            }
        };
        if corrupted {
            // The flipped bit was one that no checksum covers, or made the checksum look partial.
            return;
        }
        let segment = packet.segment;
        if self.trace {
            eprintln!("{:>12} <- {}", self.clock(), show(&segment));
        }
        if segment.flags.syn {
            self.shift = match (self.plan.config.offer.window_scale, segment.options.window_scale) {
                (Some(_), Some(shift)) => shift,
                _ => 0,
            };
        }
        if segment.flags.ack && !segment.flags.rst {
            let shift = if segment.flags.syn { 0 } else { self.shift };
            let edge = segment.ack + (u32::from(segment.wnd) << shift);
            if self.edge.is_none_or(|old| edge.after(old)) {
                self.edge = Some(edge);
            }
        }
        let (answered, response) = (&mut self.answered, &self.response);
        self.client.handle_segment(&segment, self.now, &mut |bytes| {
            assert_eq!(
                bytes,
                &response[*answered..(*answered + bytes.len()).min(response.len())],
                "the client is given something else than the server wrote, at {answered}"
            );
            *answered += bytes.len();
        });
    }

    fn clock(&self) -> String {
        format!("{:.6}", self.now.since(self.start).as_secs_f64())
    }

    fn client_sends(&mut self) {
        let released = self.client.released();
        let mut burst = 0;
        while let Some(outgoing) = self.client.poll_transmit_up_to(self.plan.offload, self.now) {
            burst += 1;
            assert!(burst < 100_000, "poll_transmit does not end");
            tso::cut(&outgoing, |segment, data| {
                let len = data.len();
                if self.trace {
                    let clock = format!("{:.6}", self.now.since(self.start).as_secs_f64());
                    eprintln!("{clock:>12} -> {} len {len}", show(&segment));
                }
                let end = segment.seq + len as u32 + u32::from(segment.flags.fin);
                if !segment.flags.syn && end != segment.seq {
                    let edge = self.edge.expect("data only after the server's SYN");
                    let probe = len as u32 + u32::from(segment.flags.fin) == 1;
                    let allowed = if probe { edge + 1 } else { edge };
                    assert!(end.before_or_at(allowed), "beyond the window: {end} > {edge}");
                }
                if len > 0 {
                    // Requests here are far below 4 GiB.
                    let at = segment.seq.distance(self.plan.config.iss + 1) as usize;
                    assert!(at as u64 + len as u64 <= released, "sends what was not released");
                    assert_eq!(&self.request[at..at + len], data, "sends other octets");
                }
                self.buffer.clear();
                let (from, to) = (self.plan.config.local, self.plan.config.remote);
                emit(from, to, &segment, [data, &[]], &mut self.buffer);
                assert!(self.buffer.len() <= usize::from(self.plan.config.path_mtu), "too big");
                if let Sent::TooBig(mtu) = self.forth.send(self.buffer.clone(), self.now) {
                    self.too_big.push((self.now + self.plan.back.latency, mtu));
                }
            });
        }
        while let Some(event) = self.client.poll_event() {
            if self.trace {
                eprintln!("{:>12} {event:?}", self.clock());
            }
            assert_eq!(self.closed, None, "events after Closed");
            match event {
                Event::Connected => {
                    assert!(!std::mem::replace(&mut self.connected, true), "Connected twice");
                }
                Event::PeerClosed => {
                    assert!(!std::mem::replace(&mut self.peer_closed, true), "PeerClosed twice");
                    assert_eq!(self.answered, self.response.len(), "FIN before the whole response");
                }
                Event::Closed(close) => {
                    assert_eq!(self.client.state(), State::Closed);
                    self.closed = Some(close);
                }
            }
        }
    }

    /// What must hold at every step.
    fn check_step(&mut self) {
        let client = &self.client;
        assert!(client.acknowledged() <= client.released());
        assert!(client.released() <= client.written());
        assert_eq!(client.received(), self.answered as u64);
        assert!(self.read <= self.request.len());
        assert!(self.answered <= self.response.len());
        // What was acknowledged has arrived.
        let kept = self.shadow.socket().recv_queue();
        if !self.server_aborted && self.plan.end != End::ClientAborts {
            assert!(self.client.acknowledged() <= (self.read + kept) as u64);
        }
        let client = &self.client;
        match client.poll_timeout() {
            Some(at) => {
                assert!(at.since(self.now) <= Duration::from_secs(3600), "a timer without end");
            }
            None => {
                let idle = client.acknowledged() == client.released();
                let awaited = matches!(client.state(), State::Established | State::CloseWait);
                assert!(
                    client.state() == State::Closed || (idle && awaited),
                    "no timer in {} with {} of {} acknowledged",
                    client.state(),
                    client.acknowledged(),
                    client.released(),
                );
            }
        }
    }

    fn check_end(&mut self, close: Close) {
        match close {
            Close::Finished => {
                assert_eq!(self.client.acknowledged(), self.request.len() as u64);
                assert!(self.client.fin_acknowledged());
                // A slow reader still has some of it in its buffer.
                let kept = self.shadow.socket().recv_queue();
                assert_eq!(self.read + kept, self.request.len(), "the request is not whole");
                assert_eq!(self.answered, self.response.len(), "the response is not whole");
            }
            Close::Aborted => assert_eq!(self.plan.end, End::ClientAborts),
            Close::Reset => {
                // smoltcp leaves TIME-WAIT after 10 s, which can be before an acknowledgment of
                // the client's FIN gets through.
                let whole = self.server_closed
                    && self.read == self.request.len()
                    && self.answered == self.response.len();
                let aborted = matches!(self.plan.end, End::ServerAborts | End::ClientAborts);
                assert!(whole || aborted, "reset by nobody");
            }
            Close::TimedOut | Close::Refused | Close::Unreachable => {}
        }
        assert_eq!(self.client.memory(), 0, "a closed connection holds memory");
    }
}

/// A segment for the eye.
pub fn show(segment: &Segment<'_>) -> String {
    let flags = segment.flags;
    let mut text = format!("seq {} ack {} wnd {}", segment.seq, segment.ack, segment.wnd);
    for (set, name) in [
        (flags.syn, " SYN"),
        (flags.fin, " FIN"),
        (flags.rst, " RST"),
        (flags.psh, " PSH"),
        (flags.ack, " ACK"),
    ] {
        if set {
            text.push_str(name);
        }
    }
    if !segment.payload.is_empty() {
        text.push_str(&format!(" len {}", segment.payload.len()));
    }
    for (left, right) in segment.options.sack.iter() {
        text.push_str(&format!(" sack {left}-{right}"));
    }
    if let Some(ts) = segment.options.timestamps {
        text.push_str(&format!(" ts {}/{}", ts.value, ts.echo_reply));
    }
    text
}
