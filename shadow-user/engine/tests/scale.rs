//! Many flows: what each costs in memory, and whether anything is left behind.
//!
//! The shadow here is the simplest that can be: it answers each segment from
//! what stands in it and remembers nothing, so that only the engine is measured.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use shadow_engine::seq::SeqNum;
use shadow_engine::time::{Duration, Instant};
use shadow_engine::wire::{Flags, Options, Packet, Segment, Timestamps, emit};
use shadow_engine::{Engine, EngineConfig, Network, Source};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The heap is one, so that only one test at a time can measure it.
static MEASURING: Mutex<()> = Mutex::new(());

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: example.net\r\nUser-Agent: scale\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn production() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, 5).into(), 80)
}

fn client(index: u32) -> SocketAddr {
    let [_, a, b, c] = (index / 50_000).to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(172, a, b, c).into(), 10_000 + (index % 50_000) as u16)
}

struct Mirror {
    engine: Engine,
    now: Instant,
    packet: Vec<u8>,
    answer: Vec<u8>,
}

impl Mirror {
    fn new(adjust: impl FnOnce(&mut EngineConfig)) -> Self {
        let shadow = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 9).into(), 8_080);
        let mut config = EngineConfig::new(shadow, production().ip(), [7; 16]);
        adjust(&mut config);
        let now = Instant::from_nanos(1 << 40);
        Self { engine: Engine::new(config), now, packet: Vec::new(), answer: Vec::new() }
    }

    /// What the client `index` sends, at `seq` of its stream and having seen `ack` of production's.
    fn capture(&mut self, index: u32, flags: Flags, seq: u32, ack: u32, payload: &[u8]) {
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
    fn exchange(&mut self) {
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
            if segment.flags.rst || (segment.is_empty() && !segment.flags.fin) {
                continue;
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
            self.engine.handle_reply(&self.answer, self.now);
        }
    }

    /// Opens a connection, sends a request and lets it be answered.
    fn request(&mut self, index: u32) {
        let ack = Flags { ack: true, ..Flags::default() };
        self.capture(index, Flags { syn: true, ..Flags::default() }, 1_000, 0, &[]);
        self.capture(index, ack, 1_001, 5_001, &[]);
        self.capture(index, ack, 1_001, 5_001, REQUEST);
    }

    fn close(&mut self, index: u32) {
        let flags = Flags { ack: true, fin: true, ..Flags::default() };
        self.capture(index, flags, 1_001 + REQUEST.len() as u32, 5_100, &[]);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.exchange();
        }
        self.now = end;
    }
}

#[test]
fn a_hundred_thousand_idle_flows_are_cheap() {
    const FLOWS: u32 = 100_000;
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = Network::new(Ipv4Addr::new(10, 9, 0, 0).into(), 16).unwrap();
    let mut mirror = Mirror::new(|config| config.source = Source::Pool(pool));
    let before = HEAP.current_usage();
    for index in 0..FLOWS {
        mirror.request(index);
        mirror.now += Duration::from_micros(20);
    }
    mirror.pass(Duration::from_secs(5));
    let each = (HEAP.current_usage() - before) / FLOWS as usize;
    println!("an idle HTTP/1 flow: {each} octets of heap, tables and timers included");
    let books = mirror.engine.books();
    assert_eq!(books.flows.open(), u64::from(FLOWS));
    assert_eq!(books.requests.answered, u64::from(FLOWS));
    assert!(each < 1_400, "{each} octets for an idle flow");
    let accounted = mirror.engine.memory() / FLOWS as usize;
    assert!(accounted <= each, "the engine counts {accounted} octets where {each} are used");
    for index in 0..FLOWS {
        mirror.close(index);
    }
    mirror.pass(Duration::from_secs(5));
    mirror.engine.books().check(true).unwrap();
    assert_eq!(mirror.engine.books().flows.mirrored, u64::from(FLOWS));
}

#[test]
fn flows_in_sequence_leave_nothing_behind() {
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let flows: u32 =
        std::env::var("SHADOWTAP_FLOWS").map_or(200_000, |flows| flows.parse().unwrap());
    let mut mirror = Mirror::new(|_| {});
    let mut settled = 0;
    for index in 0..flows {
        mirror.request(index);
        mirror.close(index);
        mirror.now += Duration::from_micros(100);
        if index == flows / 4 * 3 {
            settled = HEAP.current_usage();
        }
    }
    let grown = HEAP.current_usage().saturating_sub(settled);
    assert!(grown < settled / 10 + 65_536, "the heap grew from {settled} by {grown} octets");
    mirror.pass(Duration::from_secs(10));
    let books = mirror.engine.books();
    books.check(true).unwrap();
    assert_eq!(books.flows.mirrored, u64::from(flows), "{books:#?}");
    assert_eq!(books.requests.answered, u64::from(flows));
    assert_eq!(mirror.engine.memory(), 0);
}
