//! A peer that sends whatever it likes: legal and illegal segments, forged ICMP, at any time. It
//! can end the connection or starve it, but not make the client break a promise.

use std::time::Duration;

use shadow_engine::client::{Client, Config, Event, Offer, State, Unreachable};
use shadow_engine::seq::SeqNum;
use shadow_engine::time::Instant;
use shadow_engine::wire::{Flags, Options, SackBlocks, Segment, Timestamps, emit};

use crate::conversation::show;
use crate::sim::dice::Dice;
use crate::sim::{for_each_seed, micros};

const USER_TIMEOUT: Duration = Duration::from_secs(30);
const OPERATIONS: u32 = 300;

struct Adversary {
    dice: Dice,
    client: Client,
    config: Config,
    now: Instant,
    /// The client's stream and this end's.
    request: Vec<u8>,
    response: Vec<u8>,
    irs: SeqNum,
    /// What the client has sent so far: the end of it.
    sent: SeqNum,
    /// The client's acknowledgment.
    acked: SeqNum,
    received: usize,
    acknowledged: u64,
    /// The furthest edge offered by an acknowledgment of something sent.
    edge: Option<SeqNum>,
    shift: Option<u8>,
    timestamps: bool,
    events: Vec<Event>,
    trace: bool,
}

impl Adversary {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let now = micros(dice.between(1, 1 << 40));
        let v6 = dice.chance(0.3);
        let (local, remote) = if v6 {
            ("[fd00::1]:16384".parse().unwrap(), "[fd00::2]:80".parse().unwrap())
        } else {
            ("10.0.0.1:16384".parse().unwrap(), "10.0.0.2:80".parse().unwrap())
        };
        let offer = Offer {
            mss: dice.pick(&[1460, 536, 0, 65_535]),
            window_scale: dice.pick(&[None, Some(0), Some(7), Some(14), Some(255)]),
            sack_permitted: dice.chance(0.7),
            timestamps: dice.chance(0.5),
        };
        let iss = SeqNum::new(dice.u32());
        let mut config = Config::new(local, remote, iss, offer);
        config.path_mtu = dice.pick(&[0, 576, 1500, 9000, 65_535]);
        config.user_timeout = USER_TIMEOUT;
        config.receive_limit = dice.pick(&[0, 1000, 65_535, 300_000, usize::MAX]);
        config.timestamp_base = dice.u32();
        let request_len = dice.scale(1, 100_000) as usize;
        let response_len = dice.scale(1, 50_000) as usize;
        Self {
            request: dice.bytes(request_len),
            response: dice.bytes(response_len),
            irs: SeqNum::new(dice.u32()),
            dice,
            client: Client::connect(config, now),
            config,
            now,
            sent: iss,
            acked: SeqNum::default(),
            received: 0,
            acknowledged: 0,
            edge: None,
            shift: None,
            timestamps: false,
            events: Vec::new(),
            trace: std::env::var("SHADOWTAP_TRACE").is_ok(),
        }
    }

    fn run(mut self) {
        self.flush();
        for _ in 0..OPERATIONS {
            match self.dice.below(20) {
                0 => {
                    let from = self.client.written() as usize;
                    let most = (self.request.len() - from) as u64;
                    let piece = self.dice.scale(1, most.max(1)) as usize;
                    self.client.write(&self.request[from..(from + piece).min(self.request.len())]);
                }
                1 | 2 => {
                    let piece = self.dice.scale(1, 20_000);
                    self.client.release(self.client.released() + piece);
                }
                3 if self.dice.chance(0.1) => self.client.close(),
                3 if self.dice.chance(0.02) => self.client.abort(),
                4 | 5 => self.timeout(),
                6 => self.now += Duration::from_micros(self.dice.scale(1, 1_000_000)),
                7 if self.dice.chance(0.2) => {
                    let mtu = self.dice.u32() as u16;
                    self.client.handle_packet_too_big(mtu, self.now);
                }
                7 if self.dice.chance(0.05) => {
                    let error = self.dice.pick(&[Unreachable::Soft, Unreachable::Hard]);
                    self.client.handle_unreachable(error, self.now);
                }
                _ => self.segment(),
            }
            self.flush();
            self.check();
        }
        self.silence();
    }

    /// From now on nothing is heard: whatever is outstanding ends in bounded time.
    fn silence(&mut self) {
        if self.dice.chance(0.5) {
            self.client.close();
            self.client.release(u64::MAX);
            self.flush();
        }
        let start = self.now;
        for _ in 0..1_000 {
            if self.client.poll_timeout().is_none() {
                break;
            }
            self.timeout();
            self.flush();
            self.check();
        }
        assert_eq!(self.client.poll_timeout(), None, "timers without end");
        assert!(self.now.since(start) <= Duration::from_secs(180), "takes too long to give up");
        let state = self.client.state();
        let idle = self.client.acknowledged() == self.client.released();
        let awaited = matches!(state, State::Established | State::CloseWait);
        assert!(state == State::Closed || (idle && awaited), "stuck in {state}");
        self.client.abort();
        self.flush();
        assert_eq!(self.client.state(), State::Closed);
        assert_eq!(self.client.memory(), 0);
        let closed = self.events.iter().filter(|event| matches!(event, Event::Closed(_))).count();
        assert_eq!(closed, 1);
        assert!(matches!(self.events.last(), Some(Event::Closed(_))));
    }

    /// The next timer is due; handling it must not leave it due.
    fn timeout(&mut self) {
        let Some(at) = self.client.poll_timeout() else { return };
        self.now = self.now.max(at);
        self.client.handle_timeout(self.now);
        self.flush();
        if let Some(next) = self.client.poll_timeout() {
            assert!(next > self.now, "a timer is due again at once");
        }
    }

    /// Sends something.
    fn segment(&mut self) {
        let dice = &mut self.dice;
        let answer_syn = self.shift.is_none() && dice.chance(0.8);
        let in_order = self.irs + 1 + self.received as u32;
        // Where in its own stream, mostly around what the client expects.
        let at = match dice.below(12) {
            0..=5 => self.received,
            6 => self.received.saturating_sub(dice.scale(1, 3000) as usize),
            7..=10 => self.received + dice.scale(1, 5000) as usize,
            _ => dice.below(1 << 20) as usize,
        }
        .min(self.response.len());
        let len = if dice.chance(0.6) { 0 } else { dice.scale(1, 3000) as usize };
        let len = len.min(self.response.len() - at);
        let mut seq = self.irs + 1 + at as u32;
        let una = self.config.iss + 1 + self.acknowledged as u32;
        let in_flight = u64::from(self.sent.get().wrapping_sub(una.get()) & 0x7fff_ffff);
        let ack = match dice.below(12) {
            0..=3 => una,
            4..=8 => una + dice.below(in_flight + 1) as u32,
            9 => self.sent,
            10 => una - dice.scale(1, 100_000) as u32,
            _ => SeqNum::new(dice.u32()),
        };
        let wnd = match dice.below(6) {
            0 => 0,
            1 => dice.below(100) as u16,
            _ => dice.u32() as u16,
        };
        let mut flags = Flags { ack: dice.chance(0.98), ..Flags::default() };
        let mut ack = ack;
        if answer_syn {
            flags.syn = true;
            flags.ack = dice.chance(0.95);
            seq = self.irs;
            if dice.chance(0.9) {
                ack = self.config.iss + 1;
            }
        } else if self.shift.is_some() && dice.chance(0.01) {
            flags.syn = true;
        }
        // Resets are rare, or nothing else would be seen.
        if dice.chance(0.02) {
            flags.rst = true;
            if dice.chance(0.9) {
                seq = in_order + 1 + dice.u32() % 100_000;
            }
        }
        flags.fin = !flags.syn && at + len == self.response.len() && dice.chance(0.3);
        flags.urg = dice.chance(0.05);
        let mut sack = SackBlocks::default();
        for _ in 0..dice.below(5) {
            let left = una + dice.below(in_flight + 1) as u32;
            let right = match dice.below(10) {
                0 => SeqNum::new(dice.u32()),
                1 => left - 100,
                _ => left + dice.scale(1, 5000) as u32,
            };
            sack.push(left, right);
        }
        let value = (self.now.as_millis() as u32).wrapping_sub(if dice.chance(0.1) {
            dice.u32() % 100_000
        } else {
            0
        });
        let echo = (self.now.as_millis() as u32).wrapping_add(self.config.timestamp_base)
            - if dice.chance(0.9) { 0 } else { 1 };
        let options = Options {
            mss: dice.pick(&[None, Some(0), Some(1), Some(1460), Some(65_535)]),
            window_scale: dice.pick(&[None, Some(0), Some(7), Some(14), Some(255)]),
            sack_permitted: dice.chance(0.8),
            timestamps: (answer_syn && dice.chance(0.5) || self.timestamps && dice.chance(0.97))
                .then_some(Timestamps { value, echo_reply: echo }),
            sack,
        };
        let payload = if flags.syn { &[][..] } else { &self.response[at..at + len] };
        let segment = Segment { seq, ack, flags, wnd, up: 0, options, payload };
        if self.trace {
            eprintln!("{} <- {} in {}", self.now.as_millis(), show(&segment), self.client.state());
        }
        let (before, connected) = (self.client.state(), self.client.state() != State::SynSent);
        let (received, response) = (&mut self.received, &self.response);
        self.client.handle_segment(&segment, self.now, &mut |bytes| {
            assert_eq!(bytes, &response[*received..*received + bytes.len()]);
            *received += bytes.len();
        });
        if before == State::SynSent && self.client.state() == State::Established {
            let both = |a: Option<u8>, b: Option<u8>| a.and(b).unwrap_or(0).min(14);
            self.shift = Some(both(self.config.offer.window_scale, options.window_scale));
            self.timestamps = self.config.offer.timestamps && options.timestamps.is_some();
            self.acked = self.irs + 1;
            self.edge = Some(ack + u32::from(wnd));
        } else if connected && flags.ack && ack.after_or_at(una) && ack.before_or_at(self.sent) {
            let edge = ack + (u32::from(wnd) << self.shift.unwrap_or(0));
            if self.edge.is_none_or(|old| edge.after(old)) {
                self.edge = Some(edge);
            }
        }
    }

    /// Takes everything the client sends and says, and judges it.
    fn flush(&mut self) {
        let mut burst = 0;
        let mut buffer = Vec::new();
        let released = self.client.released();
        while let Some(outgoing) = self.client.poll_transmit(self.now) {
            burst += 1;
            assert!(burst < 3_000, "poll_transmit does not end");
            let segment = outgoing.segment;
            let len = outgoing.payload_len() as u32;
            if self.trace {
                eprintln!("{} -> {} len {len}", self.now.as_millis(), show(&segment));
            }
            buffer.clear();
            emit(self.config.local, self.config.remote, &segment, outgoing.payload, &mut buffer);
            let least = if self.config.local.is_ipv4() { 552 } else { 1280 };
            assert!(buffer.len() <= usize::from(self.config.path_mtu.max(least)));
            if segment.flags.rst {
                continue;
            }
            let end =
                segment.seq + len + u32::from(segment.flags.fin) + u32::from(segment.flags.syn);
            if segment.flags.syn {
                assert_eq!(segment.seq, self.config.iss);
            } else {
                let ack_moves = segment.ack.distance(self.acked);
                assert!(ack_moves >= 0, "an acknowledgment is taken back");
                self.acked = segment.ack;
                if end != segment.seq {
                    let edge = self.edge.unwrap();
                    let one = end == segment.seq + 1;
                    let allowed = if one { edge + 1 } else { edge };
                    assert!(end.before_or_at(allowed), "beyond the window: {end} > {edge}");
                }
                if len > 0 {
                    let at = segment.seq.distance(self.config.iss + 1) as usize;
                    assert!(at as u64 + u64::from(len) <= released, "sends what was not released");
                    let [a, b] = outgoing.payload;
                    assert_eq!([a, b].concat(), self.request[at..at + len as usize]);
                }
            }
            if end.after(self.sent) {
                self.sent = end;
            }
        }
        while let Some(event) = self.client.poll_event() {
            self.events.push(event);
        }
    }

    fn check(&mut self) {
        let client = &self.client;
        assert!(client.acknowledged() >= self.acknowledged, "an acknowledgment is forgotten");
        self.acknowledged = client.acknowledged();
        assert!(client.acknowledged() <= client.released());
        assert_eq!(client.received(), self.received as u64);
        let limit = 4 * (self.request.len() + self.response.len()) + 64 * 1024;
        assert!(client.memory() <= limit, "{} octets of memory", client.memory());
        if let Some(at) = client.poll_timeout() {
            assert!(at.since(self.now) <= Duration::from_secs(120), "a timer without end");
        }
        let idle = client.acknowledged() == client.released();
        let awaited = matches!(client.state(), State::Established | State::CloseWait);
        if client.poll_timeout().is_none() && client.state() != State::Closed {
            assert!(idle && awaited, "no timer in {}", client.state());
        }
    }
}

#[test]
fn adversary_first_half() {
    for_each_seed(0..10_000, |seed| Adversary::new(seed).run());
}

#[test]
fn adversary_second_half() {
    for_each_seed(10_000..20_000, |seed| Adversary::new(seed).run());
}
