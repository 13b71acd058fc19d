//! Segments that production's stack throws away, or whose fate no capture shows,
//! end in buckets of their own.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

use std::net::{Ipv4Addr, SocketAddr};

use shadow_engine::books::{Aborted, IgnoredPacket};
use shadow_engine::seq::SeqNum;
use shadow_engine::time::Instant;
use shadow_engine::wire::{Flags, Segment, Timestamps, emit};
use shadow_engine::{Engine, EngineConfig};

const ACK: Flags = Flags { urg: false, ack: true, psh: false, rst: false, syn: false, fin: false };
const SECOND: u64 = 1_000_000_000;

struct Capture {
    engine: Engine,
    now: Instant,
    /// How far the client's clock is behind, milliseconds.
    behind: u32,
}

impl Capture {
    /// A flow that is open.
    fn new() -> Self {
        let shadow = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 9).into(), 80);
        let config = EngineConfig::new(shadow, Ipv4Addr::new(10, 0, 0, 5).into(), [7; 16]);
        let mut capture =
            Self { engine: Engine::new(config), now: Instant::from_nanos(SECOND), behind: 0 };
        capture.take(Flags { syn: true, ack: false, ..ACK }, 999, 0, b"");
        capture.take(ACK, 1_000, 1, b"");
        capture
    }

    fn take(&mut self, flags: Flags, seq: u32, ack: u32, payload: &[u8]) {
        let timestamps = Some(Timestamps {
            value: self.now.as_millis() as u32 - self.behind,
            echo_reply: u32::from(ack > 0),
        });
        let mut segment =
            Segment { seq: SeqNum::new(seq), ack: SeqNum::new(ack), flags, ..Segment::default() };
        segment.options.timestamps = timestamps;
        let client = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), 40_000);
        let production = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 5).into(), 80);
        let mut packet = Vec::new();
        emit(client, production, &segment, [payload, &[]], &mut packet);
        self.engine.handle_capture(&packet, self.now, self.now);
    }

    fn ignored(&self, reason: IgnoredPacket) -> u64 {
        self.engine.books().packets.ignored.get(reason)
    }

    /// Ends everything; the books must balance.
    fn finish(mut self) -> Engine {
        self.engine.finish(self.now);
        while self.engine.poll_transmit(self.now, &mut Vec::new()) {}
        self.engine.books().check(true).unwrap();
        self.engine
    }
}

#[test]
fn a_client_that_contradicts_itself_is_not_mirrored() {
    let mut capture = Capture::new();
    capture.take(ACK, 1_010, 1, b"abcdef");
    capture.take(ACK, 1_012, 1, b"cXefgh");
    let engine = capture.finish();
    assert_eq!(engine.books().flows.aborted.get(Aborted::Ambiguous), 1);
}

#[test]
fn what_production_refuses_is_not_used() {
    let mut capture = Capture::new();
    capture.take(ACK, 1_000, 1, b"ab");
    let used = capture.engine.books().packets.used;
    // Without ACK; with one that is a gigabyte ahead.
    capture.take(Flags::default(), 1_002, 1, b"xx");
    capture.take(ACK, 1_002, 2_000_000_000, b"xx");
    assert_eq!(capture.ignored(IgnoredPacket::Unacceptable), 2);
    // With a timestamp that production left behind seconds ago (RFC 7323, 5).
    capture.now = Instant::from_nanos(3 * SECOND);
    capture.take(ACK, 1_002, 1, b"cd");
    capture.now = Instant::from_nanos(5 * SECOND);
    capture.take(ACK, 1_004, 1, b"ef");
    capture.behind = 4_500;
    capture.take(ACK, 1_006, 1, b"xx");
    assert_eq!(capture.ignored(IgnoredPacket::Unacceptable), 3);
    assert_eq!(capture.engine.books().packets.used, used + 2);
    assert_eq!(capture.engine.books().bytes.captured, 6);
    capture.finish();
}
