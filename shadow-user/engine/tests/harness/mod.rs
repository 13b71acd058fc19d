//! An engine with captured clients on one side and, on the other, the simplest
//! shadow that can be: it answers each segment from what stands in it and
//! remembers nothing.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::{Ipv4Addr, SocketAddr};

use shadow_engine::books::Books;
use shadow_engine::seq::SeqNum;
use shadow_engine::time::{Duration, Instant};
use shadow_engine::wire::{Flags, Options, Packet, Segment, Timestamps, emit};
use shadow_engine::{Engine, EngineConfig};

/// What the shadow does with what it gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shadow {
    /// Acknowledges, and answers whatever carries data.
    Answers,
    /// Answers SYN with RST.
    Refuses,
    /// Says nothing.
    Silent,
}

pub const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: example.net\r\nUser-Agent: scale\r\n\r\n";
pub const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub fn production() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, 5).into(), 80)
}

pub fn client(index: u32) -> SocketAddr {
    let [_, a, b, c] = (index / 50_000).to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(172, a, b, c).into(), 10_000 + (index % 50_000) as u16)
}

pub struct Mirror {
    pub engine: Engine,
    pub now: Instant,
    /// What the shadow does with what it gets.
    pub shadow: Shadow,
    /// Every segment that was sent to the shadow: its flags.
    pub sent: Vec<Flags>,
    packet: Vec<u8>,
    answer: Vec<u8>,
}

impl Mirror {
    pub fn new(adjust: impl FnOnce(&mut EngineConfig)) -> Self {
        let shadow = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 9).into(), 8_080);
        let mut config = EngineConfig::new(shadow, production().ip(), [7; 16]);
        adjust(&mut config);
        let now = Instant::from_nanos(1 << 40);
        Self {
            engine: Engine::new(config),
            now,
            shadow: Shadow::Answers,
            sent: Vec::new(),
            packet: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// What the client `index` sends, at `seq` of its stream and having seen `ack` of production's.
    pub fn capture(&mut self, index: u32, flags: Flags, seq: u32, ack: u32, payload: &[u8]) {
        let timestamps = Some(Timestamps { value: self.now.as_millis() as u32, echo_reply: 1 });
        let options = if flags.syn {
            Options {
                mss: Some(1_460),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps,
                ..Options::default()
            }
        } else {
            Options { timestamps, ..Options::default() }
        };
        let segment = Segment {
            seq: SeqNum::new(seq),
            ack: SeqNum::new(ack),
            flags,
            wnd: 500,
            options,
            ..Segment::default()
        };
        self.packet.clear();
        emit(client(index), production(), &segment, [payload, &[]], &mut self.packet);
        self.engine.handle_capture(&self.packet, self.now, self.now);
        self.exchange();
    }

    /// Lets mirror and shadow talk until both have said everything.
    pub fn exchange(&mut self) {
        loop {
            if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
                self.engine.handle_timeout(self.now);
            }
            self.packet.clear();
            if !self.engine.poll_transmit(self.now, &mut self.packet) {
                return;
            }
            let packet = Packet::parse(&self.packet).unwrap();
            let segment = packet.segment;
            self.sent.push(segment.flags);
            if segment.flags.rst || (segment.is_empty() && !segment.flags.fin) {
                continue;
            }
            match self.shadow {
                Shadow::Answers => {}
                Shadow::Refuses => {
                    let reset = Segment {
                        ack: segment.seq + segment.len(),
                        flags: Flags { rst: true, ack: true, ..Flags::default() },
                        ..Segment::default()
                    };
                    self.answer.clear();
                    emit(packet.destination, packet.source, &reset, [&[], &[]], &mut self.answer);
                    self.engine.handle_reply(&self.answer, self.now, self.now);
                    continue;
                }
                Shadow::Silent => continue,
            }
            let timestamps = segment.options.timestamps.map(|theirs| Timestamps {
                value: self.now.as_millis() as u32,
                echo_reply: theirs.value,
            });
            let mut reply = Segment {
                seq: segment.ack,
                ack: segment.seq + segment.len(),
                flags: Flags { ack: true, fin: segment.flags.fin, ..Flags::default() },
                wnd: 65_000,
                options: Options { timestamps, ..Options::default() },
                ..Segment::default()
            };
            if segment.flags.syn {
                reply.flags.syn = true;
                reply.options = Options { timestamps, ..segment.options };
            }
            let payload = if segment.payload.is_empty() { &[] } else { ANSWER };
            self.answer.clear();
            emit(packet.destination, packet.source, &reply, [payload, &[]], &mut self.answer);
            self.engine.handle_reply(&self.answer, self.now, self.now);
        }
    }

    /// Opens a connection, sends a request and lets it be answered.
    pub fn request(&mut self, index: u32) {
        let ack = Flags { ack: true, ..Flags::default() };
        self.capture(index, Flags { syn: true, ..Flags::default() }, 1_000, 0, &[]);
        self.capture(index, ack, 1_001, 5_001, &[]);
        self.capture(index, ack, 1_001, 5_001, REQUEST);
    }

    pub fn close(&mut self, index: u32) {
        let flags = Flags { ack: true, fin: true, ..Flags::default() };
        self.capture(index, flags, 1_001 + REQUEST.len() as u32, 5_100, &[]);
    }

    /// Ends capture, and gives open flows time to end.
    pub fn drain(&mut self) {
        self.engine.stop_capture(self.now);
        self.exchange();
        self.pass(Duration::from_secs(100));
    }

    /// Ends the mirror; nothing may be left open.
    pub fn settle(mut self) -> Books {
        self.engine.finish(self.now);
        self.exchange();
        self.engine.books().check(true).unwrap();
        assert_eq!(self.engine.memory(), 0);
        self.engine.books().clone()
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.exchange();
        }
        self.now = end;
    }
}
