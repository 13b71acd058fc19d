//! What becomes of flows that do not go the usual way: each in its bucket.

#![expect(clippy::unwrap_used, reason = "a test says so by failing")]

mod harness;

use harness::{Mirror, REQUEST, Shadow, client, production};
use shadow_engine::EngineConfig;
use shadow_engine::Source;
use shadow_engine::books::{Aborted, Books, IgnoredPacket, IgnoredReply, Skipped};
use shadow_engine::seq::SeqNum;
use shadow_engine::time::Duration;
use shadow_engine::wire::{Flags, Segment, emit};

const SYN: Flags = Flags { syn: true, ack: false, fin: false, rst: false, psh: false, urg: false };
const ACK: Flags = Flags { syn: false, ack: true, fin: false, rst: false, psh: false, urg: false };
const RST: Flags = Flags { syn: false, ack: false, fin: false, rst: true, psh: false, urg: false };
const FIN: Flags = Flags { syn: false, ack: true, fin: true, rst: false, psh: false, urg: false };

fn mirror() -> Mirror {
    Mirror::new(|_| {})
}

/// Ends the mirror; nothing may be left open.
fn end(mut mirror: Mirror) -> Books {
    mirror.drain();
    mirror.settle()
}

#[test]
fn a_request_and_its_answer_are_mirrored() {
    let mut mirror = mirror();
    mirror.request(1);
    mirror.close(1);
    let books = end(mirror);
    assert_eq!((books.flows.seen, books.flows.mirrored), (1, 1));
    assert_eq!((books.requests.delivered, books.requests.answered), (1, 1));
    assert_eq!(books.bytes.delivered, REQUEST.len() as u64);
}

#[test]
fn a_client_that_never_completes_its_handshake_is_skipped() {
    for flags in [None, Some(RST)] {
        let mut mirror = mirror();
        mirror.capture(1, SYN, 1_000, 0, &[]);
        mirror.capture(1, SYN, 1_000, 0, &[]);
        if let Some(flags) = flags {
            mirror.capture(1, flags, 1_001, 0, &[]);
        }
        mirror.pass(Duration::from_secs(100));
        assert_eq!(mirror.engine.books().flows.skipped.get(Skipped::Handshake), 1);
        assert_eq!(mirror.sent, [], "nothing is sent before the client has its connection");
        end(mirror);
    }
}

#[test]
fn a_flow_that_was_open_joins_at_a_request_only() {
    let mut mirror = mirror();
    mirror.capture(1, ACK, 7_000, 100, b"half of a body");
    mirror.capture(1, ACK, 7_014, 100, &[]);
    assert_eq!(mirror.sent, []);
    mirror.capture(1, ACK, 7_014, 200, REQUEST);
    assert_eq!(mirror.engine.books().requests.answered, 1);
    mirror.capture(2, ACK, 9_000, 100, b"\x00\x01\x02 another protocol");
    mirror.capture(3, ACK, 9_000, 100, &[]);
    let books = end(mirror);
    assert_eq!((books.flows.seen, books.flows.mirrored), (2, 1));
    assert_eq!(books.flows.skipped.get(Skipped::Midstream), 1);
    assert_eq!(books.packets.ignored.get(IgnoredPacket::NoFlow), 1);
    assert_eq!(books.bytes.captured, REQUEST.len() as u64);
}

#[test]
fn a_client_that_begins_anew_supersedes_its_old_connection() {
    let mut mirror = mirror();
    mirror.request(1);
    mirror.capture(1, SYN, 900_000, 0, &[]);
    mirror.capture(1, ACK, 900_001, 77, &[]);
    mirror.capture(1, ACK, 900_001, 77, REQUEST);
    let flags = FIN;
    mirror.capture(1, flags, 900_001 + REQUEST.len() as u32, 100, &[]);
    let books = end(mirror);
    assert_eq!(books.flows.seen, 2);
    assert_eq!(books.flows.aborted.get(Aborted::Superseded), 1);
    assert_eq!((books.flows.mirrored, books.requests.answered), (1, 2));
}

#[test]
fn a_syn_that_production_challenges_changes_nothing() {
    let mut mirror = mirror();
    mirror.request(1);
    mirror.capture(1, SYN, 900_000, 0, &[]);
    let next = 1_001 + REQUEST.len() as u32;
    mirror.capture(1, ACK, next, 5_200, REQUEST);
    assert_eq!(mirror.engine.books().requests.answered, 2);
    mirror.capture(1, FIN, next + REQUEST.len() as u32, 5_300, &[]);
    assert_eq!(end(mirror).flows.mirrored, 1);
}

#[test]
fn a_straggler_of_an_ended_flow_opens_no_new_one() {
    let mut mirror = mirror();
    mirror.request(1);
    mirror.close(1);
    mirror.capture(1, ACK, 1_001, 5_001, REQUEST);
    let books = end(mirror);
    assert_eq!(books.flows.seen, 1);
    assert_eq!(books.packets.ignored.get(IgnoredPacket::FlowEnded), 1);
}

/// RFC 7413: production took all, some or nothing of the data on SYN; the client sends the rest again.
#[test]
fn data_on_syn_is_delivered_once_however_much_of_it_production_took() {
    for took in [0, 10, REQUEST.len()] {
        let mut mirror = mirror();
        mirror.capture(1, SYN, 1_000, 0, REQUEST);
        assert_eq!(mirror.sent, [], "not before production has answered");
        let next = 1_001 + took as u32;
        mirror.capture(1, ACK, next, 5_001, &REQUEST[took..]);
        mirror.capture(1, FIN, 1_001 + REQUEST.len() as u32, 5_100, &[]);
        let books = end(mirror);
        assert_eq!(books.flows.mirrored, 1, "{took} octets taken: {books:#?}");
        assert_eq!((books.requests.seen, books.requests.answered), (1, 1));
        assert_eq!(books.bytes.captured, REQUEST.len() as u64);
        assert_eq!(books.bytes.delivered, REQUEST.len() as u64);
    }
}

#[test]
fn urgent_octets_are_delivered_with_the_others() {
    let mut mirror = mirror();
    mirror.capture(1, SYN, 1_000, 0, &[]);
    mirror.capture(1, Flags { urg: true, ..ACK }, 1_001, 5_001, REQUEST);
    mirror.close(1);
    assert!(mirror.sent.iter().all(|flags| !flags.urg));
    let books = end(mirror);
    assert_eq!((books.flows.mirrored, books.requests.answered), (1, 1));
    assert_eq!(books.bytes.delivered, REQUEST.len() as u64);
}

/// The client's numbers pass the end of the sequence space twice, the emulated client's at least once.
#[test]
fn a_stream_beyond_4_gib_arrives_whole() {
    const PIECES: u32 = 140_000;
    let piece = [0x16; 32 << 10];
    let mut mirror = mirror();
    let start = u32::MAX - 100_000;
    mirror.capture(1, SYN, start.wrapping_sub(1), 0, &[]);
    let mut seq = start;
    for _ in 0..PIECES {
        mirror.capture(1, ACK, seq, 5_001, &piece);
        seq = seq.wrapping_add(piece.len() as u32);
        mirror.pass(Duration::from_millis(1));
    }
    mirror.capture(1, FIN, seq, 5_001, &[]);
    let books = end(mirror);
    let sent = u64::from(PIECES) * piece.len() as u64;
    assert!(sent > (1 << 32) + (1 << 28));
    assert_eq!((books.flows.seen, books.flows.mirrored), (1, 1), "{books:#?}");
    assert_eq!((books.bytes.captured, books.bytes.delivered), (sent, sent));
}

#[test]
fn a_client_that_resets_is_mirrored_with_a_reset() {
    let mut mirror = mirror();
    mirror.request(1);
    mirror.capture(1, RST, 1_001 + REQUEST.len() as u32, 0, &[]);
    assert!(mirror.sent.last().unwrap().rst);
    assert_eq!(end(mirror).flows.mirrored, 1);
}

#[test]
fn a_refusing_shadow_opens_the_circuit_and_an_answering_one_closes_it() {
    let mut mirror = mirror();
    mirror.shadow = Shadow::Refuses;
    for index in 0..20 {
        mirror.request(index);
        mirror.close(index);
    }
    let books = mirror.engine.books();
    assert_eq!(books.flows.aborted.get(Aborted::ShadowRefused), 8);
    assert_eq!(books.flows.skipped.get(Skipped::CircuitOpen), 12);
    assert!(books.circuit.open);
    mirror.shadow = Shadow::Answers;
    mirror.pass(Duration::from_secs(2));
    for index in 20..30 {
        mirror.request(index);
        mirror.close(index);
    }
    let books = end(mirror);
    assert!(!books.circuit.open);
    assert_eq!(books.flows.mirrored, 10);
}

#[test]
fn a_flow_that_was_refused_is_never_mirrored_even_without_data() {
    let mut mirror = mirror();
    mirror.shadow = Shadow::Silent;
    mirror.capture(1, SYN, 1_000, 0, &[]);
    mirror.capture(1, ACK, 1_001, 5_001, &[]);
    mirror.capture(1, FIN, 1_001, 5_001, &[]);
    mirror.capture(2, SYN, 1_000, 0, &[]);
    mirror.capture(2, ACK, 1_001, 5_001, &[]);
    mirror.capture(2, RST, 1_001, 0, &[]);
    mirror.pass(Duration::from_secs(40));
    let books = end(mirror);
    assert_eq!(books.flows.aborted.get(Aborted::ShadowTimeout), 2, "{books:#?}");
}

#[test]
fn without_a_free_port_a_flow_is_skipped() {
    let mut mirror = Mirror::new(|config: &mut EngineConfig| {
        config.source = Source::Own { address: production().ip(), ports: 20_000..=20_001 };
    });
    for index in 0..3 {
        mirror.request(index);
    }
    let books = end(mirror);
    assert_eq!(books.flows.skipped.get(Skipped::NoPort), 1);
    assert_eq!(books.flows.mirrored, 2);
}

#[test]
fn flows_beyond_the_table_are_skipped() {
    let mut mirror = Mirror::new(|config| config.max_flows = 2);
    for index in 0..3 {
        mirror.request(index);
    }
    assert_eq!(end(mirror).flows.skipped.get(Skipped::MaxFlows), 1);
}

#[test]
fn beyond_the_memory_limit_sessions_are_given_up() {
    let mut mirror = Mirror::new(|config| config.memory_limit = 10_000);
    mirror.shadow = Shadow::Silent;
    mirror.capture(1, SYN, 1_000, 0, &[]);
    mirror.capture(1, ACK, 1_001, 5_001, &[0x16; 1_400]);
    for index in 1..12 {
        mirror.capture(1, ACK, 1_001 + index * 1_400, 5_001, &[0x16; 1_400]);
    }
    assert_eq!(end(mirror).flows.aborted.get(Aborted::Memory), 1);
}

#[test]
fn a_silent_client_is_given_up() {
    let mut mirror = Mirror::new(|config| config.idle_timeout = Duration::from_secs(60));
    mirror.request(1);
    mirror.pass(Duration::from_secs(59));
    assert_eq!(mirror.engine.books().flows.open(), 1);
    mirror.pass(Duration::from_secs(2));
    assert_eq!(mirror.engine.books().flows.aborted.get(Aborted::Idle), 1);
    assert!(mirror.sent.last().unwrap().rst);
    end(mirror);
}

#[test]
fn a_hole_is_given_up_soon_when_the_capture_has_lost_and_later_when_not() {
    for (lost, seconds) in [(true, 1), (false, 10)] {
        let mut mirror = mirror();
        mirror.request(1);
        if lost {
            mirror.engine.note_capture_loss(mirror.now);
        }
        mirror.capture(1, ACK, 1_001 + REQUEST.len() as u32 + 10, 5_100, b"behind a hole");
        mirror.pass(Duration::from_secs(seconds) - Duration::from_millis(10));
        assert_eq!(mirror.engine.books().flows.aborted.total(), 0);
        mirror.pass(Duration::from_millis(20));
        assert_eq!(mirror.engine.books().flows.aborted.get(Aborted::CaptureGap), 1);
        end(mirror);
    }
}

#[test]
fn a_packet_for_no_session_is_answered_with_a_reset() {
    let mut mirror = mirror();
    let shadow = "10.0.0.9:8080".parse().unwrap();
    let local = "10.0.0.5:20000".parse().unwrap();
    let segment =
        Segment { seq: SeqNum::new(5), ack: SeqNum::new(9), flags: ACK, ..Segment::default() };
    let mut packet = Vec::new();
    emit(shadow, local, &segment, [&[], &[]], &mut packet);
    mirror.engine.handle_reply(&packet, mirror.now, mirror.now);
    mirror.exchange();
    assert_eq!(mirror.sent, [RST]);
    assert_eq!(mirror.engine.books().replies.ignored.get(IgnoredReply::NoSession), 1);
}

#[test]
fn a_dry_run_counts_and_sends_nothing() {
    let mut mirror = Mirror::new(|config| config.dry_run = true);
    mirror.request(1);
    mirror.close(1);
    mirror.request(2);
    assert_eq!(mirror.sent, []);
    let books = end(mirror);
    assert_eq!(books.flows.skipped.get(Skipped::DryRun), 2);
    assert_eq!((books.requests.seen, books.requests.undelivered.total()), (2, 2));
}

#[test]
fn in_a_pause_open_flows_go_on_and_no_other_is_begun() {
    let mut mirror = mirror();
    mirror.request(1);
    mirror.engine.set_paused(true);
    let len = REQUEST.len() as u32;
    let flags = Flags { ack: true, ..Flags::default() };
    mirror.capture(1, flags, 1_001 + len, 5_001, REQUEST);
    mirror.capture(1, Flags { fin: true, ..flags }, 1_001 + 2 * len, 5_100, &[]);
    mirror.request(2);
    mirror.close(2);
    mirror.engine.set_paused(false);
    mirror.request(3);
    mirror.close(3);
    let books = end(mirror);
    assert_eq!(books.flows.skipped.get(Skipped::Paused), 1);
    assert_eq!((books.flows.mirrored, books.flows.seen), (2, 3));
    assert_eq!((books.requests.seen, books.requests.delivered), (3, 3));
}

#[test]
fn what_was_captured_is_delivered_when_the_mirror_stops_and_half_a_message_is_not() {
    let mut mirror = mirror();
    mirror.request(1);
    mirror.request(2);
    let next = 1_001 + REQUEST.len() as u32;
    mirror.capture(2, ACK, next, 5_100, &REQUEST[..20]);
    let books = end(mirror);
    assert_eq!(books.flows.mirrored, 1);
    assert_eq!(books.flows.aborted.get(Aborted::Stopped), 1);
    assert_eq!(client(1).port(), 10_001);
}

/// A mirror with three ports.
fn few_ports() -> Mirror {
    Mirror::new(|config| {
        let address = production().ip();
        config.source = Source::Own { address, ports: 20_000..=20_002 };
    })
}

#[test]
fn rfc6191_a_port_in_time_wait_is_used_again_when_none_is_free() {
    let mut mirror = few_ports();
    for index in 0..50 {
        mirror.request(index);
        mirror.close(index);
        mirror.now += Duration::from_millis(1);
    }
    let books = end(mirror);
    assert_eq!((books.flows.seen, books.flows.mirrored), (50, 50));
    assert_eq!(books.requests.answered, 50);
}

#[test]
fn a_port_whose_session_is_open_is_not_taken_from_it() {
    let mut mirror = few_ports();
    (0..2).for_each(|index| mirror.request(index));
    for index in 2..6 {
        mirror.request(index);
        mirror.close(index);
    }
    mirror.request(6);
    mirror.request(7);
    assert_eq!(mirror.engine.books().flows.skipped.get(Skipped::NoPort), 1);
    (0..2).for_each(|index| mirror.close(index));
    mirror.close(6);
    let books = end(mirror);
    assert_eq!((books.flows.seen, books.flows.mirrored), (8, 7));
}
