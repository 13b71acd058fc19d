//! Any sequence of captures, replies and waits: the engine never panics, the
//! books balance, and the shadow sees nothing but a prefix of a client's stream, or of
//! what rules make of it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use shadow_engine::rules::{Filter, MaskJson, Rules, SetHeader};
use shadow_engine::seq::SeqNum;
use shadow_engine::time::{Duration, Instant};
use shadow_engine::wire::{Flags, Options, Packet, Segment, Timestamps, emit};
use shadow_engine::{Engine, EngineConfig, GateAction, Pace};

/// A client's stream is this, again and again; where a flow can be joined, it is
/// at the beginning of one.
const REQUEST: &[u8] = b"POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 7\r\n\r\nbodybod";
/// The same for a protocol that is not HTTP.
const RECORD: &[u8] = b"\x01\x02\x03\x04binary record \xff\xfe\n";
/// And for rules: requests as they come, and as they are sent.
const EDITED: [(&str, &str); 5] = [
    (
        "POST /a HTTP/1.1\r\nContent-Type: a/b\r\nContent-Length: 7\r\n\r\nbodybod",
        "POST /a HTTP/1.1\r\nContent-Type: a/b\r\nContent-Length: 7\r\nX-Shadow: 1\r\n\r\nbodybod",
    ),
    ("POST /skip HTTP/1.1\r\nContent-Length: 9\r\n\r\nleave out", ""),
    (
        "POST /b HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"a\":\"se\r\n6\r\ncret\"}\r\n0\r\n\r\n",
        "POST /b HTTP/1.1\r\nContent-Type: application/json\r\nX-Shadow: 1\r\nContent-Length: 9\r\n\r\n{\"a\":\"M\"}",
    ),
    (
        "PUT /c HTTP/1.1\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nbad",
        "",
    ),
    ("GET /d HTTP/1.1\r\nHost: b\r\n\r\n", "GET /d HTTP/1.1\r\nHost: b\r\nX-Shadow: 1\r\n\r\n"),
];
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Steps of an input; more would only be slow.
const MAX_STEPS: usize = 300;
/// Packets that one step may cause; more is an endless loop.
const MAX_PACKETS: usize = 20_000;
const MEMORY_LIMIT: usize = 256 << 10;
const CLIENTS: usize = 3;

fn address(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, last).into(), port)
}

#[derive(Clone, Copy, Default)]
struct Client {
    /// Where the present connection's stream begins.
    start: u32,
    /// Octets sent of it.
    sent: u32,
    /// SEG.ACK, as production would have advanced it.
    ack: u32,
}

struct World {
    engine: Engine,
    now: Instant,
    clients: [Client; CLIENTS],
    stream: Vec<u8>,
    /// What is sent of it, again and again.
    sent: Vec<u8>,
    /// Where in that a session can begin.
    starts: Vec<usize>,
    /// Answers each packet at once, as a healthy shadow would.
    healthy: bool,
    timestamps: bool,
    /// What the mirror sent last.
    last: Option<(SocketAddr, SocketAddr, Segment<'static>)>,
    /// SEG.SEQ of the SYN, and where the session may have begun, by source port.
    begun: HashMap<u16, (u32, Vec<usize>)>,
    packet: Vec<u8>,
}

/// Checks one input: one byte of set-up, then four for each step.
pub fn check(input: &[u8]) {
    let Some((&mode, steps)) = input.split_first() else { return };
    let shadow = address(9, 8080);
    let mut config = EngineConfig::new(shadow, address(5, 0).ip(), [7; 16]);
    config.memory_limit = MEMORY_LIMIT;
    config.flow_limit = 64 << 10;
    config.max_flows = 2;
    if mode & 1 != 0 {
        config.pace = Pace::Off;
    }
    if mode & 2 != 0 {
        config.gate_action = GateAction::Send;
    }
    config.dry_run = mode & 0xe0 == 0xe0;
    let edited = mode & 0x40 != 0;
    if edited {
        config.rules = Arc::new(rules());
    }
    let is_http = mode & 4 == 0;
    let (stream, sent, starts) = match (is_http, edited) {
        (true, false) => (REQUEST.to_vec(), REQUEST.to_vec(), vec![0]),
        (false, false) => (RECORD.to_vec(), RECORD.to_vec(), vec![0]),
        // What is not HTTP cannot be understood.
        (false, true) => (RECORD.to_vec(), Vec::new(), Vec::new()),
        (true, true) => {
            let (mut stream, mut sent, mut starts) = (Vec::new(), Vec::new(), Vec::new());
            for (comes, goes) in EDITED {
                stream.extend(comes.bytes());
                starts.push(sent.len());
                sent.extend(goes.bytes());
            }
            (stream, sent, starts)
        }
    };
    let mut world = World {
        engine: Engine::new(config),
        now: Instant::from_nanos(1 << 40),
        clients: [Client { start: u32::MAX - 30, ..Client::default() }; CLIENTS],
        stream,
        sent,
        starts,
        healthy: mode & 8 != 0,
        timestamps: mode & 16 != 0,
        last: None,
        begun: HashMap::new(),
        packet: Vec::new(),
    };
    for &step in steps.as_chunks::<4>().0.iter().take(MAX_STEPS) {
        world.step(step);
        world.settle();
        world.engine.books().check(false).unwrap();
        let memory = world.engine.memory();
        assert!(memory <= MEMORY_LIMIT + 2 * 65_536, "{memory}");
    }
    world.engine.finish(world.now);
    world.settle();
    assert!(world.engine.is_drained());
    assert_eq!(world.engine.memory(), 0);
    world.engine.books().check(true).unwrap();
}

fn rules() -> Rules {
    let mut rules = Rules::default();
    rules.filter(Filter::path("--exclude-path", "^/skip").unwrap().negated());
    rules.set_header(SetHeader::parse("X-Shadow: 1").unwrap());
    rules.mask_json(MaskJson::parse("$.a=M").unwrap());
    rules
}

impl World {
    fn step(&mut self, [kind, a, b, c]: [u8; 4]) {
        let who = usize::from(a & 3) % CLIENTS;
        let ack = Flags { ack: true, ..Flags::default() };
        let len = u32::from(b) * if a & 0x80 == 0 { 1 } else { 40 };
        let client = self.clients[who];
        match kind % 14 {
            0 => {
                // A new connection, or the same SYN again.
                if c & 1 == 0 {
                    let start = client.start.wrapping_add(client.sent).wrapping_add(70_000);
                    self.clients[who] = Client { start, sent: 0, ack: client.ack };
                }
                self.capture(who, Flags { syn: true, ..Flags::default() }, u32::MAX, 0, 0);
                self.capture(who, ack, 0, 0, 0);
            }
            1 | 2 => {
                self.clients[who].ack = client.ack.wrapping_add(u32::from(c));
                self.capture(who, ack, client.sent, len, 0);
                self.clients[who].sent += len;
            }
            3 => {
                // Again, or ahead of what is missing.
                let at = client.sent.wrapping_add_signed(i32::from(c.cast_signed()) * 8);
                self.capture(who, ack, at, len, 0);
            }
            4 => self.capture(who, Flags { fin: true, ..ack }, client.sent, u32::from(b & 7), 0),
            5 => {
                let at = client.sent.wrapping_add_signed(i32::from(c.cast_signed() / 64));
                self.capture(who, Flags { rst: true, ..Flags::default() }, at, 0, 0);
            }
            6 => {
                self.clients[who].ack = client.ack.wrapping_add(len);
                self.capture(who, ack, client.sent, 0, 0);
            }
            // What waits behind a hole, contradicted.
            7 => {
                self.capture(who, ack, client.sent.wrapping_add(8), u32::from(b), 0);
                self.capture(who, ack, client.sent.wrapping_add(8), u32::from(b), c);
            }
            8 => self.answer(if b & 1 == 0 { ANSWER } else { &[] }),
            9 => self.misbehave(a, b, c),
            10 => self.now += Duration::from_micros(u64::from(b)),
            11 => self.now += Duration::from_millis(u64::from(b) * 50),
            12 => match a & 7 {
                0 => self.engine.note_capture_loss(self.now),
                1 => self.engine.stop_capture(self.now),
                2 => self.engine.handle_capture(&[a, b, c], self.now, self.now),
                3 => self.engine.handle_reply(&[a, b, c], self.now, self.now),
                4 => self.packet_too_big(u16::from(b) * 8),
                5 => self.now += Duration::from_secs(u64::from(b) * 20),
                _ => self.healthy ^= true,
            },
            _ => self.capture(who, Flags { psh: true, ..ack }, client.sent, len, 0),
        }
    }

    /// A client's segment at an offset of its stream, each octet XORed with `spoil`.
    fn capture(&mut self, who: usize, flags: Flags, at: u32, len: u32, spoil: u8) {
        let client = self.clients[who];
        // Offsets may lie before the stream: its beginning is a multiple of its period.
        let phase = i64::from(at.cast_signed()).rem_euclid(self.stream.len() as i64) as usize;
        let payload: Vec<u8> = self
            .stream
            .iter()
            .cycle()
            .skip(phase)
            .map(|byte| byte ^ spoil)
            .take(len as usize)
            .collect();
        let timestamps = self
            .timestamps
            .then_some(Timestamps { value: self.now.as_millis() as u32, echo_reply: 1 });
        let mut options = Options { timestamps, ..Options::default() };
        if flags.syn {
            options.mss = Some(1460);
            options.window_scale = Some(7);
            options.sack_permitted = true;
        }
        let segment = Segment {
            seq: SeqNum::new(client.start) + at,
            ack: SeqNum::new(client.ack),
            flags,
            wnd: 500,
            options,
            ..Segment::default()
        };
        let mut packet = Vec::new();
        let from = address(20 + who as u8, 40_000);
        emit(from, address(5, 80), &segment, [&payload, &[]], &mut packet);
        self.engine.handle_capture(&packet, self.now, self.now);
    }

    /// Lets the engine say and do all that it has to now.
    fn settle(&mut self) {
        for _ in 0..MAX_PACKETS {
            if self.engine.poll_timeout().is_some_and(|at| at <= self.now) {
                self.engine.handle_timeout(self.now);
            }
            let mut packet = std::mem::take(&mut self.packet);
            packet.clear();
            let sent = self.engine.poll_transmit(self.now, &mut packet);
            if sent {
                self.inspect(&packet);
                if self.healthy {
                    let payload = self.last.is_some_and(|(_, _, segment)| segment.flags.psh);
                    self.answer(if payload { ANSWER } else { &[] });
                }
            }
            self.packet = packet;
            if !sent {
                let due = self.engine.poll_timeout().is_some_and(|at| at <= self.now);
                if !due {
                    return;
                }
            }
        }
        panic!("no end of packets at {:?}", self.now);
    }

    /// Whatever is sent is a packet of the stream, from us to the shadow.
    fn inspect(&mut self, packet: &[u8]) {
        let Packet { source, destination, segment } = Packet::parse(packet).unwrap();
        assert_eq!(destination, address(9, 8080));
        assert_eq!(source.ip(), address(5, 0).ip());
        assert!((16_384..=32_767).contains(&source.port()));
        assert!(packet.len() <= 1500);
        if segment.flags.syn {
            self.begun.insert(source.port(), (segment.seq.get(), self.starts.clone()));
        }
        let begun = self.begun.get_mut(&source.port());
        if let Some((iss, starts)) = begun.filter(|_| !segment.payload.is_empty()) {
            let at = segment.seq.get().wrapping_sub(*iss).wrapping_sub(1) as usize;
            let sent = &self.sent;
            starts.retain(|start| {
                let expected = sent.iter().cycle().skip((start + at) % sent.len());
                // The first bytes for a number are always the stream's: see step 7.
                expected.take(segment.payload.len()).eq(segment.payload)
            });
            let text = String::from_utf8_lossy(segment.payload);
            assert!(!starts.is_empty(), "{source} at {at}: {text}");
        }
        let mut header = Segment { payload: &[], ..segment };
        // Remembered for the reply's number.
        header.flags.psh = !segment.payload.is_empty();
        header.up = segment.payload.len() as u16;
        self.last = Some((source, destination, header));
    }

    /// Answers the last packet as a shadow would that has everything before it.
    fn answer(&mut self, payload: &[u8]) {
        let Some((mirror, shadow, segment)) = self.last else { return };
        if segment.flags.rst || (!segment.flags.psh && !segment.flags.syn && !segment.flags.fin) {
            return;
        }
        let mut reply = Segment {
            seq: segment.ack,
            ack: segment.seq
                + u32::from(segment.up)
                + u32::from(segment.flags.syn)
                + u32::from(segment.flags.fin),
            flags: Flags { ack: true, fin: segment.flags.fin, ..Flags::default() },
            wnd: 5_000,
            ..Segment::default()
        };
        reply.options.timestamps = segment.options.timestamps.map(|theirs| Timestamps {
            value: self.now.as_millis() as u32,
            echo_reply: theirs.value,
        });
        let payload = if segment.flags.syn { &[] } else { payload };
        if segment.flags.syn {
            reply.seq = SeqNum::new(u32::MAX - 100);
            reply.flags.syn = true;
            reply.options = Options { timestamps: reply.options.timestamps, ..segment.options };
        }
        let mut packet = Vec::new();
        emit(shadow, mirror, &reply, [payload, &[]], &mut packet);
        self.engine.handle_reply(&packet, self.now, self.now);
    }

    /// Sends something that has to do with the last packet, but not much.
    fn misbehave(&mut self, a: u8, b: u8, c: u8) {
        let Some((mirror, shadow, segment)) = self.last else { return };
        let bit = |bit: u8| c & (1 << bit) != 0;
        let mut reply = Segment {
            seq: segment.ack + u32::from(a >> 3),
            ack: (segment.seq + u32::from(segment.up)) + u32::from(b) - 20,
            flags: Flags {
                urg: bit(0),
                ack: !bit(1),
                psh: bit(2),
                rst: bit(3) && bit(0),
                syn: bit(4) && bit(0),
                fin: bit(5),
            },
            wnd: if bit(6) { 0 } else { 300 },
            ..Segment::default()
        };
        if bit(7) {
            reply.options.sack.push(segment.seq, segment.seq + u32::from(b));
        }
        reply.options.timestamps = segment.options.timestamps.map(|theirs| Timestamps {
            value: self.now.as_millis() as u32,
            echo_reply: theirs.value.wrapping_sub(u32::from(a & 1)),
        });
        let mut packet = Vec::new();
        emit(shadow, mirror, &reply, [&ANSWER[..usize::from(b) % ANSWER.len()], &[]], &mut packet);
        self.engine.handle_reply(&packet, self.now, self.now);
    }

    /// A router's word that the last packet was too long.
    fn packet_too_big(&mut self, mtu: u16) {
        let Some((mirror, shadow, segment)) = self.last else { return };
        let mut quoted = Vec::new();
        emit(mirror, shadow, &segment, [&[], &[]], &mut quoted);
        let mut packet = Vec::new();
        emit(shadow, mirror, &Segment::default(), [&quoted, &[]], &mut packet);
        // The carrier's TCP header makes room for ICMP's.
        packet.drain(20..32);
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[9] = 1;
        packet[20..28].copy_from_slice(&[3, 4, 0, 0, 0, 0, 0, 0]);
        packet[26..28].copy_from_slice(&mtu.to_be_bytes());
        super::wire::fix_header(&mut packet);
        super::wire::fix_icmp(&mut packet);
        self.engine.handle_reply(&packet, self.now, self.now);
    }
}
